use idm_api::v1alpha1::{RoleBindingSpec, Subject as Wire};
use idm_plan::{Grant, ObjectKey, Subject};

use super::Notes;
use crate::{Cause, Object, ObjectId, Report, World};

pub(crate) fn lower_grants(world: &World, report: &mut Report) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for object in &world.role_bindings {
        let mut notes = Notes::new(report, ObjectId::new("RoleBinding", &world.namespace, &object.meta.name));
        grants.extend(lower(world, object, &mut notes));
    }
    grants
}

fn lower(world: &World, object: &Object<RoleBindingSpec>, notes: &mut Notes<'_>) -> Option<Grant> {
    let RoleBindingSpec { role, subjects, scope } = &object.spec;
    if scope.project.is_none() {
        return notes.fail("spec.scope", Cause::Invalid, "scope must be `project: {}`");
    }
    let mut lowered = Vec::with_capacity(subjects.len());
    for (i, Wire { user, group, credential, issuer }) in subjects.iter().enumerate() {
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
