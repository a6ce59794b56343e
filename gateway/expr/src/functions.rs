//! The functions that expressions may call. Each pays for what it reads before it reads it, and for what it
//! makes before it makes it.

use crate::budget::Meter;
use crate::value::{Abort, List, Outcome, Text, Val};

/// A function, by its name and by how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    CharAt,
    IndexOf,
    LastIndexOf,
    Join,
    LowerAscii,
    UpperAscii,
    Trim,
    Replace,
    Split,
    Substring,
    Reverse,
    HasValue,
    Value,
    Or,
    OrValue,
    Bool,
    Int,
    UInt,
    Double,
    String,
    Bytes,
    Dyn,
    Type,
}

impl Function {
    /// The function of this name, called on something (`x.size()`) or not (`size(x)`).
    pub(crate) fn named(name: &str, on_something: bool) -> Option<Self> {
        Some(match (name, on_something) {
            ("size", _) => Self::Size,
            ("contains", true) => Self::Contains,
            ("startsWith", true) => Self::StartsWith,
            ("endsWith", true) => Self::EndsWith,
            ("charAt", true) => Self::CharAt,
            ("indexOf", true) => Self::IndexOf,
            ("lastIndexOf", true) => Self::LastIndexOf,
            ("join", true) => Self::Join,
            ("lowerAscii", true) => Self::LowerAscii,
            ("upperAscii", true) => Self::UpperAscii,
            ("trim", true) => Self::Trim,
            ("replace", true) => Self::Replace,
            ("split", true) => Self::Split,
            ("substring", true) => Self::Substring,
            ("reverse", true) => Self::Reverse,
            ("hasValue", true) => Self::HasValue,
            ("value", true) => Self::Value,
            ("or", true) => Self::Or,
            ("orValue", true) => Self::OrValue,
            ("bool", false) => Self::Bool,
            ("int", false) => Self::Int,
            ("uint", false) => Self::UInt,
            ("double", false) => Self::Double,
            ("string", false) => Self::String,
            ("bytes", false) => Self::Bytes,
            ("dyn", false) => Self::Dyn,
            ("type", false) => Self::Type,
            _ => return None,
        })
    }

    /// Its result; `Failed` where it does not take such values.
    pub(crate) fn call<'v>(self, given: &[Val<'v>], meter: &Meter) -> Outcome<Val<'v>> {
        // Each text that is handed over may be read once.
        meter.bytes(given.iter().map(Val::size).sum())?;
        match given {
            [one] => self.of_one(one, meter),
            [Val::Text(text), rest @ ..] => self.of_text(text, rest, meter),
            [Val::List(list), Val::Text(separator)] if self == Self::Join => join(list, separator, meter),
            [Val::Optional(value), other] => match (self, value) {
                (Self::Or, Some(_)) => Ok(Val::Optional(value.clone())),
                (Self::OrValue, Some(value)) => Ok((**value).clone()),
                // The other is given as it is, also where it is no optional value: types are not checked before.
                (Self::OrValue | Self::Or, None) => Ok(other.clone()),
                _ => Err(Abort::Failed),
            },
            _ => Err(Abort::Failed),
        }
    }

    fn of_one<'v>(self, value: &Val<'v>, meter: &Meter) -> Outcome<Val<'v>> {
        Ok(match (self, value) {
            (Self::Size, Val::Text(text)) => count(text.chars().count()),
            (Self::Size, Val::Bytes(bytes)) => count(bytes.len()),
            (Self::Size, Val::List(list)) => count(list.len()),
            (Self::Size, Val::Dict(dict)) => count(dict.len()),
            (Self::Join, Val::List(list)) => return join(list, "", meter),
            (Self::LowerAscii, Val::Text(text)) => Val::made(text.to_ascii_lowercase()),
            (Self::UpperAscii, Val::Text(text)) => Val::made(text.to_ascii_uppercase()),
            (Self::Trim, Val::Text(text)) => part(text, |text| Some(text.trim()))?,
            (Self::Reverse, Val::Text(text)) => {
                meter.bytes(text.len())?;
                Val::made(text.chars().rev().collect())
            }
            (Self::HasValue, Val::Optional(value)) => Val::Bool(value.is_some()),
            (Self::Value, Val::Optional(Some(value))) => (**value).clone(),
            (Self::Dyn, value) => value.clone(),
            (Self::Type, value) => Val::Type(value.type_name()),
            _ => return self.convert(value, meter),
        })
    }

    fn convert<'v>(self, value: &Val<'v>, meter: &Meter) -> Outcome<Val<'v>> {
        let number = |text: &str| text.parse::<f64>().map_err(|_| Abort::Failed);
        Ok(match (self, value) {
            (Self::Bool, Val::Bool(_))
            | (Self::Int, Val::Int(_))
            | (Self::UInt, Val::UInt(_))
            | (Self::Double, Val::Double(_))
            | (Self::String, Val::Text(_))
            | (Self::Bytes, Val::Bytes(_)) => value.clone(),
            (Self::Bool, Val::Text(text)) => Val::Bool(match &**text {
                "1" | "t" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "false" | "FALSE" | "False" => false,
                _ => return Err(Abort::Failed),
            }),
            (Self::Int, Val::UInt(number)) => Val::Int(i64::try_from(*number).map_err(|_| Abort::Failed)?),
            (Self::Int, Val::Double(number)) if *number > i64::MIN as f64 && *number < i64::MAX as f64 => {
                Val::Int(*number as i64)
            }
            (Self::Int, Val::Text(text)) => Val::Int(text.parse().map_err(|_| Abort::Failed)?),
            (Self::UInt, Val::Int(number)) => Val::UInt(u64::try_from(*number).map_err(|_| Abort::Failed)?),
            (Self::UInt, Val::Double(number)) if *number >= 0.0 && *number < u64::MAX as f64 => {
                Val::UInt(*number as u64)
            }
            (Self::UInt, Val::Text(text)) => Val::UInt(text.parse().map_err(|_| Abort::Failed)?),
            (Self::Double, Val::Int(number)) => Val::Double(*number as f64),
            (Self::Double, Val::UInt(number)) => Val::Double(*number as f64),
            (Self::Double, Val::Text(text)) => Val::Double(number(text)?),
            (Self::String, Val::Bool(truth)) => Val::made(truth.to_string()),
            (Self::String, Val::Int(number)) => Val::made(number.to_string()),
            (Self::String, Val::UInt(number)) => Val::made(number.to_string()),
            (Self::String, Val::Double(number)) => {
                // Without an exponent a double has up to 1,077 characters.
                meter.bytes(1077)?;
                Val::made(number.to_string())
            }
            (Self::String, Val::Bytes(bytes)) => {
                meter.bytes(bytes.len())?;
                Val::made(std::str::from_utf8(bytes).map_err(|_| Abort::Failed)?.to_owned())
            }
            (Self::Bytes, Val::Text(text)) => Val::Bytes(text.as_bytes().into()),
            _ => return Err(Abort::Failed),
        })
    }

    fn of_text<'v>(self, text: &Text<'v>, rest: &[Val<'v>], meter: &Meter) -> Outcome<Val<'v>> {
        Ok(match (self, rest) {
            (Self::Contains, [Val::Text(other)]) => Val::Bool(text.contains(&**other)),
            (Self::StartsWith, [Val::Text(other)]) => Val::Bool(text.starts_with(&**other)),
            (Self::EndsWith, [Val::Text(other)]) => Val::Bool(text.ends_with(&**other)),
            (Self::CharAt, [Val::Int(at)]) => {
                let at = byte_at(text, *at).ok_or(Abort::Failed)?;
                part(text, |text| {
                    let rest = text.get(at..)?;
                    rest.get(..rest.chars().next().map_or(0, char::len_utf8))
                })?
            }
            (Self::IndexOf, [Val::Text(other)]) => index(text, text.find(&**other)),
            (Self::LastIndexOf, [Val::Text(other)]) => index(text, text.rfind(&**other)),
            (Self::IndexOf | Self::LastIndexOf, [Val::Text(other), Val::Int(from)]) => {
                return self.index_from(text, other, *from);
            }
            (Self::Replace, [Val::Text(from), Val::Text(to)]) => replace(text, from, to, usize::MAX, meter)?,
            (Self::Replace, [Val::Text(from), Val::Text(to), Val::Int(times)]) => {
                replace(text, from, to, usize::try_from(*times).unwrap_or(usize::MAX), meter)?
            }
            (Self::Split, [Val::Text(separator)]) => split(text, separator, usize::MAX, meter)?,
            (Self::Split, [Val::Text(separator), Val::Int(parts)]) => {
                split(text, separator, usize::try_from(*parts).unwrap_or(usize::MAX), meter)?
            }
            (Self::Substring, [Val::Int(from)]) => {
                let from = byte_at(text, *from).ok_or(Abort::Failed)?;
                part(text, |text| text.get(from..))?
            }
            (Self::Substring, [Val::Int(from), Val::Int(to)]) => {
                let from = byte_at(text, *from).ok_or(Abort::Failed)?;
                let to = byte_at(text, *to).ok_or(Abort::Failed)?;
                part(text, |text| text.get(from..to))?
            }
            _ => return Err(Abort::Failed),
        })
    }

    /// `indexOf` and `lastIndexOf` from a character on.
    fn index_from<'v>(self, text: &str, other: &str, from: i64) -> Outcome<Val<'v>> {
        let length = text.chars().count();
        let from = usize::try_from(from).map_err(|_| Abort::Failed)?;
        if other.is_empty() {
            return Ok(count(from.min(length)));
        }
        if from >= length {
            return Err(Abort::Failed);
        }
        let start = byte_at(text, i64::try_from(from).unwrap_or(i64::MAX)).ok_or(Abort::Failed)?;
        let found = if self == Self::IndexOf {
            text.get(start..).and_then(|rest| rest.find(other)).map(|at| at + start)
        } else {
            // A match may begin at `from` and end after it. The end is moved back to where a character begins.
            let mut end = start.saturating_add(other.len()).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.get(..end).and_then(|before| before.rfind(other))
        };
        Ok(index(text, found))
    }
}

fn count<'v>(number: usize) -> Val<'v> {
    Val::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Converts a byte offset to a character offset; `None` becomes -1.
fn index<'v>(text: &str, at: Option<usize>) -> Val<'v> {
    at.and_then(|at| text.get(..at)).map_or(Val::Int(-1), |before| count(before.chars().count()))
}

/// The byte offset of a character, counted from 0. The number of characters gives the end of the text.
fn byte_at(text: &str, character: i64) -> Option<usize> {
    let character = usize::try_from(character).ok()?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(character)
}

/// A part of a text, borrowed where the text is.
fn part<'v>(text: &Text<'v>, of: impl for<'t> Fn(&'t str) -> Option<&'t str>) -> Outcome<Val<'v>> {
    match text {
        Text::Of(text) => of(text).map(|text| Val::Text(Text::Of(text))),
        Text::Made(text) => of(text).map(|text| Val::made(text.to_owned())),
    }
    .ok_or(Abort::Failed)
}

fn join<'v>(list: &List<'v>, separator: &str, meter: &Meter) -> Outcome<Val<'v>> {
    let mut joined = String::new();
    for (at, item) in list.iter().enumerate() {
        let Val::Text(text) = item else { return Err(Abort::Failed) };
        meter.spend(1)?;
        meter.bytes(text.len() + separator.len())?;
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&text);
    }
    Ok(Val::made(joined))
}

fn replace<'v>(text: &str, from: &str, to: &str, times: usize, meter: &Meter) -> Outcome<Val<'v>> {
    let found = text.matches(from).take(times).count();
    // Each replacement is paid for, however short it is.
    meter.spend(found)?;
    meter.bytes(text.len().saturating_add(found.saturating_mul(to.len())))?;
    Ok(Val::made(text.replacen(from, to, times)))
}

fn split<'v>(text: &Text<'v>, separator: &str, parts: usize, meter: &Meter) -> Outcome<Val<'v>> {
    match text {
        Text::Of(text) => split_into(text, separator, parts, meter, |part| Ok(Val::Text(Text::Of(part)))),
        Text::Made(text) => split_into(text, separator, parts, meter, |part| {
            meter.allocated()?;
            Ok(Val::made(part.to_owned()))
        }),
    }
}

/// At most `parts` parts, the last of which holds the rest. An empty separator splits between characters.
fn split_into<'t, 'v>(
    text: &'t str,
    separator: &str,
    parts: usize,
    meter: &Meter,
    make: impl Fn(&'t str) -> Outcome<Val<'v>>,
) -> Outcome<Val<'v>> {
    let mut out = Vec::new();
    let mut rest = Some(text).filter(|_| parts > 0);
    while let Some(text) = rest {
        let first = text.chars().next().map_or(0, char::len_utf8);
        let cut = match separator {
            "" if text.is_empty() => break,
            "" => Some(text.split_at(first)).filter(|(_, after)| !after.is_empty()),
            separator => text.split_once(separator),
        };
        let (part, after) = match cut.filter(|_| out.len() + 1 < parts) {
            Some((part, after)) => (part, Some(after)),
            None => (text, None),
        };
        meter.made(1)?;
        meter.bytes(part.len())?;
        out.push(make(part)?);
        rest = after;
    }
    Ok(Val::list(out))
}
