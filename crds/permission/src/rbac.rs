//! Bindings as Kubernetes RBAC.
//!
//! Two kinds of native objects are made. For each (scope, role) one Role with the virtual permissions, which the guard
//! asks for, and one RoleBinding of it. And for each namespace a few RoleBindings of the *blocks*, static ClusterRoles
//! with one verb on one kind, which let a request as far as the guard. A block is *guarded* where it gives more than
//! the role does: for a team, and for actions. Guarded bindings exist only while the guard is known to be in force.
//!
//! The operator holds the virtual permissions, which allow nothing alone, and may bind the blocks; so it needs neither
//! `escalate` nor the verbs themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{Bindings, BuiltInRole, GROUP, Kind, Permission, PermissionSet, Role, Scope, Target, Verb};

/// Subjects in one RoleBinding at most: an object of the API server has a size limit, which 10,000 come near.
const SUBJECTS: usize = 2_000;

/// The label of every object that is made of bindings.
pub const LABELS: [(&str, &str); 3] = [
    ("app.kubernetes.io/managed-by", "idm-operator"),
    ("app.kubernetes.io/part-of", "idm"),
    ("identity-manager.io/permissions", "granted"),
];

/// The first part of the names of all of them.
pub const PREFIX: &str = "idm:";

/// A native object.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// `Role`, `RoleBinding`, `ClusterRole` or `ClusterRoleBinding`.
    pub kind: &'static str,
    /// Its namespace, unless it is of the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// It must not exist while the guard is not in force.
    pub guarded: bool,
    /// All of it.
    pub body: Value,
}

/// The verbs of Kubernetes behind a verb that RBAC knows.
const fn native_verbs(verb: Verb) -> Option<&'static [&'static str]> {
    match verb {
        Verb::Read => Some(&["get", "list", "watch"]),
        Verb::Create => Some(&["create"]),
        Verb::Update => Some(&["update", "patch"]),
        Verb::Delete => Some(&["delete", "deletecollection"]),
        Verb::Rotate | Verb::Revoke | Verb::Approve | Verb::Deploy | Verb::ReadSecretMetadata => None,
    }
}

fn block_name(verb: Verb, kind: Kind) -> String {
    format!("{PREFIX}{}:{}", verb.name(), kind.resource())
}

/// The blocks: ClusterRoles of the chart, one for each verb of Kubernetes on each kind.
pub fn blocks() -> Vec<Value> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for verb in Verb::ALL {
            let Some(verbs) = native_verbs(*verb) else { continue };
            all.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": block_name(*verb, *kind)},
                "rules": [{"apiGroups": [GROUP], "resources": [kind.resource()], "verbs": verbs}],
            }));
        }
    }
    all
}

/// The rule with everything that the operator may give: the virtual permissions, which allow nothing alone.
pub fn virtual_rules() -> Vec<Value> {
    rules(&Role::BuiltIn(BuiltInRole::SystemAdmin), &Scope::System)
}

/// The blocks that a permission needs, each with whether it gives more than the permission.
fn blocks_of(role: PermissionSet, scope: &Scope, permission: Permission) -> Vec<(Verb, Kind, bool)> {
    let asks = Kind::CredentialRequest;
    let more: &[(Verb, Kind, bool)] = match (permission.verb, permission.kind) {
        // Who asks may withdraw it and say that the key was received.
        (Verb::Create, Kind::CredentialRequest) => &[(Verb::Update, asks, true), (Verb::Delete, asks, true)],
        // The answer is a part of the request.
        (Verb::Approve, Kind::Credential) => &[(Verb::Update, asks, true)],
        _ => &[],
    };
    block(role, scope, permission).into_iter().chain(more.iter().copied()).collect()
}

/// The block of the permission's own verb.
fn block(role: PermissionSet, scope: &Scope, permission: Permission) -> Option<(Verb, Kind, bool)> {
    let Permission { kind, verb } = permission;
    let holds = |verb| Permission::new(verb, kind).is_none_or(|permission| role.contains(permission));
    let is_team = scope.team().is_some();
    match verb {
        // Admission never sees a read: a team's members read the project by kubectl.
        Verb::Read => Some((verb, kind, false)),
        Verb::Create | Verb::Update | Verb::Delete => {
            // A change of these gives roles to others, and a request is somebody's.
            let gives =
                matches!(kind, Kind::RoleBinding | Kind::Federation | Kind::CredentialRequest) && verb != Verb::Delete;
            let parts = verb != Verb::Delete
                && !(holds(Verb::Deploy) && holds(Verb::Rotate) && holds(Verb::Revoke) && holds(verb));
            Some((verb, kind, is_team || gives || parts))
        }
        Verb::Rotate | Verb::Revoke | Verb::Deploy => Some((Verb::Update, kind, is_team || !holds(Verb::Update))),
        Verb::Approve | Verb::ReadSecretMetadata => None,
    }
}

/// Everything that bindings become.
pub fn compile(bindings: &Bindings) -> Vec<Native> {
    let mut roles: BTreeMap<(Scope, String), (Role, BTreeSet<Target>)> = BTreeMap::new();
    let mut blocks: BTreeMap<(Option<String>, bool, Verb, Kind), BTreeSet<Target>> = BTreeMap::new();
    for binding in &bindings.0 {
        let permissions = binding.role.permissions();
        let key = (binding.scope.clone(), key(&binding.role));
        let (_, targets) = roles.entry(key).or_insert_with(|| (binding.role.clone(), BTreeSet::new()));
        targets.extend(binding.targets.iter().cloned());
        let project = binding.scope.project().map(str::to_owned);
        for (verb, kind, guarded) in permissions.iter().flat_map(|one| blocks_of(permissions, &binding.scope, one)) {
            let subjects = blocks.entry((project.clone(), guarded, verb, kind)).or_default();
            subjects.extend(binding.targets.iter().cloned());
        }
    }
    let mut all = Vec::new();
    for ((scope, key), (role, targets)) in roles {
        let rules = rules(&role, &scope);
        if !rules.is_empty() {
            all.extend(role_objects(&scope, &key, rules, &targets));
        }
    }
    for ((project, guarded, verb, kind), targets) in blocks {
        let targets: Vec<_> = targets.into_iter().collect();
        for (number, some) in targets.chunks(SUBJECTS).enumerate() {
            let set = if guarded { "guarded" } else { "all" };
            let mut name = format!("{PREFIX}{set}:{}:{}", verb.name(), kind.resource());
            if number > 0 {
                name = format!("{name}:{}", number + 1);
            }
            let role = ("ClusterRole", block_name(verb, kind));
            all.push(bound(project.clone(), name, role, some.iter(), guarded));
        }
    }
    all
}

/// Equal lists of permissions are one role.
fn key(role: &Role) -> String {
    match role {
        Role::BuiltIn(role) => role.name().to_owned(),
        Role::Listed(set) => {
            let words: Vec<_> = set.iter().map(|one| format!("{}.{}", one.verb.name(), one.kind.resource())).collect();
            format!("listed:{:016x}", fnv(&words.join(" ")))
        }
    }
}

/// FNV-1a, 64 bits: a short and lasting name for a list of at most 31 known words. Nobody gains by a collision, and the
/// space of lists is too small for one by accident.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The virtual permissions of a role at a scope.
fn rules(role: &Role, scope: &Scope) -> Vec<Value> {
    let permissions = role.permissions();
    let mut by_verbs: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for kind in Kind::ALL {
        let verbs: Vec<_> = permissions.verbs(*kind).map(Verb::name).collect();
        if !verbs.is_empty() {
            by_verbs.entry(verbs).or_default().push(format!("{}/team", kind.resource()));
        }
    }
    let mut all: Vec<Value> = by_verbs
        .into_iter()
        .map(|(verbs, resources)| {
            let mut rule = json!({"apiGroups": [GROUP], "resources": resources, "verbs": verbs});
            if let Some(team) = scope.team() {
                rule["resourceNames"] = json!([team]);
            }
            rule
        })
        .collect();
    all.extend(grants(role, scope));
    all
}

/// The permission to give roles: its names are roles, those of a team with the team in front.
fn grants(role: &Role, scope: &Scope) -> Option<Value> {
    let listed = Role::Listed(PermissionSet::everything());
    let for_system = |granted: &BuiltInRole| *scope == Scope::System || *granted != BuiltInRole::SystemAdmin;
    let known = BuiltInRole::ALL.iter().copied().filter(for_system).map(Role::BuiltIn);
    let granted: Vec<_> = known.chain([listed]).filter(|granted| role.may_grant(granted)).collect();
    if granted.is_empty() {
        return None;
    }
    let named = |granted: &Role| match scope.team() {
        Some(team) => format!("{team}:{}", granted.name()),
        None => granted.name().to_owned(),
    };
    let names: Vec<_> = granted.iter().map(named).collect();
    Some(json!({
        "apiGroups": [GROUP], "resources": ["rolebindings/grant"], "verbs": ["bind"], "resourceNames": names,
    }))
    .map(|mut rule| {
        // The operator gives all of this to whom a RoleBinding names, in teams too, so it holds it without names.
        if *scope == Scope::System && *role == Role::BuiltIn(BuiltInRole::SystemAdmin) {
            rule.as_object_mut().map(|rule| rule.remove("resourceNames"));
        }
        rule
    })
}

fn role_objects(scope: &Scope, key: &str, rules: Vec<Value>, targets: &BTreeSet<Target>) -> Vec<Native> {
    let name = match scope {
        Scope::System => format!("{PREFIX}system:{key}"),
        Scope::Project(_) => format!("{PREFIX}project:{key}"),
        Scope::Team { team, .. } => format!("{PREFIX}team:{team}:{key}"),
    };
    let namespace = scope.project().map(str::to_owned);
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let mut body = head(kind, namespace.as_deref(), &name);
    body["rules"] = Value::Array(rules);
    let mut all = vec![Native { kind, namespace: namespace.clone(), name: name.clone(), guarded: false, body }];
    let targets: Vec<_> = targets.iter().collect();
    for (number, some) in targets.chunks(SUBJECTS).enumerate() {
        let own = if number == 0 { name.clone() } else { format!("{name}:{}", number + 1) };
        all.push(bound(namespace.clone(), own, (kind, name.clone()), some.iter().copied(), false));
    }
    all
}

fn head(kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let labels: BTreeMap<_, _> = LABELS.into_iter().collect();
    let mut metadata = json!({"name": name, "labels": labels});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata})
}

fn bound<'a>(
    namespace: Option<String>,
    name: String,
    (role_kind, role): (&str, String),
    targets: impl Iterator<Item = &'a Target>,
    guarded: bool,
) -> Native {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut body = head(kind, namespace.as_deref(), &name);
    body["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role});
    body["subjects"] = targets.map(subject).collect();
    Native { kind, namespace, name, guarded, body }
}

fn subject(target: &Target) -> Value {
    let api_group = "rbac.authorization.k8s.io";
    match target {
        Target::User(name) => json!({"apiGroup": api_group, "kind": "User", "name": name}),
        Target::Group(name) => json!({"apiGroup": api_group, "kind": "Group", "name": name}),
        Target::ServiceAccount { namespace, name } => {
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
    }
}

#[cfg(test)]
mod tests;
