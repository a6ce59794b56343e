//! The permissions of a person: the API server is asked about each permission, one review each, many at a time. Answers
//! are kept for a few seconds, so that a page does not ask twice; the API server decides again whatever is done.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use http::Method;
use idm_permission::{Denial, GROUP, Kind, Permission, Scope, Verb};
use idm_types::{Clock, Uptime};
use serde_json::{Value, json};

use super::Caller;
use super::request::{Asked, in_namespace, send, together};
use super::text;
use crate::failure::{Code, Failure};
use crate::kind::ObjectKind;
use crate::session::TokenId;
use crate::table::Later;
use crate::wire::Allowed;

/// Answers are kept for so long.
const KEPT_MS: u64 = 5_000;
/// Answers that are kept; beyond them all begin anew.
const MOST: usize = 20_000;
/// Teams of a namespace that are asked about.
const MOST_TEAMS: usize = 10;

/// A right as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    namespace: String,
    name: String,
}

impl Right {
    fn new(verb: &'static str, group: &'static str, resource: &'static str, namespace: &str) -> Self {
        Self { verb, group, resource, subresource: "", namespace: namespace.to_owned(), name: String::new() }
    }

    /// A verb of Kubernetes on a kind of ours.
    pub(super) fn on_kind(verb: &'static str, kind: Kind, namespace: &str) -> Self {
        Self::new(verb, GROUP, kind.resource(), namespace)
    }

    /// A verb of Kubernetes on any kind that is shown.
    pub(super) fn of_object(verb: &'static str, kind: ObjectKind, namespace: &str) -> Self {
        match kind {
            ObjectKind::Ours(kind) => Self::on_kind(verb, kind, namespace),
            ObjectKind::Gateway => Self::new(verb, "gateway.networking.k8s.io", "gateways", namespace),
            ObjectKind::HttpRoute => Self::new(verb, "gateway.networking.k8s.io", "httproutes", namespace),
            ObjectKind::Service => Self::new(verb, "", "services", namespace),
        }
    }

    /// The verb of Kubernetes behind a permission; none where it has no such verb.
    pub(super) fn native(permission: Permission, namespace: &str) -> Option<Self> {
        let verb = match permission.verb {
            Verb::Read => "get",
            Verb::Create => "create",
            Verb::Update | Verb::Rotate | Verb::Revoke | Verb::Deploy => "patch",
            Verb::Delete => "delete",
            Verb::Approve | Verb::ReadSecretMetadata => return None,
        };
        Some(Self::on_kind(verb, permission.kind, namespace))
    }

    /// The permission that the guard asks for; none for reads, which it never sees.
    pub(super) fn guarded(permission: Permission, namespace: &str, team: &str) -> Option<Self> {
        let right = Self::on_kind(permission.verb.name(), permission.kind, namespace);
        let right = Self { subresource: "team", name: team.to_owned(), ..right };
        (permission.verb != Verb::Read).then_some(right)
    }

    fn review(&self) -> Value {
        let Self { verb, group, resource, subresource, namespace, name } = self;
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "version": "*", "resource": resource,
                "subresource": subresource, "namespace": namespace, "name": name}},
        })
    }
}

/// The permission that is missing, for who can give it; without a namespace, in all of them.
pub(super) fn missing(verb: Verb, kind: Kind, namespace: &str) -> Denial {
    let place = if namespace.is_empty() { Scope::System } else { Scope::of(namespace, None) };
    match Permission::new(verb, kind) {
        Some(permission) => Denial::of(permission, &place),
        None => Denial::of_other_kind(verb.name(), kind.name(), place.project()),
    }
}

pub(super) fn forbidden(message: &str, missing: Denial) -> Failure {
    let message = match &missing.who_can {
        Some(line) => format!("{message}; who may: {line}"),
        None => message.to_owned(),
    };
    Failure { missing: Some(Box::new(missing)), ..Failure::new(Code::Forbidden, message) }
}

/// The answers of the last seconds.
pub(super) struct Reach {
    clock: Clock,
    known: Mutex<HashMap<(TokenId, Right), (Uptime, bool)>>,
}

impl Reach {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Whether the person has a right.
    pub(super) async fn allows(&self, caller: &Caller, right: &Right) -> Result<bool, Failure> {
        let now = self.clock.uptime();
        let key = (caller.token, right.clone());
        if let Some((_, allowed)) = self.lock().get(&key).filter(|(at, _)| now.since(*at) < KEPT_MS) {
            return Ok(*allowed);
        }
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = send(&caller.client, Method::POST, path, Some(("application/json", &right.review()))).await?;
        let answer = answer.done(&Asked::plain("what you may do"))?;
        let allowed = answer.body.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false);
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| now.since(*at) < KEPT_MS);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (now, allowed));
        Ok(allowed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(TokenId, Right), (Uptime, bool)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for many, in their order.
    pub(super) async fn all(&self, caller: &Caller, rights: &[Right]) -> Result<Vec<bool>, Failure> {
        let mut work: Vec<Later<'_, bool>> = Vec::new();
        for right in rights {
            work.push(Box::pin(self.allows(caller, right)));
        }
        together(work).await
    }

    /// Every permission of a namespace. What only some teams have there is allowed: the API server knows the object.
    pub(super) async fn table(
        &self,
        caller: &Caller,
        namespace: &str,
    ) -> Result<BTreeMap<String, BTreeMap<String, Allowed>>, Failure> {
        let all: Vec<Permission> = Permission::all().collect();
        let natives: Vec<_> = all.iter().map(|permission| Right::native(*permission, namespace)).collect();
        let guarded: Vec<_> = all.iter().map(|permission| Right::guarded(*permission, namespace, "")).collect();
        let native = self.optional(caller, &natives).await?;
        let of_project = self.optional(caller, &guarded).await?;
        let mut by_team: BTreeMap<Permission, String> = BTreeMap::new();
        let open: Vec<Permission> = all
            .iter()
            .zip(native.iter().zip(&of_project))
            .filter(|(_, (native, project))| **native && !**project)
            .map(|(permission, _)| *permission)
            .collect();
        if !open.is_empty() {
            for team in self.teams(caller, namespace).await? {
                let rights: Vec<_> =
                    open.iter().map(|permission| Right::guarded(*permission, namespace, &team)).collect();
                let allowed = self.optional(caller, &rights).await?;
                for (permission, _) in open.iter().zip(allowed).filter(|(_, allowed)| *allowed) {
                    by_team.entry(*permission).or_insert_with(|| team.clone());
                }
            }
        }
        let mut table: BTreeMap<String, BTreeMap<String, Allowed>> = BTreeMap::new();
        for (permission, (native, of_project)) in all.iter().zip(native.into_iter().zip(of_project)) {
            let by = by_team.get(permission).map(|team| format!("a role in team {team}, for its objects"));
            let allowed = native && (of_project || by.is_some());
            let missing = (!allowed).then(|| missing(permission.verb, permission.kind, namespace));
            let verdict = Allowed { allowed, by, missing };
            table.entry(permission.kind.name().to_owned()).or_default().insert(permission.verb.name().into(), verdict);
        }
        Ok(table)
    }

    /// Rights of which some are none: those are no obstacle.
    async fn optional(&self, caller: &Caller, rights: &[Option<Right>]) -> Result<Vec<bool>, Failure> {
        let asked: Vec<Right> = rights.iter().flatten().cloned().collect();
        let mut answers = self.all(caller, &asked).await?.into_iter();
        Ok(rights.iter().map(|right| right.is_none() || answers.next().unwrap_or(false)).collect())
    }

    /// The teams that RoleBindings of the namespace name, as far as the person may read them.
    async fn teams(&self, caller: &Caller, namespace: &str) -> Result<Vec<String>, Failure> {
        let path = in_namespace(&format!("/apis/{GROUP}/v1alpha1"), Kind::RoleBinding.resource(), namespace);
        let answer = send(&caller.client, Method::GET, &format!("{path}?limit=500"), None).await?;
        let answer = match answer.done(&Asked::plain("RoleBindings")) {
            Err(failure) if super::is_absent(&failure) => return Ok(Vec::new()),
            answer => answer?,
        };
        let items = answer.body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut teams: Vec<_> = items.iter().map(|item| text(item, "/spec/scope/team/name").to_owned()).collect();
        teams.retain(|team| !team.is_empty());
        teams.sort();
        teams.dedup();
        teams.truncate(MOST_TEAMS);
        Ok(teams)
    }
}
