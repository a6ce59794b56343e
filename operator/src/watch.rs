//! The state of the cluster now, and the namespaces that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;

use crate::objects::Kind;

type Objects = BTreeMap<(String, String), Arc<DynamicObject>>;

/// The watched objects, by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Store {
    kinds: Mutex<BTreeMap<Kind, Objects>>,
    synced: Mutex<BTreeSet<Kind>>,
}

/// An event of a watch. `before` is the object that the store held. Without both, it says that a listing is complete.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) before: Option<Arc<DynamicObject>>,
    pub(crate) now: Option<Arc<DynamicObject>>,
    /// From the first listing: it may have happened while no operator was running.
    pub(crate) initial: bool,
}

impl Store {
    /// The objects of a kind in a namespace.
    pub(crate) fn list(&self, kind: Kind, namespace: &str) -> Vec<Arc<DynamicObject>> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let all = kinds.get(&kind).into_iter().flatten();
        all.filter(|((ns, _), _)| ns == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The namespaces that have objects of a kind.
    pub(crate) fn namespaces(&self, kind: Kind) -> BTreeSet<String> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&kind).into_iter().flatten().map(|((namespace, _), _)| namespace.clone()).collect()
    }

    /// One object.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        self.kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&kind)?
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Whether every kind was listed once: before that, an absent object may exist.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).len() == Kind::ALL.len()
    }

    /// Keeps an object, in place of one of the same name.
    pub(crate) fn replace(&self, kind: Kind, object: Arc<DynamicObject>) -> Option<Arc<DynamicObject>> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(kind).or_default().insert(key(&object), object)
    }

    fn remove(&self, kind: Kind, object: &DynamicObject) -> Option<Arc<DynamicObject>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&kind)?.remove(&key(object))
    }

    /// After a complete listing: objects that were not in it were deleted.
    fn prune(&self, kind: Kind, listed: &BTreeSet<(String, String)>) -> Vec<Arc<DynamicObject>> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = kinds.entry(kind).or_default();
        let gone: Vec<_> = objects.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        gone.iter().filter_map(|key| objects.remove(key)).collect()
    }

    fn set_synced(&self, kind: Kind) {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }
}

fn key(object: &DynamicObject) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Watches a kind in an endless loop and reports its events.
pub(crate) async fn follow(client: Client, kind: Kind, context: Arc<crate::Context>, seen: UnboundedSender<Seen>) {
    let store = &context.store;
    let mut config = watcher::Config::default();
    if let Some(selector) = kind.selector() {
        config = config.labels(selector);
    }
    let mut events = watcher::watcher(kind.all(&client), config).boxed();
    let mut listed = BTreeSet::new();
    let mut pause = Duration::from_millis(200);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert(key(&object));
                let now = Arc::new(object);
                let before = store.replace(kind, now.clone());
                let _ = seen.send(Seen { kind, before, now: Some(now), initial: true });
            }
            Ok(Event::InitDone) => {
                for gone in store.prune(kind, &listed) {
                    let _ = seen.send(Seen { kind, before: Some(gone), now: None, initial: true });
                }
                store.set_synced(kind);
                let _ = seen.send(Seen { kind, before: None, now: None, initial: true });
                pause = Duration::from_millis(200);
            }
            Ok(Event::Apply(object)) => {
                let now = Arc::new(object);
                let before = store.replace(kind, now.clone());
                let _ = seen.send(Seen { kind, before, now: Some(now), initial: false });
            }
            Ok(Event::Delete(object)) => {
                let before = store.remove(kind, &object).or(Some(Arc::new(object)));
                let _ = seen.send(Seen { kind, before, now: None, initial: false });
            }
            Err(error) => {
                // Without the Gateway API there are no such objects; it may be installed later.
                let absent =
                    matches!(&error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
                if absent && kind.is_optional() {
                    store.set_synced(kind);
                    pause = Duration::from_secs(10);
                } else {
                    tracing::warn!(kind = kind.name(), %error, "watch broken; it starts again");
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

impl Seen {
    /// Whether it only says that a listing is complete.
    pub(crate) fn is_end_of_listing(&self) -> bool {
        self.before.is_none() && self.now.is_none()
    }

    /// The namespace concerned.
    pub(crate) fn namespace(&self) -> String {
        self.now.as_ref().or(self.before.as_ref()).and_then(|object| object.namespace()).unwrap_or_default()
    }

    /// Whether anything changed that a reconcile looks at: status written by ourselves does not count.
    pub(crate) fn matters(&self) -> bool {
        let (Some(before), Some(now)) = (&self.before, &self.now) else { return true };
        match self.kind {
            Kind::Pod => {
                before.data.pointer("/status/conditions") != now.data.pointer("/status/conditions")
                    || before.data.pointer("/status/podIP") != now.data.pointer("/status/podIP")
            }
            Kind::Service => {
                before.data.get("spec") != now.data.get("spec")
                    || before.data.get("status") != now.data.get("status")
                    || before.metadata.annotations != now.metadata.annotations
            }
            Kind::Deployment => {
                before.metadata.generation != now.metadata.generation
                    || before.data.get("status") != now.data.get("status")
            }
            _ => {
                before.metadata.generation != now.metadata.generation
                    || before.metadata.labels != now.metadata.labels
                    || before.metadata.annotations != now.metadata.annotations
                    || before.metadata.uid != now.metadata.uid
                    || self.initial
            }
        }
    }
}
