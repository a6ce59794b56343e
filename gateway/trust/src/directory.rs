//! Questions to directories, which a crate that may do IO asks.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use idm_plan::{DistinguishedName, ObjectKey, Secrets};
use idm_types::{Reason, Redacted};
use serde_json::{Map, Value};

/// A user name with a password that somebody presents.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name as it was typed; never empty.
    pub username: String,
    /// The same without its realm, where it has one that belongs to the directory: `ana` of `CORP\ana`.
    pub bare: Option<String>,
    /// The password; never empty.
    pub password: Password,
    /// The address of the caller, so that one caller cannot take every place; `None`: the gateway itself.
    pub caller: Option<IpAddr>,
    /// The steps that are taken, for people who try a Federation out.
    pub steps: Steps,
}

/// A password that is not empty: several directories take an empty one for an anonymous bind, which always succeeds
/// (RFC 4513 §5.1.2).
#[derive(Clone, Debug)]
pub struct Password(Redacted<String>);

impl Password {
    /// `None` for an empty password, and for one that begins with NUL, which servers written in C take for empty.
    pub fn new(text: Redacted<String>) -> Option<Self> {
        (!text.reveal().is_empty() && !text.reveal().starts_with('\0')).then_some(Self(text))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// A log of steps, in which nothing secret is written. Costs nothing unless somebody reads it.
#[derive(Clone, Debug, Default)]
pub struct Steps(Option<Arc<Mutex<Vec<String>>>>);

impl Steps {
    /// A log that keeps its steps.
    pub fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    /// Notes a step.
    pub fn note(&self, step: impl FnOnce() -> String) {
        if let Some(steps) = &self.0 {
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(step());
        }
    }

    /// The steps until now.
    pub fn read(&self) -> Vec<String> {
        self.0.as_ref().map(|steps| steps.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }
}

/// The answer to a login.
#[derive(Clone, Debug, PartialEq)]
pub enum LoginAnswer {
    /// The password is right, and the account may be used.
    Verified(Box<Person>),
    /// The password was right and is another one now; only after [`Directory::change`].
    Changed,
    /// Somebody else is asked, if there is somebody.
    Unknown,
    /// The login is refused for good.
    Refused(LoginRefused),
}

/// Why a directory refuses a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRefused {
    /// The password is wrong.
    WrongPassword,
    /// The name fits several people.
    Ambiguous,
    /// The password cannot be checked by the way it is stored: why, without the stored value.
    StoredPassword(String),
    /// The state of the account.
    Account(AccountState),
    /// The password is right and stays as it was, because the new one is not taken: why, without either.
    NewPassword(String),
}

/// A state in which an account may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It is disabled.
    Disabled,
    /// It is locked after wrong passwords, or by an administrator.
    Locked,
    /// It has expired.
    Expired,
    /// Its password has expired.
    PasswordExpired,
    /// Its password must be changed first.
    MustChangePassword,
    /// It may not be used now, or not from here.
    Restricted,
}

impl LoginRefused {
    /// The reason for the audit. Callers are told [`Reason::WrongPassword`] in all cases.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::WrongPassword => Reason::WrongPassword,
            Self::Ambiguous => Reason::AmbiguousUser,
            Self::StoredPassword(_) => Reason::StoredPasswordUnusable,
            Self::Account(state) => state.reason(),
            Self::NewPassword(_) => Reason::NewPasswordRefused,
        }
    }

    /// More about it for the operator, if there is more than the reason says.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::StoredPassword(why) | Self::NewPassword(why) => Some(why),
            Self::WrongPassword | Self::Ambiguous | Self::Account(_) => None,
        }
    }
}

impl AccountState {
    /// The reason for the audit.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Disabled => Reason::AccountDisabled,
            Self::Locked => Reason::AccountLocked,
            Self::Expired => Reason::AccountExpired,
            Self::PasswordExpired => Reason::PasswordExpired,
            Self::MustChangePassword => Reason::PasswordMustChange,
            Self::Restricted => Reason::AccountRestricted,
        }
    }
}

/// A person of a directory: the whole entry, or there is no `Person`.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// The id that stays when the person is renamed.
    pub id: String,
    /// The user name in the directory's spelling.
    pub username: String,
    /// Further claims.
    pub claims: Map<String, Value>,
    /// The groups, each once.
    pub groups: Vec<Group>,
}

/// A group of a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The short name.
    pub name: String,
    /// The id that stays when the group is renamed, or its security identifier; where the directory has one.
    pub ids: Vec<String>,
    /// The distinguished name, where the directory has one.
    pub dn: Option<DistinguishedName>,
}

/// A user name for which the Digest scheme needs a hash.
#[derive(Clone, Debug)]
pub struct NameAsked {
    /// The name as it was typed; never empty.
    pub username: String,
    /// The address of the caller.
    pub caller: Option<IpAddr>,
}

/// The answer to such a question.
#[derive(Clone, Debug)]
pub enum HashAnswer {
    /// `H(username:realm:password)` in hexadecimal, and the person, who has proved nothing yet.
    Known(Redacted<String>, Box<Person>),
    /// There is nobody with this name.
    Unknown,
    /// No person logs in by this name, whatever is proved.
    Refused(LoginRefused),
}

/// Why a directory gives no answer. Nothing is concluded from that about anybody. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryError {
    /// The kind.
    pub kind: DirectoryErrorKind,
    /// For the audit and the log: the server, and what was the matter.
    pub detail: String,
}

/// The kinds of [`DirectoryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryErrorKind {
    /// No server can be reached, or none answered in time.
    Unavailable,
    /// Too many logins are under way, or the servers are left alone for a while; the next attempt after these seconds.
    Busy(u64),
    /// The server's certificate is not trusted, or it does not offer TLS.
    Untrusted,
    /// The server refuses the gateway's own login, or wants TLS.
    RefusesUs,
    /// The answer cannot be used: a configuration that does not fit the directory, an incomplete entry, a broken
    /// message.
    Unusable,
    /// The person is in more groups than are taken.
    TooManyGroups,
}

impl DirectoryError {
    /// An error of a kind.
    pub fn new(kind: DirectoryErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The reason of the refusal that follows from it.
    pub const fn reason(&self) -> Reason {
        match self.kind {
            DirectoryErrorKind::Unavailable => Reason::DirectoryUnavailable,
            DirectoryErrorKind::Busy(_) => Reason::DirectoryBusy,
            DirectoryErrorKind::Untrusted => Reason::DirectoryUntrusted,
            DirectoryErrorKind::RefusesUs => Reason::DirectoryRefusesGateway,
            DirectoryErrorKind::Unusable => Reason::DirectoryUnusable,
            DirectoryErrorKind::TooManyGroups => Reason::TooManyGroups,
        }
    }

    /// Seconds until the next attempt, where they are known.
    pub const fn retry_after(&self) -> Option<u64> {
        if let DirectoryErrorKind::Busy(seconds) = self.kind { Some(seconds) } else { None }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DirectoryError {}

/// A question that is being asked.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T, DirectoryError>> + Send>>;

/// One directory. Questions are bounded in time and number, and a directory that hangs delays nobody who does not need
/// it.
pub trait Directory: Send + Sync {
    /// Checks a password, and reads the person whose it is.
    fn verify(&self, login: Login) -> Asked<LoginAnswer>;

    /// Checks a password, and replaces it by a new one if the account wants that before it can be used. Never
    /// [`LoginAnswer::Verified`].
    fn change(&self, login: Login, new: Password) -> Asked<LoginAnswer>;

    /// Reads the hash that the Digest scheme compares with, and the person, with the state of the account.
    fn hash(&self, asked: NameAsked) -> Asked<HashAnswer>;

    /// Reads a person again by the id of [`Person::id`], with the state of the account. The username is the one of
    /// [`Person::username`]. `Unknown`: there is nobody with this id any more.
    fn look_up(&self, id: String, username: String) -> Asked<LoginAnswer>;
}

/// The directories of a process, whose connections outlive changes of the configuration.
pub trait Directories: Send + Sync {
    /// The directory of a Federation: the live one where its settings and secrets are the same. The error shows no
    /// secret.
    fn open(
        &self,
        federation: &ObjectKey,
        directory: &idm_plan::Directory,
        secrets: &Secrets,
    ) -> Result<Arc<dyn Directory>, String>;
}

/// The directories of a process that asks none: every question is answered as if no server could be reached.
pub struct NoDirectories;

impl Directories for NoDirectories {
    fn open(&self, _: &ObjectKey, _: &idm_plan::Directory, _: &Secrets) -> Result<Arc<dyn Directory>, String> {
        Ok(Arc::new(Self))
    }
}

impl Directory for NoDirectories {
    fn verify(&self, _: Login) -> Asked<LoginAnswer> {
        let error = DirectoryError::new(DirectoryErrorKind::Unavailable, "no directory is asked here");
        Box::pin(std::future::ready(Err(error)))
    }

    fn change(&self, login: Login, _: Password) -> Asked<LoginAnswer> {
        self.verify(login)
    }

    fn hash(&self, _: NameAsked) -> Asked<HashAnswer> {
        let error = DirectoryError::new(DirectoryErrorKind::Unavailable, "no directory is asked here");
        Box::pin(std::future::ready(Err(error)))
    }

    fn look_up(&self, _: String, _: String) -> Asked<LoginAnswer> {
        let error = DirectoryError::new(DirectoryErrorKind::Unavailable, "no directory is asked here");
        Box::pin(std::future::ready(Err(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_no_password_is_empty() {
        for empty in ["", "\0", "\0secret"] {
            assert!(Password::new(Redacted::new(empty.to_owned())).is_none(), "{empty:?}");
        }
        let password = Password::new(Redacted::new("a\0b".to_owned())).unwrap();
        assert_eq!(password.reveal(), "a\0b");
        assert!(!format!("{password:?}").contains('b'));
    }
}
