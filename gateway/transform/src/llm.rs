//! Calls to language models: the provider's key in, the caller's credential out, and what was used counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use idm_plan::{Llm, LlmProvider, Secrets, TokenQuota};
use idm_types::{Moment, Reason};
use serde_json::{Value, json};

use crate::{Refused, keys};

/// The largest request that is read; prompts with pictures are large.
pub const MAX_REQUEST: usize = 16 << 20;
/// What is kept of a response to find the usage in.
const MAX_KEPT: usize = 4 << 20;
/// Callers whose use is remembered; the ones of past spans go first.
const MAX_CALLERS: usize = 100_000;
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The provider's side of a policy.
pub struct ArmedLlm {
    plan: Llm,
    header: (HeaderName, HeaderValue),
}

/// What one call used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model, as the provider names it.
    pub model: Option<String>,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// The provider told nothing: a quarter of the bytes was taken instead.
    pub estimated: bool,
}

impl ArmedLlm {
    /// Arms the provider's key. The error holds no secret.
    pub fn arm(plan: &Llm, secrets: &Secrets) -> Result<Self, String> {
        let key = keys::text(secrets, &plan.key)?.trim();
        let (name, text) = match plan.provider {
            LlmProvider::OpenAi => (AUTHORIZATION, format!("Bearer {key}")),
            LlmProvider::Anthropic => (API_KEY, key.to_owned()),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("the secret `{}` cannot travel in a header", plan.key.0))?;
        value.set_sensitive(true);
        Ok(Self { plan: plan.clone(), header: (name, value) })
    }

    /// What each caller may use.
    pub fn quotas(&self) -> &[TokenQuota] {
        &self.plan.quotas
    }

    /// Makes the request the gateway's own: no credential of the caller stays, in whichever header a provider reads
    /// one.
    pub fn prepare(&self, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(API_KEY);
        // Usage is read from the answer, so it must come as it is.
        headers.remove(ACCEPT_ENCODING);
        headers.insert(self.header.0.clone(), self.header.1.clone());
    }

    /// Asks for usage where a streamed answer would not tell it. Returns the new body, when it changed.
    pub fn ask_for_usage(&self, path: &str, headers: &mut HeaderMap, body: &[u8]) -> Result<Option<Bytes>, Refused> {
        if self.plan.provider != LlmProvider::OpenAi || !path.ends_with("/chat/completions") {
            return Ok(None);
        }
        // Two readers of one body must not disagree about whether it is streamed.
        let Ok(Value::Object(mut members)) = idm_jose::parse_strict(body) else {
            return Err(Refused::new(
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

/// Reads what an answer used while it passes by.
pub struct Meter {
    streamed: bool,
    succeeded: bool,
    kept: Vec<u8>,
    request_bytes: u64,
    seen: u64,
    usage: Usage,
    told: bool,
}

impl Meter {
    /// For an answer with this status and these headers to a request of this size.
    pub fn new(status: u16, headers: &HeaderMap, request_bytes: u64) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let streamed = kind.starts_with("text/event-stream");
        Self {
            streamed,
            succeeded: (200..300).contains(&status),
            kept: Vec::new(),
            request_bytes,
            seen: 0,
            usage: Usage::default(),
            told: false,
        }
    }

    /// Looks at a part of the answer.
    pub fn see(&mut self, part: &[u8]) {
        self.seen += part.len() as u64;
        if self.kept.len() + part.len() <= MAX_KEPT {
            self.kept.extend_from_slice(part);
        }
        if self.streamed {
            // Whole lines only; the rest waits for its end.
            while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
                // Most events are text; only those that speak of usage are parsed.
                if let Some(data) = data.filter(|data| data.windows(7).any(|window| window == b"\"usage\"")) {
                    self.read(data);
                }
            }
        }
    }

    /// What was used, once the answer has ended.
    pub fn usage(mut self) -> Usage {
        if !self.streamed {
            let whole = std::mem::take(&mut self.kept);
            self.read(&whole);
        }
        // Whoever hides the usage from the gateway (or leaves before it is told) does not use for nothing.
        if !self.told && self.succeeded {
            self.usage.estimated = true;
            self.usage.prompt = self.request_bytes.div_ceil(4);
            self.usage.completion = self.seen.div_ceil(4);
        }
        self.usage
    }

    fn read(&mut self, json: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Value>(json) else { return };
        // Anthropic's first event has it under `message`, the last event of OpenAI's responses under `response`.
        for place in [Some(&event), event.get("message"), event.get("response")].into_iter().flatten() {
            if let Some(model) = place.get("model").and_then(Value::as_str) {
                self.usage.model = Some(model.chars().take(128).collect());
            }
            let number = |names: [&str; 2]| names.iter().find_map(|name| place.get("usage")?.get(name)?.as_u64());
            let (prompt, completion) =
                (number(["prompt_tokens", "input_tokens"]), number(["completion_tokens", "output_tokens"]));
            // Later events repeat or raise what earlier ones told.
            self.usage.prompt = self.usage.prompt.max(prompt.unwrap_or(0));
            self.usage.completion = self.usage.completion.max(completion.unwrap_or(0));
            self.told |= prompt.is_some() || completion.is_some();
        }
    }
}

/// What callers used in the current spans. One for each gateway process, kept across configurations. Spans begin where
/// the wall clock had them when the first was asked for; from then on they follow a clock that does not jump, so that no
/// span is ever begun twice.
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

    fn usage(kind: &str, parts: &[&str]) -> Usage {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        let mut meter = Meter::new(200, &headers, 40);
        parts.iter().for_each(|part| meter.see(part.as_bytes()));
        meter.usage()
    }

    #[test]
    fn usage_is_found_in_every_form_it_is_told() {
        let told =
            |model: &str, prompt, completion| Usage { model: Some(model.into()), prompt, completion, estimated: false };
        assert_eq!(
            usage(
                "application/json",
                &["{\"model\":\"m\",\"usage\":{\"prompt_tokens\":3,\"compl", "etion_tokens\":4}}"]
            ),
            told("m", 3, 4)
        );
        assert_eq!(
            usage("application/json", &["{\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}"]),
            told("m", 3, 4)
        );
        let chat = [
            "data: {\"model\":\"m\",\"usage\":null}\n\n",
            "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_to",
            "kens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
        ];
        assert_eq!(usage("text/event-stream", &chat), told("m", 3, 4));
        let messages = [
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n",
        ];
        assert_eq!(usage("text/event-stream; charset=utf-8", &messages), told("c", 9, 15));
        let responses = [
            "data: {\"type\":\"response.completed\",\"response\":{\"model\":\"r\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n",
        ];
        assert_eq!(usage("text/event-stream", &responses), told("r", 5, 6));
    }

    #[test]
    fn what_is_not_told_is_estimated() {
        assert_eq!(
            usage("text/plain", &["12345678"]),
            Usage { model: None, prompt: 10, completion: 2, estimated: true }
        );
        assert_eq!(Meter::new(500, &HeaderMap::new(), 40).usage(), Usage::default());
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
