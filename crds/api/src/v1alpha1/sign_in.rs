use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::references::refer;
use super::{CredentialSelector, ObjectReference};

/// People who sign in with a browser at one of these Federations, and their sessions. A browser is sent to sign in;
/// every other client without a session gets 401.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignInMethod {
    /// Federations of this namespace where people can sign in. With several, a page lets them choose.
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub federation_refs: Vec<ObjectReference>,
    /// The path below which the gateway answers itself, on every host of the targets:
    /// `{basePath}/callback/{federation}` is the redirect URI to register, and `{basePath}/logout` signs out. Unset
    /// means `/_idm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 128), regex(pattern = "^(/[A-Za-z0-9_-]+)+$"))]
    pub base_path: Option<String>,
    /// Under which origins browsers reach the targets, for example `https://shop.example`, where TLS ends in front of
    /// the gateway. Unset means the scheme of the connection and the host of the request; sign-in over plain http then
    /// works for `localhost` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 8, max = 260)), extend("x-kubernetes-list-type" = "set"))]
    pub origins: Option<Vec<String>>,
    /// The lifetime of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionSettings>,
    /// Claims that a sign-in must have; without them the session is there and every request is refused (403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub required_claims: Option<Vec<RequiredClaim>>,
    /// The strength and age that a sign-in must have; a weaker one is asked to sign in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<StepUp>,
    /// The provider says who the person is, and a Credential with `person` says what they may do: its roles and its
    /// access list replace what the token says. A person without one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PersonCredentials>,
    /// Signing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout: Option<LogoutSettings>,
    /// The look of the pages that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<Pages>,
}

/// The lifetime of sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionSettings {
    /// A session that is not used ends after this time, in seconds (60 to 604800). Unset means 1800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub idle_seconds: Option<i64>,
    /// Every session ends this long after the sign-in, in seconds (60 to 2592000). Unset means 36000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub absolute_seconds: Option<i64>,
}

/// A claim that a sign-in must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequiredClaim {
    /// The claim, for example `hd`; members inside it after dots, for example `realm_access.roles`.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// One of these must be its value, or among its values where it is a list. Unset takes any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub values: Option<Vec<String>>,
}

/// The strength and age that a sign-in must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.acrValues) || has(self.maxAgeSeconds)",
     "message": "stepUp must have `acrValues`, `maxAgeSeconds` or both"}]))]
pub struct StepUp {
    /// Accepted authentication context classes (`acr`); the provider is asked for them in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 256), regex(pattern = "^[!#-\\[\\]-~]+$")),
        extend("x-kubernetes-list-type" = "atomic"))]
    pub acr_values: Option<Vec<String>>,
    /// The greatest age of the person's authentication at the provider, in seconds (60 to 604800).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub max_age_seconds: Option<i64>,
}

/// The Credentials of people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonCredentials {
    /// The value that is compared with the Credential's `person.user`: CEL over `token`, for example `token.email`.
    #[schemars(length(min = 1, max = 512))]
    pub user: String,
    /// Which Credentials are accepted, by label. Unset accepts every Credential of the namespace whose own access list
    /// allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<CredentialSelector>,
}

/// Signing out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogoutSettings {
    /// The page that a browser goes to after it signed out: an https URL or a path. Unset shows a page.
    /// `{origin}{basePath}/logged-out` is what to register as post logout redirect URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(https://|/)"))]
    pub return_to: Option<String>,
}

/// The look of the pages that people see: choice of provider, errors, signed out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pages {
    /// The name of the service, as people know it. Unset shows the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub title: Option<String>,
    /// A picture above the text: an https URL or a path of the same host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(https://|/)[^\"'<>\\s;,]*$"))]
    pub logo_uri: Option<String>,
    /// The colour of buttons and links, for example `#0b5fff`. Choose one that is readable under white text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 7, max = 7), regex(pattern = "^#[0-9a-fA-F]{6}$"))]
    pub accent_color: Option<String>,
}

refer! {
    SignInMethod {
        ;
        federation_refs, base_path, origins, session, required_claims, step_up, credentials, logout, pages
    }
}
