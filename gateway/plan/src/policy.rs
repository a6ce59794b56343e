use idm_types::{Algorithm, MethodName, RoleName, RuleName, Skew};
use serde::{Deserialize, Serialize};

use crate::{
    Expr, JoseStep, Llm, MtlsMethod, ObjectKey, OutgoingTls, SecretHandle, Selector, SignInMethod, TokenService,
};

/// One IdentityPolicy, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The object.
    pub key: ObjectKey,
    /// Its uid: with the generation it keys every cache, so that no cached verdict outlives the policy that gave it.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// The methods in order; the first that recognises its credential decides. Never empty.
    pub methods: Vec<Method>,
    /// How a verified caller becomes attributes.
    pub identity: IdentityMapping,
    /// Authorization: every rule that applies must allow; with rules and none applying, deny. Empty: authenticated is
    /// enough.
    pub rules: Vec<Rule>,
    /// JOSE objects that are opened and made, in order.
    pub jose: Vec<JoseStep>,
    /// The upstream is a language model's API.
    pub llm: Option<Llm>,
    /// The tokens it issues.
    pub token_service: Option<TokenService>,
    /// What the upstream is told.
    pub upstream: UpstreamSettings,
    /// What a refused caller may learn.
    pub disclosure: Disclosure,
}

/// How much a refused caller learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disclosure {
    /// What RFC 6750 and RFC 9457 need and no more.
    #[default]
    Minimal,
    /// Also the reason code and its plain sentence.
    Detailed,
}

/// One authentication method under its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// What audit, metrics and `explain` call it.
    pub name: MethodName,
    /// Which one it is.
    pub kind: MethodKind,
}

/// The methods there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MethodKind {
    /// A signed JWT.
    Jwt(JwtMethod),
    /// A token that its issuer is asked about (RFC 7662).
    Introspection(IntrospectionMethod),
    /// An API key of a Credential.
    ApiKey(ApiKeyMethod),
    /// A client certificate, proven in the TLS handshake.
    Mtls(MtlsMethod),
    /// The session of a person who signed in with a browser.
    SignIn(Box<SignInMethod>),
    /// User name and password of a Credential (RFC 7617).
    Basic(BasicMethod),
    /// A password of a Credential, proven without sending it (RFC 7616).
    Digest(DigestMethod),
    /// User name and password, or an API key, in base64 of some layout.
    Base64(Base64Method),
    /// Nothing: the route is open on purpose.
    Anonymous,
}

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
            MethodKind::Anonymous => "anonymous",
        }
    }
}

/// JWT validation (RFC 7519, RFC 8725).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtMethod {
    /// The trusted issuers; their `issuer` values are distinct.
    pub issuers: Vec<Issuer>,
    /// Where the token travels. Never empty.
    pub sources: Vec<Source>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub skew: Skew,
    /// What tokens must be bound to.
    pub confirmation: Confirmation,
}

/// What tokens must be bound to. One that is bound is never taken unbound, whatever stands here.
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
    /// Where to ask.
    pub endpoint: String,
    /// As whom.
    pub client_id: String,
    /// With which secret.
    pub client_secret: SecretHandle,
    /// The issuer whose tokens these are; an answer that names another one is refused.
    pub issuer: String,
    /// One of these must be in `aud`; empty: any.
    pub audiences: Vec<String>,
    /// Where the token travels. Never empty.
    pub sources: Vec<Source>,
    /// How long a good answer may be used.
    pub cache_seconds: u64,
    /// What tokens must be bound to.
    pub confirmation: Confirmation,
}

/// One trusted issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The exact `iss` value.
    pub issuer: String,
    /// Accepted audiences: the token needs one of them. Never empty.
    pub audiences: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The algorithms allowed. Never empty.
    pub algorithms: Vec<Algorithm>,
    /// The accepted `typ` values in lower case without `application/`. Empty: absent, `jwt` or `at+jwt`.
    pub types: Vec<String>,
    /// Its tokens are those of RFC 9068, with the claims of its §2.2.
    pub rfc9068: bool,
    /// Its tokens are issued by a token service of this namespace, whose revocations count.
    pub issued_here: bool,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeySource {
    /// OpenID Connect discovery: `{issuer}/.well-known/openid-configuration` names the JWKS.
    Discovery {
        /// The configuration document.
        url: String,
        /// How its server is reached.
        tls: Option<OutgoingTls>,
    },
    /// A JWKS at this URL.
    Url {
        /// The JWKS.
        url: String,
        /// How its server is reached.
        tls: Option<OutgoingTls>,
    },
    /// A JWKS written down in the policy or in a Secret: public keys only.
    Inline {
        /// The JWKS as JSON text.
        jwks: String,
    },
}

/// Where a credential travels in a request.
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
        /// How many requests with one an address may make in a minute; `None`: any number.
        per_minute: Option<u32>,
    },
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyMethod {
    /// Where the key travels. Never empty.
    pub sources: Vec<Source>,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// The `Basic` scheme (RFC 7617).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicMethod {
    /// What the challenge asks for a password for.
    pub realm: String,
    /// The Credentials that this method accepts.
    pub only: Selector,
}

/// The `Digest` scheme (RFC 7616).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestMethod {
    /// What the challenge asks for a password for; part of every hash.
    pub realm: String,
    /// Accepted algorithms, the preferred one first. Never empty.
    pub algorithms: Vec<DigestAlgorithm>,
    /// Accepted qualities of protection. Never empty.
    pub qualities: Vec<Quality>,
    /// How long a nonce may be used.
    pub nonce_seconds: u64,
    /// The users, ordered by name.
    pub users: Vec<DigestUser>,
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
    /// MD5: broken, for clients that know nothing else.
    Md5,
}

impl DigestAlgorithm {
    /// The name in the `algorithm` parameter.
    pub const fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha512_256 => "SHA-512-256",
            DigestAlgorithm::Md5 => "MD5",
        }
    }
}

/// What a Digest response protects (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Method and target.
    Auth,
    /// Also the body, which is held until it was checked.
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
    /// Where it travels. Never empty.
    pub sources: Vec<Source>,
    /// What the decoded text consists of, in order.
    pub layout: Vec<LayoutPart>,
    /// The Credentials that this method accepts.
    pub only: Selector,
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
    /// Something that is not looked at.
    Ignored,
}

/// How a verified caller becomes attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityMapping {
    /// The user name. A token without it is refused.
    pub username: Option<Expr>,
    /// Roles: a list, or text split at spaces.
    pub roles: Option<Expr>,
    /// Groups, which RoleBindings turn into roles.
    pub groups: Option<Expr>,
    /// Further attributes by name.
    pub attributes: Vec<(String, Expr)>,
}

/// One authorization rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What audit and `explain` call it.
    pub name: RuleName,
    /// The request methods it covers; empty: all.
    pub methods: Vec<String>,
    /// The condition under which it covers a request; `None`: always.
    pub when: Option<Expr>,
    /// What it demands.
    pub require: Require,
}

/// What a rule demands of the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// Roles.
    pub roles: NameSet,
    /// OAuth scopes.
    pub scopes: NameSet,
}

/// Names that must be held: one of `any` (when not empty) and all of `all`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameSet {
    /// At least one of these.
    pub any: Vec<String>,
    /// Every one of these.
    pub all: Vec<String>,
}

/// What the upstream is told about the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Headers made from the identity, in order.
    pub headers: Vec<HeaderMapping>,
    /// What becomes of the caller's own credential.
    pub credential: CredentialForwarding,
    /// What the upstream gets in exchange for the caller's token.
    pub exchange: Option<TokenExchange>,
}

/// A token for the upstream in exchange for the caller's (RFC 8693).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenExchange {
    /// Where to ask.
    pub endpoint: String,
    /// As whom.
    pub client_id: String,
    /// With which secret.
    pub client_secret: SecretHandle,
    /// For whom.
    pub audience: Option<String>,
    /// For what.
    pub scopes: Vec<String>,
    /// How long it may be used again.
    pub cache_seconds: u64,
}

/// One header for the upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMapping {
    /// Lower-case header name.
    pub name: String,
    /// Its value; lists are joined with `,`. A missing value sends no header.
    pub value: Expr,
}

/// What becomes of the verified credential on its way to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialForwarding {
    /// It stays here.
    #[default]
    Remove,
    /// It goes on to the upstream.
    Forward,
}

/// A role given to someone in this project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The RoleBinding object.
    pub key: ObjectKey,
    /// The role.
    pub role: RoleName,
    /// Who gets it.
    pub subjects: Vec<Subject>,
}

/// Who a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Subject {
    /// A user by `identity.username` from one issuer (a name is only unique within its issuer).
    User {
        /// The user name.
        name: String,
        /// The issuer that vouches for it; `None`: any issuer the policy trusts.
        issuer: Option<String>,
    },
    /// Everyone in a group.
    Group {
        /// The group.
        name: String,
        /// The issuer that vouches for it; `None`: any issuer the policy trusts.
        issuer: Option<String>,
    },
    /// A Credential of this namespace.
    Credential {
        /// Its name.
        name: String,
    },
}
