//! The relying party: our requests to an OpenID Connect provider, and the validation of its responses.
//!
//! `metadata.rs` has the endpoints, `request.rs` the authorization request, `tokens.rs` the token requests,
//! `id_token.rs` the validation of id tokens, `logout.rs` the end of sessions. Every request goes through
//! [`crate::HttpClient`]; every id token through `idm-jose`.

mod id_token;
mod logout;
mod metadata;
mod password;
mod request;
mod tokens;

use idm_trust::{Authorization, Deadline, Form, HttpClient, IssuerKeys, Kept, NoAnswer, OutboundRequest, secret_text};
use std::net::IpAddr;
use std::sync::Arc;

use idm_jose::{Jwk, SigningKey, private_key, system_entropy, to_base64url};
use idm_plan::{Federation, OidcProvider, ProviderAuthentication};
use idm_types::{Reason, Redacted, Refusal, Timestamp};
use serde_json::json;

use crate::Resources;

pub use id_token::{Expected, Person};
pub use logout::LogoutToken;
use metadata::Metadata;
pub(crate) use password::PasswordGrant;
pub use request::Asked;
pub use tokens::SignedIn;

/// The lifetime of our own assertions.
const ASSERTION_SECONDS: u64 = 60;

/// The provider does not answer.
fn unavailable(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::ProviderUnavailable, detail)
}

/// The provider's response is not accepted.
fn untrusted(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::UntrustedSignIn, detail)
}

/// The provider refuses.
fn refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::SignInRefused, detail)
}

/// The refusal of a request that needed a response of a provider.
pub(crate) fn no_answer(why: NoAnswer) -> Refusal {
    unavailable(why.to_string()).retry_after(why.retry_after())
}

enum ClientProof {
    Nothing,
    Basic(Redacted<String>),
    Post(Redacted<String>),
    Assertion(Box<SigningKey>),
    Certificate,
}

/// A provider with its live keys, shared by all cores.
pub struct Provider {
    federation: Federation,
    oidc: OidcProvider,
    proof: ClientProof,
    keys: Arc<IssuerKeys>,
    http: Arc<dyn HttpClient>,
    metadata: Kept<Metadata>,
}

impl Provider {
    /// Arms a provider. The error shows no secret.
    pub(crate) fn arm(
        federation: &Federation,
        oidc: &OidcProvider,
        resources: &mut Resources<'_>,
    ) -> Result<Self, String> {
        let http = match &oidc.tls {
            Some(tls) => resources.trust.http.reached_by(tls, resources.trust.secrets)?,
            None => resources.trust.http.clone(),
        };
        let proof = match &oidc.authentication {
            ProviderAuthentication::Nothing => ClientProof::Nothing,
            ProviderAuthentication::Basic(secret) => ClientProof::Basic(secret_text(secret, resources.trust.secrets)?),
            ProviderAuthentication::Post(secret) => ClientProof::Post(secret_text(secret, resources.trust.secrets)?),
            ProviderAuthentication::Certificate => ClientProof::Certificate,
            ProviderAuthentication::Assertion { key, algorithm } => {
                let text = secret_text(key, resources.trust.secrets)?;
                let jwk: Jwk =
                    private_key(text.reveal()).ok_or_else(|| format!("the secret `{}` is not a private key", key.0))?;
                ClientProof::Assertion(Box::new(
                    SigningKey::from_jwk(&jwk, *algorithm)
                        .map_err(|error| format!("the secret `{}`: {error}", key.0))?,
                ))
            }
        };
        let keys = resources
            .trust
            .keys
            .of(&oidc.keys, &oidc.algorithms)
            .map_err(|error| format!("the keys of `{}`: {error}", oidc.issuer))?;
        Ok(Self { federation: federation.clone(), oidc: oidc.clone(), proof, keys, http, metadata: Kept::default() })
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Its exact `iss`.
    pub fn issuer(&self) -> &str {
        &self.oidc.issuer
    }

    /// Whether passwords of its people may be sent to it.
    pub(crate) fn takes_passwords(&self) -> bool {
        self.oidc.takes_passwords
    }

    /// Whether it was asked to have its answers posted to the callback.
    pub fn posts_answers(&self) -> bool {
        self.oidc.parameters.iter().any(|(name, value)| name == "response_mode" && value == "form_post")
    }

    /// The client for work that no request waits for.
    pub fn http(&self) -> &Arc<dyn HttpClient> {
        &self.http
    }

    /// A form to one of its endpoints, as our client.
    async fn post(
        &self,
        endpoint: &str,
        mut form: Form,
        expected: u16,
        deadline: Deadline,
        caller: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Vec<u8>, NoAnswer> {
        let text = |text: &str| Redacted::new(text.to_owned());
        let client_id = self.oidc.client_id.as_str();
        let mut authorization = Authorization::Nothing;
        match &self.proof {
            ClientProof::Basic(secret) => {
                authorization = Authorization::Basic { client_id: client_id.to_owned(), secret: secret.clone() }
            }
            ClientProof::Post(secret) => {
                form.extend([("client_id".into(), text(client_id)), ("client_secret".into(), secret.clone())])
            }
            ClientProof::Nothing | ClientProof::Certificate => form.push(("client_id".into(), text(client_id))),
            ClientProof::Assertion(key) => {
                let assertion = self
                    .assertion(key, now)
                    .ok_or_else(|| NoAnswer::Failed("the client assertion cannot be signed".into()))?;
                form.extend([
                    ("client_id".into(), text(client_id)),
                    ("client_assertion_type".into(), text("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")),
                    ("client_assertion".into(), assertion),
                ]);
            }
        }
        self.http
            .ask(OutboundRequest {
                endpoint: endpoint.to_owned(),
                authorization,
                form: Some(form),
                expected,
                deadline,
                caller,
            })
            .await
    }

    /// RFC 7523 §3. The audience is the issuer alone: no other server can use it.
    fn assertion(&self, key: &SigningKey, now: Timestamp) -> Option<Redacted<String>> {
        let mut id = [0; 16];
        system_entropy(&mut id).ok()?;
        let (client_id, seconds) = (&self.oidc.client_id, now.seconds());
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": self.oidc.issuer, "jti": to_base64url(&id),
            "iat": seconds, "nbf": seconds, "exp": seconds + ASSERTION_SECONDS,
        });
        key.sign(&claims).ok().map(Redacted::new)
    }
}
