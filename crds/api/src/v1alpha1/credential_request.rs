use idm_types::RoleName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Access;
use super::common::conditions_schema;

/// CredentialRequest asks for a Credential: the requester writes it, an approver answers it, and the operator makes the
/// key, which it encrypts to the requester.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "identity-manager.io",
    version = "v1alpha1",
    kind = "CredentialRequest",
    plural = "credentialrequests",
    namespaced
)]
#[kube(status = "CredentialRequestStatus", shortname = "idreq", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Requester", type_ = "string", json_path = ".spec.requester.username"))]
#[kube(printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(name = "Expires", type_ = "string", json_path = ".spec.credential.expireTime"))]
#[kube(printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose", priority = 1))]
#[kube(printcolumn(name = "Answered-By", type_ = "string", json_path = ".spec.approval.by.username", priority = 1))]
#[kube(printcolumn(
    name = "Message",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].message",
    priority = 1
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.requester == oldSelf.requester && self.purpose == oldSelf.purpose && \
        self.credential == oldSelf.credential && self.recipient == oldSelf.recipient",
     "message": "`requester`, `purpose`, `credential` and `recipient` must not be changed: withdraw this request and \
         make another one"},
    {"rule": "!has(oldSelf.approval) || (has(self.approval) && self.approval == oldSelf.approval)",
     "message": "`approval` must not be changed: delete the request to end what it gave"},
    {"rule": "!has(oldSelf.received) || has(self.received)", "message": "`received` must stay"},
    {"rule": "!has(self.received) || self.received",
     "message": "`received` must be true, or left out while the key was not received"},
    {"rule": "!has(self.approval) || self.approval.by.username != self.requester.username",
     "message": "`approval` must be given by somebody else than the requester"}]))]
pub struct CredentialRequestSpec {
    /// The requester. At the API server it must be the name of who creates the request.
    pub requester: RequestPerson,
    /// The purpose, for the approver and for the record.
    #[schemars(length(min = 1, max = 1024))]
    pub purpose: String,
    /// The wanted Credential.
    pub credential: RequestedCredential,
    /// The public key to which the made key is encrypted; its private key stays with the requester.
    pub recipient: Recipient,
    /// The answer. It is written once, by somebody else than the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<RequestApproval>,
    /// The requester has the key: its ciphertext is removed from the status. Only the requester may set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<bool>,
}

/// A person or a program, as the API server names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestPerson {
    /// The name, as `idm whoami` and `kubectl auth whoami` show it.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
}

/// A Credential that somebody wants. It gets the name of the request, its owner is the requester, and it is of the team
/// of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.apiKey)", "message": "credential must have `apiKey`"},
    {"rule": "has(self.access.policies)",
     "message": "`access.policies` must name the policies that the Credential is for"}]))]
pub struct RequestedCredential {
    /// An API key, which the operator makes. Nothing in the cluster holds it in clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<RequestedApiKey>,
    /// Labels of the Credential, by which policies and UsagePlans select it: a tier, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub labels: Option<Vec<RequestedLabel>>,
    /// Roles that the caller shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Option<Vec<RoleName>>,
    /// Policies, requests, addresses and hours it may be used with. The policies must be named.
    pub access: Access,
    /// From this time on it is refused, in RFC 3339 UTC, for example `2027-01-01T00:00:00Z`. Ask again before it.
    #[schemars(
        length(min = 20, max = 30),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$")
    )]
    pub expire_time: String,
}

/// An API key needs no settings: write `apiKey: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestedApiKey {}

/// A label that the Credential shall have. Names with a prefix are nobody's to ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestedLabel {
    /// Its name, without a prefix.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 63), regex(pattern = "^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"))]
    pub value: String,
}

/// The key of the requester for one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!self.jwk.contains('\"d\"')",
     "message": "`jwk` must be a public key, without `d`: make another one, because others can read this one"}]))]
pub struct Recipient {
    /// The public key as JSON text (RFC 7517): of type EC with the curve P-256, or of type OKP with the curve X25519
    /// (RFC 8037). As text, because YAML takes a member `y` for a truth value. Make one for each request.
    #[schemars(length(min = 2, max = 1024))]
    pub jwk: String,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.decision == 'Approved' || has(self.reason)",
     "message": "a rejection must have a `reason`, which the requester reads"}]))]
pub struct RequestApproval {
    /// `Approved` or `Rejected`.
    pub decision: RequestDecision,
    /// The one who answers. At the API server it must be the name of who writes it.
    pub by: RequestPerson,
    /// `status.hash` of the request that was read: the answer is to that one and to no other of its name.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub hash: String,
    /// The reason, for the requester and for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
}

/// Answers to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestDecision {
    /// The Credential is made.
    Approved,
    /// It is not.
    Rejected,
}

/// The state of a request, as the operator reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRequestStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The SHA-256 of what is asked for, which an answer names. Unset: it cannot be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// From this time on it cannot be answered any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_until_time: Option<String>,
    /// The Credential that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<MadeCredential>,
    /// The key, as a compact JWE that only the recipient opens; until it was received, or until `keyUntilTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted_key: Option<String>,
    /// The ciphertext is removed at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_until_time: Option<String>,
    /// Standard conditions, all of positive polarity: Accepted, Approved, Issued and their summary Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// A Credential that was made for a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeCredential {
    /// Its name.
    pub name: String,
    /// The id of its key: the first 12 digits of its SHA-256.
    pub key_id: String,
}
