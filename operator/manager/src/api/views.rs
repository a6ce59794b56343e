//! Pictures of a namespace: its permissions as a table, its traffic as a graph.

use idm_compile::{PermissionSettings, permissions, topology as draw};
use idm_permission::{Bindings, matrix as table};
use serde_json::json;

use crate::call::Call;
use crate::failure::Failure;
use crate::wire::Document;
use crate::wire::audit::{MatrixBinding, MatrixRole, MatrixView};

pub(crate) async fn topology(call: Call) -> Result<Document, Failure> {
    let namespace = call.namespace(call.parameter("namespace")).await?;
    let read = call.manager.place.understood(&call.person, &namespace).await?;
    let mut picture = json!(draw(&read.world, &read.compiled));
    if !read.missing.is_empty() {
        picture["missing"] = json!(read.missing);
    }
    Ok(Document(picture))
}

pub(crate) async fn matrix(call: Call) -> Result<MatrixView, Failure> {
    let namespace = call.namespace(call.parameter("namespace")).await?;
    let read = call.manager.place.understood(&call.person, &namespace).await?;
    let settings = PermissionSettings::default();
    let with_permissions = read.world.role_bindings.iter().filter(|object| object.spec.role.is_none());
    // One that gives nothing because a field is wrong says so in its own findings.
    let of = |object: &idm_compile::Object<idm_api::v1alpha1::RoleBindingSpec>| {
        permissions::binding(&read.world.namespace, &object.meta.name, &object.spec, &settings).ok()
    };
    let table = table(&Bindings(with_permissions.filter_map(of).collect()));
    let roles = table.roles.into_iter().map(|row| MatrixRole {
        role: row.role,
        scope: format!("{:?}", row.scope),
        cells: row.cells,
    });
    let bindings = table.bindings.into_iter().map(|row| MatrixBinding {
        binding: row.binding,
        role: row.role,
        scope: row.scope,
        subjects: row.subjects,
        cells: row.cells,
    });
    Ok(MatrixView {
        roles: roles.collect(),
        bindings: bindings.collect(),
        verbs: table.verbs,
        kinds: table.kinds,
        missing: read.missing.clone(),
    })
}
