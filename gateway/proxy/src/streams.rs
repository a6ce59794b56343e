//! Streams that are open after their request was decided: WebSockets, event streams, calls of gRPC, long answers. They
//! are known by their caller, so that the end of a Credential, a key or a session ends them, and nobody else's.
//!
//! Nothing is asked about a stream while nothing changes: a new configuration, a revocation and the next expiry are
//! what makes a core look at the callers who have streams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use idm_decide::{Armed, ArmedPolicy, Identity, Standing, Trace};
use idm_plan::ObjectKey;
use idm_types::{Reason, Timestamp};
use tokio::sync::{Notify, oneshot};

use crate::Metrics;
use crate::core::{Core, Local};
use crate::watch::Cause;

/// A request that got no answer for this long is a stream, too. Shorter ones cost no place.
const SETTLED: Duration = Duration::from_millis(500);
/// Answers that are longer than this, or of unknown length, are streams.
pub(crate) const LONG_ANSWER: u64 = 1 << 20;
/// The time until a core looks again though it knows of no end: clocks are set.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// The streams of one core by their callers.
#[derive(Default)]
pub(crate) struct Streams {
    callers: RefCell<HashMap<Rc<str>, Caller>>,
    number: Cell<u64>,
    /// The first time at which a caller's right ends by itself.
    next_end: Cell<Option<Timestamp>>,
    /// A caller came whose right ends sooner.
    pub(crate) sooner: Notify,
}

struct Caller {
    who: Rc<Identity>,
    policy: ObjectKey,
    open: HashMap<u64, oneshot::Sender<Reason>>,
}

/// The caller of a request that may become a stream. Making it costs nothing but two counters.
pub(crate) struct Candidate {
    core: Rc<Core>,
    local: Rc<Local>,
    policy: usize,
    who: Rc<Identity>,
}

/// The place of one stream among those of its caller. It is free again when this is dropped.
pub(crate) struct Place {
    core: Rc<Core>,
    caller: Rc<str>,
    number: u64,
    cut: oneshot::Receiver<Reason>,
}

impl Candidate {
    /// The caller of a request, if there is anything that could end the caller's right.
    pub(crate) fn of(core: &Rc<Core>, local: &Rc<Local>, trace: &Trace) -> Option<Self> {
        let (who, _) = trace.identity.as_ref()?;
        let policy = trace.policy.filter(|_| ArmedPolicy::can_end(who))?;
        Some(Self { core: core.clone(), local: local.clone(), policy, who: who.clone() })
    }

    /// Waits for an answer; when it takes its time, the end of the caller's right ends the wait, too.
    pub(crate) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, Reason> {
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(SETTLED, &mut answer).await {
            return Ok(answer);
        }
        let Some(place) = self.place() else { return Ok(answer.await) };
        tokio::select! {
            answer = &mut answer => Ok(answer),
            reason = place.cut() => Err(reason),
        }
    }

    /// Takes a place. Whoever has no right any more by now is cut at once.
    pub(crate) fn place(&self) -> Option<Place> {
        let Self { core, local, policy, who } = self;
        let policy = local.configuration.engine().policies().nth(*policy)?.key.clone();
        let (sender, cut) = oneshot::channel();
        let streams = &core.streams;
        let number = streams.number.get();
        streams.number.set(number.wrapping_add(1));
        let name: Rc<str> = name_of(&policy, who).into();
        let mut callers = streams.callers.borrow_mut();
        let caller = callers.entry(name.clone());
        let caller =
            caller.or_insert_with(|| Caller { who: who.clone(), policy: policy.clone(), open: HashMap::new() });
        caller.open.insert(number, sender);
        drop(callers);
        // The configuration may have changed since the request was decided.
        if let Some(now_in_force) = core.local() {
            let (armed, now) = (now_in_force.configuration.armed(), Timestamp::now());
            match armed.standing(&policy, who, now) {
                Standing::Until(end) => streams.note_end(end),
                Standing::Over(reason) => streams.end(&name, reason, armed.drain(&policy), core.shared.metrics()),
            }
        }
        Some(Place { core: core.clone(), caller: name, number, cut })
    }
}

/// The name of a caller's right: requests that have it end together.
fn name_of(policy: &ObjectKey, who: &Identity) -> String {
    let session =
        who.session.as_ref().map(|session| session.keys.iter().map(|key| key.hex()).collect::<Vec<_>>().join(","));
    let parts = [Some(&who.id), who.kid.as_ref(), who.token_id.as_ref(), session.as_ref()];
    parts.iter().fold(policy.to_string(), |name, part| format!("{name}\n{}", part.map_or("", String::as_str)))
}

impl Place {
    /// Waits until the stream must end.
    pub(crate) async fn cut(mut self) -> Reason {
        std::future::poll_fn(|cx| self.poll_cut(cx)).await
    }

    /// Whether the stream must end, and why.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        if self.cut.is_terminated() {
            return Poll::Pending;
        }
        match Pin::new(&mut self.cut).poll(cx) {
            Poll::Ready(Ok(reason)) => Poll::Ready(reason),
            // The sender waits in the list as long as this does.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.core.streams.callers.borrow_mut();
        let Some(caller) = callers.get_mut(&self.caller) else { return };
        caller.open.remove(&self.number);
        if caller.open.is_empty() {
            callers.remove(&self.caller);
        }
    }
}

impl Streams {
    /// The time until the first right ends by itself.
    pub(crate) fn wait(&self, now: Timestamp) -> Duration {
        let next = self.next_end.get().map_or(LOOK_AGAIN, |end| Duration::from_millis(end.0.saturating_sub(now.0)));
        next.min(LOOK_AGAIN)
    }

    fn note_end(&self, end: Option<Timestamp>) {
        let Some(end) = end else { return };
        if self.next_end.get().is_none_or(|next| end < next) {
            self.next_end.set(Some(end));
            self.sooner.notify_one();
        }
    }

    /// Looks at every caller who has streams, and ends those whose right has ended.
    pub(crate) fn check(&self, armed: &Armed, metrics: &Metrics, now: Timestamp) {
        self.next_end.set(None);
        let mut over: Vec<(Rc<str>, ObjectKey, Reason)> = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (name, caller) in self.callers.borrow().iter() {
            match armed.standing(&caller.policy, &caller.who, now) {
                Standing::Until(end) => next = next.into_iter().chain(end).min(),
                Standing::Over(reason) => over.push((name.clone(), caller.policy.clone(), reason)),
            }
        }
        self.next_end.set(next);
        for (name, policy, reason) in over {
            self.end(&name, reason, armed.drain(&policy), metrics);
        }
    }

    /// Ends all streams of a caller, now or after a while. They leave the list when they are gone.
    fn end(&self, name: &str, reason: Reason, drain: Duration, metrics: &Metrics) {
        let mut callers = self.callers.borrow_mut();
        let Some(caller) = callers.get_mut(name) else { return };
        let cut: Vec<oneshot::Sender<Reason>> = caller.open.drain().map(|(_, sender)| sender).collect();
        drop(callers);
        metrics.connections_closed(Cause::RightEnded, cut.len() as u64);
        let send = move || {
            for sender in cut {
                // A stream that is gone is not told.
                let _ = sender.send(reason);
            }
        };
        if drain.is_zero() {
            return send();
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(drain).await;
            send();
        });
    }
}
