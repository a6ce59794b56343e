use idm_api::v1alpha1::{RoleBindingSpec, Scope, Subject as Wire};
use idm_plan::{Grant, ObjectKey, Subject};
use idm_types::RoleName;

use super::Notes;
use crate::{Cause, Object, ObjectId, Report, World, permissions};

pub(crate) fn lower_grants(world: &World, report: &mut Report) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for object in &world.role_bindings {
        let mut notes = Notes::new(report, ObjectId::new("RoleBinding", &world.namespace, &object.meta.name));
        match &object.spec.role {
            Some(role) => grants.extend(lower(world, object, role, &mut notes)),
            // Of people who work with the objects; the gateway has nothing to do with it.
            None => check(world, object, &mut notes),
        }
    }
    grants
}

fn check(world: &World, object: &Object<RoleBindingSpec>, notes: &mut Notes<'_>) {
    let binding = permissions::binding(&world.namespace, &object.meta.name, &object.spec, &world.permissions);
    if let Err(problem) = binding {
        notes.fail::<()>(problem.path, Cause::Invalid, problem.message);
    }
}

fn lower(world: &World, object: &Object<RoleBindingSpec>, role: &RoleName, notes: &mut Notes<'_>) -> Option<Grant> {
    let RoleBindingSpec { role: _, permission_role, permissions, subjects, scope } = &object.spec;
    if permission_role.is_some() || permissions.is_some() {
        let message = "spec must have exactly one of `role`, `permissionRole`, `permissions`";
        return notes.fail("spec", Cause::Invalid, message);
    }
    let Scope { system: None, project: Some(_), team: None } = scope else {
        let message = "`role` holds for the callers of a project: scope must be `project: {}`";
        return notes.fail("spec.scope", Cause::Invalid, message);
    };
    let mut lowered = Vec::with_capacity(subjects.len());
    for (i, Wire { user, group, credential, service_account, issuer }) in subjects.iter().enumerate() {
        if service_account.is_some() {
            let message = "subject must be `user`, `group` or `credential` with `role`";
            return notes.fail(format!("spec.subjects[{i}].serviceAccount"), Cause::Invalid, message);
        }
        let issuer = issuer.clone();
        lowered.push(match (user, group, credential) {
            (Some(name), None, None) => Subject::User { name: name.clone(), issuer },
            (None, Some(name), None) => Subject::Group { name: name.clone(), issuer },
            (None, None, Some(name)) if issuer.is_none() => Subject::Credential { name: name.clone() },
            (None, None, Some(_)) => {
                return notes.fail(
                    format!("spec.subjects[{i}].issuer"),
                    Cause::Invalid,
                    "`issuer` must not be set with `credential`",
                );
            }
            _ => {
                return notes.fail(
                    format!("spec.subjects[{i}]"),
                    Cause::Invalid,
                    "subject must have exactly one of `user`, `group`, `credential`",
                );
            }
        });
    }
    Some(Grant { key: ObjectKey::new(&world.namespace, &object.meta.name), role: role.clone(), subjects: lowered })
}
