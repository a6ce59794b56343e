use idm_types::RoleName;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, CredentialSelector, Limit, ObjectStatus};

/// UsagePlan says how much, and where and when, the callers that it selects may use: a tier such as `free` or `gold`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "UsagePlan", plural = "usageplans", namespaced)]
#[kube(status = "ObjectStatus", shortname = "idplan", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Limits", type_ = "string", json_path = ".spec.limits[*].name"))]
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
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.limits) || has(self.access)", "message": "plan must have `limits`, `access` or both"}]))]
pub struct UsagePlanSpec {
    /// The callers whom the plan is for. Several plans may select a caller; then all of them count, except those that
    /// one of them replaces.
    pub selects: PlanSelector,
    /// Names of UsagePlans that do not count for the callers of this one: `gold` replaces `free`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub replaces: Option<Vec<String>>,
    /// The limits of each of these callers. A caller's requests count together, whatever policies they are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Option<Vec<Limit>>,
    /// Where, how and when these callers may use their credentials: with a list of addresses, this is a named group of
    /// addresses that many Credentials share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

/// The callers whom a plan is for: those that any of the members selects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.credentials) || has(self.roles)",
     "message": "selects must have `credentials`, `roles` or both"}]))]
pub struct PlanSelector {
    /// Credentials with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialSelector>,
    /// Callers with one of these roles, however they authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Option<Vec<RoleName>>,
}
