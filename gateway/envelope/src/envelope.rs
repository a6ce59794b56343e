//! Sealing and opening by a key service, which is asked once for each data key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use idm_types::Redacted;
use tokio::sync::Mutex;

use crate::{DataKey, KeyError, KeyService, Place, Sealed, is_sealed};

/// Data keys that are remembered; all are forgotten when there are more.
const MOST_OPENED: usize = 4096;

/// Seals and opens values. Each namespace has a data key of its own, which is taken from what is stored already where
/// the key for new values wrapped it: the same value is sealed into the same bytes then, also by another process.
pub struct Envelope {
    service: Box<dyn KeyService>,
    // It is held while the service is asked, so that a data key is asked for once.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The data keys for new values, by namespace.
    current: BTreeMap<String, Arc<Wrapped>>,
    /// The data keys that were unwrapped, by the hash of all that the service was asked.
    opened: HashMap<[u8; 32], Arc<Wrapped>>,
}

struct Wrapped {
    key_id: String,
    wrapped: Vec<u8>,
    key: DataKey,
}

/// Why a value is not sealed, or not opened. Nothing of the value is in it.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is stored in the clear.
    #[error("it is not sealed, and everything must be: somebody else wrote it, or sealing was switched on later")]
    NotSealed,
    /// It is cut off, or of a newer version.
    #[error("it is sealed in a form that this version does not read, or cut off")]
    Malformed,
    /// Its key is not to be had.
    #[error("it cannot be sealed or opened with key `{key_id}`: {source}")]
    Key {
        /// The id of the key.
        key_id: String,
        /// The reason, which is a part of the message already.
        source: KeyError,
    },
    /// It was changed, or moved.
    #[error("it was sealed with key `{key_id}` and does not open: it was damaged, or comes from another place")]
    Wrong {
        /// The id of the key that it names.
        key_id: String,
    },
    /// It cannot be sealed.
    #[error("it cannot be sealed: {0}")]
    Impossible(String),
}

impl SealError {
    /// The id of the key that it is about.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::Key { key_id, .. } | Self::Wrong { key_id } => Some(key_id),
            Self::NotSealed | Self::Malformed | Self::Impossible(_) => None,
        }
    }
}

impl Envelope {
    /// One that asks this service.
    pub fn new(service: impl KeyService + 'static) -> Self {
        Self { service: Box::new(service), known: Mutex::default() }
    }

    /// The id of the key for new values.
    pub fn primary(&self) -> Result<String, SealError> {
        self.service.primary().map_err(|error| SealError::Impossible(error.to_string()))
    }

    /// Seals a value for its place, under the key for new values.
    pub async fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let current = self.current(place.namespace).await?;
        let Wrapped { key_id, wrapped, key } = &*current;
        let sealed = Sealed::seal(key, key_id, wrapped, place, plain);
        sealed.ok_or_else(|| SealError::Impossible(format!("key `{key_id}` has no room in the format")))
    }

    /// Opens a value that was sealed for this place.
    pub async fn open(&self, place: &Place<'_>, bytes: &[u8]) -> Result<Redacted<Vec<u8>>, SealError> {
        if !is_sealed(bytes) {
            return Err(SealError::NotSealed);
        }
        let sealed = Sealed::parse(bytes).ok_or(SealError::Malformed)?;
        let data_key = self.unwrapped(place.namespace, &sealed).await?;
        let wrong = || SealError::Wrong { key_id: sealed.key_id().to_owned() };
        let opened = sealed.open(&data_key.key, place).ok_or_else(wrong)?;
        self.adopt(place.namespace, &data_key).await;
        Ok(opened)
    }

    /// The bytes of a value that is stored, if they are of the same value and sealed; else new ones. So nothing is
    /// written again only to be sealed with another data key.
    pub async fn seal_again(
        &self,
        place: &Place<'_>,
        plain: &[u8],
        stored: Option<&[u8]>,
    ) -> Result<Vec<u8>, SealError> {
        if let Some(stored) = stored {
            if self.open(place, stored).await.is_ok_and(|known| known.reveal() == plain) {
                return Ok(stored.to_vec());
            }
        }
        self.seal(place, plain).await
    }

    async fn current(&self, namespace: &str) -> Result<Arc<Wrapped>, SealError> {
        let key_id = self.primary()?;
        let mut known = self.known.lock().await;
        if let Some(current) = known.current.get(namespace).filter(|current| current.key_id == key_id) {
            return Ok(current.clone());
        }
        let key = DataKey::random().ok_or_else(|| SealError::Impossible("the system gives no random bits".into()))?;
        let failed = |source: KeyError| SealError::Key { key_id: key_id.clone(), source };
        let wrapped = self.service.wrap(&key_id, namespace, &key).await.map_err(failed)?;
        // A data key that does not come back would be lost with everything under it.
        let back = self.service.unwrap(&key_id, namespace, &wrapped).await.map_err(failed)?;
        if !back.is(&key) {
            return Err(failed(KeyError::WrongAnswer(key_id.clone())));
        }
        let current = Arc::new(Wrapped { key_id, wrapped, key });
        known.current.insert(namespace.to_owned(), current.clone());
        Ok(current)
    }

    async fn unwrapped(&self, namespace: &str, sealed: &Sealed) -> Result<Arc<Wrapped>, SealError> {
        let (key_id, wrapped) = (sealed.key_id(), sealed.wrapped());
        let mut hash = digest::Context::new(&SHA256);
        for part in [namespace.as_bytes(), key_id.as_bytes(), wrapped] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finish().as_ref().try_into().unwrap_or_default();
        let mut known = self.known.lock().await;
        if let Some(opened) = known.opened.get(&hash) {
            return Ok(opened.clone());
        }
        let failed = |source| SealError::Key { key_id: key_id.to_owned(), source };
        let key = self.service.unwrap(key_id, namespace, wrapped).await.map_err(failed)?;
        let opened = Arc::new(Wrapped { key_id: key_id.to_owned(), wrapped: wrapped.to_vec(), key });
        if known.opened.len() >= MOST_OPENED {
            known.opened.clear();
        }
        known.opened.insert(hash, opened.clone());
        Ok(opened)
    }

    /// Uses a data key for new values, where there is none yet. Only after it has opened something: a service that
    /// answers wrongly makes no key.
    async fn adopt(&self, namespace: &str, data_key: &Arc<Wrapped>) {
        if self.service.primary().is_ok_and(|primary| primary == data_key.key_id) {
            let mut known = self.known.lock().await;
            let current = known.current.get(namespace);
            if current.is_none_or(|current| current.key_id != data_key.key_id) {
                known.current.insert(namespace.to_owned(), data_key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
