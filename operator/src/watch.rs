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
        read: impl Fn(&Arc<DynamicObject>) -> Result<Arc<Object<CredentialSpec>>, E>,
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

    pub(crate) fn remove(&self, kind: Kind, object: &DynamicObject) -> Option<Arc<DynamicObject>> {
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

/// An object as it is kept. There are many Credentials: what nobody reads again is left out, and the rest is text,
/// which takes a tenth of the room of a tree. [`unpacked`] reads it.
fn stored(kind: Kind, object: &Arc<DynamicObject>) -> Arc<DynamicObject> {
    if kind != Kind::Credential {
        return object.clone();
    }
    let mut metadata = object.metadata.clone();
    metadata.managed_fields = None;
    let data = serde_json::Value::String(object.data.to_string());
    Arc::new(DynamicObject { types: object.types.clone(), metadata, data })
}

/// The object that is kept so.
pub(crate) fn unpacked(object: &Arc<DynamicObject>) -> Arc<DynamicObject> {
    match &object.data {
        serde_json::Value::String(text) => {
            let data = serde_json::from_str(text).unwrap_or_default();
            Arc::new(DynamicObject { types: object.types.clone(), metadata: object.metadata.clone(), data })
        }
        _ => object.clone(),
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
                let before = store.replace(kind, stored(kind, &now)).map(|before| unpacked(&before));
                let _ = seen.send(Seen { kind, before, now: Some(now), initial: true });
            }
            Ok(Event::InitDone) => {
                for gone in store.prune(kind, &listed) {
                    let _ = seen.send(Seen { kind, before: Some(unpacked(&gone)), now: None, initial: true });
                }
                store.set_synced(kind);
                let _ = seen.send(Seen { kind, before: None, now: None, initial: true });
                pause = Duration::from_millis(200);
            }
            Ok(Event::Apply(object)) => {
                let now = Arc::new(object);
                let before = store.replace(kind, stored(kind, &now)).map(|before| unpacked(&before));
                let _ = seen.send(Seen { kind, before, now: Some(now), initial: false });
            }
            Ok(Event::Delete(object)) => {
                let before = store.remove(kind, &object).map(|before| unpacked(&before)).or(Some(Arc::new(object)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_kept_as_text_and_reads_back() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": "a", "namespace": "shop", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"apiKey": {}}, "status": {"prefix": "idm_1234"},
        }))
        .unwrap();
        let object = Arc::new(object);
        let kept = stored(Kind::Credential, &object);
        assert!(kept.data.is_string() && kept.metadata.managed_fields.is_none());
        let back = unpacked(&kept);
        assert_eq!((&back.data, &back.types), (&object.data, &object.types));
        assert_eq!(back.metadata.name, object.metadata.name);
        assert!(Arc::ptr_eq(&stored(Kind::Federation, &object), &object) && Arc::ptr_eq(&unpacked(&object), &object));
    }
}
