//! Sorts the records of several cores by their times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::StoredRecord;

/// Each core writes in its own order, and two cores differ by a few syncs at most.
const HELD: Duration = Duration::from_millis(100);
/// No more records than this are held, so that a folder of any size can be read.
const MOST: usize = 100_000;

/// Sorts records by their times. A record is held for a tenth of a second, so that an older record of another core can
/// precede it, and never longer: the record of a long request is placed at the time when it arrives.
#[derive(Default)]
pub struct InOrder {
    /// By time, then by the order in which they were read.
    held: BTreeMap<(String, u64), (StoredRecord, Instant)>,
    read: u64,
}

impl InOrder {
    /// Takes a record that was read just now.
    pub fn add(&mut self, record: StoredRecord, now: Instant) {
        self.read += 1;
        self.held.insert((record.time().to_owned(), self.read), (record, now));
    }

    /// The records that need not be held any longer, in order: the newest that has waited long enough is the last of
    /// them.
    pub fn due(&mut self, now: Instant) -> Vec<StoredRecord> {
        let surplus = self.held.keys().nth_back(MOST).cloned();
        let is_due = |read: &Instant| now.saturating_duration_since(*read) >= HELD;
        let waited = self.held.iter().rev().find(|(_, (_, read))| is_due(read)).map(|(key, _)| key.clone());
        let Some((time, number)) = surplus.max(waited) else { return Vec::new() };
        let later = self.held.split_off(&(time, number + 1));
        std::mem::replace(&mut self.held, later).into_values().map(|(record, _)| record).collect()
    }

    /// All that are held, in order.
    pub fn rest(&mut self) -> Vec<StoredRecord> {
        std::mem::take(&mut self.held).into_values().map(|(record, _)| record).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: u64) -> StoredRecord {
        let when = idm_types::Timestamp(time).rfc3339();
        StoredRecord::of(serde_json::json!({"@timestamp": when, "id": time.to_string()}))
    }

    fn ids(records: &[StoredRecord]) -> Vec<&str> {
        records.iter().map(StoredRecord::id).collect()
    }

    #[test]
    fn batches_of_two_cores_come_out_in_the_order_of_their_times() {
        let (mut order, start) = (InOrder::default(), Instant::now());
        [3, 5, 9, 1, 4, 8].into_iter().for_each(|time| order.add(record(time), start));
        assert!(order.due(start).is_empty());
        order.add(record(2), start + HELD / 2);
        assert_eq!(ids(&order.due(start + HELD)), ["1", "2", "3", "4", "5", "8", "9"]);
        assert!(order.rest().is_empty());
    }

    #[test]
    fn late_records_never_hold_up_the_newest() {
        let (mut order, start) = (InOrder::default(), Instant::now());
        order.add(record(1000), start);
        order.add(record(1), start + HELD / 2);
        order.add(record(2000), start + HELD / 2);
        assert_eq!(ids(&order.due(start + HELD)), ["1", "1000"]);
        assert_eq!(ids(&order.rest()), ["2000"]);
    }
}
