//! What authentication remembers across configurations and cores: guesses, nonces, and passwords that were right.

use idm_limit::{Bounds, Guess, Lockouts, Rates, WorkerPool};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use idm_store::Store;
use idm_types::{Clock, MethodName, Reason, Refusal, Uptime};

use crate::PasswordChecker;
use crate::nonce::Nonces;
use crate::refresh::Refreshing;

/// How long a proven password needs no further check.
const PROVEN_MS: u64 = 10 * 60_000;
const MAX_PROVEN: usize = 65_536;

/// Why a guess was not looked at.
pub(crate) enum Unchecked {
    /// Too many wrong ones came before.
    Later {
        /// How long the next one has to wait.
        seconds: u64,
    },
    /// Too many are waiting.
    Busy,
}

/// A password that was right, of somebody who is not let in yet. What is not accepted is not noted.
#[must_use]
pub(crate) struct RightGuess {
    name: String,
    address: IpAddr,
    fingerprint: [u8; 32],
}

impl Unchecked {
    /// The refusal, where `whose` says who has to wait.
    pub(crate) fn denied(self, whose: &str, method: &MethodName) -> Refusal {
        match self {
            Unchecked::Later { seconds } => {
                Refusal::new(Reason::TooManyAttempts, format!("{whose} or its address must wait {seconds} s"))
                    .by_method(method)
                    .retry_after(seconds)
            }
            Unchecked::Busy => {
                Refusal::new(Reason::PasswordChecksBusy, "too many password checks are waiting").by_method(method)
            }
        }
    }
}

/// See the module. One for each gateway.
pub struct Memory {
    pub(crate) passwords: Arc<PasswordChecker>,
    pub(crate) lockouts: Lockouts,
    pub(crate) nonces: Nonces,
    /// Makes fingerprints that are of use in this process only, so that no password has to be kept.
    key: hmac::Key,
    proven: Mutex<HashMap<[u8; 32], Uptime>>,
    /// Requests with tokens in their query.
    pub(crate) in_query: Rates,
    /// What the gateways share, or what this process has for itself.
    pub(crate) store: Store,
    inactive: Mutex<HashMap<[u8; 32], Uptime>>,
    /// The clock by which entries expire.
    clock: Clock,
    /// Tokens of sessions that are being asked for.
    pub(crate) refreshing: Refreshing,
    /// Sign-ins that were begun.
    sign_ins: Rates,
    /// People who signed in where the operator wants to know.
    people: Mutex<People>,
    /// Threads for slow work; started when a policy first needs them.
    workers: OnceLock<Option<Arc<WorkerPool>>>,
}

/// A person who signed in at a Federation that provisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewPerson {
    /// The Federation, by name.
    pub federation: String,
    /// Who vouches for them.
    pub issuer: String,
    /// The name that RoleBindings know.
    pub username: String,
}

/// When more wait to be told, those that were not are told when they sign in again.
const MAX_PEOPLE: usize = 10_000;

/// Who signed in, each with the number under which it was noted last.
#[derive(Default)]
struct People {
    last: u64,
    noted: HashMap<NewPerson, u64>,
}

impl Memory {
    /// An empty memory. `None` where the system gives no random bits.
    pub fn new(passwords: Arc<PasswordChecker>, store: Store) -> Option<Arc<Self>> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let clock = store.clock().clone();
        Some(Arc::new(Self {
            passwords,
            lockouts: Lockouts::default(),
            nonces: Nonces::default(),
            key,
            proven: Mutex::default(),
            in_query: Rates::default(),
            store,
            inactive: Mutex::default(),
            clock,
            refreshing: Refreshing::default(),
            sign_ins: Rates::default(),
            people: Mutex::default(),
            workers: OnceLock::new(),
        }))
    }

    /// Threads for work that is too slow for the serving cores; `None` where the system gives none.
    pub fn workers(&self) -> Option<Arc<WorkerPool>> {
        let start = || {
            let threads = std::thread::available_parallelism().map_or(1, usize::from) / 2;
            WorkerPool::start("slow-work", threads, Bounds { waiting: 64, of_address: 4 })
        };
        self.workers.get_or_init(start).clone()
    }

    /// What the gateways share, or what this process has for itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The time that guesses, counts and limits live by: the wall clock has no say in them.
    pub(crate) fn uptime(&self) -> Uptime {
        self.clock.uptime()
    }

    /// Notes that a token's issuer called it inactive.
    pub(crate) fn note_inactive(&self, fingerprint: [u8; 32], for_ms: u64) {
        let now = self.uptime();
        let mut inactive = self.inactive.lock().unwrap_or_else(PoisonError::into_inner);
        if inactive.len() >= MAX_PROVEN {
            inactive.retain(|_, until| now < *until);
        }
        // Anyone can bring tokens that are nothing: what they fill is emptied, and their issuer is asked again.
        if inactive.len() >= MAX_PROVEN {
            inactive.clear();
        }
        inactive.insert(fingerprint, now.after(for_ms));
    }

    /// Whether a token's issuer called it inactive a moment ago.
    pub(crate) fn is_inactive(&self, fingerprint: &[u8; 32]) -> bool {
        let now = self.uptime();
        self.inactive.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint).is_some_and(|until| now < *until)
    }

    pub(crate) fn note_person(&self, person: NewPerson) {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        if people.noted.len() < MAX_PEOPLE {
            people.last += 1;
            let number = people.last;
            people.noted.insert(person, number);
        }
    }

    /// Who signed in after the first `seen`, which are forgotten, and the number of the last. Asked twice with the same
    /// number it tells the same, so that who asks loses nobody.
    pub fn people_after(&self, seen: u64) -> (Vec<NewPerson>, u64) {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        people.noted.retain(|_, number| *number > seen);
        (people.noted.keys().cloned().collect(), people.last)
    }

    /// Counts a sign-in that is begun.
    pub(crate) fn take_sign_in(&self, address: IpAddr, per_minute: u32) -> Result<(), u64> {
        self.sign_ins.take(address, per_minute, self.uptime())
    }

    /// A keyed hash over texts, each with its length.
    pub(crate) fn fingerprint(&self, texts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for text in texts {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    /// Checks a guess at a password: in its turn, and a few at a time. Without a hash it takes as long and is wrong. A
    /// wrong one is noted; a right one only by [`Self::admitted`], once its owner was let in.
    pub(crate) async fn guess(
        &self,
        name: &str,
        phc: Option<&str>,
        password: &str,
        address: IpAddr,
    ) -> Result<Option<RightGuess>, Unchecked> {
        let known = match self.lockouts.turn(name, address, self.uptime()) {
            Guess::Now { known } => known,
            Guess::Later { seconds } => return Err(Unchecked::Later { seconds }),
        };
        let right = self.passwords.check(phc, password, address, known).await.ok_or(Unchecked::Busy)?;
        let Some(phc) = phc.filter(|_| right) else {
            self.lockouts.wrong(name, address, self.uptime());
            return Ok(None);
        };
        Ok(Some(RightGuess { name: name.to_owned(), address, fingerprint: self.fingerprint(&[phc, password]) }))
    }

    /// Notes that the owner of a right password was let in: it needs no further check for a while, and earlier mistakes
    /// are forgiven. A changed password has another hash.
    pub(crate) fn admitted(&self, guess: RightGuess) {
        let RightGuess { name, address, fingerprint } = guess;
        let now = self.uptime();
        self.lockouts.admitted(&name, address, now);
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= MAX_PROVEN {
            proven.retain(|_, until| now < *until);
        }
        if proven.len() < MAX_PROVEN {
            proven.insert(fingerprint, now.after(PROVEN_MS));
        }
    }

    /// Whether this password was found to belong to this hash lately.
    pub(crate) fn is_proven(&self, phc: &str, password: &str) -> bool {
        let (fingerprint, now) = (self.fingerprint(&[phc, password]), self.uptime());
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(&fingerprint).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signed_in_is_told_until_it_was_heard() {
        let memory = Memory::new(PasswordChecker::start(1).unwrap(), Store::in_process()).unwrap();
        let person = |name: &str| NewPerson { federation: "f".into(), issuer: "i".into(), username: name.into() };
        memory.note_person(person("ana"));
        memory.note_person(person("bob"));
        let (told, last) = memory.people_after(0);
        assert_eq!((told.len(), last), (2, 2));
        assert_eq!(memory.people_after(0).0.len(), 2, "what was not heard is told again");
        memory.note_person(person("ana"));
        assert_eq!(memory.people_after(last), (vec![person("ana")], 3), "who signs in again is told again");
        assert_eq!(memory.people_after(3), (vec![], 3));
    }
}
