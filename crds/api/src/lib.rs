//! What users write: the four kinds of `identity-manager.io/v1alpha1`, as Rust types.
//!
//! In: YAML or JSON. Out: typed specs and the CRD manifests made from them ([`crds`]). No behaviour:
//! what a spec means is decided in `idm-compile`. Every field here is read there; a field that is not
//! implemented does not exist. Unknown fields are errors, so that a typing mistake or a newer field
//! never means "not restricted". Start at [`v1alpha1::IdentityPolicySpec`].

pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of our kinds.
pub const GROUP: &str = "identity-manager.io";
/// The name of our GatewayClass.
pub const GATEWAY_CLASS: &str = "idm";
/// What we call ourselves in Gateway API statuses.
pub const CONTROLLER_NAME: &str = "identity-manager.io/gateway-controller";
/// On an IdentityPolicy with a token service: a time in RFC 3339 UTC; a signing key that is older is replaced.
pub const ROTATE_ANNOTATION: &str = "identity-manager.io/rotate";
/// On a Service: further hostnames under which its policy's gateway serves it, separated by commas; `*` for every host.
pub const HOSTNAMES_ANNOTATION: &str = "identity-manager.io/hostnames";

/// The manifests of the four kinds, in the order they are documented.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![v1alpha1::IdentityPolicy::crd(), v1alpha1::Credential::crd(), v1alpha1::Federation::crd(), v1alpha1::RoleBinding::crd()]
}
