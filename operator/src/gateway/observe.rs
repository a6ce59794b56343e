//! The configuration that each pod enforces: the pods themselves are asked.

use futures::future::join_all;
use idm_plan::{Bundle, Credentials, needs_shards};
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::ask;
use crate::Context;
use crate::objects::Kind;

/// The first format of bundles that has shards.
const FIRST_WITH_SHARDS: u64 = 8;

/// The observed state of a namespace's gateway pods.
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
    /// Whether a pod lacks a part of it.
    pub(crate) misses_parts: bool,
    /// Ready pods of an older version, which read no shards.
    pub(crate) before_shards: usize,
}

impl Observed {
    /// Whether every ready pod enforces the desired configuration, and at least one is ready.
    pub(crate) fn is_programmed(&self) -> bool {
        self.ready > 0 && self.current == self.ready
    }
}

/// Asks every ready pod for the digest it enforces.
pub(crate) async fn observe(context: &Context, namespace: &str, digest: &str) -> Observed {
    let pods = context.store.list(Kind::Pod, namespace);
    let ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let answers = join_all(ready.iter().map(|pod| ask::<Value>(context, pod, "/-/bundle", None))).await;
    let mut observed =
        Observed { ready: ready.len(), wanted: context.settings.replicas as usize, ..Observed::default() };
    for (pod, answer) in ready.iter().zip(answers) {
        let reads = |answer: &Value| answer["reads"].as_u64().is_some_and(|format| format >= FIRST_WITH_SHARDS);
        // Who does not answer may be an older one.
        observed.before_shards += usize::from(!answer.as_ref().is_some_and(reads));
        match answer {
            Some(answer) if answer["digest"] == digest => observed.current += 1,
            Some(answer) => observed.laggards.push(match answer["error"].as_str() {
                Some(error) => {
                    observed.misses_parts |= error.contains("shards");
                    format!("{} refuses it: {error}", pod.name_any())
                }
                None => format!("{} is at generation {}", pod.name_any(), answer["generation"]),
            }),
            None => observed.laggards.push(format!("{} does not answer", pod.name_any())),
        }
    }
    observed.laggards.sort();
    observed
}

/// Whether every ready gateway reads shards of Credentials. They are asked before a namespace has shards for the first
/// time: older ones would keep what they have, and with it every key that is revoked from then on.
pub(crate) async fn reads_shards(
    context: &Context,
    namespace: &str,
    current: Option<&Bundle>,
    credentials: &Credentials,
) -> bool {
    let is_first = current.is_some_and(|current| current.shards.is_empty()) && needs_shards(credentials);
    !is_first || observe(context, namespace, "").await.before_shards == 0
}

fn is_ready(pod: &DynamicObject) -> bool {
    let conditions = pod.data.pointer("/status/conditions").and_then(Value::as_array);
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
