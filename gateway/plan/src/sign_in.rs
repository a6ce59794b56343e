use idm_types::{Algorithm, RoleName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Expr, KeySource, ObjectKey, OutgoingTls, SecretHandle, Selector};

/// An outside server where people sign in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federation {
    /// The Federation object.
    pub key: ObjectKey,
    /// Its uid: a session made by another object of the same name is none of its own.
    pub uid: String,
    /// What people see.
    pub title: String,
    /// What it speaks.
    pub kind: FederationKind,
    /// Roles for what it says of a person.
    pub role_mappings: Vec<RoleMapping>,
    /// The role that the operator binds to a person who signs in for the first time.
    pub provisions: Option<RoleName>,
    /// Sessions that are ended: whose (`None`: everyone's), and those that began before this time.
    pub ended: Vec<(Option<String>, Timestamp)>,
    /// Nobody can sign in there, and its sessions are refused.
    pub suspended: bool,
}

/// Roles for a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleMapping {
    /// The claim, and what it must be.
    pub claim: RequiredClaim,
    /// The roles.
    pub roles: Vec<RoleName>,
}

/// What a federation speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FederationKind {
    /// OpenID Connect.
    Oidc(Box<OidcProvider>),
    /// SAML 2.0.
    Saml(Box<SamlProvider>),
}

/// A SAML identity provider, and what we are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamlProvider {
    /// Its entity id.
    pub entity_id: String,
    /// Where its endpoints and certificates come from.
    pub metadata: SamlMetadata,
    /// Our entity id; `None`: the address of our metadata.
    pub own_entity_id: Option<String>,
    /// Our certificate in PEM, and its key.
    pub key: Option<(String, SecretHandle)>,
    /// Assertions must be signed by themselves.
    pub signed_assertions: bool,
    /// Answers that nobody asked for are taken.
    pub unsolicited: bool,
    /// The format of names that is asked for: a URI.
    pub name_format: Option<String>,
    /// Requests travel in forms, also where the provider takes redirects.
    pub posts_requests: bool,
}

/// Where a provider's metadata comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SamlMetadata {
    /// It is fetched.
    Url {
        /// From here.
        url: String,
        /// How its server is reached.
        tls: Option<OutgoingTls>,
    },
    /// It is written down.
    Inline(String),
}

/// An OpenID Connect provider, and the client that we are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProvider {
    /// The exact `iss`.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// What it may sign with. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The configuration document; `None` where every endpoint is written down.
    pub discovery: Option<String>,
    /// Endpoints that are written down; they come before what discovery says.
    pub endpoints: ProviderEndpoints,
    /// How its server is reached.
    pub tls: Option<OutgoingTls>,
    /// Our client id.
    pub client_id: String,
    /// How we prove ourselves.
    pub authentication: ProviderAuthentication,
    /// What is asked for; `openid` is among them.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request.
    pub parameters: Vec<(String, String)>,
    /// Whether the claims of the userinfo endpoint are added, where there is one.
    pub userinfo: bool,
    /// Whether an `email` counts that the provider does not call verified.
    pub takes_unverified_emails: bool,
}

/// Where a provider is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEndpoints {
    /// Where browsers are sent.
    pub authorization: Option<String>,
    /// Where codes become tokens.
    pub token: Option<String>,
    /// Where more claims are.
    pub userinfo: Option<String>,
    /// Where browsers are sent to sign out.
    pub end_session: Option<String>,
    /// Where authorization requests are pushed to (RFC 9126).
    pub pushed_authorization: Option<String>,
}

/// How we prove ourselves to a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ProviderAuthentication {
    /// Not at all: a public client, held by PKCE alone.
    Nothing,
    /// `client_secret_basic`.
    Basic(SecretHandle),
    /// `client_secret_post`.
    Post(SecretHandle),
    /// `private_key_jwt`.
    Assertion {
        /// The private key as a JWK.
        key: SecretHandle,
        /// What it signs with.
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
    /// Below this path are the endpoints: with a leading slash and none at its end.
    pub base: String,
    /// Under which origins browsers reach the targets; empty: as the connection and its host say.
    pub origins: Vec<String>,
    /// An unused session ends after this time.
    pub idle_seconds: u64,
    /// Every session ends after this time.
    pub absolute_seconds: u64,
    /// What a sign-in must say.
    pub required: Vec<RequiredClaim>,
    /// How strong it must be.
    pub step_up: StepUp,
    /// The Credential that says what the person may do.
    pub credentials: Option<PersonCredentials>,
    /// Where a browser goes after it signed out.
    pub after_logout: Option<String>,
    /// What people see.
    pub pages: Pages,
}

/// A claim that a sign-in must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    /// The claim, and the members to follow inside it. Never empty.
    pub path: Vec<String>,
    /// One of these must be its value or among its values; empty: any.
    pub values: Vec<String>,
}

/// How strong and how recent a sign-in must be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUp {
    /// One of these must be its `acr`; empty: any.
    pub acr: Vec<String>,
    /// It must not be older than this.
    pub max_age_seconds: Option<u64>,
}

/// The Credentials of people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonCredentials {
    /// What is compared with the Credential's user.
    pub user: Expr,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// What people see.
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
    /// Choose a provider, and go there.
    Start,
    /// Come back from one.
    Callback,
    /// Sign out.
    Logout,
    /// Come back from signing out.
    LoggedOut,
    /// The provider ends sessions (OpenID Connect Back-Channel Logout).
    BackChannel,
    /// The provider's page ends a session (OpenID Connect Front-Channel Logout).
    FrontChannel,
    /// A SAML response is brought.
    SamlConsumer,
    /// Our SAML metadata.
    SamlMetadata,
    /// SAML single logout.
    SamlLogout,
}

impl SignInEndpoint {
    /// The endpoints that there are once.
    pub const COMMON: &'static [Self] = &[Self::Start, Self::Logout, Self::LoggedOut];

    /// The endpoints that a federation has.
    pub const fn of(kind: &FederationKind) -> &'static [Self] {
        match kind {
            FederationKind::Oidc(_) => &[Self::Callback, Self::BackChannel, Self::FrontChannel],
            FederationKind::Saml(_) => &[Self::Callback, Self::SamlConsumer, Self::SamlMetadata, Self::SamlLogout],
        }
    }

    /// What it is called, which is also its path below the base.
    pub const fn name(self) -> &'static str {
        match self {
            SignInEndpoint::Start => "start",
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

    /// Its path, for a federation where it has one.
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
/// The cookie that ties sign-ins under way to their browser, over HTTPS.
pub const SECURE_LOGIN_COOKIE: &str = "__Host-OIDC_LOGIN";
/// The same over plain HTTP.
pub const LOGIN_COOKIE: &str = "OIDC_LOGIN";
