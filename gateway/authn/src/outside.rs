//! Questions to outside servers, asked by whoever may do IO.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use idm_plan::{SecretHandle, Secrets};
use idm_types::Redacted;

/// A form for an OAuth endpoint, sent with `client_secret_basic`.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where to ask.
    pub endpoint: String,
    /// Who asks.
    pub client_id: String,
    /// The client's secret.
    pub secret: Redacted<String>,
    /// The parameters.
    pub form: Vec<(&'static str, Redacted<String>)>,
}

/// Why there is no answer. Holds neither token nor secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The server answered with another status than 200, and perhaps an OAuth error code.
    #[error("{endpoint} answered {status}{}", .error.as_ref().map(|error| format!(" {error}")).unwrap_or_default())]
    Refused {
        /// The server.
        endpoint: String,
        /// The status.
        status: u16,
        /// The `error` of RFC 6749 §5.2.
        error: Option<String>,
    },
    /// There is none.
    #[error("{0}")]
    Failed(String),
}

/// The body of a 200 response.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<u8>, NoAnswer>> + Send>>;

/// Asks outside servers; lives where IO is allowed. Bounded in time and number.
pub trait Outside: Send + Sync {
    /// Asks.
    fn ask(&self, question: Question) -> Answer;
}

/// As whom, and where, one method asks.
pub(crate) struct OutsideClient {
    endpoint: String,
    client_id: String,
    secret: Redacted<String>,
    outside: Arc<dyn Outside>,
}

impl OutsideClient {
    /// The error shows no secret.
    pub(crate) fn new(endpoint: &str, client_id: &str, handle: &SecretHandle, secrets: &Secrets, outside: Arc<dyn Outside>) -> Result<Self, String> {
        let secret = secrets.get(handle).and_then(|value| String::from_utf8(value.reveal().clone()).ok());
        let secret = secret.ok_or_else(|| format!("the secret `{}` is missing", handle.0))?;
        Ok(Self { endpoint: endpoint.to_owned(), client_id: client_id.to_owned(), secret: Redacted::new(secret.trim_end().to_owned()), outside })
    }

    pub(crate) fn ask(&self, form: Vec<(&'static str, Redacted<String>)>) -> Answer {
        self.outside.ask(Question { endpoint: self.endpoint.clone(), client_id: self.client_id.clone(), secret: self.secret.clone(), form })
    }
}
