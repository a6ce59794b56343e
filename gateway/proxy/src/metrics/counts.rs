//! The counts of one core. It writes the numbers without a lock; the maps are locked when a core takes up a
//! configuration, when something occurs for the first time, and when metrics are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idm_decide::{ShadowOutcome, Unjudged};
use idm_metrics::{Counter, Histogram, Sparse};
use idm_types::Reason;

/// Numbers of rules and policies that are gone are kept until there are this many.
const MAX_GONE: usize = 1000;
/// The consumers that a core counts apart; further ones are counted together.
const MAX_CONSUMERS: usize = 16_384;

/// The labels of a rule's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleLabels {
    /// `HTTPRoute`, `Service` or `IdentityPolicy`.
    pub(super) kind: String,
    pub(super) namespace: String,
    /// The object's name.
    pub(super) route: String,
    /// The rule's name or number, or the endpoint of a policy.
    pub(super) rule: String,
    /// `NAMESPACE/NAME` of the policy that decides, empty without one.
    pub(super) policy: String,
}

impl RuleLabels {
    /// Takes the name of a rule apart, as compile makes it: `HTTPRoute NAMESPACE/NAME rule RULE`,
    /// `Service NAMESPACE/NAME`, `IdentityPolicy NAMESPACE/NAME ENDPOINT`. Of another name all is the rule.
    pub(crate) fn of(name: &str, policy: String) -> Self {
        let parts = || {
            let (kind, rest) = name.split_once(' ')?;
            let (object, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            let (namespace, route) = object.split_once('/')?;
            Some([kind, namespace, route, rule.strip_prefix("rule ").unwrap_or(rule)])
        };
        let [kind, namespace, route, rule] = parts().unwrap_or(["", "", "", name]).map(str::to_owned);
        Self { kind, namespace, route, rule, policy }
    }
}

/// The numbers of one rule.
#[derive(Debug, Default)]
pub(crate) struct RuleCounts {
    /// By [`Key`].
    pub(super) requests: Sparse,
    /// From arrival to the head of the answer.
    pub(super) duration: Histogram,
    pub(super) in_flight: Counter,
    /// By `host:port`.
    upstreams: Mutex<BTreeMap<String, Arc<UpstreamCounts>>>,
}

/// The numbers of one backend of a rule.
#[derive(Debug, Default)]
pub(crate) struct UpstreamCounts {
    /// By [`Key`], without authentication.
    pub(super) answers: Sparse,
    /// From the choice of the backend to the head of its answer.
    pub(super) duration: Histogram,
}

/// The consumer of a policy's requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Consumer {
    pub(super) policy: String,
    pub(super) kind: ConsumerKind,
    pub(super) name: String,
}

/// The name that a consumer is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConsumerKind {
    /// The Credential of the caller.
    Credential,
    /// The issuer that vouches for a caller without Credential.
    Issuer,
}

impl ConsumerKind {
    pub(super) fn label(self) -> &'static str {
        match self {
            ConsumerKind::Credential => "Credential",
            ConsumerKind::Issuer => "Issuer",
        }
    }
}

/// The labels of the use of a model: bounded, because they come from the policy and its table of prices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelLabels {
    pub(super) policy: String,
    /// The name or pattern in the table of prices; empty for all others.
    pub(super) model: String,
    /// The currency of its cost; empty without prices.
    pub(super) currency: String,
}

impl ModelLabels {
    pub(super) fn is_priced(&self) -> bool {
        !self.currency.is_empty()
    }
}

/// The use of a model.
#[derive(Debug, Default)]
pub(crate) struct ModelCounts {
    /// Tokens of prompts, without those of the provider's cache.
    pub(super) prompt: Counter,
    pub(super) cached_prompt: Counter,
    pub(super) completion: Counter,
    /// Millionths of the currency's unit.
    pub(super) micros: Counter,
}

/// Counts in the order of [`OUTCOMES`].
pub(crate) type Outcomes = [Counter; 3];

/// The outcomes as records name them.
pub(crate) const OUTCOMES: [&str; 3] = ["Permitted", "Denied", "Failed"];

/// The position among [`OUTCOMES`].
pub(crate) fn outcome(reason: Option<Reason>) -> usize {
    match reason {
        None => 0,
        Some(reason) if reason.is_denial() => 1,
        Some(_) => 2,
    }
}

/// The labels of one request, in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The number of the kind of authentication; 0 for none.
    pub(super) authentication: u32,
    /// The first digit of the status; 0 without an answer.
    pub(super) class: u32,
    pub(super) reason: Option<Reason>,
}

impl Key {
    pub(crate) fn new(authentication: u32, status: u16, reason: Option<Reason>) -> Self {
        Self { authentication: authentication & 0xff, class: u32::from(status / 100).min(9), reason }
    }

    pub(crate) fn number(self) -> u32 {
        let reason = self.reason.map_or(0, |reason| reason as u32 + 1);
        reason << 12 | self.authentication << 4 | self.class
    }

    pub(super) fn of(number: u32) -> Self {
        let reason = (number >> 12).checked_sub(1).and_then(|position| Reason::ALL.get(position as usize));
        Self { authentication: number >> 4 & 0xff, class: number & 0xf, reason: reason.copied() }
    }
}

/// The labels of a verdict in shadow, in a number.
pub(super) fn shadow_number(outcome: ShadowOutcome) -> u32 {
    match outcome {
        ShadowOutcome::Permitted => 0,
        ShadowOutcome::Denied(reason) => 1 << 16 | reason as u32,
        ShadowOutcome::NotJudged(why) => 2 << 16 | why as u32,
    }
}

/// The verdict of such a number.
pub(super) fn shadow_outcome(number: u32) -> ShadowOutcome {
    let position = (number & 0xffff) as usize;
    match number >> 16 {
        0 => ShadowOutcome::Permitted,
        1 => Reason::ALL.get(position).map_or(ShadowOutcome::Permitted, |reason| ShadowOutcome::Denied(*reason)),
        _ => ShadowOutcome::NotJudged(Unjudged::ALL.get(position).copied().unwrap_or(Unjudged::Unavailable)),
    }
}

/// All that one core counted.
#[derive(Debug, Default)]
pub(crate) struct CoreCounts {
    rules: Mutex<BTreeMap<RuleLabels, Arc<RuleCounts>>>,
    /// Decisions by policy, by [`Key`] with the reason alone.
    policies: Mutex<BTreeMap<String, Arc<Sparse>>>,
    /// Verdicts of policies in shadow, by [`shadow_number`].
    shadows: Mutex<BTreeMap<String, Arc<Sparse>>>,
    models: Mutex<BTreeMap<ModelLabels, Arc<ModelCounts>>>,
    consumers: Mutex<BTreeMap<Consumer, Arc<Outcomes>>>,
    /// Of the consumers that are not counted apart.
    pub(super) other_consumers: Arc<Outcomes>,
}

fn lock<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers under these keys, in their order. When too many others are there, they are forgotten.
fn take_up<K: Ord + Clone, V: Default>(map: &mut BTreeMap<K, Arc<V>>, keys: &[K]) -> Vec<Arc<V>> {
    let found = keys.iter().map(|key| map.entry(key.clone()).or_default().clone()).collect();
    if map.len() > keys.len() + MAX_GONE {
        let kept: BTreeSet<&K> = keys.iter().collect();
        map.retain(|key, _| kept.contains(key));
    }
    found
}

impl CoreCounts {
    pub(super) fn rules_of(&self, labels: &[RuleLabels]) -> Vec<Arc<RuleCounts>> {
        take_up(&mut lock(&self.rules), labels)
    }

    pub(super) fn policies_of(&self, names: &[String]) -> Vec<Arc<Sparse>> {
        take_up(&mut lock(&self.policies), names)
    }

    pub(super) fn shadows_of(&self, names: &[String]) -> Vec<Arc<Sparse>> {
        take_up(&mut lock(&self.shadows), names)
    }

    pub(super) fn models_of(&self, labels: &[ModelLabels]) -> Vec<Arc<ModelCounts>> {
        take_up(&mut lock(&self.models), labels)
    }

    pub(super) fn each_model(&self, mut each: impl FnMut(&ModelLabels, &ModelCounts)) {
        lock(&self.models).iter().for_each(|(labels, counts)| each(labels, counts));
    }

    pub(super) fn consumer(&self, consumer: Consumer) -> Arc<Outcomes> {
        let mut consumers = lock(&self.consumers);
        if consumers.len() >= MAX_CONSUMERS && !consumers.contains_key(&consumer) {
            return self.other_consumers.clone();
        }
        consumers.entry(consumer).or_default().clone()
    }

    pub(super) fn each_rule(&self, mut each: impl FnMut(&RuleLabels, &RuleCounts)) {
        lock(&self.rules).iter().for_each(|(labels, counts)| each(labels, counts));
    }

    pub(super) fn each_policy(&self, mut each: impl FnMut(&str, &Sparse)) {
        lock(&self.policies).iter().for_each(|(name, decisions)| each(name, decisions));
    }

    pub(super) fn each_shadow(&self, mut each: impl FnMut(&str, &Sparse)) {
        lock(&self.shadows).iter().for_each(|(name, verdicts)| each(name, verdicts));
    }

    pub(super) fn each_consumer(&self, mut each: impl FnMut(&Consumer, &Outcomes)) {
        lock(&self.consumers).iter().for_each(|(consumer, outcomes)| each(consumer, outcomes));
    }
}

impl RuleCounts {
    pub(super) fn upstream(&self, name: &str) -> Arc<UpstreamCounts> {
        lock(&self.upstreams).entry(name.to_owned()).or_default().clone()
    }

    pub(super) fn each_upstream(&self, mut each: impl FnMut(&str, &UpstreamCounts)) {
        lock(&self.upstreams).iter().for_each(|(name, counts)| each(name, counts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_in_shadow_has_its_number() {
        let denied = Reason::ALL.iter().map(|reason| ShadowOutcome::Denied(*reason));
        let unjudged = Unjudged::ALL.iter().map(|why| ShadowOutcome::NotJudged(*why));
        for outcome in std::iter::once(ShadowOutcome::Permitted).chain(denied).chain(unjudged) {
            assert_eq!(shadow_outcome(shadow_number(outcome)), outcome);
        }
    }

    #[test]
    fn the_name_of_a_rule_is_taken_apart() {
        for (name, expected) in [
            ("HTTPRoute shop/orders rule write", ["HTTPRoute", "shop", "orders", "write"]),
            ("HTTPRoute shop/orders rule 0", ["HTTPRoute", "shop", "orders", "0"]),
            ("Service shop/orders", ["Service", "shop", "orders", ""]),
            ("IdentityPolicy shop/p token service: jwks", ["IdentityPolicy", "shop", "p", "token service: jwks"]),
            ("resource metadata", ["", "", "", "resource metadata"]),
            ("", ["", "", "", ""]),
        ] {
            let RuleLabels { kind, namespace, route, rule, policy } = RuleLabels::of(name, "shop/p".into());
            assert_eq!([&*kind, &*namespace, &*route, &*rule], expected);
            assert_eq!(policy, "shop/p");
        }
    }

    #[test]
    fn every_key_is_read_back_from_its_number() {
        for reason in Reason::ALL.iter().copied().map(Some).chain([None]) {
            for (authentication, status, class) in [(0, 200, 2), (9, 503, 5), (255, 0, 0)] {
                let key = Key::new(authentication, status, reason);
                assert_eq!(Key::of(key.number()), Key { authentication, class, reason });
            }
        }
    }

    #[test]
    fn numbers_of_what_is_gone_are_kept_up_to_a_bound() {
        let counts = CoreCounts::default();
        let names = |range: std::ops::Range<usize>| range.map(|n| n.to_string()).collect::<Vec<_>>();
        counts.policies_of(&names(0..MAX_GONE))[0].count(0);
        counts.policies_of(&names(MAX_GONE..MAX_GONE + 1));
        let known = || {
            let mut known = Vec::new();
            counts.each_policy(|name, decisions| known.push((name.to_owned(), decisions.counts().count())));
            known
        };
        assert!(known().contains(&("0".to_owned(), 1)) && known().len() == MAX_GONE + 1);
        counts.policies_of(&names(MAX_GONE + 1..MAX_GONE + 2));
        assert_eq!(known(), [((MAX_GONE + 1).to_string(), 0)]);
    }

    #[test]
    fn consumers_beyond_the_bound_are_counted_together() {
        let counts = CoreCounts::default();
        let of = |n: usize| Consumer { policy: "p".into(), kind: ConsumerKind::Issuer, name: n.to_string() };
        for n in 0..MAX_CONSUMERS {
            counts.consumer(of(n))[0].add(1);
        }
        counts.consumer(of(MAX_CONSUMERS))[0].add(1);
        counts.consumer(of(0))[0].add(1);
        assert_eq!((counts.other_consumers[0].get(), counts.consumer(of(0))[0].get()), (1, 2));
    }
}
