//! The counters of a configuration, as one core uses them for its requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use idm_decide::{Engine, ShadowVerdict, Trace};
use idm_metrics::Sparse;
use idm_plan::Policy;
use idm_transform::Usage;
use idm_types::{MethodName, Reason, Timestamp, TraceId};

use super::Metrics;
use super::counts::{
    Consumer, ConsumerKind, CoreCounts, Key, ModelCounts, ModelLabels, Outcomes, RuleCounts, RuleLabels,
    UpstreamCounts, outcome, shadow_number,
};

/// Longer names of consumers are counted with the others.
const MAX_NAME: usize = 512;

/// The counters of one core.
pub(crate) struct CoreMetrics {
    counts: Arc<CoreCounts>,
    /// Of requests that no rule serves.
    pub(crate) no_rule: Rc<RuleInUse>,
    no_policy: Arc<Sparse>,
}

/// The counters of a configuration.
pub(crate) struct InUse {
    /// In the order of the engine's rules.
    rules: Vec<Rc<RuleInUse>>,
    /// In the order of the engine's policies.
    policies: Vec<PolicyInUse>,
}

/// The counters of a rule.
pub(crate) struct RuleInUse {
    counts: Arc<RuleCounts>,
    /// By the position of the backend: those that were asked.
    upstreams: RefCell<Vec<(usize, Arc<UpstreamCounts>)>>,
}

/// The counters of a policy.
struct PolicyInUse {
    name: String,
    decisions: Arc<Sparse>,
    /// Its verdicts in shadow; `None` where it is enforced.
    shadow: Option<Arc<Sparse>>,
    /// The use of its models: in the order of its table of prices, and of all others at the end. None without `llm`.
    models: Vec<Arc<ModelCounts>>,
    /// The numbers of the kinds of its methods.
    kinds: Vec<(MethodName, u32)>,
    credentials: RefCell<HashMap<Box<str>, Arc<Outcomes>, RandomState>>,
    issuers: RefCell<HashMap<Box<str>, Arc<Outcomes>, RandomState>>,
}

impl CoreMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let counts = metrics.add_core();
        let no_rule = counts.rules_of(&[RuleLabels::default()]).into_iter().next().unwrap_or_default();
        let no_policy = counts.policies_of(&[String::new()]).into_iter().next().unwrap_or_default();
        Self { counts, no_rule: Rc::new(RuleInUse::new(no_rule)), no_policy }
    }

    /// The counters of an engine's rules and policies.
    pub(crate) fn of(&self, engine: &Engine, metrics: &Metrics) -> InUse {
        let mut names: Vec<String> = engine.policies().map(|policy| policy.key.to_string()).collect();
        let policy_of = |position: Option<usize>| position.and_then(|at| names.get(at)).cloned().unwrap_or_default();
        let mut labels: Vec<RuleLabels> =
            engine.rules().map(|(name, policy)| RuleLabels::of(name, policy_of(policy))).collect();
        // These are always in use.
        labels.push(RuleLabels::default());
        names.push(String::new());
        let rules = self.counts.rules_of(&labels).into_iter().map(|counts| Rc::new(RuleInUse::new(counts)));
        let decisions = self.counts.policies_of(&names);
        let in_shadow: Vec<String> = engine.policies().filter(|of| of.shadow).map(|of| of.key.to_string()).collect();
        let mut shadows = self.counts.shadows_of(&in_shadow).into_iter();
        let models: Vec<Vec<ModelLabels>> = engine.policies().map(model_labels).collect();
        let mut counts_of_models = self.counts.models_of(&models.concat()).into_iter();
        let mut models = models.into_iter().map(|labels| counts_of_models.by_ref().take(labels.len()).collect());
        let policies = engine.policies().zip(names).zip(decisions).map(|((policy, name), decisions)| PolicyInUse {
            name,
            decisions,
            shadow: policy.shadow.then(|| shadows.next()).flatten(),
            models: models.next().unwrap_or_default(),
            kinds: policy.methods.iter().map(|m| (m.name.clone(), metrics.kind_number(m.kind.label()))).collect(),
            credentials: RefCell::default(),
            issuers: RefCell::default(),
        });
        InUse { rules: rules.collect(), policies: policies.collect() }
    }

    /// The counters of the rule that serves a request.
    pub(crate) fn rule<'m>(&'m self, in_use: Option<&'m InUse>, trace: &Trace) -> &'m Rc<RuleInUse> {
        in_use.and_then(|in_use| in_use.rules.get(trace.rule?)).unwrap_or(&self.no_rule)
    }

    /// Counts a request whose result is known.
    pub(crate) fn count(
        &self,
        in_use: Option<&InUse>,
        trace: &Trace,
        took: Duration,
        status: u16,
        reason: Option<Reason>,
        exemplar: Option<(TraceId, Timestamp)>,
    ) {
        let policy = in_use.and_then(|in_use| in_use.policies.get(trace.policy?));
        let kind = policy.zip(trace.authentication.as_ref());
        let kind = kind.and_then(|(policy, method)| policy.kinds.iter().find(|(name, _)| name == method));
        let key = Key::new(kind.map_or(0, |(_, number)| *number), status, reason);
        let rule = &self.rule(in_use, trace).counts;
        rule.requests.count(key.number());
        rule.duration.observe(took, exemplar);
        policy.map_or(&self.no_policy, |policy| &policy.decisions).count(Key::new(0, 0, reason).number());
        for ShadowVerdict { policy, outcome, .. } in &trace.shadows {
            let judged = in_use.and_then(|in_use| in_use.policies.get(*policy)?.shadow.as_ref());
            judged.into_iter().for_each(|counts| counts.count(shadow_number(*outcome)));
        }
        if let (Some(policy), Some((identity, _))) = (policy, &trace.identity) {
            let name = match (&identity.credential, &identity.issuer) {
                (Some(credential), _) => Some((ConsumerKind::Credential, credential)),
                (None, Some(issuer)) => Some((ConsumerKind::Issuer, issuer)),
                (None, None) => None,
            };
            if let Some((kind, name)) = name {
                policy.count_consumer(&self.counts, kind, name, outcome(reason));
            }
        }
    }
}

/// The labels of the models of a policy: those in its table of prices, and one for all others.
fn model_labels(policy: &Policy) -> Vec<ModelLabels> {
    let Some(llm) = &policy.llm else { return Vec::new() };
    let currency = llm.prices.as_ref().map(|prices| prices.currency.to_string()).unwrap_or_default();
    let priced = llm.prices.iter().flat_map(|prices| prices.models.iter().map(|price| price.model.to_string()));
    let label = |model| ModelLabels { policy: policy.key.to_string(), model, currency: currency.clone() };
    priced.chain([String::new()]).map(label).collect()
}

impl InUse {
    /// Counts the tokens and the cost of a call to a language model.
    pub(crate) fn count_usage(&self, trace: &Trace, usage: &Usage) {
        let Some(policy) = trace.policy.and_then(|policy| self.policies.get(policy)) else { return };
        let entry = usage.cost.and_then(|cost| cost.entry).and_then(|entry| policy.models.get(entry));
        let Some(counts) = entry.or(policy.models.last()) else { return };
        counts.prompt.add(usage.prompt.saturating_sub(usage.cached));
        counts.cached_prompt.add(usage.cached);
        counts.completion.add(usage.completion);
        counts.micros.add(usage.micros());
    }
}

impl PolicyInUse {
    fn count_consumer(&self, counts: &CoreCounts, kind: ConsumerKind, name: &str, outcome: usize) {
        let mut known = match kind {
            ConsumerKind::Credential => self.credentials.borrow_mut(),
            ConsumerKind::Issuer => self.issuers.borrow_mut(),
        };
        if let Some(counter) = known.get(name).and_then(|outcomes| outcomes.get(outcome)) {
            return counter.add(1);
        }
        let outcomes = if name.len() > MAX_NAME {
            counts.other_consumers.clone()
        } else {
            let consumer = Consumer { policy: self.name.clone(), kind, name: name.to_owned() };
            let outcomes = counts.consumer(consumer);
            known.insert(name.into(), outcomes.clone());
            outcomes
        };
        outcomes.get(outcome).into_iter().for_each(|counter| counter.add(1));
    }
}

impl RuleInUse {
    fn new(counts: Arc<RuleCounts>) -> Self {
        Self { counts, upstreams: RefCell::default() }
    }

    /// Counts an exchange with the backend at this position: its status, or the reason why it has none.
    pub(crate) fn count_upstream(
        &self,
        (position, name): (usize, &str),
        took: Duration,
        answer: Result<u16, Reason>,
        exemplar: Option<(TraceId, Timestamp)>,
    ) {
        let mut upstreams = self.upstreams.borrow_mut();
        let found = upstreams.iter().position(|(other, _)| *other == position);
        let found = found.unwrap_or_else(|| {
            upstreams.push((position, self.counts.upstream(name)));
            upstreams.len() - 1
        });
        let Some((_, counts)) = upstreams.get(found) else { return };
        let key = Key::new(0, answer.unwrap_or_default(), answer.err());
        counts.answers.count(key.number());
        counts.duration.observe(took, exemplar);
    }
}

/// A request under way, among those of its rule.
pub(crate) struct Flight(Rc<RuleInUse>);

impl Flight {
    pub(crate) fn of(rule: &Rc<RuleInUse>) -> Self {
        rule.counts.in_flight.add(1);
        Self(rule.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.counts.in_flight.subtract(1);
    }
}
