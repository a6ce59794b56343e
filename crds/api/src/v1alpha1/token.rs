use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyReference, TokenSource};

/// A query parameter that carries a token (RFC 6750 §2.3): it stays in logs and histories, so use it only for clients
/// that can do no better, such as links and browsers' event streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryTokenSource {
    /// Its name, for example `access_token`. It is removed before the request goes on.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: String,
    /// The number of such requests that one address may make in a minute. Unset means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 6000))]
    pub requests_per_minute: Option<i64>,
}

/// A token for the upstream in exchange for the caller's (RFC 8693): narrower, and made for the upstream alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchange {
    /// The token endpoint of the server that exchanges.
    #[schemars(length(min = 8, max = 2048), extend("x-kubernetes-validations" = [
        {"rule": "self.startsWith('https://') || self.startsWith('http://')",
         "message": "endpoint must be an http or https URL"}]))]
    pub endpoint: String,
    /// The client as which the gateway asks.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// The Secret with the client's secret; the key is `clientSecret` unless named.
    pub client_secret_ref: KeyReference,
    /// The upstream's audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
    /// The scopes that the upstream needs. Unset asks for none by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = "^[!#-\\[\\]-~]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Option<Vec<String>>,
    /// The time for which an exchanged token may be used again for the same caller's token, in seconds (0 to 3600), and
    /// never in the last 10 seconds of its life. Unset means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub cache_seconds: Option<i64>,
}

/// The profile that an issuer's tokens follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenProfile {
    /// Access tokens of RFC 9068: `typ` is `at+jwt`, and `sub`, `client_id`, `iat` and `jti` are there.
    #[serde(rename = "RFC9068")]
    Rfc9068,
}

/// The keys that tokens must be bound to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Confirmation {
    /// `Required` refuses tokens that are not bound to a DPoP key (RFC 9449). Unset takes both kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpop: Option<Demand>,
    /// `Required` refuses tokens that are not bound to the client's certificate (RFC 8705). Unset takes both kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Demand>,
}

/// Whether something is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Demand {
    /// Taken when it is there.
    Optional,
    /// Refused when it is not.
    Required,
}

/// Tokens about which their issuer is asked (RFC 7662).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntrospectionMethod {
    /// The issuer whose tokens these are; an answer that names another `iss` is refused.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The introspection endpoint.
    #[schemars(length(min = 8, max = 2048), extend("x-kubernetes-validations" = [
        {"rule": "self.startsWith('https://') || self.startsWith('http://')",
         "message": "endpoint must be an http or https URL"}]))]
    pub endpoint: String,
    /// The client as which the gateway asks.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// The Secret with the client's secret; the key is `clientSecret` unless named.
    pub client_secret_ref: KeyReference,
    /// One of these must be in the answer's `aud`. Unset accepts any: the issuer's word that the token is active is
    /// enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Option<Vec<String>>,
    /// The places where the token travels. Unset means `Authorization: Bearer` and `Authorization: DPoP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Option<Vec<TokenSource>>,
    /// The time for which a good answer may be used, in seconds (0 to 300), and never beyond the token's `exp`. A token
    /// that is revoked meanwhile passes that long. Unset means 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub cache_seconds: Option<i64>,
    /// The keys that tokens must be bound to. A token that is bound is refused without what it is bound to, also when
    /// this is unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
}
