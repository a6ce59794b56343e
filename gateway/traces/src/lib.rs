//! Spans of distributed traces: which requests have them, how their parts find each other, and the form they are sent
//! in.
//!
//! In: the place of a request in a trace, as its caller says, and what the gateway does for it. Out: spans in a bounded
//! queue, and OTLP in JSON. A span holds the names of our objects, addresses, methods, paths, statuses and reasons; it
//! never holds a query, a header, a body, a credential or the name of a person: the id of the decision leads to these.
//! Nothing here waits for anyone: while nobody takes the spans, the newest are dropped and counted. Never talks to
//! anyone, and reads no clock but the monotonic one. Start at `sampler.rs`; `scope.rs` makes spans, `otlp.rs` writes
//! them.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod otlp;
mod queue;
mod sampler;
mod scope;
mod span;

pub use otlp::{Resource, encode, rejected};
pub use queue::{BATCH, CAPACITY, Counts, Sink, Waiting, queue};
pub use sampler::{Callers, Placed, Ratio, Sampler};
pub use scope::{Clock, Open, Scope, Within, current};
pub use span::{Kind, Span, SpanId, Value};
