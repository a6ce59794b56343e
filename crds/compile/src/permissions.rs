//! RoleBindings with permissions, as `idm-permission` judges them.

use idm_api::v1alpha1::{PermissionRule, RoleBindingSpec, Scope as WireScope, ServiceAccountSubject, Subject as Wire};
use idm_permission::{
    Binding, BuiltInRole, IssuerNames, Issuers, Permission, PermissionSet, Role, Scope, Subject, Target,
};

/// The facts that permissions rest on beside the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSettings {
    /// The issuers that the API server trusts; a folder does not say, and then names have the prefix that Kubernetes
    /// puts in front by default: the issuer and `#`.
    pub issuers: Option<Issuers>,
    /// The operator's namespace, where roles of the system are given; a folder does not say, and then it may be any.
    pub system_namespace: Option<String>,
}

/// A RoleBinding that gives no permissions, because a field of it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub path: String,
    /// The fault and its remedy.
    pub message: String,
}

fn problem<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { path: path.into(), message: message.into() })
}

/// The binding that a RoleBinding with permissions is. One subject that cannot be used voids all of it: whoever reads
/// the object must not take the others for all.
///
/// # Errors
/// The field that is wrong. Also where it has a `role`, which gives no permissions.
pub fn binding(
    namespace: &str,
    name: &str,
    spec: &RoleBindingSpec,
    settings: &PermissionSettings,
) -> Result<Binding, Problem> {
    let RoleBindingSpec { role, permission_role, permissions, subjects, scope } = spec;
    let role = match (role, permission_role, permissions) {
        (None, Some(role), None) => Role::BuiltIn(*role),
        (None, None, Some(rules)) => Role::Listed(listed(rules)?),
        _ => return problem("spec", "spec must have exactly one of `role`, `permissionRole`, `permissions`"),
    };
    let scope = place(namespace, scope, settings)?;
    match (&role, &scope) {
        (Role::BuiltIn(BuiltInRole::SystemAdmin), Scope::System) => {}
        (Role::BuiltIn(BuiltInRole::SystemAdmin), _) => {
            return problem("spec.scope", "`SystemAdmin` must have the scope `system: {}`");
        }
        (Role::BuiltIn(BuiltInRole::Owner), Scope::System) => {
            return problem("spec.permissionRole", "everything of the system is `SystemAdmin`");
        }
        _ => {}
    }
    let targets = subjects.iter().enumerate().map(|(i, subject)| target(namespace, i, subject, settings));
    let targets = targets.collect::<Result<_, _>>()?;
    Ok(Binding { namespace: namespace.to_owned(), name: name.to_owned(), role, scope, targets })
}

fn listed(rules: &[PermissionRule]) -> Result<PermissionSet, Problem> {
    let mut all = Vec::new();
    for (i, PermissionRule { kinds, verbs }) in rules.iter().enumerate() {
        for (kind, verb) in kinds.iter().flat_map(|kind| verbs.iter().map(move |verb| (*kind, *verb))) {
            let Some(permission) = Permission::new(verb, kind) else {
                let message = format!("`{verb:?}` must not be used with `{}`, for which it means nothing", kind.name());
                return problem(format!("spec.permissions[{i}].verbs"), message);
            };
            all.push(permission);
        }
    }
    Ok(all.into_iter().collect())
}

fn place(namespace: &str, scope: &WireScope, settings: &PermissionSettings) -> Result<Scope, Problem> {
    match scope {
        WireScope { system: Some(_), project: None, team: None } => {
            let Some(system) = settings.system_namespace.as_ref().filter(|system| *system != namespace) else {
                return Ok(Scope::System);
            };
            let message = format!("`system` must be in namespace `{system}`, the operator's");
            problem("spec.scope.system", message)
        }
        WireScope { system: None, project: Some(_), team: None } => Ok(Scope::of(namespace, None)),
        WireScope { system: None, project: None, team: Some(team) } if !team.name.is_empty() => {
            Ok(Scope::of(namespace, Some(&team.name)))
        }
        _ => problem("spec.scope", "scope must have exactly one of `system`, `project`, `team`"),
    }
}

fn target(namespace: &str, i: usize, subject: &Wire, settings: &PermissionSettings) -> Result<Target, Problem> {
    let Wire { user, group, credential, service_account, issuer } = subject;
    let subject = match (user, group, credential, service_account) {
        (Some(name), None, None, None) => Subject::User { name: name.clone(), issuer: issuer.clone() },
        (None, Some(name), None, None) => Subject::Group { name: name.clone(), issuer: issuer.clone() },
        (None, None, None, Some(ServiceAccountSubject { name, namespace: other })) if issuer.is_none() => {
            let namespace = other.as_deref().unwrap_or(namespace).to_owned();
            Subject::ServiceAccount { namespace, name: name.clone() }
        }
        _ => {
            let message = "subject must be `user`, `group` or `serviceAccount` with permissions";
            return problem(format!("spec.subjects[{i}]"), message);
        }
    };
    let by_default = |issuer: &String| IssuerNames {
        issuer: issuer.clone(),
        username_prefix: format!("{issuer}#"),
        groups_prefix: format!("{issuer}#"),
    };
    let unknown = || Issuers(issuer.iter().map(by_default).collect());
    settings
        .issuers
        .clone()
        .unwrap_or_else(unknown)
        .resolve(&subject)
        .or_else(|error| problem(format!("spec.subjects[{i}]"), error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(namespace: &str, spec: Value) -> Result<Binding, Problem> {
        let spec = serde_json::from_value(spec)
            .map_err(|error| Problem { path: "(wire)".into(), message: error.to_string() })?;
        let settings =
            PermissionSettings { issuers: Some(Issuers::default()), system_namespace: Some("idm-system".into()) };
        binding(namespace, "b", &spec, &settings)
    }

    #[test]
    fn a_binding_is_read_whole_or_not_at_all() {
        let subjects = json!([{"user": "ana"}, {"serviceAccount": {"name": "robot"}}]);
        let of = |namespace, mut spec: Value| {
            spec["subjects"] = spec.get("subjects").cloned().unwrap_or_else(|| subjects.clone());
            read(namespace, spec)
        };
        let team =
            of("shop", json!({"permissionRole": "Developer", "scope": {"team": {"name": "checkout"}}})).expect("valid");
        assert_eq!(team.scope, Scope::of("shop", Some("checkout")));
        let robot = Target::ServiceAccount { namespace: "shop".into(), name: "robot".into() };
        assert_eq!(team.targets, vec![Target::User("ana".into()), robot]);
        assert!(of("idm-system", json!({"permissionRole": "Auditor", "scope": {"system": {}}})).is_ok());
        let path = |namespace, spec| of(namespace, spec).expect_err("a problem").path;
        assert_eq!(path("shop", json!({"permissionRole": "Auditor", "scope": {"system": {}}})), "spec.scope.system");
        assert_eq!(path("shop", json!({"permissionRole": "SystemAdmin", "scope": {"project": {}}})), "spec.scope");
        assert_eq!(
            path("idm-system", json!({"permissionRole": "Owner", "scope": {"system": {}}})),
            "spec.permissionRole"
        );
        assert_eq!(
            path("shop", json!({"permissionRole": "Owner", "scope": {"project": {}, "system": {}}})),
            "spec.scope"
        );
        assert_eq!(path("shop", json!({"permissionRole": "*", "scope": {"project": {}}})), "(wire)");
        let rules = json!([{"kinds": ["Federation"], "verbs": ["Rotate"]}]);
        assert_eq!(path("shop", json!({"permissions": rules, "scope": {"project": {}}})), "spec.permissions[0].verbs");
        let credential = json!([{"user": "ana"}, {"credential": "c"}]);
        let spec = json!({"permissionRole": "Owner", "scope": {"project": {}}, "subjects": credential});
        assert_eq!(path("shop", spec), "spec.subjects[1]");
    }
}
