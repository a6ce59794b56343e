//! Every decision and every change as one typed record that is not lost.
//!
//! In: [`Record`]s from the cores of a gateway or from the operator. Out: fsynced NDJSON segments in a
//! folder ([`Spool`]), and from there bulk requests to Elasticsearch ([`ship`]). A record's id is its
//! `_id` there, so sending it twice stores it once; it leaves the spool only after the server confirmed
//! it. Never prints a record to a log. Start at [`Record`], then `spool.rs`, then `ship.rs`.

mod changes;
mod explain;
mod order;
mod read;
mod record;
pub mod ship;
mod spool;
mod spool_handle;
mod stored;
mod writer;

pub use changes::ChangesFilter;
pub use explain::{Explanation, Step};
pub use order::InOrder;
pub use read::{Follower, find};
pub use record::{
    Action, Change, ChangeBetween, ChangeBy, ChangeOrigin, Decision, DecisionIdentity, DecisionIssued, DecisionPolicy,
    DecisionRequest, DecisionTrace, DecisionUsage, Evidence, ObjectName, Outcome, Record, SCHEMA,
};
pub use spool::{NotStored, OnFull, Spool, SpoolConfig, SpoolError, SpoolHealth, Successes};
pub use spool_handle::{SpoolHandle, Storing};
pub use stored::StoredRecord;
