//! Names of language models: who may use which, and what they cost.

use idm_types::{Currency, Micros};
use serde::{Deserialize, Serialize};

/// A model by its name, or with a `*` at the end all models whose names begin so. Names are compared without regard to
/// the case of ASCII letters, because some providers do not distinguish it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelPattern {
    text: String,
    is_prefix: bool,
}

impl ModelPattern {
    /// The longest pattern, in bytes.
    pub const MAX: usize = 256;

    /// Reads a pattern: printable ASCII without spaces, and a `*` nowhere but at the end.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix('*').unwrap_or(text);
        let is_name = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
        let fits = (1..=Self::MAX).contains(&text.len());
        (is_name && fits).then(|| Self { text: name.to_owned(), is_prefix: name.len() < text.len() })
    }

    /// Whether it stands for this model.
    pub fn covers(&self, model: &str) -> bool {
        let (text, model) = (self.text.as_bytes(), model.as_bytes());
        match model.get(..text.len()) {
            Some(begin) if self.is_prefix => begin.eq_ignore_ascii_case(text),
            _ => model.eq_ignore_ascii_case(text),
        }
    }

    /// Whether it stands for all models whose names begin so.
    pub fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// Whether another pattern stands for the same models.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_prefix == other.is_prefix && self.text.eq_ignore_ascii_case(&other.text)
    }

    /// Its precedence among those that cover a model: a name before beginnings, and a longer beginning before a
    /// shorter one.
    fn precedence(&self) -> (bool, usize) {
        (!self.is_prefix, self.text.len())
    }
}

impl TryFrom<String> for ModelPattern {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a model's name")
    }
}

impl From<ModelPattern> for String {
    fn from(pattern: ModelPattern) -> String {
        pattern.to_string()
    }
}

impl std::fmt::Display for ModelPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

/// The models that may be used. One that is in both lists may not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelList {
    /// These; empty: all.
    pub only: Vec<ModelPattern>,
    /// Not these.
    pub except: Vec<ModelPattern>,
}

impl ModelList {
    /// Whether every model may be used.
    pub fn is_open(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    /// Whether this model may be used.
    pub fn allows(&self, model: &str) -> bool {
        let has = |list: &[ModelPattern]| list.iter().any(|pattern| pattern.covers(model));
        (self.only.is_empty() || has(&self.only)) && !has(&self.except)
    }
}

/// The prices of a provider's models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// The currency of all of them.
    pub currency: Currency,
    /// The treatment of calls whose model has no price.
    pub unknown: UnknownModel,
    /// The prices.
    pub models: Vec<ModelPrice>,
}

/// The treatment of calls whose model has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnknownModel {
    /// They are refused.
    Deny,
    /// They cost nothing.
    Free,
}

/// The prices of a model, each for a million tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    /// The model or models.
    pub model: ModelPattern,
    /// The price of tokens of a prompt.
    pub prompt: Micros,
    /// Of those among them that the provider had in its cache.
    pub cached_prompt: Micros,
    /// Of tokens of an answer.
    pub completion: Micros,
}

impl PriceTable {
    /// The price of a model, and its position: that of the pattern that says most about the name.
    pub fn price_of(&self, model: &str) -> Option<(usize, &ModelPrice)> {
        let covering = self.models.iter().enumerate().filter(|(_, price)| price.model.covers(model));
        covering.max_by_key(|(_, price)| price.model.precedence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ModelPattern {
        ModelPattern::parse(text).unwrap()
    }

    fn list(only: &[&str], except: &[&str]) -> ModelList {
        let patterns = |list: &[&str]| list.iter().map(|text| pattern(text)).collect();
        ModelList { only: patterns(only), except: patterns(except) }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        for (text, covered, others) in [
            ("gpt-5", &["gpt-5", "GPT-5"][..], &["gpt-5-mini", "gpt-", ""][..]),
            ("gpt-5*", &["gpt-5", "gpt-5-mini", "Gpt-5.1"], &["gpt-4", "xgpt-5", "gpt"]),
            ("*", &["anything", ""], &[]),
        ] {
            assert_eq!(pattern(text).to_string(), text);
            covered.iter().for_each(|model| assert!(pattern(text).covers(model), "{text}: {model}"));
            others.iter().for_each(|model| assert!(!pattern(text).covers(model), "{text}: {model}"));
        }
        assert!(!pattern("gpt-e*").covers("gpt-é") && !pattern("gpt-\u{65}12*").covers("gpt-é"));
        let long = "x".repeat(ModelPattern::MAX + 1);
        for wrong in ["", "a*b", "**", "a b", "\u{e9}", "a\n", &long] {
            assert_eq!(ModelPattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_exception_counts_more_than_a_permission() {
        assert!(list(&[], &[]).is_open() && list(&[], &[]).allows("m"));
        let some = list(&["gpt-*", "o4"], &["gpt-5-pro*"]);
        assert!(some.allows("gpt-5") && some.allows("O4") && !some.allows("claude"));
        assert!(!some.allows("GPT-5-PRO-2026"));
        assert!(list(&[], &["gpt-*"]).allows("claude") && !list(&[], &["gpt-*"]).allows("gpt-5"));
    }

    #[test]
    fn the_price_is_that_of_the_pattern_that_says_most() {
        let price = |model: &str, micros: u64| ModelPrice {
            model: pattern(model),
            prompt: Micros(micros),
            cached_prompt: Micros(0),
            completion: Micros(0),
        };
        let table = PriceTable {
            currency: Currency::parse("USD").unwrap(),
            unknown: UnknownModel::Deny,
            models: vec![price("gpt-*", 1), price("gpt-5-mini*", 2), price("gpt-5-mini", 3)],
        };
        let found = |model: &str| table.price_of(model).map(|(position, price)| (position, price.prompt.0));
        assert_eq!(found("gpt-4"), Some((0, 1)));
        assert_eq!(found("GPT-5-mini-2026"), Some((1, 2)));
        assert_eq!(found("gpt-5-mini"), Some((2, 3)));
        assert_eq!(found("claude"), None);
    }
}
