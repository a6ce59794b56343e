//! Header fields as one value (RFC 9421 §2.1), and structured fields.

use std::collections::HashSet;
use std::convert::Infallible;

use http::{HeaderMap, HeaderValue, header};
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored};
use sfv::{Dictionary, KeyRef, Parser, Version};

use crate::SignatureError;

/// The values of a field, each without the space around it; none where there is no such field.
pub(crate) fn values<'m>(headers: &'m HeaderMap, name: &str) -> Vec<&'m [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii).collect()
}

/// The combined value of a field; `None` where there is no such field.
pub(crate) fn combined(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let all = values(headers, name);
    // RFC 9113 §8.2.3: the lines of this field are parts of one value.
    let between: &[u8] = if name == header::COOKIE.as_str() { b"; " } else { b", " };
    (!all.is_empty()).then(|| all.join(between))
}

/// A field that is a dictionary; `None` where there is no such field.
pub(crate) fn dictionary(headers: &HeaderMap, name: &'static str) -> Result<Option<Dictionary>, SignatureError> {
    let Some(text) = combined(headers, name) else { return Ok(None) };
    let flaw = |flaw| match flaw {
        Flaw::Malformed => SignatureError::Malformed(name),
        Flaw::Repeated => SignatureError::Repeated(name),
    };
    read_dictionary(&text).map(Some).map_err(flaw)
}

/// Why a text is no dictionary.
#[derive(Clone, Copy)]
pub(crate) enum Flaw {
    Malformed,
    Repeated,
}

/// Reads a dictionary. A name that is there twice is an error: RFC 8941 lets the last one win, and a program of another
/// author may not.
pub(crate) fn read_dictionary(text: &[u8]) -> Result<Dictionary, Flaw> {
    let parser = || Parser::new(text).with_version(Version::Rfc8941);
    let repeated = parser().parse_dictionary_with_visitor(Names::default()).map_err(|_| Flaw::Malformed)?;
    if repeated {
        return Err(Flaw::Repeated);
    }
    parser().parse().map_err(|_| Flaw::Malformed)
}

/// Finds out whether a name of a dictionary is repeated.
#[derive(Default)]
struct Names<'de> {
    seen: HashSet<&'de str>,
    repeated: bool,
}

impl<'de> DictionaryVisitor<'de> for Names<'de> {
    type Out = bool;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.repeated |= !self.seen.insert(key.as_str());
        Ok(Ignored)
    }

    fn finish(self) -> Result<bool, Infallible> {
        Ok(self.repeated)
    }
}
