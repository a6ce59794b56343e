//! Requests for Credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::requests::RequestView;

/// Requests, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestList {
    /// The requests.
    pub(crate) requests: Vec<RequestView>,
    /// What is left out, and why.
    pub(crate) notes: Vec<String>,
}

/// The approval of a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AnswerBody {
    /// The hash of the request that was read.
    pub(crate) hash: String,
    /// The reason.
    pub(crate) reason: Option<String>,
}

/// The rejection of a request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RejectBody {
    /// The hash of the request that was read.
    pub(crate) hash: String,
    /// The reason, which the requester reads.
    pub(crate) reason: String,
}

/// The request that is meant, and no later one of its name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestUid {
    /// Its uid.
    pub(crate) uid: String,
}

/// A request that is gone.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawn {
    /// Always true.
    pub(crate) withdrawn: bool,
}
