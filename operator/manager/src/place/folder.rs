//! A folder of YAML as the place of objects. The person is the owner of the folder, who may do everything; the running
//! gateway takes a change because it watches the folder.

pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod snapshot;
mod try_login;
mod view;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use idm_audit::SpoolHandle;
use idm_compile::Settings;
use idm_gateway::Gateway;
use idm_permission::{Kind, Permission, Verb};
use idm_types::{Redacted, Timestamp};

use super::draft::credential_spec;
use super::{AuditScope, Draft, ListQuery, Namespaces, ObjectRef, Place, Understood};
use crate::FolderOptions;
use crate::call::blocking;
use crate::failure::{Code, Failure};
use crate::session::{Access, Person};
use crate::table::Later;
use crate::wire::audit::{Expiring, Failing};
use crate::wire::federation::TriedLoginView;
use crate::wire::{Allowed, Checked, GatewayView, MadeKey, Mode, NewCredential, ObjectView, OldKey, Page, Revoked};
use snapshot::{Files, FolderReader, Snapshot};

/// By what the person of a folder may do everything.
const OWNER: &str = "the owner of this folder";

/// The objects of a folder.
pub(crate) struct FolderPlace(Arc<Inner>);

pub(crate) struct Inner {
    dir: PathBuf,
    settings: Settings,
    gateway: Arc<Gateway>,
    reader: Mutex<FolderReader>,
    spool: Mutex<SpoolHandle>,
}

impl FolderPlace {
    /// `None` where the gateway has no spool any more.
    pub(crate) fn new(options: FolderOptions) -> Option<Self> {
        let FolderOptions { dir, settings, gateway, audit_dir: _, elasticsearch: _ } = options;
        let spool = Mutex::new(gateway.spool_handle()?);
        let reader = Mutex::default();
        Some(Self(Arc::new(Inner { dir, settings, gateway, reader, spool })))
    }

    /// Does work that reads or writes files, away from the tasks that answer.
    fn blocking<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Failure> + Send + 'static,
    ) -> Later<'a, T> {
        let inner = self.0.clone();
        Box::pin(async move { blocking(move || work(&inner)).await? })
    }

    /// The same for a change, whose record is on disk before it is answered.
    fn recorded<'a, T: Send + 'static>(
        &self,
        person: &Person,
        work: impl FnOnce(&Inner) -> Result<(T, Vec<write::Recorded>), Failure> + Send + 'static,
    ) -> Later<'a, T> {
        let (inner, person) = (self.0.clone(), person.clone());
        Box::pin(async move {
            if !inner.spool.lock().unwrap_or_else(PoisonError::into_inner).is_open() {
                return Err(Failure::unavailable("nothing can be changed while no record can be stored: see the log"));
            }
            let worker = inner.clone();
            let (answer, changes) = blocking(move || work(&worker)).await??;
            for change in changes {
                let storing = change.tell(&person, &inner.spool.lock().unwrap_or_else(PoisonError::into_inner));
                if storing.await.is_err() {
                    return Err(Failure::unavailable("it is done, and its record is not stored yet: see the log"));
                }
            }
            Ok(answer)
        })
    }
}

impl Inner {
    fn now(&self) -> Result<Arc<Snapshot>, Failure> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).now(&self.dir, self.settings)
    }

    /// The folder as it would be with these files.
    fn with(&self, files: Files) -> Snapshot {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).of(files, self.settings)
    }

    /// Refuses a namespace that is not that of the folder.
    fn here(&self, namespace: &str) -> Result<Arc<Snapshot>, Failure> {
        let snapshot = self.now()?;
        if snapshot.namespace != namespace {
            let message = format!("the objects of this folder are in the namespace `{}`", snapshot.namespace);
            return Err(Failure::new(Code::NotFound, message));
        }
        Ok(snapshot)
    }
}

impl Place for FolderPlace {
    fn mode(&self) -> Mode {
        Mode::Folder
    }

    fn warm<'a>(&'a self) -> Later<'a, ()> {
        self.blocking(|inner| inner.now().map(drop))
    }

    fn sign_in<'a>(&'a self, _: Option<Access>) -> Later<'a, Person> {
        self.blocking(|inner| Ok(view::owner(&inner.dir)))
    }

    fn namespaces<'a>(&'a self, _person: &'a Person) -> Later<'a, Namespaces> {
        self.blocking(|inner| Ok(Namespaces { names: vec![inner.now()?.namespace.clone()], note: None }))
    }

    fn audited<'a>(&'a self, _person: &'a Person, _namespace: Option<&'a str>) -> Later<'a, AuditScope> {
        Box::pin(async { Ok(AuditScope::All) })
    }

    fn permissions<'a>(
        &'a self,
        _person: &'a Person,
        _namespace: &'a str,
    ) -> Later<'a, BTreeMap<String, BTreeMap<String, Allowed>>> {
        let allowed = || Allowed { allowed: true, by: Some(OWNER.to_owned()), missing: None };
        let of = |kind: Kind| {
            let verbs = Verb::ALL.iter().filter(move |verb| verb.is_of(kind));
            (kind.name().to_owned(), verbs.map(|verb| (verb.name().to_owned(), allowed())).collect())
        };
        let all = Kind::ALL.iter().copied().map(of).collect();
        Box::pin(async move { Ok(all) })
    }

    fn permit<'a>(&'a self, _: &'a Person, _: Permission, _: &'a str, _: &'a str) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn list<'a>(&'a self, _person: &'a Person, query: ListQuery) -> Later<'a, Page> {
        self.blocking(move |inner| {
            let snapshot = inner.now()?;
            if query.namespace.as_ref().is_some_and(|namespace| *namespace != snapshot.namespace) {
                return Ok(Page { items: vec![], next: None, total: Some(0) });
            }
            Ok(view::page(&snapshot, &query))
        })
    }

    fn object<'a>(&'a self, _person: &'a Person, object: &'a ObjectRef) -> Later<'a, ObjectView> {
        let object = object.clone();
        self.blocking(move |inner| view::object(&*inner.here(&object.namespace)?, &object))
    }

    fn check<'a>(&'a self, _person: &'a Person, draft: Draft) -> Later<'a, Checked> {
        self.blocking(move |inner| write::check(inner, &draft))
    }

    fn save<'a>(&'a self, person: &'a Person, draft: Draft) -> Later<'a, ObjectView> {
        self.recorded(person, move |inner| write::save(inner, &draft))
    }

    fn delete<'a>(&'a self, person: &'a Person, object: ObjectRef, version: String) -> Later<'a, ()> {
        self.recorded(person, move |inner| write::delete(inner, &object, &version))
    }

    fn gateways<'a>(&'a self, _person: &'a Person, namespace: Option<&'a str>) -> Later<'a, Vec<GatewayView>> {
        let namespace = namespace.map(str::to_owned);
        self.blocking(move |inner| {
            let snapshot = inner.now()?;
            let is_asked = namespace.is_none_or(|namespace| namespace == snapshot.namespace);
            Ok(is_asked.then(|| view::gateway(&snapshot, &inner.gateway)).into_iter().collect())
        })
    }

    fn understood<'a>(&'a self, _person: &'a Person, namespace: &'a str) -> Later<'a, Arc<Understood>> {
        let namespace = namespace.to_owned();
        self.blocking(move |inner| {
            let snapshot = inner.here(&namespace)?;
            let broken = |_: &Vec<_>| Failure::new(Code::Refused, "a file of the folder is broken: see the findings");
            snapshot.read.as_ref().cloned().map_err(broken)
        })
    }

    fn drafted<'a>(&'a self, _person: &'a Person, draft: Draft) -> Later<'a, Arc<Understood>> {
        self.blocking(move |inner| write::drafted(inner, &draft))
    }

    fn try_login<'a>(
        &'a self,
        person: &'a Person,
        federation: ObjectRef,
        username: String,
        password: Redacted<String>,
    ) -> Later<'a, TriedLoginView> {
        let gateway = self.0.gateway.clone();
        Box::pin(async move {
            let read = self.understood(person, &federation.namespace).await?;
            try_login::run(&gateway, &read, &federation.name, &username, password).await
        })
    }

    fn attention<'a>(&'a self, _person: &'a Person, now: Timestamp) -> Later<'a, (Vec<Failing>, Vec<Expiring>)> {
        self.blocking(move |inner| Ok(view::attention(&*inner.now()?, now)))
    }

    fn create_credential<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        new: NewCredential,
    ) -> Later<'a, MadeKey> {
        let namespace = namespace.to_owned();
        self.recorded(person, move |inner| {
            let (name, spec) = credential_spec(new)?;
            write::create_credential(inner, &namespace, &name, spec)
        })
    }

    fn rotate<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        overlap_seconds: u64,
    ) -> Later<'a, MadeKey> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.recorded(person, move |inner| write::rotate(inner, &namespace, &name, overlap_seconds))
    }

    fn revoke<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        key: Option<String>,
    ) -> Later<'a, Revoked> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.recorded(person, move |inner| write::revoke(inner, &namespace, &name, key.as_deref()))
    }
}

fn made(made: crate::Made) -> MadeKey {
    let crate::Made { name, key, id, old, file: _ } = made;
    let old = old.map(|(id, until_time)| OldKey { id, until_time });
    MadeKey { name, key: Some(key.reveal().to_owned()), secret: None, id: Some(id), old }
}
