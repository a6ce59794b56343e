//! The counting of records of calls.

use std::collections::BTreeMap;

use idm_audit::StoredRecord;
use idm_plan::ObjectKey;
use idm_types::{Micros, Timestamp};
use serde_json::Value;

use crate::wire::llm::{LlmCaller, LlmRefused, LlmStep, LlmTokens};

/// Steps that a span is cut into at most.
const MOST_STEPS: u64 = 48;
/// Lengths of steps that people read easily, in seconds.
const LENGTHS: [u64; 9] = [60, 300, 900, 1800, 3600, 10_800, 21_600, 86_400, 172_800];

/// The calls of one caller under one policy.
#[derive(Default)]
struct Calls {
    who: String,
    /// Their times and tokens.
    tokens: Vec<(Timestamp, u64)>,
}

/// The numbers so far.
pub(super) struct Counts {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) step_seconds: u64,
    pub(super) steps: Vec<LlmStep>,
    pub(super) total: LlmTokens,
    /// By namespace, caller and model.
    pub(super) callers: BTreeMap<(String, String, String), LlmCaller>,
    /// By namespace, policy, reason and rule.
    pub(super) refused: BTreeMap<(String, String, String, String), LlmRefused>,
    /// By namespace, policy and identity, as a gateway counts quotas.
    used: BTreeMap<(String, String, String), Calls>,
}

impl Counts {
    pub(super) fn new(since: Timestamp, until: Timestamp) -> Self {
        let seconds = (until.0.saturating_sub(since.0)).div_ceil(1000);
        let step_seconds = LENGTHS.into_iter().find(|length| seconds.div_ceil(*length) < MOST_STEPS).unwrap_or(172_800);
        let step = step_seconds * 1000;
        let first = since.0 / step;
        let last = until.0.saturating_sub(1) / step;
        let steps =
            (first..=last).map(|number| LlmStep { time: Timestamp(number * step).rfc3339(), ..LlmStep::default() });
        let (total, callers, refused, used) = Default::default();
        Self { since, until, step_seconds, steps: steps.collect(), total, callers, refused, used }
    }

    /// Takes a record in: a call that used tokens, or one that was refused.
    pub(super) fn add(&mut self, record: &StoredRecord) {
        let value = record.value();
        let Some(time) = Timestamp::parse_rfc3339(record.time()) else { return };
        if value["usage"].is_object() {
            self.used_tokens(value, record, time);
        }
        if let Some(reason) = record.reason().filter(|_| !value["usage"].is_object()) {
            self.was_refused(value, record, reason);
        }
    }

    fn used_tokens(&mut self, value: &Value, record: &StoredRecord, time: Timestamp) {
        let number = |name: &str| value["usage"][name].as_u64().unwrap_or_default();
        let (prompt, completion) = (number("prompt_tokens"), number("completion_tokens"));
        let estimated = u64::from(value["usage"]["estimated"] == true);
        let cost = value["usage"]["cost"]["micros"].as_u64().map(Micros);
        let cost = value["usage"]["cost"]["currency"].as_str().zip(cost);
        let step = self.step_seconds * 1000;
        let place = (time.0 / step).saturating_sub(self.since.0 / step) as usize;
        let Some(of_step) = self.steps.get_mut(place) else { return };
        of_step.prompt_tokens = of_step.prompt_tokens.saturating_add(prompt);
        of_step.completion_tokens = of_step.completion_tokens.saturating_add(completion);
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, model, credential) =
            (record.namespace().to_owned(), text("/usage/model"), text("/identity/credential"));
        let who = if credential.is_empty() { record.who().to_owned() } else { credential.clone() };
        let steps = self.steps.len();
        let caller = self.callers.entry((namespace.clone(), who.clone(), model.clone())).or_insert_with(|| LlmCaller {
            is_credential: !credential.is_empty(),
            who: who.clone(),
            namespace: namespace.clone(),
            model,
            tokens: LlmTokens::default(),
            steps: vec![0; steps],
        });
        for tokens in [&mut caller.tokens, &mut self.total] {
            tokens.calls += 1;
            tokens.prompt_tokens = tokens.prompt_tokens.saturating_add(prompt);
            tokens.completion_tokens = tokens.completion_tokens.saturating_add(completion);
            tokens.estimated_calls += estimated;
            if let Some((currency, amount)) = &cost {
                tokens.cost.add(currency, *amount);
            }
        }
        let both = prompt.saturating_add(completion);
        if let Some(of_step) = caller.steps.get_mut(place) {
            *of_step = of_step.saturating_add(both);
        }
        let used = self.used.entry((namespace, text("/policy/name"), text("/identity/id"))).or_default();
        used.who = who;
        used.tokens.push((time, both));
    }

    fn was_refused(&mut self, value: &Value, record: &StoredRecord, reason: &str) {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let rule = if reason == "PromptRefused" { text("/policy/rule") } else { text("/limit") };
        let (namespace, policy) = (record.namespace().to_owned(), text("/policy/name"));
        let key = (namespace.clone(), policy.clone(), reason.to_owned(), rule.clone());
        let refused = self.refused.entry(key).or_insert_with(|| LlmRefused {
            reason: reason.to_owned(),
            policy,
            namespace,
            rule,
            count: 0,
            last_time: String::new(),
            last_id: String::new(),
        });
        refused.count += 1;
        if record.time() > refused.last_time.as_str() {
            record.time().clone_into(&mut refused.last_time);
            record.id().clone_into(&mut refused.last_id);
        }
    }

    /// The tokens of each caller of a policy since then.
    pub(super) fn used_since(&self, policy: &ObjectKey, since: Timestamp) -> Vec<(String, u64)> {
        let of_policy =
            self.used.iter().filter(|((namespace, name, _), _)| *namespace == policy.namespace && *name == policy.name);
        let used = of_policy.filter_map(|(_, Calls { who, tokens })| {
            let now = tokens.iter().filter(|(time, _)| *time >= since).map(|(_, tokens)| *tokens);
            let used = now.fold(0_u64, u64::saturating_add);
            (used > 0).then(|| (who.clone(), used))
        });
        used.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::llm::LlmCosts;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const DAY: u64 = 86_400_000;

    fn record(ago: u64, more: &Value) -> StoredRecord {
        let mut record = json!({
            "kind": "Decision", "@timestamp": Timestamp(NOW.0 - ago).rfc3339(), "id": format!("R{ago}"),
            "namespace": "shop", "policy": {"name": "models"},
        });
        record.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        StoredRecord::of(record)
    }

    fn used(credential: &str, model: &str, prompt: u64, completion: u64) -> Value {
        let (id, estimated) = (format!("id of {credential}"), prompt == 1);
        json!({
            "identity": {"id": id, "username": "robot", "credential": credential},
            "usage": {
                "model": model, "prompt_tokens": prompt, "completion_tokens": completion, "estimated": estimated,
            },
        })
    }

    #[test]
    fn tokens_are_counted_by_credential_and_model_in_their_steps() {
        let mut counts = Counts::new(Timestamp(NOW.0 - DAY), NOW);
        assert_eq!((counts.step_seconds, counts.steps.len()), (3600, 24));
        let records = [
            (1, used("nightly", "large", 100, 20)),
            (7_200_000, used("nightly", "large", 1, 2)),
            (2, used("nightly", "small", 5, 5)),
            (3, json!({"usage": {"prompt_tokens": 7, "completion_tokens": 0}, "identity": {"username": "ana"}})),
        ];
        records.iter().for_each(|(ago, more)| counts.add(&record(*ago, more)));
        let key = |who: &str, model: &str| ("shop".to_owned(), who.to_owned(), model.to_owned());
        let large = &counts.callers[&key("nightly", "large")];
        let all = LlmTokens {
            calls: 2,
            prompt_tokens: 101,
            completion_tokens: 22,
            estimated_calls: 1,
            cost: LlmCosts::default(),
        };
        assert_eq!((&large.tokens, large.is_credential), (&all, true));
        assert_eq!(large.steps.iter().filter(|tokens| **tokens > 0).count(), 2);
        assert_eq!(large.steps.iter().sum::<u64>(), 123);
        assert!(!counts.callers[&key("ana", "")].is_credential);
        assert_eq!(counts.total.prompt_tokens + counts.total.completion_tokens, 140);
        assert_eq!(counts.steps.iter().map(|step| step.prompt_tokens + step.completion_tokens).sum::<u64>(), 140);
        let policy = ObjectKey::new("shop", "models");
        let since = |ago: u64| counts.used_since(&policy, Timestamp(NOW.0 - ago));
        assert!(since(DAY).contains(&("nightly".to_owned(), 133)));
        assert!(since(60_000).contains(&("nightly".to_owned(), 130)));
        assert!(counts.used_since(&ObjectKey::new("shop", "other"), Timestamp(0)).is_empty());
    }

    #[test]
    fn money_is_summed_by_currency_and_exact() {
        let mut counts = Counts::new(Timestamp(NOW.0 - DAY), NOW);
        for (ago, micros, currency) in [(1, 100_000, "USD"), (2, 200_000, "USD"), (3, 1, "EUR"), (4, 7, "USD")] {
            let cost = json!({"micros": micros, "currency": currency});
            let usage = json!({"model": "m", "prompt_tokens": 1, "completion_tokens": 0, "cost": cost});
            counts.add(&record(ago, &json!({"identity": {"credential": "nightly"}, "usage": usage})));
        }
        let told = serde_json::to_value(&counts.total.cost).expect("JSON");
        let expected = json!([{"currency": "EUR", "amount": "0.000001"}, {"currency": "USD", "amount": "0.300007"}]);
        assert_eq!(told, expected);
        let caller = counts.callers.values().next().expect("a caller");
        assert_eq!(serde_json::to_value(&caller.tokens.cost).expect("JSON"), expected);
    }

    #[test]
    fn refusals_are_counted_by_their_rule_and_lead_to_the_newest() {
        let mut counts = Counts::new(Timestamp(NOW.0 - DAY), NOW);
        let rule = json!({"reason": "PromptRefused", "policy": {"name": "models", "rule": "small-only"}});
        counts.add(&record(9, &rule));
        counts.add(&record(5, &rule));
        counts.add(&record(7, &json!({"reason": "TokenQuotaExceeded", "limit": "monthly"})));
        let refused: Vec<_> = counts.refused.values().collect();
        let told: Vec<_> = refused.iter().map(|of| (of.rule.as_str(), of.count, of.last_id.as_str())).collect();
        assert_eq!(told, [("small-only", 2, "R5"), ("monthly", 1, "R7")]);
        assert_eq!(counts.total, LlmTokens::default());
    }

    #[test]
    fn no_span_has_more_steps_than_can_be_drawn() {
        for seconds in [1, 59, 3600, 86_400, 7 * 86_400, 31 * 86_400, 92 * 86_400] {
            let counts = Counts::new(Timestamp(NOW.0 - seconds * 1000), NOW);
            assert!((1..=49).contains(&counts.steps.len()), "{seconds}: {}", counts.steps.len());
        }
    }
}
