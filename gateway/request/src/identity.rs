use http::{HeaderName, HeaderValue};
use idm_expr::EvaluationError;
use idm_jose::Claims;
use idm_signature::ContentDigest;
use idm_store::Key;
use idm_types::{MethodName, Reason, Redacted, Refusal, Timestamp};

/// A verified caller, as rules, upstream and audit see it.
#[derive(Debug)]
pub struct Identity {
    /// The method that verified it.
    pub method: MethodName,
    /// The method's kind: `jwt`, `apiKey`, `basic` and so on.
    pub kind: &'static str,
    /// Unique and stable: `ISSUER#SUBJECT` or `credential:NAMESPACE/NAME`; empty for anonymous callers.
    pub id: String,
    /// The human-readable name.
    pub username: String,
    /// The issuer that vouches for it; `None` for API keys and anonymous callers.
    pub issuer: Option<String>,
    /// Roles, sorted and distinct.
    pub roles: Vec<String>,
    /// The names that the mapping of roles gave and that are no roles, in words.
    pub roles_dropped: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// OAuth scopes.
    pub scopes: Vec<String>,
    /// Further attributes.
    pub attributes: Vec<(String, String)>,
    /// The Credential object, by name.
    pub credential: Option<String>,
    /// The owner that the Credential names.
    pub owner: Option<String>,
    /// The key that verified the token.
    pub kid: Option<String>,
    /// The time when the credential ends.
    pub expires: Option<Timestamp>,
    /// The headers that tell the upstream about the caller.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The policies a Credential may be used with; `None`: all.
    pub only_policies: Option<Vec<String>>,
    /// The `jti` of a token that a service of this namespace issued, which may revoke it.
    pub token_id: Option<String>,
    /// The client or user that the service issued it to.
    pub issued_to: Option<IssuedTo>,
    /// The keys that the token is bound to.
    pub binding: Binding,
    /// The session that it belongs to.
    pub session: Option<OfSession>,
    /// The person of a directory who it is.
    pub directory: Option<Box<OfDirectory>>,
    /// The digests that the request's body must have: the caller signed them.
    pub content: Option<Box<ContentDigest>>,
    /// The token's claims, where an expression of the policy asks for them later.
    pub claims: Option<Claims>,
}

impl Identity {
    /// An anonymous caller, accepted by this method.
    pub fn nobody(method: &MethodName, kind: &'static str) -> Self {
        Self {
            method: method.clone(),
            kind,
            id: String::new(),
            username: String::new(),
            issuer: None,
            roles: Vec::new(),
            roles_dropped: None,
            groups: Vec::new(),
            scopes: Vec::new(),
            attributes: Vec::new(),
            credential: None,
            owner: None,
            kid: None,
            expires: None,
            headers: Vec::new(),
            only_policies: None,
            token_id: None,
            issued_to: None,
            binding: Binding::default(),
            session: None,
            directory: None,
            content: None,
            claims: None,
        }
    }
}

impl Identity {
    /// The token of the caller's session that the provider gave for the upstream; `None` without a session.
    pub fn session_token(&self) -> Option<&Redacted<String>> {
        self.session.as_ref()?.access.as_ref()
    }
}

/// The client and the subject of a token that a token service of this namespace issued. The token ends when the
/// Credential of either ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedTo {
    /// The `client_id`.
    pub client: String,
    /// The `sub`: a user, or the client itself.
    pub subject: String,
    /// The `idp`: the directory of which the subject is a person.
    pub directory: Option<String>,
}

/// The keys that a token is bound to (`cnf`, RFC 7800).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// The thumbprint of a DPoP key (RFC 9449 §6).
    pub jkt: Option<String>,
    /// The thumbprint of a certificate (RFC 8705 §3.1).
    pub x5t: Option<String>,
    /// It is bound by a method that is not supported here.
    pub other: bool,
}

impl Binding {
    /// The binding that a token's claims name.
    pub fn of(claims: &Claims) -> Self {
        let Some(cnf) = claims.members().get("cnf") else { return Self::default() };
        let text = |name: &str| cnf.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let (jkt, x5t) = (text("jkt"), text("x5t#S256"));
        Self { other: jkt.is_none() && x5t.is_none(), jkt, x5t }
    }
}

/// The session that an identity was read from.
#[derive(Debug)]
pub struct OfSession {
    /// The revocation of any of them ends the session.
    pub keys: Vec<Key>,
    /// The provider's token, for the upstream where the policy forwards credentials.
    pub access: Option<Redacted<String>>,
}

/// A person of a directory, by which the person is looked up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfDirectory {
    /// The Federation, by uid: another one may get its name.
    pub federation: String,
    /// The id that stays when the person is renamed.
    pub id: String,
    /// The user name in the directory's spelling.
    pub username: String,
}

/// The reason why a mapping of the policy gives no usable value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The reason.
    pub reason: Reason,
    /// For the audit: names the expression, and never contains its value.
    pub detail: String,
}

impl From<String> for Unusable {
    fn from(detail: String) -> Self {
        Self { reason: Reason::UnusableClaim, detail }
    }
}

impl From<&str> for Unusable {
    fn from(detail: &str) -> Self {
        detail.to_owned().into()
    }
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        Refusal::new(unusable.reason, unusable.detail)
    }
}

impl From<EvaluationError> for Unusable {
    fn from(error: EvaluationError) -> Self {
        Self { reason: error.reason(Reason::UnusableClaim), detail: error.to_string() }
    }
}
