//! How often an address may do something: so many times in each minute, counted from its first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use idm_types::Timestamp;

const MINUTE_MS: u64 = 60_000;
/// Addresses that are counted; when there are more, new ones wait until old ones are forgotten.
const MAX_ADDRESSES: usize = 65_536;

/// Counts by address, shared by all cores.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<IpAddr, (u64, u32)>>);

impl Rates {
    /// Counts one; the error is the seconds after which the next is taken.
    pub(crate) fn take(&self, address: IpAddr, per_minute: u32, now: Timestamp) -> Result<(), u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&address) {
            counts.retain(|_, (began, _)| now.0 < *began + MINUTE_MS);
            if counts.len() >= MAX_ADDRESSES {
                return Err(MINUTE_MS / 1000);
            }
        }
        let (began, count) = counts.entry(address).or_insert((now.0, 0));
        if now.0 >= *began + MINUTE_MS {
            (*began, *count) = (now.0, 0);
        }
        if *count >= per_minute {
            return Err((*began + MINUTE_MS - now.0).div_ceil(1000));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_count_in_each_minute() {
        let (rates, address, other) = (Rates::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        assert_eq!(rates.take(address, 2, at(0)), Ok(()));
        assert_eq!(rates.take(address, 2, at(100)), Ok(()));
        assert_eq!(rates.take(address, 2, at(30_000)), Err(30));
        assert_eq!(rates.take(other, 2, at(30_000)), Ok(()));
        assert_eq!(rates.take(address, 2, at(60_000)), Ok(()));
    }
}
