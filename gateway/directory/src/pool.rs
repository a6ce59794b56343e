//! The directories of a process. A directory whose settings and secrets are the same is the same after a change of the
//! configuration, with its connections and its bulkhead.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use idm_metrics::Exposition;
use idm_plan::{DirectorySource, ObjectKey, Secrets};
use idm_trust::{Directories, Directory, DirectoryError};
use tokio::runtime::Handle;

use crate::guarded::{Guarded, Shared};
use crate::{Driver, Reach, ldap, rest, sql};

/// The directories of a process.
pub struct Pool {
    reach: Reach,
    runtime: Handle,
    open: Mutex<HashMap<[u8; 32], Weak<Guarded>>>,
}

impl Pool {
    /// No directory is open yet. Must be called on the runtime that shall ask them.
    pub fn new(reach: Reach) -> Self {
        Self { reach, runtime: Handle::current(), open: Mutex::default() }
    }

    /// The identity of a directory: the Federation, its settings, and the secrets that they name.
    fn fingerprint(federation: &ObjectKey, plan: &idm_plan::Directory, secrets: &Secrets) -> Result<[u8; 32], String> {
        let unreadable = |error: serde_json::Error| format!("the directory's plan: {error}");
        let plan = serde_json::to_value(plan).map_err(unreadable)?;
        let secrets = secrets.named_by(&plan);
        let text = serde_json::to_vec(&(federation, plan, secrets)).map_err(unreadable)?;
        digest(&SHA256, &text).as_ref().try_into().map_err(|_| "SHA-256 has another length".to_owned())
    }

    /// The outcome of the last question to each directory that was asked, by Federation.
    pub fn outcomes(&self) -> Vec<(ObjectKey, Result<(), DirectoryError>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = open.values().filter_map(Weak::upgrade);
        asked.filter_map(|directory| Some((directory.name().clone(), directory.last()?))).collect()
    }

    /// Metrics: a line for each directory and number.
    pub fn render(&self, out: &mut Exposition) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: BTreeMap<String, (idm_bulkhead::Counts, bool, usize)> = BTreeMap::new();
        for directory in open.values().filter_map(Weak::upgrade) {
            let bulkhead = directory.lock();
            let (counts, open, under_way) = rows.entry(directory.name().to_string()).or_default();
            counts.answered += bulkhead.counts.answered;
            counts.failed += bulkhead.counts.failed;
            counts.not_asked += bulkhead.counts.not_asked;
            *open |= bulkhead.is_open();
            *under_way += bulkhead.under_way();
        }
        let mut family = out.counter("idm_directory_questions_total", "Questions to directories by what came of them.");
        for (name, (counts, ..)) in &rows {
            for (outcome, count) in
                [("answered", counts.answered), ("failed", counts.failed), ("not_asked", counts.not_asked)]
            {
                family.sample(&[("federation", name), ("outcome", outcome)], count);
            }
        }
        let mut family =
            out.gauge("idm_directory_circuit_open", "1 while a directory is not asked because it did not answer.");
        rows.iter().for_each(|(name, (_, open, _))| family.sample(&[("federation", name)], u64::from(*open)));
        let mut family = out.gauge("idm_directory_under_way", "Questions to directories that wait for an answer.");
        rows.iter().for_each(|(name, (.., under_way))| family.sample(&[("federation", name)], *under_way as u64));
    }
}

impl Directories for Pool {
    fn open(
        &self,
        federation: &ObjectKey,
        plan: &idm_plan::Directory,
        secrets: &Secrets,
    ) -> Result<Arc<dyn Directory>, String> {
        let fingerprint = Self::fingerprint(federation, plan, secrets)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, directory| directory.strong_count() > 0);
        if let Some(known) = open.get(&fingerprint).and_then(Weak::upgrade) {
            return Ok(Arc::new(Shared(known)));
        }
        let driver: Box<dyn Driver> = match &plan.source {
            DirectorySource::Ldap(plan) => Box::new(ldap::Ldap::new(plan, secrets, self.reach.clone())?),
            DirectorySource::Database(plan) => Box::new(sql::Database::new(plan, secrets, self.reach.clone())?),
            DirectorySource::Rest(plan) => Box::new(rest::Rest::new(plan, secrets, self.reach.clone())?),
        };
        let guarded = Guarded::new(federation, plan, driver, self.runtime.clone());
        open.insert(fingerprint, Arc::downgrade(&guarded));
        Ok(Arc::new(Shared(guarded)))
    }
}
