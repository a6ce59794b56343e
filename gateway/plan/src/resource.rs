use serde::{Deserialize, Serialize};

/// The path that comes before a resource's own in the address of its metadata (RFC 9728 §3).
pub const RESOURCE_METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// A policy's targets as an OAuth protected resource (RFC 9728).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtectedResource {
    /// Its identifier; `None`: scheme and host of the request, with the path of the match that the request has.
    pub identifier: Option<ResourceIdentifier>,
    /// A name for people.
    pub name: Option<String>,
    /// A page for developers.
    pub documentation: Option<String>,
    /// The scopes that clients may ask for. Empty: the metadata name none.
    pub scopes: Vec<String>,
    /// The issuers where clients get their tokens. Empty: the metadata name none.
    pub authorization_servers: Vec<String>,
    /// The places of a token: `header`, `query` (RFC 6750 §2).
    pub bearer_methods: Vec<String>,
    /// Every token must be bound to a DPoP key.
    pub dpop_required: bool,
    /// Every token must be bound to the client's certificate.
    pub certificate_required: bool,
}

/// An identifier that was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceIdentifier {
    /// The identifier: a URL without query, fragment and slash at its end.
    pub text: String,
    /// Its scheme, host and port.
    pub origin: String,
    /// Its path in canonical form: empty, or with a leading slash and none at its end.
    pub path: String,
}

/// The address of the metadata of the resource with this origin and this path (RFC 9728 §3.1).
pub fn resource_metadata_url(origin: &str, path: &str) -> String {
    format!("{origin}{RESOURCE_METADATA_PATH}{path}")
}
