//! Why a request that the gateway answers itself got nothing.

use std::rc::Rc;

use idm_session::SessionError;
use idm_store::StoreError;
use idm_types::Reason;

use crate::{Denied, Identity, ProviderError};

/// Why a request got nothing.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub reason: Reason,
    /// For the audit. Never holds a secret or a token.
    pub detail: String,
    /// Seconds until another attempt is looked at.
    pub retry_after: Option<u64>,
    /// Who it was, where somebody had proved themselves.
    pub who: Option<Rc<Identity>>,
    /// The page for which a browser may begin its sign-in anew.
    pub again: Option<String>,
}

impl Refused {
    /// Nobody had proved themselves.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None, who: None, again: None }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self { retry_after: denied.retry_after, ..Self::new(denied.reason, denied.detail) }
    }
}

impl From<ProviderError> for Refused {
    fn from(error: ProviderError) -> Self {
        Self { retry_after: error.retry_after, ..Self::new(error.reason, error.detail) }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::new(Reason::StoreUnavailable, error.to_string())
    }
}

impl From<SessionError> for Refused {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::TooLarge => Self::new(Reason::UnusableClaim, error.to_string()),
            SessionError::NoEntropy => Self::new(Reason::InternalError, error.to_string()),
        }
    }
}
