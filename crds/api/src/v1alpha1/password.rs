use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::references::refer;
use super::{CredentialSelector, TokenSource, Validator};

/// The `Basic` scheme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.validators) || !has(self.credentialSelector)",
     "message": "`credentialSelector` must not be set with `validators`: write `credentials: {selector: …}`"}]))]
pub struct BasicMethod {
    /// The name of the protected space, which callers see when they are asked for the password.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub realm: String,
    /// Which Credentials are accepted, by label. Unset accepts every Credential with a password whose own access list
    /// allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
    /// The sources of people, in order: the first one that knows the user name decides. Unset means the Credentials of
    /// this namespace. Not with `credentialSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub validators: Option<Vec<Validator>>,
}

/// The `Digest` scheme.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DigestMethod {
    /// The name of the protected space, which callers see when they are asked for the password. Part of every hash: a
    /// change voids what clients have stored.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub realm: String,
    /// Accepted hash algorithms, the preferred one first. Unset means SHA-256. MD5 is broken: name it only for clients
    /// that know nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Option<Vec<DigestAlgorithm>>,
    /// Accepted qualities of protection: `auth` covers method and target, `auth-int` also the body, which is then held
    /// until it was checked (1 MiB at most). Unset means `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub qualities: Option<Vec<Quality>>,
    /// The time for which a nonce may be used, in seconds (10 to 3600). Unset means 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 3600))]
    pub nonce_seconds: Option<i64>,
    /// Which Credentials are accepted, by label. Unset accepts every Credential with a password in clear whose own
    /// access list allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
    /// The sources of people, asked in order: Credentials, and databases with the column `ha1` (`database.digest`) for
    /// this realm. Unset means Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub validators: Option<Vec<Validator>>,
}

/// Hash algorithms of the `Digest` scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DigestAlgorithm {
    /// SHA-256.
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512/256.
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
    /// MD5, which is broken.
    #[serde(rename = "MD5")]
    Md5,
}

/// The part of a request that a `Digest` response protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Quality {
    /// Method and target.
    #[serde(rename = "auth")]
    Auth,
    /// Also the body.
    #[serde(rename = "auth-int")]
    AuthInt,
}

/// Base64 of a text in a layout of your own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.validators) || !has(self.credentialSelector)",
     "message": "`credentialSelector` must not be set with `validators`: write `credentials: {selector: …}`"}]))]
pub struct Base64Method {
    /// The places of a request where it travels.
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Vec<TokenSource>,
    /// The form of the decoded text: `{username}` with `{password}`, or `{apiKey}`, with any text around them;
    /// `{ignored}` stands for a part that does not matter. For example `{username}|{password}`.
    #[schemars(length(min = 8, max = 128))]
    pub layout: String,
    /// Which Credentials are accepted, by label. Unset accepts every Credential whose own access list allows the
    /// policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
    /// The sources of people, in order: the first one that knows the user name decides. Unset means the Credentials of
    /// this namespace. Not with `credentialSelector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub validators: Option<Vec<Validator>>,
}

refer! {
    BasicMethod { ; realm, credential_selector, validators }
    DigestMethod { ; realm, algorithms, qualities, nonce_seconds, credential_selector, validators }
    Base64Method { ; sources, layout, credential_selector, validators }
}
