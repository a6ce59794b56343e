//! A store in this process.
//!
//! A value expires by the monotonic clock. A claim expires only when the wall clock has passed its end as well: it
//! keeps out a used identifier for as long as the times of that identifier could still be valid.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use idm_types::{Moment, Timestamp, Uptime};

use crate::{Key, StoreError};

/// Entries of authenticated callers; when there are more, new ones are refused until old ones expire. To remove an
/// entry early would allow a second use. Entries of unknown callers are in `begun.rs`.
pub(crate) const MAX_ENTRIES: usize = 500_000;

struct Entry {
    value: Vec<u8>,
    until: Uptime,
    /// For a claim, the time that the wall clock must have passed too.
    until_wall: Timestamp,
}

impl Entry {
    fn value(value: Vec<u8>, for_ms: u64, now: Moment) -> Self {
        Self { value, until: now.uptime.after(for_ms), until_wall: Timestamp(0) }
    }

    fn claim(for_ms: u64, now: Moment) -> Self {
        Self { until_wall: Timestamp(now.wall.0.saturating_add(for_ms)), ..Self::value(Vec::new(), for_ms, now) }
    }

    fn lives(&self, now: Moment) -> bool {
        now.uptime < self.until || now.wall < self.until_wall
    }
}

#[derive(Default)]
pub(crate) struct InProcess(Mutex<HashMap<Key, Entry>>);

impl InProcess {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Entry>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn claim(&self, key: &Key, for_ms: u64, now: Moment) -> Result<bool, StoreError> {
        self.with(|entries| {
            if entries.get(key).is_some_and(|entry| entry.lives(now)) {
                return Ok(false);
            }
            make_room(entries, key, now)?;
            entries.insert(*key, Entry::claim(for_ms, now));
            Ok(true)
        })
    }

    pub(crate) fn get(&self, key: &Key, now: Moment) -> Option<Vec<u8>> {
        self.with(|entries| entries.get(key).filter(|entry| entry.lives(now)).map(|entry| entry.value.clone()))
    }

    pub(crate) fn renew(&self, key: &Key, for_ms: u64, now: Moment) -> Option<Vec<u8>> {
        self.with(|entries| {
            let entry = entries.get_mut(key).filter(|entry| entry.lives(now))?;
            entry.until = now.uptime.after(for_ms);
            Some(entry.value.clone())
        })
    }

    pub(crate) fn settle(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Moment) -> Result<Vec<u8>, StoreError> {
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(key).filter(|entry| entry.lives(now)) {
                entry.until = now.uptime.after(for_ms);
                return Ok(entry.value.clone());
            }
            make_room(entries, key, now)?;
            entries.insert(*key, Entry::value(value.clone(), for_ms, now));
            Ok(value)
        })
    }

    pub(crate) fn put(&self, key: &Key, value: Vec<u8>, for_ms: u64, now: Moment) -> Result<(), StoreError> {
        self.with(|entries| {
            make_room(entries, key, now)?;
            entries.insert(*key, Entry::value(value, for_ms, now));
            Ok(())
        })
    }

    pub(crate) fn replace(&self, key: &Key, expected: &[u8], value: Vec<u8>, now: Moment) -> bool {
        self.with(|entries| match entries.get_mut(key) {
            Some(entry) if entry.lives(now) && entry.value == expected => {
                entry.value = value;
                true
            }
            _ => false,
        })
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.with(|entries| drop(entries.remove(key)));
    }
}

fn make_room(entries: &mut HashMap<Key, Entry>, key: &Key, now: Moment) -> Result<(), StoreError> {
    if entries.len() < MAX_ENTRIES || entries.contains_key(key) {
        return Ok(());
    }
    entries.retain(|_, entry| entry.lives(now));
    if entries.len() < MAX_ENTRIES {
        Ok(())
    } else {
        Err(StoreError("the memory of this process is full; use a shared store".into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(wall: u64, uptime: u64) -> Moment {
        Moment { wall: Timestamp(wall), uptime: Uptime(uptime) }
    }

    fn t0() -> Moment {
        at(1_000_000, 0)
    }

    fn later(ms: u64) -> Moment {
        at(1_000_000 + ms, ms)
    }

    #[test]
    fn a_claim_is_given_once_until_it_ends() {
        let here = InProcess::default();
        let key = Key::of(&["k"]);
        assert_eq!(here.claim(&key, 100, t0()), Ok(true));
        assert_eq!(here.claim(&key, 100, t0()), Ok(false));
        assert_eq!(here.claim(&key, 100, later(100)), Ok(true));
    }

    #[test]
    fn a_claim_outlives_a_clock_that_jumps_either_way() {
        let here = InProcess::default();
        let (early, late) = (Key::of(&["early"]), Key::of(&["late"]));
        assert_eq!(here.claim(&early, 100, t0()), Ok(true));
        assert_eq!(here.claim(&early, 100, at(9_000_000, 50)), Ok(false), "the wall clock ran ahead");
        assert_eq!(here.claim(&late, 100, at(9_000_000, 50)), Ok(true));
        assert_eq!(here.claim(&late, 100, at(1_000_500, 500)), Ok(false), "what it names lies ahead all the same");
        assert_eq!(here.claim(&late, 100, at(9_000_100, 8_000_150)), Ok(true));
    }

    #[test]
    fn a_value_lives_as_long_as_it_should_whatever_the_wall_clock_says() {
        let here = InProcess::default();
        let key = Key::of(&["k"]);
        here.put(&key, b"a".to_vec(), 100, at(9_000_000, 0)).unwrap();
        assert_eq!(here.get(&key, at(90_000_000, 99)).as_deref(), Some(&b"a"[..]));
        assert_eq!(here.get(&key, at(1_000_000, 100)), None);
    }

    #[test]
    fn what_is_settled_stays_and_what_is_renewed_lives_longer() {
        let here = InProcess::default();
        let key = Key::of(&["k"]);
        assert_eq!(here.renew(&key, 100, t0()), None);
        assert_eq!(here.settle(&key, b"a".to_vec(), 60, t0()).as_deref(), Ok(&b"a"[..]));
        assert_eq!(here.settle(&key, b"b".to_vec(), 60, later(50)).as_deref(), Ok(&b"a"[..]));
        assert_eq!(here.renew(&key, 60, later(100)).as_deref(), Some(&b"a"[..]));
        assert_eq!(here.settle(&key, b"c".to_vec(), 60, later(160)).as_deref(), Ok(&b"c"[..]));
    }

    #[test]
    fn a_value_is_replaced_only_by_who_knows_it() {
        let here = InProcess::default();
        let key = Key::of(&["k"]);
        here.put(&key, b"a".to_vec(), 100, t0()).unwrap();
        assert!(!here.replace(&key, b"x", b"b".to_vec(), t0()));
        assert!(here.replace(&key, b"a", b"b".to_vec(), t0()));
        assert_eq!(here.get(&key, t0()).as_deref(), Some(&b"b"[..]));
        assert_eq!(here.get(&key, later(100)), None);
        assert!(!here.replace(&key, b"b", b"c".to_vec(), later(100)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// True time passes.
        Wait(u64),
        /// The wall clock is off by this much from now on.
        Jump(i64),
        /// An assertion or proof is used that is valid for so long from now, by the true time.
        Use(u8, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        const HOUR: u64 = 3_600_000;
        prop_oneof![
            (0..2 * HOUR).prop_map(Step::Wait),
            (-24 * HOUR as i64..24 * HOUR as i64).prop_map(Step::Jump),
            Just(Step::Jump(0)),
            (0..6u8, 1..HOUR).prop_map(|(name, life)| Step::Use(name, life)),
        ]
    }

    proptest! {
        /// The model knows the true time: within its life, nothing is used twice, whatever the wall clock says.
        #[test]
        fn no_jump_of_the_clock_lets_something_be_used_twice(steps in proptest::collection::vec(step(), 1..60)) {
            const NOON: u64 = 1_700_000_000_000;
            let here = InProcess::default();
            let (mut elapsed, mut off) = (0u64, 0i64);
            let mut used: HashMap<u8, u64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => elapsed += ms,
                    Step::Jump(by) => off = by,
                    Step::Use(name, life) => {
                        let now = at((NOON + elapsed).saturating_add_signed(off), elapsed);
                        let first = here.claim(&Key::of(&[&name.to_string()]), life, now).expect("there is room");
                        let lives = used.get(&name).is_some_and(|until| elapsed < *until);
                        prop_assert!(!(first && lives), "{} was used twice", name);
                        if first {
                            used.insert(name, elapsed + life);
                        }
                    }
                }
            }
        }
    }
}
