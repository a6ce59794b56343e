use idm_types::{Algorithm, RoleName, Skew, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Directory, Expr, KeySource, ObjectKey, OutgoingTls, SecretHandle, Selector};

/// An outside server where people sign in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federation {
    /// The Federation object.
    pub key: ObjectKey,
    /// Its uid: a session made by another object of the same name does not belong to it.
    pub uid: String,
    /// The name that people see.
    pub title: String,
    /// The protocol, with its settings.
    pub kind: FederationKind,
    /// Roles that are granted for claims about a person.
    pub role_mappings: Vec<RoleMapping>,
    /// The role that the operator binds to a person who signs in for the first time.
    pub provisions: Option<RoleName>,
    /// Sessions that are ended: the person's (`None`: everyone's), and those that began before this time.
    pub ended: Vec<(Option<String>, Timestamp)>,
    /// Sign-in is refused there, and so are its sessions.
    pub suspended: bool,
    /// Tolerance for the times in its answers.
    pub skew: Skew,
}

/// Roles that are granted for a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleMapping {
    /// The claim with its accepted values.
    pub claim: RequiredClaim,
    /// The roles.
    pub roles: Vec<RoleName>,
}

/// The protocol of a Federation, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FederationKind {
    /// OpenID Connect.
    Oidc(Box<OidcProvider>),
    /// SAML 2.0.
    Saml(Box<SamlProvider>),
    /// A directory, which checks passwords.
    Directory(Box<Directory>),
}

/// A SAML identity provider, with our settings as its service provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlProvider {
    /// Its entity id.
    pub entity_id: String,
    /// The source of its endpoints and certificates.
    pub metadata: SamlMetadata,
    /// Our entity id; `None`: the address of our metadata.
    pub own_entity_id: Option<String>,
    /// Our certificate in PEM, and its key.
    pub key: Option<(String, SecretHandle)>,
    /// Each assertion must be signed itself.
    pub signed_assertions: bool,
    /// Unsolicited responses are accepted.
    pub unsolicited: bool,
    /// The requested format of names: a URI.
    pub name_format: Option<String>,
    /// Requests use the HTTP-POST binding, also where the provider accepts HTTP-Redirect.
    pub posts_requests: bool,
}

/// The source of a provider's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SamlMetadata {
    /// The metadata is fetched.
    Url {
        /// The URL of the metadata.
        url: String,
        /// The TLS settings of the connection to this server.
        tls: Option<OutgoingTls>,
    },
    /// The metadata is written in the Federation.
    Inline(String),
}

/// An OpenID Connect provider, with our client there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// The exact `iss`.
    pub issuer: String,
    /// The source of its keys.
    pub keys: KeySource,
    /// The algorithms that it may sign with. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The configuration document; `None` where the Federation names every endpoint.
    pub discovery: Option<String>,
    /// Endpoints that the Federation names; they take precedence over those of discovery.
    pub endpoints: ProviderEndpoints,
    /// The TLS settings of the connection to this server.
    pub tls: Option<OutgoingTls>,
    /// Our client id.
    pub client_id: String,
    /// Our client authentication.
    pub authentication: ProviderAuthentication,
    /// The requested scopes; `openid` is among them.
    pub scopes: Vec<String>,
    /// Passwords of its people may be sent to the token endpoint (RFC 6749 §4.3).
    pub takes_passwords: bool,
    /// Further parameters of the authorization request.
    pub parameters: Vec<(String, String)>,
    /// Whether the claims of the userinfo endpoint are added, where there is one.
    pub userinfo: bool,
    /// Whether an `email` is accepted that the provider does not call verified.
    pub takes_unverified_emails: bool,
}

/// The endpoints of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEndpoints {
    /// The authorization endpoint, to which browsers are sent.
    pub authorization: Option<String>,
    /// The token endpoint.
    pub token: Option<String>,
    /// The userinfo endpoint.
    pub userinfo: Option<String>,
    /// The end session endpoint, to which browsers are sent to sign out.
    pub end_session: Option<String>,
    /// The pushed authorization request endpoint (RFC 9126).
    pub pushed_authorization: Option<String>,
}

/// Our client authentication at a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ProviderAuthentication {
    /// None: a public client, protected by PKCE alone.
    Nothing,
    /// `client_secret_basic`.
    Basic(SecretHandle),
    /// `client_secret_post`.
    Post(SecretHandle),
    /// `private_key_jwt`.
    Assertion {
        /// The private key as a JWK.
        key: SecretHandle,
        /// The algorithm of its signatures.
        algorithm: Algorithm,
    },
    /// `tls_client_auth`: the certificate of [`OidcProvider::tls`].
    Certificate,
}

/// Browser sessions of people who signed in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInMethod {
    /// Names of [`crate::Plan::federations`]. Never empty.
    pub federations: Vec<String>,
    /// The path above the endpoints: with a leading slash and none at its end.
    pub base: String,
    /// The origins by which browsers reach the targets; empty: the origin is taken from the connection and its host.
    pub origins: Vec<String>,
    /// An unused session ends after this time.
    pub idle_seconds: u64,
    /// Every session ends after this time.
    pub absolute_seconds: u64,
    /// The claims that a sign-in must have.
    pub required: Vec<RequiredClaim>,
    /// The required strength and age of the sign-in.
    pub step_up: StepUp,
    /// The Credentials that grant rights to people.
    pub credentials: Option<PersonCredentials>,
    /// The place where a browser is sent after signing out.
    pub after_logout: Option<String>,
    /// The texts and colours of the pages.
    pub pages: Pages,
}

/// A claim that a sign-in must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// The claim, and the members to follow inside it. Never empty.
    pub path: Vec<String>,
    /// One of these must be its value or among its values; empty: any value is accepted.
    pub values: Vec<String>,
}

/// The required strength and age of a sign-in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// One of these must be its `acr`; empty: any `acr` is accepted.
    pub acr: Vec<String>,
    /// The greatest age of the sign-in.
    pub max_age_seconds: Option<u64>,
}

/// The Credentials of people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonCredentials {
    /// The value that is compared with the Credential's user.
    pub user: Expr,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// The texts and colours of the pages that people see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pages {
    /// The name of the service.
    pub title: Option<String>,
    /// Its picture: an https URL or a path of the same host.
    pub logo: Option<String>,
    /// Its colour: `#rrggbb`.
    pub accent: Option<String>,
}

/// An endpoint of a sign-in method: requests that the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInEndpoint {
    /// The choice of a provider, which sends the browser there.
    Start,
    /// The form for user name and password of a directory.
    Login,
    /// The redirection endpoint of OpenID Connect.
    Callback,
    /// The start of signing out.
    Logout,
    /// The page to which the provider sends the browser back after signing out.
    LoggedOut,
    /// The provider ends sessions (OpenID Connect Back-Channel Logout).
    BackChannel,
    /// The provider's page ends a session (OpenID Connect Front-Channel Logout).
    FrontChannel,
    /// The assertion consumer service of SAML.
    SamlConsumer,
    /// Our SAML metadata.
    SamlMetadata,
    /// SAML single logout.
    SamlLogout,
}

impl SignInEndpoint {
    /// The endpoints that exist once for a sign-in method.
    pub const COMMON: &'static [Self] = &[Self::Start, Self::Logout, Self::LoggedOut];

    /// The endpoints that each Federation has.
    pub const fn of(kind: &FederationKind) -> &'static [Self] {
        match kind {
            FederationKind::Oidc(_) => &[Self::Callback, Self::BackChannel, Self::FrontChannel],
            FederationKind::Saml(_) => &[Self::Callback, Self::SamlConsumer, Self::SamlMetadata, Self::SamlLogout],
            FederationKind::Directory(_) => &[Self::Login],
        }
    }

    /// The name of the endpoint, which is also its path below the base.
    pub const fn name(self) -> &'static str {
        match self {
            SignInEndpoint::Start => "start",
            SignInEndpoint::Login => "login",
            SignInEndpoint::Callback => "callback",
            SignInEndpoint::Logout => "logout",
            SignInEndpoint::LoggedOut => "logged-out",
            SignInEndpoint::BackChannel => "back-channel-logout",
            SignInEndpoint::FrontChannel => "front-channel-logout",
            SignInEndpoint::SamlConsumer => "saml/consume",
            SignInEndpoint::SamlMetadata => "saml/metadata",
            SignInEndpoint::SamlLogout => "saml/logout",
        }
    }

    /// Its path, for a Federation where each has one.
    pub fn path(self, base: &str, federation: Option<&str>) -> String {
        match (self, federation) {
            (SignInEndpoint::Start, _) => base.to_owned(),
            (endpoint, Some(federation)) => format!("{base}/{}/{federation}", endpoint.name()),
            (endpoint, None) => format!("{base}/{}", endpoint.name()),
        }
    }
}

/// The session cookie over HTTPS.
pub const SECURE_SESSION_COOKIE: &str = "__Host-OIDC_SESSION";
/// The session cookie over plain HTTP, on the developer's own machine.
pub const SESSION_COOKIE: &str = "OIDC_SESSION";
/// The cookie that ties unfinished sign-ins to their browser, over HTTPS.
pub const SECURE_LOGIN_COOKIE: &str = "__Host-OIDC_LOGIN";
/// The cookie that ties unfinished sign-ins to their browser, over plain HTTP.
pub const LOGIN_COOKIE: &str = "OIDC_LOGIN";
