//! The challenges that tell a refused caller which credentials the policy accepts (RFC 9110 §11.6.1, RFC 6750 §3).

use http::HeaderValue;
use idm_types::{Reason, Timestamp};

use crate::ArmedPolicy;
use crate::method::Challenged;

/// The refusal that a challenge is for.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeFor<'r> {
    /// Its reason.
    pub reason: Reason,
    /// The scopes that the caller does not have.
    pub missing_scopes: &'r [String],
    /// The address of the metadata of the protected resource, without quotes and backslashes.
    pub resource_metadata: Option<&'r str>,
    /// The time.
    pub now: Timestamp,
}

impl ArmedPolicy {
    /// The value of `Accept-Signature` for a caller who is refused with this reason; `None` where the policy takes no
    /// signed requests.
    pub fn accept_signature(&self, reason: Reason, has_body: bool) -> Option<HeaderValue> {
        let mut asked = self.methods().filter(|_| reason.status() == 401);
        HeaderValue::from_str(&asked.find_map(|(_, method)| method.accept_signature(has_body))?).ok()
    }

    /// The `WWW-Authenticate` values for a refusal, in the order of the policy's methods; empty where the status needs
    /// none.
    pub fn challenges(&self, asked: &ChallengeFor<'_>) -> Vec<HeaderValue> {
        let ChallengeFor { reason, missing_scopes, resource_metadata, now } = *asked;
        let realm = &self.plan().key;
        let mut texts: Vec<String> = Vec::new();
        if reason == Reason::InsufficientScope {
            let scopes = missing_scopes.join(" ");
            texts.push(format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{scopes}\""));
        } else if reason.status() == 401 {
            let asked = Challenged { realm, reason, now };
            for text in self.methods().flat_map(|(_, method)| method.challenge(&asked)) {
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
            // RFC 9110 §15.5.2 requires a challenge with every 401; API keys have no registered scheme.
            if texts.is_empty() {
                texts.push(format!("ApiKey realm=\"{realm}\""));
            }
        }
        if let Some(address) = resource_metadata {
            let takes_tokens = |text: &String| text.starts_with("Bearer ") || text.starts_with("DPoP ");
            // RFC 9728 §5.1.
            for text in texts.iter_mut().filter(|text| takes_tokens(text)) {
                text.push_str(&format!(", resource_metadata=\"{address}\""));
            }
            // Clients that look for it read the first challenge alone.
            texts.sort_by_key(|text| !takes_tokens(text));
        }
        texts.iter().filter_map(|text| HeaderValue::from_str(text).ok()).collect()
    }
}
