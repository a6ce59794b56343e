//! The challenges that tell a refused caller which credentials the policy accepts (RFC 9110 §11.6.1, RFC 6750 §3).

use http::HeaderValue;
use idm_types::{Reason, Timestamp};

use crate::ArmedPolicy;
use crate::method::Challenged;

impl ArmedPolicy {
    /// The `WWW-Authenticate` values for a refusal, in the order of the policy's methods; empty where the status needs
    /// none.
    pub fn challenges(&self, reason: Reason, missing_scopes: &[String], now: Timestamp) -> Vec<HeaderValue> {
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
        texts.iter().filter_map(|text| HeaderValue::from_str(text).ok()).collect()
    }
}
