//! The place of the ledger: Secrets `idm-change-ledger-0`, `-1` and so on, in the operator's namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use super::ledger::Ledger;
use super::observer::Observer;
use crate::credentials::labels;
use crate::{Context, MANAGER};

const NAME: &str = "idm-change-ledger";
const FIELD: &str = "objects";
const RETRY: Duration = Duration::from_secs(2);
/// At most one write of a shard in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// The resource versions of the shards.
#[derive(Default)]
pub(crate) struct Shelf {
    versions: BTreeMap<usize, String>,
    next: Option<tokio::time::Instant>,
}

impl Shelf {
    /// Reads the ledger, however long that takes: without it every object would seem to be new.
    pub(crate) async fn open(context: &Context) -> (Self, Observer) {
        loop {
            match Self::read(context).await {
                Ok((shelf, ledger)) => {
                    let is_new = shelf.versions.is_empty();
                    if is_new {
                        tracing::warn!("there is no ledger of changes: records begin with what is there now");
                    }
                    return (shelf, Observer::new(ledger, is_new, context.watched_until));
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the ledger of changes cannot be read; it is tried again"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn api(context: &Context) -> Api<Secret> {
        Api::namespaced(context.client.clone(), &context.settings.operator_namespace)
    }

    async fn read(context: &Context) -> anyhow::Result<(Self, Ledger)> {
        let (mut shelf, mut ledger) = (Self::default(), Ledger::default());
        for shard in 0.. {
            let Some(secret) = Self::api(context).get_opt(&format!("{NAME}-{shard}")).await? else { break };
            let text = secret.data.as_ref().and_then(|data| data.get(FIELD)).map(|text| text.0.as_slice());
            let text = std::str::from_utf8(text.unwrap_or_default())?;
            ledger.read(shard, text).map_err(|why| anyhow::anyhow!("Secret {NAME}-{shard}: {why}"))?;
            shelf.versions.insert(shard, secret.resource_version().unwrap_or_default());
        }
        Ok((shelf, ledger))
    }

    /// Stores what differs from what is stored, at most once in a while. What fails is tried again the next time.
    pub(crate) async fn store(&mut self, context: &Context, ledger: &mut Ledger) {
        if self.next.is_none_or(|next| tokio::time::Instant::now() >= next) {
            self.store_now(context, ledger).await;
        }
    }

    /// The same at once.
    pub(crate) async fn store_now(&mut self, context: &Context, ledger: &mut Ledger) {
        let now = tokio::time::Instant::now();
        let changed = ledger.take_changed();
        if changed.is_empty() && !self.versions.is_empty() {
            return;
        }
        // An empty ledger is stored too: it says since when there is one.
        let first = (changed.is_empty()).then(|| (0, String::new()));
        for (shard, text) in changed.into_iter().chain(first) {
            if let Err(error) = self.write(context, shard, text).await {
                tracing::warn!(shard, %error, "the ledger of changes cannot be stored; it is tried again");
                ledger.mark(shard);
            }
        }
        self.next = Some(now + PAUSE);
    }

    async fn write(&mut self, context: &Context, shard: usize, text: String) -> Result<(), kube::Error> {
        let api = Self::api(context);
        let name = format!("{NAME}-{shard}");
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: self.versions.get(&shard).cloned(),
                labels: Some(labels(("app.kubernetes.io/component", "change-ledger"))),
                ..ObjectMeta::default()
            },
            data: Some([(FIELD.to_owned(), ByteString(text.into_bytes()))].into()),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let written = match self.versions.get(&shard) {
            None => api.create(&params, &secret).await,
            Some(_) => api.replace(&name, &params, &secret).await,
        };
        match written {
            Ok(written) => {
                self.versions.insert(shard, written.resource_version().unwrap_or_default());
                Ok(())
            }
            Err(error) => {
                // Somebody else wrote or deleted it: the next time it is replaced by what this operator knows.
                match api.get_opt(&name).await?.and_then(|secret| secret.resource_version()) {
                    Some(version) => self.versions.insert(shard, version),
                    None => self.versions.remove(&shard),
                };
                Err(error)
            }
        }
    }
}
