use idm_types::{Algorithm, RoleName};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    DatabaseDirectory, KeyReference, KeySources, LdapDirectory, LoginSettings, ObjectStatus, OutgoingTls,
    RestDirectory, SamlProvider,
};

/// Federation is one outside source of identities, described once and used by many policies: a provider where people
/// sign in, or a directory that checks their passwords.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(group = "identity-manager.io", version = "v1alpha1", kind = "Federation", plural = "federations", namespaced)]
#[kube(status = "ObjectStatus", shortname = "idfed", category = "idm", derive = "PartialEq")]
#[kube(printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.oidc.issuer"))]
#[kube(printcolumn(
    name = "Accepted",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(
    name = "Reason",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
    priority = 1
))]
#[kube(printcolumn(
    name = "Message",
    type_ = "string",
    json_path = ".status.conditions[?(@.type==\"Ready\")].message",
    priority = 1
))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.oidc), has(self.saml), has(self.ldap), has(self.database), has(self.rest)].filter(is, \
        is).size() == 1",
     "message": "federation must have exactly one of `oidc`, `saml`, `ldap`, `database`, `rest`"},
    {"rule": "!has(self.login) || has(self.ldap) || has(self.database) || has(self.rest)",
     "message": "`login` must be set only with `ldap`, `database` or `rest`"}]))]
pub struct FederationSpec {
    /// An OpenID Connect provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcProvider>,
    /// A SAML 2.0 identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saml: Option<SamlProvider>,
    /// An LDAP directory, Active Directory among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<LdapDirectory>,
    /// A table of people in a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseDirectory>,
    /// A service that is asked over HTTP whether a password is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestDirectory>,
    /// How logins are chosen and bounded, with `ldap`, `database` and `rest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginSettings>,
    /// The name that people see where they choose a provider. Unset means the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub display_name: Option<String>,
    /// Roles that people who sign in get for what their provider says of them, anew at every sign-in and refresh: a
    /// group that is gone takes its roles along. Where a policy uses `credentials`, roles come from those alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub role_mappings: Option<Vec<RoleMapping>>,
    /// The RoleBinding that is made for a person who signs in for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<Provisioning>,
    /// Sessions that are ended whatever else they say: of one person, or of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-kubernetes-list-type" = "atomic"))]
    pub ended_sessions: Option<Vec<EndedSessions>>,
    /// The allowed clock skew between provider and gateway where people sign in, in seconds (0 to 300). Unset means 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 300))]
    pub clock_skew_seconds: Option<i64>,
    /// Refuse for now whatever this source vouches for: new sign-ins, sessions and tokens. Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// Roles for a claim with its value, or for a group of a directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.claim) == has(self.value) && has(self.claim) != has(self.group)",
     "message": "role mapping must have `claim` with `value`, or `group`"}]))]
pub struct RoleMapping {
    /// The claim or attribute, for example `groups`; members inside it after dots, for example `realm_access.roles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub claim: Option<String>,
    /// The text that must be its value, or among its values where it is a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub value: Option<String>,
    /// The group of a directory: its distinguished name, its id (`objectGUID`, `entryUUID` or security identifier), or
    /// its short name, which an LDAP directory takes with `groups.base` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub group: Option<String>,
    /// The roles.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Vec<RoleName>,
}

/// The RoleBinding that is made for a person who signs in for the first time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provisioning {
    /// The operator makes a RoleBinding that gives the person this role in the project. It is labelled
    /// `identity-manager.io/provisioned-by` and goes with the Federation; whoever removes it by hand sees it again when
    /// the person signs in again. Without a cluster nothing is made.
    pub role: RoleName,
}

/// Sessions that began before a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndedSessions {
    /// The `sub` of the person. Unset means everyone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub subject: Option<String>,
    /// Sessions that began before this time are ended, in RFC 3339 UTC, for example `2027-01-01T00:00:00Z`.
    #[schemars(
        length(min = 20, max = 30),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$")
    )]
    pub before_time: String,
}

/// An OpenID Connect provider whose tokens policies accept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcProvider {
    /// The exact `iss` value of its tokens.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,
    /// The source of its keys. Unset means discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeySources>,
    /// Allowed signature algorithms. Unset means RS256 and ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 13), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Option<Vec<Algorithm>>,
    /// The client that the gateway is there, with which people can sign in. Unset: policies accept its tokens, and
    /// nobody signs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<OidcClient>,
}

/// The client that the gateway is at an OpenID Connect provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcClient {
    /// The client id.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// The client authentication of the gateway. Unset means that of a public client, with PKCE alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<OidcClientAuthentication>,
    /// The scopes that are asked for besides `openid`. Unset means `profile` and `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128), regex(pattern = "^[!#-\\[\\]-~]+$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Option<Vec<String>>,
    /// Endpoints that differ from what discovery says, or that are not discovered. With `authorization` and `token`,
    /// and `keys` other than `discovery`, nothing is discovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<OidcEndpoints>,
    /// TLS settings for the provider, where it is not one of the public web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<OutgoingTls>,
    /// The source of claims. Unset means `IdTokenAndUserinfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_from: Option<ClaimsFrom>,
    /// Which `email` claims count; one that does not is not there for mappings and conditions. Unset means `Verified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emails: Option<Emails>,
    /// Whether methods may name this Federation among their `validators`: the gateway then takes people's user names
    /// and passwords itself and sends them to the token endpoint (the resource owner password grant, which OAuth 2.1
    /// has dropped). People learn to type their password of the provider elsewhere, and no second factor is asked for.
    /// Unset means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub danger_password_grant: Option<bool>,
    /// Further parameters of the authorization request, for example `kc_idp_hint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Option<Vec<AuthorizationParameter>>,
}

/// The client authentication of the gateway at the provider: exactly one of the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.clientSecretBasic), has(self.clientSecretPost), has(self.privateKeyJwt), \
        has(self.tlsClientAuth)].filter(is, is).size() == 1",
     "message": "authentication must have exactly one of `clientSecretBasic`, `clientSecretPost`, `privateKeyJwt`, \
         `tlsClientAuth`"}]))]
pub struct OidcClientAuthentication {
    /// The secret as `Authorization: Basic`; the key in the Secret is `clientSecret` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_basic: Option<KeyReference>,
    /// The secret in the form; the key in the Secret is `clientSecret` unless named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_post: Option<KeyReference>,
    /// A signature (RFC 7523).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_jwt: Option<OidcAssertion>,
    /// The client certificate of `tls.clientCertificateRef` (RFC 8705): write `tlsClientAuth: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_client_auth: Option<TlsClientAuth>,
}

/// A client certificate needs no settings here: write `tlsClientAuth: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsClientAuth {}

/// The key that signs assertions for a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcAssertion {
    /// The Secret with the private key, as a JWK or in PEM; the key is `key` unless named.
    pub key_ref: KeyReference,
    /// The algorithm that it signs with. Unset means ES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
}

/// Endpoints of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcEndpoints {
    /// The authorization endpoint, to which browsers are sent to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub authorization: Option<String>,
    /// The token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub token: Option<String>,
    /// The userinfo endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub userinfo: Option<String>,
    /// The end session endpoint, to which browsers are sent to sign out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub end_session: Option<String>,
    /// The pushed authorization request endpoint (RFC 9126).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    pub pushed_authorization: Option<String>,
}

/// The source of the claims of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimsFrom {
    /// The id token alone.
    IdToken,
    /// The id token, and what the userinfo endpoint adds to it, where there is one.
    IdTokenAndUserinfo,
}

/// Which `email` claims count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Emails {
    /// Those with `email_verified: true`.
    Verified,
    /// All: for providers that own every address they hand out and do not say so.
    DangerAll,
}

/// A parameter of the authorization request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationParameter {
    /// Its name; not one that the gateway sets itself.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_.-]+$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 512))]
    pub value: String,
}
