use idm_types::RuleName;
use serde::{Deserialize, Serialize};

use crate::{Expr, ModelList, PriceTable, SecretHandle};

/// The upstream is a language model's API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llm {
    /// The provider whose API it speaks.
    pub provider: LlmProvider,
    /// The largest request body, in bytes, of which a part must be read.
    pub max_request_bytes: usize,
    /// The provider's key, which replaces the caller's credential.
    pub key: SecretHandle,
    /// The quotas of each caller.
    pub quotas: Vec<TokenQuota>,
    /// The models that callers may use.
    #[serde(default, skip_serializing_if = "ModelList::is_open")]
    pub models: ModelList,
    /// The prices of models; `None`: calls cost nothing that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<PriceTable>,
    /// The rules about prompts. Every one must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PromptRule>,
}

impl Llm {
    /// Whether it decides by what the body of a call says.
    pub fn reads_bodies(&self) -> bool {
        !self.rules.is_empty() || !self.models.is_open() || self.prices.is_some()
    }
}

/// A condition that every prompt must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptRule {
    /// The name in audit records and in `explain`.
    pub name: RuleName,
    /// The condition.
    pub allow: Expr,
}

/// The provider of the API. It determines the header of the key and the place where usage is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LlmProvider {
    /// `Authorization: Bearer`; chat completions and responses.
    OpenAi,
    /// `api-key`; chat completions and responses.
    AzureOpenAi,
    /// `x-api-key`; messages.
    Anthropic,
    /// `Authorization: Bearer`; converse and invoke.
    Bedrock,
}

/// Tokens that one caller may use in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenQuota {
    /// Prompt and completion tokens together.
    pub tokens: u64,
    /// The period in seconds; periods follow each other without overlap.
    pub per_seconds: u64,
}
