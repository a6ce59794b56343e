//! The data plane: one request at a time, from the socket to the upstream and back.
//!
//! In: a [`Configuration`] (an armed plan and its certificates) and connections. Out: forwarded requests, refusals, and
//! exactly one audit record each. `idm-decide` says what becomes of a request; this room performs it. The files in the
//! order a request meets them: `server.rs` and `accept.rs`, `limits.rs` (how many), `give_way.rs` (who makes room),
//! `caller.rs` and `watch.rs` (how long), `connection.rs` (HTTP/1.1 and HTTP/2), `turns.rs` (who goes first), `tls.rs`
//! (certificates, both ways), `guard.rs` (the record that is written whatever happens), `pipeline.rs` (decide, forward,
//! answer), `forward.rs` and `exchange.rs` (the upstream), `mirror.rs` (copies), `traced.rs`
//! (spans). No lock, no `unwrap`, no indexing here. Start at `pipeline.rs`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod accept;
mod access_log;
mod body;
mod caller;
mod connect;
mod connection;
mod core;
mod exchange;
mod forward;
mod frames;
mod framing;
mod give_way;
mod guard;
mod health;
mod limits;
mod metrics;
mod mirror;
mod pipeline;
mod progress;
mod proxies;
mod proxy_protocol;
mod realtime;
mod server;
mod shared;
mod stream;
mod streams;
mod telling;
mod tls;
mod traced;
mod turns;
mod upgrade;
mod upstream_tls;
mod watch;

pub use access_log::{AccessLog, LineFormat};
pub use framing::Framing;
pub use limits::{Limits, memory_limit};
pub use metrics::{Metrics, USUAL_CONSUMERS};
pub use proxies::TrustedProxies;
pub use server::{BindError, Server, ServerConfig};
pub use shared::{Configuration, Shared, Telemetry};
pub use traced::Traces;
pub use watch::Deadlines;
