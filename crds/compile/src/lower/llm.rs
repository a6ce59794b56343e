//! The provider of a policy: its key, the models that callers may use, their prices, quotas and rules about prompts.

use idm_api::v1alpha1 as wire;
use idm_plan::{
    Limit, LimitKind, Llm, LlmProvider, ModelPrice, PriceTable, PromptRule, Secrets, TokenQuota, UnknownModel, Variable,
};
use idm_types::{Currency, Micros};

use super::Notes;
use super::keys::secret_text;
use super::policy::{CONDITION, expr};
use super::restrictions::{lower_model, lower_models};
use crate::{Cause, World};

/// The largest request to a language model that is read; prompts with pictures are large.
const DEFAULT_MODEL_REQUEST: i64 = 16 << 20;

/// The provider of a policy with these limits; what cannot be lowered is a finding, and the policy is not in force.
pub(crate) fn lower_policy_llm(
    world: &World,
    llm: Option<&wire::Llm>,
    limits: &[Limit],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Llm> {
    check_costs(limits, llm, notes);
    lower_llm(world, llm?, secrets, notes)
}

fn lower_llm(world: &World, llm: &wire::Llm, secrets: &mut Secrets, notes: &mut Notes<'_>) -> Option<Llm> {
    let wire::Llm { provider, max_request_bytes, key_ref, quotas, models, except_models, prices, rules } = llm;
    let (key, text) = secret_text(world, "spec.llm.keyRef", key_ref, "apiKey", secrets, notes)?;
    if text.trim().is_empty() || !text.trim().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return notes.fail(
            "spec.llm.keyRef",
            Cause::InvalidRef,
            format!("Secret '{}' must hold the provider's key: printable, without spaces", key_ref.name),
        );
    }
    let provider = match provider {
        wire::LlmProvider::OpenAI => LlmProvider::OpenAi,
        wire::LlmProvider::AzureOpenAI => LlmProvider::AzureOpenAi,
        wire::LlmProvider::Anthropic => LlmProvider::Anthropic,
        wire::LlmProvider::Bedrock => LlmProvider::Bedrock,
    };
    let Ok(max_request_bytes) = usize::try_from(max_request_bytes.unwrap_or(DEFAULT_MODEL_REQUEST)) else {
        return notes.fail("spec.llm.maxRequestBytes", Cause::Invalid, "it must be at least 1024");
    };
    let quotas = lower_quotas(quotas.as_deref(), notes)?;
    let models = lower_models("spec.llm", models.as_deref(), except_models.as_deref(), notes);
    let prices = match prices {
        Some(prices) => Some(lower_prices(prices, notes)?),
        None => None,
    };
    let rules = lower_rules(rules.as_deref(), notes)?;
    Some(Llm { provider, max_request_bytes, key, quotas, models, prices, rules })
}

fn lower_quotas(quotas: Option<&[wire::TokenQuota]>, notes: &mut Notes<'_>) -> Option<Vec<TokenQuota>> {
    let mut lowered = Vec::new();
    for (i, wire::TokenQuota { tokens, per_seconds }) in quotas.iter().copied().flatten().enumerate() {
        match (u64::try_from(*tokens), u64::try_from(*per_seconds)) {
            (Ok(tokens @ 1..), Ok(per_seconds @ 1..)) => lowered.push(TokenQuota { tokens, per_seconds }),
            _ => {
                return notes.fail(
                    format!("spec.llm.quotas[{i}]"),
                    Cause::Invalid,
                    "`tokens` and `perSeconds` must be greater than 0",
                );
            }
        }
    }
    Some(lowered)
}

fn lower_rules(rules: Option<&[wire::PromptRule]>, notes: &mut Notes<'_>) -> Option<Vec<PromptRule>> {
    let variables: Vec<Variable> = CONDITION.iter().copied().chain([Variable::Llm]).collect();
    let mut lowered: Vec<PromptRule> = Vec::new();
    for (i, wire::PromptRule { name, allow }) in rules.iter().copied().flatten().enumerate() {
        if lowered.iter().any(|known| known.name == *name) {
            let message = format!("rule '{name}' must be listed once");
            return notes.fail(format!("spec.llm.rules[{i}].name"), Cause::Invalid, message);
        }
        let allow = expr(&format!("spec.llm.rules[{i}].allow"), allow, &variables, notes)?;
        lowered.push(PromptRule { name: name.clone(), allow });
    }
    Some(lowered)
}

fn lower_prices(prices: &wire::PriceTable, notes: &mut Notes<'_>) -> Option<PriceTable> {
    let wire::PriceTable { currency, unknown_model, models } = prices;
    let currency = lower_currency("spec.llm.prices.currency", currency, notes)?;
    let unknown = match unknown_model {
        None | Some(wire::UnknownModel::Deny) => UnknownModel::Deny,
        Some(wire::UnknownModel::Free) => UnknownModel::Free,
    };
    if models.is_empty() {
        let message = "at least one model must be given; leave `prices` out where nothing has a price";
        return notes.fail("spec.llm.prices.models", Cause::Invalid, message);
    }
    let mut lowered: Vec<ModelPrice> = Vec::new();
    for (i, wire::ModelPrice { model, prompt, cached_prompt, completion }) in models.iter().enumerate() {
        let path = format!("spec.llm.prices.models[{i}]");
        let model = lower_model(&format!("{path}.model"), model, notes)?;
        if lowered.iter().any(|known| known.model.is_same(&model)) {
            let message = format!("model '{model}' must be listed once, whatever the case of its letters");
            return notes.fail(format!("{path}.model"), Cause::Invalid, message);
        }
        let prompt = lower_amount(&format!("{path}.prompt"), prompt, notes)?;
        let cached_prompt = match cached_prompt {
            Some(cached) => lower_amount(&format!("{path}.cachedPrompt"), cached, notes)?,
            None => prompt,
        };
        let completion = lower_amount(&format!("{path}.completion"), completion, notes)?;
        lowered.push(ModelPrice { model, prompt, cached_prompt, completion });
    }
    Some(PriceTable { currency, unknown, models: lowered })
}

/// An amount of money, exact.
pub(crate) fn lower_amount(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<Micros> {
    match Micros::parse(text) {
        Some(amount) => Some(amount),
        None => {
            let message = format!(
                "'{text}' must be a decimal number such as '2.50': at most nine digits, and six behind the point"
            );
            notes.fail(path, Cause::Invalid, message)
        }
    }
}

/// The code of a currency.
pub(crate) fn lower_currency(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<Currency> {
    match Currency::parse(text) {
        Some(currency) => Some(currency),
        None => notes.fail(path, Cause::Invalid, format!("'{text}' must be three capital letters, such as 'USD'")),
    }
}

/// A budget in money counts by the prices of the policy that has it.
fn check_costs(limits: &[Limit], llm: Option<&wire::Llm>, notes: &mut Notes<'_>) {
    let prices = llm.and_then(|llm| llm.prices.as_ref());
    for (i, limit) in limits.iter().enumerate() {
        let LimitKind::Cost { currency, .. } = limit.kind else { continue };
        let path = format!("spec.limits[{i}].cost");
        match prices {
            None => {
                let message = "`cost` must be set only with `llm.prices`: nothing else says what a call costs";
                notes.fail::<()>(path, Cause::Invalid, message);
            }
            Some(prices) if prices.currency != currency.as_str() => {
                let message = format!(
                    "the currency must be that of `llm.prices`, '{}': nothing converts one into another",
                    prices.currency
                );
                notes.fail::<()>(format!("{path}.currency"), Cause::Invalid, message);
            }
            Some(_) => {}
        }
    }
}
