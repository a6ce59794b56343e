//! The ways in which a question to a database fails.

use idm_trust::{DirectoryError, DirectoryErrorKind};

/// Why a question has no answer. Holds no value of any row or parameter.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: DirectoryErrorKind,
    pub(super) why: String,
    pub(super) cause: Cause,
}

/// The remedy for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection ended before there was an answer.
    Lost,
    /// The user name has characters that the database cannot hold, so nobody has this name.
    ImpossibleName,
    /// Anything else.
    Other,
}

impl Failure {
    pub(super) fn new(kind: DirectoryErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), cause: Cause::Other }
    }

    /// The connection ended.
    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self { cause: Cause::Lost, ..Self::new(DirectoryErrorKind::Unavailable, why) }
    }

    /// The server sent what the protocol does not allow.
    pub(super) fn broken(why: &str) -> Self {
        Self::new(DirectoryErrorKind::Unusable, format!("the server broke the protocol: {why}"))
    }

    /// The configuration does not fit the database.
    pub(super) fn unusable(why: impl Into<String>) -> Self {
        Self::new(DirectoryErrorKind::Unusable, why)
    }

    /// No TLS, or none that is trusted.
    pub(super) fn untrusted(why: impl Into<String>) -> Self {
        Self::new(DirectoryErrorKind::Untrusted, why)
    }

    /// The server refuses the gateway's own login.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::new(DirectoryErrorKind::RefusesUs, why)
    }

    /// An error that the server reported. Messages are shown where they are about the statement and never about values.
    pub(super) fn reported(kind: DirectoryErrorKind, code: &str, message: Option<&str>) -> Self {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let message = message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        let separator = if message.is_empty() { "" } else { ": " };
        Self::new(kind, format!("the server reports error {code}{separator}{message}"))
    }

    /// The error for others, which names the server.
    pub(super) fn at(self, server: &str) -> DirectoryError {
        DirectoryError::new(self.kind, format!("{server}: {}", self.why))
    }
}

impl From<DirectoryError> for Failure {
    /// An error of the connection, whose text begins with the server.
    fn from(error: DirectoryError) -> Self {
        let DirectoryError { kind, detail } = error;
        let why = detail.split_once(": ").map_or(detail.as_str(), |(_, why)| why).to_owned();
        Self::new(kind, why)
    }
}
