//! Decides whether an authenticated caller may pass.
//!
//! In: an [`Authenticated`] caller, the policy's rules and the facts of the request. Out: a [`Permit`], or
//! the [`Refusal`] with its reason and rule. Pure: no IO, no clock, so the same question always gets the same
//! answer. The only mint of `Permit`; each one carries the rules that granted it. Start at [`Rules::decide`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod baseline;

pub use baseline::ArmedBaseline;
use idm_authn::Authenticated;
use idm_expr::{EvaluationError, Expression};
use idm_plan::{NameSet, Policy, Require, Rule};
use idm_request::{Facts, Identity};
use idm_types::{Reason, Refusal, RuleName};

/// Evidence that one request was allowed. The proxy forwards nothing without one.
#[derive(Clone, Debug)]
pub struct Permit {
    who: Authenticated,
    rule: Option<RuleName>,
}

impl Permit {
    /// The caller.
    pub fn who(&self) -> &Authenticated {
        &self.who
    }

    /// The first rule that granted it; `None` when the policy asks for authentication only.
    pub fn rule(&self) -> Option<&RuleName> {
        self.rule.as_ref()
    }
}

/// The rules of one policy, ready to be asked.
pub struct Rules {
    policy: String,
    rules: Vec<(Rule, Option<Expression>)>,
}

impl Rules {
    /// Arms the rules of a policy.
    pub fn arm(policy: &Policy) -> Result<Self, String> {
        let arm = |rule: &Rule| Ok((rule.clone(), rule.when.as_ref().map(Expression::arm).transpose()?));
        Ok(Self {
            policy: policy.key.name.clone(),
            rules: policy.rules.iter().map(arm).collect::<Result<_, String>>()?,
        })
    }

    /// Decides. Every rule that covers the request must allow it; with rules and none covering it, deny.
    pub fn decide(&self, request_method: &str, facts: &Facts<'_>, who: Authenticated) -> Result<Permit, Refusal> {
        let rule = self.granting(request_method, facts, who.identity())?.cloned();
        Ok(Permit { who, rule })
    }

    /// The same question of a policy in shadow: the first rule that grants, and no evidence.
    pub fn judge(
        &self,
        request_method: &str,
        facts: &Facts<'_>,
        identity: &Identity,
    ) -> Result<Option<&RuleName>, Refusal> {
        self.granting(request_method, facts, identity)
    }

    /// The first rule that grants; `None` when the policy has no rules.
    fn granting(
        &self,
        request_method: &str,
        facts: &Facts<'_>,
        identity: &Identity,
    ) -> Result<Option<&RuleName>, Refusal> {
        if let Some(only) = identity.only_policies.as_ref().filter(|only| !only.contains(&self.policy)) {
            let detail = format!("the credential may be used with {}; this is `{}`", only.join(", "), self.policy);
            return Err(Refusal::new(Reason::CredentialNotAllowedHere, detail));
        }
        if self.rules.is_empty() {
            return Ok(None);
        }
        let facts = Facts { identity: Some(identity), ..*facts };
        let mut granted = None;
        for (rule, when) in &self.rules {
            if covers(rule, when.as_ref(), request_method, &facts)? {
                check(rule, identity)?;
                granted.get_or_insert(&rule.name);
            }
        }
        let none = || Refusal::new(Reason::NoRuleMatched, format!("no rule covers this {request_method}"));
        granted.map(Some).ok_or_else(none)
    }
}

/// A condition that cannot be decided refuses: it might have been the one that forbids.
fn covers(rule: &Rule, when: Option<&Expression>, request_method: &str, facts: &Facts<'_>) -> Result<bool, Refusal> {
    if !rule.methods.is_empty() && !rule.methods.iter().any(|method| method == request_method) {
        return Ok(false);
    }
    let undecided = |error: EvaluationError| {
        Refusal::new(error.reason(Reason::RuleUndecided), error.to_string()).by_rule(&rule.name)
    };
    when.map_or(Ok(true), |when| when.holds(facts)).map_err(undecided)
}

fn check(rule: &Rule, identity: &Identity) -> Result<(), Refusal> {
    let Require { roles, scopes } = &rule.require;
    let refusal = |reason, what: &str, missing: &[String], held: &[String]| {
        // Each in quotes: a claim of one text with commas is one name.
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let held = if held.is_empty() { "none".to_owned() } else { quoted(held).join(", ") };
        let dropped = identity.roles_dropped.as_ref().filter(|_| reason == Reason::MissingRole);
        let dropped = dropped.map(|names| format!("; roles dropped: {names}")).unwrap_or_default();
        let detail = format!("needs {what} {}; the caller has {held}{dropped}", quoted(missing).join(" or "));
        Refusal::new(reason, detail).by_rule(&rule.name)
    };
    if let Some(missing) = missing(roles, &identity.roles) {
        return Err(refusal(Reason::MissingRole, "role", &missing, &identity.roles));
    }
    if let Some(missing) = missing(scopes, &identity.scopes) {
        let refusal = refusal(Reason::InsufficientScope, "scope", &missing, &identity.scopes);
        return Err(Refusal { missing_scopes: missing.into(), ..refusal });
    }
    Ok(())
}

/// The missing names: one of `all`, or the whole `any` when none of it is held.
fn missing(wanted: &NameSet, held: &[String]) -> Option<Vec<String>> {
    if let Some(name) = wanted.all.iter().find(|name| !held.contains(name)) {
        return Some(vec![name.clone()]);
    }
    let none_held = !wanted.any.is_empty() && !wanted.any.iter().any(|name| held.contains(name));
    none_held.then(|| wanted.any.clone())
}

#[cfg(test)]
mod tests;
