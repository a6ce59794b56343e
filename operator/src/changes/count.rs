//! How many changes were recorded with which evidence, and whether the webhook works, as metrics of the operator.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use idm_audit::Evidence;

/// The counters.
#[derive(Default)]
pub(crate) struct ChangeCount {
    by_evidence: [AtomicU64; 4],
    /// 0 not known, 1 does not work, 2 works.
    webhook: AtomicU8,
}

impl ChangeCount {
    pub(crate) fn count(&self, evidence: Evidence) {
        let of = Evidence::ALL.iter().zip(&self.by_evidence).find(|(kind, _)| **kind == evidence);
        if let Some((_, count)) = of {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_webhook(&self, works: bool) {
        self.webhook.store(1 + u8::from(works), Ordering::Relaxed);
    }

    /// In the format of Prometheus. An operator that does not lead does not know whether the webhook works.
    pub(crate) fn text(&self) -> String {
        let mut out = String::from("# TYPE idm_operator_changes_total counter\n");
        for (evidence, count) in Evidence::ALL.iter().zip(&self.by_evidence) {
            let (name, count) = (evidence.name(), count.load(Ordering::Relaxed));
            let _ = writeln!(out, "idm_operator_changes_total{{evidence=\"{name}\"}} {count}");
        }
        let webhook = self.webhook.load(Ordering::Relaxed);
        if webhook > 0 {
            let _ = writeln!(out, "# TYPE idm_operator_changes_webhook_up gauge");
            let _ = writeln!(out, "idm_operator_changes_webhook_up {}", webhook - 1);
        }
        out
    }
}
