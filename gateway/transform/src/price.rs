//! The cost of a call, by the prices of its model.

use idm_plan::{ModelPrice, PriceTable, UnknownModel};
use idm_types::{Currency, Micros, Reason, Refusal, visible};

use crate::{NamedModels, Reservation, Usage};

/// Tokens that a price is for.
const TOKENS: u128 = 1_000_000;
/// The characters of a model's name that a record has.
const MAX_NAME: usize = 128;

/// The prices of one call, each for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// The currency.
    pub currency: Currency,
    /// The position of the model in the table; `None`: it is not there, and costs nothing.
    pub entry: Option<usize>,
    prompt: Micros,
    cached_prompt: Micros,
    completion: Micros,
}

/// The cost of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The amount.
    pub amount: Micros,
    /// Its currency.
    pub currency: Currency,
    /// The position of the model in the table of prices.
    pub entry: Option<usize>,
}

impl Price {
    /// The price of a call for these models, where it has one: of several models the dearest.
    pub(crate) fn of(table: &PriceTable, models: &NamedModels) -> Result<Option<Self>, Refusal> {
        let refused = |why: String| match table.unknown {
            UnknownModel::Deny => Err(Refusal::new(Reason::ModelPriceUnknown, why)),
            UnknownModel::Free => Ok(Some(Self::free(table.currency))),
        };
        let models = match models {
            NamedModels::NoModel => return Ok(None),
            NamedModels::Named(models) if models.is_empty() => return refused("the call names no model".to_owned()),
            NamedModels::Named(models) => models,
            NamedModels::Unreadable(why) => return refused(format!("its model cannot be read: {why}")),
        };
        let mut all = Self::free(table.currency);
        for model in models {
            match table.price_of(model) {
                Some((entry, price)) => all = all.or_dearer(entry, price),
                None => {
                    // What the table takes for free adds nothing.
                    refused(format!("model `{}` has no price", shown(model)))?;
                }
            }
        }
        Ok(Some(all))
    }

    fn free(currency: Currency) -> Self {
        let nothing = Micros(0);
        Self { currency, entry: None, prompt: nothing, cached_prompt: nothing, completion: nothing }
    }

    fn or_dearer(self, entry: usize, price: &ModelPrice) -> Self {
        Self {
            currency: self.currency,
            entry: self.entry.or(Some(entry)),
            prompt: self.prompt.max(price.prompt),
            cached_prompt: self.cached_prompt.max(price.cached_prompt),
            completion: self.completion.max(price.completion),
        }
    }

    /// The cost of what a call used; a part of a millionth counts as one.
    pub fn cost(&self, usage: &Usage) -> Micros {
        let cached = usage.cached.min(usage.prompt);
        amount(&[
            (usage.prompt - cached, self.prompt),
            (cached, self.cached_prompt),
            (usage.completion, self.completion),
        ])
    }

    /// The most that a call costs, where one that does not say how many completion tokens it takes gets `default`.
    pub fn at_most(&self, reserved: &Reservation, default: u64) -> Micros {
        let prompt = self.prompt.max(self.cached_prompt);
        amount(&[(reserved.prompt(), prompt), (reserved.completion(default), self.completion)])
    }
}

fn amount(parts: &[(u64, Micros)]) -> Micros {
    let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(price.0)).sum();
    Micros(u64::try_from(sum.div_ceil(TOKENS)).unwrap_or(u64::MAX))
}

/// A model's name as a caller wrote it, fit for a record.
pub(crate) fn shown(model: &str) -> String {
    let short: String = model.chars().take(MAX_NAME).collect();
    visible(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use idm_plan::ModelPattern;

    use super::*;

    fn table(unknown: UnknownModel) -> PriceTable {
        let price = |model: &str, [prompt, cached, completion]: [&str; 3]| {
            let micros = |text: &str| Micros::parse(text).unwrap();
            ModelPrice {
                model: ModelPattern::parse(model).unwrap(),
                prompt: micros(prompt),
                cached_prompt: micros(cached),
                completion: micros(completion),
            }
        };
        let models = vec![price("small", ["0.15", "0.075", "0.60"]), price("large*", ["2.50", "1.25", "10"])];
        PriceTable { currency: Currency::parse("USD").unwrap(), unknown, models }
    }

    fn price(unknown: UnknownModel, models: &[&str]) -> Result<Option<Price>, Reason> {
        let models = NamedModels::Named(models.iter().map(|model| (*model).to_owned()).collect());
        Price::of(&table(unknown), &models).map_err(|refusal| refusal.reason)
    }

    fn used(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage { prompt, cached, completion, ..Usage::default() }
    }

    #[test]
    fn a_call_costs_exactly_what_its_tokens_cost() {
        let large = price(UnknownModel::Deny, &["LARGE-2026"]).unwrap().unwrap();
        assert_eq!((large.entry, large.currency.as_str()), (Some(1), "USD"));
        for (usage, micros) in [
            (used(1_000_000, 0, 0), 2_500_000),
            (used(1_000_000, 400_000, 100_000), 600_000 * 5 / 2 + 400_000 * 5 / 4 + 1_000_000),
            (used(1, 0, 0), 3),
            (used(0, 0, 0), 0),
            (used(1, 9, 0), 2),
            (used(u64::MAX, 0, u64::MAX), u64::MAX),
        ] {
            assert_eq!(large.cost(&usage), Micros(micros), "{usage:?}");
        }
    }

    #[test]
    fn a_model_without_a_price_is_refused_or_free_as_the_table_says() {
        let free = Price::free(Currency::parse("USD").unwrap());
        for models in [&["other"][..], &[], &["small", "other"]] {
            assert_eq!(price(UnknownModel::Deny, models), Err(Reason::ModelPriceUnknown), "{models:?}");
        }
        assert_eq!(price(UnknownModel::Free, &["other"]), Ok(Some(free)));
        assert_eq!(price(UnknownModel::Free, &[]), Ok(Some(free)));
        assert_eq!(Price::of(&table(UnknownModel::Deny), &NamedModels::NoModel).unwrap(), None);
        let unreadable = NamedModels::Unreadable("x".into());
        assert!(Price::of(&table(UnknownModel::Deny), &unreadable).is_err());
    }

    #[test]
    fn of_several_models_the_dearest_price_counts() {
        let both = price(UnknownModel::Free, &["small", "other", "large"]).unwrap().unwrap();
        assert_eq!((both.prompt, both.completion, both.entry), (Micros(2_500_000), Micros(10_000_000), Some(0)));
    }

    #[test]
    fn no_call_costs_more_than_it_reserves_as_long_as_it_uses_no_more_tokens() {
        let small = price(UnknownModel::Deny, &["small"]).unwrap().unwrap();
        let body = br#"{"model":"small","max_tokens":700,"n":2,"messages":[]}"#;
        let reserved = Reservation::of("/v1/chat/completions", body).unwrap();
        let most = small.at_most(&reserved, 1);
        for (prompt, cached, completion) in [(0, 0, 0), (3, 3, 1400), (reserved.prompt(), 0, 1400)] {
            assert!(small.cost(&used(prompt, cached, completion)) <= most);
        }
        assert_eq!(small.at_most(&reserved, 9), most, "it says how many it takes");
    }
}
