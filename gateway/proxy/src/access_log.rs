//! The access log: a line for each request, written when its answer has ended.
//!
//! A line tells what the record of the request tells, in short, and how many bytes were sent. Like the record it has no
//! query, and no credential. Lines are written by a thread of their own; while nobody takes them, the newest are
//! dropped and counted, and no request waits.

mod line;
mod sink;

pub(crate) use line::{Line, More, Seen};
pub use sink::AccessLog;
pub(crate) use sink::Lines;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// An object of JSON.
    Json,
    /// The combined format of web servers, with decision id and trace id behind it.
    Combined,
}
