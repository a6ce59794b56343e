//! Questions about requests and tokens that nobody sends to a gateway, and their answers.

use idm_permission::Denial;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A token to look into. It is neither logged nor kept.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DecodeRequest {
    /// The token.
    pub(crate) token: String,
    /// The policy by which it is checked.
    pub(crate) policy: Option<PolicyName>,
}

/// A policy by its name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyName {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

/// The content of a token, and whether a policy takes it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DecodedView {
    /// Its header.
    pub(crate) header: Value,
    /// Its claims; unset where they are encrypted.
    pub(crate) claims: Value,
    /// The checks of the policy, in their order.
    pub(crate) checks: Vec<CheckView>,
    /// The permissions that the person lacks: the policy is checked without what they are for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<Denial>,
}

/// One check.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TokenCheck")]
pub(crate) struct CheckView {
    /// Its name.
    pub(crate) name: String,
    /// Whether it was passed; unset where that is not known.
    pub(crate) ok: Option<bool>,
    /// The facts that were compared.
    pub(crate) text: String,
}

/// A request that nobody sends.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExplainRequest {
    /// The request.
    pub(crate) request: HypotheticalRequest,
    /// The namespace of its gateway; unset means the first.
    pub(crate) namespace: Option<String>,
}

/// Its parts.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HypotheticalRequest {
    /// Its method.
    pub(crate) method: String,
    /// `http` or `https`, host, path and query.
    pub(crate) url: String,
    /// Its headers: names and values.
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
}

/// How it would be decided.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Explained")]
pub(crate) struct ExplainedView {
    /// `Permitted`, `Denied`, `Failed` or `Unknown`.
    pub(crate) outcome: Value,
    /// The status that its caller would get; unset where it would be the upstream's.
    pub(crate) status: Option<u16>,
    /// The reason of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Why, in words.
    pub(crate) explanation: String,
    /// Why, check by check.
    pub(crate) steps: Vec<StepView>,
    /// The permissions that the person lacks: the decision is made without what they are for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<Denial>,
}

/// One check of a decision.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Step")]
pub(crate) struct StepView {
    /// Its name.
    pub(crate) name: String,
    /// Whether the request passed.
    pub(crate) ok: bool,
    /// The facts that were compared, or found.
    pub(crate) text: String,
}
