//! Credentials of a cluster. The operator makes keys and revokes them; here it is asked by annotations, which are no
//! part of what Git or a chart writes, and its answer is awaited in the status.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use idm_api::v1alpha1::Credential;
use idm_api::{REVOKE_ANNOTATION, ROTATE_ANNOTATION};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::shown::Shown;

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The cluster could not be reached: the process ends with 3.
#[derive(Debug, thiserror::Error)]
#[error("no cluster: set KUBECONFIG, or name a folder with --dir")]
pub(crate) struct NotConnected;

/// Credentials of one namespace.
pub(super) struct Cluster {
    api: Api<Credential>,
}

fn failed(error: kube::Error, what: String) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("{what}: {}", status.message),
        other => anyhow::Error::new(other).context(NotConnected),
    }
}

impl Cluster {
    pub(super) async fn connect(namespace: Option<&str>) -> anyhow::Result<Self> {
        let client = Client::try_default().await.context(NotConnected)?;
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Ok(Self { api })
    }

    async fn get(&self, name: &str) -> anyhow::Result<Credential> {
        self.api.get(name).await.map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    pub(super) async fn all(&self) -> anyhow::Result<Vec<Shown>> {
        let all = self.api.list(&ListParams::default()).await;
        Ok(all.map_err(|error| failed(error, "Credentials".to_owned()))?.items.iter().map(shown).collect())
    }

    pub(super) async fn one(&self, name: &str) -> anyhow::Result<Shown> {
        self.get(name).await.map(|object| shown(&object))
    }

    pub(super) async fn create(&self, name: &str, mut spec: Value) -> anyhow::Result<()> {
        spec["apiKey"] = json!({});
        let object = json!({"apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": name}, "spec": spec});
        let made = self.api.create(&PostParams::default(), &serde_json::from_value(object)?).await;
        made.map(drop).map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    async fn annotate(&self, name: &str, annotations: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = self.api.patch(name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    /// Looks at a Credential until it is as wanted.
    async fn until(
        &self,
        name: &str,
        wait: Duration,
        wanted: impl Fn(&Credential) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Credential> {
        let began = Instant::now();
        loop {
            let object = self.get(name).await?;
            if wanted(&object)? {
                return Ok(object);
            }
            if began.elapsed() >= wait {
                bail!(
                    "it is asked for, and the operator has not done it within {} s: `idm credential show {name}` tells \
                     how far it is",
                    wait.as_secs()
                );
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks for the next key, and waits until the gateways know it.
    pub(super) async fn rotate(
        &self,
        name: &str,
        request: &str,
        overlap: &str,
        wait: Duration,
    ) -> anyhow::Result<Shown> {
        // The status of an earlier request is no answer to this one.
        let told_before = refusal(&self.get(name).await?);
        self.annotate(name, json!({ROTATE_ANNOTATION: format!("{request} overlap={overlap}")})).await?;
        let answered = |object: &Credential| {
            if let Some(why) = refusal(object).filter(|why| Some(why) != told_before.as_ref()) {
                bail!("{why}");
            }
            let status = object.status.as_ref();
            let rotation = status.and_then(|status| status.rotation.as_ref());
            let is_answered = rotation.is_some_and(|rotation| rotation.request.as_deref() == Some(request));
            let keys = status.map(|status| status.keys.as_slice()).unwrap_or_default();
            let is_known = keys
                .iter()
                .filter_map(|key| key.gateways.as_deref())
                .all(|gateways| gateways.split_once('/').is_some_and(|(known, all)| known == all));
            Ok(is_answered && is_known)
        };
        let mut told = shown(&self.until(name, wait, answered).await?);
        let object = self.get(name).await?;
        let secret =
            object.spec.secret_ref.as_ref().map(|of| (of.name.clone(), of.key.clone().unwrap_or("key".into())));
        told.message = secret.map(|(secret, key)| {
            format!("the new key: kubectl get secret {secret} -o jsonpath='{{.data.{key}}}' | base64 -d")
        });
        Ok(told)
    }

    /// Asks to revoke a key, or all that the Credential has now, and waits until it is done. Returns their ids.
    pub(super) async fn revoke(&self, name: &str, key: Option<&str>, wait: Duration) -> anyhow::Result<Vec<String>> {
        let object = self.get(name).await?;
        let keys = object.status.as_ref().map(|status| status.keys.as_slice()).unwrap_or_default();
        let lives = keys.iter().filter(|key| matches!(key.state.as_str(), "Active" | "Overlapping"));
        let chosen: Vec<String> = match key {
            Some(id) => vec![id.to_owned()],
            None => lives.map(|key| key.id.clone()).collect(),
        };
        if chosen.is_empty() {
            bail!("Credential '{name}' has no key that works: `idm credential show {name}` lists what it had");
        }
        let before = object.annotations().get(REVOKE_ANNOTATION).cloned().unwrap_or_default();
        let mut ids: Vec<&str> = before.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        ids.extend(chosen.iter().map(String::as_str));
        ids.dedup();
        self.annotate(name, json!({REVOKE_ANNOTATION: ids.join(",")})).await?;
        let done = |object: &Credential| {
            let keys = object.status.as_ref().map(|status| status.keys.as_slice()).unwrap_or_default();
            let is_done = |id: &String| keys.iter().any(|key| key.id == *id && key.state == "Revoked");
            Ok(chosen.iter().all(is_done))
        };
        self.until(name, wait, done).await?;
        Ok(chosen)
    }
}

/// Why the operator does not do what was asked.
fn refusal(object: &Credential) -> Option<String> {
    let ready = object.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == "Ready")?;
    (ready.reason == "NotRotated").then(|| ready.message.clone())
}

fn shown(object: &Credential) -> Shown {
    let spec = &object.spec;
    let kind = match (&spec.api_key, &spec.password, &spec.oauth_client) {
        (Some(_), _, _) => "apiKey",
        (_, Some(_), _) => "password",
        (_, _, Some(_)) => "oauthClient",
        _ => "person",
    };
    let status = object.status.as_ref();
    let keys = status.map(|status| status.keys.as_slice()).unwrap_or_default();
    let ready = status.into_iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == "Ready");
    Shown {
        name: object.name_any(),
        kind: kind.to_owned(),
        owner: spec.owner.as_ref().and_then(|owner| owner.user.clone().or_else(|| owner.application.clone())),
        expires: spec.expire_time.clone(),
        suspended: spec.suspend.unwrap_or(false),
        keys: keys.iter().filter_map(|key| serde_json::to_value(key).ok()).collect(),
        message: ready.filter(|ready| ready.reason != "Ready").map(|ready| ready.message.clone()),
    }
}
