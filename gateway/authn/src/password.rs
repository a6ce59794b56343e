//! Passwords: checked beside the serving cores, a few at a time, known callers first.
//!
//! A check takes tens of milliseconds by design. On a serving core it would stop everyone else's requests;
//! without a bound a flood of guesses would take all memory. So a few threads check, the queue is short,
//! no address may fill it, and who proved a password lately goes first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use idm_types::{Redacted, network};
use tokio::sync::oneshot;

/// Checks that may wait; beyond it callers are told to come back.
const MAX_WAITING: usize = 256;
/// Checks of one address that may wait or run.
const MAX_PER_ADDRESS: usize = 4;
/// Compared against when the user does not exist, so that the answer takes as long. Nobody knows a password of it.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$aWRtLW5vYm9keS1zYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct Job {
    phc: Option<String>,
    password: Redacted<String>,
    address: IpAddr,
    answer: oneshot::Sender<bool>,
}

#[derive(Default)]
struct Queue {
    /// Callers who proved a password lately.
    known: VecDeque<Job>,
    others: VecDeque<Job>,
    by_address: HashMap<IpAddr, usize>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wanted: Condvar,
}

/// The threads that check passwords; they end when this is dropped.
pub struct PasswordChecker {
    shared: Arc<Shared>,
}

impl PasswordChecker {
    /// Starts this many threads. `None` where the system gives no threads.
    pub fn start(threads: usize) -> Option<Arc<Self>> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wanted: Condvar::new() });
        for number in 0..threads.max(1) {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || work(&shared)).ok()?;
        }
        Some(Arc::new(Self { shared }))
    }

    /// Checks a password against a hash; without one, takes as long and says no. `None`: too much is waiting already.
    pub(crate) async fn check(&self, phc: Option<&str>, password: &str, address: IpAddr, known: bool) -> Option<bool> {
        let address = network(address);
        let (answer, answered) = oneshot::channel();
        let job = Job { phc: phc.map(str::to_owned), password: Redacted::new(password.to_owned()), address, answer };
        {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let full = queue.known.len() + queue.others.len() >= MAX_WAITING;
            let crowded = full || queue.by_address.get(&address).is_some_and(|count| *count >= MAX_PER_ADDRESS);
            if !known && crowded || queue.known.len() >= MAX_WAITING {
                return None;
            }
            let of_address = queue.by_address.entry(address).or_default();
            *of_address += 1;
            if known { queue.known.push_back(job) } else { queue.others.push_back(job) }
        }
        self.shared.wanted.notify_one();
        answered.await.ok()
    }
}

impl Drop for PasswordChecker {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.wanted.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let job = {
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if queue.closed {
                    return;
                }
                if let Some(job) = queue.known.pop_front().or_else(|| queue.others.pop_front()) {
                    break job;
                }
                queue = shared.wanted.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // Whoever gave up meanwhile costs nothing any more.
        let right = !job.answer.is_closed() && verify(job.phc.as_deref(), job.password.reveal());
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = queue.by_address.get_mut(&job.address) {
            *count -= 1;
            if *count == 0 {
                queue.by_address.remove(&job.address);
            }
        }
        drop(queue);
        let _ = job.answer.send(right);
    }
}

fn verify(phc: Option<&str>, password: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc.unwrap_or(NOBODY)) else { return false };
    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && phc.is_some()
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
        assert_eq!(checker.check(Some(&phc), "right", address, false).await, Some(true));
        assert_eq!(checker.check(Some(&phc), "wrong", address, false).await, Some(false));
        assert_eq!(checker.check(None, "right", address, false).await, Some(false));
        assert_eq!(checker.check(Some("$argon2id$broken"), "right", address, false).await, Some(false));
    }

    #[tokio::test]
    async fn one_address_cannot_fill_the_queue() {
        let checker = PasswordChecker::start(1).unwrap();
        let (phc, flood) = (hash("right"), IpAddr::from([192, 0, 2, 1]));
        let checks = (0..20).map(|_| checker.check(Some(&phc), "wrong", flood, false));
        let (answers, other) = tokio::join!(
            futures::future::join_all(checks),
            checker.check(Some(&phc), "right", IpAddr::from([192, 0, 2, 2]), false)
        );
        assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), 16);
        assert_eq!(other, Some(true));
    }
}
