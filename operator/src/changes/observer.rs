//! Which events of the watches are changes: what differs from the ledger. It has no clock and no IO.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use idm_audit::Action;
use idm_diff::{Content, Digest, diff};
use idm_types::{DecisionId, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::core::DynamicObject;

use super::join::{Became, Subject};
use super::ledger::{Entry, Ledger, link};
use super::origin::Writer;
use crate::objects::Kind;
use crate::watch::Seen;

/// Clocks of API servers and of the operator may differ by this, in milliseconds.
const SKEW_MS: u64 = 60_000;

/// A change that is to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct Changed {
    pub(crate) id: DecisionId,
    pub(crate) action: Action,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
    pub(crate) version: String,
    pub(crate) time: Timestamp,
    /// It happened while nobody watched: between these times.
    pub(crate) between: Option<(Option<Timestamp>, Timestamp)>,
    /// For its author.
    pub(crate) subject: Subject,
    /// The field manager that the object names for it.
    pub(crate) writer: Option<Writer>,
    pub(crate) diff: Vec<String>,
    /// The object after it, or before its deletion; not there when it was deleted while nobody watched.
    pub(crate) object: Option<Arc<DynamicObject>>,
}

/// The state that tells changes from repetitions.
#[derive(Default)]
pub(crate) struct Observer {
    pub(crate) ledger: Ledger,
    /// There was no ledger: what the first listings show was there before.
    is_new: bool,
    /// Until this time another operator watched.
    watched_until: Option<Timestamp>,
    /// The resource versions after the last events; status moves them too.
    versions: HashMap<String, String>,
    /// The objects that the first listing of their kind showed.
    present: HashSet<String>,
    listed: BTreeSet<Kind>,
}

/// One state of an object, taken apart once.
struct State<'s> {
    object: &'s Arc<DynamicObject>,
    uid: String,
    content: Content,
    digest: Digest,
}

impl<'s> State<'s> {
    fn of(object: &'s Arc<DynamicObject>) -> Self {
        let content = Content::of(object);
        Self { object, uid: object.uid().unwrap_or_default(), digest: content.digest(), content }
    }
}

impl Observer {
    /// An observer that begins with a ledger; where there was none, it is new.
    pub(crate) fn new(ledger: Ledger, is_new: bool, watched_until: Option<Timestamp>) -> Self {
        Self { ledger, is_new, watched_until, ..Self::default() }
    }

    /// The changes that an event shows: none, one, or two where an object was replaced by another one of its name.
    pub(crate) fn see(&mut self, seen: &Seen, now: Timestamp) -> Vec<Changed> {
        let mut out = Vec::new();
        let replaced = match (&seen.before, &seen.now) {
            (None, None) => return self.listed(seen.kind, now),
            (Some(before), Some(after)) => before.uid() != after.uid(),
            _ => false,
        };
        if let Some(gone) = seen.before.as_ref().filter(|_| replaced || seen.now.is_none()) {
            out.extend(self.deleted(seen, gone, now));
        }
        if let Some(object) = &seen.now {
            let before = seen.before.as_ref().filter(|_| !replaced);
            out.extend(self.exists(seen, before, object, now));
        }
        out
    }

    fn exists(
        &mut self,
        seen: &Seen,
        before: Option<&Arc<DynamicObject>>,
        object: &Arc<DynamicObject>,
        now: Timestamp,
    ) -> Option<Changed> {
        let state = State::of(object);
        let version = object.resource_version().unwrap_or_default();
        let known_version = self.versions.insert(state.uid.clone(), version.clone());
        let first = !self.listed.contains(&seen.kind);
        if first {
            self.present.insert(state.uid.clone());
        }
        let entry = self.ledger.get(&state.uid).cloned();
        if entry.as_ref().is_some_and(|entry| entry.digest == state.digest) {
            return None;
        }
        let writer = Writer::last_of(object);
        let created = object.creation_timestamp().as_ref().map(timestamp);
        let action = match &entry {
            Some(_) => Action::Updated,
            None if first && seen.initial && self.was_there(created) => Action::Found,
            None => Action::Created,
        };
        let own = own_time(action, entry.as_ref(), created, writer.as_ref(), now);
        let chain = link(&state.uid, entry.as_ref(), Some(&state.digest));
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let entry_now = Entry::new(seen.kind, (&namespace, &name), state.digest, chain, own);
        self.ledger.put(&state.uid, entry_now);
        let before = before.map(|before| Content::of(before));
        let became = match action {
            Action::Updated => {
                let was_ending = before.as_ref().is_some_and(Content::is_ending);
                Became::Updated { to: state.digest, ending: state.content.is_ending() && !was_ending }
            }
            _ => Became::Created,
        };
        let diff = match (&before, action) {
            (None, Action::Updated) => vec!["the content before it is not known".to_owned()],
            (before, _) => diff(seen.kind.name(), before.as_ref(), Some(&state.content)),
        };
        let unwatched = first && seen.initial && action != Action::Found;
        Some(Changed {
            id: id(own, &chain),
            action,
            kind: seen.kind,
            namespace,
            name,
            generation: object.metadata.generation.unwrap_or(0),
            version,
            time: if unwatched { self.within(own, now) } else { now },
            between: unwatched.then_some((self.watched_until, now)),
            subject: Subject { uid: state.uid, base: known_version.filter(|_| !seen.initial), became },
            writer: writer.filter(|writer| wrote(writer, entry.as_ref())),
            diff,
            object: Some(state.object.clone()),
        })
    }

    fn deleted(&mut self, seen: &Seen, object: &Arc<DynamicObject>, now: Timestamp) -> Option<Changed> {
        let uid = object.uid().unwrap_or_default();
        let base = self.versions.remove(&uid).filter(|_| !seen.initial);
        let entry = self.ledger.get(&uid).cloned()?;
        let asked = object.metadata.deletion_timestamp.as_ref();
        let asked = asked.map(timestamp);
        let (chain, own) = (link(&uid, Some(&entry), None), asked.unwrap_or(entry.time).max(entry.time));
        self.ledger.remove(&uid);
        Some(Changed {
            id: id(own, &chain),
            action: Action::Deleted,
            kind: seen.kind,
            namespace: entry.namespace,
            name: entry.name,
            generation: object.metadata.generation.unwrap_or(0),
            version: String::new(),
            time: now,
            between: None,
            subject: Subject { uid, base, became: Became::Deleted },
            writer: None,
            diff: diff(seen.kind.name(), Some(&Content::of(object)), None),
            object: Some(object.clone()),
        })
    }

    /// The first listing of a kind is complete: what the ledger has besides was deleted while nobody watched.
    fn listed(&mut self, kind: Kind, now: Timestamp) -> Vec<Changed> {
        if !self.listed.insert(kind) {
            return Vec::new();
        }
        let gone = self.ledger.of_kind(kind).filter(|(uid, _)| !self.present.contains(*uid));
        let gone: Vec<_> = gone.map(|(uid, entry)| (uid.clone(), entry.clone())).collect();
        gone.iter().for_each(|(uid, _)| self.ledger.remove(uid));
        let all = gone.into_iter().map(|(uid, entry)| Changed {
            id: id(entry.time, &link(&uid, Some(&entry), None)),
            action: Action::Deleted,
            kind,
            namespace: entry.namespace,
            name: entry.name,
            generation: 0,
            version: String::new(),
            time: now,
            between: Some((self.watched_until, now)),
            subject: Subject { uid, base: None, became: Became::Deleted },
            writer: None,
            diff: Vec::new(),
            object: None,
        });
        let all = all.collect();
        if self.listed.len() == Kind::OURS.len() {
            self.present = HashSet::new();
        }
        all
    }

    /// Whether an object that the ledger does not know was there before somebody watched.
    fn was_there(&self, created: Option<Timestamp>) -> bool {
        let since = self.watched_until.map(|until| until.0.saturating_sub(SKEW_MS));
        self.is_new || matches!((created, since), (Some(created), Some(since)) if created.0 < since)
    }

    /// A time that an object tells, if it can be true of a change that happened while nobody watched.
    fn within(&self, own: Timestamp, now: Timestamp) -> Timestamp {
        let from = self.watched_until.map_or(0, |until| until.0.saturating_sub(SKEW_MS));
        if (from..=now.0).contains(&own.0) { own } else { now }
    }
}

/// The time of a change as the object tells it, which is the same for everybody who looks. It never lies before the
/// object's last change or, because writers choose it, in the future.
fn own_time(
    action: Action,
    entry: Option<&Entry>,
    created: Option<Timestamp>,
    writer: Option<&Writer>,
    now: Timestamp,
) -> Timestamp {
    let told = match action {
        Action::Updated => writer.and_then(|writer| writer.time).map(Timestamp),
        _ => created,
    };
    let floor = entry.map_or(Timestamp(0), |entry| entry.time);
    told.filter(|told| told.0 <= now.0.saturating_add(SKEW_MS)).unwrap_or(floor).max(floor)
}

/// Whether a writer may have made a change after the last one that is known; its time has whole seconds.
fn wrote(writer: &Writer, entry: Option<&Entry>) -> bool {
    let Some(entry) = entry else { return true };
    writer.time.is_some_and(|time| time / 1000 >= entry.time.0 / 1000)
}

/// A time before 1970 is 1970.
fn timestamp(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

fn id(own: Timestamp, chain: &Digest) -> DecisionId {
    DecisionId::from_parts(own.0, u128::from_be_bytes(*chain))
}
