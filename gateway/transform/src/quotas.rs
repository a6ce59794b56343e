//! Quotas of tokens: what each caller used in the current spans.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use idm_plan::TokenQuota;
use idm_types::Moment;

/// The number of callers whose use is remembered; those of past spans are removed first.
const MAX_CALLERS: usize = 100_000;

/// The tokens that callers used in the current spans. One for each gateway process, kept across configurations. The
/// wall clock sets the boundaries of the spans when the first one is needed; from then on they follow a clock that does
/// not jump, so that no span begins twice.
#[derive(Default)]
pub struct Quotas(Mutex<Spent>);

#[derive(Default)]
struct Spent {
    /// Wall time less uptime, in milliseconds, when the first span was asked for.
    ahead: Option<u64>,
    used: HashMap<(String, u64), (u64, u64)>,
}

impl Spent {
    /// Seconds on the clock that spans are cut from.
    fn seconds(&mut self, now: Moment) -> u64 {
        let ahead = *self.ahead.get_or_insert(now.wall.0.saturating_sub(now.uptime.0));
        now.uptime.after(ahead).0 / 1000
    }
}

impl Quotas {
    /// Whether a caller may begin another call; otherwise seconds until the span ends. `owner` is the policy and the
    /// caller.
    pub fn check(&self, owner: &str, quotas: &[TokenQuota], now: Moment) -> Result<(), u64> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = spent.seconds(now);
        for quota in quotas {
            let span = seconds / quota.per_seconds;
            let of_span = spent.used.get(&(owner.to_owned(), quota.per_seconds)).filter(|(of, _)| *of >= span);
            if of_span.is_some_and(|(_, spent)| *spent >= quota.tokens) {
                return Err((span + 1) * quota.per_seconds - seconds);
            }
        }
        Ok(())
    }

    /// Adds the usage of a call.
    pub fn add(&self, owner: &str, quotas: &[TokenQuota], tokens: u64, now: Moment) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = spent.seconds(now);
        if spent.used.len() >= MAX_CALLERS {
            spent.used.retain(|(_, per_seconds), (span, _)| *span >= seconds / per_seconds);
        }
        for quota in quotas {
            let span = seconds / quota.per_seconds;
            let entry = spent.used.entry((owner.to_owned(), quota.per_seconds)).or_insert((span, 0));
            *entry = if entry.0 >= span { (entry.0, entry.1.saturating_add(tokens)) } else { (span, tokens) };
        }
    }
}

#[cfg(test)]
mod tests {
    use idm_types::{Timestamp, Uptime};
    use proptest::prelude::*;

    use super::*;

    fn moment(wall_seconds: u64, uptime_seconds: u64) -> Moment {
        Moment { wall: Timestamp::from_seconds(wall_seconds), uptime: Uptime(uptime_seconds * 1000) }
    }

    #[test]
    fn a_quota_ends_with_its_span_and_is_each_callers_own() {
        let (quotas, limits) = (
            Quotas::default(),
            [TokenQuota { tokens: 10, per_seconds: 60 }, TokenQuota { tokens: 15, per_seconds: 3600 }],
        );
        let at = |seconds: u64| moment(seconds, seconds);
        quotas.add("a", &limits, 9, at(3600));
        assert_eq!(quotas.check("a", &limits, at(3600)), Ok(()));
        quotas.add("a", &limits, 2, at(3601));
        assert_eq!(quotas.check("a", &limits, at(3610)), Err(50));
        assert_eq!(quotas.check("b", &limits, at(3610)), Ok(()));
        assert_eq!(quotas.check("a", &limits, at(3660)), Ok(()));
        quotas.add("a", &limits, 4, at(3660));
        assert_eq!(quotas.check("a", &limits, at(3720)), Err(3480), "the longer span is used up");
    }

    proptest! {
        /// Even if the wall clock jumps, a caller gets its quota once in each span of true time.
        #[test]
        fn no_jump_of_the_clock_gives_a_quota_twice(
            steps in proptest::collection::vec((0..90u64, -7200..7200i64, 1..5u64), 1..80),
        ) {
            let (quotas, limits) = (Quotas::default(), [TokenQuota { tokens: 10, per_seconds: 60 }]);
            let (mut elapsed, mut spans) = (0, HashMap::new());
            let first = quotas.check("a", &limits, moment(600_000, 0));
            prop_assert_eq!(first, Ok(()));
            for (wait, off, tokens) in steps {
                elapsed += wait;
                let now = moment((600_000 + elapsed).saturating_add_signed(off), elapsed);
                let spent: &mut u64 = spans.entry(elapsed / 60).or_default();
                prop_assert_eq!(quotas.check("a", &limits, now).is_ok(), *spent < 10);
                if *spent < 10 {
                    quotas.add("a", &limits, tokens, now);
                    *spent += tokens;
                }
            }
        }
    }
}
