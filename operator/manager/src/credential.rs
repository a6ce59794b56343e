//! Credentials of a folder or of a cluster: made, shown, rotated and revoked. `idm credential` and the API call this.

mod cluster;
mod folder;
mod supply;

use std::path::PathBuf;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use idm_gateway::source::dir::DirError;
use idm_types::ApiKey;
use serde_json::Value;

pub use cluster::ClusterCredentials;
pub use folder::FolderCredentials;
pub use supply::{leave_out_sealed, supply_secrets};

/// Why something was not done with a Credential. Its texts hold no key.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// There is no such Credential.
    #[error("no Credential '{0}' here")]
    NotFound(String),
    /// There is one of this name already.
    #[error("Credential '{0}' exists: rotate it to give it a new key")]
    Exists(String),
    /// It cannot be done with this Credential.
    #[error("{0}")]
    Refused(String),
    /// The folder cannot be read, or would be out of order.
    #[error(transparent)]
    Folder(#[from] DirError),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The API server says no.
    #[error("{what}: {message}")]
    Api {
        /// The question.
        what: String,
        /// The status of its answer.
        code: u16,
        /// The words of its answer.
        message: String,
    },
    /// No API server answers.
    #[error("no cluster: set KUBECONFIG, or name a folder with --dir")]
    NotConnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The system gave no random bits.
    #[error("the system gave no random bits")]
    NoRandom,
}

/// A Credential, as a folder or a cluster knows it; without a key.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// `apiKey`, `password`, `oauthClient` or `person`.
    pub kind: String,
    /// The person or the program it is for.
    pub owner: Option<String>,
    /// The time from which on it is refused.
    pub expires: Option<String>,
    /// Whether it is refused for now.
    pub suspended: bool,
    /// As the members of `status.keys`.
    pub keys: Vec<Value>,
    /// The Secret that holds its key, in a cluster.
    pub secret: Option<String>,
    /// The obstacle in its way, or a remark.
    pub message: Option<String>,
}

/// A key that was made a moment ago.
#[derive(Debug)]
pub struct Made {
    /// The Credential.
    pub name: String,
    /// The key.
    pub key: ApiKey,
    /// Its id.
    pub id: String,
    /// The key before it, and until when it works.
    pub old: Option<(String, String)>,
    /// The file with its hash.
    pub file: String,
}

/// 256 random bits as an API key.
///
/// # Errors
/// The system gave no random bits.
pub fn new_api_key() -> Result<ApiKey, CredentialError> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| CredentialError::NoRandom)?;
    Ok(ApiKey::from_random(random))
}

/// Whether a text can name a Credential, with room for what is appended to it.
pub fn is_credential_name(text: &str) -> bool {
    let is_end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    (1..=240).contains(&bytes.len())
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}
