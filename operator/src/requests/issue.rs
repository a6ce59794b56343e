//! Makes the Credential of an approved request, once.
//!
//! The key exists in this function alone. A Secret takes its hash and its ciphertext in one write, and is never written
//! over: whoever goes on after an interruption finds both, or neither.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_api::v1alpha1::CredentialRequest;
use idm_compile::{encrypted_to, hash_secret_name, key_hash, made_credential};
use idm_plan::key_id;
use idm_types::ApiKey;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};

use crate::MANAGER;
use crate::credentials::{CREDENTIAL_LABEL, MANAGED_BY, labels};
use crate::objects::Kind;

/// The hash of the key, in its Secret.
const HASH: &str = "sha256";
/// The key for the recipient, in the Secret until it was received.
const CIPHERTEXT: &str = "encryptedKey";

/// The outcome.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The Credential is there, with a key of this id; the ciphertext is there while the key was not received.
    Made { key_id: String, ciphertext: Option<String> },
    /// It cannot be made: the reason and the message.
    Refused(&'static str, String),
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}

/// Makes Secret and Credential, as far as they are not there yet.
pub(super) async fn make(client: &Client, request: &CredentialRequest, hash: &str) -> anyhow::Result<Outcome> {
    let Some(manifest) = made_credential(request, hash, MANAGER) else {
        return Ok(Outcome::Refused("StaleAnswer", "the answer is to another request".into()));
    };
    let (namespace, name) = (request.namespace().unwrap_or_default(), request.name_any());
    let uid = request.uid().unwrap_or_default();
    let credentials = Kind::Credential.api(client, &namespace);
    let known = credentials.get_opt(&name).await?;
    if known.as_ref().is_some_and(|known| !is_of(known.owner_references(), &uid)) {
        return Ok(taken("Credential", &name));
    }
    let secret = match provide(client, request, &namespace, &uid).await? {
        Ok(secret) => secret,
        Err(name) => return Ok(taken("Secret", &name)),
    };
    if known.is_none() {
        let object: DynamicObject = serde_json::from_value(manifest)?;
        match credentials.create(&params(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(taken("Credential", &name)),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                return Ok(Outcome::Refused("Refused", status.message.clone()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text = |field: &str| Some(String::from_utf8_lossy(&secret.data.as_ref()?.get(field)?.0).into_owned());
    let sha256 = text(HASH).unwrap_or_default();
    Ok(Outcome::Made { key_id: key_id(&sha256).to_owned(), ciphertext: text(CIPHERTEXT) })
}

fn taken(kind: &str, name: &str) -> Outcome {
    let message = format!("a {kind} '{name}' is there already: delete it, or ask again under another name");
    Outcome::Refused("Conflicted", message)
}

fn is_of(owners: &[OwnerReference], uid: &str) -> bool {
    !uid.is_empty() && owners.iter().any(|owner| owner.uid == uid)
}

/// The Secret of a request, made now where there is none. The inner error is the name of one that is somebody else's.
async fn provide(
    client: &Client,
    request: &CredentialRequest,
    namespace: &str,
    uid: &str,
) -> anyhow::Result<Result<Secret, String>> {
    let (request_name, api) = (request.name_any(), Api::<Secret>::namespaced(client.clone(), namespace));
    let name = hash_secret_name(&request_name);
    if let Some(known) = api.get_opt(&name).await? {
        let is_ours = known.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER);
        return Ok(if is_ours && is_of(known.owner_references(), uid) { Ok(known) } else { Err(name) });
    }
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system gave no random bits"))?;
    let key = ApiKey::from_random(random);
    let ciphertext = encrypted_to(&request.spec.recipient, key.reveal().as_bytes())?;
    let data = [(HASH, key_hash(&key)), (CIPHERTEXT, ciphertext)];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels((CREDENTIAL_LABEL, &request_name))),
            owner_references: Some(vec![OwnerReference {
                api_version: "identity-manager.io/v1alpha1".into(),
                kind: Kind::CredentialRequest.name().into(),
                name: request_name.clone(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    };
    match api.create(&params(), &secret).await {
        Ok(made) => Ok(Ok(made)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Err(name)),
        Err(error) => Err(error.into()),
    }
}

/// Removes the ciphertext of a key that was received, or not received in time.
pub(super) async fn forget(client: &Client, namespace: &str, request: &str) -> Result<(), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = hash_secret_name(request);
    let Some(mut secret) = api.get_opt(&name).await? else { return Ok(()) };
    let is_ours = secret.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER);
    let removed = secret.data.as_mut().and_then(|data| data.remove(CIPHERTEXT));
    if !is_ours || removed.is_none() {
        return Ok(());
    }
    secret.metadata.managed_fields = None;
    api.replace(&name, &params(), &secret).await.map(drop)
}
