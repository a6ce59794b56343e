use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The wall clock. Only the edges (the listener, background tasks, `main`) call this; everything
    /// below takes `now` as an argument.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis() as u64)
    }

    /// Whole seconds since the epoch (the `NumericDate` of RFC 7519 §2).
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The instant `seconds` after the epoch.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// RFC 3339 in UTC with milliseconds, for example `2026-11-23T18:52:00.123Z`.
    pub fn rfc3339(self) -> String {
        let mut out = String::with_capacity(24);
        self.write_rfc3339(&mut out);
        out
    }

    /// Appends [`Self::rfc3339`] to `out` without allocating anything else.
    pub fn write_rfc3339(self, out: &mut String) {
        let (days, in_day) = ((self.0 / 86_400_000) as i64, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        digits(out, year as u64, 4);
        out.push('-');
        digits(out, month, 2);
        out.push('-');
        digits(out, day, 2);
        out.push('T');
        digits(out, hour, 2);
        out.push(':');
        digits(out, minute, 2);
        out.push(':');
        digits(out, second, 2);
        out.push('.');
        digits(out, milli, 3);
        out.push('Z');
    }

    /// Reads an RFC 3339 time in UTC (`Z`), with or without fractions of a second, as Kubernetes
    /// writes them. `None` for anything else.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
        let mut d = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (d.next()?.ok()?, d.next()?.ok()?, d.next()?.ok()?);
        let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut c = whole.splitn(3, ':').map(str::parse::<u64>);
        let (h, m, s) = (c.next()?.ok()?, c.next()?.ok()?, c.next()?.ok()?);
        if !(1970..=9999).contains(&year)
            || !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
            || h > 23
            || m > 59
            || s > 60
        {
            return None;
        }
        let millis: u64 = format!("{:0<3}", fraction.get(..fraction.len().min(3))?).parse().ok()?;
        let days = days_from_civil(year, month, day) as u64;
        Some(Self(days * 86_400_000 + (h * 3600 + m * 60 + s) * 1000 + millis))
    }
}

fn digits(out: &mut String, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(char::from(b'0' + (value / 10u64.pow(place) % 10) as u8));
    }
}

/// Gregorian date of a day count from 1970-01-01, by the 400-year cycle (146,097 days).
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month as u64, day as u64)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The allowed skew of two clocks when a token's times are checked, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skew(u64);

impl Skew {
    /// The largest skew a policy may ask for: five minutes.
    pub const MAX_SECONDS: u64 = 300;

    /// A skew of `seconds`, at most [`Self::MAX_SECONDS`].
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.min(Self::MAX_SECONDS))
    }

    /// The skew in whole seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_print_as_rfc3339_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_459_920_123, "2026-11-23T18:52:00.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(ms).rfc3339(), text);
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp(ms)));
        }
    }

    #[test]
    fn what_is_not_a_utc_time_is_not_read() {
        for text in
            ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01", "2026-01-01T00:00:00+02:00"]
        {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
        assert_eq!(Timestamp::parse_rfc3339("1970-01-01T00:00:01Z"), Some(Timestamp(1000)));
    }
}
