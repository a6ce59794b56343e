//! The trait that each protocol implements. Bounds on time and number are not its concern.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use idm_trust::{DirectoryError, Login, LoginAnswer};

/// A question under way.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Result<LoginAnswer, DirectoryError>> + Send + 'a>>;

/// One directory by its protocol. A future that is dropped leaves no connection behind that a later login could find in
/// an unknown state.
pub(crate) trait Driver: Send + Sync {
    /// Checks a password once: a server that has answered a bind is not asked again, nor is another one. All of it ends
    /// at the deadline.
    fn verify(&self, login: Login, deadline: Instant) -> Running<'_>;

    /// Reads a person again by id.
    fn look_up(&self, id: String, username: String, deadline: Instant) -> Running<'_>;
}
