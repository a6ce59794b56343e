use idm_types::{Algorithm, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Expr, KeySource, MtlsMethod, SecretHandle, Selector, Validator};

/// A policy's own token service (RFC 6749, RFC 9068).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenService {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The audiences of its tokens, unless a client asks for fewer. Never empty.
    pub audiences: Vec<String>,
    /// The grants by which tokens are issued. Never empty.
    pub grants: Vec<TokenGrant>,
    /// The Credentials that it knows.
    pub only: Selector,
    /// The sources of people for the password grant, in order. Never empty.
    pub validators: Vec<Validator>,
    /// The lifetime of access tokens.
    pub lifetime_seconds: u64,
    /// Further claims by name.
    pub claims: Vec<(String, Expr)>,
    /// The time after a sign-in in which tokens can be refreshed.
    pub refresh_seconds: u64,
    /// The number of times that a token can be refreshed.
    pub refresh_uses: u64,
    /// Whether tokens can be revoked: this needs a store that all gateways share.
    pub revokes: bool,
    /// The keys. The key whose signing time began last signs. Never empty.
    pub keys: Vec<ServiceKey>,
}

/// A key of a token service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceKey {
    /// The private key as a JWK.
    pub key: SecretHandle,
    /// The only algorithm it signs with.
    pub algorithm: Algorithm,
    /// The time from which it signs; it is published before.
    pub signs_from: Timestamp,
    /// The time until which it is published; `None`: as long as it is configured.
    pub published_until: Option<Timestamp>,
}

/// A grant by which a token is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenGrant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §6.
    RefreshToken,
    /// RFC 6749 §4.3.
    Password,
}

impl TokenGrant {
    /// The `grant_type`.
    pub const fn name(self) -> &'static str {
        match self {
            TokenGrant::ClientCredentials => "client_credentials",
            TokenGrant::RefreshToken => "refresh_token",
            TokenGrant::Password => "password",
        }
    }

    /// The grant with this `grant_type`.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ClientCredentials, Self::RefreshToken, Self::Password].into_iter().find(|grant| grant.name() == name)
    }
}

/// An endpoint of a token service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// Tokens (RFC 6749 §3.2).
    Token,
    /// Revocation (RFC 7009).
    Revocation,
    /// Introspection (RFC 7662).
    Introspection,
    /// The public keys (RFC 7517).
    Keys,
    /// Metadata (RFC 8414).
    Metadata,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 5] = [Self::Token, Self::Revocation, Self::Introspection, Self::Keys, Self::Metadata];

    /// The name of the endpoint.
    pub const fn name(self) -> &'static str {
        match self {
            Endpoint::Token => "token",
            Endpoint::Revocation => "revocation",
            Endpoint::Introspection => "introspection",
            Endpoint::Keys => "keys",
            Endpoint::Metadata => "metadata",
        }
    }

    /// Its paths, where `base` is the path of the issuer (empty, or with a leading slash and none at its end). The
    /// metadata has the path of RFC 8414 §3.1 and that of OpenID Connect Discovery.
    pub fn paths(self, base: &str) -> Vec<String> {
        match self {
            Endpoint::Token => vec![format!("{base}/token")],
            Endpoint::Revocation => vec![format!("{base}/revoke")],
            Endpoint::Introspection => vec![format!("{base}/introspect")],
            Endpoint::Keys => vec![format!("{base}/.well-known/jwks.json")],
            Endpoint::Metadata => vec![
                format!("/.well-known/oauth-authorization-server{base}"),
                format!("{base}/.well-known/openid-configuration"),
            ],
        }
    }
}

/// An OAuth client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OauthClient {
    /// The client id.
    pub client_id: String,
    /// Its client authentication.
    pub authentication: ClientAuthentication,
    /// The grants it may use.
    pub grants: Vec<TokenGrant>,
    /// The scopes it may have.
    pub scopes: Vec<String>,
    /// The audiences it may ask for, among those of the service; `None`: all.
    pub audiences: Option<Vec<String>>,
    /// The lifetime of its access tokens; `None`: that of the service.
    pub lifetime_seconds: Option<u64>,
    /// Whether it may introspect tokens that were issued to other clients.
    pub introspects_all: bool,
}

/// The authentication of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ClientAuthentication {
    /// A secret of 256 random bits: SHA-256 of it, in lower-case hexadecimal.
    Secret {
        /// The hash.
        sha256: String,
    },
    /// Any other secret: its argon2id hash in PHC form.
    Password {
        /// The hash.
        phc: String,
    },
    /// A signature (`private_key_jwt`).
    Assertion {
        /// Its public keys.
        keys: KeySource,
        /// The algorithms that it may sign with. Never empty.
        algorithms: Vec<Algorithm>,
    },
    /// A certificate (`tls_client_auth`).
    Certificate(Box<MtlsMethod>),
}

impl ClientAuthentication {
    /// The names of RFC 8414 §2 and RFC 8705 §2.1.1.
    pub const fn names(&self) -> &'static [&'static str] {
        match self {
            ClientAuthentication::Secret { .. } | ClientAuthentication::Password { .. } => {
                &["client_secret_basic", "client_secret_post"]
            }
            ClientAuthentication::Assertion { .. } => &["private_key_jwt"],
            ClientAuthentication::Certificate(_) => &["tls_client_auth"],
        }
    }
}
