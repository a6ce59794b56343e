//! How a refused caller is asked for what the policy wants (RFC 9110 §11.6.1, RFC 6750 §3).

use http::HeaderValue;
use idm_jose::PROOF_ALGORITHMS;
use idm_plan::{MethodKind, Source};
use idm_types::{Reason, Timestamp};

use crate::ArmedPolicy;
use crate::chain::Armed;

impl ArmedPolicy {
    /// The `WWW-Authenticate` values for a refusal; empty where none belongs.
    pub fn challenges(&self, reason: Reason, missing_scopes: &[String], now: Timestamp) -> Vec<HeaderValue> {
        let realm = &self.plan().key;
        let mut texts = Vec::new();
        if reason == Reason::InsufficientScope {
            texts.push(format!(
                "Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{}\"",
                missing_scopes.join(" ")
            ));
        } else if reason.status() == 401 {
            if self.takes("bearer") {
                let error = if reason == Reason::NoCredentials { "" } else { ", error=\"invalid_token\"" };
                texts.push(format!("Bearer realm=\"{realm}\"{error}"));
            }
            // RFC 9449 §7.1.
            if self.takes("dpop") && [Reason::InvalidProof, Reason::TokenNotBound].contains(&reason)
                || self.wants_dpop()
            {
                let algorithms: Vec<_> = PROOF_ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect();
                let error = if reason == Reason::InvalidProof { ", error=\"invalid_dpop_proof\"" } else { "" };
                texts.push(format!("DPoP realm=\"{realm}\", algs=\"{}\"{error}", algorithms.join(" ")));
            }
            for (_, armed) in self.methods() {
                match armed {
                    Armed::Digest(digest, _) => texts.extend(digest.challenges(reason == Reason::StaleNonce, now)),
                    Armed::Basic(basic, _) => texts.push(format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm)),
                    // No registered scheme either; the name says what kind of credential it is.
                    Armed::SignIn(_) => texts.push(format!("Cookie realm=\"{realm}\"")),
                    _ => {}
                }
            }
            // RFC 9110 §15.5.2 wants a challenge with every 401; API keys have no registered scheme.
            if texts.is_empty() {
                texts.push(format!("ApiKey realm=\"{realm}\""));
            }
        }
        texts.iter().filter_map(|text| HeaderValue::from_str(text).ok()).collect()
    }

    fn takes(&self, wanted: &str) -> bool {
        self.sources().any(|source| matches!(source, Source::Header { scheme: Some(scheme), .. } if scheme.eq_ignore_ascii_case(wanted)))
    }

    fn wants_dpop(&self) -> bool {
        self.plan().methods.iter().any(|method| match &method.kind {
            MethodKind::Jwt(jwt) => jwt.confirmation.dpop,
            MethodKind::Introspection(method) => method.confirmation.dpop,
            _ => false,
        })
    }
}
