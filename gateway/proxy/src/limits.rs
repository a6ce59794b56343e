//! Limits on the number of connections and requests: in sum, of one address, and of one connection.
//!
//! The limit in sum follows from memory and file descriptors. An address may take three quarters of the places that
//! other addresses leave, and a connection half of the places that its address has left. So there is always room for a
//! new address, even if few addresses take all the rest. Behind a balancer that shows one address for all callers, the
//! limits of an address can be set to a number.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use idm_types::network;

use crate::shared::Shared;

/// The memory limit that is assumed where none is set: the chart's default.
const USUAL_MEMORY: u64 = 256 << 20;
/// The memory per connection in the limit. A connection without a request costs 50 KiB while its head arrives slowly:
/// buffers, its task, its TLS state. So as many connections as the limit allows take less than half of the memory.
const MEMORY_OF_CONNECTION: u64 = 128 << 10;
/// The memory per request in the limit. A request whose answer cannot be written holds one read of the upstream's
/// connection (64 KiB) and two frames. So as many requests as the limit allows take about half of the memory.
const MEMORY_OF_REQUEST: u64 = 170 << 10;
/// Descriptors for the audit, configuration, the store and the gateway's own requests.
const OTHER_DESCRIPTORS: u64 = 128;
const SHARDS: usize = 16;

/// The largest numbers of connections and requests at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of callers in sum.
    pub connections: usize,
    /// Connections of one address (IPv6: of one /64); `None` lets it take a fair share.
    pub connections_per_address: Option<usize>,
    /// Requests under way in sum: from the end of the head to the last byte of the answer.
    pub requests: usize,
    /// Requests under way of one address (IPv6: of one /64); `None` lets it take a fair share.
    pub requests_per_address: Option<usize>,
}

impl Limits {
    /// The limits that fit the memory limit of the control group and the limit of file descriptors. Where no memory
    /// limit is set, the chart's 256 MiB are assumed; the operator may configure more.
    pub fn of_this_process() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self::of(memory_limit(), descriptors(&limits))
    }

    /// The limits that fit this many bytes of memory and file descriptors.
    fn of(memory: u64, descriptors: Option<u64>) -> Self {
        // Each connection is a descriptor, and each request may need one towards its upstream.
        let of_descriptors = descriptors.map_or(u64::MAX, |all| all.saturating_sub(OTHER_DESCRIPTORS) / 2);
        let at_most = |bytes: u64, each: u64| (bytes / each).min(of_descriptors).clamp(16, 1 << 20) as usize;
        Self {
            connections: at_most(memory, MEMORY_OF_CONNECTION),
            connections_per_address: None,
            requests: at_most(memory, MEMORY_OF_REQUEST),
            requests_per_address: None,
        }
    }
}

/// The memory limit of the process's control group in bytes, or the chart's 256 MiB where none is set.
pub fn memory_limit() -> u64 {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
        // Version 1 expresses "no limit" as a number near the largest.
        .find(|bytes: &u64| *bytes < 1 << 50)
        .unwrap_or(USUAL_MEMORY)
}

/// The soft limit in the text of `/proc/self/limits`.
fn descriptors(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The part of `limit` that one address may use while other addresses use `others`: three quarters of the rest, or
/// `fixed` as far as the rest has room for it.
fn share_of_address(limit: usize, others: usize, fixed: Option<usize>) -> usize {
    let left = limit.saturating_sub(others);
    fixed.map_or((left * 3).div_ceil(4), |fixed| fixed.min(left))
}

/// The addresses with connections, shared by all cores. Its locks are taken when a connection opens and when it ends; a
/// request changes only the counters of its own address and the sum.
pub(crate) struct Table {
    limits: Limits,
    shared: Arc<Shared>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    shards: [Mutex<HashMap<IpAddr, Arc<Counted>>>; SHARDS],
}

/// The counters of one address.
#[derive(Default)]
struct Counted {
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// The last time when a search for room failed, in milliseconds.
    in_vain: AtomicU64,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The limit of the address.
    Address,
    /// The limit of all addresses together.
    Sum,
}

impl Table {
    pub(crate) fn new(limits: Limits, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            shared,
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            shards: Default::default(),
        })
    }

    /// Takes a place for a connection, even if none is free: the value returned beside it tells that, and the caller
    /// then closes another connection, or this one.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr) -> (Place, Option<Full>) {
        let address = network(address);
        let counted = {
            let mut shard = self.shard(address).lock().unwrap_or_else(PoisonError::into_inner);
            let counted = shard.entry(address).or_default().clone();
            // The lock is held, so that no other core removes the entry in between.
            counted.connections.fetch_add(1, Relaxed);
            counted
        };
        let of_address = counted.connections.load(Relaxed);
        let sum = self.connections.fetch_add(1, Relaxed) + 1;
        self.shared.metrics.connections.store(sum as u64, Relaxed);
        let Limits { connections, connections_per_address, .. } = self.limits;
        let others = sum.saturating_sub(of_address);
        let full = if sum > connections {
            Some(Full::Sum)
        } else {
            let share = share_of_address(connections, others, connections_per_address);
            (of_address > share).then_some(Full::Address)
        };
        (Place { table: self.clone(), address, counted }, full)
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, Arc<Counted>>> {
        let bits = match address {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        // Fibonacci hashing distributes neighbours; the upper bits are the well mixed ones.
        let position = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SHARDS;
        let [first, ..] = &self.shards;
        self.shards.get(position).unwrap_or(first)
    }
}

/// The place of one connection; free again when dropped.
pub(crate) struct Place {
    table: Arc<Table>,
    address: IpAddr,
    counted: Arc<Counted>,
}

impl Place {
    /// The address as it is counted.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// The counters of its requests.
    pub(crate) fn requests(&self) -> Requests {
        Requests { table: self.table.clone(), counted: self.counted.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let sum = self.table.connections.fetch_sub(1, Relaxed).saturating_sub(1);
        self.table.shared.metrics.connections.store(sum as u64, Relaxed);
        let mut shard = self.table.shard(self.address).lock().unwrap_or_else(PoisonError::into_inner);
        if self.counted.connections.fetch_sub(1, Relaxed) == 1 {
            shard.remove(&self.address);
        }
    }
}

/// The requests of one address, as one of its connections counts them.
pub(crate) struct Requests {
    table: Arc<Table>,
    counted: Arc<Counted>,
}

impl Requests {
    /// The number of connections of the address.
    pub(crate) fn connections(&self) -> usize {
        self.counted.connections.load(Relaxed)
    }

    /// Counts one more request on a connection that has `own` requests, if there is room.
    pub(crate) fn begin(&self, own: usize) -> Result<(), Full> {
        let Limits { requests, requests_per_address, .. } = self.table.limits;
        // Read first and counted afterwards: cores that do so at the same time may exceed the limit by their number.
        let sum = self.table.requests.load(Relaxed);
        let of_address = self.counted.requests.load(Relaxed);
        if sum >= requests {
            return Err(Full::Sum);
        }
        let share = share_of_address(requests, sum.saturating_sub(of_address), requests_per_address);
        if own >= share.saturating_sub(of_address) {
            return Err(Full::Address);
        }
        self.table.requests.fetch_add(1, Relaxed);
        self.counted.requests.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Whether to search for room again, at a time in milliseconds: to check all connections costs more than a refusal,
    /// so a flood of refusals triggers it only ten times per second.
    pub(crate) fn may_look(&self, now: u64) -> bool {
        let last = self.counted.in_vain.load(Relaxed);
        last == 0 || now.saturating_sub(last) >= 100
    }

    /// A search for room failed.
    pub(crate) fn looked_in_vain(&self, now: u64) {
        self.counted.in_vain.store(now, Relaxed);
    }

    /// Subtracts `ended`.
    pub(crate) fn end(&self, ended: usize) {
        self.table.requests.fetch_sub(ended, Relaxed);
        self.counted.requests.fetch_sub(ended, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(connections: usize, requests: usize) -> Arc<Table> {
        let limits = Limits { connections, connections_per_address: None, requests, requests_per_address: None };
        Table::new(limits, Shared::new("test", idm_decide::BodyLimits::default(), Default::default()))
    }

    fn v4(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let table = table(100, 100);
        let (one, _) = table.open("2001:db8:1:2::1".parse().unwrap());
        let (two, _) = table.open("2001:db8:1:2:ffff::9".parse().unwrap());
        let (other, _) = table.open("2001:db8:1:3::1".parse().unwrap());
        assert_eq!((one.requests().connections(), other.requests().connections()), (2, 1));
        drop(two);
        assert_eq!(one.requests().connections(), 1);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), v4(1));
    }

    #[test]
    fn one_address_leaves_a_quarter_and_many_leave_room_for_one_more() {
        let table = table(100, 100);
        let mut places = Vec::new();
        loop {
            let (place, full) = table.open(v4(1));
            if full.is_some() {
                break;
            }
            places.push(place);
        }
        assert_eq!(places.len(), 75);
        for address in 2..5 {
            let mut opened = 0;
            loop {
                let (place, full) = table.open(v4(address));
                if full.is_some() {
                    break;
                }
                opened += 1;
                places.push(place);
            }
            assert!(opened > 0, "address {address} found no room beside {}", places.len());
        }
        let (_, full) = table.open(v4(200));
        assert_eq!((places.len(), full), (100, Some(Full::Sum)));
        places.clear();
        assert!(table.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "addresses are forgotten");
    }

    #[test]
    fn a_connection_with_many_requests_leaves_room_for_another_of_its_address() {
        let table = table(100, 100);
        let (place, _) = table.open(v4(1));
        let requests = place.requests();
        let mut greedy = 0;
        while requests.begin(greedy).is_ok() {
            greedy += 1;
        }
        assert_eq!(greedy, 38);
        assert_eq!(requests.begin(0), Ok(()), "another connection of the same address");
        requests.end(greedy + 1);
        assert_eq!(table.requests.load(Relaxed), 0);
    }

    #[test]
    fn a_fixed_limit_replaces_the_share_but_not_the_sum() {
        assert_eq!(share_of_address(100, 0, Some(100)), 100);
        assert_eq!(share_of_address(100, 40, Some(100)), 60);
        assert_eq!(share_of_address(100, 0, Some(7)), 7);
    }

    #[test]
    fn limits_follow_from_memory_and_descriptors() {
        let chart = Limits::of(256 << 20, Some(1 << 20));
        assert_eq!((chart.connections, chart.requests), (2048, 1542));
        assert_eq!(Limits::of(256 << 20, Some(1024)).connections, 448);
        assert_eq!(
            descriptors("Limit  Soft\nMax open files            1024                 524288   files\n"),
            Some(1024)
        );
        assert_eq!(descriptors("Max open files            unlimited            unlimited            files\n"), None);
    }
}
