//! The state of the cluster now, and the namespaces that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use idm_api::v1alpha1::CredentialSpec;
use idm_compile::Object;
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;

use crate::objects::Kind;

/// A Credential, and what it was read as.
type Read = (Arc<DynamicObject>, Arc<Object<CredentialSpec>>);
type Objects = BTreeMap<(String, String), Arc<DynamicObject>>;

/// The watched objects, by kind, namespace and name.
#[derive(Default)]
pub(crate) struct Store {
    kinds: Mutex<BTreeMap<Kind, Objects>>,
    /// Credentials as they were read: there are many, and few of them change.
    credentials: Mutex<BTreeMap<String, Vec<Read>>>,
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
        let from = (namespace.to_owned(), String::new());
        let all = kinds.get(&kind).into_iter().flat_map(|objects| objects.range(from.clone()..));
        all.take_while(|((ns, _), _)| ns == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The Credentials of a namespace in the order of their names, as `read` reads those that were not read before.
    /// One that is being deleted is none.
    pub(crate) fn credentials<E>(
        &self,
        namespace: &str,
        read: impl Fn(&DynamicObject) -> Result<Arc<Object<CredentialSpec>>, E>,
    ) -> Vec<Result<Arc<Object<CredentialSpec>>, E>> {
        let all = self.list(Kind::Credential, namespace);
        let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.remove(namespace).unwrap_or_default();
        let mut before = before.into_iter().peekable();
        let (mut kept, mut out) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for object in all.into_iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
            // Both are in the order of their names.
            while before.next_if(|(old, _)| old.metadata.name < object.metadata.name).is_some() {}
            let same = before.next_if(|(old, _)| Arc::ptr_eq(old, &object)).map(|(_, credential)| Ok(credential));
            let credential = same.unwrap_or_else(|| read(&object));
            if let Ok(credential) = &credential {
                kept.push((object, credential.clone()));
            }
            out.push(credential);
        }
        if !kept.is_empty() {
            known.insert(namespace.to_owned(), kept);
        }
        out
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

/// An object as it is kept: of many objects, what nobody reads again is the larger part.
fn stored(kind: Kind, object: &Arc<DynamicObject>) -> Arc<DynamicObject> {
    if kind != Kind::Credential {
        return object.clone();
    }
    let mut object = DynamicObject::clone(object);
    object.metadata.managed_fields = None;
    Arc::new(object)
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
                let before = store.replace(kind, stored(kind, &now));
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
                let before = store.replace(kind, stored(kind, &now));
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

    /// The name of the object.
    pub(crate) fn name(&self) -> String {
        self.now.as_ref().or(self.before.as_ref()).map(|object| object.name_any()).unwrap_or_default()
    }

    /// Whether no policy depends on it: those of some methods contain the Credentials with passwords.
    pub(crate) fn is_of_keys(&self) -> bool {
        let has_password = |object: &Arc<DynamicObject>| object.data.pointer("/spec/password").is_some();
        match self.kind {
            Kind::Credential => !self.before.iter().chain(&self.now).any(has_password),
            Kind::Pod | Kind::Deployment => true,
            _ => false,
        }
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
