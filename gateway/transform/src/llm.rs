//! Calls to language models: adds the provider's key, removes the caller's credential, and counts the tokens.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use idm_plan::{Llm, LlmProvider, ModelList, Secrets, TokenQuota};
use idm_request::Facts;
use idm_types::{Reason, Refusal};
use serde_json::Value;

use crate::models::{NamedModels, are_in_body};
use crate::price::Price;
use crate::prompt::{Prompt, PromptRules};
use crate::refusal;
use crate::usage_option::with_usage;

/// Headers of a call that define how to read it and how to answer it.
const NEEDED: &[&str] = &[
    "accept",
    "content-type",
    "content-length",
    "content-encoding",
    "idempotency-key",
    // Extensions are not among them: a frame that is compressed could not be counted.
    "sec-websocket-key",
    "sec-websocket-version",
];
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const AZURE_KEY: HeaderName = HeaderName::from_static("api-key");

/// The provider's side of a policy.
pub struct ArmedLlm {
    plan: Llm,
    header: (HeaderName, HeaderValue),
    rules: PromptRules,
}

impl ArmedLlm {
    /// Arms the provider's key. The error holds no secret.
    pub fn arm(plan: &Llm, secrets: &Secrets) -> Result<Self, String> {
        let key = secrets.text(&plan.key)?.trim();
        let (name, text) = match plan.provider {
            LlmProvider::OpenAi | LlmProvider::Bedrock => (AUTHORIZATION, format!("Bearer {key}")),
            LlmProvider::AzureOpenAi => (AZURE_KEY, key.to_owned()),
            LlmProvider::Anthropic => (API_KEY, key.to_owned()),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| format!("the secret `{}` cannot travel in a header", plan.key.0))?;
        value.set_sensitive(true);
        Ok(Self { plan: plan.clone(), header: (name, value), rules: PromptRules::arm(&plan.rules)? })
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
        let protocols = protocols(headers);
        let versions: &[&str] = match self.plan.provider {
            LlmProvider::OpenAi | LlmProvider::AzureOpenAi => &["openai-beta"],
            LlmProvider::Anthropic => &["anthropic-version", "anthropic-beta"],
            LlmProvider::Bedrock => &["x-amzn-bedrock-guardrailidentifier", "x-amzn-bedrock-guardrailversion"],
        };
        let stays = |name: &str| NEEDED.contains(&name) || versions.contains(&name) || is_made(name);
        let others: Vec<HeaderName> = headers.keys().filter(|name| !stays(name.as_str())).cloned().collect();
        others.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(USER_AGENT, HeaderValue::from_static("idm"));
        headers.extend(protocols.map(|protocols| (SEC_WEBSOCKET_PROTOCOL, protocols)));
    }

    /// Adds the provider's key, last of all, and removes every other key, from each header where a provider reads one.
    pub fn sign(&self, headers: &mut HeaderMap) {
        [AUTHORIZATION, API_KEY, AZURE_KEY].iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(self.header.0.clone(), self.header.1.clone());
    }

    /// The largest body that is read.
    pub fn max_request_bytes(&self) -> usize {
        self.plan.max_request_bytes
    }

    /// Whether a call has a prompt that rules must permit: then its body is held.
    pub fn asks_about(&self, call: LlmCall<'_>) -> bool {
        !self.rules.are_none() && call.length != Some(0)
    }

    /// Whether a WebSocket to this path may be opened: only those of the realtime API are counted. The error says why
    /// not.
    pub fn admits_websocket(&self, path: &str, query: &str) -> Result<(), &'static str> {
        if !matches!(self.plan.provider, LlmProvider::OpenAi | LlmProvider::AzureOpenAi) {
            return Err("only the realtime API of OpenAI and Azure is counted on a WebSocket");
        }
        if !path.ends_with("/realtime") {
            return Err("only paths that end with `/realtime` are counted on a WebSocket");
        }
        if !self.rules.are_none() {
            return Err("the policy has rules about prompts, and those on a WebSocket are not read");
        }
        // Azure takes a key from the query, which would be charged in place of the gateway's.
        let mut names = query.split('&').map(|parameter| parameter.split('=').next().unwrap_or_default());
        if names.any(|name| name.contains('%') || name.eq_ignore_ascii_case("api-key")) {
            return Err("the query has a key, or a name with escapes: the gateway adds the key");
        }
        Ok(())
    }

    /// Whether the rules permit a prompt. `body` is what the provider would get.
    pub fn permits(&self, path: &str, headers: &HeaderMap, body: &[u8], facts: &Facts<'_>) -> Result<(), Refusal> {
        self.rules.check(&Prompt { provider: self.plan.provider, path, headers, body }, facts)
    }

    /// The models that every caller may use.
    pub fn models(&self) -> &ModelList {
        &self.plan.models
    }

    /// Whether calls have a price.
    pub fn has_prices(&self) -> bool {
        self.plan.prices.is_some()
    }

    /// Whether the body of a call must be read to know its models.
    pub fn names_models_in_body(&self, call: LlmCall<'_>) -> bool {
        are_in_body(self.plan.provider, call)
    }

    /// The models that a call names. `body` is what the provider would get; it is needed where
    /// [`Self::names_models_in_body`] says so.
    pub fn models_named(&self, call: LlmCall<'_>, headers: &HeaderMap, body: Option<&[u8]>) -> NamedModels {
        NamedModels::of(self.plan.provider, call, headers, body)
    }

    /// The price of a call for these models; `None`: it costs nothing, or nothing that is known.
    pub fn price_of(&self, call: LlmCall<'_>, models: &NamedModels) -> Result<Option<Price>, Refusal> {
        match &self.plan.prices {
            Some(table) if !call.is_free() => Price::of(table, models),
            _ => Ok(None),
        }
    }

    /// The treatment of a call's body.
    pub fn body_of(&self, call: LlmCall<'_>) -> Body {
        let chats = matches!(self.plan.provider, LlmProvider::OpenAi | LlmProvider::AzureOpenAi)
            && call.method == Method::POST.as_str()
            && call.path.ends_with("/chat/completions");
        match call.length {
            _ if chats => Body::Read,
            // Its size is what a caller is charged for who does not wait for the answer.
            None if call.charges_what_is_not_told() => Body::Measured,
            length => Body::Streams { bytes: length.unwrap_or(0) },
        }
    }

    /// Requests the usage if a streamed answer would not report it. Returns the new body, when it changed: then the
    /// caller did not ask for it, and does not get it.
    pub fn ask_for_usage(&self, headers: &mut HeaderMap, body: &[u8]) -> Result<Option<Bytes>, Refusal> {
        if let Some(coding) = headers.get(CONTENT_ENCODING) {
            let why = format!("the body has the content coding {coding:?}: send it without one");
            return Err(refusal("llm", Reason::MalformedRequest, why));
        }
        // Two readers of one body must not disagree about whether it is streamed.
        let parsed = match idm_jose::parse_strict(body) {
            Ok(parsed @ Value::Object(_)) => parsed,
            Ok(_) => return Err(refusal("llm", Reason::MalformedRequest, "the body is not a JSON object")),
            Err(_) if body.starts_with(b"\xef\xbb\xbf") => {
                return Err(refusal("llm", Reason::MalformedRequest, "the body begins with a byte order mark"));
            }
            Err(error) => {
                let why = format!("the body is not JSON that names each member once: {error}");
                return Err(refusal("llm", Reason::MalformedRequest, why));
            }
        };
        let changed = with_usage(body, &parsed).map(Bytes::from);
        if let Some(body) = &changed {
            headers.insert(CONTENT_LENGTH, body.len().into());
        }
        Ok(changed)
    }
}

/// The subprotocols of a WebSocket that say how it is spoken. Browsers put keys and accounts beside them
/// (`openai-insecure-api-key.…`), which reach no provider.
fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let all = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let spoken = |name: &&str| *name == "realtime" || name.starts_with("openai-beta.");
    let kept: Vec<&str> = all.flat_map(|value| value.split(',').map(str::trim)).filter(spoken).collect();
    if kept.is_empty() { None } else { HeaderValue::from_str(&kept.join(", ")).ok() }
}

/// The parts of a call that say how it is treated.
#[derive(Clone, Copy, Debug)]
pub struct LlmCall<'r> {
    /// The method.
    pub method: &'r str,
    /// The path.
    pub path: &'r str,
    /// The content type of its body, as the caller wrote it.
    pub content_type: Option<&'r HeaderValue>,
    /// The bytes of its body, where they are known before it was read.
    pub length: Option<u64>,
    /// The query, where it asks for a realtime connection.
    pub realtime: Option<&'r str>,
}

/// The treatment of a call's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is held, and the option for the usage is looked for in it.
    Read,
    /// It is held to know its size.
    Measured,
    /// It passes as it comes.
    Streams {
        /// Its size; 0 where it is not known and does not matter.
        bytes: u64,
    },
}

impl LlmCall<'_> {
    /// Whether tokens are estimated where the answer does not tell any. Reading a list of models, or uploading a file,
    /// uses none.
    pub fn charges_what_is_not_told(&self) -> bool {
        self.method == Method::POST.as_str() && !self.is_form() && !self.is_free()
    }

    /// Whether its body is a form of several parts.
    pub(crate) fn is_form(&self) -> bool {
        let kind = self.content_type.map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
        kind.starts_with(b"multipart/form-data")
    }

    /// Whether no provider charges for it.
    fn is_free(&self) -> bool {
        ["/count_tokens", "/moderations", "/files"].iter().any(|end| self.path.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use idm_plan::SecretHandle;
    use idm_types::Redacted;

    use super::*;

    fn armed(provider: LlmProvider, key: &str) -> Result<ArmedLlm, String> {
        let handle = SecretHandle("provider".into());
        let mut secrets = Secrets::default();
        secrets.put(handle.clone(), Redacted::new(key.as_bytes().to_vec()));
        ArmedLlm::arm(
            &Llm {
                provider,
                max_request_bytes: 1 << 20,
                key: handle,
                quotas: Vec::new(),
                models: ModelList::default(),
                prices: None,
                rules: Vec::new(),
            },
            &secrets,
        )
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn the_providers_key_takes_the_place_of_every_other() {
        for (provider, name, value) in [
            (LlmProvider::OpenAi, "authorization", "Bearer sk-1"),
            (LlmProvider::AzureOpenAi, "api-key", "sk-1"),
            (LlmProvider::Anthropic, "x-api-key", "sk-1"),
            (LlmProvider::Bedrock, "authorization", "Bearer sk-1"),
        ] {
            let mut sent = headers(&[
                ("authorization", "Bearer caller"),
                ("x-api-key", "caller"),
                ("api-key", "caller"),
                ("accept", "*/*"),
            ]);
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
        let ask = |body: &str| {
            let mut sent = HeaderMap::new();
            let changed = armed(LlmProvider::OpenAi, "sk-1").unwrap().ask_for_usage(&mut sent, body.as_bytes());
            let changed = changed.map_err(|refusal| refusal.reason)?;
            let length = sent.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse::<usize>().unwrap());
            assert_eq!(length, changed.as_ref().map(Bytes::len), "the length is that of the new body");
            Ok::<_, Reason>(changed.map(|body| String::from_utf8(body.to_vec()).unwrap()))
        };
        let asked = r#"{"stream_options":{"include_usage":true},"stream":true}"#;
        assert_eq!(ask(r#"{"stream":true}"#), Ok(Some(asked.to_owned())));
        assert_eq!(ask(asked), Ok(None), "the caller asked for it");
        for body in ["", "[]", "\u{feff}{}", r#"{"stream": false, "stream": true}"#, r#"{"a": "\ud83d"}"#] {
            assert_eq!(ask(body), Err(Reason::MalformedRequest), "{body}");
        }
        let mut coded = headers(&[("content-encoding", "gzip")]);
        let refused = armed(LlmProvider::OpenAi, "sk-1").unwrap().ask_for_usage(&mut coded, b"{}").unwrap_err();
        assert!(refused.detail.contains("content coding \"gzip\""), "{}", refused.detail);
    }

    #[test]
    fn a_websocket_is_admitted_where_it_is_counted_and_carries_no_key_of_a_caller() {
        let admitted =
            |provider, path: &str, query: &str| armed(provider, "sk-1").unwrap().admits_websocket(path, query);
        assert_eq!(admitted(LlmProvider::OpenAi, "/v1/realtime", "model=m"), Ok(()));
        assert_eq!(admitted(LlmProvider::AzureOpenAi, "/openai/realtime", "api-version=1&deployment=m"), Ok(()));
        for (provider, path, query) in [
            (LlmProvider::Anthropic, "/v1/realtime", ""),
            (LlmProvider::OpenAi, "/v1/responses", ""),
            (LlmProvider::AzureOpenAi, "/openai/realtime", "deployment=m&Api-Key=k"),
            (LlmProvider::AzureOpenAi, "/openai/realtime", "deployment=m&api%2Dkey=k"),
        ] {
            assert!(admitted(provider, path, query).is_err(), "{path}?{query}");
        }
        let mut sent = headers(&[
            ("sec-websocket-key", "k"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-caller, openai-organization.o"),
        ]);
        sent.append("sec-websocket-protocol", HeaderValue::from_static("openai-beta.realtime-v1"));
        armed(LlmProvider::OpenAi, "sk-1").unwrap().keep_only_what_it_needs(&mut sent, |_| false);
        let kept = [
            ("sec-websocket-key", "k"),
            ("sec-websocket-version", "13"),
            ("user-agent", "idm"),
            ("sec-websocket-protocol", "realtime, openai-beta.realtime-v1"),
        ];
        assert_eq!(sent, headers(&kept));
    }

    #[test]
    fn a_body_is_held_only_where_it_may_change_or_its_size_counts() {
        let json = HeaderValue::from_static("application/json");
        let form = HeaderValue::from_static("Multipart/form-data; boundary=x");
        let body = |provider, method, path, kind, length| {
            armed(provider, "sk-1").unwrap().body_of(LlmCall {
                method,
                path,
                content_type: Some(kind),
                length,
                realtime: None,
            })
        };
        let chat = "/v1/chat/completions";
        for provider in [LlmProvider::OpenAi, LlmProvider::AzureOpenAi] {
            assert_eq!(body(provider, "POST", chat, &json, Some(9)), Body::Read);
            assert_eq!(body(provider, "GET", chat, &json, Some(0)), Body::Streams { bytes: 0 });
        }
        let (large, openai) = (Some(20 << 20), LlmProvider::OpenAi);
        let transcription = body(openai, "POST", "/v1/audio/transcriptions", &form, large);
        assert_eq!(transcription, Body::Streams { bytes: 20 << 20 });
        assert_eq!(body(openai, "POST", "/v1/files", &form, None), Body::Streams { bytes: 0 });
        assert_eq!(body(LlmProvider::Anthropic, "POST", "/v1/messages", &json, Some(9)), Body::Streams { bytes: 9 });
        assert_eq!(body(LlmProvider::Anthropic, "POST", "/v1/messages", &json, None), Body::Measured);
    }
}
