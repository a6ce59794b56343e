//! The configuration that each pod enforces: the pods themselves are asked.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use idm_compile::Part;
use idm_plan::{Bundle, Credentials, ObjectKey, WITH_SHARDS, needs_shards};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::{ask, is_of};
use crate::Context;
use crate::objects::Kind;

/// The observed state of the pods of one gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Pods that receive traffic.
    pub(crate) ready: usize,
    /// The number of these pods that enforce the desired configuration.
    pub(crate) current: usize,
    /// The desired number of pods.
    pub(crate) wanted: usize,
    /// Names of ready pods that enforce another configuration, with their messages.
    pub(crate) laggards: Vec<String>,
    /// Whether a pod enforces it without some of its shards.
    pub(crate) misses_shards: bool,
    /// The number of ready pods that enforce the desired policies, whichever Credentials they know.
    pub(crate) with_policies: usize,
    /// Names of the others, with their messages.
    pub(crate) without_policies: Vec<String>,
    /// Ready pods of an older version, which read no shards.
    pub(crate) before_shards: usize,
}

impl Observed {
    /// Whether every ready pod enforces the desired configuration, and at least one is ready.
    pub(crate) fn is_programmed(&self) -> bool {
        self.ready > 0 && self.current == self.ready
    }

    /// The same, of the policies alone: a change of one Credential is no news of them.
    pub(crate) fn of_policies(&self) -> Self {
        let (current, laggards) = (self.with_policies, self.without_policies.clone());
        Self { ready: self.ready, wanted: self.wanted, current, laggards, ..Self::default() }
    }
}

/// The gateway of one part of a namespace, and what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// The namespace.
    pub(crate) namespace: String,
    /// The part.
    pub(crate) part: Part,
    /// The generation since when its policies are as they are.
    pub(crate) generation: u64,
    /// Its pods, as far as policies go.
    pub(crate) observed: Observed,
    /// The policies in its plan.
    pub(crate) policies: BTreeSet<ObjectKey>,
}

impl Running {
    /// The gateway and its generation, as the statuses of a namespace's objects say it behind the number of its pods.
    /// The namespace's own gateway is the one that is meant where none is named. The Manager reads this text.
    pub(super) fn told_in(&self, namespace: &str) -> String {
        let Self { namespace: own, part, generation, .. } = self;
        let which = match (part, own == namespace) {
            (Part::Shared, true) => String::new(),
            (Part::Shared, false) => format!("of namespace {own} "),
            (Part::Gateway(name), true) => format!("of Gateway {name} "),
            (Part::Gateway(name), false) => format!("of Gateway {own}/{name} "),
        };
        format!("{which}at generation {generation}")
    }
}

/// The pods of the gateway of this name.
pub(crate) fn pods(context: &Context, namespace: &str, name: &str) -> Vec<Arc<DynamicObject>> {
    let mut pods = context.store.list(Kind::Pod, namespace);
    pods.retain(|pod| is_of(pod, name));
    pods
}

/// Asks every ready pod among these for the digest it enforces. The policies are the same since a generation.
pub(crate) async fn observe(
    context: &Context,
    pods: &[Arc<DynamicObject>],
    wanted: usize,
    digest: &str,
    since: u64,
) -> Observed {
    let ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let answers = join_all(ready.iter().map(|pod| ask::<Value>(context, pod, "/-/bundle", None))).await;
    let mut observed = Observed { ready: ready.len(), wanted, ..Observed::default() };
    for (pod, answer) in ready.iter().zip(answers) {
        let reads = |answer: &Value| answer["reads"].as_u64().is_some_and(|format| format >= u64::from(WITH_SHARDS));
        // A pod that does not answer may be an older one.
        observed.before_shards += usize::from(!answer.as_ref().is_some_and(reads));
        let error = answer.as_ref().and_then(|answer| answer["error"].as_str());
        let generation = answer.as_ref().and_then(|answer| answer["generation"].as_u64());
        if answer.as_ref().is_some_and(|answer| answer["digest"] == digest) {
            observed.current += 1;
            observed.with_policies += 1;
            continue;
        }
        let missing = answer.as_ref().and_then(|answer| answer["missing_shards"].as_array());
        observed.misses_shards |= missing.is_some_and(|missing| !missing.is_empty());
        let message = match (error, generation) {
            (Some(error), _) => format!("{} refuses it: {error}", pod.name_any()),
            (None, Some(generation)) => format!("{} is at generation {generation}", pod.name_any()),
            (None, None) => format!("{} does not answer", pod.name_any()),
        };
        if error.is_none() && generation.is_some_and(|generation| generation >= since) {
            observed.with_policies += 1;
        } else {
            observed.without_policies.push(message.clone());
        }
        observed.laggards.push(message);
    }
    observed.without_policies.sort();
    observed.laggards.sort();
    observed
}

/// Whether every ready gateway reads shards of Credentials. They are asked before a namespace has shards for the first
/// time: older ones would keep what they have, and with it every key that is revoked from then on.
pub(crate) async fn reads_shards<'b>(
    context: &Context,
    namespace: &str,
    current: impl Iterator<Item = &'b Bundle>,
    credentials: &Credentials,
) -> bool {
    let mut current = current.peekable();
    let is_first = current.peek().is_some() && current.all(|of| of.shards.is_empty()) && needs_shards(credentials);
    let pods = context.store.list(Kind::Pod, namespace);
    !is_first || observe(context, &pods, 0, "", u64::MAX).await.before_shards == 0
}

fn is_ready(pod: &DynamicObject) -> bool {
    let conditions = pod.data.pointer("/status/conditions").and_then(Value::as_array);
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
