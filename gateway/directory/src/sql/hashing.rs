//! Checks of passwords beside the reactor, a few at a time, and as much work for people who do not exist.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idm_trust::{DirectoryError, DirectoryErrorKind, Password};
use tokio::sync::Semaphore;

use idm_password::{Stored, new_hash};

/// The longest time that a check waits for its turn.
const WAIT: Duration = Duration::from_secs(2);
/// Kinds of stored passwords of one directory that are remembered.
const MOST_KINDS: usize = 8;
/// Beyond this many, older people count less.
const MOST_SEEN: u32 = 1 << 16;

/// The hashing of one directory.
pub(super) struct Hashing {
    turns: Arc<Semaphore>,
    usual: Mutex<Vec<(Stored, u32)>>,
    key: RandomState,
}

impl Hashing {
    /// Half of the cores at most, so that one directory leaves time to everything else.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (turns, usual) = (Arc::new(Semaphore::new((cores / 2).max(1))), Mutex::default());
        Self { turns, usual, key: RandomState::new() }
    }

    /// Whether a password fits.
    pub(super) async fn fits(
        &self,
        stored: Stored,
        password: &Password,
        deadline: Instant,
    ) -> Result<bool, DirectoryError> {
        let password = password.clone();
        self.run(deadline, move || stored.fits(password.reveal())).await
    }

    /// A new hash of a password.
    pub(super) async fn new_hash(
        &self,
        password: &Password,
        deadline: Instant,
    ) -> Result<Option<String>, DirectoryError> {
        let password = password.clone();
        self.run(deadline, move || new_hash(password.reveal())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let wait = deadline.min(Instant::now() + WAIT);
        let turn = match tokio::time::timeout_at(wait.into(), self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            _ => {
                let why = "too many passwords are being checked";
                return Err(DirectoryError::new(DirectoryErrorKind::Busy(1), why));
            }
        };
        // The turn ends with the work, also when nobody waits for it any more.
        let work = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        let failed = |_| DirectoryError::new(DirectoryErrorKind::Unusable, "the check of a password broke off");
        work.await.map_err(failed)
    }

    /// Notes how the password of somebody is stored.
    pub(super) fn note(&self, stored: &Stored) {
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = stored.cost();
        match usual.iter_mut().find(|(known, _)| known.cost() == cost) {
            Some((_, seen)) => *seen += 1,
            None => {
                if usual.len() == MOST_KINDS {
                    let rarest = usual.iter().enumerate().min_by_key(|(_, (_, seen))| *seen).map(|(index, _)| index);
                    rarest.map(|index| usual.swap_remove(index));
                }
                usual.push((stored.decoy(), 1));
            }
        }
        if usual.iter().any(|(_, seen)| *seen >= MOST_SEEN) {
            usual.iter_mut().for_each(|(_, seen)| *seen = (*seen / 2).max(1));
        }
    }

    /// The hash whose check costs as much as that of a person's password would. In a table with several kinds each name
    /// has one of them, as often as people have it, and the same name has the same one.
    pub(super) fn decoy(&self, username: &str) -> Stored {
        let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u64 = usual.iter().map(|(_, seen)| u64::from(*seen)).sum();
        let place = (u128::from(self.key.hash_one(username)) * u128::from(all)) >> 64;
        let mut until = 0u128;
        let chosen = usual.iter().find(|(_, seen)| {
            until += u128::from(*seen);
            place < until
        });
        chosen.map_or_else(Stored::usual, |(stored, _)| stored.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";
    const SHA: &str = "$5$rounds=1234$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/";

    fn password(text: &str) -> Password {
        Password::new(idm_types::Redacted::new(text.into())).unwrap()
    }

    #[test]
    fn r43_people_who_do_not_exist_cost_what_others_cost() {
        let hashing = Hashing::new();
        assert_eq!(hashing.decoy("eve").cost(), Stored::usual().cost(), "nobody was seen yet");
        hashing.note(&Stored::read(BCRYPT).unwrap());
        assert_eq!(hashing.decoy("eve").cost(), "bcrypt cost 4");
        for _ in 0..3 {
            hashing.note(&Stored::read(SHA).unwrap());
        }
        let cost_of = |name: usize| hashing.decoy(&name.to_string()).cost();
        let bcrypt = (0..1000).filter(|name| cost_of(*name) == "bcrypt cost 4").count();
        assert!((150..350).contains(&bcrypt), "a quarter of 1000 names: {bcrypt}");
        assert!((0..100).all(|name| cost_of(name) == cost_of(name)));
    }

    #[test]
    fn the_kinds_that_are_remembered_are_bounded() {
        let hashing = Hashing::new();
        for cost in 0..100 {
            let text = format!("$5$rounds={}$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/", 1000 + cost);
            hashing.note(&Stored::read(&text).unwrap());
        }
        assert_eq!(hashing.usual.lock().unwrap().len(), MOST_KINDS);
    }

    #[tokio::test]
    async fn r50_checks_wait_for_their_turn_and_no_longer_than_two_seconds() {
        let hashing = Hashing::new();
        let stored = Stored::read(BCRYPT).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let right = password(&"x".repeat(72));
        assert_eq!(hashing.fits(stored.clone(), &right, deadline).await, Ok(true));
        assert_eq!(hashing.fits(stored.clone(), &password("wrong"), deadline).await, Ok(false));
        let all = u32::try_from(hashing.turns.available_permits()).unwrap();
        let taken = hashing.turns.clone().acquire_many_owned(all).await.unwrap();
        let began = Instant::now();
        let error = hashing.fits(stored.clone(), &right, deadline).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Busy(1));
        assert!(began.elapsed() >= WAIT);
        drop(taken);
        assert_eq!(hashing.fits(stored, &right, deadline).await, Ok(true));
    }
}
