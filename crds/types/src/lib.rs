//! The vocabulary every room shares.
//!
//! In: nothing. Out: restricted names, the catalogue of refusal [`Reason`]s, decision ids, points in
//! time and [`Redacted`] values. A leaf: it does no IO and depends on none of our crates.
//! Start at [`Reason`]: it is at once metric label, audit field, status reason and documentation anchor.

mod algorithm;
mod api_key;
mod calendar;
mod clock;
mod money;
mod names;
mod network;
mod percent;
mod reason;
mod redacted;
mod refusal;
mod stage;
mod time;
mod trace_id;
mod visible;

pub use algorithm::{Algorithm, ContentEncryption, KeyManagement};
pub use api_key::ApiKey;
pub use calendar::CalendarSpan;
pub use clock::{Clock, Moment, Uptime};
pub use money::{Currency, Micros};
pub use names::{DecisionId, MethodName, NameError, RoleName, RuleName};
pub use network::network;
pub use percent::percent_decoded;
pub use reason::Reason;
pub use redacted::Redacted;
pub use refusal::{Decider, Refusal};
pub use stage::Stage;
pub use time::{Skew, Timestamp};
pub use trace_id::{TraceContext, TraceId};
pub use visible::{Visible, is_hidden, visible, visible_json, visible_lines};

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The bytes that exactly twice as many hexadecimal digits stand for.
pub fn unhex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let mut digits = text.chars().map(|c| c.to_digit(16));
    for byte in &mut bytes {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    digits.next().is_none().then_some(bytes)
}
