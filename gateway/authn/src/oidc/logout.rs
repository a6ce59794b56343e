//! The end of sessions on both sides: ours when the provider says so, the provider's when we say so (OpenID Connect
//! RP-Initiated, Back-Channel and Front-Channel Logout).

use std::borrow::Cow;

use idm_session::Tokens;
use idm_types::{Refusal, Timestamp};
use serde_json::Value;
use url::Url;

use super::Provider;

/// Proxies on the way cut off longer URLs.
const MAX_HINT: usize = 4096;
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The greatest age of a logout token.
const MAX_AGE_SECONDS: u64 = 600;

/// The sessions that a provider ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// The person.
    pub subject: Option<String>,
    /// One session of the provider.
    pub sid: Option<String>,
    /// The token's `jti`, which is accepted once.
    pub id: String,
}

impl Provider {
    /// The URL to which a browser is sent to sign out there; `None` where the provider has no such endpoint.
    pub async fn end_session_url(&self, tokens: &Tokens, back: &str, state: &str) -> Result<Option<String>, Refusal> {
        let Some(endpoint) = self.metadata().await?.end_session.clone() else { return Ok(None) };
        let mut url = Url::parse(&endpoint).map_err(|_| super::unavailable("the end session endpoint is not a URL"))?;
        {
            let mut query = url.query_pairs_mut();
            if let Some(hint) = tokens.id_token.as_ref().filter(|token| token.reveal().len() <= MAX_HINT) {
                query.append_pair("id_token_hint", hint.reveal());
            }
            query
                .append_pair("client_id", &self.oidc.client_id)
                .append_pair("post_logout_redirect_uri", back)
                .append_pair("state", state);
        }
        Ok(Some(url.into()))
    }

    /// The origins to which signing out may lead a browser.
    pub fn leads_to(&self) -> Option<String> {
        let endpoint = self.metadata.last()?.end_session.clone()?;
        Some(Url::parse(&endpoint).ok()?.origin().ascii_serialization())
    }

    /// Verifies a logout token and returns its content (Back-Channel Logout §2.6).
    pub async fn logout_token(&self, token: &str, now: Timestamp) -> Result<LogoutToken, Refusal> {
        let untrusted = |why: &str| Err(super::untrusted(why));
        // Explicitly typed, or a plain JWT of a provider that is older than the type.
        let verified = match self.verify(token, &["logout+jwt".to_owned()], now).await {
            Ok(verified) => verified,
            Err(typed) => self.verify(token, &[], now).await.map_err(|_| typed)?,
        };
        let claims = verified.claims();
        if claims.members().contains_key("nonce") {
            return untrusted("the logout token has a `nonce`: it is an id token");
        }
        if !claims.members().get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
            return untrusted("the logout token has no event that ends sessions");
        }
        let issued = claims.date("iat").map_err(|why| super::untrusted(format!("the logout token's `iat` {why}")))?;
        let Some(issued) = issued else { return untrusted("the logout token has no `iat`") };
        if now.seconds() > issued.saturating_add(MAX_AGE_SECONDS) {
            return untrusted("the logout token is too old");
        }
        let text =
            |name: &str| claims.text(name).filter(|text| !text.is_empty() && text.len() <= 255).map(str::to_owned);
        let Some(id) = text("jti") else { return untrusted("the logout token has no `jti`") };
        let subject = claims.subject().filter(|sub| sub.len() <= 255).map(Cow::into_owned);
        let sid = text("sid");
        if subject.is_none() && sid.is_none() {
            return untrusted("the logout token names neither person nor session");
        }
        Ok(LogoutToken { subject, sid, id })
    }
}
