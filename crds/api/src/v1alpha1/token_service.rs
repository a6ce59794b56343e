use idm_types::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CredentialSelector, KeyReference, KeySources, TrustedCertificates, Validator};

/// Issues access tokens (RFC 6749, RFC 9068) to Credentials of the kind `oauthClient`, on every host of the policy's
/// targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenService {
    /// The URL under which clients reach the service, without a slash at its end; it is the `iss` of the tokens. Its
    /// path says where the endpoints are: `https://shop.example/oauth` gives `/oauth/token`, `/oauth/revoke`,
    /// `/oauth/introspect`, `/oauth/.well-known/jwks.json` and `/.well-known/oauth-authorization-server/oauth`.
    #[schemars(length(min = 8, max = 512), extend("x-kubernetes-validations" = [
        {"rule": "(self.startsWith('https://') || self.startsWith('http://')) && !self.endsWith('/')",
         "message": "issuer must be an http or https URL without a slash at its end"}]))]
    pub issuer: String,
    /// The audiences of the tokens: the `aud` of tokens whose client asks for no less.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,
    /// The grants that the token endpoint takes. Unset means `ClientCredentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub grants: Option<Vec<TokenGrant>>,
    /// Which Credentials may use the service, by label: clients, and users of the password grant. Unset takes every one
    /// whose own access list allows the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
    /// The sources of people for the password grant, in order: the first one that knows the user name decides. Unset
    /// means the Credentials that `credentialSelector` accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub validators: Option<Vec<Validator>>,
    /// Settings of access tokens. Unset means five minutes, without further claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<AccessTokenSettings>,
    /// Settings of refresh tokens. Unset means 24 hours and 1000 uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<RefreshTokenSettings>,
    /// The keys that sign. Unset means ES256 keys that the operator makes, and replaces every 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningSettings>,
}

/// A grant: a way to get a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TokenGrant {
    /// A client for itself (RFC 6749 §4.4).
    ClientCredentials,
    /// Anew with a refresh token, which works once (RFC 6749 §6, RFC 9700 §4.14.2).
    RefreshToken,
    /// With the password of a user that the client asked for it (RFC 6749 §4.3). RFC 9700 forbids it: the client sees
    /// the password, and the user gets used to typing it anywhere.
    DangerPassword,
}

/// A span of time: exactly one of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.seconds), has(self.minutes), has(self.hours)].filter(is, is).size() == 1",
     "message": "lifetime must have exactly one of `seconds`, `minutes`, `hours`"}]))]
pub struct Lifetime {
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub seconds: Option<i64>,
    /// In minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 525600))]
    pub minutes: Option<i64>,
    /// In hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8760))]
    pub hours: Option<i64>,
}

impl Lifetime {
    /// In seconds; `None` unless exactly one member is set.
    pub fn in_seconds(&self) -> Option<i64> {
        match (self.seconds, self.minutes, self.hours) {
            (Some(seconds), None, None) => Some(seconds),
            (None, Some(minutes), None) => minutes.checked_mul(60),
            (None, None, Some(hours)) => hours.checked_mul(3600),
            _ => None,
        }
    }
}

/// Settings of access tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessTokenSettings {
    /// Their lifetime, up to 24 hours. Unset means five minutes. A Credential may have its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// Further claims, made of `identity`, `credential`, `request`, `source`, `env` and `now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub claims: Option<Vec<TokenClaim>>,
}

/// One claim of an access token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenClaim {
    /// Its name; the claims of RFC 9068 cannot be replaced.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Its value, for example `identity.attributes.tenant`. A value that is absent makes no claim.
    #[schemars(length(min = 1, max = 512))]
    pub value: String,
}

/// Settings of refresh tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefreshTokenSettings {
    /// The time after the sign-in in which tokens can be got anew. Unset means 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
    /// The most times that tokens can be got anew. Unset means 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000))]
    pub max_uses: Option<i64>,
}

/// The keys that sign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningSettings {
    /// The algorithm of new keys: an asymmetric one. Unset means ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// A Secret of yours with the private keys as a JWK set; its key is `keys.json` unless named. Each key needs `alg`,
    /// and may have `nbf` (it signs from then on) and `exp` (it is published until then), in seconds. Unset means keys
    /// that the operator makes and replaces, in the Secret `idm-signing-keys` under the policy's name with `.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
    /// The greatest age of a key, in days. Unset means 30. At any time, the annotation `identity-manager.io/rotate`
    /// with a new time makes a new key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub rotate_every_days: Option<i64>,
    /// The time for which a new key is published before it signs, so that verifiers know it by then, in seconds. Unset
    /// means 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub publish_ahead_seconds: Option<i64>,
}

/// An OAuth client of the token services of its namespace. The Credential's roles and attributes go into its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.clientSecret), has(self.privateKeyJwt), has(self.tlsClientAuth)].filter(is, is).size() == 1",
     "message": "oauthClient must have exactly one of `clientSecret`, `privateKeyJwt`, `tlsClientAuth`"}]))]
pub struct OauthClientCredential {
    /// The client id. Unset means the name of the Credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z0-9._~:/@-]+$"))]
    pub client_id: Option<String>,
    /// It proves itself with a secret (`client_secret_basic` and `client_secret_post`), from the Credential's Secret:
    /// 256 random bits that the operator makes, unless you supply one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<ClientSecret>,
    /// It proves itself by signing (`private_key_jwt`, RFC 7523).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_jwt: Option<PrivateKeyJwt>,
    /// It proves itself with its certificate (`tls_client_auth`, RFC 8705), over HTTPS listeners. Its tokens are bound
    /// to the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_client_auth: Option<TrustedCertificates>,
    /// The grants it may use. Unset means `ClientCredentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub grants: Option<Vec<TokenGrant>>,
    /// The scopes it may have. Unset means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), inner(length(min = 1, max = 128), regex(pattern = "^[!#-\\[\\]-~]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Option<Vec<String>>,
    /// The audiences it may ask for, among those of the service. Unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Option<Vec<String>>,
    /// The lifetime of its access tokens, up to 24 hours. Unset means that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_lifetime: Option<Lifetime>,
    /// The tokens that it may ask about (RFC 7662). Unset means its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspects: Option<Introspects>,
}

/// Secrets need no settings: write `clientSecret: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {}

/// A client that signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrivateKeyJwt {
    /// Its public keys: `inline`, `secretRef` or `jwksUri`.
    pub keys: KeySources,
    /// Algorithms it may sign with: asymmetric ones. Unset means RS256 and ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Option<Vec<Algorithm>>,
}

/// The tokens that a client may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Introspects {
    /// Those that were issued to it.
    Own,
    /// All of the service: for upstreams that are handed tokens.
    All,
}
