//! Opens the bundle, its shards and its other files where they are sealed.

use std::sync::Arc;

use idm_envelope::{Envelope, Place, SealError, Sealed, is_sealed};
use idm_types::Redacted;

/// Opens what the operator wrote for the gateways of one namespace. With an envelope everything must be sealed, without
/// one nothing may be.
#[derive(Clone)]
pub struct Opener {
    envelope: Option<Arc<Envelope>>,
    namespace: String,
}

/// Why something was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is sealed, and there is no envelope.
    #[error("it is sealed with key `{0}`, and this gateway has no keys: give it --seal-keys or --seal-command")]
    NoKeys(String),
    /// It does not open.
    #[error(transparent)]
    Sealed(#[from] SealError),
}

impl OpenError {
    /// Whether it may open later: keys arrive with the next update of a mounted Secret, and a command answers again.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Sealed(SealError::Key { .. } | SealError::Impossible(_)))
    }
}

impl Opener {
    /// For the gateways of a namespace.
    pub fn new(namespace: &str, envelope: Option<Arc<Envelope>>) -> Self {
        Self { envelope, namespace: namespace.to_owned() }
    }

    /// Opens the bytes of a field of a Secret.
    pub async fn open(&self, object: &str, field: &str, bytes: &[u8]) -> Result<Redacted<Vec<u8>>, OpenError> {
        match &self.envelope {
            Some(envelope) => Ok(envelope.open(&Place { namespace: &self.namespace, object, field }, bytes).await?),
            None if is_sealed(bytes) => {
                let key_id = Sealed::parse(bytes).map(|sealed| sealed.key_id().to_owned());
                Err(OpenError::NoKeys(key_id.unwrap_or_else(|| "of a newer form".into())))
            }
            None => Ok(Redacted::new(bytes.to_vec())),
        }
    }
}
