use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use serde::{Serialize, Serializer};

/// The id of the distributed trace that a request is part of (W3C Trace Context §3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The id of a `traceparent` header; `None` for a header that is not valid.
    pub fn of_traceparent(value: &[u8]) -> Option<Self> {
        TraceContext::of_traceparent(value).map(|context| context.trace)
    }
}

impl From<NonZeroU128> for TraceId {
    fn from(id: NonZeroU128) -> Self {
        Self(id)
    }
}

impl From<TraceId> for u128 {
    fn from(TraceId(id): TraceId) -> Self {
        id.get()
    }
}

/// The place of a request in a distributed trace, as its sender says (W3C Trace Context §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The sender's span in it.
    pub parent: NonZeroU64,
    /// Whether the sender may have recorded the trace (§3.2.2.5.1).
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header: `00-<trace id>-<parent id>-<flags>`, in lower case. Versions to come may have more
    /// behind that (§3.2.4). `None` for one that is not valid: it is as if there were none.
    pub fn of_traceparent(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(55)?;
        let [version, trace, parent, flags] = parts(head)?;
        let is_valid = match version {
            b"00" => rest.is_empty(),
            b"ff" => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        let (parent, flags) = (NonZeroU64::new(number(parent)? as u64)?, number(flags)?);
        (is_valid && number(version).is_some()).then_some(())?;
        let trace = NonZeroU128::new(number(trace)?).map(TraceId)?;
        Some(Self { trace, parent, sampled: flags & 1 == 1 })
    }
}

/// As a `traceparent` header of version 00; of the flags only `sampled` is kept.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

fn parts(head: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = head.split(|byte| *byte == b'-');
    let found = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = found.map(<[u8]>::len);
    (parts.next().is_none() && lengths == [2, 32, 16, 2]).then_some(found)
}

/// The number that lower-case hexadecimal digits stand for.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_as_the_standard_writes_it() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |text: &str| TraceId::of_traceparent(text.as_bytes()).map(|id| id.to_string());
        for text in [
            format!("00-{id}-00f067aa0ba902b7-01"),
            format!("00-{id}-00f067aa0ba902b7-00"),
            format!("cc-{id}-00f067aa0ba902b7-01"),
            format!("cc-{id}-00f067aa0ba902b7-01-what-comes-later"),
        ] {
            assert_eq!(read(&text).as_deref(), Some(id), "{text}");
        }
        let zero = "0".repeat(32);
        for text in [
            String::new(),
            format!("00-{id}-00f067aa0ba902b7"),
            format!("00-{id}-00f067aa0ba902b7-01-more"),
            format!("ff-{id}-00f067aa0ba902b7-01"),
            format!("cc-{id}-00f067aa0ba902b7-01.more"),
            format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            format!("00-{zero}-00f067aa0ba902b7-01"),
            format!("00-{id}-0000000000000000-01"),
            format!("00-{id}-00f067aa0ba902b7-0x"),
            format!("00-{}é-00f067aa0ba902b7-01", &id[..30]),
            format!("0--{id}00f067aa0ba902b7-01-"),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn the_first_bit_of_the_flags_says_whether_the_sender_records() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            let context = TraceContext::of_traceparent(text.as_bytes()).unwrap();
            assert_eq!((context.sampled, context.parent.get()), (sampled, 0x00f0_67aa_0ba9_02b7), "{flags}");
            let written = format!("{}0{}", &text[..53], u8::from(sampled));
            assert_eq!(context.to_string(), written);
        }
    }
}
