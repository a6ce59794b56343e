//! Calls to language models: adds the provider's key, removes the caller's credential, and counts the tokens.

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
/// The number of callers whose use is remembered; those of past spans are removed first.
const MAX_CALLERS: usize = 100_000;
/// Headers of a call that define how to read it and how to answer it.
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

    /// Turns the request into the gateway's own: of the caller's headers only those stay that define how to read the
    /// request and how to answer it, and those that the policy's steps made. No credential, cookie or address of a
    /// caller reaches the provider, and a caller cannot name an account (`OpenAI-Organization`) to which the gateway's
    /// key is charged. Usage is read from the answer, so the answer must have no content coding.
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

    /// Adds the provider's key, last of all, and removes every other key, from each header where a provider reads one.
    pub fn sign(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(API_KEY);
        headers.insert(self.header.0.clone(), self.header.1.clone());
    }

    /// Requests the usage if a streamed answer would not report it. Returns the new body, when it changed.
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

    /// Adds the usage of a call.
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
    use idm_plan::SecretHandle;
    use idm_types::{Redacted, Timestamp, Uptime};
    use proptest::prelude::*;

    use super::*;

    fn moment(wall_seconds: u64, uptime_seconds: u64) -> Moment {
        Moment { wall: Timestamp::from_seconds(wall_seconds), uptime: Uptime(uptime_seconds * 1000) }
    }

    fn armed(provider: LlmProvider, key: &str) -> Result<ArmedLlm, String> {
        let handle = SecretHandle("provider".into());
        let mut secrets = Secrets::default();
        secrets.put(handle.clone(), Redacted::new(key.as_bytes().to_vec()));
        ArmedLlm::arm(&Llm { provider, key: handle, quotas: Vec::new() }, &secrets)
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn the_providers_key_takes_the_place_of_every_other() {
        for (provider, name, value) in
            [(LlmProvider::OpenAi, "authorization", "Bearer sk-1"), (LlmProvider::Anthropic, "x-api-key", "sk-1")]
        {
            let mut sent = headers(&[("authorization", "Bearer caller"), ("x-api-key", "caller"), ("accept", "*/*")]);
            armed(provider, " sk-1\n").unwrap().sign(&mut sent);
            assert_eq!(sent, headers(&[("accept", "*/*"), (name, value)]));
            assert!(sent[name].is_sensitive());
        }
        let error = armed(LlmProvider::OpenAi, "sk\n1").err().unwrap();
        assert_eq!(error, "the secret `provider` cannot travel in a header");
    }

    #[test]
    fn only_what_the_provider_needs_of_a_caller_goes_to_it() {
        let sent = [
            ("accept", "*/*"),
            ("content-type", "application/json"),
            ("cookie", "a=b"),
            ("openai-organization", "org-of-the-caller"),
            ("openai-beta", "assistants=v2"),
            ("anthropic-version", "2023-06-01"),
            ("accept-encoding", "gzip"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-made", "by a step"),
            ("user-agent", "curl"),
        ];
        let common =
            [("accept", "*/*"), ("content-type", "application/json"), ("x-made", "by a step"), ("user-agent", "idm")];
        for (provider, own) in [
            (LlmProvider::OpenAi, ("openai-beta", "assistants=v2")),
            (LlmProvider::Anthropic, ("anthropic-version", "2023-06-01")),
        ] {
            let mut kept = headers(&sent);
            armed(provider, "sk-1").unwrap().keep_only_what_it_needs(&mut kept, |name| name == "x-made");
            assert_eq!(kept, headers(&[&common[..], &[own]].concat()));
        }
    }

    #[test]
    fn usage_is_asked_for_where_a_streamed_answer_would_not_tell_it() {
        let ask = |provider, path: &str, body: &str| {
            let mut sent = HeaderMap::new();
            let changed = armed(provider, "sk-1").unwrap().ask_for_usage(path, &mut sent, body.as_bytes());
            let changed = changed.map_err(|refusal| refusal.reason)?;
            let length = sent.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse::<usize>().unwrap());
            assert_eq!(length, changed.as_ref().map(Bytes::len), "the length is that of the new body");
            Ok::<_, Reason>(changed.map(|body| serde_json::from_slice::<Value>(&body).unwrap()))
        };
        let (openai, chat) = (LlmProvider::OpenAi, "/v1/chat/completions");
        let options = |options: Value| Some(json!({"stream": true, "stream_options": options}));
        assert_eq!(ask(openai, chat, r#"{"stream": true}"#), Ok(options(json!({"include_usage": true}))));
        let refused_by_caller = r#"{"stream": true, "stream_options": {"include_usage": false, "x": 1}}"#;
        assert_eq!(ask(openai, chat, refused_by_caller), Ok(options(json!({"include_usage": true, "x": 1}))));
        let no_object = r#"{"stream": true, "stream_options": 7}"#;
        assert_eq!(ask(openai, chat, no_object), Ok(options(json!({"include_usage": true}))));
        for body in [r#"{"stream": false}"#, "{}", r#"{"stream": "true"}"#] {
            assert_eq!(ask(openai, chat, body), Ok(None), "{body}: the answer is whole, and tells it");
        }
        for body in ["", "[]", r#"{"stream": false, "stream": true}"#] {
            assert_eq!(ask(openai, chat, body), Err(Reason::MalformedRequest), "{body}");
        }
        assert_eq!(ask(openai, "/v1/responses", r#"{"stream": true}"#), Ok(None));
        assert_eq!(ask(LlmProvider::Anthropic, chat, r#"{"stream": true}"#), Ok(None));
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
        /// Even if the wall clock jumps, a caller gets its quota once in each span of true time.
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
