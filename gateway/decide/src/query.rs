//! The parameters of a query, as rules match them.
//!
//! Servers do not read every query alike: of a repeated parameter some take the first value and some the last, `+` is a
//! space to most, and `;` separates parameters for a few. The query is forwarded as it came. So a parameter with more
//! than one reading does not decide which rule serves: [`Fit::Perhaps`] says that it could.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;

use idm_plan::QueryMatch;

/// The most values of one name that are kept: with more, every value is possible.
const MANY: usize = 4;

/// Whether a request is one that a match asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// Under no reading.
    No,
    /// Under some readings.
    Perhaps,
    /// Under every reading.
    Yes,
}

/// The query of one request. It is read when a rule asks for a parameter, and once.
pub(crate) struct Query<'q> {
    text: Option<&'q str>,
    read: OnceCell<Readings<'q>>,
}

/// The parameters where `&` separates them, and where `;` does so, too, if there is one.
struct Readings<'q> {
    usual: Parameters<'q>,
    semicolons: Option<Parameters<'q>>,
}

/// The parameters by their names.
#[derive(Default)]
struct Parameters<'q>(HashMap<Cow<'q, [u8]>, Values<'q>>);

/// The values of one name.
#[derive(Default)]
struct Values<'q> {
    /// As they are written, at most [`MANY`].
    raw: Vec<&'q str>,
    /// There are more.
    more: bool,
    /// For some servers one of them has another name.
    unsure: bool,
}

impl<'q> Query<'q> {
    /// A query without `?`.
    pub(crate) fn new(text: Option<&'q str>) -> Self {
        Self { text, read: OnceCell::new() }
    }

    /// Whether it has the parameter with the value.
    pub(crate) fn fit(&self, wanted: &QueryMatch) -> Fit {
        let Some(text) = self.text else { return Fit::No };
        let Readings { usual, semicolons } = self.read.get_or_init(|| Readings {
            usual: Parameters::of(text.split('&')),
            semicolons: text.contains(';').then(|| Parameters::of(text.split(['&', ';']))),
        });
        let fit = usual.fit(wanted);
        match semicolons.as_ref().map(|other| other.fit(wanted)) {
            Some(other) if other != fit => Fit::Perhaps,
            _ => fit,
        }
    }
}

impl<'q> Parameters<'q> {
    fn of(pairs: impl Iterator<Item = &'q str>) -> Self {
        let mut all = Self::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let names = readings(name);
            let unsure = names.len() > 1;
            for name in names {
                let values = all.0.entry(name).or_default();
                values.unsure |= unsure;
                if values.raw.len() < MANY {
                    values.raw.push(value);
                } else {
                    values.more = true;
                }
            }
        }
        all
    }

    fn fit(&self, QueryMatch { name, value: wanted }: &QueryMatch) -> Fit {
        let Some(Values { raw, more, unsure }) = self.0.get(name.as_bytes()) else { return Fit::No };
        if let [value] = raw[..] {
            let values = readings(value);
            return match (values.iter().any(|value| **value == *wanted.as_bytes()), &values[..]) {
                (false, _) => Fit::No,
                (true, [_]) if !unsure => Fit::Yes,
                (true, _) => Fit::Perhaps,
            };
        }
        // Some servers join the values of a name.
        let values: Vec<_> = raw.iter().map(|value| readings(value)).collect();
        let joined = values.iter().filter_map(|of| of.first().map(|value| &**value)).collect::<Vec<_>>().join(&b',');
        let is_wanted = |value: &Cow<'_, [u8]>| **value == *wanted.as_bytes();
        if *more || joined == wanted.as_bytes() || values.iter().flatten().any(is_wanted) {
            return Fit::Perhaps;
        }
        Fit::No
    }
}

/// The readings that servers may have of a name or value. The first has each escape decoded and `+` as itself; there is
/// no other where all agree.
fn readings(raw: &str) -> Vec<Cow<'_, [u8]>> {
    if !raw.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return vec![Cow::Borrowed(raw.as_bytes())];
    }
    let (decoded, broken) = decode(raw);
    let mut all = Vec::new();
    if broken {
        // Some drop what they cannot read.
        all.push(Cow::Borrowed(&b""[..]));
    }
    if raw.contains('+') {
        all.push(decode(&raw.replace('+', " ")).0.into());
    }
    if let Some(end) = decoded.iter().position(|byte| *byte == 0) {
        all.push(decoded.iter().copied().take(end).collect::<Vec<_>>().into());
    }
    if std::str::from_utf8(&decoded).is_err() {
        let kept: String = decoded.utf8_chunks().map(|chunk| chunk.valid()).collect();
        all.push(kept.into_bytes().into());
    }
    all.insert(0, decoded.into());
    all
}

/// The bytes with every escape decoded, and whether there is something that only looks like one.
fn decode(raw: &str) -> (Vec<u8>, bool) {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut bytes, mut rest, mut broken) = (Vec::with_capacity(raw.len()), raw.as_bytes(), false);
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = digit(after.first()).zip(digit(after.get(1))).filter(|_| *first == b'%');
        match escaped {
            Some((high, low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                broken |= *first == b'%';
                bytes.push(*first);
            }
        }
    }
    (bytes, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(query: &str, name: &str, value: &str) -> Fit {
        Query::new(Some(query)).fit(&QueryMatch { name: name.into(), value: value.into() })
    }

    #[test]
    fn a_parameter_fits_in_every_spelling_that_servers_agree_on() {
        for query in ["a=x", "b&a=x", "%61=%78", "a=x&b=100%", "a=x&b=1+2", "&&a=x&", "b;=1&a=x"] {
            assert_eq!(fit(query, "a", "x"), Fit::Yes, "{query}");
        }
        for query in ["", "a", "a=", "A=x", "a=X", "a=xy", "b=a=x", "ab=x", "a=y&b=x", "a%2B=x", "a=%2578", "a=y&a=z"] {
            assert_eq!(fit(query, "a", "x"), Fit::No, "{query}");
        }
        assert_eq!(Query::new(None).fit(&QueryMatch { name: "a".into(), value: "x".into() }), Fit::No);
        assert_eq!(fit("a=caf%C3%A9", "a", "café"), Fit::Yes);
        assert_eq!(fit("a=1%2B1&b=%26", "b", "&"), Fit::Yes);
    }

    #[test]
    fn what_servers_read_differently_fits_perhaps() {
        for (query, value) in [
            ("a=x&a=y", "x"),
            ("a=y&a=x", "x"),
            ("a=x&a=x", "x"),
            ("a=x&a=y", "x,y"),
            ("a=x&%61=y", "y"),
            ("b=1;a=x", "x"),
            ("a=x;b=1", "x"),
            ("a=x;b=1", "x;b=1"),
            ("a=x+y", "x y"),
            ("a=x+y", "x+y"),
            ("a=x%00y", "x"),
            ("a=x%ffy", "xy"),
            ("a=x%", "x%"),
            ("a=1&a=2&a=3&a=4&a=5&a=6", "x"),
        ] {
            assert_eq!(fit(query, "a", value), Fit::Perhaps, "{query} as {value}");
        }
        for query in ["a%00=x", "a%ff=x", "a+=x&a=x"] {
            assert_ne!(fit(query, "a", "x"), Fit::No, "{query}");
        }
        assert_eq!(fit("a+b=x", "a+b", "x"), Fit::Perhaps);
    }
}
