//! The shards of a namespace's Credentials, and the bundle whose index says which of them count.
//!
//! Nothing is in force that the index does not cover. While a shard of the newest index cannot be read, the
//! configuration before stays for a moment; then the newest one is in force without that shard, whose callers are
//! refused until it is there. It is asked for until then.
//!
//! A bundle that does not open is not in force: the one before stays, and it is tried again while its key may come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use idm_plan::{Bundle, SHARD_FIELD, Shard, ShardRef, shard_secret};
use idm_types::{Clock, Uptime};

use super::bundle::{BUNDLE_KEY, Config};
use crate::Gateway;

/// Shards that are read at the same time.
const AT_ONCE: usize = 8;
/// The time for which the configuration in force stays while a shard of the next one cannot be read.
const GRACE_MS: u64 = 400;
/// The same for a start, when nothing is in force yet.
const START_GRACE_MS: u64 = 5000;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// A place where shards are read.
pub(super) trait ShardSource {
    /// The versions of the shard of this number that are there now; the error says why it could not be read.
    fn versions(&self, number: usize) -> impl Future<Output = Result<Vec<Vec<u8>>, String>> + Send;
}

/// The shards of one source, and the newest bundle that is not wholly in force.
pub(super) struct Shards<S> {
    source: S,
    config: Config,
    gateway: Arc<Gateway>,
    unopened: Option<Unopened>,
    /// Why the newest bundle was not opened, as the gateway was told.
    told: Option<String>,
    waiting: Option<Waiting>,
    clock: Clock,
}

struct Waiting {
    bundle: Bundle,
    since: Uptime,
    /// The missing shards without which it is in force.
    without: Option<Vec<usize>>,
    pause: Duration,
}

/// A bundle whose key is not to be had now.
struct Unopened {
    packed: Vec<u8>,
    pause: Duration,
}

impl<S: ShardSource> Shards<S> {
    pub(super) fn new(source: S, config: Config, gateway: Arc<Gateway>) -> Self {
        Self { source, config, gateway, unopened: None, told: None, waiting: None, clock: Clock::of_process() }
    }

    /// Takes a bundle as its Secret has it, and puts it in force as soon as that is possible, if it is `wanted` then.
    pub(super) async fn take(&mut self, packed: &[u8], wanted: impl Fn(&Bundle) -> bool) {
        self.unopened = Some(Unopened { packed: packed.to_vec(), pause: FIRST_RETRY });
        self.go_on(wanted).await;
    }

    /// Opens a bundle that was not opened yet. Returns it, if it is one.
    async fn opened(&mut self, Unopened { packed, pause }: Unopened) -> Option<Bundle> {
        let problem = match self.config.opener.open(&self.config.secret, BUNDLE_KEY, &packed).await {
            Ok(opened) => match Bundle::unpack(opened.reveal()) {
                Ok(bundle) => {
                    if self.told.take().is_some_and(|told| self.gateway.error() == Some(told)) {
                        self.gateway.is_well();
                    }
                    return Some(bundle);
                }
                Err(error) => error.to_string(),
            },
            Err(error) => {
                let pause = (pause * 2).min(LAST_RETRY);
                self.unopened = error.may_pass().then_some(Unopened { packed, pause });
                format!("the bundle is not taken: {error}")
            }
        };
        if self.gateway.error().as_ref() != Some(&problem) {
            self.gateway.refused(&problem);
        }
        self.told = Some(problem);
        None
    }

    /// Resolves when [`Self::go_on`] should be called; never, where nothing is missing.
    pub(super) async fn due(&self) {
        match (&self.unopened, &self.waiting) {
            (Some(unopened), _) => tokio::time::sleep(unopened.pause).await,
            (None, Some(waiting)) => tokio::time::sleep(waiting.pause).await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Reads what is missing, and puts in force what there is.
    pub(super) async fn go_on(&mut self, wanted: impl Fn(&Bundle) -> bool) {
        if let Some(unopened) = self.unopened.take() {
            // The newest counts: what waits for its shards is older.
            self.waiting = None;
            let Some(bundle) = self.opened(unopened).await else { return };
            let since = self.clock.uptime();
            let is_wanted = wanted(&bundle);
            self.waiting = is_wanted.then_some(Waiting { bundle, since, without: None, pause: FIRST_RETRY });
        }
        let Some(mut waiting) = self.waiting.take() else { return };
        let why = self.read(&waiting.bundle).await;
        let mut whole = waiting.bundle.clone();
        let missing = self.gateway.with_shards(|held| whole.assemble(held));
        if missing.is_empty() {
            self.apply(&whole, || wanted(&waiting.bundle)).await;
            let lines: BTreeSet<&str> = whole.shards.iter().map(|line| line.digest.as_str()).collect();
            self.gateway.with_shards(|held| held.retain(|digest, _| lines.contains(digest.as_str())));
            return;
        }
        let grace = if self.gateway.version().is_some() { GRACE_MS } else { START_GRACE_MS };
        let is_over = self.clock.uptime().since(waiting.since) >= grace;
        if is_over && waiting.without.as_ref() != Some(&missing) {
            let problem = why.unwrap_or_else(|| "it is not there".into());
            let told = format!(
                "the shards {missing:?} of the Credentials are missing, and their callers are refused until they are \
                 there: {problem}"
            );
            // Another digest than that of the bundle: this is not it.
            whole.digest = format!("{} without {missing:?}", whole.digest);
            if !self.apply(&whole, || wanted(&waiting.bundle)).await {
                return;
            }
            self.gateway.lacks(&told, missing.clone());
            waiting.without = Some(missing);
        }
        waiting.pause = if is_over { (waiting.pause * 2).min(LAST_RETRY) } else { FIRST_RETRY };
        self.waiting = Some(waiting);
    }

    /// Returns whether it was wanted and is in force.
    async fn apply(&self, bundle: &Bundle, wanted: impl FnOnce() -> bool) -> bool {
        match self.gateway.apply_if(bundle, wanted).await {
            Ok(true) => tracing::info!(generation = bundle.generation, "configuration in force"),
            Ok(false) => return false,
            Err(error) => {
                self.gateway.refused(&error.to_string());
                return false;
            }
        }
        true
    }

    /// Reads the shards that the index of a bundle names and that are not held. Returns one reason why one could not be
    /// read.
    async fn read(&self, bundle: &Bundle) -> Option<String> {
        let missing: Vec<(usize, ShardRef)> = self
            .gateway
            .with_shards(|held| bundle.missing(held).map(|(number, line)| (number, line.clone())).collect());
        let reads = missing.into_iter().map(|(number, line)| self.read_one(number, line));
        let mut reads = futures::stream::iter(reads).buffer_unordered(AT_ONCE);
        let mut why = None;
        while let Some(outcome) = reads.next().await {
            match outcome {
                Ok((digest, shard)) => drop(self.gateway.with_shards(|held| held.insert(digest, shard))),
                Err(problem) => why = Some(problem),
            }
        }
        why
    }

    /// The shard of a line of the index, under its digest.
    async fn read_one(&self, number: usize, line: ShardRef) -> Result<(String, Arc<Shard>), String> {
        let secret = shard_secret(&self.config.shards, number);
        let mut problem = format!("shard {number} is not the one that the index names");
        for packed in self.source.versions(number).await? {
            match self.config.opener.open(&secret, SHARD_FIELD, &packed).await {
                Ok(opened) => {
                    if let Ok(shard) = Shard::unpack(opened.reveal(), &line) {
                        return Ok((line.digest, Arc::new(shard)));
                    }
                }
                Err(error) => problem = format!("shard {number} is not taken: {error}"),
            }
        }
        Err(problem)
    }
}

#[cfg(test)]
mod tests;
