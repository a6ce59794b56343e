//! Sealing at rest: all that gateways read, and the signing keys of token services, lie in Secrets under envelope
//! encryption. The keys are in a Secret of the operator's namespace, or behind a command.
//!
//! Gateways get keys that are derived for their namespace, in a Secret beside the bundle, or the same command.

mod count;
mod keys;
mod stored;

use std::collections::BTreeMap;

use idm_compile::{SIGNING_SECRET, World};
use idm_envelope::{Envelope, KeyCommand, Place, SealError, is_sealed};
use idm_plan::SHARD_VERSIONS;
use idm_types::Redacted;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};

pub(crate) use count::SealedCount;
use keys::SecretKeys;
pub use stored::{Census, Rekeyed};

/// The name of the Secret with the keys of a namespace's gateways.
pub(crate) const GATEWAY_KEYS: &str = "idm-gateway-seal";

/// The place of the keys under which everything is sealed
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SealingOptions {
    /// Secret in the operator's namespace with the keys under which all that gateways read, and signing keys, are
    /// sealed
    #[arg(long, env = "IDM_SEAL_KEY_SECRET", conflicts_with_all = ["seal_command", "seal_key_id"])]
    seal_key_secret: Option<String>,
    /// Program, with arguments behind it, that wraps and unwraps the keys of what is sealed: of operator and gateways
    #[arg(long, env = "IDM_SEAL_COMMAND", value_delimiter = ' ', requires = "seal_key_id")]
    seal_command: Vec<String>,
    /// The id of the program's key for new values
    #[arg(long, env = "IDM_SEAL_KEY_ID", requires = "seal_command")]
    seal_key_id: Option<String>,
}

/// The settings of sealing for gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewaySealing {
    /// Their keys are in a Secret of their namespace.
    Keys,
    /// They ask this command.
    Command(Vec<String>),
}

/// Something that lies in a Secret is not opened, or not sealed.
#[derive(Debug, thiserror::Error)]
#[error("Secret {namespace}/{object}, key '{field}': {source}")]
pub struct SealFailure {
    namespace: String,
    object: String,
    field: String,
    source: SealError,
}

/// Seals and opens.
pub struct Sealing {
    envelope: Envelope,
    /// The keys, where they are not a command's.
    keys: Option<SecretKeys>,
    client: Client,
}

impl SealingOptions {
    /// The settings for gateways; `None`: nothing is sealed.
    pub(crate) fn of_gateways(&self) -> Option<GatewaySealing> {
        match (&self.seal_key_secret, self.seal_command.is_empty()) {
            (Some(_), _) => Some(GatewaySealing::Keys),
            (None, false) => Some(GatewaySealing::Command(self.seal_command.clone())),
            (None, true) => None,
        }
    }

    /// Finds the keys. Without usable ones nothing may be written, so this is an error then.
    pub async fn sealing(&self, client: &Client, namespace: &str) -> anyhow::Result<Option<Sealing>> {
        let client = client.clone();
        if let Some(name) = &self.seal_key_secret {
            let keys = SecretKeys::read(&client, namespace, name).await?;
            let envelope = Envelope::new(keys.shared());
            return Ok(Some(Sealing { envelope, keys: Some(keys), client }));
        }
        if self.seal_command.is_empty() {
            return Ok(None);
        }
        let command = KeyCommand::new(&self.seal_command, self.seal_key_id.clone())?;
        Ok(Some(Sealing { envelope: Envelope::new(command), keys: None, client }))
    }
}

/// The name that a field of one of our Secrets has in its place: versions of a shard have one in common.
fn field_in_place(field: &str) -> &str {
    if SHARD_VERSIONS.contains(&field) { idm_plan::SHARD_FIELD } else { field }
}

impl Sealing {
    /// Takes note of keys that were added, removed or made primary.
    pub(crate) async fn refresh(&self) {
        if let Some(keys) = &self.keys {
            keys.refresh(&self.client).await;
        }
    }

    /// Opens a field of a Secret.
    pub(crate) async fn open(
        &self,
        namespace: &str,
        object: &str,
        field: &str,
        bytes: &[u8],
    ) -> Result<Redacted<Vec<u8>>, SealFailure> {
        let place = Place { namespace, object, field: field_in_place(field) };
        self.envelope.open(&place, bytes).await.map_err(|source| failure(namespace, object, field, source))
    }

    /// Seals a field of a Secret; `stored` stays if it is the same value, sealed.
    pub(crate) async fn seal(
        &self,
        namespace: &str,
        object: &str,
        field: &str,
        plain: &[u8],
        stored: Option<&ByteString>,
    ) -> Result<ByteString, SealFailure> {
        let place = Place { namespace, object, field: field_in_place(field) };
        let stored = stored.map(|stored| stored.0.as_slice());
        let sealed = self.envelope.seal_again(&place, plain, stored).await;
        sealed.map(ByteString).map_err(|source| failure(namespace, object, field, source))
    }

    /// Seals all fields of a Secret that is to be written.
    pub(crate) async fn seal_secret(&self, secret: &mut Secret) -> Result<(), SealFailure> {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        for (field, value) in secret.data.iter_mut().flatten() {
            *value = self.seal(&namespace, &name, field, &value.0, None).await?;
        }
        Ok(())
    }

    /// The fields of the Secret with the keys of a namespace's gateways; `None`: they ask a command.
    pub(crate) fn keys_of_gateways(&self, namespace: &str) -> Option<BTreeMap<String, ByteString>> {
        let keys = self.keys.as_ref()?.now().of_namespace(namespace);
        Some(keys.into_iter().map(|(name, value)| (name, ByteString(value))).collect())
    }

    /// Opens the signing keys that a world has, and those of the namespaces whose routes it takes. A field that does
    /// not open is not there: the policies that need it say so, and the log says why.
    pub(crate) async fn open_world(&self, world: &mut World) {
        self.open_signing_keys(world).await;
        for tenant in world.tenants_mut() {
            self.open_signing_keys(tenant).await;
        }
    }

    async fn open_signing_keys(&self, world: &mut World) {
        let Some(values) = world.secrets.get_mut(SIGNING_SECRET) else { return };
        for (field, value) in std::mem::take(values) {
            if !is_sealed(value.reveal()) {
                values.insert(field, value);
                continue;
            }
            match self.open(&world.namespace, SIGNING_SECRET, &field, value.reveal()).await {
                Ok(opened) => drop(values.insert(field, opened)),
                Err(error) => tracing::error!("{error}"),
            }
        }
    }
}

/// Opens a field that may be in the clear still: it was written before everything was sealed.
pub(crate) async fn opened(
    sealing: Option<&Sealing>,
    namespace: &str,
    object: &str,
    field: &str,
    bytes: &[u8],
) -> Result<Redacted<Vec<u8>>, SealFailure> {
    match sealing {
        _ if !is_sealed(bytes) => Ok(Redacted::new(bytes.to_vec())),
        Some(sealing) => sealing.open(namespace, object, field, bytes).await,
        None => {
            let why = "it is sealed, and the operator has no keys: give it --seal-key-secret or --seal-command";
            Err(failure(namespace, object, field, SealError::Impossible(why.into())))
        }
    }
}

fn failure(namespace: &str, object: &str, field: &str, source: SealError) -> SealFailure {
    SealFailure { namespace: namespace.into(), object: object.into(), field: field.into(), source }
}
