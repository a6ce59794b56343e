//! The wire format: the kinds of `identity-manager.io/v1alpha1`, as Rust types.
//!
//! In: YAML or JSON. Out: typed specs and the CRD manifests made from them ([`crds`]). No behaviour:
//! what a spec means is decided in `idm-compile`. Every field here is read there; a field that is not
//! implemented does not exist. Unknown fields are errors, so that a typing mistake or a newer field
//! never means "not restricted". Start at [`v1alpha1::IdentityPolicySpec`].

pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The API group of our kinds.
pub const GROUP: &str = "identity-manager.io";
/// The name of the GatewayClass that the chart installs.
pub const GATEWAY_CLASS: &str = "idm";
/// The controller's name in Gateway API statuses.
pub const CONTROLLER_NAME: &str = "identity-manager.io/gateway-controller";
/// On a GatewayClass of ours: with the value `true`, its Gateways forward requests of routes that no IdentityPolicy
/// covers.
pub const DANGER_OPEN_ANNOTATION: &str = "identity-manager.io/danger-open-default";
/// On a Credential: ids of keys to revoke, separated by commas.
pub use idm_permission::REVOKE_ANNOTATION;
/// On an IdentityPolicy with a token service: a time in RFC 3339 UTC; a signing key that is older is replaced. On a
/// Credential with an API key: the id of a request for a new key, which asks once, and behind it, if need be,
/// `overlap=24h` or `overlap=0`: the time for which the old key still works.
pub use idm_permission::ROTATE_ANNOTATION;
/// On a Gateway: `own` gives it a gateway of its own, `shared` has the namespace's gateway serve it.
pub const LAYOUT_ANNOTATION: &str = "identity-manager.io/gateway";
/// On a Service: further hostnames under which its policy's gateway serves it, separated by commas; `*` for every host.
pub const HOSTNAMES_ANNOTATION: &str = "identity-manager.io/hostnames";

/// The manifests of the kinds, in the order they are documented.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let kinds = [
        v1alpha1::IdentityPolicy::crd(),
        v1alpha1::Credential::crd(),
        v1alpha1::Federation::crd(),
        v1alpha1::RoleBinding::crd(),
        v1alpha1::UsagePlan::crd(),
        v1alpha1::CredentialRequest::crd(),
    ];
    kinds.into_iter().map(with_plain_descriptions).collect()
}

/// Joins the lines of each paragraph of a description: where a doc comment breaks its lines is no part of the API.
fn with_plain_descriptions(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            join_lines(schema);
        }
    }
    crd
}

fn join_lines(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(join_lines);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => join_lines(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(join_lines),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        join_lines(values);
    }
    for schemas in [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of] {
        schemas.iter_mut().flatten().for_each(join_lines);
    }
}
