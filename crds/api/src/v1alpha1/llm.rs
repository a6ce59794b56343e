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
    /// Models that callers may use: names, or with a `*` at the end all whose names begin so, whatever the case of the
    /// letters. A call for another one is refused (403 `ModelNotAllowed`) before anything is sent, and so is one with a
    /// body that names no model. Unset means all. Lists of Credentials and UsagePlans (`access.models`) count beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        inner(length(min = 1, max = 256), regex(pattern = "^[!-)+-~]*[*]?$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub models: Option<Vec<String>>,
    /// Models that callers may not use, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64),
        inner(length(min = 1, max = 256), regex(pattern = "^[!-)+-~]*[*]?$")),
        extend("x-kubernetes-list-type" = "set"))]
    pub except_models: Option<Vec<String>>,
    /// The prices of models, by which usage becomes money: in records, in metrics, and for limits with `cost`. Unset
    /// means that calls have no cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<PriceTable>,
    /// Conditions on what is asked of the model. Every one must hold; a prompt that one does not permit, or that cannot
    /// be read, is refused (403 `PromptRefused`). Unset permits everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub rules: Option<Vec<PromptRule>>,
}

/// Prices of models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceTable {
    /// The currency of all prices: three capital letters, such as `USD`.
    #[schemars(length(min = 3, max = 3), regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// A call whose model has no price, or that names none: `Deny` refuses it (403 `ModelPriceUnknown`), `Free` lets it
    /// cost nothing. Unset means `Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_model: Option<UnknownModel>,
    /// The prices. Of those that cover a model a name counts before beginnings, and a longer beginning before a shorter
    /// one.
    #[schemars(length(min = 1, max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["model"]))]
    pub models: Vec<ModelPrice>,
}

/// A call whose model has no price, or that names none: `Deny` refuses it (403 `ModelPriceUnknown`), `Free` lets it
/// cost nothing. Unset means `Deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnknownModel {
    /// They are refused.
    Deny,
    /// They cost nothing.
    Free,
}

/// The prices of a model, each for a million tokens, as decimal numbers with at most six digits behind the point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelPrice {
    /// The name by which calls ask for it (of Azure the deployment), or a beginning and `*`.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[!-)+-~]*[*]?$"))]
    pub model: String,
    /// The price of tokens of a prompt, for example `'2.50'`.
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9]{1,9}([.][0-9]{1,6})?$"))]
    pub prompt: String,
    /// The price of those among them that the provider had in its cache. Unset means that of `prompt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9]{1,9}([.][0-9]{1,6})?$"))]
    pub cached_prompt: Option<String>,
    /// The price of tokens of an answer.
    #[schemars(length(min = 1, max = 16), regex(pattern = "^[0-9]{1,9}([.][0-9]{1,6})?$"))]
    pub completion: String,
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
