//! The objects that a policy's JOSE steps would make of a sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::CheckDraft;
use super::explain::HypotheticalRequest;

/// A policy as somebody writes it, and a request to try it on.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PreviewRequest {
    /// The policy; nothing is written.
    pub(crate) draft: CheckDraft,
    /// The request.
    pub(crate) request: HypotheticalRequest,
    /// Its body.
    #[serde(default)]
    pub(crate) body: String,
    /// Its caller, whose authentication is assumed.
    pub(crate) caller: SampleCaller,
}

/// A caller that is assumed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SampleCaller {
    /// Their name.
    pub(crate) username: String,
    /// Their claims, as `token` in expressions.
    #[serde(default)]
    pub(crate) claims: Map<String, Value>,
    /// Their roles.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
}

/// The objects that would be made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Preview")]
pub(crate) struct PreviewView {
    /// The steps that make something for the upstream, in their order.
    pub(crate) steps: Vec<PreviewStep>,
    /// Steps that are not tried here: those for the answer need one.
    pub(crate) left_out: Vec<String>,
}

/// A step and its object. There are neither signatures nor ciphertexts in it: they would be real ones.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewStep {
    /// The name of the step.
    pub(crate) name: String,
    /// The place of the object: `body`, or the name of a header.
    pub(crate) to: String,
    /// Its size, in bytes.
    pub(crate) bytes: u64,
    /// The header of the encryption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encrypted: Option<Value>,
    /// The header of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<Value>,
    /// The content: claims, other JSON, or text; unset where it travels apart from the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Value>,
    /// Why there is no object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}
