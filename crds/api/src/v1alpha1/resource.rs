use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Describes the targets as an OAuth protected resource (RFC 9728), so that clients such as those of the Model Context
/// Protocol find out where to get a token. The description is served without authentication under
/// `/.well-known/oauth-protected-resource` on every host of the policy's targets, and challenges for tokens name it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectedResource {
    /// The identifier of the resource: the URL by which clients know it, without query, fragment and slash at its end.
    /// Unset means scheme and host of the request, with the path of the route's match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), extend("x-kubernetes-validations" = [
        {"rule": "(self.startsWith('https://') || self.startsWith('http://')) && !self.endsWith('/')",
         "message": "identifier must be an http or https URL without a slash at its end"}]))]
    pub identifier: Option<String>,
    /// The name of the resource for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
    /// A page for developers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512))]
    pub documentation: Option<String>,
    /// The scopes that clients may ask for. Unset names none: clients then ask for those that a challenge names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Option<Vec<String>>,
    /// The issuers where clients get their tokens. Unset means those that the policy's methods `jwt` and
    /// `introspection` accept, and its own token service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 8, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub authorization_servers: Option<Vec<String>>,
}
