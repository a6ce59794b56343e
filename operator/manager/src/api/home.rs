//! The first page: whether identity is healthy. Numbers come from the records of the last hour, in one pass.

use std::collections::BTreeMap;

use idm_audit::{RecordFilter, RecordKind, StoredRecord};
use idm_types::Timestamp;

use super::audit::{page, permitted};
use crate::Manager;
use crate::call::Call;
use crate::failure::{Code, Failure};
use crate::wire::audit::{AuditItem, Decisions, Home, Minute, ReasonCount};

const MINUTE_MS: u64 = 60_000;
const MINUTES: u64 = 60;
/// Records that are counted at most; a busier hour is counted from a later time on, which the answer says.
const MOST: usize = 20_000;
const CHANGES: usize = 10;
const REASONS: usize = 8;

pub(crate) async fn home(call: Call) -> Result<Home, Failure> {
    let now = Timestamp::now();
    let place = &call.manager.place;
    let mut counts = Counts::new(now);
    let (changes, audit_note) = match recorded(&call, &mut counts).await {
        Ok(changes) => (changes, None),
        Err(failure) if matches!(failure.code, Code::NotConfigured | Code::Forbidden) => {
            (Vec::new(), Some(failure.message))
        }
        Err(failure) => return Err(failure),
    };
    let (failing, expiring) = place.attention(&call.person, now).await?;
    let Counts { first: _, decisions, reasons, minutes } = counts;
    let mut reasons: Vec<_> = reasons.into_iter().map(|(reason, count)| ReasonCount { reason, count }).collect();
    reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
    reasons.truncate(REASONS);
    Ok(Home {
        as_of: now.rfc3339(),
        gateways: place.gateways(&call.person, None).await?,
        decisions,
        reasons,
        per_minute: minutes,
        failing,
        expiring,
        changes,
        audit_note,
    })
}

/// Counts the decisions, and finds the newest changes.
async fn recorded(call: &Call, counts: &mut Counts) -> Result<Vec<AuditItem>, Failure> {
    let all = permitted(call, RecordFilter::default()).await?;
    let changes = RecordFilter { kind: Some(RecordKind::Change), ..all.clone() };
    let changes = page(&call.manager, &changes, None, CHANGES).await?;
    count(&call.manager, all, counts).await?;
    Ok(changes.items.iter().map(AuditItem::of).collect())
}

async fn count(manager: &Manager, all: RecordFilter, counts: &mut Counts) -> Result<(), Failure> {
    let since = Some(counts.first);
    let filter = RecordFilter { kind: Some(RecordKind::Decision), since, ..all };
    let (mut before, mut seen) = (None, 0);
    loop {
        let read = page(manager, &filter, before.as_ref(), 1000).await?;
        read.items.iter().for_each(|record| counts.add(record));
        seen += read.items.len();
        let oldest = read.items.last().map(|record| record.time().to_owned());
        match read.next {
            Some(next) if seen < MOST => before = Some(next),
            Some(_) => {
                counts.decisions.since = oldest.unwrap_or_default();
                return Ok(());
            }
            None => return Ok(()),
        }
    }
}

struct Counts {
    /// The beginning of the first minute.
    first: Timestamp,
    decisions: Decisions,
    reasons: BTreeMap<String, u64>,
    minutes: Vec<Minute>,
}

impl Counts {
    fn new(now: Timestamp) -> Self {
        let first = (now.0 / MINUTE_MS + 1).saturating_sub(MINUTES);
        let minute = |number: u64| Timestamp((first + number) * MINUTE_MS);
        let minutes = (0..MINUTES).map(|number| Minute { time: minute(number).rfc3339(), ..Minute::default() });
        let first = minute(0);
        let decisions = Decisions { since: first.rfc3339(), ..Decisions::default() };
        Self { first, decisions, reasons: BTreeMap::new(), minutes: minutes.collect() }
    }

    fn add(&mut self, record: &StoredRecord) {
        let time = record.time();
        let minute = self.minutes.iter_mut().rev().find(|minute| minute.time.as_str() <= time);
        let Some(minute) = minute else { return };
        let (of_minute, of_all) = match record.outcome() {
            "Permitted" => (&mut minute.permitted, &mut self.decisions.permitted),
            "Denied" => (&mut minute.denied, &mut self.decisions.denied),
            _ => (&mut minute.failed, &mut self.decisions.failed),
        };
        *of_minute += 1;
        *of_all += 1;
        if let Some(reason) = record.reason().filter(|_| record.outcome() == "Denied") {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decisions_are_counted_in_their_minutes() {
        let now = Timestamp(1_800_000_000_000);
        let mut counts = Counts::new(now);
        let record = |ago: u64, outcome: &str| {
            let time = Timestamp(now.0 - ago).rfc3339();
            StoredRecord::of(json!({"kind": "Decision", "@timestamp": time, "outcome": outcome, "reason": "R"}))
        };
        for (ago, outcome) in [(0, "Permitted"), (0, "Denied"), (MINUTE_MS, "Denied"), (3_600_001, "Denied")] {
            counts.add(&record(ago, outcome));
        }
        assert_eq!(counts.minutes.len(), 60);
        let last = counts.minutes.last().expect("a minute");
        assert_eq!((last.permitted, last.denied), (1, 1));
        assert_eq!((counts.decisions.permitted, counts.decisions.denied, counts.reasons["R"]), (1, 2, 2));
    }
}
