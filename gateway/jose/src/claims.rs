use std::borrow::Cow;

use serde_json::{Map, Value};

/// Larger dates are no seconds: this one is in the year 5138, and as milliseconds in 1973.
const MAX_DATE: f64 = 1e11;
const MAX_SUBJECT: usize = 512;

/// Why a claim is not a date.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DateError {
    /// It looks like milliseconds.
    #[error("is too large for a date in seconds: it looks like milliseconds")]
    Milliseconds,
    /// Before 1970.
    #[error("is negative")]
    Negative,
    /// A text that is no decimal number.
    #[error("is a text that is not a number of seconds")]
    Text,
    /// A truth value, a list, an object or `null`.
    #[error("is neither a number nor a text")]
    Type,
}

/// The text of a `sub`, by the rules of [`Claims::subject`].
pub fn subject(sub: &Value) -> Option<Cow<'_, str>> {
    let text = match sub {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(_) => Cow::Owned(exact_integer(sub)?),
        _ => return None,
    };
    let is_usable = !text.is_empty() && text.len() <= MAX_SUBJECT && !text.chars().any(char::is_control);
    is_usable.then_some(text)
}

/// The digits of an integer. `None` for other values, and for numbers that were rounded when they were read: two
/// callers would have one name.
pub fn exact_integer(value: &Value) -> Option<String> {
    value.as_u64().map(|n| n.to_string()).or_else(|| value.as_i64().map(|n| n.to_string()))
}

/// A number of seconds, a fraction left out: a date, or a length of time. Written as an integer, a float or text.
pub fn seconds(value: &Value) -> Result<u64, DateError> {
    let seconds = match value {
        Value::Number(number) => number.as_f64().ok_or(DateError::Type)?,
        Value::String(text) => decimal(text).ok_or(DateError::Text)?,
        _ => return Err(DateError::Type),
    };
    match seconds {
        // -0.0 is zero.
        negative if negative < 0.0 => Err(DateError::Negative),
        // Below this limit every whole number is exact as a float. NaN is no date either.
        seconds if seconds < MAX_DATE => Ok(seconds as u64),
        _ => Err(DateError::Milliseconds),
    }
}

/// Digits, and a fraction behind a point: not all that Rust reads as a float, which has `inf`, `NaN` and `1e9` too.
fn decimal(text: &str) -> Option<f64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| (1..=20).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_digits(whole) && is_digits(fraction)).then(|| text.parse().ok()).flatten()
}

/// The claims of a token whose signature and standard claims were checked (RFC 7519 §4).
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Claims whose source somebody else has checked.
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The text of a claim; `None` when absent or not text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// `sub`, with the exact digits of one that is a number. `None` when it is absent or cannot name anybody: empty,
    /// longer than 512 bytes, with control characters, or a number that JSON readers round.
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        subject(self.0.get("sub")?)
    }

    /// A `NumericDate` (RFC 7519 §2) in whole seconds, a fraction left out; `None` when the claim is absent.
    ///
    /// Issuers write it as an integer, as a float and as text; all three are taken. A date in milliseconds is an
    /// error, for it would be valid for thousands of years.
    pub fn date(&self, name: &str) -> Result<Option<u64>, DateError> {
        self.0.get(name).map(seconds).transpose()
    }

    /// The value reached by following `path` from the top.
    pub fn at(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(first)?, |value, member| value.get(member))
    }

    /// All claims.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_strict;

    fn claims(json: &str) -> Option<Claims> {
        match parse_strict(json.as_bytes()) {
            Ok(Value::Object(members)) => Some(Claims::new(members)),
            _ => None,
        }
    }

    #[test]
    fn f10_a_date_is_an_integer_a_float_or_text_and_nothing_else() {
        let date = |value: &str| claims(&format!(r#"{{"exp":{value}}}"#)).expect("JSON").date("exp");
        for good in ["1700000000", "1700000000.25", "1.70000000025e9", "\"1700000000\"", "\"1700000000.999\""] {
            assert_eq!(date(good), Ok(Some(1_700_000_000)), "{good}");
        }
        assert_eq!(claims("{}").unwrap().date("exp"), Ok(None));
        assert_eq!(date("-0.0"), Ok(Some(0)));
        for (bad, why) in [
            ("-1", DateError::Negative),
            ("-0.5", DateError::Negative),
            ("1700000000000", DateError::Milliseconds),
            ("18446744073709551616", DateError::Milliseconds),
            ("1e300", DateError::Milliseconds),
            ("\"1700000000000\"", DateError::Milliseconds),
            ("\"\"", DateError::Text),
            ("\"-1\"", DateError::Text),
            ("\"+1\"", DateError::Text),
            ("\" 1\"", DateError::Text),
            ("\"1e9\"", DateError::Text),
            ("\"NaN\"", DateError::Text),
            ("\"inf\"", DateError::Text),
            ("\"0x10\"", DateError::Text),
            ("\"1.\"", DateError::Text),
            ("\".5\"", DateError::Text),
            ("\"1.5.5\"", DateError::Text),
            ("\"2023-11-14T22:13:20Z\"", DateError::Text),
            ("\"\u{0661}\"", DateError::Text),
            ("true", DateError::Type),
            ("null", DateError::Type),
            ("[1700000000]", DateError::Type),
            ("{}", DateError::Type),
        ] {
            assert_eq!(date(bad), Err(why), "{bad}");
        }
        for no_json in [r#"{"exp":1e400}"#, r#"{"exp":NaN}"#, r#"{"exp":1,"exp":2}"#, r#"{"exp":01}"#] {
            assert!(claims(no_json).is_none(), "{no_json}");
        }
    }

    #[test]
    fn f14_a_subject_that_is_a_number_is_its_exact_digits() {
        let subject =
            |value: &str| claims(&format!(r#"{{"sub":{value}}}"#)).expect("JSON").subject().map(Cow::into_owned);
        for (written, read) in [
            ("4711", "4711"),
            ("-4711", "-4711"),
            ("18446744073709551615", "18446744073709551615"),
            ("\"4711\"", "4711"),
        ] {
            assert_eq!(subject(written).as_deref(), Some(read));
        }
        // Rounded, they would be the name of a neighbour.
        for rounded in ["18446744073709551616", "4711.0", "4711.5", "1e3", "-9223372036854775809"] {
            assert_eq!(subject(rounded), None, "{rounded}");
        }
        for unusable in ["\"\"", "\"a\\u0000b\"", "true", "null", "[4711]", "{}"] {
            assert_eq!(subject(unusable), None, "{unusable}");
        }
        assert_eq!(subject(&format!("\"{}\"", "a".repeat(513))), None);
    }
}
