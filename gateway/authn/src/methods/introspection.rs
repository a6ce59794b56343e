//! Opaque tokens: verified by introspection at their issuer (RFC 7662).

use idm_trust::{Answer, HttpClient, NoAnswer, OutboundClient};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use idm_jose::{Claims, parse_document};
use idm_plan::{IntrospectionMethod, Secrets, Source};
use idm_request::{Identity, Presented, RequestView};
use idm_types::{Reason, Redacted, Refusal, Timestamp};
use serde_json::Value;

use super::jwt::Vouched;
use super::{bearer, jwt};
use crate::CredentialTable;
use crate::judged::Unjudged;
use crate::method::{Attempt, Caching, Challenged, Method, MethodContext, NewVerdict, Proven, Recheck, Verifying};

/// A longer token is refused without introspection.
const MAX_BYTES: usize = 16 * 1024;
/// The time for which a token that is not active is refused without introspection.
const INACTIVE_MS: u64 = 10_000;
/// Introspection requests that others may join; when there are more, each caller sends its own.
const MAX_SHARED: usize = 4096;

pub(super) struct ArmedIntrospection {
    plan: IntrospectionMethod,
    client: OutboundClient,
    /// The questions under way, by a fingerprint of their token.
    under_way: Mutex<HashMap<[u8; 32], WeakShared<Answer>>>,
}

impl Method for ArmedIntrospection {
    fn kind(&self) -> &'static str {
        "introspection"
    }

    fn sources(&self) -> &[Source] {
        &self.plan.sources
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        idm_request::find(view, self.sources())
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, credential: &'a str) -> Verifying<'a> {
        Box::pin(self.attempt(context, credential))
    }

    fn judge(&self, _: MethodContext<'_>, _: &str) -> Result<Attempt, Unjudged> {
        Err(Unjudged::OutsideServer)
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    fn epoch(&self, _: &Identity, _: &CredentialTable) -> u64 {
        0
    }

    fn recheck<'a>(&'a self, context: MethodContext<'a>, proven: Proven<'a>) -> Recheck<'a> {
        bearer::recheck(self.plan.confirmation, context, proven)
    }

    fn challenge(&self, asked: &Challenged<'_>) -> Vec<String> {
        bearer::challenge(self.sources(), self.plan.confirmation, asked)
    }
}

impl ArmedIntrospection {
    pub(super) fn new(
        plan: &IntrospectionMethod,
        secrets: &Secrets,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, String> {
        let client = OutboundClient::new(&plan.endpoint, &plan.client_id, &plan.client_secret, secrets, http)?;
        Ok(Self { plan: plan.clone(), client, under_way: Mutex::default() })
    }

    async fn attempt(&self, context: MethodContext<'_>, token: &str) -> Attempt {
        let MethodContext { memory, .. } = context;
        let rejected = |reason, detail: String| Attempt::Rejected(context.denied(reason, detail));
        // RFC 6750 §2.1: the characters a token may have.
        let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || token.len() > MAX_BYTES || !token.bytes().all(usable) {
            return Attempt::NotMine(context.denied(Reason::MalformedToken, "it is not written as a bearer token"));
        }
        let fingerprint = memory.fingerprint(&[&self.plan.endpoint, &self.plan.client_id, token]);
        if memory.is_inactive(&fingerprint) {
            return rejected(Reason::TokenInactive, "the issuer said so a moment ago".into());
        }
        let answer = match self.ask(token, fingerprint, context.view.address).await {
            Ok(answer) => answer,
            Err(why) => {
                let denied = context.denied(Reason::IntrospectionFailed, why.to_string());
                return Attempt::Rejected(denied.retry_after(why.retry_after()));
            }
        };
        let Ok(Value::Object(members)) = parse_document(&answer) else {
            return rejected(
                Reason::IntrospectionFailed,
                "the answer is not a JSON object that names each member once".into(),
            );
        };
        // RFC 7662 §2.2: `active` is a truth value and nothing else.
        match members.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => {
                memory.note_inactive(fingerprint, INACTIVE_MS);
                return rejected(Reason::TokenInactive, String::new());
            }
            _ => {
                return rejected(
                    Reason::IntrospectionFailed,
                    "the answer does not say whether the token is active".into(),
                );
            }
        }
        self.active(context, Claims::new(members))
    }

    /// Sends an introspection request, or, where responses are cached, waits for one about the same token that is under
    /// way. Where responses are not cached, each request of a caller sends its own.
    async fn ask(&self, token: &str, fingerprint: [u8; 32], caller: IpAddr) -> Result<Vec<u8>, NoAnswer> {
        let begin = || {
            self.client.ask(
                vec![
                    ("token", Redacted::new(token.to_owned())),
                    ("token_type_hint", Redacted::new("access_token".to_owned())),
                ],
                caller,
            )
        };
        if self.plan.cache_seconds == 0 {
            return begin().await;
        }
        let shared: Shared<Answer> = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&fingerprint).and_then(WeakShared::upgrade) {
                Some(shared) => shared,
                None => {
                    let shared = begin().shared();
                    if under_way.len() >= MAX_SHARED {
                        under_way.retain(|_, weak| weak.upgrade().is_some());
                    }
                    if let Some(weak) = shared.downgrade().filter(|_| under_way.len() < MAX_SHARED) {
                        under_way.insert(fingerprint, weak);
                    }
                    shared
                }
            }
        };
        let answer = shared.await;
        // A later request for this token sends a new introspection request.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&fingerprint);
        answer
    }

    fn active(&self, context: MethodContext<'_>, claims: Claims) -> Attempt {
        let IntrospectionMethod { issuer, audiences, cache_seconds, .. } = &self.plan;
        let rejected = |reason, detail: String| Attempt::Rejected(context.denied(reason, detail));
        let now = context.now;
        if let Some(found) = claims.text("iss").filter(|found| found != issuer) {
            return rejected(
                Reason::UnknownIssuer,
                format!("the token was issued by `{found}`, and the policy trusts {issuer}"),
            );
        }
        let accepted = |audience: &str| audiences.iter().any(|wanted| wanted == audience);
        let audience = match claims.members().get("aud") {
            Some(Value::String(one)) => accepted(one),
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str().is_some_and(accepted)),
            _ => false,
        };
        if !audiences.is_empty() && !audience {
            return rejected(Reason::WrongAudience, format!("expected one of {}", audiences.join(", ")));
        }
        let date = |name: &str| claims.date(name).map_err(|why| format!("`{name}` {why}"));
        let (exp, nbf) = match (date("exp"), date("nbf")) {
            (Ok(exp), Ok(nbf)) => (exp, nbf),
            (Err(why), _) | (_, Err(why)) => return rejected(Reason::UnusableClaim, why),
        };
        if exp.is_some_and(|exp| now.seconds() >= exp) {
            return rejected(Reason::TokenExpired, "the issuer calls it active, and it has expired".into());
        }
        if nbf.is_some_and(|nbf| now.seconds() < nbf) {
            return rejected(Reason::TokenNotYetValid, String::new());
        }
        let expires = exp.map(Timestamp::from_seconds);
        match jwt::identity_of(context, claims, Vouched { issuer, expires, ..Vouched::default() }) {
            Ok(identity) => {
                let until = (now.0 + cache_seconds * 1000).min(expires.map_or(u64::MAX, |expires| expires.0));
                Attempt::Verified(NewVerdict { identity: identity.into(), until, epoch: 0 })
            }
            Err(problem) => rejected(problem.reason, problem.detail),
        }
    }
}
