//! A token for the upstream in exchange for the caller's (RFC 8693).

use idm_request::Identity;
use idm_trust::{HttpClient, NoAnswer, OutboundClient};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use idm_jose::parse_strict;
use idm_plan::{Secrets, TokenExchange};
use idm_types::{Reason, Redacted, Refusal, Timestamp};

use crate::Memory;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The most tokens that are kept; at this number those that have ended are dropped, and if none has, no more are kept.
const MAX_KEPT: usize = 20_000;
/// A token that ends within this time could expire before it arrives.
const MARGIN_SECONDS: u64 = 10;

pub(crate) struct ArmedExchange {
    plan: TokenExchange,
    client: OutboundClient,
    /// By a fingerprint of the caller's token: the header, and the time until which it is reused.
    kept: Mutex<HashMap<[u8; 32], (HeaderValue, u64)>>,
}

impl ArmedExchange {
    pub(crate) fn new(plan: &TokenExchange, secrets: &Secrets, http: Arc<dyn HttpClient>) -> Result<Self, String> {
        let client = OutboundClient::new(&plan.endpoint, &plan.client_id, &plan.client_secret, secrets, http)?;
        Ok(Self { plan: plan.clone(), client, kept: Mutex::default() })
    }

    /// The `Authorization` header for the upstream. The caller's token was verified before, on this very request.
    pub(crate) async fn header(
        &self,
        token: &str,
        identity: &Identity,
        memory: &Memory,
        caller: IpAddr,
        now: Timestamp,
    ) -> Result<HeaderValue, Refusal> {
        let denied = |reason, detail: String| Refusal::new(reason, detail).by_method(&identity.method);
        let fingerprint = memory.fingerprint(&[token]);
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&fingerprint)
            .filter(|(_, until)| now.0 < *until)
            .map(|(header, _)| header.clone());
        if let Some(header) = kept {
            return Ok(header);
        }
        let TokenExchange { endpoint, audience, scopes, cache_seconds, .. } = &self.plan;
        let text = |text: &str| Redacted::new(text.to_owned());
        let mut form = vec![
            ("grant_type", text(GRANT)),
            ("subject_token", text(token)),
            ("subject_token_type", text(ACCESS_TOKEN)),
            ("requested_token_type", text(ACCESS_TOKEN)),
        ];
        form.extend(audience.as_deref().map(|audience| ("audience", text(audience))));
        form.extend((!scopes.is_empty()).then(|| ("scope", Redacted::new(scopes.join(" ")))));
        let answer = match self.client.ask(form, caller).await {
            Ok(answer) => answer,
            // An error of our own client is not the caller's fault.
            Err(NoAnswer::Refused { status, error, endpoint })
                if (400..500).contains(&status) && status != 401 && status != 429 =>
            {
                let why = NoAnswer::Refused { status, error, endpoint };
                return Err(denied(Reason::TokenExchangeRefused, why.to_string()));
            }
            Err(why) => {
                let wait = why.retry_after();
                return Err(denied(Reason::TokenExchangeFailed, why.to_string()).retry_after(wait));
            }
        };
        let unusable =
            |why: &str| denied(Reason::TokenExchangeFailed, format!("the answer of {endpoint} is not usable: {why}"));
        let answer =
            parse_strict(&answer).map_err(|_| unusable("it is not a JSON object that names each member once"))?;
        let member = |name: &str| answer.get(name).and_then(serde_json::Value::as_str);
        // RFC 8693 §2.2.1: both members say how the token must be used.
        if !member("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(unusable("`token_type` is not Bearer"));
        }
        if member("issued_token_type")
            .is_some_and(|kind| kind != ACCESS_TOKEN && kind != "urn:ietf:params:oauth:token-type:jwt")
        {
            return Err(unusable("`issued_token_type` is not an access token"));
        }
        let token = member("access_token")
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| (0x21..0x7f).contains(&byte)));
        let header =
            token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok()).map(|mut header| {
                header.set_sensitive(true);
                header
            });
        let header = header.ok_or_else(|| unusable("there is no `access_token`"))?;
        let lives = answer.get("expires_in").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let keep = lives.saturating_sub(MARGIN_SECONDS).min(*cache_seconds);
        let until = now.0.saturating_add(keep * 1000).min(identity.expires.map_or(u64::MAX, |expires| expires.0));
        if now.0 < until {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_KEPT {
                kept.retain(|_, (_, until)| now.0 < *until);
            }
            if kept.len() < MAX_KEPT {
                kept.insert(fingerprint, (header.clone(), until));
            }
        }
        Ok(header)
    }
}
