//! Reads the usage that a language model's response reports, while the response is forwarded.
//!
//! The response is not kept: a JSON reader follows its members to the numbers, with a fixed amount of memory, and looks
//! at each byte once.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::price::{Cost, Price};

/// Below this depth the reader does not distinguish objects from lists.
const MAX_DEPTH: usize = 127;
/// The bytes that are kept of one text: enough for the name of a member, a number, or the name of a model.
const MAX_TEXT: usize = 128;
/// Bytes per token for estimates: English has about four letters to a token.
const BYTES_PER_TOKEN: u64 = 4;

/// The tokens that one call used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model, as the provider names it.
    pub model: Option<String>,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Those among them that the provider had in its cache.
    pub cached: u64,
    /// Tokens of the response.
    pub completion: u64,
    /// The provider did not report all numbers; the missing ones were estimated from the bytes that were forwarded.
    pub estimated: bool,
    /// The cost; `None` where the call has no price.
    pub cost: Option<Cost>,
}

impl Usage {
    /// With its cost, where the call has a price.
    pub fn priced(mut self, price: Option<Price>) -> Self {
        let cost = |price: Price| Cost { amount: price.cost(&self), currency: price.currency, entry: price.entry };
        self.cost = price.map(cost);
        self
    }

    /// Tokens of the prompt and of the response.
    pub fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// Adds the use of a further part of the same call.
    pub fn add(&mut self, more: &Self) {
        self.model = more.model.clone().or_else(|| self.model.take());
        self.prompt = self.prompt.saturating_add(more.prompt);
        self.cached = self.cached.saturating_add(more.cached);
        self.completion = self.completion.saturating_add(more.completion);
        self.estimated |= more.estimated;
        self.cost = match (self.cost, more.cost) {
            (Some(sum), Some(more)) => Some(Cost { amount: sum.amount.saturating_add(more.amount), ..sum }),
            (sum, more) => sum.or(more),
        };
    }

    /// The cost in millionths of the currency's unit; 0 where there is none.
    pub fn micros(&self) -> u64 {
        self.cost.map_or(0, |cost| cost.amount.0)
    }

    /// The estimated usage of a call that was sent and got no response.
    pub fn of_prompt(call: Call) -> Self {
        if !call.estimates {
            return Self::default();
        }
        Self { prompt: call.request_bytes.div_ceil(BYTES_PER_TOKEN), estimated: true, ..Self::default() }
    }
}

/// The call whose response is read.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The bytes of its body.
    pub request_bytes: u64,
    /// Whether tokens that the response does not tell are estimated.
    pub estimates: bool,
}

/// Reads the usage from a response while it is forwarded.
pub struct Meter {
    streamed: bool,
    succeeded: bool,
    call: Call,
    seen: u64,
    line: Line,
    reader: Reader,
    told: Told,
}

/// The position of the next byte in a line of an event stream.
#[derive(Clone, Copy)]
enum Line {
    /// The line so far is this many bytes of `data:`.
    Start(usize),
    Data,
    Other,
}

impl Meter {
    /// A meter for a response with this status and these headers.
    pub fn new(status: u16, headers: &HeaderMap, call: Call) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            streamed: kind.to_ascii_lowercase().starts_with("text/event-stream"),
            succeeded: (200..300).contains(&status),
            call,
            seen: 0,
            line: Line::Start(0),
            reader: Reader::default(),
            told: Told::of_headers(headers),
        }
    }

    /// Whether the response is a stream of events.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Reads a part of the response.
    pub fn see(&mut self, part: &[u8]) {
        const DATA: &[u8] = b"data:";
        self.seen += part.len() as u64;
        for &byte in part {
            if !self.streamed {
                self.reader.see(byte, &mut self.told);
                continue;
            }
            self.line = match (self.line, byte) {
                (_, b'\n' | b'\r') => {
                    self.reader.restart();
                    self.told.event_has_text = false;
                    Line::Start(0)
                }
                (Line::Start(at), byte) if DATA.get(at) == Some(&byte) => {
                    if at + 1 == DATA.len() {
                        Line::Data
                    } else {
                        Line::Start(at + 1)
                    }
                }
                (Line::Start(_) | Line::Other, _) => Line::Other,
                (Line::Data, byte) => {
                    self.reader.see(byte, &mut self.told);
                    Line::Data
                }
            };
        }
    }

    /// The usage of the call, once the response has ended or the caller has disconnected.
    pub fn usage(self) -> Usage {
        let Told {
            model,
            prompt,
            cached,
            cached_within,
            completion,
            so_far,
            is_final,
            texts,
            text_bytes,
            event_has_text: _,
            has_delta: _,
        } = self.told;
        let [_, read] = cached;
        let of_cache = cached_within.unwrap_or(0).saturating_add(read);
        let cached = cached.iter().fold(0_u64, |sum, tokens| sum.saturating_add(*tokens));
        let prompt = prompt.map(|prompt| prompt.saturating_add(cached)).or((cached > 0).then_some(cached));
        let tells_nothing = prompt.is_none() && completion.or(so_far).is_none();
        if !self.succeeded || tells_nothing && !self.call.estimates {
            let completion = completion.or(so_far).unwrap_or(0);
            let prompt = prompt.unwrap_or(0);
            return Usage { model, prompt, cached: of_cache.min(prompt), completion, estimated: false, cost: None };
        }
        // Usage that was not reported is estimated, so that a caller that hides it, or disconnects before it is
        // reported, is charged too. In a stream only the text counts, and each event with text is one token at least.
        let of_text = text_bytes.div_ceil(BYTES_PER_TOKEN).max(texts);
        let estimate = if self.streamed && texts > 0 { of_text } else { self.seen.div_ceil(BYTES_PER_TOKEN) };
        let estimated = prompt.is_none() || !is_final;
        let prompt = prompt.unwrap_or_else(|| self.call.request_bytes.div_ceil(BYTES_PER_TOKEN));
        Usage {
            model,
            prompt,
            cached: of_cache.min(prompt),
            completion: match (completion, is_final) {
                (Some(told), _) => told,
                // Embeddings report no completion tokens.
                (None, true) => so_far.unwrap_or(0),
                (None, false) => so_far.unwrap_or(0).max(estimate),
            },
            estimated,
            cost: None,
        }
    }
}

/// The usage that the response has reported so far.
#[derive(Default)]
pub(crate) struct Told {
    model: Option<String>,
    prompt: Option<u64>,
    /// Tokens of the prompt that were written to the provider's cache, or read from it, where `prompt` does not count
    /// them.
    cached: [u64; 2],
    /// Tokens of the cache that `prompt` counts.
    cached_within: Option<u64>,
    completion: Option<u64>,
    /// The number that Anthropic's first event reports for a response that has only begun.
    so_far: Option<u64>,
    /// The usage of the whole response was reported.
    is_final: bool,
    /// The number of events that have a text, and the bytes of all texts.
    texts: u64,
    text_bytes: u64,
    event_has_text: bool,
    /// The event has a piece of an answer.
    has_delta: bool,
}

impl Told {
    /// The model, as far as it was told.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the event has a piece of an answer.
    pub(crate) fn has_delta(&self) -> bool {
        self.has_delta
    }

    /// The usage of one event, where it tells one.
    pub(crate) fn told_usage(&self) -> Option<Usage> {
        if self.prompt.is_none() && self.completion.is_none() {
            return None;
        }
        let (prompt, completion) = (self.prompt.unwrap_or(0), self.completion.unwrap_or(0));
        let cached = self.cached_within.unwrap_or(0).min(prompt);
        Some(Usage { prompt, cached, completion, ..Usage::default() })
    }

    /// The usage that headers tell, as Bedrock's answers to `invoke` do.
    fn of_headers(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
        let prompt = number("x-amzn-bedrock-input-token-count");
        let completion = number("x-amzn-bedrock-output-token-count");
        Self { prompt, completion, is_final: completion.is_some(), ..Self::default() }
    }
}

/// The members that matter for the usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    Model,
    Usage,
    /// Anthropic's first event has its usage under `message`.
    Message,
    /// The last event of OpenAI's responses has it under `response`.
    Response,
    /// The first event of a realtime connection has its model here.
    Session,
    /// A piece of an answer.
    Delta,
    Prompt,
    CacheWrite,
    CacheRead,
    /// OpenAI says here which tokens of the prompt are of its cache.
    PromptDetails,
    CachedWithin,
    Completion,
    /// A member that describes the answer, and is not part of it.
    About,
    #[default]
    Other,
}

impl Name {
    fn of(text: &[u8]) -> Self {
        match text {
            b"model" => Name::Model,
            b"usage" => Name::Usage,
            b"message" => Name::Message,
            b"response" => Name::Response,
            b"session" => Name::Session,
            b"delta" => Name::Delta,
            b"prompt_tokens" | b"input_tokens" | b"inputTokens" => Name::Prompt,
            b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => Name::CacheWrite,
            b"cache_read_input_tokens" | b"cacheReadInputTokens" => Name::CacheRead,
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => Name::PromptDetails,
            b"cached_tokens" => Name::CachedWithin,
            b"completion_tokens" | b"output_tokens" | b"outputTokens" => Name::Completion,
            b"id"
            | b"item_id"
            | b"call_id"
            | b"object"
            | b"type"
            | b"role"
            | b"status"
            | b"system_fingerprint"
            | b"service_tier"
            | b"finish_reason"
            | b"stop_reason"
            | b"obfuscation" => Name::About,
            _ => Name::Other,
        }
    }
}

/// The position of the next byte in a JSON text.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    Text,
    Escape,
    /// A number, or a literal.
    Plain,
}

/// Reads a JSON text byte by byte. Text that is not JSON reports no usage.
#[derive(Default)]
pub(crate) struct Reader {
    at: At,
    depth: usize,
    /// Bit n is set when the value at depth n is an object.
    objects: u128,
    /// The member that the value at each depth belongs to, for the depths where usage is reported.
    path: [Name; 4],
    /// The member before the next value.
    name: Name,
    wants_name: bool,
    kept: Vec<u8>,
    length: u64,
}

impl Reader {
    pub(crate) fn see(&mut self, byte: u8, told: &mut Told) {
        match (self.at, byte) {
            (At::Text, b'"') => {
                self.at = At::Between;
                self.text(told);
            }
            (At::Text, b'\\') => {
                self.at = At::Escape;
                self.keep(byte);
            }
            (At::Text, _) => self.keep(byte),
            (At::Escape, _) => {
                self.at = At::Text;
                self.keep(byte);
            }
            (At::Plain, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-') => self.keep(byte),
            (At::Plain, _) => {
                self.at = At::Between;
                self.number(told);
                self.between(byte);
            }
            (At::Between, _) => self.between(byte),
        }
    }

    /// Begins a new text and keeps the memory.
    pub(crate) fn restart(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        *self = Self { kept, ..Self::default() };
    }

    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.capacity()
    }

    fn keep(&mut self, byte: u8) {
        self.length += 1;
        if self.kept.len() < MAX_TEXT {
            self.kept.push(byte);
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                // A list breaks the path: what is inside belongs to none of its members.
                let name = if self.depth == 0 || self.in_object() { self.name } else { Name::Other };
                if let Some(place) = self.path.get_mut(self.depth) {
                    *place = name;
                }
                self.depth = self.depth.saturating_add(1);
                let bit = 1 << self.depth.min(MAX_DEPTH);
                self.objects = if byte == b'{' { self.objects | bit } else { self.objects & !bit };
                self.wants_name = byte == b'{';
                self.name = Name::Other;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.wants_name = false;
                self.name = Name::Other;
            }
            b',' => {
                self.wants_name = self.in_object();
                self.name = Name::Other;
            }
            b':' => self.wants_name = false,
            b'"' => self.begin(At::Text),
            b' ' | b'\t' | b'\n' | b'\r' => {}
            first => {
                self.begin(At::Plain);
                self.keep(first);
            }
        }
    }

    fn begin(&mut self, at: At) {
        self.at = at;
        self.kept.clear();
        self.length = 0;
    }

    fn in_object(&self) -> bool {
        self.objects >> self.depth.min(MAX_DEPTH) & 1 == 1
    }

    fn text(&mut self, told: &mut Told) {
        if self.wants_name {
            let whole = self.length == self.kept.len() as u64;
            self.name = if whole { Name::of(&self.kept) } else { Name::Other };
            self.wants_name = false;
            return;
        }
        match self.name {
            Name::Model if matches!(self.above(), Some([] | [Name::Message | Name::Response | Name::Session])) => {
                let text = String::from_utf8_lossy(&self.kept);
                told.model = Some(text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect());
            }
            Name::Model | Name::About => {}
            _ if self.length > 0 => {
                told.has_delta |= self.name == Name::Delta && matches!(self.above(), Some([]));
                told.text_bytes = told.text_bytes.saturating_add(self.length);
                told.texts += u64::from(!std::mem::replace(&mut told.event_has_text, true));
            }
            _ => {}
        }
    }

    /// The members above the one that is read; `None` where it is deeper than any reported usage.
    fn above(&self) -> Option<&[Name]> {
        self.path.get(1..self.depth)
    }

    fn number(&mut self, told: &mut Told) {
        let text = std::str::from_utf8(&self.kept).ok().filter(|text| text.len() as u64 == self.length);
        let Some(number) = text.and_then(|text| text.parse::<u64>().ok()) else { return };
        if self.name == Name::CachedWithin {
            let is_usage = |above: &[Name]| matches!(above, [Name::Usage] | [Name::Response, Name::Usage]);
            let of_prompt = self.above().and_then(<[Name]>::split_last);
            if of_prompt.is_some_and(|(last, above)| *last == Name::PromptDetails && is_usage(above)) {
                told.cached_within = told.cached_within.max(Some(number));
            }
            return;
        }
        let begun = match self.above() {
            Some([Name::Usage] | [Name::Response, Name::Usage]) => false,
            Some([Name::Message, Name::Usage]) => true,
            _ => return,
        };
        let place = match self.name {
            Name::CacheWrite | Name::CacheRead => {
                let [write, read] = &mut told.cached;
                let place = if self.name == Name::CacheWrite { write } else { read };
                *place = (*place).max(number);
                return;
            }
            Name::Prompt => &mut told.prompt,
            Name::Completion if begun => &mut told.so_far,
            Name::Completion => &mut told.completion,
            _ => return,
        };
        told.is_final |= !begun;
        // Later events repeat or raise the numbers of earlier ones.
        *place = (*place).max(Some(number));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const CALL: Call = Call { request_bytes: 40, estimates: true };

    fn usage(kind: &str, parts: &[&str]) -> Usage {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        let mut meter = Meter::new(200, &headers, CALL);
        parts.iter().for_each(|part| meter.see(part.as_bytes()));
        meter.usage()
    }

    fn told(model: &str, prompt: u64, completion: u64) -> Usage {
        Usage { model: Some(model.into()), prompt, completion, ..Usage::default() }
    }

    const BEGUN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"c\",\
                         \"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n";

    fn delta(text: &str) -> String {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        )
    }

    #[test]
    fn usage_is_found_in_every_form_it_is_told() {
        let chat = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":3,\"compl";
        assert_eq!(usage("application/json", &[chat, "etion_tokens\":4}}"]), told("m", 3, 4));
        let messages = "{\"model\":\"m\",\"usage\" : {\"input_tokens\":3, \"output_tokens\": 4 }}";
        assert_eq!(usage("application/json", &[messages]), told("m", 3, 4));
        let chat = [
            "data: {\"model\":\"m\",\"usage\":null}\n\n",
            "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_to",
            "kens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
        ];
        assert_eq!(usage("text/event-stream", &chat), told("m", 3, 4));
        let end = "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\r\n\r\n";
        assert_eq!(usage("text/event-stream; charset=utf-8", &[BEGUN, end]), told("c", 9, 15));
        let embeddings = "{\"data\":[{\"embedding\":[0.1,-2e-3]}],\"model\":\"e\",\"usage\":{\"prompt_tokens\":8,\
                          \"total_tokens\":8}}";
        assert_eq!(usage("application/json", &[embeddings]), told("e", 8, 0));
        let responses = "data: {\"type\":\"response.completed\",\"response\":{\"model\":\"r\",\
                         \"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n";
        assert_eq!(usage("text/event-stream", &[responses]), told("r", 5, 6));
    }

    #[test]
    fn tokens_of_the_providers_cache_are_tokens_of_the_prompt() {
        let parts = "\"input_tokens\":4,\"cache_creation_input_tokens\":1000,\"cache_read_input_tokens\":20000,\
                     \"cache_creation\":{\"ephemeral_5m_input_tokens\":1000}";
        let whole = format!("{{\"model\":\"c\",\"usage\":{{{parts},\"output_tokens\":7}}}}");
        assert_eq!(usage("application/json", &[&whole]), Usage { cached: 20_000, ..told("c", 21_004, 7) });
        let begun = format!(
            "data: {{\"message\":{{\"model\":\"c\",\"usage\":{{{parts},\"output_tokens\":1}}}}}}\n\n\
             data: {{\"usage\":{{\"output_tokens\":7}}}}\n\n"
        );
        assert_eq!(usage("text/event-stream", &[&begun]), Usage { cached: 20_000, ..told("c", 21_004, 7) });
        let converse =
            "{\"usage\":{\"inputTokens\":3,\"cacheReadInputTokens\":5,\"outputTokens\":4,\"totalTokens\":12}}";
        assert_eq!(
            usage("application/json", &[converse]),
            Usage { prompt: 8, cached: 5, completion: 4, ..Usage::default() }
        );
        // OpenAI counts them in its own number.
        let openai = "{\"model\":\"m\",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\
                      \"prompt_tokens_details\":{\"cached_tokens\":8}}}";
        assert_eq!(usage("application/json", &[openai]), Usage { cached: 8, ..told("m", 9, 1) });
        let responses = "data: {\"response\":{\"model\":\"r\",\"usage\":{\"input_tokens\":9,\"input_tokens_details\":\
                         {\"cached_tokens\":7},\"output_tokens\":1}}}\n\n";
        assert_eq!(usage("text/event-stream", &[responses]), Usage { cached: 7, ..told("r", 9, 1) });
        // Nothing that the model says is a number of the provider's, and no part is more than the whole.
        let elsewhere = "{\"model\":\"m\",\"prompt_tokens_details\":{\"cached_tokens\":8},\
                         \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"cached_tokens\":5}}";
        assert_eq!(usage("application/json", &[elsewhere]), told("m", 9, 1));
        let too_much = openai.replace("\"cached_tokens\":8", "\"cached_tokens\":80");
        assert_eq!(usage("application/json", &[&too_much]), Usage { cached: 9, ..told("m", 9, 1) });
    }

    #[test]
    fn what_uses_no_tokens_costs_none_unless_the_answer_tells_some() {
        let read = |headers: &HeaderMap, body: &str| {
            let mut meter = Meter::new(200, headers, Call { request_bytes: 4000, estimates: false });
            meter.see(body.as_bytes());
            meter.usage()
        };
        assert_eq!(read(&HeaderMap::new(), "{\"data\":[{\"id\":\"m\"}]}"), Usage::default());
        let told = read(&HeaderMap::new(), "{\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}");
        assert_eq!((told.prompt, told.completion, told.estimated), (5, 2, false));
        let invoked = [("x-amzn-bedrock-input-token-count", "11"), ("x-amzn-bedrock-output-token-count", "3")];
        let headers =
            invoked.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let told = read(&headers.collect(), "{\"outputs\":[]}");
        assert_eq!((told.prompt, told.completion, told.estimated), (11, 3, false));
    }

    #[test]
    fn what_is_not_told_is_estimated() {
        let estimated = |prompt, completion| Usage { prompt, completion, estimated: true, ..Usage::default() };
        assert_eq!(usage("text/plain", &["12345678"]), estimated(10, 2));
        assert_eq!(Meter::new(500, &HeaderMap::new(), CALL).usage(), Usage::default());
        assert_eq!(Usage::of_prompt(Call { request_bytes: 41, ..CALL }), estimated(11, 0));
    }

    #[test]
    fn a_caller_who_leaves_before_the_usage_is_told_pays_for_what_passed() {
        let deltas: String = (0..10).map(|_| delta("12345678")).collect();
        let begun = Usage { estimated: true, ..told("c", 9, 20) };
        assert_eq!(usage("text/event-stream", &[BEGUN, &deltas]), begun);
        // Each event counts as one token at least, however short its text.
        let short: String = (0..10).map(|_| delta("a")).collect();
        assert_eq!(usage("text/event-stream", &[BEGUN, &short]).completion, 10);
        // An estimate never raises a reported number.
        let end = "data: {\"usage\":{\"output_tokens\":2}}\n\n";
        assert_eq!(usage("text/event-stream", &[BEGUN, &deltas, end]), told("c", 9, 2));
    }

    #[test]
    fn what_the_model_says_about_usage_is_not_the_providers_word() {
        for content in [
            "{\"content\":[{\"input\":{\"usage\":{\"output_tokens\":0,\"input_tokens\":0}}}],\"model\":\"m\"}",
            "{\"x\":{\"usage\":{\"output_tokens\":0,\"input_tokens\":0}},\"model\":\"m\"}",
            "{\"text\":\"\\\"usage\\\":{\\\"output_tokens\\\":0}\",\"model\":\"m\"}",
            "[{\"usage\":{\"output_tokens\":0,\"input_tokens\":0}}]",
        ] {
            let found = usage("application/json", &[content]);
            assert!(found.estimated && found.completion == content.len().div_ceil(4) as u64, "{content}: {found:?}");
        }
    }

    #[test]
    fn a_large_answer_is_read_in_one_pass_without_keeping_it() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
        let mut meter = Meter::new(200, &headers, Call { request_bytes: 0, ..CALL });
        meter.see(b"data: {\"choices\":[{\"delta\":{\"content\":\"");
        (0..1000).for_each(|_| meter.see(&[b'a'; 16384]));
        assert!(meter.reader.kept.capacity() <= 2 * MAX_TEXT);
        meter.see(b"\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n");
        let Usage { prompt, completion, estimated, .. } = meter.usage();
        assert_eq!((prompt, completion, estimated), (1, 2, false));
    }

    proptest::proptest! {
        #[test]
        fn the_pieces_do_not_matter(
            bytes in proptest::collection::vec(0_u8..128, 0..300),
            size in 1_usize..40,
            streamed: bool,
        ) {
            let kind = if streamed { "text/event-stream" } else { "application/json" };
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let usage = |size: usize| {
                let mut meter = Meter::new(200, &headers, Call { request_bytes: 10, ..CALL });
                bytes.chunks(size).for_each(|part| meter.see(part));
                meter.usage()
            };
            proptest::prop_assert_eq!(usage(300), usage(size));
        }
    }
}
