//! Finds the checks that a change removes from the policies in force. A partly written file can be a valid file, so the
//! log must show that a policy checks less than before.

use idm_plan::{Plan, Policy};

/// One line for each policy of `old` that checks less in `new`.
pub(crate) fn losses(old: &Plan, new: &Plan) -> Vec<String> {
    let both = old.policies.iter().filter_map(|policy| {
        let now = new.policies.iter().find(|now| now.key == policy.key)?;
        Some((policy, of_policy(policy, now)))
    });
    both.filter(|(_, lost)| !lost.is_empty())
        .map(|(policy, lost)| format!("IdentityPolicy '{}' no longer has {}", policy.key.name, lost.join(", ")))
        .collect()
}

fn of_policy(old: &Policy, new: &Policy) -> Vec<String> {
    let mut lost = Vec::new();
    if !old.rules.is_empty() && new.rules.is_empty() {
        lost.push("any authorization rule: every verified caller may pass".to_owned());
    }
    let methods = old.methods.iter().filter(|method| new.methods.iter().all(|now| now.name != method.name));
    lost.extend(methods.map(|method| format!("the authentication method `{}`", method.name)));
    if !old.jose.is_empty() && new.jose.is_empty() {
        lost.push("any JOSE step".to_owned());
    }
    if old.llm.as_ref().is_some_and(|llm| !llm.quotas.is_empty())
        && new.llm.as_ref().is_none_or(|llm| llm.quotas.is_empty())
    {
        lost.push("any token quota".to_owned());
    }
    let lists_models = |policy: &Policy| policy.llm.as_ref().is_some_and(|llm| !llm.models.is_open());
    if lists_models(old) && !lists_models(new) {
        lost.push("any list of models".to_owned());
    }
    if old.token_service.is_some() && new.token_service.is_none() {
        lost.push("a token service".to_owned());
    }
    lost
}
