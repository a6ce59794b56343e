//! How many stored values there are of each key, as metrics of the operator.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Census;
use crate::Context;

/// They are counted once in this time: each count reads all of them.
const EVERY: Duration = Duration::from_secs(300);
/// The same after a count that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// The last count; none of an operator that does not lead, or that seals nothing.
#[derive(Default)]
pub(crate) struct SealedCount(Mutex<Option<Census>>);

impl SealedCount {
    /// In the format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let census = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        census.as_ref().map(Census::text).unwrap_or_default()
    }

    /// Counts from time to time, for ever.
    pub(crate) async fn keep(&self, context: &Arc<Context>) {
        let Some(sealing) = &context.sealing else { return std::future::pending().await };
        loop {
            let pause = match sealing.census().await {
                Ok(census) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(census);
                    EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "sealed values cannot be counted");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}
