//! The part of a policy on a Gateway that no route's policy can weaken.

use idm_types::RuleName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, Method, PolicyLimit};

/// Demands on every request of a Gateway or listener, beside those of the policy that covers its route: both must
/// allow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.methods) || has(self.issuers) || has(self.access) || has(self.conditions) || has(self.limits)",
     "message": "baseline must demand something: set a member or leave `baseline` out"},
    {"rule": "!has(self.access) || !(has(self.access.policies) || has(self.access.exceptPolicies))",
     "message": "`access` of a baseline must not name policies: it is for all of them"}]))]
pub struct Baseline {
    /// The kinds of methods that may let callers in. Without `anonymous`, no route of the Gateway is open. Unset means
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set",
        "items" = {"type": "string", "enum": Method::KINDS}))]
    pub methods: Option<Vec<String>>,
    /// The issuers that may vouch for callers: of tokens, of people who signed in, and of certificates. Callers that no
    /// issuer vouches for, such as those with API keys, are not concerned. Unset means all that the route's policy
    /// trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub issuers: Option<Vec<String>>,
    /// The requests, addresses and hours that are allowed. Checked before anyone authenticates, also at the endpoints
    /// of the gateway itself. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Conditions that must hold for every request. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub conditions: Option<Vec<BaselineCondition>>,
    /// Limits of the requests of all routes together. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Option<Vec<PolicyLimit>>,
}

/// A condition that must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineCondition {
    /// The name in audit records and in `idm explain`.
    pub name: RuleName,
    /// The condition in CEL, over `request`, `identity`, `token` and `now`. Roles, groups and attributes are as the
    /// route's policy maps them; a claim of a token is as its issuer wrote it.
    #[schemars(length(min = 1, max = 4096))]
    pub holds: String,
}
