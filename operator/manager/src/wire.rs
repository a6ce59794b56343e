//! The answers and requests of the API, as JSON. Nothing here has a secret, except the key of a Credential that was
//! made a moment ago.

pub(crate) mod audit;
pub(crate) mod explain;
pub(crate) mod federation;
pub(crate) mod llm;
pub(crate) mod preview;
pub(crate) mod request;

use std::collections::BTreeMap;

use idm_permission::Denial;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The proof that opens a session: a code in a folder, a token in a cluster.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The code that was printed at the start.
    pub(crate) code: Option<String>,
    /// A bearer token of the API server.
    pub(crate) token: Option<String>,
    /// Namespaces of the cluster to look at, for a person who may not list them.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
}

/// How people sign in here.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignInWay {
    /// The place of the objects.
    pub(crate) mode: Mode,
    /// The member of the request that opens a session: `code` or `token`.
    pub(crate) with: &'static str,
}

/// The place of the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// In a folder of YAML.
    Folder,
    /// In a cluster.
    Cluster,
}

/// Whether a verb is allowed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Allowed {
    /// Whether it is.
    pub(crate) allowed: bool,
    /// By what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// The permission that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<Denial>,
}

/// The person of the session.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    /// Their name.
    pub(crate) name: String,
    /// Their groups.
    pub(crate) groups: Vec<String>,
    /// The place of the objects.
    pub(crate) mode: Mode,
    /// The namespaces that they may look at.
    pub(crate) namespaces: Vec<String>,
    /// Why there may be more namespaces than these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespaces_note: Option<String>,
    /// The version of idm.
    pub(crate) version: &'static str,
    /// Verbs by kind, in the namespace that was asked for.
    pub(crate) permissions: BTreeMap<String, BTreeMap<String, Allowed>>,
}

/// Whether an object is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    /// `True`, `False` or `Unknown`.
    pub(crate) status: String,
    /// The reason, in one word.
    pub(crate) reason: String,
    /// The fault and its remedy.
    pub(crate) message: String,
}

/// The tool that owns an object: edits belong where it takes the object from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManagedBy {
    /// `Argo CD`, `Flux` or `Helm`.
    pub(crate) tool: String,
    /// The application, Kustomization, HelmRelease or release.
    pub(crate) owner: String,
    /// The place of the object in its source, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
}

/// An object in a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// Its kind.
    pub(crate) kind: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) team: Option<String>,
    /// Whether it is in force.
    pub(crate) ready: Ready,
    /// Its columns.
    pub(crate) summary: BTreeMap<String, String>,
    /// Its version, for a later change.
    pub(crate) version: String,
    /// The tool that owns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) managed_by: Option<ManagedBy>,
}

/// A part of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    /// The objects.
    pub(crate) items: Vec<Item>,
    /// Behind them: give it as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// All objects that match; unset where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
}

/// The compiler's findings about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Finding")]
pub(crate) struct FindingView {
    /// The field, from `spec` on; empty where it is about the whole object.
    pub(crate) field: String,
    /// The reason, in one word.
    pub(crate) reason: String,
    /// The fault and its remedy.
    pub(crate) message: String,
    /// The object is in force nevertheless.
    pub(crate) is_note: bool,
}

/// A key of a Credential, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Key")]
pub(crate) struct KeyView {
    /// The first 12 digits of its hash.
    pub(crate) id: String,
    /// `Active`, `Overlapping`, `Revoked`, `Expired` or `RotatedOut`.
    pub(crate) state: String,
    /// Until when it works, or worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until_time: Option<String>,
}

/// One object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectView {
    /// As in a list.
    #[serde(flatten)]
    pub(crate) item: Item,
    /// Its YAML.
    pub(crate) yaml: String,
    /// The file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    /// The line where it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    /// The compiler's findings about it.
    pub(crate) findings: Vec<FindingView>,
    /// The keys of a Credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<Vec<KeyView>>,
    /// The settings of an IdentityPolicy that are in force, each with its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effective: Option<Value>,
}

/// A change that is to be checked.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CheckRequest")]
pub(crate) struct CheckDraft {
    /// The object's kind.
    pub(crate) kind: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The whole object.
    pub(crate) yaml: String,
    /// The version that it was made of; unset for a new object.
    pub(crate) version: Option<String>,
}

/// The effects of a change.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checked {
    /// The fields that change, without values that may be secret.
    pub(crate) diff: Vec<String>,
    /// The findings that the compiler would have.
    pub(crate) findings: Vec<FindingView>,
    /// The warnings of an API server.
    pub(crate) warnings: Vec<String>,
    /// Nothing changes.
    pub(crate) unchanged: bool,
}

/// A change.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SaveRequest {
    /// The whole object.
    pub(crate) yaml: String,
    /// The version that it was made of; unset for a new object.
    pub(crate) version: Option<String>,
}

/// A gateway, and whether it serves the newest configuration.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Gateway")]
pub(crate) struct GatewayView {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The generation in force.
    pub(crate) generation: u64,
    /// The digest in force.
    pub(crate) digest: String,
    /// Pods that serve the newest configuration.
    pub(crate) ready: u32,
    /// Pods that should.
    pub(crate) wanted: u32,
    /// The obstacle.
    pub(crate) message: String,
}

/// A new Credential with an API key.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewCredential {
    /// Its name.
    pub(crate) name: String,
    /// The one it is for: `user:NAME` or `application:NAME`; a bare name is an application.
    pub(crate) owner: Option<String>,
    /// From this time on it is refused.
    pub(crate) expire_time: Option<String>,
    /// Its roles.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
}

/// A key that was made a moment ago.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeKey {
    /// The Credential.
    pub(crate) name: String,
    /// The key itself, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The Secret that holds it, in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// Its id; unset where it is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The key before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) old: Option<OldKey>,
}

/// The key before a new one.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OldKey {
    /// Its id.
    pub(crate) id: String,
    /// Until when it works.
    pub(crate) until_time: String,
}

/// A wish for a new key.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// For so long the old key still works: 0 after a leak.
    #[schemars(range(max = 31_536_000))]
    pub(crate) overlap_seconds: u64,
}

/// A wish to revoke keys.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RevokeRequest {
    /// The id of the key; unset means every key that the Credential has now.
    pub(crate) key: Option<String>,
}

/// The keys that were revoked.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revoked {
    /// Their ids.
    pub(crate) revoked: Vec<String>,
}

/// A document whose form is another standard's: a JSON schema, or the description of this API.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Document(pub(crate) Value);
