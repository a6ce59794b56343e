//! Calls to language models: the provider's key in, the caller's credential out, and what was used counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use idm_plan::{Llm, LlmProvider, Secrets, TokenQuota};
use idm_types::{Moment, Reason, Refusal};
use serde_json::{Value, json};

use crate::refusal;

/// The largest request that is read; prompts with pictures are large.
pub const MAX_REQUEST: usize = 16 << 20;
/// Callers whose use is remembered; the ones of past spans go first.
const MAX_CALLERS: usize = 100_000;
/// Headers of a call that say how to read it and how to answer it.
const NEEDED: &[&str] = &["accept", "content-type", "content-length", "content-encoding", "idempotency-key"];
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The provider's side of a policy.
pub struct ArmedLlm {
    plan: Llm,
    header: (HeaderName, HeaderValue),
}

impl ArmedLlm {
    /// Arms the provider's key. The error holds no secret.
    pub fn arm(plan: &Llm, secrets: &Secrets) -> Result<Self, String> {
        let key = secrets.text(&plan.key)?.trim();
        let (name, text) = match plan.provider {
            LlmProvider::OpenAi => (AUTHORIZATION, format!("Bearer {key}")),
            LlmProvider::Anthropic => (API_KEY, key.to_owned()),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("the secret `{}` cannot travel in a header", plan.key.0))?;
        value.set_sensitive(true);
        Ok(Self { plan: plan.clone(), header: (name, value) })
    }

    /// The quotas of each caller.
    pub fn quotas(&self) -> &[TokenQuota] {
        &self.plan.quotas
    }

    /// Makes the request the gateway's own: of the caller's headers only those stay that say how to read the request
    /// and how to answer it, and those that the policy's steps made. No credential, cookie or address of a caller
    /// reaches the provider, and none of its names for an account (`OpenAI-Organization`) chooses whom the gateway's
    /// key is charged to. Usage is read from the answer, so it must come as it is, without an encoding.
    pub fn keep_only_what_it_needs(&self, headers: &mut HeaderMap, is_made: impl Fn(&str) -> bool) {
        let versions: &[&str] = match self.plan.provider {
            LlmProvider::OpenAi => &["openai-beta"],
            LlmProvider::Anthropic => &["anthropic-version", "anthropic-beta"],
        };
        let stays = |name: &str| NEEDED.contains(&name) || versions.contains(&name) || is_made(name);
        let others: Vec<HeaderName> = headers.keys().filter(|name| !stays(name.as_str())).cloned().collect();
        others.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(USER_AGENT, HeaderValue::from_static("idm"));
    }

    /// Puts the provider's key on, last of all, and takes every other key away, in whichever header a provider reads
    /// one.
    pub fn sign(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(API_KEY);
        headers.insert(self.header.0.clone(), self.header.1.clone());
    }

    /// Asks for usage where a streamed answer would not tell it. Returns the new body, when it changed.
    pub fn ask_for_usage(&self, path: &str, headers: &mut HeaderMap, body: &[u8]) -> Result<Option<Bytes>, Refusal> {
        if self.plan.provider != LlmProvider::OpenAi || !path.ends_with("/chat/completions") {
            return Ok(None);
        }
        // Two readers of one body must not disagree about whether it is streamed.
        let Ok(Value::Object(mut members)) = idm_jose::parse_strict(body) else {
            return Err(refusal(
                "llm",
                Reason::MalformedRequest,
                "the body is not a JSON object that names each member once",
            ));
        };
        if members.get("stream") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        match members.get_mut("stream_options") {
            Some(Value::Object(options)) => drop(options.insert("include_usage".into(), true.into())),
            _ => drop(members.insert("stream_options".into(), json!({"include_usage": true}))),
        }
        let body = Bytes::from(Value::Object(members).to_string());
        headers.insert(CONTENT_LENGTH, body.len().into());
        Ok(Some(body))
    }
}

/// The tokens that callers used in the current spans. One for each gateway process, kept across configurations. The
/// wall clock sets the boundaries of the spans when the first one is needed; from then on they follow a clock that does
/// not jump, so that no span begins twice.
#[derive(Default)]
pub struct Quotas(Mutex<Spent>);

#[derive(Default)]
struct Spent {
    /// Wall time less uptime, in milliseconds, when the first span was asked for.
    ahead: Option<u64>,
    used: HashMap<(String, u64), (u64, u64)>,
}

impl Spent {
    /// Seconds on the clock that spans are cut from.
    fn seconds(&mut self, now: Moment) -> u64 {
        let ahead = *self.ahead.get_or_insert(now.wall.0.saturating_sub(now.uptime.0));
        now.uptime.after(ahead).0 / 1000
    }
}

impl Quotas {
    /// Whether a caller may begin another call; otherwise seconds until the span ends. `owner` is the policy and the
    /// caller.
    pub fn check(&self, owner: &str, quotas: &[TokenQuota], now: Moment) -> Result<(), u64> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = spent.seconds(now);
        for quota in quotas {
            let span = seconds / quota.per_seconds;
            let of_span = spent.used.get(&(owner.to_owned(), quota.per_seconds)).filter(|(of, _)| *of >= span);
            if of_span.is_some_and(|(_, spent)| *spent >= quota.tokens) {
                return Err((span + 1) * quota.per_seconds - seconds);
            }
        }
        Ok(())
    }

    /// Adds what a call used.
    pub fn add(&self, owner: &str, quotas: &[TokenQuota], tokens: u64, now: Moment) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = spent.seconds(now);
        if spent.used.len() >= MAX_CALLERS {
            spent.used.retain(|(_, per_seconds), (span, _)| *span >= seconds / per_seconds);
        }
        for quota in quotas {
            let span = seconds / quota.per_seconds;
            let entry = spent.used.entry((owner.to_owned(), quota.per_seconds)).or_insert((span, 0));
            *entry = if entry.0 >= span { (entry.0, entry.1.saturating_add(tokens)) } else { (span, tokens) };
        }
    }
}

#[cfg(test)]
mod tests {
    use idm_types::{Timestamp, Uptime};
    use proptest::prelude::*;

    use super::*;

    fn moment(wall_seconds: u64, uptime_seconds: u64) -> Moment {
        Moment { wall: Timestamp::from_seconds(wall_seconds), uptime: Uptime(uptime_seconds * 1000) }
    }

    #[test]
    fn a_quota_ends_with_its_span_and_is_each_callers_own() {
        let (quotas, limits) = (
            Quotas::default(),
            [TokenQuota { tokens: 10, per_seconds: 60 }, TokenQuota { tokens: 15, per_seconds: 3600 }],
        );
        let at = |seconds: u64| moment(seconds, seconds);
        quotas.add("a", &limits, 9, at(3600));
        assert_eq!(quotas.check("a", &limits, at(3600)), Ok(()));
        quotas.add("a", &limits, 2, at(3601));
        assert_eq!(quotas.check("a", &limits, at(3610)), Err(50));
        assert_eq!(quotas.check("b", &limits, at(3610)), Ok(()));
        assert_eq!(quotas.check("a", &limits, at(3660)), Ok(()));
        quotas.add("a", &limits, 4, at(3660));
        assert_eq!(quotas.check("a", &limits, at(3720)), Err(3480), "the longer span is used up");
    }

    proptest! {
        /// However the wall clock jumps, a caller gets its quota once in each span of true time.
        #[test]
        fn no_jump_of_the_clock_gives_a_quota_twice(
            steps in proptest::collection::vec((0..90u64, -7200..7200i64, 1..5u64), 1..80),
        ) {
            let (quotas, limits) = (Quotas::default(), [TokenQuota { tokens: 10, per_seconds: 60 }]);
            let (mut elapsed, mut spans) = (0, HashMap::new());
            let first = quotas.check("a", &limits, moment(600_000, 0));
            prop_assert_eq!(first, Ok(()));
            for (wait, off, tokens) in steps {
                elapsed += wait;
                let now = moment((600_000 + elapsed).saturating_add_signed(off), elapsed);
                let spent: &mut u64 = spans.entry(elapsed / 60).or_default();
                prop_assert_eq!(quotas.check("a", &limits, now).is_ok(), *spent < 10);
                if *spent < 10 {
                    quotas.add("a", &limits, tokens, now);
                    *spent += tokens;
                }
            }
        }
    }
}
