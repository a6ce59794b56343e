//! Every decision and every change as one typed record that is not lost.
//!
//! In: [`Record`]s from the cores of a gateway or from the operator. Out: fsynced NDJSON segments in a
//! folder ([`Spool`]), whose lines are a chain of hashes ([`verify`]), and from there bulk requests to
//! Elasticsearch ([`ship`]); pages of them ([`read`], [`ServerReader`]) and a stream ([`Tail`]). A record's
//! id is its `_id` there, so sending it twice stores it once; it leaves the spool only after the server
//! confirmed it. Never prints a record to a log. Start at [`Record`], then `spool.rs`, then `ship.rs`.

mod chain;
mod ecs;
mod explain;
pub mod export;
mod filter;
mod indices;
mod line;
mod order;
mod raw;
mod read;
mod record;
mod records;
mod retention;
mod seal;
mod search;
mod server;
pub mod ship;
mod spool;
mod spool_handle;
mod stored;
mod tail;
mod verify;
mod verify_index;
mod writer;

pub use chain::{ChainHead, ChainKey, LEAST_KEY, NoHead, ShortKey};
pub use explain::{Explanation, Step};
pub use filter::{NoSuchWord, RecordFilter, RecordKind, RecordOutcome, RecordTests, ShadowedAs};
pub use order::InOrder;
pub(crate) use read::Follower;
pub use read::find;
pub use record::{
    Action, Change, ChangeBetween, ChangeBy, ChangeOrigin, Decision, DecisionBlock, DecisionIdentity, DecisionIssued,
    DecisionPolicy, DecisionRequest, DecisionShadow, DecisionTrace, DecisionUsage, Evidence, ObjectName, Outcome,
    Record, SCHEMA,
};
pub use records::Records;
pub use retention::Retention;
pub use search::{Cursor, NoCursor, Page, read};
pub use server::{ReadError, ServerReader};
pub use spool::{NotStored, OnFull, Spool, SpoolConfig, SpoolError, SpoolHealth, Successes};
pub use spool_handle::{SpoolHandle, Storing};
pub use stored::StoredRecord;
pub use tail::{Mark, Tail, TailError, Tailed};
pub use verify::{Place, Tampering, Trace, Verified, verify};
pub use verify_index::{IndexTampering, IndexVerified, Indexed};
