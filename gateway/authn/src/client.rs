//! OAuth clients of a token service, and the users that they bring (RFC 6749 §2.3 and §4.3, RFC 7523, RFC 8705).

use idm_request::RequestView;
use idm_trust::IssuerKeys;
use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use idm_jose::{Expectations, KeySetError, Unverified, Verified};
use idm_plan::{ClientAuthentication, Credential, OauthClient, Proof, TokenService};
use idm_store::Key;
use idm_types::{Algorithm, MethodName, Reason, Redacted, Refusal, Skew, Timestamp, unhex};
use serde_json::Value;

use crate::credential::admit;
use crate::memory::RightGuess;
use crate::method::{Attempt, MethodContext};
use crate::methods::basic;
use crate::methods::mtls::ArmedMtls;
use crate::{ArmedPolicy, Authenticated, Resources, binding};

/// The only type of assertion (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion may live this long: it is remembered until it ends.
const MAX_ASSERTION_SECONDS: u64 = 600;
const SKEW_SECONDS: u64 = 30;

/// What a client put into the form to prove itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientForm<'f> {
    /// `client_id`.
    pub id: Option<&'f str>,
    /// `client_secret`.
    pub secret: Option<&'f Redacted<String>>,
    /// `client_assertion`.
    pub assertion: Option<&'f str>,
    /// `client_assertion_type`.
    pub assertion_type: Option<&'f str>,
}

/// A client that proved itself.
#[derive(Debug)]
pub struct KnownClient<'c> {
    /// The client as a caller: its Credential's roles and attributes.
    pub who: Authenticated,
    /// What it may do.
    pub plan: &'c OauthClient,
    /// How it proved itself, as RFC 8414 names it.
    pub method: &'static str,
    /// The `x5t#S256` of the certificate that it proved itself with.
    pub certificate: Option<String>,
}

/// The clients of one token service, with their live keys.
pub struct ArmedClients {
    issuer: [String; 1],
    name: MethodName,
    only: Option<Vec<String>>,
    by_id: HashMap<String, ArmedClient>,
}

struct ArmedClient {
    credential: Credential,
    plan: OauthClient,
    proof: ArmedProof,
}

enum ArmedProof {
    Secret([u8; 32]),
    Password(String),
    Assertion(Arc<IssuerKeys>, Vec<Algorithm>),
    Certificate(Box<ArmedMtls>),
}

/// How a client presented itself, before anything is believed.
enum Presented<'f> {
    Secret { method: &'static str, id: String, secret: Redacted<String> },
    Assertion { id: Option<&'f str>, assertion: &'f str },
    Certificate { id: &'f str },
}

impl ArmedClients {
    /// Arms the clients that a service knows. The error names the client, and no secret.
    pub fn arm(
        credentials: &[Credential],
        service: &TokenService,
        resources: &mut Resources<'_>,
    ) -> Result<Self, String> {
        let mut by_id = HashMap::new();
        for credential in credentials {
            let Proof::Client(plan) = &credential.proof else { continue };
            if service.only.as_ref().is_some_and(|only| !only.contains(&credential.key.name)) {
                continue;
            }
            let broken = |problem: &dyn std::fmt::Display| format!("credential {}: {problem}", credential.key);
            let proof = match &plan.authentication {
                ClientAuthentication::Secret { sha256 } => {
                    ArmedProof::Secret(unhex(sha256).ok_or_else(|| broken(&"its hash is not SHA-256"))?)
                }
                ClientAuthentication::Password { phc } => ArmedProof::Password(phc.clone()),
                ClientAuthentication::Assertion { keys, algorithms } => {
                    let keys = resources.trust.keys(keys, algorithms).map_err(|error: KeySetError| broken(&error))?;
                    ArmedProof::Assertion(keys, algorithms.clone())
                }
                ClientAuthentication::Certificate(method) => {
                    ArmedProof::Certificate(Box::new(ArmedMtls::new(method).map_err(|error| broken(&error))?))
                }
            };
            by_id.insert(
                plan.client_id.clone(),
                ArmedClient { credential: credential.clone(), plan: (**plan).clone(), proof },
            );
        }
        let name = "token-service".parse().map_err(|_| "the service has no name")?;
        Ok(Self { issuer: [service.issuer.clone()], name, only: service.only.clone(), by_id })
    }

    /// Whether keys of all clients are there.
    pub fn keys_loaded(&self) -> bool {
        self.by_id.values().all(|client| !matches!(&client.proof, ArmedProof::Assertion(keys, _) if !keys.is_loaded()))
    }

    fn denied(&self, reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal::new(reason, detail).by_method(&self.name)
    }

    fn invalid(&self, detail: impl Into<String>) -> Refusal {
        self.denied(Reason::InvalidClient, detail)
    }

    fn context<'a>(
        &'a self,
        policy: &'a ArmedPolicy,
        kind: &'static str,
        view: RequestView<'a>,
        now: Timestamp,
    ) -> MethodContext<'a> {
        policy.context(&self.name, kind, view, now)
    }

    /// The client that a request comes from. Exactly one way of proving itself may be used (RFC 6749 §2.3).
    pub async fn client<'c>(
        &'c self,
        policy: &ArmedPolicy,
        form: ClientForm<'_>,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<KnownClient<'c>, Refusal> {
        let presented = self.presented(form, view)?;
        let mut guess = None;
        let (client, method, certificate) = match presented {
            Presented::Secret { method, id, secret } => {
                let (client, right) = self.by_secret(policy, &id, &secret, view).await?;
                guess = right;
                (client, method, None)
            }
            Presented::Assertion { id, assertion } => {
                (self.by_assertion(policy, id, assertion, now).await?, "private_key_jwt", None)
            }
            Presented::Certificate { id } => {
                let (client, thumbprint) = self.by_certificate(policy, id, view, now)?;
                (client, "tls_client_auth", Some(thumbprint))
            }
        };
        let credential = &client.credential;
        if credential.policies.as_ref().is_some_and(|policies| !policies.contains(&policy.plan().key.name)) {
            return Err(
                self.invalid(format!("the access list of Credential {} does not contain this policy", credential.key))
            );
        }
        let fresh = admit(self.context(policy, "oauthClient", view, now), credential).accepted();
        let fresh = fresh.map_err(|refusal| self.invalid(format!("{}: {}", refusal.reason, refusal.detail)))?;
        if let Some(right) = guess {
            policy.memory().admitted(right);
        }
        let who = Authenticated::new(fresh.identity, false);
        Ok(KnownClient { who, plan: &client.plan, method, certificate })
    }

    fn presented<'f>(&self, form: ClientForm<'f>, view: RequestView<'_>) -> Result<Presented<'f>, Refusal> {
        let basic = self.basic(view)?;
        let ClientForm { id, secret, assertion, assertion_type } = form;
        match (basic, secret, assertion) {
            (Some((of_header, secret)), None, None) => {
                if id.is_some_and(|id| id != of_header) {
                    return Err(self.denied(
                        Reason::MalformedTokenRequest,
                        "`client_id` and the Authorization header name different clients",
                    ));
                }
                Ok(Presented::Secret { method: "client_secret_basic", id: of_header, secret })
            }
            (None, Some(secret), None) => {
                let id = id
                    .ok_or_else(|| self.denied(Reason::MalformedTokenRequest, "`client_secret` needs a `client_id`"))?;
                Ok(Presented::Secret { method: "client_secret_post", id: id.to_owned(), secret: secret.clone() })
            }
            (None, None, Some(assertion)) if assertion_type == Some(ASSERTION_TYPE) => {
                Ok(Presented::Assertion { id, assertion })
            }
            (None, None, Some(_)) => {
                Err(self
                    .denied(Reason::MalformedTokenRequest, format!("`client_assertion_type` must be {ASSERTION_TYPE}")))
            }
            (None, None, None) => match id {
                Some(id) => Ok(Presented::Certificate { id }),
                None => Err(self.invalid("the request names no client")),
            },
            _ => Err(self.denied(Reason::MalformedTokenRequest, "a client must prove itself in exactly one way")),
        }
    }

    /// `Authorization: Basic`, whose halves are form-encoded (RFC 6749 §2.3.1).
    fn basic(&self, view: RequestView<'_>) -> Result<Option<(String, Redacted<String>)>, Refusal> {
        let mut headers = view.headers.get_all(http::header::AUTHORIZATION).iter();
        let Some(header) = headers.next() else { return Ok(None) };
        let text = header
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
        let pair = text.and_then(|(_, credential)| basic::split_basic(credential.trim()));
        let (Some(pair), None) = (pair, headers.next()) else {
            return Err(self.invalid("the Authorization header is not one `Basic` credential"));
        };
        let decode = |text: &str| {
            form_urlencoded::parse(format!("v={text}").as_bytes()).next().map(|(_, value)| value.into_owned())
        };
        // A plain `&` or `=` would end the value; nobody who encodes sends one.
        let decode = |text: &str| if text.contains(['&', '=']) { Some(text.to_owned()) } else { decode(text) };
        let decoded = decode(&pair.username).zip(decode(pair.password.reveal()));
        decoded
            .map(|(id, secret)| Some((id, Redacted::new(secret))))
            .ok_or_else(|| self.invalid("the Authorization header cannot be read"))
    }

    async fn by_secret(
        &self,
        policy: &ArmedPolicy,
        id: &str,
        secret: &Redacted<String>,
        view: RequestView<'_>,
    ) -> Result<(&ArmedClient, Option<RightGuess>), Refusal> {
        let wrong = || self.invalid(format!("client `{}`: unknown, or another secret", bounded(id)));
        let client = self.by_id.get(id).ok_or_else(wrong)?;
        match &client.proof {
            ArmedProof::Secret(expected) => {
                let given = digest::digest(&digest::SHA256, secret.reveal().as_bytes());
                constant_time::verify_slices_are_equal(given.as_ref(), expected).map_err(|_| wrong())?;
                Ok((client, None))
            }
            ArmedProof::Password(phc) => {
                let memory = policy.memory();
                if memory.is_proven(phc, secret.reveal()) {
                    return Ok((client, None));
                }
                // Clients have their own names here, so that guesses at a client never lock a user out.
                let name = format!("client {id}");
                let right = memory.guess(&name, Some(phc), secret.reveal(), view.address).await;
                let right = right.map_err(|unchecked| unchecked.denied(&format!("client `{id}`"), &self.name))?;
                right.map(|right| (client, Some(right))).ok_or_else(wrong)
            }
            ArmedProof::Assertion(..) | ArmedProof::Certificate(_) => {
                Err(self.invalid(format!("client `{id}` does not prove itself with a secret")))
            }
        }
    }

    /// RFC 7523 §3. The audience is the issuer and nothing else: an assertion made for another server is of no use
    /// here.
    async fn by_assertion(
        &self,
        policy: &ArmedPolicy,
        id: Option<&str>,
        assertion: &str,
        now: Timestamp,
    ) -> Result<&ArmedClient, Refusal> {
        let unverified = || Unverified::parse(assertion).map_err(|error| self.invalid(error.to_string()));
        let claimed = unverified()?.claimed_issuer().unwrap_or_default().to_owned();
        if id.is_some_and(|id| id != claimed) {
            return Err(self.invalid("`client_id` is not the client that signed the assertion"));
        }
        let client = self
            .by_id
            .get(&claimed)
            .ok_or_else(|| self.invalid(format!("client `{}` is not known", bounded(&claimed))))?;
        let ArmedProof::Assertion(keys, algorithms) = &client.proof else {
            return Err(self.invalid(format!("client `{claimed}` does not prove itself with an assertion")));
        };
        let expected = Expectations {
            issuer: &claimed,
            audiences: &self.issuer,
            algorithms,
            types: &[],
            skew: Skew::from_seconds(SKEW_SECONDS),
        };
        let verify = || -> Result<Option<Verified>, Refusal> {
            let Some(set) = keys.load() else { return Ok(None) };
            match unverified()?.verify(&set, &expected, now) {
                Ok(verified) => Ok(Some(verified)),
                Err(idm_jose::TokenError::UnknownKey { .. }) => Ok(None),
                Err(error) => Err(self.invalid(format!("client `{claimed}`: {error}"))),
            }
        };
        let judged = keys.epoch();
        let verified = match verify()? {
            Some(verified) => Some(verified),
            None if keys.refetch(judged).await => verify()?,
            None => None,
        };
        let verified =
            verified.ok_or_else(|| self.invalid(format!("client `{claimed}`: no key of it has this `kid`")))?;
        let claims = verified.claims();
        if claims.text("sub") != Some(&claimed) {
            return Err(self.invalid("`sub` of the assertion is not its `iss`"));
        }
        if !matches!(claims.members().get("aud"), Some(Value::String(_)))
            && !matches!(claims.members().get("aud"), Some(Value::Array(all)) if all.len() == 1)
        {
            return Err(self.invalid("`aud` of the assertion must be this issuer alone"));
        }
        if verified.expires().seconds() > now.seconds() + MAX_ASSERTION_SECONDS {
            return Err(self.invalid(format!("the assertion lives longer than {MAX_ASSERTION_SECONDS} s")));
        }
        let jti = claims
            .text("jti")
            .filter(|jti| !jti.is_empty() && jti.len() <= 256)
            .ok_or_else(|| self.invalid("`jti` of the assertion is missing"))?;
        let used = Key::of(&["client assertion", &policy.plan().uid, &claimed, jti]);
        let fresh = policy.memory().store.claim(&used, (MAX_ASSERTION_SECONDS + 2 * SKEW_SECONDS) * 1000, now).await;
        match fresh {
            Ok(true) => Ok(client),
            Ok(false) => Err(self.invalid("the assertion was used before")),
            Err(error) => Err(self.denied(Reason::StoreUnavailable, error.to_string())),
        }
    }

    fn by_certificate(
        &self,
        policy: &ArmedPolicy,
        id: &str,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<(&ArmedClient, String), Refusal> {
        let client = self
            .by_id
            .get(id)
            .ok_or_else(|| self.invalid(format!("client `{}` is not known, or does not prove itself", bounded(id))))?;
        let (ArmedProof::Certificate(method), Some(certificate)) = (&client.proof, view.certificate) else {
            return Err(self.invalid(format!("client `{id}` does not prove itself")));
        };
        let attempt = method.attempt(self.context(policy, "oauthClient", view, now), certificate);
        let invalid = |refusal: Refusal| self.invalid(format!("client `{id}`: {}: {}", refusal.reason, refusal.detail));
        attempt.accepted().map(|_| (client, certificate.thumbprint.to_owned())).map_err(invalid)
    }

    /// A user by name and password (RFC 6749 §4.3): guesses are bounded as they are for `Basic`.
    pub async fn user(
        &self,
        policy: &ArmedPolicy,
        username: &str,
        password: Redacted<String>,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, Refusal> {
        let pair = basic::Pair { username: username.to_owned(), password };
        let attempt = basic::check(self.context(policy, "password", view, now), pair, self.only.as_deref()).await;
        self.admitted(policy, attempt)
    }

    /// A user who signed in before: still there, not suspended, not expired.
    pub fn user_again(
        &self,
        policy: &ArmedPolicy,
        credential: &str,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Authenticated, Refusal> {
        let found =
            policy.credentials().by_name(credential).filter(|found| matches!(found.proof, Proof::Password { .. }));
        let found = found.filter(|_| self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == credential)));
        let found = found
            .ok_or_else(|| self.denied(Reason::InvalidGrant, format!("Credential {credential} of the user is gone")))?;
        self.admitted(policy, admit(self.context(policy, "password", view, now), found))
    }

    fn admitted(&self, policy: &ArmedPolicy, attempt: Attempt) -> Result<Authenticated, Refusal> {
        let fresh = attempt.accepted()?;
        if fresh.identity.only_policies.as_ref().is_some_and(|policies| !policies.contains(&policy.plan().key.name)) {
            return Err(self.denied(
                Reason::CredentialNotAllowedHere,
                "the access list of the user's Credential does not contain this policy",
            ));
        }
        Ok(Authenticated::new(fresh.identity, false))
    }

    /// The thumbprint of the key that the request's DPoP proof is made with (RFC 9449 §5); `None` without a proof.
    pub async fn proof_key(
        &self,
        policy: &ArmedPolicy,
        view: RequestView<'_>,
        now: Timestamp,
    ) -> Result<Option<String>, Refusal> {
        if !view.headers.contains_key("dpop") {
            return Ok(None);
        }
        let proved = binding::proof(None, None, view, policy.memory(), now).await;
        proved.map(Some).map_err(|refusal| refusal.by_method(&self.name))
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}
