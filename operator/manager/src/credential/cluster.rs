//! Credentials of a cluster. The operator makes keys and revokes them; here it is asked by annotations, which are no
//! part of what Git or a chart writes, and its answer is awaited in the status.

use std::time::{Duration, Instant};

use idm_api::v1alpha1::Credential;
use idm_api::{REVOKE_ANNOTATION, ROTATE_ANNOTATION};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::{CredentialError, Shown};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Credentials of one namespace.
pub struct ClusterCredentials {
    api: Api<Credential>,
}

fn failed(error: kube::Error, what: String) -> CredentialError {
    match error {
        kube::Error::Api(status) => CredentialError::Api { what, code: status.code, message: status.message.clone() },
        other => CredentialError::NotConnected(Box::new(other)),
    }
}

impl ClusterCredentials {
    /// As kubectl would: of the namespace named, or of that of the kubeconfig.
    ///
    /// # Errors
    /// No cluster is known.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, CredentialError> {
        let client = Client::try_default().await.map_err(|error| CredentialError::NotConnected(Box::new(error)))?;
        let api = match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Ok(Self { api })
    }

    /// With the rights of a client.
    pub fn with(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }

    async fn get(&self, name: &str) -> Result<Credential, CredentialError> {
        self.api.get(name).await.map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    /// All Credentials.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn all(&self) -> Result<Vec<Shown>, CredentialError> {
        let all = self.api.list(&ListParams::default()).await;
        Ok(all.map_err(|error| failed(error, "Credentials".to_owned()))?.items.iter().map(shown).collect())
    }

    /// One Credential.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn one(&self, name: &str) -> Result<Shown, CredentialError> {
        self.get(name).await.map(|object| shown(&object))
    }

    /// Makes a Credential, for which the operator makes a key.
    ///
    /// # Errors
    /// The API server says no, or does not answer.
    pub async fn create(&self, name: &str, mut spec: Value) -> Result<(), CredentialError> {
        spec["apiKey"] = json!({});
        self.add(name, &spec).await
    }

    /// Makes a Credential whose proof is in the spec.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn add(&self, name: &str, spec: &Value) -> Result<(), CredentialError> {
        let object = json!({"apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
            "metadata": {"name": name}, "spec": spec});
        let object = serde_json::from_value(object).map_err(|error| CredentialError::Refused(error.to_string()))?;
        let made = self.api.create(&PostParams::default(), &object).await;
        made.map(drop).map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    async fn annotate(&self, name: &str, annotations: Value) -> Result<(), CredentialError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = self.api.patch(name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| failed(error, format!("Credential '{name}'")))
    }

    /// Looks at a Credential until it is as wanted.
    async fn until(
        &self,
        name: &str,
        wait: Duration,
        wanted: impl Fn(&Credential) -> Result<bool, CredentialError>,
    ) -> Result<Credential, CredentialError> {
        let began = Instant::now();
        loop {
            let object = self.get(name).await?;
            if wanted(&object)? {
                return Ok(object);
            }
            if began.elapsed() >= wait {
                return Err(CredentialError::Refused(format!(
                    "it is asked for, and the operator has not done it within {} s: `idm credential show {name}` tells \
                     how far it is",
                    wait.as_secs()
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks for the next key, and waits until the gateways know it.
    ///
    /// # Errors
    /// The API server or the operator says no, or it takes too long.
    pub async fn rotate(
        &self,
        name: &str,
        request: &str,
        overlap: &str,
        wait: Duration,
    ) -> Result<Shown, CredentialError> {
        // The status of an earlier request is no answer to this one.
        let told_before = refusal(&self.get(name).await?);
        self.annotate(name, json!({ROTATE_ANNOTATION: format!("{request} overlap={overlap}")})).await?;
        let answered = |object: &Credential| {
            if let Some(why) = refusal(object).filter(|why| Some(why) != told_before.as_ref()) {
                return Err(CredentialError::Refused(why));
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
    ///
    /// # Errors
    /// There is no such key, the API server says no, or it takes too long.
    pub async fn revoke(&self, name: &str, key: Option<&str>, wait: Duration) -> Result<Vec<String>, CredentialError> {
        let object = self.get(name).await?;
        let keys = object.status.as_ref().map(|status| status.keys.as_slice()).unwrap_or_default();
        let lives = keys.iter().filter(|key| matches!(key.state.as_str(), "Active" | "Overlapping"));
        let chosen: Vec<String> = match key {
            Some(id) => vec![id.to_owned()],
            None => lives.map(|key| key.id.clone()).collect(),
        };
        if chosen.is_empty() {
            return Err(CredentialError::Refused(format!(
                "Credential '{name}' has no key that works: `idm credential show {name}` lists what it had"
            )));
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
    let status = object.status.as_ref();
    let keys = status.map(|status| status.keys.as_slice()).unwrap_or_default();
    let ready = status.into_iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == "Ready");
    Shown {
        name: object.name_any(),
        kind: spec.kind().to_owned(),
        owner: spec.owner.as_ref().and_then(|owner| owner.user.clone().or_else(|| owner.application.clone())),
        expires: spec.expire_time.clone(),
        suspended: spec.suspend.unwrap_or(false),
        keys: keys.iter().filter_map(|key| serde_json::to_value(key).ok()).collect(),
        secret: spec.secret_ref.as_ref().map(|reference| reference.name.clone()),
        message: ready.filter(|ready| ready.reason != "Ready").map(|ready| ready.message.clone()),
    }
}
