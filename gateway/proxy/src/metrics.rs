//! Counters in the Prometheus text format. Labels come from closed sets and object names only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use idm_types::Reason;

use crate::watch::Cause;

const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// The counters of one policy (or of requests without a policy).
#[derive(Debug)]
pub(crate) struct PolicyCounters {
    permitted: AtomicU64,
    by_reason: Vec<AtomicU64>,
}

impl PolicyCounters {
    fn new() -> Self {
        Self { permitted: AtomicU64::new(0), by_reason: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn count(&self, reason: Option<Reason>) {
        let counter = match reason {
            None => Some(&self.permitted),
            Some(reason) => self.by_reason.get(reason as usize),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }
}

/// The outcome of a copy for a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// There was an answer, which was dropped.
    Answered,
    /// It was sent, and there was no answer.
    Failed,
    /// It was not sent: there was no place for it, or its body was too long or incomplete.
    Dropped,
}

impl Mirrored {
    const ALL: [Self; 3] = [Mirrored::Answered, Mirrored::Failed, Mirrored::Dropped];
}

/// All counters of a gateway. The map is touched when an engine is armed and when metrics are read,
/// never by a request.
#[derive(Debug)]
pub struct Metrics {
    policies: Mutex<BTreeMap<String, Arc<PolicyCounters>>>,
    pub(crate) nobody: Arc<PolicyCounters>,
    duration_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    pub(crate) connections: AtomicU64,
    /// By cause, in the order of [`Cause::ALL`].
    closed: [AtomicU64; Cause::ALL.len()],
    pub(crate) handshakes_failed: AtomicU64,
    /// By outcome, in the order of [`Mirrored::ALL`].
    mirrored: [AtomicU64; Mirrored::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            policies: Mutex::default(),
            nobody: Arc::new(PolicyCounters::new()),
            duration_us: AtomicU64::new(0),
            buckets: Default::default(),
            connections: AtomicU64::new(0),
            closed: Default::default(),
            handshakes_failed: AtomicU64::new(0),
            mirrored: Default::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn policy(&self, name: &str) -> Arc<PolicyCounters> {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.entry(name.to_owned()).or_insert_with(|| Arc::new(PolicyCounters::new())).clone()
    }

    pub(crate) fn observe(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.duration_us.fetch_add(us, Relaxed);
        let position = BUCKETS_US.iter().position(|limit| us <= *limit).unwrap_or(BUCKETS_US.len());
        if let Some(bucket) = self.buckets.get(position) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn connections_closed(&self, cause: Cause, count: u64) {
        if let Some(counter) = self.closed.get(cause as usize) {
            counter.fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn mirrored(&self, outcome: Mirrored) {
        if let Some(counter) = self.mirrored.get(outcome as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Writes everything in the Prometheus text format.
    pub fn render(&self, out: &mut String) {
        out.push_str(
            "# HELP idm_decisions_total Decisions by policy, outcome and reason.\n# TYPE idm_decisions_total counter\n",
        );
        write_policy(out, "", &self.nobody);
        for (name, counters) in self.policies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            write_policy(out, name, counters);
        }
        out.push_str("# HELP idm_request_duration_seconds From arrival to the head of the answer.\n# TYPE idm_request_duration_seconds histogram\n");
        let mut total = 0;
        for (limit, bucket) in BUCKETS_US.iter().map(Some).chain([None]).zip(&self.buckets) {
            total += bucket.load(Relaxed);
            let le = limit.map_or_else(|| "+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let _ = writeln!(out, "idm_request_duration_seconds_bucket{{le=\"{le}\"}} {total}");
        }
        let _ = writeln!(
            out,
            "idm_request_duration_seconds_sum {}\nidm_request_duration_seconds_count {total}",
            self.duration_us.load(Relaxed) as f64 / 1e6
        );
        let _ = writeln!(
            out,
            "# HELP idm_connections Open client connections.\n# TYPE idm_connections gauge\nidm_connections {}",
            self.connections.load(Relaxed)
        );
        out.push_str(
            "# HELP idm_connections_closed_total Connections and HTTP/2 streams that the gateway ended, by cause.\n\
             # TYPE idm_connections_closed_total counter\n",
        );
        for (cause, counter) in Cause::ALL.iter().zip(&self.closed) {
            let _ =
                writeln!(out, "idm_connections_closed_total{{cause=\"{}\"}} {}", cause.label(), counter.load(Relaxed));
        }
        let failed = self.handshakes_failed.load(Relaxed);
        let help = "# HELP idm_tls_handshakes_failed_total TLS handshakes that failed, a bad client certificate among the causes.";
        let _ = writeln!(
            out,
            "{help}\n# TYPE idm_tls_handshakes_failed_total counter\nidm_tls_handshakes_failed_total {failed}"
        );
        out.push_str(
            "# HELP idm_mirrored_requests_total Copies of requests for mirrors, by outcome.\n\
             # TYPE idm_mirrored_requests_total counter\n",
        );
        for (outcome, counter) in Mirrored::ALL.iter().zip(&self.mirrored) {
            let count = counter.load(Relaxed);
            let _ = writeln!(out, "idm_mirrored_requests_total{{outcome=\"{outcome:?}\"}} {count}");
        }
    }
}

fn write_policy(out: &mut String, policy: &str, counters: &PolicyCounters) {
    let permitted = counters.permitted.load(Relaxed);
    if permitted > 0 {
        let _ =
            writeln!(out, "idm_decisions_total{{policy=\"{policy}\",outcome=\"Permitted\",reason=\"\"}} {permitted}");
    }
    for (reason, counter) in Reason::ALL.iter().zip(&counters.by_reason) {
        let count = counter.load(Relaxed);
        if count > 0 {
            let outcome = if reason.is_denial() { "Denied" } else { "Failed" };
            let _ = writeln!(
                out,
                "idm_decisions_total{{policy=\"{policy}\",outcome=\"{outcome}\",reason=\"{reason}\"}} {count}"
            );
        }
    }
}
