//! The requests for tokens by a code or a refresh token, and their responses (RFC 6749 §4.1.3, §6; OpenID Connect Core
//! §3.1.3, §5.3, §12).

use idm_jose::{Unverified, parse_document};
use idm_session::Tokens;
use std::net::IpAddr;

use idm_trust::{AccountState, Authorization, Deadline, Form, LoginRefused, NoAnswer, OutboundRequest, Password};
use idm_types::{Redacted, Refusal, Timestamp};
use serde_json::{Map, Value};

use super::Provider;
use super::id_token::{Expected, Person};

/// Tokens are refreshed this long before they end, or in the last quarter of a shorter lifetime.
const AHEAD_MS: u64 = 30_000;

/// A person with the tokens that the provider issued.
#[derive(Debug)]
pub struct SignedIn {
    /// The person.
    pub person: Person,
    /// Tokens.
    pub tokens: Tokens,
    /// The time at which the tokens are to be refreshed, in milliseconds.
    pub refresh_at: u64,
}

struct Answered {
    tokens: Tokens,
    refresh_at: u64,
}

impl Provider {
    /// Redeems the code of a sign-in.
    pub async fn redeem(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        expected: &Expected<'_>,
        now: Timestamp,
    ) -> Result<SignedIn, Refusal> {
        let form = form(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ]);
        let Answered { tokens, refresh_at } = self.tokens(form, now).await?;
        let id_token = tokens.id_token.as_ref().ok_or_else(|| super::untrusted("the provider gave no id token"))?;
        let mut person = self.check_id_token(id_token.reveal(), tokens.access.as_ref(), expected, now).await?;
        self.complete(&mut person, tokens.access.as_ref()).await?;
        Ok(SignedIn { person, tokens, refresh_at })
    }

    /// New tokens for a refresh token of a person; values that the response omits stay as they were.
    pub async fn refresh(&self, old: &Tokens, person: &Person, now: Timestamp) -> Result<SignedIn, Refusal> {
        let Some(refresh) = &old.refresh else { return Err(super::refused("there is no refresh token")) };
        let form = form(&[("grant_type", "refresh_token"), ("refresh_token", refresh.reveal())]);
        let Answered { mut tokens, refresh_at } = self.tokens(form, now).await?;
        let mut new = match &tokens.id_token {
            // OpenID Connect Core §12.2: the same person, and no nonce.
            Some(id_token) => {
                let expected = Expected { subject: Some(&person.subject), ..Expected::default() };
                let new = self.check_id_token(id_token.reveal(), tokens.access.as_ref(), &expected, now).await?;
                Person { proved: person.proved, sid: new.sid.clone().or_else(|| person.sid.clone()), ..new }
            }
            None => person.clone(),
        };
        self.complete(&mut new, tokens.access.as_ref()).await?;
        tokens.refresh = tokens.refresh.or_else(|| old.refresh.clone());
        tokens.id_token = tokens.id_token.or_else(|| old.id_token.clone());
        Ok(SignedIn { person: new, tokens, refresh_at })
    }

    async fn tokens(&self, form: Form, now: Timestamp) -> Result<Answered, Refusal> {
        let endpoint = &self.metadata().await?.token;
        let answer = match self.post(endpoint, form, 200, Deadline::Long, None, now).await {
            Ok(answer) => answer,
            // 401 is an error of our own client, and 429 says that we ask too often.
            Err(why @ NoAnswer::Refused { status: 400 | 403, .. }) => {
                return Err(super::refused(why.to_string()));
            }
            Err(why) => return Err(super::no_answer(why)),
        };
        self.read_tokens(endpoint, &answer, now)
    }

    /// The tokens of an answer of the token endpoint.
    fn read_tokens(&self, endpoint: &str, answer: &[u8], now: Timestamp) -> Result<Answered, Refusal> {
        let unusable = |why: &str| super::untrusted(format!("the answer of {endpoint} is not usable: {why}"));
        let answer =
            parse_document(answer).map_err(|_| unusable("it is not a JSON object that names each member once"))?;
        let text = |name: &str| {
            answer
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| (0x21..0x7f).contains(&byte)))
        };
        // RFC 6749 §5.1 wants `token_type`, and some providers leave it out: they have bearer tokens alone.
        let is_bearer = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !answer.get("token_type").is_none_or(is_bearer) {
            return Err(unusable("`token_type` is not Bearer"));
        }
        let lives = answer.get("expires_in").map(idm_jose::seconds).transpose();
        let lives = lives.map_err(|why| unusable(&format!("`expires_in` {why}")))?;
        let lives_ms = lives.map(|seconds| seconds.saturating_mul(1000));
        let token = |name: &str| text(name).map(|token| Redacted::new(token.to_owned()));
        let tokens = Tokens {
            id_token: token("id_token"),
            access: token("access_token"),
            access_until: lives_ms.map(|ms| now.0.saturating_add(ms)),
            refresh: token("refresh_token"),
        };
        let refresh_at = lives_ms.map_or(u64::MAX, |ms| now.0.saturating_add(ms - AHEAD_MS.min(ms / 4)));
        Ok(Answered { tokens, refresh_at })
    }

    /// The person whose user name and password these are (RFC 6749 §4.3); the inner error: the provider refuses them.
    pub(super) async fn person_by_password(
        &self,
        username: &str,
        password: &Password,
        caller: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Result<Person, LoginRefused>, Refusal> {
        let scope = self.oidc.scopes.join(" ");
        let form = form(&[
            ("grant_type", "password"),
            ("username", username),
            ("password", password.reveal()),
            ("scope", &scope),
        ]);
        let endpoint = &self.metadata().await?.token;
        // A guess is sent once: the provider counts it.
        let answer = match self.post(endpoint, form, 200, Deadline::Long, caller, now).await {
            Ok(answer) => answer,
            // RFC 6749 §5.2 says 400; Keycloak answers 401, and Auth0 403.
            Err(NoAnswer::Refused { status: 400 | 401 | 403, error: Some(error), .. }) if is_about_person(&error) => {
                let is_wrong = error == "invalid_grant";
                // A second factor, a consent: whoever was told so would know that the password is right.
                let restricted = LoginRefused::Account(AccountState::Restricted);
                return Ok(Err(if is_wrong { LoginRefused::WrongPassword } else { restricted }));
            }
            Err(why @ NoAnswer::Refused { status: 400..=403, .. }) => return Err(super::refused(why.to_string())),
            Err(why) => return Err(super::no_answer(why)),
        };
        let Answered { tokens, .. } = self.read_tokens(endpoint, &answer, now)?;
        let id_token = tokens.id_token.as_ref().ok_or_else(|| super::untrusted("the provider gave no id token"))?;
        // There was no browser, and so no nonce.
        let expected = Expected::default();
        let mut person = self.check_id_token(id_token.reveal(), tokens.access.as_ref(), &expected, now).await?;
        self.complete(&mut person, tokens.access.as_ref()).await?;
        Ok(Ok(person))
    }

    /// Adds the claims of the userinfo endpoint, and removes claims that are not accepted.
    async fn complete(&self, person: &mut Person, access: Option<&Redacted<String>>) -> Result<(), Refusal> {
        if let (Some(endpoint), Some(access)) = (&self.metadata().await?.userinfo, access) {
            let more = self.userinfo(endpoint, access, &person.subject).await?;
            let mut claims = more;
            // Signed claims take precedence over those that are not signed.
            claims.extend(std::mem::take(&mut person.claims));
            person.claims = claims;
        }
        if !self.oidc.takes_unverified_emails && !is_email_verified(&person.claims) {
            person.claims.remove("email");
        }
        // Of this sign-in, and not of the person.
        for name in ["nonce", "at_hash", "c_hash", "jti"] {
            person.claims.remove(name);
        }
        Ok(())
    }

    async fn userinfo(
        &self,
        endpoint: &str,
        access: &Redacted<String>,
        subject: &str,
    ) -> Result<Map<String, Value>, Refusal> {
        let authorization = Authorization::Bearer(access.clone());
        let question = OutboundRequest {
            endpoint: endpoint.to_owned(),
            authorization,
            form: None,
            expected: 200,
            deadline: Deadline::Short,
            caller: None,
        };
        let answer = self.http.ask(question).await.map_err(super::no_answer)?;
        let Ok(Value::Object(members)) = parse_document(&answer) else {
            // OpenID Connect Core §5.3.2: the client may be registered for a signed answer.
            return Err(super::untrusted(
                if std::str::from_utf8(answer.trim_ascii()).is_ok_and(|text| Unverified::parse(text).is_ok()) {
                    format!(
                        "the answer of {endpoint} is a signed JWT: register the client for JSON (without \
                     `userinfo_signed_response_alg`), or set the Federation's `oidc.client.claimsFrom: IdToken`"
                    )
                } else {
                    format!("the answer of {endpoint} is not a JSON object that names each member once")
                },
            ));
        };
        // OpenID Connect Core §5.3.2: without this, one person's token could bring another one's claims.
        if members.get("sub").and_then(idm_jose::subject).as_deref() != Some(subject) {
            return Err(super::untrusted("`sub` of the userinfo is not the `sub` of the id token"));
        }
        Ok(members)
    }
}

/// Whether an error of the token endpoint is about the person; the others of RFC 6749 §5.2 are about our client.
fn is_about_person(error: &str) -> bool {
    let of_client = [
        "invalid_request",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
    ];
    !of_client.contains(&error)
}

/// Whether the provider vouches for the address; some write the truth value as text.
pub(super) fn is_email_verified(claims: &Map<String, Value>) -> bool {
    claims.get("email_verified").is_some_and(|value| *value == Value::Bool(true) || value == "true")
}

fn form(parameters: &[(&'static str, &str)]) -> Form {
    parameters.iter().map(|(name, value)| ((*name).into(), Redacted::new((*value).to_owned()))).collect()
}
