//! Sessions of people: opened by a code that is printed once, or by a token of a cluster, and held in memory only.
//!
//! A session is known by the hash of its cookie. Clock and random bits are arguments.

mod access;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use idm_types::{Redacted, Uptime, hex};
use sha2::{Digest, Sha256};

use access::SealedAccess;
pub(crate) use access::{Access, TokenId};

/// A session ends after this time.
const LIFETIME_MS: u64 = 8 * 3_600_000;
/// A session ends after this time without a request.
const REST_MS: u64 = 30 * 60_000;
/// A code ends after this time.
const CODE_MS: u64 = 10 * 60_000;
/// A code ends with so many wrong ones.
const WRONG: u32 = 5;
/// Sessions at once: the one that rests the longest makes room.
const MOST: usize = 256;
/// Letters and digits that nobody takes for each other: 32, so that each has five random bits.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The person of a session.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    /// The token of a person of a cluster.
    pub(crate) access: Option<Arc<Access>>,
}

/// Why a code opens no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodeError {
    /// It is another one.
    #[error("the code is another one")]
    Wrong,
    /// It was used, is too old, or was guessed at too often.
    #[error("the code is used up: start idm again for a new one")]
    Over,
}

/// The code that opens one session.
pub(crate) struct OneTimeCode {
    letters: Redacted<String>,
    made: Uptime,
    wrong: u32,
    is_used: bool,
}

impl OneTimeCode {
    /// A code of forty random bits.
    pub(crate) fn new(random: [u8; 8], now: Uptime) -> Self {
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 31)).map_or('A', |letter| char::from(*letter));
        let letters: String = random.iter().map(letter).collect();
        Self { letters: Redacted::new(letters), made: now, wrong: 0, is_used: false }
    }

    /// The code as it is printed, once.
    pub(crate) fn shown(&self) -> String {
        let (first, second) = self.letters.reveal().split_at(4);
        format!("{first}-{second}")
    }

    /// Uses the code up, if it is this one.
    pub(crate) fn redeem(&mut self, code: &str, now: Uptime) -> Result<(), CodeError> {
        if self.is_used || self.wrong >= WRONG || now.since(self.made) >= CODE_MS {
            return Err(CodeError::Over);
        }
        let given: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        let given = Redacted::new(given.to_ascii_uppercase());
        if verify_slices_are_equal(given.reveal().as_bytes(), self.letters.reveal().as_bytes()).is_err() {
            self.wrong += 1;
            return Err(CodeError::Wrong);
        }
        self.is_used = true;
        Ok(())
    }
}

struct Session {
    /// Without their token.
    person: Person,
    access: Option<SealedAccess>,
    began: Uptime,
    seen: Uptime,
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(HashMap<[u8; 32], Session>);

impl Sessions {
    /// Opens a session; returns the value of its cookie. `None` where the system has no random bits for the token.
    pub(crate) fn open(&mut self, mut person: Person, random: [u8; 32], now: Uptime) -> Option<Redacted<String>> {
        let cookie = Redacted::new(hex(&random));
        let access = match person.access.take() {
            Some(access) => Some(SealedAccess::seal(&access, &cookie)?),
            None => None,
        };
        self.0.retain(|_, session| session.lives(now));
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, session)| session.seen).map(|(key, _)| *key);
            oldest.and_then(|key| self.0.remove(&key));
        }
        let session = Session { person, access, began: now, seen: now };
        self.0.insert(Sha256::digest(cookie.reveal()).into(), session);
        Some(cookie)
    }

    /// The person of a cookie; the session rests from now on.
    pub(crate) fn person(&mut self, cookie: &str, now: Uptime) -> Option<Person> {
        let key: [u8; 32] = Sha256::digest(cookie).into();
        if !self.0.get(&key)?.lives(now) {
            self.0.remove(&key);
            return None;
        }
        let session = self.0.get_mut(&key)?;
        session.seen = now;
        let mut person = session.person.clone();
        if let Some(sealed) = &session.access {
            person.access = Some(Arc::new(sealed.open(&Redacted::new(cookie.to_owned()))?));
        }
        Some(person)
    }

    /// Whether a session is open; it goes on resting.
    pub(crate) fn is_open(&self, cookie: &str, now: Uptime) -> bool {
        let key: [u8; 32] = Sha256::digest(cookie).into();
        self.0.get(&key).is_some_and(|session| session.lives(now))
    }

    /// Ends the session of a cookie.
    pub(crate) fn end(&mut self, cookie: &str) {
        let key: [u8; 32] = Sha256::digest(cookie).into();
        self.0.remove(&key);
    }
}

impl Session {
    fn lives(&self, now: Uptime) -> bool {
        now.since(self.began) < LIFETIME_MS && now.since(self.seen) < REST_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> Person {
        Person { name: "ana".into(), uid: "1".into(), groups: vec![], access: None }
    }

    #[test]
    fn a_code_works_once_within_its_time_and_after_few_wrong_ones() {
        let code = |now| OneTimeCode::new([1, 2, 3, 4, 250, 251, 252, 253], Uptime(now));
        let mut fresh = code(0);
        let shown = fresh.shown();
        assert_eq!(shown.len(), 9);
        assert_eq!(fresh.redeem("AAAA-AAAA", Uptime(1)), Err(CodeError::Wrong));
        assert_eq!(fresh.redeem(&shown.to_lowercase().replace('-', " "), Uptime(CODE_MS - 1)), Ok(()));
        assert_eq!(fresh.redeem(&shown, Uptime(2)), Err(CodeError::Over));
        assert_eq!(code(0).redeem(&shown, Uptime(CODE_MS)), Err(CodeError::Over));
        let mut guessed = code(0);
        for _ in 0..WRONG {
            assert_eq!(guessed.redeem("", Uptime(1)), Err(CodeError::Wrong));
        }
        assert_eq!(guessed.redeem(&shown, Uptime(1)), Err(CodeError::Over));
    }

    #[test]
    fn a_session_ends_by_rest_by_age_and_by_its_person() {
        let mut sessions = Sessions::default();
        let cookie = sessions.open(person(), [7; 32], Uptime(0)).expect("a cookie");
        let cookie = cookie.reveal();
        let mut now = 0;
        while now + REST_MS - 1 < LIFETIME_MS {
            now += REST_MS - 1;
            assert!(sessions.person(cookie, Uptime(now)).is_some(), "{now}");
        }
        assert!(sessions.person(cookie, Uptime(LIFETIME_MS)).is_none());
        let cookie = sessions.open(person(), [8; 32], Uptime(0)).expect("a cookie");
        assert!(sessions.person(cookie.reveal(), Uptime(REST_MS)).is_none());
        let cookie = sessions.open(person(), [9; 32], Uptime(0)).expect("a cookie");
        sessions.end(cookie.reveal());
        assert!(sessions.person(cookie.reveal(), Uptime(1)).is_none());
    }

    #[test]
    fn a_token_comes_back_with_its_cookie() {
        let access = Arc::new(Access::new(Redacted::new("t-1".into()), vec![]));
        let mut sessions = Sessions::default();
        let of_token = Person { access: Some(access), ..person() };
        let cookie = sessions.open(of_token, [7; 32], Uptime(0)).expect("a cookie");
        assert!(sessions.0.values().all(|session| session.person.access.is_none()), "at rest it is sealed");
        let known = sessions.person(cookie.reveal(), Uptime(1)).expect("a session");
        assert_eq!(known.access.expect("a token").token.reveal(), "t-1");
    }

    #[test]
    fn sessions_are_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..=MOST as u64 {
            let mut random = [0; 32];
            random[..8].copy_from_slice(&number.to_be_bytes());
            sessions.open(person(), random, Uptime(number)).expect("a cookie");
        }
        assert_eq!(sessions.0.len(), MOST);
    }
}
