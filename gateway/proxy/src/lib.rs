//! The data plane: one request at a time, from the socket to the upstream and back.
//!
//! In: an [`Engine`] (an armed plan) and connections. Out: forwarded requests, refusals, and exactly one audit record
//! each. The files in the order a request meets them: `server.rs` and `accept.rs`, `limits.rs` (how many), `watch.rs`
//! (how long), `connection.rs` (HTTP/1.1 and HTTP/2), `tls.rs` (certificates, both ways), `guard.rs` (the record that
//! is written whatever happens), `canonical.rs` (one spelling of host and path), `scrub.rs` and `reserved.rs` (headers
//! that callers may not send), `router.rs`, `pipeline.rs` (the order of the checks, in one function), `held.rs` (bodies
//! that are buffered in whole), `forward.rs`, `render.rs`. No lock, no `unwrap`, no indexing here. Start at
//! `pipeline.rs`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod accept;
mod body;
mod canonical;
mod connect;
mod connection;
mod core;
mod engine;
mod exchange;
mod forward;
mod frames;
mod framing;
mod guard;
mod held;
mod limits;
mod metrics;
mod pipeline;
mod progress;
mod render;
mod reserved;
mod router;
mod scrub;
mod server;
mod spent;
mod stream;
mod tls;
mod upgrade;
mod watch;

pub use engine::{Engine, EngineError, Shared};
pub use held::BodyLimits;
pub use limits::{Limits, memory_limit};
pub use metrics::Metrics;
pub use server::{BindError, Server, ServerConfig};
pub use watch::Deadlines;
