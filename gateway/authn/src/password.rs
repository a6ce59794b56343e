//! Passwords: checked beside the serving cores, a few at a time, known callers first.
//!
//! A check takes tens of milliseconds by design. On a serving core it would delay all other requests; without a bound a
//! flood of guesses would use up all memory. So a few threads check, the queue is short, no address may fill it, and a
//! caller who proved a password lately goes first.

use idm_limit::{Bounds, Priority, WorkerPool};
use std::net::IpAddr;
use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use idm_password::Stored;
use idm_types::Redacted;

/// Checks that may wait, and those of one address that may wait or run.
const BOUNDS: Bounds = Bounds { waiting: 256, of_address: 4 };
/// The hash that is compared when the user does not exist, so that the answer takes as long. Its password is unknown.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aWRtLW5vYm9keS1zYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The threads that check passwords; they end when this is dropped.
pub struct PasswordChecker(Arc<WorkerPool>);

impl PasswordChecker {
    /// Starts this many threads. `None` where the system gives no threads.
    pub fn start(threads: usize) -> Option<Arc<Self>> {
        WorkerPool::start("password", threads, BOUNDS).map(|threads| Arc::new(Self(threads)))
    }

    /// Checks a password against a hash. `None`: too many checks wait.
    pub(crate) async fn check(&self, hash: Compared<'_>, password: &str, address: IpAddr, known: bool) -> Option<bool> {
        let (text, counts) = match hash {
            Compared::Of(hash) => (hash, true),
            Compared::Nobody { alike } => (alike.unwrap_or(NOBODY), false),
        };
        let (text, password) = (text.to_owned(), Redacted::new(password.to_owned()));
        let turn = if known { Priority::First } else { Priority::InLine };
        self.0.run(address, turn, move || verify(&text, password.reveal()) && counts).await
    }
}

/// The hash that a password is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Compared<'a> {
    /// That of the user.
    Of(&'a str),
    /// There is no such user: the check takes as long as `alike` does, and fails.
    Nobody {
        /// The hash of somebody else, who might have been meant as well; `None`: there is nobody.
        alike: Option<&'a str>,
    },
}

fn verify(hash: &str, password: &str) -> bool {
    if hash.starts_with("$argon2id$") {
        let Ok(hash) = PasswordHash::new(hash) else { return false };
        return Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
    }
    Stored::read(hash).is_ok_and(|stored| stored.fits(password))
}

#[cfg(test)]
mod tests {
    use argon2::PasswordHasher;
    use argon2::password_hash::SaltString;

    use super::*;

    fn hash(password: &str) -> String {
        Argon2::default()
            .hash_password(password.as_bytes(), &SaltString::encode_b64(b"some salt").unwrap())
            .unwrap()
            .to_string()
    }

    #[tokio::test]
    async fn only_the_right_password_passes_and_nobody_is_somebody() {
        let checker = PasswordChecker::start(1).unwrap();
        let (phc, address) = (hash("right"), IpAddr::from([192, 0, 2, 1]));
        assert_eq!(checker.check(Compared::Of(&phc), "right", address, false).await, Some(true));
        assert_eq!(checker.check(Compared::Of(&phc), "wrong", address, false).await, Some(false));
        assert_eq!(checker.check(Compared::Nobody { alike: Some(&phc) }, "right", address, false).await, Some(false));
        assert_eq!(checker.check(Compared::Nobody { alike: None }, "right", address, false).await, Some(false));
        assert_eq!(checker.check(Compared::Of("$argon2id$broken"), "right", address, false).await, Some(false));
    }

    #[tokio::test]
    async fn one_address_cannot_fill_the_queue() {
        let checker = PasswordChecker::start(1).unwrap();
        let (phc, flood) = (hash("right"), IpAddr::from([192, 0, 2, 1]));
        let checks = (0..20).map(|_| checker.check(Compared::Of(&phc), "wrong", flood, false));
        let (answers, other) = tokio::join!(
            futures::future::join_all(checks),
            checker.check(Compared::Of(&phc), "right", IpAddr::from([192, 0, 2, 2]), false)
        );
        assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 16);
        assert_eq!(other, Some(true));
    }
}
