//! Tells a change: the record in the spool, and an event on the object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use idm_audit::{
    Action, Change, ChangeBetween, ChangeBy, ChangeOrigin, Evidence, ObjectName, Record, SCHEMA, SpoolHandle, Storing,
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::events::{Event, EventType};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::join::Author;
use super::observer::Changed;
use super::origin::{self, Source};
use crate::Context;

/// Events that wait for the API server. Beyond it they are left out: the records have every change.
const EVENTS: usize = 256;
/// Groups of a person that are recorded.
const GROUPS: usize = 64;
const NOTE: usize = 1000;
/// A GitOps object is asked once in this time.
const ASKED_AGAIN: Duration = Duration::from_secs(2);
const ASK: Duration = Duration::from_millis(500);

/// The author of a change, as it is told.
#[derive(Debug, PartialEq)]
pub(crate) struct By {
    pub(crate) evidence: Evidence,
    pub(crate) names: Vec<String>,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) manager: String,
}

impl By {
    /// The proof of attempts comes first; the words of the object about its writer are only asserted.
    pub(crate) fn of(changed: &Changed, author: Option<Author>) -> Self {
        let said = changed.writer.as_ref().map(|writer| writer.manager.clone());
        let Some(Author { evidence, persons, manager }) = author else {
            let evidence = if said.is_some() { Evidence::Asserted } else { Evidence::Unknown };
            let manager = said.unwrap_or_default();
            return Self { evidence, names: Vec::new(), uid: String::new(), groups: Vec::new(), manager };
        };
        let names = persons.iter().map(|person| person.name.clone()).collect();
        let (uid, groups) = match &persons[..] {
            [one] => (one.uid.clone(), one.groups.iter().take(GROUPS).cloned().collect()),
            _ => (String::new(), Vec::new()),
        };
        let manager = if manager.is_empty() { said.unwrap_or_default() } else { manager };
        Self { evidence, names, uid, groups, manager }
    }

    /// For people.
    pub(crate) fn actor(&self) -> String {
        match (&self.names[..], &*self.manager) {
            ([], "") => "unknown".to_owned(),
            ([], manager) => format!("unknown ({manager})"),
            (names, _) => names.join(" or "),
        }
    }
}

/// Writes records and events.
pub(crate) struct Teller {
    context: Arc<Context>,
    spool: SpoolHandle,
    /// The last record, while it is on its way to the disk.
    last: Option<Storing>,
    events: mpsc::Sender<(Event, ObjectReference)>,
    revisions: BTreeMap<Source, (Instant, Option<String>)>,
    _publisher: tokio::task::JoinSet<()>,
}

impl Teller {
    pub(crate) fn new(context: Arc<Context>, spool: SpoolHandle) -> Self {
        let (events, receiver) = mpsc::channel(EVENTS);
        let mut publisher = tokio::task::JoinSet::new();
        publisher.spawn(publish(context.clone(), receiver));
        Self { context, spool, last: None, events, revisions: BTreeMap::new(), _publisher: publisher }
    }

    /// Whether all that was told is on disk.
    pub(crate) fn has_stored(&mut self) -> bool {
        if let Some(last) = &mut self.last {
            if last.now_or_never().is_none() {
                return false;
            }
            self.last = None;
        }
        self.spool.is_open()
    }

    /// Waits until all that was told is on disk, and says whether it is.
    pub(crate) async fn is_stored(&mut self) -> bool {
        match self.last.take() {
            Some(last) => last.await.is_ok(),
            None => self.spool.is_open(),
        }
    }

    /// Records a change.
    pub(crate) async fn tell(&mut self, changed: Changed, author: Option<Author>) {
        let by = By::of(&changed, author);
        let object = changed.object.as_deref();
        let origin = object.and_then(|object| origin::of(object, changed.kind.name(), &by.manager));
        let (mut application, mut revision) = (None, None);
        if let Some(source) = origin.as_ref().and_then(|origin| origin.source.as_ref()) {
            application = Some(format!("{}/{}", source.namespace, source.name));
            revision = self.revision(source).await;
        }
        let actor = by.actor();
        let record = Record::Change(Change {
            time: changed.time,
            id: &changed.id.to_string(),
            schema: SCHEMA,
            action: changed.action,
            object: ObjectName {
                kind: changed.kind.name(),
                namespace: &changed.namespace,
                name: &changed.name,
                uid: &changed.subject.uid,
                generation: changed.generation,
                version: &changed.version,
            },
            actor: &actor,
            by: ChangeBy {
                evidence: by.evidence,
                names: &by.names,
                uid: &by.uid,
                groups: &by.groups,
                manager: &by.manager,
            },
            origin: origin.as_ref().map(|origin| ChangeOrigin {
                tool: origin.tool,
                evidence: Evidence::Asserted,
                application: application.as_deref(),
                revision: revision.as_deref(),
                mismatched: origin.mismatched,
            }),
            between: changed.between.map(|(from, to)| ChangeBetween { from, to }),
            diff: &changed.diff,
        });
        self.last = Some(self.spool.record_durably(&record));
        self.context.change_count.count(by.evidence);
        if changed.action != Action::Found {
            let _ = self.events.try_send(event(&changed, &by, &actor));
        }
    }

    /// The revision that a GitOps object says it applies, where the operator may read it.
    async fn revision(&mut self, source: &Source) -> Option<String> {
        if !self.context.changes.gitops {
            return None;
        }
        let now = Instant::now();
        self.revisions.retain(|_, (until, _)| *until > now);
        if let Some((_, known)) = self.revisions.get(source) {
            return known.clone();
        }
        let (group, version, kind, plural) = source.kind.resource();
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), &source.namespace, &resource);
        let found = tokio::time::timeout(ASK, api.get_opt(&source.name)).await.ok().and_then(Result::ok).flatten();
        let revision = found.and_then(|object| source.kind.revision(&object.data));
        self.revisions.insert(source.clone(), (now + ASKED_AGAIN, revision.clone()));
        revision
    }
}

fn event(changed: &Changed, by: &By, actor: &str) -> (Event, ObjectReference) {
    let reason = match changed.action {
        Action::Created => "Created",
        Action::Updated => "Changed",
        Action::Deleted => "Deleted",
        Action::Found => "Found",
    };
    let note =
        format!("{reason} by {actor} ({}), record {}: {}", by.evidence.name(), changed.id, changed.diff.join("; "));
    let end = note.char_indices().nth(NOTE).map_or(note.len(), |(end, _)| end);
    let note = note.get(..end).unwrap_or_default();
    let event = Event {
        type_: EventType::Normal,
        reason: reason.into(),
        note: Some(idm_types::visible(note).into_owned()),
        action: "Record".into(),
        secondary: None,
    };
    let reference = changed.kind.reference(Some(&changed.namespace), &changed.name, Some(changed.subject.uid.clone()));
    (event, reference)
}

async fn publish(context: Arc<Context>, mut events: mpsc::Receiver<(Event, ObjectReference)>) {
    while let Some((event, reference)) = events.recv().await {
        // A namespace that is being deleted takes none.
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            tracing::debug!(%error, "an event could not be written");
        }
    }
}
