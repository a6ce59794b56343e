//! The border behind which the objects are: a folder, or a cluster. What asks for them does not know which.

pub(crate) mod cluster;
mod draft;
pub(crate) mod folder;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use idm_api::v1alpha1::RequestDecision;
use idm_compile::{Compiled, World};
use idm_permission::{Denial, Permission};
use idm_types::{Redacted, Timestamp};

use crate::failure::{Code, Failure};
use crate::kind::ObjectKind;
use crate::requests::{NewRequest, RequestView};
use crate::session::{Access, Person};
use crate::table::Later;
use crate::wire::audit::{Expiring, Failing};
use crate::wire::federation::TriedLoginView;
use crate::wire::request::RequestList;
use crate::wire::{Allowed, CheckDraft, Checked, GatewayView, MadeKey, Mode, NewCredential, ObjectView, Page, Revoked};

/// Which part of a list is asked for.
#[derive(Clone, Debug)]
pub(crate) struct ListQuery {
    pub(crate) kind: ObjectKind,
    pub(crate) namespace: Option<String>,
    pub(crate) team: Option<String>,
    /// A part of the name, the owner, the team or a key's id, in lower case.
    pub(crate) search: Option<String>,
    pub(crate) limit: usize,
    pub(crate) after: Option<String>,
}

/// One object by its name.
#[derive(Clone, Debug)]
pub(crate) struct ObjectRef {
    pub(crate) kind: ObjectKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A new content of an object.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) object: ObjectRef,
    pub(crate) yaml: String,
    /// The version that it was made of; `None` makes the object.
    pub(crate) version: Option<String>,
}

impl Draft {
    /// # Errors
    /// There is no such kind.
    pub(crate) fn of(draft: CheckDraft) -> Result<Self, Failure> {
        let CheckDraft { kind, namespace, name, yaml, version } = draft;
        Ok(Self { object: ObjectRef { kind: kind.parse()?, namespace, name }, yaml, version })
    }
}

/// A namespace that compiles.
pub(crate) struct Understood {
    pub(crate) world: World,
    pub(crate) compiled: Compiled,
    /// The permissions without which it is not whole.
    pub(crate) missing: Vec<Denial>,
}

/// The namespaces of a person.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    pub(crate) names: Vec<String>,
    /// Why there may be more.
    pub(crate) note: Option<String>,
}

/// The namespaces whose records a person may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuditScope {
    All,
    Of(Vec<String>),
}

/// A place of objects.
pub(crate) trait Place: Send + Sync {
    fn mode(&self) -> Mode;

    /// Reads what the first page will need, so that nobody waits for it.
    fn warm<'a>(&'a self) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The person whom the code stands for, or whose token it is.
    fn sign_in<'a>(&'a self, access: Option<Access>) -> Later<'a, Person>;

    fn namespaces<'a>(&'a self, person: &'a Person) -> Later<'a, Namespaces>;

    /// The records that the person may read, of one namespace or of all.
    fn audited<'a>(&'a self, person: &'a Person, namespace: Option<&'a str>) -> Later<'a, AuditScope>;

    /// Verbs by kind, in a namespace.
    fn permissions<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
    ) -> Later<'a, BTreeMap<String, BTreeMap<String, Allowed>>>;

    /// Refuses who may not do this here, as far as that is known before it is tried; the name may be empty.
    fn permit<'a>(
        &'a self,
        person: &'a Person,
        permission: Permission,
        namespace: &'a str,
        name: &'a str,
    ) -> Later<'a, ()>;

    fn list<'a>(&'a self, person: &'a Person, query: ListQuery) -> Later<'a, Page>;

    fn object<'a>(&'a self, person: &'a Person, object: &'a ObjectRef) -> Later<'a, ObjectView>;

    /// The effects of a change; nothing is written.
    fn check<'a>(&'a self, person: &'a Person, draft: Draft) -> Later<'a, Checked>;

    fn save<'a>(&'a self, person: &'a Person, draft: Draft) -> Later<'a, ObjectView>;

    fn delete<'a>(&'a self, person: &'a Person, object: ObjectRef, version: String) -> Later<'a, ()>;

    fn gateways<'a>(&'a self, person: &'a Person, namespace: Option<&'a str>) -> Later<'a, Vec<GatewayView>>;

    /// The objects of a namespace with what they compile to.
    fn understood<'a>(&'a self, person: &'a Person, namespace: &'a str) -> Later<'a, Arc<Understood>>;

    /// The namespace of an object as it would be with the draft; nothing is written.
    fn drafted<'a>(&'a self, _person: &'a Person, _draft: Draft) -> Later<'a, Arc<Understood>> {
        Box::pin(async { Err(Failure::unavailable("drafts are tried where the Secrets are known: in a folder")) })
    }

    /// Tries a login at a Federation that is a directory. The password goes there once, and nowhere else.
    fn try_login<'a>(
        &'a self,
        _person: &'a Person,
        _federation: ObjectRef,
        _username: String,
        _password: Redacted<String>,
    ) -> Later<'a, TriedLoginView> {
        let why = "logins are tried where a gateway runs beside the objects: use `idm idp try`";
        Box::pin(async move { Err(Failure::unavailable(why)) })
    }

    /// Objects that are not in force, and what ends soon.
    fn attention<'a>(&'a self, person: &'a Person, now: Timestamp) -> Later<'a, (Vec<Failing>, Vec<Expiring>)>;

    fn create_credential<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        new: NewCredential,
    ) -> Later<'a, MadeKey>;

    fn rotate<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        overlap_seconds: u64,
    ) -> Later<'a, MadeKey>;

    fn revoke<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        key: Option<String>,
    ) -> Later<'a, Revoked>;

    /// Requests for Credentials, of one namespace or of all.
    fn requests<'a>(&'a self, _person: &'a Person, _namespace: Option<&'a str>) -> Later<'a, RequestList> {
        nobody_vouches()
    }

    fn request<'a>(&'a self, _person: &'a Person, _namespace: &'a str, _name: &'a str) -> Later<'a, RequestView> {
        nobody_vouches()
    }

    fn ask<'a>(&'a self, _person: &'a Person, _namespace: &'a str, _new: NewRequest) -> Later<'a, RequestView> {
        nobody_vouches()
    }

    /// The decision, the hash of the request that was read, the reason.
    fn answer<'a>(
        &'a self,
        _person: &'a Person,
        _namespace: &'a str,
        _name: &'a str,
        _answer: (RequestDecision, String, Option<String>),
    ) -> Later<'a, RequestView> {
        nobody_vouches()
    }

    /// The requester has the key of the request of this uid.
    fn received<'a>(
        &'a self,
        _person: &'a Person,
        _namespace: &'a str,
        _name: &'a str,
        _uid: String,
    ) -> Later<'a, RequestView> {
        nobody_vouches()
    }

    /// The request of this uid goes, with what it gave.
    fn withdraw<'a>(&'a self, _person: &'a Person, _namespace: &'a str, _name: &'a str, _uid: String) -> Later<'a, ()> {
        nobody_vouches()
    }
}

/// A folder has one person, whom a code stands for: nobody there is somebody else than the requester.
fn nobody_vouches<'a, T: Send + 'a>() -> Later<'a, T> {
    let why = "requests are answered by somebody else than the requester, and in a folder everybody is the same \
               person: use a cluster, or make the Credential";
    Box::pin(async move { Err(Failure::new(Code::NotConfigured, why)) })
}
