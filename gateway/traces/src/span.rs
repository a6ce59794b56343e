use std::borrow::Cow;
use std::num::NonZeroU64;

use idm_types::{TraceContext, TraceId};

/// The longest text of an attribute, in bytes; longer ones are cut.
const MAX_TEXT: usize = 512;

/// The id of a span within its trace.
pub type SpanId = NonZeroU64;

/// The side of an exchange that a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something within the gateway.
    Internal,
    /// A request that the gateway serves.
    Server,
    /// A request that the gateway sends.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text of at most 512 bytes.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl Value {
    /// A text, cut where it is too long.
    pub fn text(text: &str) -> Self {
        Value::Text(text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned().into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Value::Number(number.into())
    }
}

/// One operation of a trace, which has ended. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub id: SpanId,
    /// The span that it is a part of.
    pub parent: Option<SpanId>,
    /// A span of another trace that led to it.
    pub link: Option<TraceContext>,
    /// The side that it is about.
    pub kind: Kind,
    /// A name from a small set: no part of it is a caller's.
    pub name: Cow<'static, str>,
    /// Its begin.
    pub began: u64,
    /// Its end.
    pub ended: u64,
    /// Its attributes, each name once.
    pub attributes: Vec<(&'static str, Value)>,
    /// It is an error of this side or the other, as the conventions for its kind say.
    pub failed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = format!("{}é", "x".repeat(MAX_TEXT - 1));
        assert_eq!(Value::text(&long), Value::Text("x".repeat(MAX_TEXT - 1).into()));
        assert_eq!(Value::text("é"), Value::Text("é".into()));
    }
}
