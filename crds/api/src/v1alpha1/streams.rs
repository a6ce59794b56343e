//! Streams that are open when their caller's Credential, key or session ends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lifetime;

/// The treatment of open WebSockets, event streams, calls of gRPC and long answers when the Credential, the key or the
/// session of their caller is revoked or expires: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.cut) != has(self.drain)",
     "message": "openStreams must have exactly one of `cut` and `drain`"}]))]
pub struct OpenStreams {
    /// They are ended within a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutStreams>,
    /// They may go on for this time, and are ended then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Lifetime>,
}

/// Needs no settings: write `cut: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutStreams {}
