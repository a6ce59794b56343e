//! Money, exact: whole millionths of a currency's unit, and never a float.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of money in millionths of the unit of a currency.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// Millionths in a unit.
    pub const UNIT: u64 = 1_000_000;

    /// Reads a decimal number such as `2.50`: one to nine digits, and behind a point one to six. No sign, exponent or
    /// space; nothing is rounded.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, part) = match text.split_once('.') {
            Some((whole, part)) => (whole, Some(part)),
            None => (text, None),
        };
        let digits = |text: &str, most: usize| {
            let is_number = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| is_number)
        };
        let part = match part {
            Some(part) => digits(part, 6)? * 10_u64.pow(6_u32.saturating_sub(part.len() as u32)),
            None => 0,
        };
        Some(Self(digits(whole, 9)? * Self::UNIT + part))
    }

    /// The sum, at most the largest amount.
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The number with two digits behind the point at least, and further ones where they are not 0.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!("{:06}", self.0 % Self::UNIT);
        let kept = part.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / Self::UNIT, part.get(..kept).unwrap_or_default())
    }
}

/// The code of a currency (ISO 4217): three capital letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads a code. Whether a state uses the currency is not asked.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a currency must be three capital letters, such as `USD`")
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        for (text, micros) in [
            ("0", 0),
            ("2.50", 2_500_000),
            ("0.000001", 1),
            ("0.1", 100_000),
            ("007.10", 7_100_000),
            ("999999999.999999", 999_999_999_999_999),
        ] {
            assert_eq!(Micros::parse(text), Some(Micros(micros)), "{text}");
        }
        for wrong in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1.0000001", "1234567890", "1.2.3", "١"] {
            assert_eq!(Micros::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_amount_is_written_as_it_is_read() {
        for (micros, text) in [(0, "0.00"), (1, "0.000001"), (2_500_000, "2.50"), (12_345_600, "12.3456")] {
            assert_eq!(Micros(micros).to_string(), text);
            assert_eq!(Micros::parse(text), Some(Micros(micros)));
        }
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(Currency::parse("EUR").map(|of| of.to_string()).as_deref(), Some("EUR"));
        for wrong in ["", "EU", "EURO", "eur", "E1R", "é1"] {
            assert_eq!(Currency::parse(wrong), None, "{wrong}");
        }
    }
}
