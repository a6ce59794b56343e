//! The most that a call to a language model may use, before it is made.

use idm_types::{Reason, Refusal};
use serde_json::Value;

use crate::refusal;

/// Bytes of text to a token at the least: English has about four, program text about three, and a character of a large
/// alphabet is three bytes and a token or two.
const BYTES_PER_TOKEN: u64 = 3;
/// A text without spaces that is longer than this is a picture or a file, which is charged by its contents.
const LONGEST_WORD: usize = 4096;
/// Tokens of a picture or a file.
const TOKENS_OF_FILE: u64 = 2048;
/// Members that say how many completion tokens a call takes at most, each where an API has it.
pub(crate) const MOST: &[&str] = &[
    "/max_completion_tokens",
    "/max_tokens",
    "/max_output_tokens",
    "/max_tokens_to_sample",
    "/max_gen_len",
    "/inferenceConfig/maxTokens",
    "/textGenerationConfig/maxTokenCount",
];
/// Members that say how many answers a call takes.
const ANSWERS: &[&str] = &["/n", "/best_of", "/candidate_count"];

/// The most that a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    prompt: u64,
    /// `None`: it does not say.
    completion: Option<u64>,
    answers: u64,
}

impl Reservation {
    /// Reads the body of a call. A body that two readers may read differently is refused: it could say one number here
    /// and another one at the provider.
    pub fn of(path: &str, body: &[u8]) -> Result<Self, Refusal> {
        let parsed = idm_jose::parse_strict(body).map_err(|error| {
            let why = format!("tokens are reserved for the call, and its body cannot be read for that: {error}");
            refusal("limit", Reason::MalformedRequest, why)
        })?;
        let number = |place: &&str| parsed.pointer(place).and_then(Value::as_u64);
        let completion = if path.ends_with("/embeddings") { Some(0) } else { MOST.iter().filter_map(number).max() };
        let answers = ANSWERS.iter().filter_map(number).max().unwrap_or(1).max(1);
        Ok(Self { prompt: tokens_of(&parsed), completion, answers })
    }

    /// The next answer of a realtime connection, of which nothing is known before it is made.
    pub fn of_next_answer() -> Self {
        Self { prompt: 0, completion: None, answers: 1 }
    }

    /// The tokens to reserve, where a call that does not say how many completion tokens it takes gets `default`.
    pub fn tokens(&self, default: u64) -> u64 {
        self.prompt.saturating_add(self.completion(default))
    }

    pub(crate) fn prompt(&self) -> u64 {
        self.prompt
    }

    pub(crate) fn completion(&self, default: u64) -> u64 {
        self.completion.unwrap_or(default).saturating_mul(self.answers)
    }
}

/// Tokens of all texts in a value.
fn tokens_of(value: &Value) -> u64 {
    match value {
        Value::String(text) if text.len() > LONGEST_WORD && !text.contains(char::is_whitespace) => TOKENS_OF_FILE,
        Value::String(text) => (text.len() as u64).div_ceil(BYTES_PER_TOKEN),
        Value::Array(items) => items.iter().fold(0, |sum: u64, item| sum.saturating_add(tokens_of(item))),
        // Each member costs some tokens beside its texts, where a provider writes it into the prompt.
        Value::Object(members) => {
            members.values().fold(members.len() as u64, |sum: u64, member| sum.saturating_add(tokens_of(member)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(path: &str, body: &str) -> Result<u64, Reason> {
        Reservation::of(path, body.as_bytes()).map(|of| of.tokens(1000)).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn r81_a_call_reserves_its_prompt_and_the_most_it_lets_the_model_answer() {
        let chat = |more: &str| {
            let body = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]{more}}}"#, "word ".repeat(60));
            tokens("/v1/chat/completions", &body)
        };
        let prompt = chat(r#","max_tokens":0"#).unwrap();
        assert!((100..120).contains(&prompt), "{prompt}");
        assert_eq!(chat(""), Ok(prompt - 2 + 1000));
        assert_eq!(chat(r#","max_tokens":7"#), Ok(prompt + 7));
        assert_eq!(chat(r#","max_tokens":7,"max_completion_tokens":9"#), Ok(prompt + 2 + 9), "the larger one");
        assert_eq!(chat(r#","max_tokens":7,"n":3"#), Ok(prompt + 2 + 21));
        assert_eq!(chat(r#","max_tokens":7,"max_tokens":1"#), Err(Reason::MalformedRequest));
        assert_eq!(tokens("/model/m/converse", r#"{"inferenceConfig":{"maxTokens":50}}"#), Ok(1 + 1 + 1 + 50));
        assert_eq!(tokens("/v1/embeddings", r#"{"input":"abc"}"#), Ok(2));
        let picture = format!(r#"{{"url":"data:{}","max_tokens":0}}"#, "A".repeat(1_000_000));
        assert_eq!(tokens("/v1/messages", &picture), Ok(2 + TOKENS_OF_FILE + 1));
    }
}
