use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::references::refer;
use super::{CredentialSelector, KeyReference, TokenSource};

/// JWTs that callers sign themselves with a secret of their Credential, found by `kid` or by `iss`. The caller is the
/// Credential: what the token claims beside issuer, audience and times counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HmacJwtMethod {
    /// The places where the token travels. Unset means `Authorization: Bearer` and `Authorization: DPoP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Option<Vec<TokenSource>>,
    /// Accepted audiences; a token needs one of them in `aud`. Unset takes tokens without `aud` alone, and is told as a
    /// dangerous option: such a token is good for every policy that does so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Option<Vec<String>>,
    /// The longest time from now until `exp`, in seconds (1 to 31536000). Unset takes any; `exp` itself is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub max_lifetime_seconds: Option<i64>,
    /// The allowed clock skew between caller and gateway, in seconds (0 to 300). Unset means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub clock_skew_seconds: Option<i64>,
    /// Which Credentials are accepted, by label. Unset accepts every Credential with such keys whose own access list
    /// allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
}

/// The secrets with which a caller signs its JWTs, for the method `hmacJwt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HmacJwtCredential {
    /// The `iss` that its tokens must have. No other Credential of the namespace may have it. Unset: a token without
    /// the `kid` of a key must have the `id` of one as its `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// The keys: several where a newer one replaces an older one.
    #[schemars(length(min = 1, max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<HmacJwtKey>,
}

/// One secret, bound to one algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HmacJwtKey {
    /// Its name in tokens (`kid`). No other Credential of the namespace may have it.
    #[schemars(length(min = 1, max = 256))]
    pub id: String,
    /// Its algorithm. A token with another one is refused. Unset means HS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<HmacAlgorithm>,
    /// The Secret with the shared secret, each byte of which counts: 32 bytes at least for HS256, 48 for HS384, 64 for
    /// HS512 (RFC 7518). The key is `secret` unless named.
    pub secret_ref: KeyReference,
    /// From this time on it is refused, in RFC 3339 UTC. Unset means with its Credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 30),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$")
    )]
    pub expire_time: Option<String>,
}

/// HMAC algorithms of JWTs (RFC 7518 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of the RFC
pub enum HmacAlgorithm {
    HS256,
    HS384,
    HS512,
}

refer! {
    HmacJwtMethod { ; sources, audiences, max_lifetime_seconds, clock_skew_seconds, credential_selector }
    HmacJwtCredential { keys; issuer }
    HmacJwtKey { secret_ref; id, algorithm, expire_time }
}
