//! The owner of key-encryption keys, as everything here sees it.

use std::pin::Pin;

use crate::DataKey;

/// An answer of a [`KeyService`].
pub type KeyFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyError>> + Send + 'a>>;

/// Wraps and unwraps data keys under key-encryption keys that it does not give away. A data key belongs to a namespace:
/// a service may give each of them keys of its own.
pub trait KeyService: Send + Sync {
    /// The id of the key that wraps what is new.
    fn primary(&self) -> Result<String, KeyError>;
    /// Wraps a data key.
    fn wrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, key: &'a DataKey) -> KeyFuture<'a, Vec<u8>>;
    /// Unwraps a data key. An answer other than the key that was wrapped opens nothing.
    fn unwrap<'a>(&'a self, key_id: &'a str, namespace: &'a str, wrapped: &'a [u8]) -> KeyFuture<'a, DataKey>;
}

/// Why a key is not usable. No message has anything that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is not there.
    #[error("there is no key `{0}` here: add it to the keys")]
    Unknown(String),
    /// Another key wrapped it, or it was changed.
    #[error("key `{0}` did not wrap its data key, or did so for another namespace")]
    NotWrapped(String),
    /// A data key came back as another one, or in a form that is no answer.
    #[error("the answer for key `{0}` is not the data key that was wrapped")]
    WrongAnswer(String),
    /// There is no id for what is new.
    #[error("no key is named for new values")]
    NoPrimary,
    /// The keys have a form that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The command could not be started, or did not answer as it should.
    #[error("the command for keys {0}")]
    Command(String),
}
