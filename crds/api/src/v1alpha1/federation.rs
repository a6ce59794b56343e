use idm_types::Algorithm;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeySources, ObjectStatus};

/// Federation is one outside source of identities, described once and used by many policies.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "Federation", plural = "federations", namespaced)]
#[kube(status = "ObjectStatus", shortname = "idfed", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.oidc.issuer"))]
#[kube(printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1))]
#[kube(printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.oidc)", "message": "federation must have exactly one type: set `oidc`"}]))]
pub struct FederationSpec {
    /// An OpenID Connect provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcProvider>,
}

/// An OpenID Connect provider whose tokens policies accept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcProvider {
    /// The exact `iss` value of its tokens.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// Where its keys come from. Unset means discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeySources>,
    /// Allowed signature algorithms. Unset means RS256 and ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 13), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Option<Vec<Algorithm>>,
}
