//! The bundle that the operator writes: mounted for a cold start without an API server, and watched
//! by name so that a change is in force within moments. Shards of Credentials lie beside it in both places.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use idm_plan::{Bundle, SHARD_VERSIONS, shard_secret};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::watch;

use super::opener::Opener;
use super::shards::{ShardSource, Shards};
use crate::Gateway;

/// The Secrets with a gateway's configuration, and how what is in them is opened.
#[derive(Clone)]
pub struct Config {
    /// Its name.
    pub secret: String,
    /// The Secret that those with shards are named after: one for all gateways of a namespace.
    pub shards: String,
    /// Opens all of them.
    pub opener: Opener,
}

/// The key of the Secret, and the name of the mounted file.
pub const BUNDLE_KEY: &str = "bundle";
const POLL: Duration = Duration::from_secs(1);

/// The mounted shards: a folder for each number.
struct Mounted(PathBuf);

impl ShardSource for Mounted {
    async fn versions(&self, number: usize) -> Result<Vec<Vec<u8>>, String> {
        let read = |version: &str| std::fs::read(self.0.join(number.to_string()).join(version)).ok();
        Ok(SHARD_VERSIONS.iter().filter_map(|version| read(version)).collect())
    }
}

/// The Secrets of shards, which are read by name.
struct Stored {
    secrets: Api<Secret>,
    /// Of the Secret that their names are made of.
    name: String,
}

impl ShardSource for Stored {
    async fn versions(&self, number: usize) -> Result<Vec<Vec<u8>>, String> {
        let name = shard_secret(&self.name, number);
        let secret = self.secrets.get_opt(&name).await.map_err(|error| format!("Secret {name}: {error}"))?;
        let mut data = secret.and_then(|secret| secret.data).ok_or_else(|| format!("there is no Secret {name}"))?;
        Ok(SHARD_VERSIONS.iter().filter_map(|version| Some(data.remove(*version)?.0)).collect())
    }
}

/// Reads the mounted file until the watch delivers; the file only ever moves forward, because the
/// kubelet updates it later than the watch does. Shards are in folders of `shards`.
pub async fn follow_file(
    path: PathBuf,
    shards: PathBuf,
    config: Config,
    gateway: Arc<Gateway>,
    mut stop: watch::Receiver<bool>,
) {
    let mut seen = Vec::new();
    let mut mounted = Shards::new(Mounted(shards), config, gateway.clone());
    loop {
        let is_newer = |bundle: &Bundle| gateway.generation().is_none_or(|current| bundle.generation > current);
        match std::fs::read(&path) {
            Ok(packed) if packed != seen => {
                mounted.take(&packed, is_newer).await;
                seen = packed;
            }
            Ok(_) => mounted.go_on(is_newer).await,
            Err(error) if seen.is_empty() => {
                tracing::warn!(path = %path.display(), %error, "no mounted configuration yet")
            }
            Err(_) => {}
        }
        if tokio::time::timeout(POLL, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

/// Watches the Secret of the configuration in its namespace until `stop` turns true.
pub async fn follow_secret(namespace: String, config: Config, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let name = config.secret.clone();
    let client = loop {
        match Client::try_default().await {
            Ok(client) => break client,
            Err(error) => tracing::warn!(%error, "no API server: the mounted configuration serves"),
        }
        if tokio::time::timeout(Duration::from_secs(5), stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    };
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let of_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut watched = watcher(secrets.clone(), of_name).boxed();
    let mut stored = Shards::new(Stored { secrets, name: config.shards.clone() }, config, gateway.clone());
    let is_other = |bundle: &Bundle| {
        gateway
            .version()
            .is_none_or(|(generation, digest)| (bundle.generation, bundle.digest.as_str()) != (generation, &*digest))
    };
    loop {
        tokio::select! {
            event = watched.next() => match event {
                Some(Ok(Event::Apply(secret) | Event::InitApply(secret))) => {
                    if let Some(packed) = secret.data.as_ref().and_then(|data| data.get(BUNDLE_KEY)) {
                        stored.take(&packed.0, is_other).await;
                    }
                }
                Some(Ok(_)) => {}
                // The watcher goes on by itself after an error when it is polled again; a pause keeps it polite.
                Some(Err(error)) => {
                    tracing::warn!(%error, "the configuration cannot be watched for now");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                None => return,
            },
            () = stored.due() => stored.go_on(is_other).await,
            () = stopped(&mut stop) => return,
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
