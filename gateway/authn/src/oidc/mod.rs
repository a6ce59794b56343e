//! The relying party: what we say to an OpenID Connect provider, and what we believe of its answers.
//!
//! `metadata.rs` is where it is asked, `request.rs` how a browser is sent there, `tokens.rs` what comes for a code,
//! `id_token.rs` what makes an id token one, `logout.rs` how sessions end. Every question goes through
//! [`crate::Outside`]; every id token through `idm-jose`.

mod id_token;
mod logout;
mod metadata;
mod request;
mod tokens;

use idm_trust::{Authorization, Form, IssuerKeys, Kept, NoAnswer, Outside, Patience, Question, secret_text};
use std::sync::Arc;

use idm_jose::{Jwk, SigningKey, private_key, system_entropy, to_base64url};
use idm_plan::{Federation, OidcProvider, ProviderAuthentication};
use idm_types::{Reason, Redacted, Refusal, Timestamp};
use serde_json::json;

use crate::Armory;

pub use id_token::{Expected, Person};
pub use logout::LogoutToken;
use metadata::Metadata;
pub use request::Asked;
pub use tokens::SignedIn;

/// How long an assertion of ours is good for.
const ASSERTION_SECONDS: u64 = 60;

/// The provider does not answer.
fn unavailable(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::ProviderUnavailable, detail)
}

/// The provider's answer is not believed.
fn untrusted(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::UntrustedSignIn, detail)
}

/// The provider says no.
fn refused(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::SignInRefused, detail)
}

/// The refusal of whoever needed an answer of a provider.
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
    outside: Arc<dyn Outside>,
    metadata: Kept<Metadata>,
}

impl Provider {
    /// Arms a provider. The error shows no secret.
    pub(crate) fn arm(federation: &Federation, oidc: &OidcProvider, armory: &mut Armory<'_>) -> Result<Self, String> {
        let outside = match &oidc.tls {
            Some(tls) => armory.trust.outside.reached_by(tls, armory.trust.secrets)?,
            None => armory.trust.outside.clone(),
        };
        let proof = match &oidc.authentication {
            ProviderAuthentication::Nothing => ClientProof::Nothing,
            ProviderAuthentication::Basic(secret) => ClientProof::Basic(secret_text(secret, armory.trust.secrets)?),
            ProviderAuthentication::Post(secret) => ClientProof::Post(secret_text(secret, armory.trust.secrets)?),
            ProviderAuthentication::Certificate => ClientProof::Certificate,
            ProviderAuthentication::Assertion { key, algorithm } => {
                let text = secret_text(key, armory.trust.secrets)?;
                let jwk: Jwk =
                    private_key(text.reveal()).ok_or_else(|| format!("the secret `{}` is not a private key", key.0))?;
                ClientProof::Assertion(Box::new(
                    SigningKey::from_jwk(&jwk, *algorithm)
                        .map_err(|error| format!("the secret `{}`: {error}", key.0))?,
                ))
            }
        };
        let keys = armory
            .trust
            .keys(&oidc.keys, &oidc.algorithms)
            .map_err(|error| format!("the keys of `{}`: {error}", oidc.issuer))?;
        Ok(Self { federation: federation.clone(), oidc: oidc.clone(), proof, keys, outside, metadata: Kept::default() })
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Its exact `iss`.
    pub fn issuer(&self) -> &str {
        &self.oidc.issuer
    }

    /// Who does work that nobody waits for.
    pub fn outside(&self) -> &Arc<dyn Outside> {
        &self.outside
    }

    /// Whether its keys are there.
    pub fn keys_loaded(&self) -> bool {
        self.keys.is_loaded()
    }

    /// A form to one of its endpoints, as our client.
    async fn post(
        &self,
        endpoint: &str,
        mut form: Form,
        expected: u16,
        patience: Patience,
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
        self.outside
            .ask(Question {
                endpoint: endpoint.to_owned(),
                authorization,
                form: Some(form),
                expected,
                patience,
                caller: None,
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
