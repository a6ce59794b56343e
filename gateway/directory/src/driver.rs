//! The trait that each protocol implements. Bounds on time and number are not its concern.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use idm_trust::{DirectoryError, DirectoryErrorKind, HashAnswer, Login, LoginAnswer, NameAsked, Password};

/// A question under way.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<LoginAnswer, DirectoryError>> + Send + 'a>>;

/// The same about a hash.
pub(crate) type Reading<'a> = Pin<Box<dyn Future<Output = Result<HashAnswer, DirectoryError>> + Send + 'a>>;

/// One directory by its protocol. A future that is dropped leaves no connection behind that a later login could find in
/// an unknown state.
pub(crate) trait Driver: Send + Sync {
    /// Checks a password once: a server that has answered a bind is not asked again, nor is another one. All of it ends
    /// at the deadline.
    fn verify(&self, login: Login, deadline: Instant) -> Running<'_>;

    /// Checks a password once, as [`Driver::verify`] does, and replaces it if the account wants that.
    fn change(&self, _login: Login, _new: Password, _deadline: Instant) -> Running<'_> {
        let detail = "passwords are not changed at a directory of this type";
        Box::pin(std::future::ready(Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail))))
    }

    /// Reads the hash of the Digest scheme.
    fn hash(&self, _asked: NameAsked, _deadline: Instant) -> Reading<'_> {
        let detail = "a directory of this type gives no hashes";
        Box::pin(std::future::ready(Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail))))
    }

    /// Reads a person again by id.
    fn look_up(&self, id: String, username: String, deadline: Instant) -> Running<'_>;
}
