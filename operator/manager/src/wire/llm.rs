//! Calls of language models, as they are shown: tokens, refusals, quotas.

use std::collections::BTreeMap;

use idm_types::Micros;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// The calls of language models in a span of time, counted from the records of the audit.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LanguageModels")]
pub(crate) struct LlmView {
    /// The beginning of the span.
    pub(crate) since: String,
    /// Its end; give both again with `after`, so that all pages are of one span.
    pub(crate) until: String,
    /// Counted from here on: later than `since` where there are more records than are counted.
    pub(crate) counted_from: String,
    /// Whether all records of the span are counted.
    pub(crate) complete: bool,
    /// The length of a step, in seconds.
    pub(crate) step_seconds: u64,
    /// The tokens of each step.
    pub(crate) steps: Vec<LlmStep>,
    /// All calls together.
    pub(crate) total: LlmTokens,
    /// The callers with their models, those with the most tokens first.
    pub(crate) callers: Vec<LlmCaller>,
    /// Behind them: give it as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// The number of callers and models.
    pub(crate) pairs: u64,
    /// Calls that were refused for their model, price or prompt, or for tokens or money that was used up, the most
    /// frequent first.
    pub(crate) refused: Vec<LlmRefused>,
    /// The use of the quotas in their spans of now, the fullest first; unset where the policies are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quotas: Option<Vec<LlmQuota>>,
}

/// Tokens of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmTokens {
    /// Calls that used tokens.
    pub(crate) calls: u64,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of answers.
    pub(crate) completion_tokens: u64,
    /// Calls whose tokens are estimated, because the provider told none.
    pub(crate) estimated_calls: u64,
    /// The cost in each currency, of the calls whose policies have prices.
    pub(crate) cost: LlmCosts,
}

/// Sums of money by currency, in millionths; written as a list of [`LlmCost`].
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct LlmCosts(#[schemars(with = "Vec<LlmCost>")] BTreeMap<String, Micros>);

impl LlmCosts {
    /// Adds an amount.
    pub(crate) fn add(&mut self, currency: &str, amount: Micros) {
        let sum = self.0.entry(currency.to_owned()).or_default();
        *sum = sum.saturating_add(amount);
    }
}

impl Serialize for LlmCosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let each = self.0.iter().map(|(currency, sum)| LlmCost { currency: currency.clone(), amount: sum.to_string() });
        serializer.collect_seq(each)
    }
}

/// An amount of money.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmCost {
    /// The code of the currency.
    pub(crate) currency: String,
    /// The amount as a decimal number, exact: `12.345`.
    pub(crate) amount: String,
}

/// The tokens of a step.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmStep {
    /// Its beginning.
    pub(crate) time: String,
    /// Tokens of prompts.
    pub(crate) prompt_tokens: u64,
    /// Tokens of answers.
    pub(crate) completion_tokens: u64,
}

/// A caller with a model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmCaller {
    /// The Credential, or the name of a caller who has none.
    pub(crate) who: String,
    /// Whether it is a Credential.
    pub(crate) is_credential: bool,
    /// The namespace.
    pub(crate) namespace: String,
    /// The model, as the provider names it; empty where it was not told.
    pub(crate) model: String,
    /// The tokens.
    #[serde(flatten)]
    pub(crate) tokens: LlmTokens,
    /// The tokens of each step, prompts and answers together.
    pub(crate) steps: Vec<u64>,
}

/// Calls that were refused for the same reason.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmRefused {
    /// The reason.
    pub(crate) reason: String,
    /// The policy.
    pub(crate) policy: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The rule about prompts, or the limit; empty where it was none with a name.
    pub(crate) rule: String,
    /// How often.
    pub(crate) count: u64,
    /// The time of the newest.
    pub(crate) last_time: String,
    /// The id of the newest.
    pub(crate) last_id: String,
}

/// A quota of a policy, and its use by a caller.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LlmQuota {
    /// The policy.
    pub(crate) policy: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The caller; empty where nobody called in the span of now.
    pub(crate) who: String,
    /// The tokens of a span.
    pub(crate) tokens: u64,
    /// Its length, in seconds.
    pub(crate) per_seconds: u64,
    /// The tokens that the records of the span of now have.
    pub(crate) used: u64,
    /// The end of the span of now.
    pub(crate) end_time: String,
    /// False where the span of now began before the records that are counted: then it may be more.
    pub(crate) complete: bool,
}
