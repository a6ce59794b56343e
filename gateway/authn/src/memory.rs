//! The state that authentication keeps across configurations and cores: guesses, nonces, and verified passwords.

use idm_limit::{Blocks, Bounds, Guess, Lockouts, Rates, WorkerPool};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use idm_store::{Counters, Store, StoreError};
use idm_types::{Clock, Reason, Refusal, Uptime};

use crate::blocked;
use crate::guessed::GuessedUser;
use crate::logins::Logins;
use crate::nonce::Nonces;
use crate::password::Compared;
use crate::refresh::Refreshing;
use crate::{Assumption, EndedUses, PasswordChecker};

/// The time for which a verified password is not checked again.
const PROVEN_MS: u64 = 10 * 60_000;
const MAX_PROVEN: usize = 65_536;

/// The reason why a guess was not checked.
pub(crate) enum Unchecked {
    /// Too many wrong guesses came before.
    Later {
        /// The time until the next guess is checked.
        seconds: u64,
    },
    /// The user is blocked at the address.
    Blocked {
        /// The rule and the end of the block.
        told: String,
        /// The time until it ends.
        seconds: u64,
    },
    /// Too many guesses are waiting.
    Busy,
    /// The store that counts them did not answer.
    StoreAway(StoreError),
}

/// A right password whose owner is not admitted yet. A guess that is not admitted is not noted.
#[must_use]
pub(crate) struct RightGuess {
    user: GuessedUser,
    address: IpAddr,
    fingerprint: [u8; 32],
}

impl Unchecked {
    /// The refusal, where `whose` names the caller who has to wait.
    pub(crate) fn denied(self, whose: &str) -> Refusal {
        match self {
            Unchecked::Later { seconds } => {
                Refusal::new(Reason::TooManyAttempts, format!("{whose} or its address must wait {seconds} s"))
                    .retry_after(seconds)
            }
            Unchecked::Blocked { told, seconds } => blocked::refusal(&told, seconds),
            Unchecked::Busy => Refusal::new(Reason::PasswordChecksBusy, "too many password checks are waiting"),
            Unchecked::StoreAway(error) => Refusal::new(Reason::StoreUnavailable, error.to_string()),
        }
    }
}

/// See the module. One for each gateway.
pub struct Memory {
    pub(crate) passwords: Arc<PasswordChecker>,
    pub(crate) lockouts: Arc<Lockouts>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) nonces: Nonces,
    /// Makes fingerprints that are useful in this process only, so that no password has to be kept.
    key: hmac::Key,
    proven: Mutex<HashMap<[u8; 32], Uptime>>,
    /// Requests with tokens in their query.
    pub(crate) in_query: Rates,
    /// The store that the gateways share, or that this process has for itself.
    pub(crate) store: Store,
    /// Counters of limits.
    counters: Arc<Counters>,
    inactive: Mutex<HashMap<[u8; 32], Uptime>>,
    /// The clock by which entries expire.
    pub(crate) clock: Clock,
    /// Sessions whose tokens are being refreshed.
    pub(crate) refreshing: Refreshing,
    /// Sign-ins that were begun.
    sign_ins: Rates,
    /// People who signed in at a Federation that provisions RoleBindings.
    people: Mutex<People>,
    /// Threads for slow work; started when a policy first needs them.
    workers: OnceLock<Option<Arc<WorkerPool>>>,
    /// Logins at directories that are under way.
    pub(crate) logins: Logins,
    /// Uses of keys that have ended.
    pub(crate) ended_uses: EndedUses,
    /// The caller of requests that nobody sends.
    assumed: Option<Assumption>,
}

/// A person who signed in at a Federation that provisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewPerson {
    /// The namespace of the Federation.
    pub namespace: String,
    /// The Federation, by name.
    pub federation: String,
    /// The issuer that authenticated the person.
    pub issuer: String,
    /// The name that RoleBindings use.
    pub username: String,
}

/// The most people who wait to be reported; others are reported when they sign in again.
const MAX_PEOPLE: usize = 10_000;

/// People who signed in, each with the number under which the last sign-in was noted.
#[derive(Default)]
struct People {
    last: u64,
    noted: HashMap<NewPerson, u64>,
}

impl Memory {
    /// An empty memory. `None` where the system gives no random bits.
    pub fn new(passwords: Arc<PasswordChecker>, store: Store) -> Option<Arc<Self>> {
        Self::blocking(passwords, store, Blocks::off())
    }

    /// An empty memory that counts refused credentials towards blocks.
    pub fn blocking(passwords: Arc<PasswordChecker>, store: Store, blocks: Arc<Blocks>) -> Option<Arc<Self>> {
        Self::with(passwords, store, blocks, None)
    }

    /// An empty memory for decisions about requests that nobody sends: every caller is the one of the assumption, whom
    /// nothing authenticates. Never for a gateway that serves.
    pub fn assuming(passwords: Arc<PasswordChecker>, caller: Assumption) -> Option<Arc<Self>> {
        Self::with(passwords, Store::in_process(), Blocks::off(), Some(caller))
    }

    fn with(
        passwords: Arc<PasswordChecker>,
        store: Store,
        blocks: Arc<Blocks>,
        assumed: Option<Assumption>,
    ) -> Option<Arc<Self>> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        let clock = store.clock().clone();
        Some(Arc::new(Self {
            passwords,
            lockouts: Arc::default(),
            blocks,
            nonces: Nonces::default(),
            key,
            proven: Mutex::default(),
            in_query: Rates::default(),
            counters: Counters::new(store.clone()),
            store,
            inactive: Mutex::default(),
            clock,
            refreshing: Refreshing::default(),
            sign_ins: Rates::default(),
            people: Mutex::default(),
            workers: OnceLock::new(),
            logins: Logins::default(),
            ended_uses: EndedUses::default(),
            assumed,
        }))
    }

    /// The caller who is taken for authenticated.
    pub(crate) fn assumed(&self) -> Option<&Assumption> {
        self.assumed.as_ref()
    }

    /// Threads for work that is too slow for the serving cores; `None` where the system cannot start them.
    pub fn workers(&self) -> Option<Arc<WorkerPool>> {
        let start = || {
            let threads = std::thread::available_parallelism().map_or(1, usize::from) / 2;
            WorkerPool::start("slow-work", threads, Bounds { waiting: 64, of_address: 4 })
        };
        self.workers.get_or_init(start).clone()
    }

    /// Uses of keys that have ended.
    pub fn ended_uses(&self) -> &EndedUses {
        &self.ended_uses
    }

    /// The store that the gateways share, or that this process has for itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The counters of limits, of this process or shared.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The time by which guesses, counts and limits expire: it is independent of the wall clock.
    pub(crate) fn uptime(&self) -> Uptime {
        self.clock.uptime()
    }

    /// Notes that the issuer of a token called it inactive.
    pub(crate) fn note_inactive(&self, fingerprint: [u8; 32], for_ms: u64) {
        let now = self.uptime();
        let mut inactive = self.inactive.lock().unwrap_or_else(PoisonError::into_inner);
        if inactive.len() >= MAX_PROVEN {
            inactive.retain(|_, until| now < *until);
        }
        // Anyone can send tokens that are not valid: a full table is emptied, and issuers are asked again.
        if inactive.len() >= MAX_PROVEN {
            inactive.clear();
        }
        inactive.insert(fingerprint, now.after(for_ms));
    }

    /// Whether the issuer of a token called it inactive a moment ago.
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

    /// The people who signed in after the number `seen`, and the number of the last one; those up to `seen` are
    /// forgotten. A second call with the same number returns the same people, so that no report is lost.
    pub fn people_after(&self, seen: u64) -> (Vec<NewPerson>, u64) {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        people.noted.retain(|_, number| *number > seen);
        (people.noted.keys().cloned().collect(), people.last)
    }

    /// Counts a sign-in that begins.
    pub(crate) fn take_sign_in(&self, address: IpAddr, per_minute: u32) -> Result<(), u64> {
        self.sign_ins.take(address, per_minute, self.uptime())
    }

    /// A keyed hash of several texts, each with its length.
    pub(crate) fn fingerprint(&self, texts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for text in texts {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    /// Checks a guess at a password, in its turn and a few at a time. Without a hash the check takes as long and fails.
    /// A wrong guess is noted at once; a right one only by [`Self::admitted`], after its owner was admitted.
    pub(crate) async fn guess(
        &self,
        user: GuessedUser,
        hash: Compared<'_>,
        password: &str,
        address: IpAddr,
    ) -> Result<Option<RightGuess>, Unchecked> {
        self.check_user(&user, address)?;
        let known = match self.lockouts.turn(&user, address, self.uptime()) {
            Guess::Now { known } => known,
            Guess::Later { seconds } => return Err(Unchecked::Later { seconds }),
        };
        let right = self.passwords.check(hash, password, address, known).await.ok_or(Unchecked::Busy)?;
        match hash {
            Compared::Of(phc) if right => {
                Ok(Some(RightGuess { user, address, fingerprint: self.fingerprint(&[phc, password]) }))
            }
            _ => {
                self.note_wrong(&user, address);
                Ok(None)
            }
        }
    }

    /// Notes that the owner of a right password was admitted: it needs no further check for a while, and earlier wrong
    /// guesses are forgiven. A changed password has another hash.
    pub(crate) fn admitted(&self, guess: RightGuess) {
        let RightGuess { user, address, fingerprint } = guess;
        let now = self.uptime();
        self.lockouts.admitted(&user, address, now);
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= MAX_PROVEN {
            proven.retain(|_, until| now < *until);
        }
        if proven.len() < MAX_PROVEN {
            proven.insert(fingerprint, now.after(PROVEN_MS));
        }
    }

    /// Whether this password was verified against this hash a short time ago.
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
        let person = |name: &str| NewPerson {
            namespace: "shop".into(),
            federation: "f".into(),
            issuer: "i".into(),
            username: name.into(),
        };
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
