//! The decision about one request, without a socket.
//!
//! In: an armed bundle ([`Armed`]), the head and the body of a request, the facts about its connection, and `now`. Out:
//! a [`Verdict`], or a [`Refusal`](idm_types::Refusal), and a [`Trace`] with the stage that the request reached. A
//! request may be forwarded only with the [`Forward`] of a verdict, and no other code makes one. This crate never
//! listens, connects or stores records: the proxy, `idm policy test` and every other front end call [`decide()`] and
//! perform its verdict. Start at `decide.rs`; `engine.rs` has the state that a decision uses, `prepare.rs` makes the
//! upstream's request, `render.rs` the answer to a refused caller, and `record.rs` the audit record.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod account;
mod armed;
mod blocked;
mod body;
mod canonical;
mod cors;
mod decide;
mod engine;
mod forms;
mod framing;
mod grpc;
mod held;
mod limits;
mod metering;
mod offline;
mod own;
mod peer;
mod prepare;
mod process;
mod query;
mod record;
mod redirect;
mod render;
mod reserved;
mod resource;
mod response;
mod router;
mod scrub;
mod shadow;
mod spent;
mod trace;
mod websocket;

pub use account::Account;
pub use armed::Armed;
pub use body::{MAX_HELD, Payload};
pub use canonical::authority;
pub use decide::{Context, Verdict, decide, distributed_trace};
pub use engine::{AnswerEdits, Engine, EngineError, same_pool};
pub use grpc::is_grpc;
pub use held::{BodyLimits, Caller, Held, Holding, Pace, Share, Unheld};
pub use idm_authn::{ArmedPolicy, Assumption, Check, Standing, TokenCache, TokenChecks, Unjudged};
pub use idm_limit::{Block, BlockMode, BlockRule, BlockRules, Blocks, MAX_BLOCKS, SharedBlock, Subject};
pub use idm_request::Identity;
pub use idm_store::Taken;
pub use limits::{Limited, SizeLimit};
pub use metering::Metering;
pub use offline::{
    Assumed, Decided, Decision, Forwarded, Hypotheses, Hypothesis, Hypothetical, HypotheticalError,
    HypotheticalOutcome, Offline, Rehearsal,
};
pub use peer::{Peer, Secured};
pub use prepare::Forward;
pub use process::Process;
pub use record::{Conclusion, MAX_TEXT, record};
pub use render::refusal;
pub use response::{make_response, wants_response};
pub use scrub::remove_hop_by_hop;
pub use shadow::{ShadowOutcome, ShadowVerdict};
pub use trace::Trace;
