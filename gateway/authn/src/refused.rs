//! The refusal of a request that the gateway answers itself.

use idm_request::Identity;
use std::rc::Rc;

use idm_session::SessionError;
use idm_store::StoreError;
use idm_types::{Reason, Refusal};

/// The refusal of such a request, with the data for its record and page.
#[derive(Debug)]
pub struct Refused {
    /// The refusal.
    pub refusal: Refusal,
    /// The identity, where the caller was authenticated.
    pub who: Option<Rc<Identity>>,
    /// The page for which a browser may begin its sign-in anew.
    pub again: Option<Box<str>>,
    /// The form in which a person may try again at once.
    pub form: Option<Box<LoginForm>>,
}

/// The form for user name and password of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginForm {
    /// The Federation, by name.
    pub federation: String,
    /// The sealed sign-in.
    pub state: String,
    /// The user name that was typed.
    pub username: String,
    /// It asks for a new password, too.
    pub changes_password: bool,
}

impl Refused {
    /// A refusal of a caller who was not authenticated.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Refusal::new(reason, detail).into()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, who: None, again: None, form: None }
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
