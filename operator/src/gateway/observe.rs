//! The configuration that each pod enforces: the pods themselves are asked.

use futures::future::join_all;
use kube::ResourceExt;
use kube::core::DynamicObject;
use serde_json::Value;

use super::ask;
use crate::Context;
use crate::objects::Kind;

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
        match answer {
            Some(answer) if answer["digest"] == digest => observed.current += 1,
            Some(answer) => observed.laggards.push(match answer["error"].as_str() {
                Some(error) => format!("{} refuses it: {error}", pod.name_any()),
                None => format!("{} is at generation {}", pod.name_any(), answer["generation"]),
            }),
            None => observed.laggards.push(format!("{} does not answer", pod.name_any())),
        }
    }
    observed.laggards.sort();
    observed
}

fn is_ready(pod: &DynamicObject) -> bool {
    let conditions = pod.data.pointer("/status/conditions").and_then(Value::as_array);
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
