//! The token service of a policy: clients authenticate and get tokens (RFC 6749, RFC 9068).
//!
//! In: a request to one of its endpoints, as [`Ask`]. Out: an [`Answered`] document, or [`Refused`] with its reason.
//! `idm-authn` authenticates clients and users, and `idm-store` knows used and revoked identifiers. This crate never
//! does IO of its own, and never shows a private key: it publishes public parts only. Start at [`TokenIssuer::answer`];
//! `grant.rs` decides the grants, `mint.rs` writes tokens, `refresh.rs` handles refresh tokens.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod form;
mod grant;
mod keys;
mod mint;
mod refresh;
mod tokens;

use std::rc::Rc;

pub use idm_authn::Refused;
use idm_authn::{ArmedPolicy, Asking, ClientForm, Clients, CredentialTable, KnownClient, Resources};
use idm_expr::Expression;
use idm_jose::PROOF_ALGORITHMS;
use idm_plan::{Endpoint, TokenGrant, TokenService};
use idm_request::{Identity, RequestView};
use idm_types::{Reason, Timestamp};
use serde_json::{Value, json};

use form::Form;
use keys::ServiceKeys;

/// The largest form that is read.
pub const MAX_FORM: usize = 64 * 1024;

/// A request to an endpoint.
#[derive(Clone, Copy)]
pub struct Ask<'r> {
    /// The policy of the service.
    pub policy: &'r ArmedPolicy,
    /// The Credentials in force.
    pub credentials: &'r CredentialTable,
    /// The request; its body is complete.
    pub view: RequestView<'r>,
    /// The gateway's name.
    pub gateway: &'r str,
    /// The time.
    pub now: Timestamp,
}

impl<'r> Ask<'r> {
    /// The same context for the authentication of clients and users.
    fn for_clients(self) -> Asking<'r> {
        let Self { policy, credentials: table, view, gateway: _, now } = self;
        Asking { policy, table, view, now }
    }
}

/// The answer to a request.
#[derive(Debug, Default)]
pub struct Answered {
    /// The document; `None`: an empty one.
    pub body: Option<Value>,
    /// It is the same for all clients and may be cached for a minute.
    pub public: bool,
    /// The client, if it had to authenticate.
    pub who: Option<Rc<Identity>>,
    /// The token that was issued.
    pub issued: Option<Issued>,
}

/// A token that was issued, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The `grant_type`.
    pub grant: &'static str,
    /// The subject of the token.
    pub subject: String,
    /// Its `jti`.
    pub id: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its audiences.
    pub audiences: Vec<String>,
    /// Its lifetime.
    pub lifetime_seconds: u64,
}

/// Whether an endpoint reads a form.
pub fn wants_form(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Token | Endpoint::Revocation | Endpoint::Introspection)
}

/// The error code for the client (RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8707 §2, RFC 9449 §5).
pub fn error_code(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidClient => "invalid_client",
        Reason::UnsupportedGrant => "unsupported_grant_type",
        Reason::GrantNotAllowed => "unauthorized_client",
        Reason::InvalidGrant | Reason::RefreshTokenReused => "invalid_grant",
        Reason::ScopeNotAllowed => "invalid_scope",
        Reason::AudienceNotAllowed => "invalid_target",
        Reason::InvalidProof => "invalid_dpop_proof",
        Reason::TooManyAttempts | Reason::CredentialBlocked => "slow_down",
        reason if reason.status() >= 500 => "temporarily_unavailable",
        _ => "invalid_request",
    }
}

/// Calls every reader of bytes that a client sends, for the fuzzer: it must not panic.
#[doc(hidden)]
pub fn fuzz_form(body: &[u8]) {
    if let Ok(form) = Form::parse(body) {
        let _ = form.text("refresh_token").map(refresh::split);
    }
}

/// One policy's token service with its live keys, shared by all cores.
pub struct TokenIssuer {
    plan: TokenService,
    clients: Clients,
    keys: ServiceKeys,
    claims: Vec<(String, Expression)>,
}

impl TokenIssuer {
    /// Arms a service of a policy in this namespace. The error shows no secret.
    pub fn arm(plan: &TokenService, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let claims = plan
            .claims
            .iter()
            .map(|(name, expr)| Ok((name.clone(), Expression::arm(expr)?)))
            .collect::<Result<_, String>>()?;
        Ok(Self {
            clients: Clients::arm(plan, namespace, resources)?,
            keys: ServiceKeys::arm(&plan.keys, resources.trust.secrets)?,
            claims,
            plan: plan.clone(),
        })
    }

    /// Answers a request.
    pub async fn answer(&self, endpoint: Endpoint, ask: Ask<'_>) -> Result<Answered, Refused> {
        let Ask { view, now, .. } = ask;
        match endpoint {
            Endpoint::Keys | Endpoint::Metadata => {
                if !matches!(view.method, "GET" | "HEAD") {
                    return Err(Refused::new(Reason::MalformedTokenRequest, "this document is read with GET"));
                }
                let body = if endpoint == Endpoint::Keys { self.keys.published(now) } else { self.metadata() };
                Ok(Answered { body: Some(body), public: true, ..Answered::default() })
            }
            Endpoint::Token | Endpoint::Revocation | Endpoint::Introspection => {
                let form = Form::read(view)?;
                let client = self.client(&form, ask).await?;
                let who = client.who.identity().clone();
                let answered = match endpoint {
                    Endpoint::Revocation => self.revoke(&form, &client, ask).await,
                    Endpoint::Introspection => self.introspect(&form, &client, ask).await,
                    _ => self.token(&form, &client, ask).await,
                };
                match answered {
                    Ok(answered) => Ok(Answered { who: Some(who), ..answered }),
                    Err(refused) => Err(Refused { who: Some(who), ..refused }),
                }
            }
        }
    }

    async fn client<'c>(&self, form: &Form, ask: Ask<'c>) -> Result<KnownClient<'c>, Refused> {
        let presented = ClientForm {
            id: form.text("client_id"),
            secret: form.secret("client_secret"),
            assertion: form.text("client_assertion"),
            assertion_type: form.text("client_assertion_type"),
        };
        Ok(self.clients.client(ask.for_clients(), presented).await?)
    }

    /// RFC 8414 §2.
    fn metadata(&self) -> Value {
        let TokenService { issuer, grants, revokes, .. } = &self.plan;
        let asymmetric: Vec<_> = PROOF_ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
        let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"];
        let endpoint = |path: &str| Value::from(format!("{issuer}/{path}"));
        let mut metadata = json!({
            "issuer": issuer,
            "token_endpoint": endpoint("token"),
            "jwks_uri": endpoint(".well-known/jwks.json"),
            "introspection_endpoint": endpoint("introspect"),
            "grant_types_supported": grants.iter().map(|grant| TokenGrant::name(*grant)).collect::<Vec<_>>(),
            "response_types_supported": [],
            "dpop_signing_alg_values_supported": asymmetric,
            "tls_client_certificate_bound_access_tokens": true,
        });
        if let Some(members) = metadata.as_object_mut() {
            for of in ["token", "introspection", "revocation"].into_iter().filter(|of| *revokes || *of != "revocation")
            {
                members.insert(format!("{of}_endpoint_auth_methods_supported"), methods.as_slice().into());
                members
                    .insert(format!("{of}_endpoint_auth_signing_alg_values_supported"), asymmetric.as_slice().into());
            }
            if *revokes {
                members.insert("revocation_endpoint".into(), endpoint("revoke"));
            }
        }
        metadata
    }
}
