//! The keys of a Credential over time: how they are replaced, revoked and supplied, and their status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lifetime;

/// An API key. Write `apiKey: {}` for keys of this system's own form, which are made for you.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyCredential {
    /// Keys of any form, which others made: the Secret holds their SHA-256 instead of the keys. Unset means a key as
    /// `idm credential new` makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<SuppliedKeys>,
}

/// Keys that others made. The Secret has (in its key `sha256` unless named) the SHA-256 of the key in hexadecimal; a
/// second line `HASH until TIME` keeps the key before it until that time, in RFC 3339 UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.entropyBits) && self.entropyBits >= 128) || (has(self.dangerGuessable) && \
        self.dangerGuessable)",
     "message": "`entropyBits` must be at least 128, or `dangerGuessable` must be true"}]))]
pub struct SuppliedKeys {
    /// The number of random bits in each key, as whoever made them declares it: at least 128, for example 32 random
    /// hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub entropy_bits: Option<i64>,
    /// Take keys with fewer random bits, or of unknown origin: whoever reads the hashes, or asks often enough, may find
    /// them. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger_guessable: Option<bool>,
}

/// How the operator replaces the key. Without `every` it does so only when it is asked to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// The age at which a key is replaced, for example `{hours: 2160}`. Unset means never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Lifetime>,
    /// The time for which the old key still works beside the new one; never beyond `expireTime`. Unset means 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Lifetime>,
}

/// One key of a Credential.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its id, by which records and commands name it: the first 12 digits of its SHA-256.
    pub id: String,
    /// `Active`; `Overlapping` until `untilTime`, beside a newer one; `Revoked` or `RotatedOut`.
    pub state: String,
    /// Since when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_time: Option<String>,
    /// It is refused from this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_time: Option<String>,
    /// The gateways that know it, while a newer key and an older one work side by side, for example `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateways: Option<String>,
    /// The last use of the older of two keys, to five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_use_time: Option<String>,
    /// The address of the caller who used it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_use_address: Option<String>,
}

/// The state of requests for a new key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The last request that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}
