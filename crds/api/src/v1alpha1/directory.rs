//! Directories: sources of people whose passwords the gateway checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CredentialSelector, KeyReference, ObjectReference, TokenClaim, TrustBundleReference};

/// How logins at a directory are chosen and bounded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginSettings {
    /// Domains whose `DOMAIN\name` belongs to this directory alone, for example `CORP`. The directory is asked for the
    /// name without the domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128), regex(pattern = "^[^\\\\@/]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub domains: Option<Vec<String>>,
    /// Suffixes whose `name@suffix` belongs to this directory alone, for example `corp.example`. An LDAP directory is
    /// asked for the whole name and for the name without the suffix, the others for the whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 255), regex(pattern = "^[^\\\\@/]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub suffixes: Option<Vec<String>>,
    /// The time for which a verified password is not checked again, in seconds (0 to 600). A change or removal in the
    /// directory is noticed that much later. Unset means 0: every request asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 600))]
    pub cache_seconds: Option<i64>,
    /// The time after which a session's person is looked up again, in seconds (1 to 86400): whoever is gone, disabled
    /// or in other groups then is noticed. Unset means 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub recheck_seconds: Option<i64>,
    /// Sessions whose person cannot be looked up because the directory does not answer. Unset means `Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_outage: Option<OnOutage>,
    /// Whether the sign-in form lets people choose a new password when the directory says that theirs has expired or
    /// must be changed: by `unicodePwd` at Active Directory, which needs TLS, and by RFC 3062 at other LDAP
    /// directories. Only with `ldap`. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_password_change: Option<bool>,
    /// The time that one login may take, over all servers, in seconds (1 to 30). Unset means 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 30))]
    pub deadline_seconds: Option<i64>,
    /// Logins that one pod may have under way at the same time (1 to 256). Unset means 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<i64>,
}

/// The treatment of sessions while their directory does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnOutage {
    /// They are refused (503) until the directory answers again.
    Deny,
    /// They go on as they were.
    KeepSessions,
}

/// A source of people that checks their passwords: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.credentials) != has(self.federationRef)",
     "message": "validator must have exactly one of `credentials`, `federationRef`"}]))]
pub struct Validator {
    /// The Credentials of this namespace: write `credentials: {}` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialValidator>,
    /// A Federation of this namespace of type `ldap`, `database` or `rest`, or of type `oidc` with
    /// `client.dangerPasswordGrant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation_ref: Option<ObjectReference>,
}

/// Passwords of Credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialValidator {
    /// Which Credentials are accepted, by label. Unset accepts every one whose own access list allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<CredentialSelector>,
}

/// TLS towards a directory. The server is always verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.trustBundleRef) || has(self.pinnedKeys) || has(self.clientCertificateRef)",
     "message": "tls must have `trustBundleRef`, `pinnedKeys` or `clientCertificateRef`"},
    {"rule": "!has(self.trustBundleRef) || !has(self.pinnedKeys)",
     "message": "tls must have at most one of `trustBundleRef`, `pinnedKeys`"}]))]
pub struct DirectoryTls {
    /// The Secret or ConfigMap with the authorities to trust instead of the system's, in PEM; the key is `ca.crt`
    /// unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_bundle_ref: Option<TrustBundleReference>,
    /// The servers' public keys to trust instead of any authority: the SHA-256 digest of each `SubjectPublicKeyInfo`
    /// in base64, as `idm idp probe` prints it. The key alone is compared, and neither issuer, name nor dates of the
    /// certificate. A key that will be used later may stand here beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 44, max = 44), regex(pattern = "^[A-Za-z0-9+/]{43}=$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub pinned_keys: Option<Vec<String>>,
    /// The Secret of type `kubernetes.io/tls` with the certificate that the gateway shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<ObjectReference>,
}

/// A service that is asked over HTTP whether a password is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestDirectory {
    /// The question whether a password is right.
    pub verify: RestRequest,
    /// The question about a person by `{id}`: people who signed in are looked up again with it. Unset means that they
    /// are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_up: Option<RestRequest>,
    /// TLS settings, where the service is not one of the public web, or wants a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DirectoryTls>,
    /// Repetitions of a question that found no server (0 to 3); `lookUp`, which sends no password, is also repeated
    /// after 502, 503 and 504. Unset means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3))]
    pub retries: Option<i64>,
    /// How answers are read.
    pub answer: RestAnswer,
}

/// A request. `{username}`, `{password}` and `{id}` stand for values of the login, each as a whole: a segment of the
/// path, a parameter, a header or a text of the body. Nothing is pasted into other text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.json) || !has(self.form)", "message": "request must have at most one of `json`, `form`"}]))]
pub struct RestRequest {
    /// The method. Unset means POST with a body, and GET without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<RestMethod>,
    /// The URL, for example `https://people.example/users/{username}`. A password must not be in it.
    #[schemars(length(min = 8, max = 2048))]
    pub url: String,
    /// Headers, for example `Authorization` with `basic: {}` or a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Option<Vec<RestHeader>>,
    /// A body in JSON, for example `{"login": "{username}", "secret": "{password}"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub json: Option<serde_json::Map<String, serde_json::Value>>,
    /// The parameters of a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub form: Option<Vec<RestParameter>>,
}

/// Methods of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestMethod {
    /// GET.
    #[serde(rename = "GET")]
    Get,
    /// POST.
    #[serde(rename = "POST")]
    Post,
    /// PUT.
    #[serde(rename = "PUT")]
    Put,
}

/// A header of a request: exactly one of `value`, `basic` and `secretRef`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.value), has(self.basic), has(self.secretRef)].filter(is, is).size() == 1",
     "message": "header must have exactly one of `value`, `basic`, `secretRef`"},
    {"rule": "!has(self.prefix) || has(self.secretRef)", "message": "`prefix` must be set only with `secretRef`"}]))]
pub struct RestHeader {
    /// Its name.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// Its value: a text, or `{username}` or `{id}` as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
    /// User name and password in the `Basic` scheme: write `basic: {}`. For `Authorization` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<RestBasic>,
    /// A secret of the gateway's own; the key in the Secret is `token` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// The text before the secret, for example `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub prefix: Option<String>,
}

/// `Basic` needs no settings: write `basic: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestBasic {}

/// A parameter of a form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestParameter {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value: a text, or `{username}`, `{password}` or `{id}` as a whole.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// How answers are read. Expressions see `token.status`, a number, and `token.body`, the answer's JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestAnswer {
    /// True where the person is who they say they are, for example `token.status == 200 && token.body.active`.
    #[schemars(length(min = 1, max = 1024))]
    pub success: String,
    /// True where the password is wrong or the person unknown. An answer for which neither this nor `success` is true
    /// is an error of the service (503). Unset means `token.status == 401`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub failure: Option<String>,
    /// The id that stays when the person is renamed, for example `token.body.id`.
    #[schemars(length(min = 1, max = 1024))]
    pub id: String,
    /// The user name, for example `token.body.login`.
    #[schemars(length(min = 1, max = 1024))]
    pub username: String,
    /// Groups: a list of names, for example `token.body.groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub groups: Option<String>,
    /// Further claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub claims: Option<Vec<TokenClaim>>,
}

/// An object with any members.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "nullable": true})
}
