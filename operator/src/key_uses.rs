//! The last uses of keys that are being replaced: the gateways are asked, while there are any.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use idm_compile::World;
use idm_plan::{Credentials, Proof, Secrets};
use serde::Deserialize;

use crate::{Context, gateway};

/// The answers of the gateways of one namespace about keys of Credentials, by the gateway's namespace.
#[derive(Default)]
pub(crate) struct KeyUses(Mutex<BTreeMap<String, Vec<Told>>>);

/// The answer of one gateway about one Credential with two keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    namespace: String,
    credential: String,
    /// The id of the older key.
    key: String,
    /// The id of the newer one, which the gateway accepts.
    newer: Option<String>,
    last_use: Option<LastUse>,
}

/// A use of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct LastUse {
    /// In milliseconds since the Unix epoch.
    pub(crate) at: u64,
    /// The address of the caller.
    pub(crate) address: String,
}

#[derive(Deserialize)]
struct Answer {
    keys: Vec<Told>,
}

impl KeyUses {
    pub(crate) fn keep(&self, gateway: &str, told: Vec<Told>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_empty() { drop(all.remove(gateway)) } else { drop(all.insert(gateway.to_owned(), told)) }
    }

    /// The last use of a key, as any gateway told it.
    pub(crate) fn last(&self, namespace: &str, credential: &str, key: &str) -> Option<LastUse> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.values().flatten().filter(|told| told.namespace == namespace && told.credential == credential);
        of.filter(|told| told.key == key).filter_map(|told| told.last_use.clone()).max()
    }

    /// The number of gateways that accept a key that replaces another.
    pub(crate) fn knowing(&self, namespace: &str, credential: &str, key: &str) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.values().flatten().filter(|told| told.namespace == namespace && told.credential == credential);
        of.filter(|told| told.newer.as_deref() == Some(key)).count()
    }
}

/// Asks the gateways of a namespace, by name with their secrets, if one of their Credentials has two keys. A pod that
/// does not answer tells nothing.
pub(crate) async fn ask(context: &Context, world: &World, gateways: &[(String, &Secrets)], credentials: &Credentials) {
    let has_two = credentials.all.iter().any(|credential| match &credential.proof {
        Proof::ApiKey { keys, .. } => keys.retiring.is_some(),
        _ => false,
    });
    let mut told = Vec::new();
    for (name, secrets) in gateways {
        let Some(token) = gateway::control_token(secrets).filter(|_| has_two) else { continue };
        let pods = gateway::pods(context, &world.namespace, name);
        let asked = pods.iter().map(|pod| gateway::ask::<Answer>(context, pod, "/-/keys", Some(token)));
        told.extend(futures::future::join_all(asked).await.into_iter().flatten().flat_map(|answer| answer.keys));
    }
    context.key_uses.keep(&world.namespace, told);
}
