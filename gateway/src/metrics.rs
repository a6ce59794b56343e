//! The metrics of a gateway process about its configuration, keys, records and the store.

use std::sync::atomic::Ordering::Relaxed;

use idm_decide::BlockMode;
use idm_metrics::Exposition;
use idm_proxy::AccessLog;
use idm_store::LimitCounts;
use idm_types::Timestamp;

use crate::Gateway;

impl Gateway {
    pub(crate) fn render(&self, out: &mut Exposition) {
        self.write_configuration(out);
        self.write_keys(out);
        self.write_ended_keys(out);
        self.write_certificates(out);
        self.write_audit(out);
        self.write_store(out);
        self.write_limits(out);
        self.write_blocks(out);
        let dropped = self.shared.access_log().map_or(0, AccessLog::dropped);
        self.write_traces(out);
        out.counter("idm_access_log_dropped_total", "Lines of the access log that nobody took in time.")
            .sample(&[], dropped);
        let (known, strangers) = self.shared.bodies_held();
        let mut family = out.gauge("idm_bodies_held_bytes", "Memory of the bodies that are held.");
        for (callers, bytes) in [("known", known), ("strangers", strangers)] {
            family.sample(&[("callers", callers)], bytes as u64);
        }
    }

    fn write_traces(&self, out: &mut Exposition) {
        let mut family = out.counter("idm_spans_total", "Spans of traces by what became of them.");
        if let Some(counts) = self.shared.traces() {
            for (outcome, count) in
                [("exported", &counts.exported), ("dropped", &counts.dropped), ("failed", &counts.failed)]
            {
                family.sample(&[("outcome", outcome)], count.load(Relaxed));
            }
        }
    }

    fn write_configuration(&self, out: &mut Exposition) {
        let generation = self.generation().unwrap_or(0);
        out.gauge("idm_config_generation", "Generation of the configuration in force.").sample(&[], generation);
        out.gauge("idm_config_refused", "1 while the newest configuration could not be put in force.")
            .sample(&[], u64::from(self.error().is_some()));
    }

    fn write_ended_keys(&self, out: &mut Exposition) {
        let help = "Requests with a key that has ended, by the Credential whose key it was.";
        let mut family = out.counter("idm_ended_keys_used_total", help);
        for (credential, owner, reason, uses) in self.environment.memory.ended_uses().counts() {
            let labels = [
                ("namespace", credential.namespace.as_str()),
                ("credential", credential.name.as_str()),
                ("owner", owner.as_deref().unwrap_or_default()),
                ("reason", reason.code()),
            ];
            family.sample(&labels, uses);
        }
    }

    fn write_keys(&self, out: &mut Exposition) {
        let keys = self.shared.configuration().map(|configuration| configuration.armed().keys()).unwrap_or_default();
        let oldest = keys.values().filter_map(|keys| keys.fetched_at()).map(|time| time.0).min();
        let age = oldest.map_or(0, |oldest| Timestamp::now().0.saturating_sub(oldest) / 1000);
        let left_out = keys.values().filter_map(|keys| keys.load()).map(|set| set.left_out().len() as u64).sum();
        out.gauge("idm_issuer_keys_age_seconds", "Age of the issuer keys that were confirmed longest ago.")
            .sample(&[], age);
        out.gauge(
            "idm_issuer_keys_left_out",
            "Published keys that cannot be used and were left out; the log names them.",
        )
        .sample(&[], left_out);
        let missing = keys.values().filter(|keys| !keys.is_loaded()).count() as u64;
        out.gauge("idm_issuer_keys_missing", "Key sets that were never fetched: their tokens are refused.")
            .sample(&[], missing);
    }

    fn write_certificates(&self, out: &mut Exposition) {
        let mut family = out.gauge(
            "idm_certificate_expires_timestamp_seconds",
            "When the certificate ends that callers of a host are shown, in seconds since 1970.",
        );
        let configuration = self.shared.configuration();
        for (host, end) in configuration.iter().flat_map(|configuration| configuration.certificates()) {
            family.sample(&[("host", host)], end.seconds());
        }
    }

    fn write_audit(&self, out: &mut Exposition) {
        let health = &self.health;
        for (name, help, value) in [
            ("idm_audit_recorded_total", "Audit records on disk.", &health.recorded),
            ("idm_audit_lost_total", "Audit records that could not be stored.", &health.lost),
            ("idm_audit_shipped_total", "Audit records confirmed by Elasticsearch.", &health.shipped),
            ("idm_audit_dead_total", "Audit records that Elasticsearch refused for good.", &health.dead),
        ] {
            out.counter(name, help).sample(&[], value.load(Relaxed));
        }
        out.gauge("idm_audit_failing", "1 while audit records cannot be stored.")
            .sample(&[], u64::from(health.is_failing()));
    }

    fn write_limits(&self, out: &mut Exposition) {
        let counted = self.environment.memory.counters().counts();
        let LimitCounts { taken, refused, lost_denied, lost_local, questions } = counted;
        let mut family = out.counter("idm_limited_requests_total", "Requests with limits that count, by outcome.");
        let outcomes = [("Taken", taken), ("Refused", refused), ("LostDenied", lost_denied), ("LostLocal", lost_local)];
        for (outcome, count) in outcomes {
            family.sample(&[("outcome", outcome)], count);
        }
        out.counter("idm_limit_questions_total", "Questions about limits to the shared store.").sample(&[], questions);
    }

    fn write_blocks(&self, out: &mut Exposition) {
        let memory = &self.environment.memory;
        let list = memory.blocks().list(memory.store().clock().uptime());
        let mut family = out.gauge("idm_blocks", "Blocks of addresses, and of credentials at addresses, in force.");
        for mode in [BlockMode::Observe, BlockMode::Enforce] {
            let number = list.iter().filter(|block| block.mode == mode).count() as u64;
            family.sample(&[("mode", mode.name())], number);
        }
    }

    fn write_store(&self, out: &mut Exposition) {
        let store = self.environment.memory.store().health();
        let mut family =
            out.gauge("idm_store_circuit_open", "1 while the shared store is not asked because it did not answer.");
        store.iter().for_each(|store| family.sample(&[], u64::from(store.circuit_is_open)));
        let mut family = out.counter("idm_store_questions_total", "Questions to the shared store by their outcome.");
        for asked in store.iter().map(|store| &store.questions) {
            for (outcome, count) in
                [("answered", asked.answered), ("failed", asked.failed), ("not_asked", asked.not_asked)]
            {
                family.sample(&[("outcome", outcome)], count);
            }
        }
    }
}
