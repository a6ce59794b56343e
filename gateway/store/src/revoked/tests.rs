use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3_600_000;
const NOON: u64 = 1_000 * HOUR;

fn at(wall: u64, uptime: u64) -> Moment {
    Moment { wall: Timestamp(wall), uptime: Uptime(uptime) }
}

#[test]
fn a_copy_that_nobody_confirms_knows_only_what_is_revoked() {
    let (list, key, other) = (Revocations::of_others(), Key::of(&["a"]), Key::of(&["b"]));
    assert_eq!(list.contains(&other, at(NOON, 5)), Err(Stale), "before the first look nobody knows");
    list.merge(&[(key, Timestamp(NOON + HOUR))], at(NOON, 5));
    list.merge(&[], at(NOON, 5));
    assert_eq!(list.contains(&key, at(NOON, 5)), Ok(true));
    assert_eq!(list.contains(&other, at(NOON + MAX_AGE_MS, 5 + MAX_AGE_MS)), Ok(false));
    assert_eq!(list.contains(&other, at(NOON + MAX_AGE_MS + 1, 5)), Err(Stale), "the machine was suspended");
    assert_eq!(list.contains(&other, at(NOON - HOUR, 6 + MAX_AGE_MS)), Err(Stale), "the wall clock stepped back");
    assert_eq!(list.contains(&key, at(NOON - HOUR, 6 + MAX_AGE_MS)), Ok(true), "what is revoked stays revoked");
}

#[test]
fn a_list_of_ones_own_is_never_stale_and_forgets_what_both_clocks_have_ended() {
    let (list, key, other) = (Revocations::own(), Key::of(&["a"]), Key::of(&["b"]));
    let end = MARGIN_MS + 10;
    list.add(key, Timestamp(NOON + 10), at(NOON, 0));
    for (wall, uptime) in [(NOON + end, end - 1), (NOON + end - 1, end), (NOON + 99 * end, 20)] {
        list.add(other, Timestamp(wall + 1), at(wall, uptime));
        assert_eq!(list.contains(&key, at(wall, uptime)), Ok(true), "wall {wall}, uptime {uptime}");
    }
    list.add(other, Timestamp(0), at(NOON + end, end));
    assert_eq!(list.contains(&key, at(NOON + end, end)), Ok(false));
}

#[test]
fn a_later_word_about_a_key_never_shortens_its_revocation() {
    let (list, key) = (Revocations::own(), Key::of(&["a"]));
    list.add(key, Timestamp(NOON + 100 * HOUR), at(NOON, 0));
    list.add(key, Timestamp(NOON), at(NOON, 0));
    list.add(Key::of(&["b"]), Timestamp(NOON), at(NOON + 99 * HOUR, 99 * HOUR));
    assert_eq!(list.contains(&key, at(NOON + 99 * HOUR, 99 * HOUR)), Ok(true));
}

#[derive(Clone, Debug)]
enum Step {
    /// The true time advances.
    Wait(u64),
    /// The wall clock is off by this much from now on; less than a day.
    Jump(i64),
    /// A token with this lifetime from now is revoked.
    Revoke(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..30 * HOUR).prop_map(Step::Wait),
        (-24 * HOUR as i64..24 * HOUR as i64).prop_map(Step::Jump),
        Just(Step::Jump(0)),
        (0..8u8, 0..24 * HOUR).prop_map(|(name, life)| Step::Revoke(name, life)),
    ]
}

proptest! {
    /// The model knows the true time. A token that has not expired by it is refused, whatever the pod's clock was at
    /// each sweep.
    #[test]
    fn no_jump_of_the_clock_brings_back_what_was_revoked(steps in proptest::collection::vec(step(), 1..60)) {
        let list = Revocations::own();
        let (mut elapsed, mut off) = (0u64, 0i64);
        let mut model: HashMap<u8, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Wait(ms) => elapsed += ms,
                Step::Jump(by) => off = by,
                Step::Revoke(name, life) => {
                    let (truth, until) = (NOON + elapsed, NOON + elapsed + life);
                    let now = at(truth.saturating_add_signed(off), elapsed);
                    list.add(Key::of(&[&name.to_string()]), Timestamp(until), now);
                    let known = model.entry(name).or_default();
                    *known = until.max(*known);
                }
            }
            for (name, until) in &model {
                if NOON + elapsed < *until {
                    let key = Key::of(&[&name.to_string()]);
                    prop_assert_eq!(list.contains(&key, at(NOON + elapsed, elapsed)), Ok(true));
                    // Also when the clock stays wrong.
                    prop_assert_eq!(
                        list.contains(&key, at((NOON + elapsed).saturating_add_signed(off), elapsed)),
                        Ok(true)
                    );
                }
            }
        }
    }
}
