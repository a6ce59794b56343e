//! Nonces of the `Digest` scheme: made without memory, used at most once per count.

use idm_limit::median;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_types::Timestamp;

/// Nonces that are remembered; when there are more, the ones that end first are forgotten, and void.
const MAX_NONCES: usize = 100_000;
/// The greatest distance of a late request's count from the highest count.
const WINDOW: u32 = 128;

/// A new nonce: time, random bits and a MAC over both, so that no pod has to remember making it.
pub(crate) fn make(key: &hmac::Key, now: Timestamp) -> Option<String> {
    let mut bytes = [0u8; 16];
    let (time, random) = bytes.split_at_mut(8);
    time.copy_from_slice(&now.0.to_be_bytes());
    SystemRandom::new().fill(random).ok()?;
    let tag = hmac::sign(key, &bytes);
    Some(URL_SAFE_NO_PAD.encode([&bytes[..], tag.as_ref().get(..16)?].concat()))
}

/// The time at which this nonce was made; `None` when it is not one of ours.
pub(crate) fn made_at(key: &hmac::Key, nonce: &str) -> Option<Timestamp> {
    let bytes = URL_SAFE_NO_PAD.decode(nonce).ok().filter(|bytes| bytes.len() == 32)?;
    let (body, tag) = bytes.split_at(16);
    let expected = hmac::sign(key, body);
    aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref().get(..16)?, tag).ok()?;
    Some(Timestamp(u64::from_be_bytes(body.get(..8)?.try_into().ok()?)))
}

#[derive(Default)]
struct Counts {
    ends: u64,
    highest: u32,
    /// Bit n: `highest - n` was used.
    used: u128,
}

#[derive(Default)]
struct State {
    counts: HashMap<String, Counts>,
    /// Nonces that end at this time or earlier were forgotten, and are void.
    void: u64,
}

/// The result of using a count of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The count was unused, and is used up now.
    Fresh,
    /// The count was used before, or is too far behind the highest one.
    Replayed,
    /// The counts of this nonce were forgotten; the caller gets another nonce.
    Void,
}

/// Which counts of which nonces were used. Kept across configurations; each pod has its own. Entries do not expire by a
/// clock: when there are too many, the nonces that end first are removed and void from then on, so that a clock that
/// was wrong for a moment makes no count usable again.
#[derive(Default)]
pub(crate) struct Nonces(Mutex<State>);

impl Nonces {
    /// Uses a count of a nonce that ends at `ends`.
    pub(crate) fn take(&self, nonce: &str, count: u32, ends: Timestamp) -> Taken {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { counts: nonces, void } = &mut *state;
        if !nonces.contains_key(nonce) {
            if nonces.len() >= MAX_NONCES {
                *void = (*void).max(median(nonces.values().map(|counts| counts.ends)).unwrap_or(0));
                nonces.retain(|_, counts| counts.ends > *void);
            }
            if ends.0 <= *void {
                return Taken::Void;
            }
        }
        let counts = nonces.entry(nonce.to_owned()).or_default();
        counts.ends = ends.0;
        if count > counts.highest {
            let ahead = count - counts.highest;
            counts.used = if ahead >= WINDOW { 0 } else { counts.used << ahead };
            counts.used |= 1;
            counts.highest = count;
            return Taken::Fresh;
        }
        let behind = counts.highest - count;
        let bit = if behind < WINDOW { 1u128 << behind } else { 0 };
        let fresh = bit != 0 && counts.used & bit == 0 && count > 0;
        counts.used |= bit;
        if fresh { Taken::Fresh } else { Taken::Replayed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_tells_its_age_and_nobody_else_can_make_one() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let nonce = make(&key, Timestamp(7)).unwrap();
        assert_eq!(made_at(&key, &nonce), Some(Timestamp(7)));
        assert_eq!(made_at(&hmac::Key::new(hmac::HMAC_SHA256, b"other"), &nonce), None);
        assert_eq!(made_at(&key, "AAAA"), None);
        assert_ne!(make(&key, Timestamp(7)).unwrap(), nonce);
    }

    #[test]
    fn each_count_is_used_once_also_out_of_order() {
        let (nonces, ends) = (Nonces::default(), Timestamp(10));
        let take = |count| nonces.take("n", count, ends) == Taken::Fresh;
        assert!(!take(0));
        assert!(take(1) && take(3) && take(2));
        assert!(!take(1) && !take(2) && !take(3));
        assert!(take(200) && !take(72) && take(73) && !take(73));
        assert_eq!(nonces.take("m", 1, ends), Taken::Fresh);
    }

    #[test]
    fn what_a_full_table_forgets_is_void_and_not_fresh_again() {
        let nonces = Nonces::default();
        for ends in 1..=MAX_NONCES as u64 + 1 {
            assert_eq!(nonces.take(&ends.to_string(), 1, Timestamp(ends)), Taken::Fresh);
        }
        assert_eq!(nonces.take("1", 1, Timestamp(1)), Taken::Void);
        let last = MAX_NONCES as u64;
        assert_eq!(nonces.take(&last.to_string(), 1, Timestamp(last)), Taken::Replayed);
    }
}
