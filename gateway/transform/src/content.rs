use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use idm_expr::{EvaluationError, Expression, Scope};
use idm_plan::{Destination, Place};
use serde_json::Value;

/// The largest header value that a step writes.
const MAX_HEADER: usize = 16 * 1024;

/// Headers and body of one message, which steps read and change.
pub struct Content<'m> {
    /// The headers.
    pub headers: &'m mut HeaderMap,
    /// The whole body, where a step asked for it.
    pub body: Option<Bytes>,
    /// Whether the body was replaced.
    pub replaced: bool,
}

/// A place, ready to be read.
pub(crate) enum ArmedPlace {
    Body,
    Header(String),
    Value(Expression),
}

impl ArmedPlace {
    pub(crate) fn arm(place: &Place) -> Result<Self, String> {
        Ok(match place {
            Place::Body => ArmedPlace::Body,
            Place::Header(name) => ArmedPlace::Header(name.clone()),
            Place::Value(expr) => ArmedPlace::Value(Expression::arm(expr)?),
        })
    }

    /// Reads the content at this place; `None` if there is none. A header that occurs more than once counts as absent,
    /// because its value is ambiguous. An expression that exceeds its budget is an error.
    pub(crate) fn read(&self, content: &Content<'_>, facts: &dyn Scope) -> Result<Option<Bytes>, EvaluationError> {
        Ok(match self {
            ArmedPlace::Body => content.body.clone(),
            ArmedPlace::Header(name) => {
                let mut values = content.headers.get_all(name).iter();
                let value = values.next();
                value.filter(|_| values.next().is_none()).map(|value| Bytes::copy_from_slice(value.as_bytes()))
            }
            ArmedPlace::Value(expression) => match EvaluationError::absent(expression.value(facts))? {
                Some(Value::String(text)) => Some(text.into()),
                Some(Value::Null) | None => None,
                Some(other) => Some(other.to_string().into()),
            },
        })
    }
}

impl Content<'_> {
    /// Writes bytes to a place. `false` when they cannot be sent there.
    pub(crate) fn put(&mut self, to: &Destination, bytes: &[u8]) -> bool {
        match to {
            Destination::Nowhere => true,
            Destination::Header(name) => {
                let printable = bytes.len() <= MAX_HEADER && bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
                let (true, Ok(name), Ok(value)) =
                    (printable, HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(bytes))
                else {
                    return false;
                };
                self.headers.insert(name, value);
                true
            }
            Destination::Body { content_type } => {
                self.body = Some(Bytes::copy_from_slice(bytes));
                self.replaced = true;
                // These described the body that was replaced.
                self.headers.remove(CONTENT_ENCODING);
                self.headers.insert(CONTENT_LENGTH, bytes.len().into());
                match content_type.as_deref().map(HeaderValue::from_str) {
                    Some(Ok(value)) => drop(self.headers.insert(CONTENT_TYPE, value)),
                    Some(Err(_)) => return false,
                    None => {}
                }
                true
            }
        }
    }
}
