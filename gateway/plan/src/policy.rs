use idm_types::{Algorithm, MethodName, RoleName, RuleName, Skew};
use serde::{Deserialize, Serialize};

use crate::{
    Cors, Expr, JoseStep, Llm, MtlsMethod, ObjectKey, OutgoingTls, PathForm, ProtectedResource, SecretHandle, Selector,
    SignInMethod, TokenService, Validator,
};

/// One IdentityPolicy, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The object.
    pub key: ObjectKey,
    /// Its uid. Together with the generation it is part of every cache key, so that no cached verdict outlives its
    /// policy.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// The methods in order; the first that recognises its credential decides. Never empty.
    pub methods: Vec<Method>,
    /// The mapping of a verified caller to attributes.
    pub identity: IdentityMapping,
    /// Authorization: every rule that applies must allow the request. If there are rules and none applies, the request
    /// is denied. If there are no rules, an authenticated caller is permitted.
    pub rules: Vec<Rule>,
    /// JOSE objects that are opened and made, in order.
    pub jose: Vec<JoseStep>,
    /// The upstream is a language model's API.
    pub llm: Option<Llm>,
    /// The tokens it issues.
    pub token_service: Option<TokenService>,
    /// The data about the caller that the upstream receives.
    pub upstream: UpstreamSettings,
    /// The amount of detail that a refused caller receives.
    pub disclosure: Disclosure,
    /// The pages of other origins whose scripts may call, where a rule does not say it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// The forms of paths that are taken though not every server reads them alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathForm>,
    /// What clients of OAuth are told about the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ProtectedResource>,
    /// The time for which streams may go on when their caller's right ends, in milliseconds; 0: they are cut.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drain_streams_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The amount of detail that a refused caller receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disclosure {
    /// The fields that RFC 6750 and RFC 9457 require, and no others.
    #[default]
    Minimal,
    /// Also the reason code and its sentence.
    Detailed,
}

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
    /// No credential: the route is open on purpose.
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
    /// MD5: broken; for clients that support nothing else.
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

/// The mapping of a verified caller to attributes.
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
    /// The name in audit records and in `explain`.
    pub name: RuleName,
    /// The request methods it covers; empty: all.
    pub methods: Vec<String>,
    /// The condition under which it covers a request; `None`: it always does.
    pub when: Option<Expr>,
    /// The roles and scopes that it requires.
    pub require: Require,
}

/// The roles and scopes that a rule requires of the caller.
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

/// The data about the caller that the upstream receives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Headers made from the identity, in order.
    pub headers: Vec<HeaderMapping>,
    /// The treatment of the caller's own credential.
    pub credential: CredentialForwarding,
    /// The exchange of the caller's token for one that the upstream accepts.
    pub exchange: Option<TokenExchange>,
}

/// A token for the upstream in exchange for the caller's (RFC 8693).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenExchange {
    /// The token endpoint.
    pub endpoint: String,
    /// The client id of the gateway there.
    pub client_id: String,
    /// The secret of this client.
    pub client_secret: SecretHandle,
    /// The `audience` of the requested token.
    pub audience: Option<String>,
    /// The `scope` of the requested token.
    pub scopes: Vec<String>,
    /// The time for which an exchanged token may be reused.
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

/// The treatment of the verified credential before a request is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialForwarding {
    /// The credential is removed.
    #[default]
    Remove,
    /// The credential is forwarded to the upstream.
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
    /// The subjects that receive the role.
    pub subjects: Vec<Subject>,
}

/// A subject of a grant.
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
