use serde::{Deserialize, Serialize};

use crate::SecretHandle;

/// The upstream is a language model's API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    /// Whose API it speaks.
    pub provider: LlmProvider,
    /// The provider's key, which replaces the caller's credential.
    pub key: SecretHandle,
    /// What each caller may use.
    pub quotas: Vec<TokenQuota>,
}

/// Whose API it is, which says where the key goes and where usage is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LlmProvider {
    /// `Authorization: Bearer`; chat completions and responses.
    OpenAi,
    /// `x-api-key`; messages.
    Anthropic,
}

/// Tokens that one caller may use in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenQuota {
    /// Prompt and completion tokens together.
    pub tokens: u64,
    /// The span in seconds; spans follow each other without overlap.
    pub per_seconds: u64,
}
