//! A record for every change of our own kinds, with the one who made it.
//!
//! The watches make the records (`observer.rs`, `recorder.rs`): what differs from the ledger (`ledger.rs`) is a change.
//! A webhook that never refuses anything (`door.rs`) is told by the API server who asks for what, and lends the changes
//! their authors (`join.rs`); a canary tries it every minute (`canary.rs`). What is told of a change is in `idm-diff`
//! and `origin.rs`.

mod canary;
mod certificate;
mod count;
mod door;
mod join;
mod ledger;
mod observer;
mod origin;
mod recorder;
mod shelf;
mod tell;

pub(crate) use canary::keep as keep_webhook;
pub(crate) use count::ChangeCount;
pub(crate) use door::ChangesOptions;
pub(crate) use door::{Door, serve};
pub(crate) use recorder::Recorder;

use crate::objects::Kind;
use crate::watch::Seen;

/// Whether an event is of a kind whose changes are recorded.
pub(crate) fn concerns(seen: &Seen) -> bool {
    Kind::OURS.contains(&seen.kind)
}

/// The settings of the record of changes.
pub(crate) struct Settings {
    /// The name of the webhook's configuration.
    pub(crate) webhook: String,
    /// This pod's address and port, for the webhook's Service.
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) port: u16,
    /// Whether objects of GitOps tools are asked for their revisions.
    pub(crate) gitops: bool,
}

#[cfg(test)]
mod tests;
