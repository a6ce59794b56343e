//! Language model tokens that a caller used at all gateways together, where they share a store.

use idm_plan::TokenQuota;
use idm_store::{Key, Store};
use idm_types::{Reason, Timestamp};

use crate::pipeline::Stop;

/// Where a span of a quota is counted.
fn key(owner: &str, quota: &TokenQuota, span: u64) -> Key {
    Key::of(&["tokens", owner, &quota.per_seconds.to_string(), &span.to_string()])
}

/// Whether a caller may begin another call. Without an answer of the store nobody knows, and nobody may.
pub(crate) async fn check(store: &Store, owner: &str, quotas: &[TokenQuota], now: Timestamp) -> Result<(), Stop> {
    for quota in quotas.iter().filter(|_| store.is_shared()) {
        let span = now.seconds() / quota.per_seconds;
        let spent = store
            .count(&key(owner, quota, span))
            .await
            .map_err(|error| Stop::new(Reason::StoreUnavailable, error.to_string()))?;
        if spent >= quota.tokens {
            let seconds = (span + 1) * quota.per_seconds - now.seconds();
            return Err(Stop { retry_after: Some(seconds), ..Stop::new(Reason::TokenQuotaExceeded, "") });
        }
    }
    Ok(())
}

/// Tells the others what a call used. The answer has ended; nobody waits for this.
pub(crate) fn add(store: &Store, owner: &str, quotas: &[TokenQuota], tokens: u64, now: Timestamp) {
    for quota in quotas {
        store.add_soon(
            &key(owner, quota, now.seconds() / quota.per_seconds),
            tokens,
            quota.per_seconds.saturating_mul(1000),
        );
    }
}
