//! OAuth clients of a token service, and the users for whom they ask (RFC 6749 §2.3 and §4.3, RFC 7523, RFC 8705).

use idm_request::{OfDirectory, RequestView};
use idm_trust::{IssuerKeys, Keys};
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use idm_jose::{Expectations, Unverified, Verified};
use idm_plan::{ClientAuthentication, Credential, OauthClient, Proof, Selector, TokenService};
use idm_store::Key;
use idm_types::{Algorithm, MethodName, Reason, Redacted, Refusal, Skew, Timestamp, unhex};
use serde_json::Value;

use crate::credential::admit;
use crate::guessed::GuessedUser;
use crate::memory::RightGuess;
use crate::memory::Unchecked;
use crate::method::{Attempt, MethodContext};
use crate::methods::basic;
use crate::methods::mtls::ArmedMtls;
use crate::password::Compared;
use crate::restrictions::Use;
use crate::validators::{Pair, Validators};
use crate::{ArmedPolicy, Authenticated, CredentialTable, Resources, binding};

/// The only accepted type of assertion (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest lifetime of an assertion: its `jti` is remembered until it ends.
const MAX_ASSERTION_SECONDS: u64 = 600;
const SKEW_SECONDS: u64 = 30;

/// The circumstances under which a client or user is authenticated: the policy, the Credentials in force, the request
/// and the time.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// The policy whose token service is asked.
    pub policy: &'a ArmedPolicy,
    /// The Credentials in force.
    pub table: &'a CredentialTable,
    /// The request.
    pub view: RequestView<'a>,
    /// The time.
    pub now: Timestamp,
}

/// The parameters of the form by which a client authenticates.
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

/// A client that authenticated.
#[derive(Debug)]
pub struct KnownClient<'c> {
    /// The client as a caller: its Credential's roles and attributes.
    pub who: Authenticated,
    /// The grants, scopes and audiences of the client.
    pub plan: &'c OauthClient,
    /// Its method of authentication, as RFC 8414 names it.
    pub method: &'static str,
    /// The `x5t#S256` of the certificate by which it authenticated.
    pub certificate: Option<String>,
}

/// Authenticates the clients of one token service, which are among the Credentials.
pub struct Clients {
    issuer: [String; 1],
    name: MethodName,
    only: Selector,
    validators: Validators,
}

/// A client with its proof and its grants.
pub(crate) struct ArmedClient {
    plan: OauthClient,
    proof: ArmedProof,
}

enum ArmedProof {
    Secret([u8; 32]),
    Password(String),
    Assertion(Arc<IssuerKeys>, Vec<Algorithm>),
    Certificate(Box<ArmedMtls>),
}

impl ArmedClient {
    /// Arms a client. The error shows no secret.
    pub(crate) fn arm(plan: &OauthClient, known: &mut Keys<'_>) -> Result<Self, String> {
        let proof = match &plan.authentication {
            ClientAuthentication::Secret { sha256 } => {
                ArmedProof::Secret(unhex(sha256).ok_or("its hash is not SHA-256")?)
            }
            ClientAuthentication::Password { phc } => ArmedProof::Password(phc.clone()),
            ClientAuthentication::Assertion { keys, algorithms } => {
                let keys = known.of(keys, algorithms).map_err(|error| error.to_string())?;
                ArmedProof::Assertion(keys, algorithms.clone())
            }
            ClientAuthentication::Certificate(method) => ArmedProof::Certificate(Box::new(ArmedMtls::new(method)?)),
        };
        Ok(Self { plan: plan.clone(), proof })
    }
}

/// A client of the table.
type Found<'c> = (&'c Credential, &'c ArmedClient);

/// The credential that a client presented, before it is verified.
enum Presented<'f> {
    Secret { method: &'static str, id: String, secret: Redacted<String> },
    Assertion { id: Option<&'f str>, assertion: &'f str },
    Certificate { id: &'f str },
}

impl Clients {
    /// The clients of this service, in this namespace. The error shows no secret.
    pub fn arm(service: &TokenService, namespace: &str, resources: &mut Resources<'_>) -> Result<Self, String> {
        let name = "token-service".parse().map_err(|_| "the service has no name")?;
        let validators = Validators::arm(&service.validators, namespace, resources)?;
        Ok(Self { issuer: [service.issuer.clone()], name, only: service.only.clone(), validators })
    }

    fn find<'c>(&self, asked: Asking<'c>, id: &str) -> Option<Found<'c>> {
        asked.table.client(id, &self.only)
    }

    fn denied(&self, reason: Reason, detail: impl Into<String>) -> Refusal {
        Refusal::new(reason, detail).by_method(&self.name)
    }

    fn invalid(&self, detail: impl Into<String>) -> Refusal {
        self.denied(Reason::InvalidClient, detail)
    }

    fn context<'a>(&'a self, asked: Asking<'a>, kind: &'static str) -> MethodContext<'a> {
        let Asking { policy, table, view, now } = asked;
        policy.context(&self.name, kind, table, view, now)
    }

    /// Authenticates the client of a request. A client must use exactly one method of authentication (RFC 6749 §2.3).
    pub async fn client<'c>(&self, asked: Asking<'c>, form: ClientForm<'_>) -> Result<KnownClient<'c>, Refusal> {
        let Asking { policy, view, .. } = asked;
        let presented = self.presented(form, view)?;
        let mut guess = None;
        let ((credential, client), method, certificate) = match presented {
            Presented::Secret { method, id, secret } => {
                let (found, right) = self.by_secret(asked, &id, &secret).await?;
                guess = right;
                (found, method, None)
            }
            Presented::Assertion { id, assertion } => {
                (self.by_assertion(asked, id, assertion).await?, "private_key_jwt", None)
            }
            Presented::Certificate { id } => {
                let (found, thumbprint) = self.by_certificate(asked, id)?;
                (found, "tls_client_auth", Some(thumbprint))
            }
        };
        if credential.only_policies().is_some_and(|policies| !policies.contains(&policy.plan().key.name)) {
            return Err(
                self.invalid(format!("the access list of Credential {} does not contain this policy", credential.key))
            );
        }
        let fresh = admit(self.context(asked, "oauthClient"), credential).accepted();
        let fresh = fresh.map_err(|refusal| self.invalid(format!("{}: {}", refusal.reason, refusal.detail)))?;
        if let Some(right) = guess {
            policy.memory().admitted(right);
        }
        let allowed = asked.table.allows(&fresh.identity, Use::Token(view), &policy.plan().key.name, asked.now);
        allowed.map_err(|refusal| self.invalid(format!("{}: {}", refusal.reason, refusal.detail)))?;
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
        // A plain `&` or `=` would end the value; a client that encodes its credentials sends neither.
        let decode = |text: &str| if text.contains(['&', '=']) { Some(text.to_owned()) } else { decode(text) };
        let decoded = decode(&pair.username).zip(decode(pair.password.reveal()));
        decoded
            .map(|(id, secret)| Some((id, Redacted::new(secret))))
            .ok_or_else(|| self.invalid("the Authorization header cannot be read"))
    }

    async fn by_secret<'c>(
        &self,
        asked: Asking<'c>,
        id: &str,
        secret: &Redacted<String>,
    ) -> Result<(Found<'c>, Option<RightGuess>), Refusal> {
        let Asking { policy, view, .. } = asked;
        let wrong = || self.invalid(format!("client `{}`: unknown, or another secret", bounded(id)));
        let (memory, guessed) = (policy.memory(), GuessedUser::of_client(&policy.plan().key.namespace, id));
        let unchecked = |unchecked: Unchecked| unchecked.denied(&format!("client `{}`", bounded(id)));
        memory.check_user(&guessed, view.address).map_err(|why| unchecked(why).by_method(&self.name))?;
        let found = self.find(asked, id);
        let guessed_wrong = |()| {
            memory.note_guess(&guessed, view.address);
            wrong()
        };
        let found = found.ok_or(()).map_err(guessed_wrong)?;
        match &found.1.proof {
            ArmedProof::Secret(expected) => {
                let given = digest::digest(&digest::SHA256, secret.reveal().as_bytes());
                let right = constant_time::verify_slices_are_equal(given.as_ref(), expected);
                right.map_err(|_| guessed_wrong(()))?;
                Ok((found, None))
            }
            ArmedProof::Password(phc) => {
                if memory.is_proven(phc, secret.reveal()) {
                    return Ok((found, None));
                }
                let right = memory.guess(guessed, Compared::Of(phc), secret.reveal(), view.address).await;
                let right = right.map_err(|why| unchecked(why).by_method(&self.name))?;
                right.map(|right| (found, Some(right))).ok_or_else(wrong)
            }
            ArmedProof::Assertion(..) | ArmedProof::Certificate(_) => {
                Err(self.invalid(format!("client `{id}` does not prove itself with a secret")))
            }
        }
    }

    /// RFC 7523 §3. The audience must be the issuer alone: an assertion made for another server is not accepted here.
    async fn by_assertion<'c>(
        &self,
        asked: Asking<'c>,
        id: Option<&str>,
        assertion: &str,
    ) -> Result<Found<'c>, Refusal> {
        let Asking { policy, now, .. } = asked;
        let unverified = || Unverified::parse(assertion).map_err(|error| self.invalid(error.to_string()));
        let claimed = unverified()?.claimed_issuer().unwrap_or_default().to_owned();
        if id.is_some_and(|id| id != claimed) {
            return Err(self.invalid("`client_id` is not the client that signed the assertion"));
        }
        let found = self
            .find(asked, &claimed)
            .ok_or_else(|| self.invalid(format!("client `{}` is not known", bounded(&claimed))))?;
        let ArmedProof::Assertion(keys, algorithms) = &found.1.proof else {
            return Err(self.invalid(format!("client `{claimed}` does not prove itself with an assertion")));
        };
        let expected = Expectations {
            client_ids: &[],
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
            Ok(true) => Ok(found),
            Ok(false) => Err(self.invalid("the assertion was used before")),
            Err(error) => Err(self.denied(Reason::StoreUnavailable, error.to_string())),
        }
    }

    fn by_certificate<'c>(&self, asked: Asking<'c>, id: &str) -> Result<(Found<'c>, String), Refusal> {
        let found = self
            .find(asked, id)
            .ok_or_else(|| self.invalid(format!("client `{}` is not known, or does not prove itself", bounded(id))))?;
        let (ArmedProof::Certificate(method), Some(certificate)) = (&found.1.proof, asked.view.certificate) else {
            return Err(self.invalid(format!("client `{id}` does not prove itself")));
        };
        let attempt = method.attempt(self.context(asked, "oauthClient"), certificate);
        let invalid = |refusal: Refusal| self.invalid(format!("client `{id}`: {}: {}", refusal.reason, refusal.detail));
        attempt.accepted().map(|_| (found, certificate.thumbprint.to_owned())).map_err(invalid)
    }

    /// Authenticates a user by name and password (RFC 6749 §4.3): guesses are bounded as they are for `Basic`.
    pub async fn user(
        &self,
        asked: Asking<'_>,
        username: &str,
        password: Redacted<String>,
    ) -> Result<Authenticated, Refusal> {
        let pair = Pair { username: username.to_owned(), password };
        let attempt = self.validators.check(self.context(asked, "password"), pair).await;
        self.admitted(asked, attempt)
    }

    /// A person of a directory who signed in before: the directory must still know the person, and admit them.
    pub async fn person_again(&self, asked: Asking<'_>, person: &OfDirectory) -> Result<Authenticated, Refusal> {
        let gone = || {
            self.denied(Reason::InvalidGrant, format!("the Federation of `{}` is no source here any more", person.id))
        };
        let directory = self.validators.directory(&person.federation).ok_or_else(gone)?;
        let found = directory.look_up(person).await.map_err(|refusal| refusal.by_method(&self.name))?;
        Ok(Authenticated::new(directory.identity(self.context(asked, "password"), &found)?, false))
    }

    /// A user who signed in before: the Credential must still exist, and be neither suspended nor expired.
    pub fn user_again(&self, asked: Asking<'_>, credential: &str) -> Result<Authenticated, Refusal> {
        let found = asked.table.by_name(credential).filter(|found| matches!(found.proof, Proof::Password { .. }));
        let accepts =
            |found: &&Credential| self.validators.credentials().is_some_and(|only| only.accepts(&found.labels));
        let found = found.filter(accepts);
        let found = found
            .ok_or_else(|| self.denied(Reason::InvalidGrant, format!("Credential {credential} of the user is gone")))?;
        self.admitted(asked, admit(self.context(asked, "password"), found))
    }

    fn admitted(&self, asked: Asking<'_>, attempt: Attempt) -> Result<Authenticated, Refusal> {
        let Asking { policy, table, view, now, .. } = asked;
        let fresh = attempt.accepted()?;
        if fresh.identity.only_policies.as_ref().is_some_and(|policies| !policies.contains(&policy.plan().key.name)) {
            return Err(self.denied(
                Reason::CredentialNotAllowedHere,
                "the access list of the user's Credential does not contain this policy",
            ));
        }
        let allowed = table.allows(&fresh.identity, Use::Token(view), &policy.plan().key.name, now);
        allowed.map_err(|refusal| refusal.by_method(&self.name))?;
        Ok(Authenticated::new(fresh.identity, false))
    }

    /// The thumbprint of the key of the request's DPoP proof (RFC 9449 §5); `None` without a proof.
    pub async fn proof_key(&self, asked: Asking<'_>) -> Result<Option<String>, Refusal> {
        let Asking { policy, view, now, .. } = asked;
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
