//! Language model tokens that a caller used at all gateways together, where they share a store.

use idm_plan::TokenQuota;
use idm_store::{Key, Store};
use idm_types::{Reason, Refusal};

/// The key of a quota's counter. The store's clock delimits its spans, so that no gateway's clock can begin a new one.
fn key(owner: &str, quota: &TokenQuota) -> Key {
    Key::of(&["tokens", owner, &quota.per_seconds.to_string()])
}

/// Refuses a caller whose quota is used up, and every caller while the store does not answer.
pub(crate) async fn check(store: &Store, owner: &str, quotas: &[TokenQuota]) -> Result<(), Refusal> {
    for quota in quotas.iter().filter(|_| store.is_shared()) {
        let (spent, left_ms) = store
            .count(&key(owner, quota))
            .await
            .map_err(|error| Refusal::new(Reason::StoreUnavailable, error.to_string()))?;
        if spent >= quota.tokens {
            let seconds = left_ms.div_ceil(1000).max(1);
            return Err(Refusal::new(Reason::TokenQuotaExceeded, "").retry_after(seconds));
        }
    }
    Ok(())
}

/// Adds the tokens of a call to the shared counters. The response has ended, so no request waits for this.
pub(crate) fn add(store: &Store, owner: &str, quotas: &[TokenQuota], tokens: u64) {
    for quota in quotas {
        store.add_soon(&key(owner, quota), tokens, quota.per_seconds.saturating_mul(1000));
    }
}
