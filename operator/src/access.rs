//! Reads from a cluster what the questions about permissions need: `idm can-i`, `who-can` and `access-matrix`.
//!
//! It reads with the rights of the person who asks, and never asks the API server for a summary of rules, which webhook
//! authorizers leave incomplete. Grants of others in RBAC are shown beside those of idm and decide nothing here.

use anyhow::Context as _;
use idm_api::v1alpha1::RoleBinding;
use idm_compile::PermissionSettings;
use idm_permission::{Bindings, GROUP, Kind, Permission, Person, Scope, TEAM_LABEL, Verb};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding as Native, Subject};
use kube::api::{ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

/// A grant in RBAC that idm did not make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NativeGrant {
    /// The binding, as `RoleBinding namespace/name` or `ClusterRoleBinding name`.
    pub binding: String,
    /// The role that it refers to.
    pub role: String,
    /// A subject of it.
    pub subject: String,
    /// Whether the guard lets it through: the role has the virtual permission too.
    pub passes_guard: bool,
}

/// A cluster, with the rights of its user.
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Connects as kubectl would.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::try_default().await.context("no cluster: set KUBECONFIG, or name a folder with --dir")?;
        Ok(Self { client })
    }

    /// The user, as the API server names them.
    pub async fn whoami(&self) -> anyhow::Result<Person> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
        Ok(Person { username: user.username.unwrap_or_default(), groups: user.groups.unwrap_or_default() })
    }

    /// The bindings of a namespace and of the operator's, or of all; and those that give nothing, with the reason.
    pub async fn bindings(
        &self,
        namespace: Option<&str>,
        settings: &PermissionSettings,
    ) -> anyhow::Result<(Bindings, Vec<String>)> {
        let mut objects = Vec::new();
        match namespace {
            None => objects.extend(Api::<RoleBinding>::all(self.client.clone()).list(&ListParams::default()).await?),
            Some(namespace) => {
                let system = settings.system_namespace.as_deref().filter(|system| *system != namespace);
                for (namespace, must) in [(Some(namespace), true), (system, false)] {
                    let Some(namespace) = namespace else { continue };
                    match Api::<RoleBinding>::namespaced(self.client.clone(), namespace)
                        .list(&ListParams::default())
                        .await
                    {
                        Ok(listed) => objects.extend(listed),
                        Err(kube::Error::Api(status)) if !must && status.code == 403 => {
                            tracing::warn!(
                                namespace,
                                "its RoleBindings may not be read: roles of the system are left out"
                            );
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        let mut waiting = Vec::new();
        objects.retain(|object| match unready(object) {
            None => true,
            Some(why) => {
                let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
                waiting.push(format!("RoleBinding {name} is not ready, and is not counted: {why}"));
                false
            }
        });
        let (bindings, problems) = crate::permissions::of(&objects, settings);
        let problems = problems
            .into_iter()
            .map(|(name, problem)| format!("RoleBinding {name}: {}: {}", problem.path, problem.message));
        Ok((bindings, problems.chain(waiting).collect()))
    }

    /// The team of an object; `None` if it is of none.
    pub async fn team_of(&self, kind: Kind, namespace: &str, name: &str) -> anyhow::Result<Option<String>> {
        let gvk = GroupVersionKind::gvk(GROUP, "v1alpha1", kind.name());
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.resource());
        let object = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource).get(name).await?;
        if kind == Kind::RoleBinding {
            return Ok(object.data.pointer("/spec/scope/team/name").and_then(|name| name.as_str()).map(str::to_owned));
        }
        Ok(object.labels().get(TEAM_LABEL).cloned())
    }

    /// The grants in RBAC that idm did not make, for a permission at a place.
    pub async fn native(&self, permission: Permission, place: &Scope) -> anyhow::Result<Vec<NativeGrant>> {
        let all = ListParams::default();
        let cluster_roles = Api::<ClusterRole>::all(self.client.clone()).list(&all).await?.items;
        let cluster_rules = |name: &str| {
            let role = cluster_roles.iter().find(|role| role.name_any() == name);
            role.and_then(|role| role.rules.clone()).unwrap_or_default()
        };
        let mut grants = Vec::new();
        for binding in Api::<ClusterRoleBinding>::all(self.client.clone()).list(&all).await?.items {
            let name = format!("ClusterRoleBinding {}", binding.name_any());
            if !is_ours(&binding) {
                let rules = cluster_rules(&binding.role_ref.name);
                grants.extend(grant(&name, &binding.role_ref.name, &rules, binding.subjects, permission, place));
            }
        }
        if let Some(project) = place.project() {
            let roles = Api::<Role>::namespaced(self.client.clone(), project).list(&all).await?.items;
            for binding in Api::<Native>::namespaced(self.client.clone(), project).list(&all).await?.items {
                if is_ours(&binding) {
                    continue;
                }
                let role = &binding.role_ref;
                let rules = match role.kind.as_str() {
                    "ClusterRole" => cluster_rules(&role.name),
                    _ => roles
                        .iter()
                        .find(|own| own.name_any() == role.name)
                        .and_then(|own| own.rules.clone())
                        .unwrap_or_default(),
                };
                let name = format!("RoleBinding {project}/{}", binding.name_any());
                grants.extend(grant(&name, &role.name, &rules, binding.subjects.clone(), permission, place));
            }
        }
        grants.sort();
        Ok(grants)
    }
}

fn is_ours(object: &impl ResourceExt) -> bool {
    object.labels().get("app.kubernetes.io/part-of").is_some_and(|part| part == "idm")
}

fn grant(
    binding: &str,
    role: &str,
    rules: &[PolicyRule],
    subjects: Option<Vec<Subject>>,
    permission: Permission,
    place: &Scope,
) -> Vec<NativeGrant> {
    let verbs: &[&str] = match permission.verb {
        Verb::Read => &["get", "list", "watch"],
        Verb::Create => &["create"],
        Verb::Delete => &["delete", "deletecollection"],
        // An action is a part of an update.
        Verb::Update | Verb::Rotate | Verb::Revoke | Verb::Deploy => &["update", "patch"],
        Verb::Approve | Verb::ReadSecretMetadata => return Vec::new(),
    };
    let resource = permission.kind.resource();
    if !rules.iter().any(|rule| covers(rule, resource, None, verbs)) {
        return Vec::new();
    }
    let team = place.team().unwrap_or_default();
    let asked = format!("{resource}/team");
    // Reads do not pass by the guard.
    let passes_guard = permission.verb == Verb::Read
        || rules.iter().any(|rule| covers(rule, &asked, Some(team), &[permission.verb.name()]));
    let named = subjects.into_iter().flatten().map(|subject| match subject.namespace {
        Some(namespace) if subject.kind == "ServiceAccount" => format!("serviceaccount {namespace}/{}", subject.name),
        _ => format!("{} {}", subject.kind.to_ascii_lowercase(), subject.name),
    });
    named.map(|subject| NativeGrant { binding: binding.into(), role: role.into(), subject, passes_guard }).collect()
}

/// Whether a rule of RBAC covers one of the verbs on a resource, as RBAC reads it.
fn covers(rule: &PolicyRule, resource: &str, name: Option<&str>, verbs: &[&str]) -> bool {
    let has = |list: &Option<Vec<String>>, wanted: &[&str]| {
        list.iter().flatten().any(|one| one == "*" || wanted.contains(&one.as_str()))
    };
    let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let resources: Vec<&str> = [Some(resource), sub.as_deref()].into_iter().flatten().collect();
    let names = rule.resource_names.iter().flatten().collect::<Vec<_>>();
    let named = names.is_empty() || name.is_some_and(|name| names.iter().any(|one| *one == name)) || name.is_none();
    has(&rule.api_groups, &[GROUP])
        && has(&rule.resources, &resources)
        && has(&Some(rule.verbs.clone()), verbs)
        && named
}

/// Why a RoleBinding gives no permissions now: the API server has not got them, or not those of this generation.
fn unready(binding: &RoleBinding) -> Option<String> {
    if binding.spec.role.is_some() {
        return None;
    }
    let status = binding.status.clone().unwrap_or_default();
    let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "Ready") else {
        return Some("the operator has not reported about it".to_owned());
    };
    let of = ready.observed_generation.or(status.observed_generation);
    match binding.metadata.generation {
        Some(generation) if of.is_none_or(|of| of < generation) => {
            Some(format!("the operator has not reported about generation {generation}"))
        }
        _ if ready.status != "True" => Some(format!("{}: {}", ready.reason, ready.message)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(resources: &[&str], verbs: &[&str], names: &[&str]) -> PolicyRule {
        let all = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(vec![GROUP.into()]),
            resources: Some(all(resources)),
            verbs: all(verbs),
            resource_names: Some(all(names)).filter(|names| !names.is_empty()),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn a_binding_counts_when_the_api_server_has_its_permissions() {
        let binding = |status: serde_json::Value, role: Option<&str>| -> RoleBinding {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "identity-manager.io/v1alpha1", "kind": "RoleBinding",
                "metadata": {"name": "a", "namespace": "shop", "generation": 2},
                "spec": {"role": role, "scope": {"project": {}}, "subjects": [{"user": "ana"}]},
                "status": status,
            }))
            .expect("a RoleBinding")
        };
        let ready = |status: &str, reason: &str, generation: i64| {
            serde_json::json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m",
                "observedGeneration": generation, "lastTransitionTime": "2027-01-01T00:00:00Z"}]})
        };
        assert_eq!(unready(&binding(ready("True", "Ready", 2), None)), None);
        for waiting in [
            ready("False", "NotGranted", 2),
            ready("False", "GuardNotInForce", 2),
            ready("True", "Ready", 1),
            serde_json::json!({}),
            serde_json::Value::Null,
        ] {
            assert!(unready(&binding(waiting.clone(), None)).is_some(), "{waiting}");
        }
        assert_eq!(unready(&binding(serde_json::Value::Null, Some("writer"))), None, "it gives a role of gateways");
    }

    #[test]
    fn r14_a_grant_of_others_says_whether_the_guard_stops_it() {
        let subject = Subject { kind: "User".into(), name: "eve".into(), ..Subject::default() };
        let update = Permission::new(Verb::Update, Kind::Credential).expect("a permission");
        let place = Scope::of("shop", Some("checkout"));
        let passes = |rules: &[PolicyRule]| {
            let found = grant("RoleBinding shop/x", "x", rules, Some(vec![subject.clone()]), update, &place);
            found.first().map(|grant| grant.passes_guard)
        };
        assert_eq!(passes(&[rule(&["credentials"], &["patch"], &[])]), Some(false));
        assert_eq!(passes(&[rule(&["*"], &["*"], &[])]), Some(true));
        let named =
            |team| [rule(&["credentials"], &["update"], &[]), rule(&["credentials/team"], &["update"], &[team])];
        assert_eq!(passes(&named("checkout")), Some(true));
        assert_eq!(passes(&named("other")), Some(false));
        assert_eq!(passes(&[rule(&["credentials"], &["get"], &[])]), None);
        assert_eq!(passes(&[rule(&["federations"], &["update"], &[])]), None);
    }
}
