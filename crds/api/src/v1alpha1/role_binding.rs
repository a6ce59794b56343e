use idm_types::RoleName;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ObjectStatus;

/// RoleBinding gives a role to users, groups and credentials.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "RoleBinding", plural = "rolebindings", namespaced)]
#[kube(status = "ObjectStatus", shortname = "idrb", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"))]
#[kube(printcolumn(
    name = "Accepted",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(
    name = "Reason",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
    priority = 1
))]
#[kube(printcolumn(
    name = "Message",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].message",
    priority = 1
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleBindingSpec {
    /// The role, as rules and upstreams see it.
    pub role: RoleName,
    /// The subjects that get it.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub subjects: Vec<Subject>,
    /// The scope in which it holds.
    pub scope: Scope,
}

/// A subject that gets a role: exactly one of `user`, `group`, `credential`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.user) ? 1 : 0) + (has(self.group) ? 1 : 0) + (has(self.credential) ? 1 : 0) == 1",
     "message": "subject must have exactly one of `user`, `group`, `credential`"},
    {"rule": "!(has(self.credential) && has(self.issuer))", "message": "`issuer` must not be set with `credential`"}]))]
pub struct Subject {
    /// A user, by `identity.username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// Everyone in a group, by `identity.groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group: Option<String>,
    /// A Credential of this namespace, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub credential: Option<String>,
    /// The issuer that must vouch for the user or group. Unset means any issuer that the policy trusts; set it where a
    /// policy trusts several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: Option<String>,
}

/// The scope of a role: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{"rule": "has(self.project)", "message": "scope must be `project: {}`"}]))]
pub struct Scope {
    /// In this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectScope>,
}

/// This namespace; needs no settings: write `project: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectScope {}
