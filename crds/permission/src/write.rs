//! The permissions that a write needs: the rules of the guard (`guard.rs`), for doors of our own.
//!
//! The two are held together by a test that asks both about the same writes (`e2e/tests/tiers.rs`).

use serde_json::Value;

use crate::{
    Bindings, BuiltInRole, Denial, Kind, Permission, PermissionSet, Person, REVOKE_ANNOTATION, ROTATE_ANNOTATION, Role,
    Scope, TEAM_LABEL, Verb, can, may_grant,
};

/// A write of one object, as the API server would see it: the whole object before and after.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: &'a str,
    /// The stored object, unless it is created.
    pub old: Option<&'a Value>,
    /// The object that shall be stored, unless it is deleted.
    pub new: Option<&'a Value>,
}

/// One thing that a write needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A permission at a place.
    Permission(Permission, Scope),
    /// A role at a place that includes the role that is given to others there.
    Grant(Role, Scope),
    /// To be the person of this name; the text says why.
    Be(String, &'static str),
    /// To be somebody else than the person of this name; the text says why.
    BeAnother(String, &'static str),
    /// To withdraw a request at a place: what the person of this name does with the permission to ask, and others with
    /// the permission to delete.
    Withdraw(String, Scope),
    /// No person may do it.
    Never(&'static str),
}

/// Whether a person may make a write. `system` is the operator's namespace, where roles of the system are given.
///
/// # Errors
/// The first need that is not met.
pub fn may_write(bindings: &Bindings, person: &Person, write: &Write<'_>, system: &str) -> Result<(), Box<Denial>> {
    let nobody = |why| Box::new(Denial::of_nobody(why, write.namespace));
    for need in needs(write, system) {
        match need {
            Need::Permission(permission, place) => can(bindings, person, permission, &place).map(drop)?,
            Need::Grant(role, place) => may_grant(bindings, person, &role, &place).map(drop)?,
            Need::Be(name, why) if person.username != name => return Err(nobody(why)),
            Need::BeAnother(name, why) if person.username == name => {
                return Err(nobody(why));
            }
            Need::Be(..) | Need::BeAnother(..) => {}
            Need::Withdraw(name, place) => {
                let holds = |verb| {
                    let permission = Permission { kind: Kind::CredentialRequest, verb };
                    can(bindings, person, permission, &place).map(drop)
                };
                if person.username != name || holds(Verb::Create).is_err() {
                    holds(Verb::Delete)?;
                }
            }
            Need::Never(why) => return Err(nobody(why)),
        }
    }
    Ok(())
}

/// The place of an object: the scope of a RoleBinding, the team of everything else.
pub fn scope_of(kind: Kind, namespace: &str, object: &Value) -> Scope {
    if kind != Kind::RoleBinding {
        return Scope::of(namespace, object["metadata"]["labels"][TEAM_LABEL].as_str());
    }
    let scope = &object["spec"]["scope"];
    if scope.get("system").is_some() {
        return Scope::System;
    }
    Scope::of(namespace, scope["team"]["name"].as_str())
}

/// Everything that a write needs. A write that changes nothing needs nothing.
pub fn needs(write: &Write<'_>, system: &str) -> Vec<Need> {
    let Write { kind, namespace, old, new } = *write;
    let place = |object: &Value| scope_of(kind, namespace, object);
    let need = |verb, place| Permission::new(verb, kind).map(|permission| Need::Permission(permission, place));
    let mut all = Vec::new();
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            all.extend(need(Verb::Create, place(new)));
            all.extend(need(Verb::Deploy, place(new)));
        }
        (Some(old), None) if kind == Kind::CredentialRequest => {
            all.push(Need::Withdraw(requester(old), place(old)));
        }
        (Some(old), None) => all.extend(need(Verb::Delete, place(old))),
        (Some(old), Some(new)) => {
            let change = Change::of(kind, old, new);
            if change.edits {
                all.extend(need(Verb::Update, place(old)));
                if place(old) != place(new) {
                    all.extend(need(Verb::Update, place(new)));
                }
            }
            let actions =
                [(change.rotates, Verb::Rotate), (change.revokes, Verb::Revoke), (change.deploys, Verb::Deploy)];
            all.extend(actions.into_iter().filter(|(does, _)| *does).filter_map(|(_, verb)| need(verb, place(new))));
        }
    }
    if let Some(new) = new {
        all.extend(given_by(write, new, system));
        if kind == Kind::CredentialRequest {
            all.extend(of_request(old, new, &place(new)));
        }
    }
    all
}

fn requester(request: &Value) -> String {
    request["spec"]["requester"]["username"].as_str().unwrap_or_default().to_owned()
}

/// The needs of what a write does to a request beside other changes: to ask, to answer, to say that the key is there.
fn of_request(old: Option<&Value>, new: &Value, place: &Scope) -> Vec<Need> {
    let has = |object: &Value, part: &str| object["spec"].get(part).is_some();
    let Some(old) = old else {
        let is_answered = has(new, "approval") || has(new, "received");
        let early = is_answered.then_some(Need::Never("a request is made without an answer"));
        let own = Need::Be(requester(new), "a request is made in the own name");
        return [own].into_iter().chain(early).collect();
    };
    let changes = |part: &str| old["spec"].get(part) != new["spec"].get(part);
    let mut all = Vec::new();
    if changes("approval") {
        let answer = &new["spec"]["approval"];
        if has(old, "approval") || !has(new, "approval") {
            all.push(Need::Never("a request is answered once"));
        }
        let by = answer["by"]["username"].as_str().unwrap_or_default().to_owned();
        all.push(Need::Be(by, "a request is answered in the own name"));
        all.push(Need::BeAnother(requester(new), "nobody answers their own request"));
        if old["status"]["hash"].as_str().is_none_or(|hash| answer["hash"] != hash) {
            all.push(Need::Never("the answer is to another request: read it again"));
        }
        let approves = answer["decision"] == "Approved";
        let verbs = [Some(Verb::Approve), approves.then_some(Verb::Create)];
        let of_credentials = |verb| Need::Permission(Permission { kind: Kind::Credential, verb }, place.clone());
        all.extend(verbs.into_iter().flatten().map(of_credentials));
    }
    if changes("received") {
        all.push(Need::Be(requester(new), "only the requester says that the key was received"));
        if old["status"].get("encryptedKey").is_none() {
            all.push(Need::Never("there is no key to receive"));
        }
        let asks = Permission { kind: Kind::CredentialRequest, verb: Verb::Create };
        all.push(Need::Permission(asks, place.clone()));
    }
    all
}

/// The needs of a write that gives roles to others.
fn given_by(write: &Write<'_>, new: &Value, system: &str) -> Vec<Need> {
    let project = Scope::Project(write.namespace.to_owned());
    match write.kind {
        Kind::RoleBinding => {
            let place = scope_of(write.kind, write.namespace, new);
            let mut all = Vec::new();
            if place == Scope::System && write.namespace != system {
                all.push(Need::Never("a role of the system is given in the operator's namespace only"));
            }
            let changed = write.old.is_none_or(|old| old["spec"] != new["spec"]);
            match role_of(new) {
                Some(Ok(role)) if changed => all.push(Need::Grant(role, place)),
                Some(Err(why)) if changed => all.push(Need::Never(why)),
                _ => {}
            }
            all
        }
        // The operator and the gateways give these roles to whom the Federation names: another issuer in front of the
        // same mappings is another way to have them.
        Kind::Federation => {
            let gives = ["roleMappings", "provisioning"].iter().any(|field| new["spec"].get(field).is_some())
                && write.old.is_none_or(|old| old["spec"] != new["spec"]);
            let binds = Permission::new(Verb::Create, Kind::RoleBinding).filter(|_| gives);
            binds.map(|binds| Need::Permission(binds, project)).into_iter().collect()
        }
        Kind::IdentityPolicy | Kind::Credential | Kind::UsagePlan | Kind::CredentialRequest => Vec::new(),
    }
}

/// The role that a RoleBinding gives at our doors, if it gives one.
fn role_of(binding: &Value) -> Option<Result<Role, &'static str>> {
    let spec = &binding["spec"];
    if let Some(name) = spec.get("permissionRole") {
        let role = BuiltInRole::ALL.iter().find(|role| name.as_str() == Some(role.name()));
        return Some(role.map(|role| Role::BuiltIn(*role)).ok_or("there is no such permissionRole"));
    }
    // Which permissions are in a list makes no difference: it is granted by those who have everything.
    spec.get("permissions").map(|_| Ok(Role::Listed(PermissionSet::everything())))
}

/// The parts of an update.
struct Change {
    /// Something that no action has for itself.
    edits: bool,
    rotates: bool,
    revokes: bool,
    deploys: bool,
}

impl Change {
    fn of(kind: Kind, old: &Value, new: &Value) -> Self {
        let suspended = |object: &Value| object["spec"]["suspend"].as_bool().unwrap_or(false);
        let asked = |object: &Value, what: &str| object["metadata"]["annotations"].get(what).cloned();
        let asks = |what: &str| asked(old, what) != asked(new, what);
        let revokes = kind == Kind::Credential && (suspended(new) && !suspended(old) || asks(REVOKE_ANNOTATION));
        let parts: &[&str] = match kind {
            Kind::Credential => &["suspend"],
            Kind::IdentityPolicy => &["targetRefs"],
            Kind::CredentialRequest => &["approval", "received"],
            Kind::Federation | Kind::RoleBinding | Kind::UsagePlan => &[],
        };
        let edits = differs(&old["spec"], &new["spec"], parts)
            || kind == Kind::Credential && suspended(old) && !suspended(new)
            || differs(&old["metadata"]["annotations"], &new["metadata"]["annotations"], requests(kind))
            || ["labels", "finalizers", "ownerReferences"]
                .iter()
                .any(|field| old["metadata"].get(field) != new["metadata"].get(field))
            || old.get("status") != new.get("status");
        Self {
            edits,
            rotates: Verb::Rotate.is_of(kind) && asks(ROTATE_ANNOTATION),
            revokes,
            deploys: kind == Kind::IdentityPolicy && old["spec"].get("targetRefs") != new["spec"].get("targetRefs"),
        }
    }
}

/// The annotations that actions of the kind have for themselves.
pub(crate) const fn requests(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Credential => &[ROTATE_ANNOTATION, REVOKE_ANNOTATION],
        Kind::IdentityPolicy => &[ROTATE_ANNOTATION],
        Kind::Federation | Kind::RoleBinding | Kind::UsagePlan | Kind::CredentialRequest => &[],
    }
}

/// Whether two objects differ in any member but these.
fn differs(old: &Value, new: &Value, except: &[&str]) -> bool {
    let none = serde_json::Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let keys = old.keys().chain(new.keys()).filter(|key| !except.contains(&key.as_str()));
    keys.into_iter().any(|key| old.get(key) != new.get(key))
}

#[cfg(test)]
mod tests;
