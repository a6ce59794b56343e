use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::references::refer;
use super::{CredentialSelector, KeyReference};

/// Requests that the caller signs (RFC 9421) with a key of its Credential.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureMethod {
    /// The application that signatures must be made for (`tag`). Unset takes signatures without a tag alone, so that
    /// one that was made for another application is not taken here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub tag: Option<String>,
    /// What a signature must cover: derived components (`@method`, `@authority`, `@scheme`, `@target-uri`, `@path`,
    /// `@query`) and names of headers in lower case. `content-digest` is wanted of requests with a body alone.
    /// `@target-uri` covers scheme, authority, path and query. Unset means `@method`, `@authority`, `@path`, `@query`
    /// and `content-digest`; a list without one of these is told as a dangerous option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 64), regex(pattern = "^@?[a-z0-9_-]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub components: Option<Vec<String>>,
    /// The time for which a signature may be used after `created`, in seconds (1 to 3600). `expires` ends it earlier.
    /// Unset means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub max_age_seconds: Option<i64>,
    /// The allowed clock skew between signer and gateway, in seconds (0 to 300). Unset means 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub clock_skew_seconds: Option<i64>,
    /// Take the same signature again for as long as it is valid. Whoever sees a request can then send it again. Unset
    /// means false: each `nonce` is taken once, and without one, each signed content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger_replayable: Option<bool>,
    /// Which Credentials are accepted, by label. Unset accepts every Credential with such keys whose own access list
    /// allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
}

/// The keys with which a caller signs its requests, for the method `signature`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignatureCredential {
    /// The keys: several where a newer one replaces an older one.
    #[schemars(length(min = 1, max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<SignatureKey>,
}

/// One key, bound to one algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(self.algorithm == 'hmac-sha256') ? (has(self.secretRef) && !has(self.publicKey)) : \
        (has(self.publicKey) && !has(self.secretRef))",
     "message": "key must have `secretRef` for hmac-sha256, and `publicKey` for every other algorithm"}]))]
pub struct SignatureKey {
    /// Its name in signatures (`keyid`). No other Credential of the namespace may have it.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub id: String,
    /// Its algorithm. A signature that names another one is refused.
    pub algorithm: SignatureAlgorithm,
    /// The public key: PEM (`BEGIN PUBLIC KEY`), or one JWK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192))]
    pub public_key: Option<String>,
    /// The Secret with the shared secret of hmac-sha256, 32 bytes at least, each of which counts; the key is `secret`
    /// unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// From this time on it is refused, in RFC 3339 UTC. Unset means with its Credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 30),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$")
    )]
    pub expire_time: Option<String>,
}

/// The algorithms of RFC 9421.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignatureAlgorithm {
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ECDSA over P-256 with SHA-256.
    #[serde(rename = "ecdsa-p256-sha256")]
    EcdsaP256Sha256,
    /// ECDSA over P-384 with SHA-384.
    #[serde(rename = "ecdsa-p384-sha384")]
    EcdsaP384Sha384,
    /// RSASSA-PSS with SHA-512.
    #[serde(rename = "rsa-pss-sha512")]
    RsaPssSha512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "rsa-v1_5-sha256")]
    RsaV15Sha256,
    /// HMAC with SHA-256.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
}

refer! {
    SignatureMethod {
        ; tag, components, max_age_seconds, clock_skew_seconds, danger_replayable, credential_selector
    }
    SignatureCredential { keys; }
    SignatureKey { secret_ref; id, algorithm, public_key, expire_time }
}
