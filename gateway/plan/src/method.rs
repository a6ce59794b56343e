use std::sync::LazyLock;

use idm_types::{Algorithm, MethodName, Skew};
use serde::{Deserialize, Serialize};

use crate::{MtlsMethod, OutgoingTls, SecretHandle, Selector, SignInMethod, Validator};

/// One authentication method under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// The name in audit records, in metrics and in `explain`.
    pub name: MethodName,
    /// The kind of the method.
    pub kind: MethodKind,
}

/// The kinds of methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MethodKind {
    /// A signed JWT.
    Jwt(JwtMethod),
    /// An opaque token, verified by introspection at its issuer (RFC 7662).
    Introspection(IntrospectionMethod),
    /// An API key of a Credential.
    ApiKey(ApiKeyMethod),
    /// A client certificate, proven in the TLS handshake.
    Mtls(MtlsMethod),
    /// The session of a person who signed in with a browser.
    SignIn(Box<SignInMethod>),
    /// User name and password (RFC 7617).
    Basic(BasicMethod),
    /// A password of a Credential, proven without sending it (RFC 7616).
    Digest(DigestMethod),
    /// User name and password, or an API key, in base64 of some layout.
    Base64(Base64Method),
    /// A request that is signed (RFC 9421).
    Signature(SignatureMethod),
    /// A JWT that the caller signs with a secret of its Credential.
    HmacJwt(HmacJwtMethod),
    /// No credential: the route is open on purpose.
    Anonymous,
}

/// The facts about a kind that the rest of the house asks for, each said for every kind.
impl MethodKind {
    /// The kind in a word, for audit and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            MethodKind::Jwt(_) => "jwt",
            MethodKind::Introspection(_) => "introspection",
            MethodKind::ApiKey(_) => "apiKey",
            MethodKind::Mtls(_) => "mtls",
            MethodKind::SignIn(_) => "signIn",
            MethodKind::Basic(_) => "basic",
            MethodKind::Digest(_) => "digest",
            MethodKind::Base64(_) => "base64",
            MethodKind::Signature(_) => "signature",
            MethodKind::HmacJwt(_) => "hmacJwt",
            MethodKind::Anonymous => "anonymous",
        }
    }

    /// The places of a request where its credential is looked for. Empty for those that use `Authorization` with the
    /// scheme of its standard, which has one spelling, the connection, or cookies of the gateway itself.
    pub fn sources(&self) -> &[Source] {
        match self {
            MethodKind::Jwt(method) => &method.sources,
            MethodKind::Introspection(method) => &method.sources,
            MethodKind::ApiKey(method) => &method.sources,
            MethodKind::Base64(method) => &method.sources,
            MethodKind::HmacJwt(method) => &method.sources,
            MethodKind::Signature(_) => &*SIGNATURE_FIELDS,
            MethodKind::Mtls(_)
            | MethodKind::SignIn(_)
            | MethodKind::Basic(_)
            | MethodKind::Digest(_)
            | MethodKind::Anonymous => &[],
        }
    }

    /// Whether it depends on the Federation of this name: one of [`crate::Plan::federations`].
    pub fn uses_federation(&self, name: &str) -> bool {
        let asked = |validators: &[Validator]| {
            validators.iter().any(|validator| matches!(validator, Validator::Directory(asked) if asked == name))
        };
        match self {
            MethodKind::SignIn(sign_in) => sign_in.federations.iter().any(|federation| federation == name),
            MethodKind::Basic(basic) => asked(&basic.validators),
            MethodKind::Base64(base64) => asked(&base64.validators),
            MethodKind::Digest(digest) => digest.directories.iter().any(|asked| asked == name),
            MethodKind::Jwt(_)
            | MethodKind::Introspection(_)
            | MethodKind::ApiKey(_)
            | MethodKind::Mtls(_)
            | MethodKind::Signature(_)
            | MethodKind::HmacJwt(_)
            | MethodKind::Anonymous => false,
        }
    }

    /// The access tokens that it accepts; `None` for the kinds whose credential is another one.
    pub fn access_tokens(&self) -> Option<AccessTokens<'_>> {
        match self {
            MethodKind::Jwt(method) => Some(AccessTokens {
                issuers: method.issuers.iter().map(|of| (&*of.issuer, &*of.audiences)).collect(),
                confirmation: method.confirmation,
            }),
            MethodKind::Introspection(method) => Some(AccessTokens {
                issuers: vec![(&*method.issuer, &*method.audiences)],
                confirmation: method.confirmation,
            }),
            MethodKind::ApiKey(_)
            | MethodKind::Mtls(_)
            | MethodKind::SignIn(_)
            | MethodKind::Basic(_)
            | MethodKind::Digest(_)
            | MethodKind::Base64(_)
            | MethodKind::Signature(_)
            | MethodKind::HmacJwt(_)
            | MethodKind::Anonymous => None,
        }
    }
}

/// The fields of RFC 9421.
static SIGNATURE_FIELDS: LazyLock<[Source; 2]> = LazyLock::new(|| {
    ["signature-input", "signature"].map(|name| Source::Header { name: name.to_owned(), scheme: None })
});

/// The access tokens (RFC 6749 §1.4) that a method accepts.
#[derive(Clone, Debug)]
pub struct AccessTokens<'m> {
    /// Their issuers, each with the audiences of which a token needs one.
    pub issuers: Vec<(&'m str, &'m [String])>,
    /// The binding that they must have.
    pub confirmation: Confirmation,
}

/// JWT validation (RFC 7519, RFC 8725).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtMethod {
    /// The trusted issuers; their `issuer` values are distinct.
    pub issuers: Vec<Issuer>,
    /// The places where the token is looked for. Never empty.
    pub sources: Vec<Source>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub skew: Skew,
    /// The required binding of tokens.
    pub confirmation: Confirmation,
}

/// The required binding of tokens. A token that is bound is always checked against its key, whatever is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// A DPoP key (RFC 9449).
    pub dpop: bool,
    /// The client's certificate (RFC 8705).
    pub certificate: bool,
}

/// Token introspection (RFC 7662).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionMethod {
    /// The introspection endpoint.
    pub endpoint: String,
    /// The client id of the gateway there.
    pub client_id: String,
    /// The secret of this client.
    pub client_secret: SecretHandle,
    /// The issuer of these tokens; a response that names another issuer is refused.
    pub issuer: String,
    /// One of these must be in `aud`; empty: any.
    pub audiences: Vec<String>,
    /// The places where the token is looked for. Never empty.
    pub sources: Vec<Source>,
    /// The time for which a response about an active token may be reused.
    pub cache_seconds: u64,
    /// The required binding of tokens.
    pub confirmation: Confirmation,
}

/// One trusted issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The exact `iss` value.
    pub issuer: String,
    /// Accepted audiences: the token needs one of them. Empty only where `client_ids` is not: then it must have none.
    pub audiences: Vec<String>,
    /// Accepted clients: the token needs one of them. Empty: any.
    pub client_ids: Vec<String>,
    /// The source of its keys.
    pub keys: KeySource,
    /// The algorithms allowed. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The accepted `typ` values in lower case without `application/`. Empty: no `typ`, `jwt` or `at+jwt`.
    pub types: Vec<String>,
    /// Its tokens are those of RFC 9068, with the claims of its §2.2.
    pub rfc9068: bool,
    /// Its tokens are issued by a token service of this namespace, whose revocations count.
    pub issued_here: bool,
}

/// The source of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeySource {
    /// OpenID Connect discovery: `{issuer}/.well-known/openid-configuration` names the JWKS.
    Discovery {
        /// The configuration document.
        url: String,
        /// The TLS settings of the connection to this server.
        tls: Option<OutgoingTls>,
    },
    /// A JWKS at this URL.
    Url {
        /// The JWKS.
        url: String,
        /// The TLS settings of the connection to this server.
        tls: Option<OutgoingTls>,
    },
    /// A JWKS written down in the policy or in a Secret: public keys only.
    Inline {
        /// The JWKS as JSON text.
        jwks: String,
    },
}

/// A place of a credential in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Source {
    /// A header, with a scheme before the value (`Authorization: Bearer …`) or without.
    Header {
        /// Lower-case header name.
        name: String,
        /// The scheme, compared without regard to case.
        scheme: Option<String>,
    },
    /// A cookie.
    Cookie {
        /// The cookie's name.
        name: String,
    },
    /// A query parameter.
    Query {
        /// The parameter's name.
        name: String,
        /// The number of requests with such a credential that one address may make in a minute; `None`: any number.
        per_minute: Option<u32>,
    },
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyMethod {
    /// The places where the key is looked for. Never empty.
    pub sources: Vec<Source>,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// Signed requests (RFC 9421).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureMethod {
    /// The `tag` of the signatures; `None`: they have none.
    pub tag: Option<String>,
    /// The components that a signature must cover. `content-digest` is wanted of requests with a body alone.
    pub components: Vec<String>,
    /// The time after `created` for which a signature may be used.
    pub max_age_seconds: u64,
    /// Tolerance for `created` and `expires`.
    pub skew: Skew,
    /// The same signature is taken again for as long as it is valid.
    pub replayable: bool,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

impl SignatureMethod {
    /// The headers that a signature must cover.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(String::as_str).filter(|name| !name.starts_with('@'))
    }
}

/// JWTs that callers sign with secrets of their Credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HmacJwtMethod {
    /// The places where the token is looked for. Never empty.
    pub sources: Vec<Source>,
    /// Accepted audiences: a token needs one of them. Empty: it must have none.
    pub audiences: Vec<String>,
    /// The longest time until `exp`; `None`: any.
    pub max_lifetime_seconds: Option<u64>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub skew: Skew,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// The `Basic` scheme (RFC 7617).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicMethod {
    /// The realm of the challenge.
    pub realm: String,
    /// The sources of people, in order. Never empty.
    pub validators: Vec<Validator>,
}

/// The `Digest` scheme (RFC 7616).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestMethod {
    /// The realm of the challenge; it is part of every hash.
    pub realm: String,
    /// Accepted algorithms, the preferred one first. Never empty.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Accepted qualities of protection. Never empty.
    pub qualities: Vec<Quality>,
    /// The lifetime of a nonce.
    pub nonce_seconds: u64,
    /// The users that are Credentials, ordered by name.
    pub users: Vec<DigestUser>,
    /// Databases whose hashes are for this realm: names of [`crate::Plan::federations`].
    pub directories: Vec<String>,
}

/// One user of a Digest method: its secrets hold `H(username:realm:password)` for each algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestUser {
    /// The user name.
    pub username: String,
    /// The Credential, by name.
    pub credential: String,
    /// One for each of the method's algorithms, in their order.
    pub secrets: Vec<SecretHandle>,
}

/// Hashes of RFC 7616 §6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
    /// MD5: broken; for clients that support nothing else.
    Md5,
}

impl DigestAlgorithm {
    /// The digits of its hashes in hexadecimal.
    pub const fn hexadecimal_digits(self) -> usize {
        match self {
            DigestAlgorithm::Sha256 | DigestAlgorithm::Sha512_256 => 64,
            DigestAlgorithm::Md5 => 32,
        }
    }

    /// The name in the `algorithm` parameter.
    pub const fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha512_256 => "SHA-512-256",
            DigestAlgorithm::Md5 => "MD5",
        }
    }
}

/// The part of the request that a Digest response protects (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Method and target.
    Auth,
    /// Also the body, which is held until it has been checked.
    AuthInt,
}

impl Quality {
    /// The value in the `qop` parameter.
    pub const fn name(self) -> &'static str {
        match self {
            Quality::Auth => "auth",
            Quality::AuthInt => "auth-int",
        }
    }
}

/// A header or cookie that holds base64 of a text with this layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base64Method {
    /// The places where it is looked for. Never empty.
    pub sources: Vec<Source>,
    /// The parts of the decoded text, in order.
    pub layout: Vec<LayoutPart>,
    /// The sources of people, in order. Never empty; with an API key, Credentials alone.
    pub validators: Vec<Validator>,
}

/// A part of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LayoutPart {
    /// Exactly this text.
    Literal(String),
    /// The user name.
    Username,
    /// The password.
    Password,
    /// An API key.
    ApiKey,
    /// Text that is not checked.
    Ignored,
}
