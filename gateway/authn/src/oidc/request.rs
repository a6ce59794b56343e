//! The authorization request and its response (RFC 6749 §4.1, RFC 7636, RFC 9126, RFC 9207).

use idm_trust::Deadline;
use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use idm_jose::{parse_strict, to_base64url};
use idm_plan::StepUp;
use idm_types::{Redacted, Refusal, Timestamp};
use serde_json::Value;
use url::Url;

use super::{ClientProof, Provider};

/// The parameters of an authorization request.
pub struct Asked<'a> {
    /// The URL to which the browser comes back.
    pub redirect_uri: &'a str,
    /// The `state`, which the response repeats.
    pub state: &'a str,
    /// The `nonce`, which the id token repeats.
    pub nonce: &'a str,
    /// The code verifier: it proves to the provider that the token request comes from the sender of this request.
    pub verifier: &'a str,
    /// The required strength and age of the sign-in.
    pub step_up: &'a StepUp,
}

impl Provider {
    /// The URL to which the browser is sent.
    pub async fn authorization_url(&self, asked: &Asked<'_>, now: Timestamp) -> Result<String, Refusal> {
        let metadata = self.metadata().await?;
        let Asked { redirect_uri, state, nonce, verifier, step_up } = asked;
        let challenge = to_base64url(digest(&SHA256, verifier.as_bytes()).as_ref());
        let scope = self.oidc.scopes.join(" ");
        let mut parameters: Vec<(&'static str, String)> = [
            ("response_type", "code"),
            ("redirect_uri", redirect_uri),
            ("scope", scope.as_str()),
            ("state", state),
            ("nonce", nonce),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec();
        if !step_up.acr.is_empty() {
            parameters.push(("acr_values", step_up.acr.join(" ")));
        }
        if let Some(seconds) = step_up.max_age_seconds {
            parameters.push(("max_age", seconds.to_string()));
        }
        let mut url = Url::parse(&metadata.authorization)
            .map_err(|_| super::unavailable("the authorization endpoint is not a URL"))?;
        url.query_pairs_mut().append_pair("client_id", &self.oidc.client_id);
        match &metadata.pushed {
            None => {
                let own = parameters.iter().map(|(name, value)| (*name, value.as_str()));
                let more = self.oidc.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                url.query_pairs_mut().extend_pairs(own.chain(more));
            }
            Some(endpoint) => {
                let reference = self.push(endpoint, parameters, now).await?;
                url.query_pairs_mut().append_pair("request_uri", &reference);
            }
        }
        Ok(url.into())
    }

    /// RFC 9126 §2: the request goes from server to server, and the browser carries a reference to it.
    async fn push(
        &self,
        endpoint: &str,
        parameters: Vec<(&'static str, String)>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let more = self.oidc.parameters.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone()));
        let form = parameters.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).chain(more);
        // RFC 9126 §2.1: the client names itself in the request too, however it proves itself.
        let own = matches!(self.proof, ClientProof::Basic(_))
            .then(|| (Cow::Borrowed("client_id"), self.oidc.client_id.clone()));
        let form = form.chain(own).map(|(name, value)| (name, Redacted::new(value))).collect();
        let answer = self.post(endpoint, form, 201, Deadline::Short, None, now).await.map_err(super::no_answer)?;
        let answer = parse_strict(&answer)
            .map_err(|_| super::unavailable(format!("{endpoint} did not answer with a JSON object")))?;
        let reference =
            answer.get("request_uri").and_then(Value::as_str).filter(|uri| !uri.is_empty() && uri.len() <= 512);
        reference.map(str::to_owned).ok_or_else(|| super::unavailable(format!("{endpoint} gave no `request_uri`")))
    }

    /// Checks that a response with this `iss` is of this provider (RFC 9207 §2.4).
    pub async fn answered(&self, named: Option<&str>) -> Result<(), Refusal> {
        match named {
            Some(named) if named == self.oidc.issuer => Ok(()),
            Some(_) => Err(super::untrusted("`iss` of the answer names another provider")),
            None if self.metadata().await?.names_itself => {
                Err(super::untrusted("the provider names itself in its answers, and this one has no `iss`"))
            }
            None => Ok(()),
        }
    }
}
