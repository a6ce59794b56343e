//! A cluster as the place of objects. Everything is read and written with the token of the person who asks, so the API
//! server decides, its guard and its webhooks see the person, and the Manager itself has no rights.
//!
//! `identity.rs` says who somebody is, `reach.rs` what they may do, `read.rs` and `view.rs` what they see, `write.rs`
//! how they change it.

mod credentials;
mod identity;
mod merge;
mod names;
mod owner;
mod reach;
mod read;
mod request;
mod requests;
mod view;
mod world;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use idm_api::v1alpha1::RequestDecision;
use idm_audit::ship::Elasticsearch;
use idm_permission::{Permission, Verb};
use idm_types::{Clock, Timestamp};
use kube::Client;

use super::{AuditScope, Draft, ListQuery, Namespaces, ObjectRef, Place, Understood};
use crate::failure::{Code, Failure};
use crate::manager::StartError;
use crate::requests::{NewRequest, RequestView};
use crate::session::{Access, Person, TokenId};
use crate::table::Later;
use crate::wire::audit::{Expiring, Failing};
use crate::wire::request::RequestList;
use crate::wire::{Allowed, Checked, GatewayView, MadeKey, Mode, NewCredential, ObjectView, Page, Revoked};
use identity::ApiServer;
use names::Named;
use reach::{Reach, Right};

/// A cluster whose objects are managed.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The address of the API server, for example `https://10.96.0.1:443`.
    pub api_server: String,
    /// The PEM file with its certificate authority; the system's authorities where it is unset.
    pub api_server_ca_file: Option<PathBuf>,
    /// The namespaces of people who may not list them.
    pub namespaces: Vec<String>,
    /// The server with the records of the audit.
    pub elasticsearch: Option<Elasticsearch>,
}

/// The objects of a cluster.
pub(crate) struct ClusterPlace {
    server: ApiServer,
    reach: Reach,
    named: Named,
}

/// A person with the client that has their rights.
struct Caller {
    client: Client,
    token: TokenId,
}

impl ClusterPlace {
    pub(crate) fn new(options: ClusterOptions, clock: Clock) -> Result<Self, StartError> {
        let server = ApiServer::connect(&options)?;
        Ok(Self::over(server, options.namespaces, clock))
    }

    fn over(server: ApiServer, namespaces: Vec<String>, clock: Clock) -> Self {
        Self { server, reach: Reach::new(clock.clone()), named: Named::new(namespaces, clock) }
    }

    fn caller(&self, person: &Person) -> Result<Caller, Failure> {
        let access = person.access.as_deref().ok_or_else(Failure::no_session)?;
        Ok(Caller { client: self.server.client_of(access)?, token: access.id })
    }

    /// The namespaces that something is to be done for: this one, or all of the person.
    async fn asked(&self, person: &Person, namespace: Option<&str>) -> Result<Vec<String>, Failure> {
        match namespace {
            Some(namespace) => Ok(vec![namespace.to_owned()]),
            None => Ok(self.named.of(&self.caller(person)?, &self.reach, person).await?.names),
        }
    }
}

impl Place for ClusterPlace {
    fn mode(&self) -> Mode {
        Mode::Cluster
    }

    fn sign_in<'a>(&'a self, access: Option<Access>) -> Later<'a, Person> {
        Box::pin(async move { self.server.whoami(access.ok_or_else(Failure::no_session)?).await })
    }

    fn namespaces<'a>(&'a self, person: &'a Person) -> Later<'a, Namespaces> {
        Box::pin(async move { self.named.of(&self.caller(person)?, &self.reach, person).await })
    }

    fn audited<'a>(&'a self, person: &'a Person, namespace: Option<&'a str>) -> Later<'a, AuditScope> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            // Records tell of callers and their keys: they are for those who may read Credentials.
            let right = |namespace: &str| Right::on_kind("list", idm_permission::Kind::Credential, namespace);
            if namespace.is_none() && self.reach.allows(&caller, &right("")).await? {
                return Ok(AuditScope::All);
            }
            let asked = self.asked(person, namespace).await?;
            let rights: Vec<_> = asked.iter().map(|namespace| right(namespace)).collect();
            let allowed = self.reach.all(&caller, &rights).await?;
            let readable = asked.into_iter().zip(allowed).filter(|(_, allowed)| *allowed);
            let readable: Vec<_> = readable.map(|(namespace, _)| namespace).collect();
            if readable.is_empty() {
                let kind = idm_permission::Kind::Credential;
                let missing = reach::missing(Verb::Read, kind, namespace.unwrap_or_default());
                return Err(reach::forbidden("you may not read the audit here", missing));
            }
            Ok(AuditScope::Of(readable))
        })
    }

    fn permissions<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
    ) -> Later<'a, BTreeMap<String, BTreeMap<String, Allowed>>> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            self.reach.table(&caller, namespace).await
        })
    }

    fn permit<'a>(
        &'a self,
        person: &'a Person,
        permission: Permission,
        namespace: &'a str,
        _name: &'a str,
    ) -> Later<'a, ()> {
        Box::pin(async move {
            // Lists of all namespaces have what the person may see of each.
            if namespace.is_empty() {
                return Ok(());
            }
            let caller = self.caller(person)?;
            let Some(right) = Right::native(permission, namespace) else { return Ok(()) };
            if self.reach.allows(&caller, &right).await? {
                return Ok(());
            }
            let missing = reach::missing(permission.verb, permission.kind, namespace);
            Err(reach::forbidden(&format!("you may not {permission} in namespace {namespace}"), missing))
        })
    }

    fn list<'a>(&'a self, person: &'a Person, query: ListQuery) -> Later<'a, Page> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            let namespaces = match &query.namespace {
                Some(namespace) => vec![namespace.clone()],
                None => {
                    // One list of the whole cluster, where the person may have it.
                    let whole = Right::of_object("list", query.kind, "");
                    match self.reach.allows(&caller, &whole).await? {
                        true => vec![String::new()],
                        false => self.asked(person, None).await?,
                    }
                }
            };
            read::page(&caller.client, &query, &namespaces).await
        })
    }

    fn object<'a>(&'a self, person: &'a Person, object: &'a ObjectRef) -> Later<'a, ObjectView> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            let found = read::object(&caller.client, object).await?;
            view::whole(&caller.client, object, &found).await
        })
    }

    fn check<'a>(&'a self, person: &'a Person, draft: Draft) -> Later<'a, Checked> {
        Box::pin(async move { write::check(&self.caller(person)?.client, &draft).await })
    }

    fn save<'a>(&'a self, person: &'a Person, draft: Draft) -> Later<'a, ObjectView> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            let saved = write::save(&caller.client, &draft).await?;
            view::whole(&caller.client, &draft.object, &saved).await
        })
    }

    fn delete<'a>(&'a self, person: &'a Person, object: ObjectRef, version: String) -> Later<'a, ()> {
        Box::pin(async move { write::delete(&self.caller(person)?.client, &object, &version).await })
    }

    fn gateways<'a>(&'a self, person: &'a Person, namespace: Option<&'a str>) -> Later<'a, Vec<GatewayView>> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            let namespaces = self.asked(person, namespace).await?;
            view::gateways(&caller.client, &namespaces).await
        })
    }

    fn understood<'a>(&'a self, person: &'a Person, namespace: &'a str) -> Later<'a, Arc<Understood>> {
        Box::pin(async move { Ok(Arc::new(world::understood(&self.caller(person)?.client, namespace).await?)) })
    }

    fn attention<'a>(&'a self, person: &'a Person, now: Timestamp) -> Later<'a, (Vec<Failing>, Vec<Expiring>)> {
        Box::pin(async move {
            let caller = self.caller(person)?;
            let namespaces = self.asked(person, None).await?;
            view::attention(&caller.client, &namespaces, now).await
        })
    }

    fn create_credential<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        new: NewCredential,
    ) -> Later<'a, MadeKey> {
        Box::pin(async move { credentials::create(&self.caller(person)?.client, namespace, new).await })
    }

    fn rotate<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        overlap_seconds: u64,
    ) -> Later<'a, MadeKey> {
        Box::pin(
            async move { credentials::rotate(&self.caller(person)?.client, namespace, name, overlap_seconds).await },
        )
    }

    fn revoke<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        key: Option<String>,
    ) -> Later<'a, Revoked> {
        Box::pin(
            async move { credentials::revoke(&self.caller(person)?.client, namespace, name, key.as_deref()).await },
        )
    }

    fn requests<'a>(&'a self, person: &'a Person, namespace: Option<&'a str>) -> Later<'a, RequestList> {
        Box::pin(async move {
            let namespaces = self.asked(person, namespace).await?;
            requests::list(&self.caller(person)?, &self.reach, &person.name, &namespaces).await
        })
    }

    fn request<'a>(&'a self, person: &'a Person, namespace: &'a str, name: &'a str) -> Later<'a, RequestView> {
        Box::pin(
            async move { requests::one(&self.caller(person)?, &self.reach, &person.name, (namespace, name)).await },
        )
    }

    fn ask<'a>(&'a self, person: &'a Person, namespace: &'a str, new: NewRequest) -> Later<'a, RequestView> {
        Box::pin(async move { requests::ask(&self.caller(person)?.client, &person.name, namespace, new).await })
    }

    fn answer<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        answer: (RequestDecision, String, Option<String>),
    ) -> Later<'a, RequestView> {
        Box::pin(async move {
            requests::answer(&self.caller(person)?.client, &person.name, (namespace, name), answer).await
        })
    }

    fn received<'a>(
        &'a self,
        person: &'a Person,
        namespace: &'a str,
        name: &'a str,
        uid: String,
    ) -> Later<'a, RequestView> {
        Box::pin(async move {
            requests::received(&self.caller(person)?.client, &person.name, (namespace, name), &uid).await
        })
    }

    fn withdraw<'a>(&'a self, person: &'a Person, namespace: &'a str, name: &'a str, uid: String) -> Later<'a, ()> {
        Box::pin(async move { requests::withdraw(&self.caller(person)?.client, (namespace, name), &uid).await })
    }
}

/// The text of a field of an object.
fn text<'v>(value: &'v serde_json::Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// Whether a failure says that the person may not do this, or that the cluster does not have it.
fn is_absent(failure: &Failure) -> bool {
    matches!(failure.code, Code::Forbidden | Code::NotFound)
}

#[cfg(test)]
mod tests;
