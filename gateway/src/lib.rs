//! A gateway process: the data plane of `idm-proxy` with a configuration, keys, audit and a control port.
//!
//! In: a folder of YAML ([`source::dir`]) or a bundle from the operator ([`source::bundle`]). Out: a
//! serving [`Gateway`] that swaps its engine without dropping a request and keeps the last good one
//! when a change is not usable. Start at [`Gateway`], then `source/`, then `fetch.rs` for issuer keys.

mod admin;
mod ask;
mod blocks;
mod egress;
mod environment;
mod fetch;
mod gateway;
mod metrics;
pub mod source;
mod traces;
mod try_login;

pub use admin::AdminServer;
pub use blocks::token_file;
pub use egress::Egress;
pub use environment::Environment;
pub use gateway::{AuditOptions, BlockOptions, Gateway, GatewayOptions, random_seed};
pub use idm_decide::{BlockMode, BlockRules, BodyLimits};
pub use idm_directory::probe;
pub use idm_proxy::{Deadlines, Limits, LineFormat, TrustedProxies, USUAL_CONSUMERS, memory_limit};
pub use idm_traces::{Callers, Ratio};
pub use traces::TraceOptions;
pub use try_login::{TriedGroup, TriedLogin, TriedPerson};
