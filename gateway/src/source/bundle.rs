//! The bundle that the operator writes: mounted for a cold start without an API server, and watched
//! by name so that a change is in force within moments.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use idm_plan::Bundle;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::Gateway;

/// The key of the Secret, and the name of the mounted file.
pub const BUNDLE_KEY: &str = "bundle";
const POLL: Duration = Duration::from_secs(1);

/// Reads the mounted file until the watch delivers; the file only ever moves forward, because the
/// kubelet updates it later than the watch does.
pub async fn follow_file(path: PathBuf, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut seen = Vec::new();
    loop {
        match std::fs::read(&path) {
            Ok(packed) if packed != seen => {
                apply(&packed, &gateway, |bundle| {
                    gateway.generation().is_none_or(|current| bundle.generation > current)
                })
                .await;
                seen = packed;
            }
            Ok(_) => {}
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

/// Watches the Secret `namespace/name` until `stop` turns true.
pub async fn follow_secret(namespace: String, name: String, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
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
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let watched = watcher(secrets, config).try_for_each(|event| {
        let gateway = gateway.clone();
        async move {
            if let Event::Apply(secret) | Event::InitApply(secret) = event {
                if let Some(packed) = secret.data.as_ref().and_then(|data| data.get(BUNDLE_KEY)) {
                    apply(&packed.0, &gateway, |bundle| {
                        gateway.version().is_none_or(|(generation, digest)| {
                            (bundle.generation, bundle.digest.as_str()) != (generation, &*digest)
                        })
                    })
                    .await;
                }
            }
            Ok(())
        }
    });
    let mut watched = std::pin::pin!(watched);
    loop {
        tokio::select! {
            outcome = watched.as_mut() => match outcome {
                // The watcher goes on by itself after an error when it is polled again; a pause keeps it polite.
                Err(error) => {
                    tracing::warn!(%error, "the configuration cannot be watched for now");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(()) => return,
            },
            () = stopped(&mut stop) => return,
        }
    }
}

async fn apply(packed: &[u8], gateway: &Gateway, wanted: impl Fn(&Bundle) -> bool) {
    match Bundle::unpack(packed) {
        Ok(bundle) => match gateway.apply_if(&bundle, || wanted(&bundle)).await {
            Ok(true) => tracing::info!(generation = bundle.generation, "configuration in force"),
            Ok(false) => {}
            Err(error) => gateway.refused(&error.to_string()),
        },
        Err(error) => gateway.refused(&error.to_string()),
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
