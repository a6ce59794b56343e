use crate::{MethodName, Reason, RuleName};

/// Longer details are cut: they are records, and parts of them come from callers.
const MAX_DETAIL: usize = 512;

/// Why a room of the gateway says no. Every room says it with this type.
///
/// The stage of the decision is no part of it: whoever runs the stages knows how far the request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// For the audit: what was compared. Never holds a credential, a key or content.
    pub detail: String,
    /// The method or rule that refused, if one did.
    pub by: Option<Decider>,
    /// Seconds until another attempt is looked at.
    pub retry_after: Option<u64>,
    /// The scopes that were missing, for the challenge (RFC 6750 §3.1).
    pub missing_scopes: Box<[String]>,
}

/// The part of a policy that refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// A method of authentication.
    Method(MethodName),
    /// A rule of authorization.
    Rule(RuleName),
}

impl Refusal {
    /// A refusal for this reason; the detail is cut after 512 characters.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(end);
        }
        Self { reason, detail, by: None, retry_after: None, missing_scopes: Box::default() }
    }

    /// The method that refused.
    #[must_use]
    pub fn by_method(self, name: &MethodName) -> Self {
        Self { by: Some(Decider::Method(name.clone())), ..self }
    }

    /// The rule that refused.
    #[must_use]
    pub fn by_rule(self, name: &RuleName) -> Self {
        Self { by: Some(Decider::Rule(name.clone())), ..self }
    }

    /// Seconds until another attempt is looked at.
    #[must_use]
    pub fn retry_after(self, seconds: impl Into<Option<u64>>) -> Self {
        Self { retry_after: seconds.into(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_between_characters() {
        let refusal = Refusal::new(Reason::NoRoute, "ä".repeat(600));
        assert_eq!(refusal.detail.chars().count(), MAX_DETAIL);
        assert_eq!(Refusal::new(Reason::NoRoute, "short").detail, "short");
    }
}
