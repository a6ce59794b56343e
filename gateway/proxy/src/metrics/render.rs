//! The sums over all cores, as metrics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use idm_metrics::{Exposition, Sums};

use super::counts::{
    Consumer, ConsumerKind, Key, ModelCounts, ModelLabels, OUTCOMES, RuleLabels, outcome, shadow_outcome,
};
use super::{Metrics, Mirrored, lock};
use crate::watch::Cause;

/// The sums of one rule.
#[derive(Default)]
struct Rule {
    requests: BTreeMap<u32, u64>,
    duration: Sums,
    in_flight: u64,
    upstreams: BTreeMap<String, Upstream>,
}

#[derive(Default)]
struct Upstream {
    answers: BTreeMap<u32, u64>,
    duration: Sums,
}

fn add(sums: &mut BTreeMap<u32, u64>, counts: impl Iterator<Item = (u32, u64)>) {
    counts.for_each(|(key, count)| *sums.entry(key).or_default() += count);
}

/// The label of a class of statuses: `2xx`; empty without an answer.
fn class(key: Key) -> String {
    if key.class == 0 { String::new() } else { format!("{}xx", key.class) }
}

impl RuleLabels {
    fn pairs(&self) -> [(&'static str, &str); 5] {
        let Self { kind, namespace, route, rule, policy } = self;
        [("route_kind", kind), ("route_namespace", namespace), ("route", route), ("rule", rule), ("policy", policy)]
    }

    fn with<'l>(&'l self, more: &[(&'static str, &'l str)]) -> Vec<(&'static str, &'l str)> {
        self.pairs().into_iter().chain(more.iter().copied()).collect()
    }
}

impl Metrics {
    /// Writes everything.
    pub fn render(&self, out: &mut Exposition) {
        self.write_decisions(out);
        self.write_shadows(out);
        let rules = self.rules();
        self.write_requests(&rules, out);
        write_upstreams(&rules, out);
        self.write_models(out);
        self.write_consumers(out);
        self.write_connections(out);
    }

    fn rules(&self) -> BTreeMap<RuleLabels, Rule> {
        let mut rules: BTreeMap<RuleLabels, Rule> = BTreeMap::new();
        for core in lock(&self.cores).iter() {
            core.each_rule(|labels, counts| {
                let rule = rules.entry(labels.clone()).or_default();
                add(&mut rule.requests, counts.requests.counts());
                counts.duration.add_to(&mut rule.duration);
                rule.in_flight += counts.in_flight.get();
                counts.each_upstream(|name, counts| {
                    let upstream = rule.upstreams.entry(name.to_owned()).or_default();
                    add(&mut upstream.answers, counts.answers.counts());
                    counts.duration.add_to(&mut upstream.duration);
                });
            });
        }
        // A rule without a request has nothing to say yet.
        rules.retain(|_, rule| !rule.requests.is_empty() || rule.in_flight > 0);
        rules
    }

    fn write_decisions(&self, out: &mut Exposition) {
        let mut policies: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
        for core in lock(&self.cores).iter() {
            core.each_policy(|name, decisions| {
                add(policies.entry(name.to_owned()).or_default(), decisions.counts());
            });
        }
        let mut family = out.counter("idm_decisions_total", "Decisions by policy, outcome and reason.");
        for (policy, decisions) in &policies {
            for (number, count) in decisions {
                let reason = Key::of(*number).reason;
                let code = reason.map_or("", |reason| reason.code());
                let outcome = OUTCOMES.get(outcome(reason)).copied().unwrap_or_default();
                family.sample(&[("policy", policy), ("outcome", outcome), ("reason", code)], *count);
            }
        }
    }

    fn write_shadows(&self, out: &mut Exposition) {
        let mut policies: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
        for core in lock(&self.cores).iter() {
            core.each_shadow(|name, verdicts| add(policies.entry(name.to_owned()).or_default(), verdicts.counts()));
        }
        let help = "Verdicts of policies in shadow, which change nothing, by policy, outcome and reason.";
        let mut family = out.counter("idm_shadow_decisions_total", help);
        for (policy, verdicts) in &policies {
            for (number, count) in verdicts {
                let outcome = shadow_outcome(*number);
                let labels = [("policy", policy.as_str()), ("outcome", outcome.name()), ("reason", outcome.reason())];
                family.sample(&labels, *count);
            }
        }
    }

    fn write_requests(&self, rules: &BTreeMap<RuleLabels, Rule>, out: &mut Exposition) {
        let kinds = lock(&self.kinds).clone();
        let mut family = out.counter(
            "idm_requests_total",
            "Requests by route, rule, policy, kind of authentication, class of the status, outcome and reason.",
        );
        for (labels, rule) in rules {
            for (number, count) in &rule.requests {
                let key = Key::of(*number);
                let kind = kinds.get(key.authentication as usize).copied().unwrap_or_default();
                let outcome = OUTCOMES.get(outcome(key.reason)).copied().unwrap_or_default();
                let code = key.reason.map_or("", |reason| reason.code());
                let status = class(key);
                let more = [("authentication", kind), ("status", &*status), ("outcome", outcome), ("reason", code)];
                family.sample(&labels.with(&more), *count);
            }
        }
        let mut family =
            out.histogram("idm_request_duration_seconds", "From the arrival of a request to the head of its answer.");
        rules.iter().for_each(|(labels, rule)| family.sums(&labels.pairs(), &rule.duration));
        let mut family = out.gauge(
            "idm_requests_in_flight",
            "Requests whose answer has not ended; without a route while they are decided.",
        );
        rules.iter().for_each(|(labels, rule)| family.sample(&labels.pairs(), rule.in_flight));
    }

    fn write_models(&self, out: &mut Exposition) {
        // A table whose currency was changed has two costs of a model, and one number of its tokens.
        let mut tokens: BTreeMap<(String, String), [u64; 3]> = BTreeMap::new();
        let mut costs: BTreeMap<ModelLabels, u64> = BTreeMap::new();
        for core in lock(&self.cores).iter() {
            core.each_model(|labels, counts| {
                let ModelCounts { prompt, cached_prompt, completion, micros } = counts;
                let counted = [prompt, cached_prompt, completion].map(|counter| counter.get());
                if counted == [0; 3] && micros.get() == 0 {
                    return;
                }
                let sums = tokens.entry((labels.policy.clone(), labels.model.clone())).or_default();
                sums.iter_mut().zip(counted).for_each(|(sum, count)| *sum = sum.saturating_add(count));
                let cost = costs.entry(labels.clone()).or_default();
                *cost = cost.saturating_add(micros.get());
            });
        }
        let help = "Tokens of language models by policy, model in its table of prices (empty for others) and kind.";
        let mut family = out.counter("idm_llm_tokens_total", help);
        for ((policy, model), counts) in &tokens {
            for (kind, count) in ["Prompt", "CachedPrompt", "Completion"].into_iter().zip(counts) {
                family.sample(&[("policy", policy), ("model", model), ("kind", kind)], *count);
            }
        }
        let help = "Cost of language models in millionths of the currency's unit, by policy and model.";
        let mut family = out.counter("idm_llm_cost_micros_total", help);
        for (ModelLabels { policy, model, currency }, micros) in costs.iter().filter(|(of, _)| of.is_priced()) {
            family.sample(&[("policy", policy), ("model", model), ("currency", currency)], *micros);
        }
    }

    fn write_consumers(&self, out: &mut Exposition) {
        let mut counts: BTreeMap<Consumer, [u64; 3]> = BTreeMap::new();
        let mut uncounted = [0; 3];
        for core in lock(&self.cores).iter() {
            core.each_consumer(|consumer, outcomes| {
                let sums = counts.entry(consumer.clone()).or_default();
                sums.iter_mut().zip(outcomes).for_each(|(sum, count)| *sum += count.get());
            });
            uncounted.iter_mut().zip(&*core.other_consumers).for_each(|(sum, count)| *sum += count.get());
        }
        let mut consumers = lock(&self.consumers);
        let (own, mut others) = consumers.look(counts);
        others.iter_mut().zip(uncounted).for_each(|(sum, more)| *sum += more);
        let mut family = out.counter(
            "idm_consumer_requests_total",
            "Requests of known callers by Credential or issuer: those with the most, and `other` for the rest.",
        );
        let mut write = |policy: &str, kind: &str, name: &str, counts: [u64; 3]| {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
                let labels = [("policy", policy), ("consumer_kind", kind), ("consumer", name), ("outcome", outcome)];
                family.sample(&labels, count);
            }
        };
        for (Consumer { policy, kind, name }, counts) in own {
            write(policy, ConsumerKind::label(*kind), name, counts);
        }
        write("", "", "other", others);
    }

    fn write_connections(&self, out: &mut Exposition) {
        out.gauge("idm_connections", "Open client connections.").sample(&[], self.connections.load(Relaxed));
        let mut family = out.counter(
            "idm_connections_closed_total",
            "Connections and HTTP/2 streams that the gateway ended, by cause.",
        );
        for (cause, counter) in Cause::ALL.iter().zip(&self.closed) {
            family.sample(&[("cause", cause.label())], counter.load(Relaxed));
        }
        out.counter(
            "idm_tls_handshakes_failed_total",
            "TLS handshakes that failed, a bad client certificate among the causes.",
        )
        .sample(&[], self.handshakes_failed.load(Relaxed));
        out.counter("idm_upstream_retries_total", "Requests that were sent to a backend again.")
            .sample(&[], self.retried.load(Relaxed));
        out.counter("idm_upstream_ejections_total", "Addresses of backends that were left alone for a while.")
            .sample(&[], self.ejected.load(Relaxed));
        let mut family = out.counter("idm_mirrored_requests_total", "Copies of requests for mirrors, by outcome.");
        for (outcome, counter) in Mirrored::ALL.into_iter().zip(&self.mirrored) {
            family.sample(&[("outcome", outcome.label())], counter.load(Relaxed));
        }
    }
}

fn write_upstreams(rules: &BTreeMap<RuleLabels, Rule>, out: &mut Exposition) {
    let each =
        || rules.iter().flat_map(|(labels, rule)| rule.upstreams.iter().map(move |(name, of)| (labels, &**name, of)));
    let mut family = out.counter(
        "idm_upstream_requests_total",
        "Requests to backends by the class of the answer's status, or by the reason why there was none.",
    );
    for (labels, backend, upstream) in each() {
        for (number, count) in &upstream.answers {
            let key = Key::of(*number);
            let status = class(key);
            let code = key.reason.map_or("", |reason| reason.code());
            family.sample(&labels.with(&[("backend", backend), ("status", &status), ("reason", code)]), *count);
        }
    }
    let mut family = out.histogram(
        "idm_upstream_duration_seconds",
        "From the choice of a backend to the head of its answer, or to the failure.",
    );
    for (labels, backend, upstream) in each() {
        family.sums(&labels.with(&[("backend", backend)]), &upstream.duration);
    }
}

#[cfg(test)]
mod tests {
    use idm_decide::{ShadowOutcome, Unjudged};
    use idm_metrics::Format;
    use idm_types::Reason;

    use super::super::counts::shadow_number;
    use super::*;

    #[test]
    fn the_use_of_models_is_told_by_kind_and_in_money() {
        let metrics = Metrics::new(1);
        let labels = |model: &str, currency: &str| ModelLabels {
            policy: "shop/models".into(),
            model: model.into(),
            currency: currency.into(),
        };
        let all = [labels("small*", "USD"), labels("", "USD"), labels("unused", "USD")];
        for counts in [metrics.add_core(), metrics.add_core()] {
            let counts = counts.models_of(&all);
            counts[0].prompt.add(30);
            counts[0].cached_prompt.add(5);
            counts[0].micros.add(17);
            counts[1].completion.add(2);
        }
        let mut out = Exposition::new(Format::Prometheus);
        metrics.render(&mut out);
        let text = out.finish();
        for line in [
            "idm_llm_tokens_total{policy=\"shop/models\",model=\"small*\",kind=\"Prompt\"} 60\n",
            "idm_llm_tokens_total{policy=\"shop/models\",model=\"small*\",kind=\"CachedPrompt\"} 10\n",
            "idm_llm_tokens_total{policy=\"shop/models\",model=\"\",kind=\"Completion\"} 4\n",
            "idm_llm_cost_micros_total{policy=\"shop/models\",model=\"small*\",currency=\"USD\"} 34\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("unused"), "{text}");
    }

    #[test]
    fn verdicts_in_shadow_are_told_by_policy_outcome_and_reason() {
        let metrics = Metrics::new(1);
        let verdicts = metrics.add_core().shadows_of(&["shop/strict".to_owned()]);
        let denied = ShadowOutcome::Denied(Reason::MissingRole);
        for outcome in [denied, denied, ShadowOutcome::Permitted, ShadowOutcome::NotJudged(Unjudged::SingleUse)] {
            verdicts[0].count(shadow_number(outcome));
        }
        let mut out = Exposition::new(Format::Prometheus);
        metrics.render(&mut out);
        let text = out.finish();
        for (labels, count) in [
            ("outcome=\"Denied\",reason=\"MissingRole\"", 2),
            ("outcome=\"Permitted\",reason=\"\"", 1),
            ("outcome=\"NotJudged\",reason=\"SingleUse\"", 1),
        ] {
            let line = format!("idm_shadow_decisions_total{{policy=\"shop/strict\",{labels}}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
