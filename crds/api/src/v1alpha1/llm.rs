use idm_types::RuleName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::KeyReference;

/// The upstream is a language model's API: callers come with their own credentials and use the provider's key without
/// ever seeing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Llm {
    /// The API that the upstream speaks: `OpenAI` (chat completions and responses, also of compatible servers),
    /// `AzureOpenAI` (the same with the header `api-key`), `Anthropic` (messages) or `Bedrock` (converse and invoke,
    /// with a bearer key).
    pub provider: LlmProvider,
    /// The Secret with the provider's key; the key is `apiKey` unless named.
    pub key_ref: KeyReference,
    /// The largest request, in bytes, that is read because it may have to be changed: a chat completion that asks for a
    /// stream, and requests that do not tell their length. All others pass as they come, whatever their size. Unset:
    /// 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 67108864))]
    pub max_request_bytes: Option<i64>,
    /// Limits of the tokens that each caller may use; all must allow. Tokens are counted from the provider's reports,
    /// streamed or not, by all gateway pods together where they share a store. Unset counts without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub quotas: Option<Vec<TokenQuota>>,
    /// Conditions on what is asked of the model. Every one must hold; a prompt that one does not permit, or that cannot
    /// be read, is refused (403 `PromptRefused`). Unset permits everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Option<Vec<PromptRule>>,
}

/// A condition on prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromptRule {
    /// Name of the rule in audit records and `idm explain`.
    pub name: RuleName,
    /// A CEL condition, for example `llm.model in ['small', 'medium'] && llm.maxTokens <= 4000`. Beside what rules of
    /// `authorization` may use it has `llm`: `model`, `maxTokens` and `stream` as the request has them, `tools` (the
    /// names of those that the model may call) and `text` (every text of the request, each on its line). A condition
    /// that cannot be decided does not hold.
    #[schemars(length(min = 1, max = 1024))]
    pub allow: String,
}

/// The API of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LlmProvider {
    /// Chat completions and responses.
    OpenAI,
    /// The same, with the header `api-key`.
    AzureOpenAI,
    /// Messages.
    Anthropic,
    /// Converse and invoke.
    Bedrock,
}

/// Tokens in a span of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenQuota {
    /// Prompt and completion tokens together. A call that begins below the limit is finished, and may end above it.
    #[schemars(range(min = 1, max = 1000000000000_i64))]
    pub tokens: i64,
    /// The span in seconds; spans follow each other without overlap.
    #[schemars(range(min = 1, max = 31536000))]
    pub per_seconds: i64,
}
