//! The task that records changes, until it is told to finish.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use idm_audit::{Action, SpoolHandle};
use idm_types::{Clock, Timestamp, Uptime};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::join::{Attempts, Author, GRACE_MS, Note};
use super::observer::{Changed, Observer};
use super::shelf::Shelf;
use super::tell::Teller;
use crate::Context;
use crate::watch::Seen;

const TICK: Duration = Duration::from_millis(250);
/// The ledger is stored when all that it says is recorded, and at the latest after this time.
const LATEST_STORE_MS: u64 = 10_000;

/// The longest time that the end of an operator waits for its last records.
const FINISH: Duration = Duration::from_secs(5);

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

/// The task, and the word that ends it.
pub(crate) struct Recorder {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Begins to record what the watches see.
    pub(crate) fn start(
        context: Arc<Context>,
        notes: Receiver<Note>,
        spool: SpoolHandle,
    ) -> (UnboundedSender<Seen>, Self) {
        let (sender, events) = unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        (sender, Self { stop, task: tokio::spawn(record(context, events, notes, spool, stopped)) })
    }

    /// Records what was seen so far and stores the ledger: the next operator then tells no change a second time.
    pub(crate) async fn finish(self) {
        let Self { stop, mut task } = self;
        let _ = stop.send(());
        if tokio::time::timeout(FINISH, &mut task).await.is_err() {
            tracing::warn!("the ledger of changes was not stored in time: the next operator may tell changes again");
            Self::end(task).await;
        }
    }

    /// Ends at once: the ledger is another operator's.
    pub(crate) async fn abort(self) {
        Self::end(self.task).await;
    }

    async fn end(task: JoinHandle<()>) {
        task.abort();
        let _ = task.await;
    }
}

/// The changes seen so far, with their authors, on their way into the spool and the ledger.
struct Recording {
    clock: Clock,
    observer: Observer,
    attempts: Attempts,
    waiting: Waiting,
    teller: Teller,
}

impl Recording {
    async fn see(&mut self, seen: &Seen) {
        let now = self.clock.uptime();
        for changed in self.observer.see(seen, Timestamp::now()) {
            if let Some((changed, author)) = self.waiting.take(changed, &self.attempts, now) {
                self.teller.tell(changed, author).await;
            }
        }
    }

    async fn tell_due(&mut self, now: Uptime) {
        for (changed, author) in self.waiting.due(&self.attempts, now) {
            self.teller.tell(changed, author).await;
        }
    }
}

async fn record(
    context: Arc<Context>,
    mut events: UnboundedReceiver<Seen>,
    mut notes: Receiver<Note>,
    spool: SpoolHandle,
    mut stopped: oneshot::Receiver<()>,
) {
    let _ = tokio::task::spawn_blocking(idm_diff::prepare).await;
    let (mut shelf, observer) = Shelf::open(&context).await;
    let mut recording = Recording {
        clock: Clock::of_process(),
        observer,
        attempts: Attempts::default(),
        waiting: Waiting::default(),
        teller: Teller::new(context.clone(), spool),
    };
    let mut stored = recording.clock.uptime();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Attempts come before the changes that they lead to.
            biased;
            Some(note) = notes.recv() => recording.attempts.add(note, recording.clock.uptime()),
            _ = tick.tick() => recording.tell_due(recording.clock.uptime()).await,
            Some(seen) = events.recv() => recording.see(&seen).await,
            _ = &mut stopped => break,
        }
        let now = recording.clock.uptime();
        let late = now.since(stored) > LATEST_STORE_MS;
        if events.is_empty() && recording.teller.has_stored() && (recording.waiting.0.is_empty() || late) {
            shelf.store(&context, &mut recording.observer.ledger).await;
            stored = now;
        }
    }
    while let Ok(seen) = events.try_recv() {
        recording.see(&seen).await;
    }
    recording.tell_due(Uptime(u64::MAX)).await;
    if recording.teller.is_stored().await {
        shelf.store_now(&context, &mut recording.observer.ledger).await;
    }
}

#[cfg(test)]
mod tests {
    use idm_audit::{RecordFilter, Spool, SpoolConfig};
    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::objects::Kind;
    use crate::reconcile::api_server::ApiServer;
    use crate::reconcile::parity::context;

    const NOTHING: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n";

    fn credential(version: u64, team: &str) -> Arc<DynamicObject> {
        let metadata = json!({
            "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": version.to_string(),
            "labels": {"identity-manager.io/team": team}, "creationTimestamp": "2027-01-01T00:00:00Z",
        });
        let object = json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential", "metadata": metadata,
            "spec": {"apiKey": {}},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn event(before: Option<&Arc<DynamicObject>>, now: Option<&Arc<DynamicObject>>) -> Seen {
        Seen { kind: Kind::Credential, before: before.cloned(), now: now.cloned(), initial: false }
    }

    /// An operator sees an empty cluster and then these events, and is stopped at once.
    async fn lead(server: &Arc<ApiServer>, spool: &Spool, events: &[Seen]) {
        let (_, notes) = tokio::sync::mpsc::channel(1);
        let (sender, recorder) = Recorder::start(Arc::new(context(server)), notes, spool.spool_handle());
        for kind in Kind::OURS.iter().copied() {
            sender.send(Seen { kind, before: None, now: None, initial: true }).unwrap();
        }
        events.iter().for_each(|seen| sender.send(seen.clone()).unwrap());
        recorder.finish().await;
    }

    #[tokio::test]
    async fn an_operator_that_is_stopped_leaves_nothing_to_be_told_again() {
        let server = ApiServer::new(NOTHING, NOTHING);
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(SpoolConfig::in_folder(dir.path(), 1 << 20)).unwrap();
        let (one, two) = (credential(1, "red"), credential(2, "blue"));
        lead(&server, &spool, &[event(None, Some(&one))]).await;
        // The listing of the second operator does not show it any more: it is told as deleted, once.
        lead(&server, &spool, &[event(None, Some(&two)), event(Some(&two), None)]).await;
        lead(&server, &spool, &[]).await;
        let told = idm_audit::read(dir.path(), &RecordFilter::default(), None, 100).unwrap().items;
        let told: Vec<_> = told.iter().map(|record| record.short()).collect();
        let count = |action: &str| told.iter().filter(|line| line.contains(action)).count();
        assert_eq!((told.len(), count("Created"), count("Deleted")), (4, 2, 2), "{told:#?}");
        spool.close();
    }
}
