//! The treatment of backends.

use idm_api::v1alpha1 as wire;
use idm_plan::{Capacity, Care, Ejection, Retry};

use super::Notes;
use crate::Cause;

/// The treatment of the backends of a policy; `None` where the policy says nothing about it.
pub(super) fn lower_care(
    capacity: Option<&wire::Capacity>,
    ejection: Option<&wire::Ejection>,
    retry: Option<&wire::Retry>,
    notes: &mut Notes<'_>,
) -> Option<Care> {
    let care = Care {
        capacity: capacity.and_then(|of| lower_capacity(of, notes)),
        ejection: ejection.and_then(|of| lower_ejection(of, notes)),
        retry: retry.and_then(|of| lower_retry(of, notes)),
    };
    (care != Care::default()).then_some(care)
}

/// A number within its bounds.
fn within(
    path: &str,
    value: Option<i64>,
    usual: i64,
    bounds: std::ops::RangeInclusive<i64>,
    notes: &mut Notes<'_>,
) -> Option<u64> {
    let value = value.unwrap_or(usual);
    if !bounds.contains(&value) {
        let message = format!("must be {} to {}", bounds.start(), bounds.end());
        return notes.fail(format!("spec.upstream.{path}"), Cause::Invalid, message);
    }
    u64::try_from(value).ok()
}

fn lower_capacity(of: &wire::Capacity, notes: &mut Notes<'_>) -> Option<Capacity> {
    let wire::Capacity { requests, waiting } = of;
    Some(Capacity {
        requests: within("capacity.requests", Some(*requests), 1, 1..=100_000, notes)? as u32,
        waiting: within("capacity.waiting", *waiting, 0, 0..=100_000, notes)? as u32,
    })
}

fn lower_ejection(of: &wire::Ejection, notes: &mut Notes<'_>) -> Option<Ejection> {
    let wire::Ejection { failures, first_seconds, longest_seconds, max_percent } = of;
    let first_ms = within("ejection.firstSeconds", *first_seconds, 30, 1..=3600, notes)? * 1000;
    let longest_ms = within("ejection.longestSeconds", *longest_seconds, 300, 1..=3600, notes)? * 1000;
    if first_ms > longest_ms {
        let message = "the first pause must not be longer than the longest one";
        return notes.fail("spec.upstream.ejection.firstSeconds", Cause::Invalid, message);
    }
    Some(Ejection {
        failures: within("ejection.failures", *failures, 5, 1..=1000, notes)? as u32,
        first_ms,
        longest_ms,
        percent: within("ejection.maxPercent", *max_percent, 50, 1..=100, notes)? as u8,
    })
}

fn lower_retry(of: &wire::Retry, notes: &mut Notes<'_>) -> Option<Retry> {
    let wire::Retry { attempts, per_try_milliseconds, statuses, budget_percent } = of;
    let mut lowered = Vec::new();
    let usual = [502, 503, 504];
    for (i, status) in statuses.as_deref().unwrap_or(&usual).iter().enumerate() {
        lowered.push(within(&format!("retry.statuses[{i}]"), Some(*status), 0, 500..=599, notes)? as u16);
    }
    Some(Retry {
        attempts: within("retry.attempts", *attempts, 1, 1..=5, notes)? as u32,
        per_try_ms: within("retry.perTryMilliseconds", *per_try_milliseconds, 5000, 10..=60_000, notes)?,
        statuses: lowered,
        budget_percent: within("retry.budgetPercent", *budget_percent, 20, 1..=100, notes)? as u8,
    })
}
