use idm_types::{Algorithm, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Expr, KeySource, MtlsMethod, SecretHandle, Selector};

/// A policy's own token service (RFC 6749, RFC 9068).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenService {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// What its tokens are for, unless less is asked for. Never empty.
    pub audiences: Vec<String>,
    /// How tokens can be got. Never empty.
    pub grants: Vec<TokenGrant>,
    /// The Credentials that it knows.
    pub only: Selector,
    /// How long access tokens live.
    pub lifetime_seconds: u64,
    /// Further claims by name.
    pub claims: Vec<(String, Expr)>,
    /// How long after a sign-in tokens can be refreshed.
    pub refresh_seconds: u64,
    /// How often.
    pub refresh_uses: u64,
    /// Whether tokens can be revoked: all gateways remember together.
    pub revokes: bool,
    /// The keys. At any time the one that began last signs. Never empty.
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
    /// From then on it signs; it is published before.
    pub signs_from: Timestamp,
    /// Until then it is published; `None`: while it is there.
    pub published_until: Option<Timestamp>,
}

/// How a token can be got.
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

/// What a token service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// Tokens (RFC 6749 §3.2).
    Token,
    /// Revocation (RFC 7009).
    Revocation,
    /// Questions about tokens (RFC 7662).
    Introspection,
    /// The public keys (RFC 7517).
    Keys,
    /// Metadata (RFC 8414).
    Metadata,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 5] = [Self::Token, Self::Revocation, Self::Introspection, Self::Keys, Self::Metadata];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Endpoint::Token => "token",
            Endpoint::Revocation => "revocation",
            Endpoint::Introspection => "introspection",
            Endpoint::Keys => "keys",
            Endpoint::Metadata => "metadata",
        }
    }

    /// Its paths, where the path of the issuer is `base` (empty, or with a leading slash and none at its end).
    /// The metadata is where RFC 8414 §3.1 has it, and where OpenID Connect Discovery looks.
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
    /// How it proves itself.
    pub authentication: ClientAuthentication,
    /// The grants it may use.
    pub grants: Vec<TokenGrant>,
    /// The scopes it may have.
    pub scopes: Vec<String>,
    /// The audiences it may ask for, among those of the service; `None`: all.
    pub audiences: Option<Vec<String>>,
    /// How long its access tokens live; `None`: as long as the service says.
    pub lifetime_seconds: Option<u64>,
    /// Whether it may ask about tokens that were issued to others.
    pub introspects_all: bool,
}

/// How a client proves itself.
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
        /// What it may sign with. Never empty.
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
