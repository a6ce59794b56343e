//! New hashes for passwords that are stored in weaker formats.

use std::time::{Duration, Instant};

use idm_trust::{DirectoryError, Password, Steps};
use idm_types::Redacted;

use super::Database;
use super::person::Row;
use super::statement::Values;

/// The longest time that a hash is replaced for. Nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

impl Database {
    /// Replaces the stored hash of a person who has just proved the password, where the Federation says how. The login
    /// goes on without it: a database that cannot be written to refuses nobody.
    pub(super) fn upgrade(&self, row: &Row, password: Password, steps: &Steps) {
        let (Some(statement), Some(old)) = (&self.plan.upgrade, &row.password) else { return };
        let Ok(place) = self.upgrades.clone().try_acquire_owned() else {
            steps.note(|| "upgrade: put off, because others are under way".into());
            return;
        };
        steps.note(|| "upgrade: a new hash is being made".into());
        let (pool, hashing, statement) = (self.pool.clone(), self.hashing.clone(), statement.clone());
        let (username, old) = (row.username.clone(), Redacted::new(old.reveal().clone()));
        tokio::spawn(async move {
            let deadline = Instant::now() + DEADLINE;
            let replaced = async {
                let Some(new) = hashing.new_hash(&password, deadline).await?.map(Redacted::new) else {
                    return Ok(None);
                };
                let mut lease = pool.take(deadline).await?;
                let (new, old) = (Some(new.reveal().as_str()), Some(old.reveal().as_str()));
                let values = Values { username: Some(&username), id: None, new_hash: new, old_hash: old };
                let changed = lease.connection.change(&statement, &values).await;
                let changed = changed.map_err(|failure| failure.at(&pool.name()))?;
                lease.give_back();
                Ok::<_, DirectoryError>(Some(changed))
            };
            let replaced = tokio::time::timeout_at(deadline.into(), replaced).await;
            let name = pool.name();
            match replaced {
                Ok(Ok(Some(1))) => tracing::debug!(server = name, "a stored password has a new hash"),
                // Somebody else was first, or the password was changed meanwhile.
                Ok(Ok(Some(0))) => tracing::debug!(server = name, "a stored password had another hash already"),
                Ok(Ok(Some(rows))) => tracing::warn!(server = name, rows, "the upgrade changed several rows"),
                Ok(Ok(None)) => tracing::warn!(server = name, "a new hash cannot be made"),
                Ok(Err(error)) => tracing::warn!(reason = error.reason().code(), "a password keeps its hash: {error}"),
                Err(_) => tracing::warn!(server = name, "a password keeps its hash: no answer in time"),
            }
            drop(place);
        });
    }
}
