//! A record for every change of our own kinds, with the one who made it.
//!
//! The watches make the records (`observer.rs`): what differs from the ledger (`ledger.rs`) is a change. A webhook that
//! never refuses anything (`door.rs`) is told by the API server who asks for what, and lends the changes their authors
//! (`join.rs`); a canary tries it every minute (`canary.rs`). What is told of a change is in `idm-diff` and `origin.rs`.

mod canary;
mod certificate;
mod count;
mod door;
mod join;
mod ledger;
mod observer;
mod origin;
mod shelf;
mod tell;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use idm_audit::{Action, SpoolHandle};
use idm_types::{Clock, Timestamp, Uptime};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};

pub(crate) use canary::keep as keep_webhook;
pub(crate) use count::ChangeCount;
pub(crate) use door::ChangesOptions;
pub(crate) use door::{Door, serve};
pub(crate) use join::Note;
use join::{Attempts, Author, GRACE_MS};
use observer::Changed;
use shelf::Shelf;
use tell::Teller;

use crate::Context;
use crate::objects::Kind;
use crate::watch::Seen;

const TICK: Duration = Duration::from_millis(250);
/// The ledger is stored when all that it says is recorded, and at the latest after this time.
const LATEST_STORE_MS: u64 = 10_000;

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

/// The changes that are not recorded yet: each waits a moment for an attempt that fits it.
#[derive(Default)]
struct Waiting(VecDeque<(Changed, Uptime)>);

impl Waiting {
    /// Gives a change back that is complete, and keeps another one.
    fn take(&mut self, changed: Changed, attempts: &Attempts, now: Uptime) -> Option<(Changed, Option<Author>)> {
        let author = attempts.author(&changed.subject);
        let is_due = author.is_some() || changed.between.is_some() || changed.action == Action::Found;
        if !is_due {
            self.0.push_back((changed, now));
            return None;
        }
        Some((changed, author))
    }

    /// Takes out the changes that have got an author, and those that have waited long enough.
    fn due(&mut self, attempts: &Attempts, now: Uptime) -> Vec<(Changed, Option<Author>)> {
        let mut due = Vec::new();
        self.0.retain(|(changed, since)| {
            let author = attempts.author(&changed.subject);
            let is_due = author.is_some() || now.since(*since) >= GRACE_MS;
            if is_due {
                due.push((changed.clone(), author));
            }
            !is_due
        });
        due
    }
}

/// Records changes for ever.
pub(crate) async fn run(
    context: Arc<Context>,
    mut events: UnboundedReceiver<Seen>,
    mut notes: Receiver<Note>,
    spool: SpoolHandle,
) {
    let _ = tokio::task::spawn_blocking(idm_diff::prepare).await;
    let clock = Clock::of_process();
    let (mut shelf, mut observer) = Shelf::open(&context).await;
    let mut attempts = Attempts::default();
    let mut waiting = Waiting::default();
    let mut teller = Teller::new(context.clone(), spool);
    let mut stored = clock.uptime();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Attempts come before the changes that they lead to.
            biased;
            Some(note) = notes.recv() => attempts.add(note, clock.uptime()),
            _ = tick.tick() => {
                for (changed, author) in waiting.due(&attempts, clock.uptime()) {
                    teller.tell(changed, author).await;
                }
            }
            Some(seen) = events.recv() => {
                let now = clock.uptime();
                for changed in observer.see(&seen, Timestamp::now()) {
                    if let Some((changed, author)) = waiting.take(changed, &attempts, now) {
                        teller.tell(changed, author).await;
                    }
                }
            }
        }
        let late = clock.uptime().since(stored) > LATEST_STORE_MS;
        if events.is_empty() && teller.has_stored() && (waiting.0.is_empty() || late) {
            shelf.store(&context, &mut observer.ledger).await;
            stored = clock.uptime();
        }
    }
}

#[cfg(test)]
mod tests;
