//! People of databases.
//!
//! In: the statements of a Federation, and logins. Out: whole people with their groups, read in one transaction that
//! cannot write. The password that is stored is checked here, after the connection has gone back to its [`pool`]. Start
//! at [`Database`]; what the products speak is in `postgres/` and `mysql/`, and the formats of stored passwords in
//! `password/`.

mod account;
mod connection;
mod failure;
mod hashing;
mod mysql;
mod names;
mod person;
mod pool;
mod postgres;
mod probe;
mod reading;
mod statement;
mod table;
mod upgrade;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use idm_plan::{DatabaseDirectory, DigestColumn, Secrets};
use idm_trust::{
    AccountState, DirectoryError, DirectoryErrorKind, HashAnswer, Login, LoginAnswer, LoginRefused, NameAsked, Steps,
};
use idm_types::Redacted;
use tokio::sync::Semaphore;

pub(crate) use probe::{probe, read_certificate};

use crate::Reach;
use crate::driver::{Driver, Reading, Running};
use connection::Opener;
use hashing::Hashing;
use idm_password::{NotStored, Stored};
use pool::Pool;
use reading::{Found, WithGroups};

/// Hashes that are replaced at the same time; others are replaced at another login.
const MOST_UPGRADES: usize = 2;

/// People of a database.
pub(crate) struct Database {
    plan: Arc<DatabaseDirectory>,
    pool: Arc<Pool>,
    hashing: Arc<Hashing>,
    upgrades: Arc<Semaphore>,
}

impl Database {
    pub(crate) fn new(plan: &DatabaseDirectory, secrets: &Secrets, reach: Reach) -> Result<Self, String> {
        Ok(Self::over(plan, Pool::new(Self::opener(plan, secrets, reach)?)))
    }

    fn opener(plan: &DatabaseDirectory, secrets: &Secrets, reach: Reach) -> Result<Opener, String> {
        statement::check(plan)?;
        Opener::new(plan, secrets, reach)
    }

    fn over(plan: &DatabaseDirectory, pool: Arc<Pool>) -> Self {
        let upgrades = Arc::new(Semaphore::new(MOST_UPGRADES));
        Self { plan: Arc::new(plan.clone()), pool, hashing: Arc::new(Hashing::new()), upgrades }
    }

    /// Checks a password. As much is computed for people who do not exist as for those who do.
    async fn check(&self, login: Login, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        let Login { username, bare, password, caller: _, steps } = login;
        let names: Vec<&str> = [Some(username.as_str()), bare.as_deref()].into_iter().flatten().collect();
        let found = self.find(&names, &steps, deadline).await?;
        let stored = match &found {
            Found::One(WithGroups { row, groups: _ }) => self.stored(row.password.as_ref().map(|text| text.reveal())),
            Found::Nobody | Found::Several => Ok(None),
        };
        let (checked, of_somebody) = match &stored {
            Ok(Some(stored)) => (stored.clone(), true),
            Ok(None) | Err(_) => (self.hashing.decoy(&username), false),
        };
        let (began, current) = (Instant::now(), checked.is_current());
        let cost = checked.cost();
        let fits = self.hashing.fits(checked, &password, deadline).await? && of_somebody;
        if of_somebody {
            let verdict = if fits { "the password fits" } else { "the password does not fit" };
            steps.note(|| format!("password: {cost}: {verdict}, {} ms", began.elapsed().as_millis()));
        }
        let WithGroups { row, groups } = match found {
            Found::One(found) => found,
            Found::Nobody => return Ok(LoginAnswer::Unknown),
            Found::Several => return Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)),
        };
        if let Err(why) = stored {
            return Ok(LoginAnswer::Refused(LoginRefused::StoredPassword(format!("{}: {why}", self.pool.name()))));
        }
        if !fits {
            return Ok(LoginAnswer::Refused(LoginRefused::WrongPassword));
        }
        if !row.enabled {
            return Ok(LoginAnswer::Refused(LoginRefused::Account(AccountState::Disabled)));
        }
        let groups = groups?;
        if !current {
            self.upgrade(&row, password, &steps);
        }
        Ok(LoginAnswer::Verified(Box::new(row.into_person(groups))))
    }

    /// The stored form of a password; `None`: no password fits this person. The error says why it cannot be checked.
    fn stored(&self, text: Option<&String>) -> Result<Option<Stored>, String> {
        let stored = match text.map(|text| Stored::read(text)) {
            None | Some(Err(NotStored::None)) => return Ok(None),
            Some(Err(error @ NotStored::Unreadable(_))) => return Err(error.to_string()),
            Some(Ok(stored)) => stored,
        };
        if let Some(legacy) = stored.legacy_format()
            && !self.plan.legacy_formats.contains(&legacy)
        {
            let cost = stored.cost();
            return Err(format!(
                "the password is stored in the legacy format {cost}, which the Federation does not accept"
            ));
        }
        self.hashing.note(&stored);
        Ok(Some(stored))
    }

    /// Reads the hash of the Digest scheme, whose form must be that of the algorithm.
    async fn read_hash(&self, asked: NameAsked, deadline: Instant) -> Result<HashAnswer, DirectoryError> {
        let Some(DigestColumn { realm: _, algorithm }) = &self.plan.digest else {
            let why = format!("{}: the Federation has no `digest`", self.pool.name());
            return Err(DirectoryError::new(DirectoryErrorKind::Unusable, why));
        };
        let WithGroups { row, groups } = match self.find(&[&asked.username], &Steps::default(), deadline).await? {
            Found::One(found) => found,
            Found::Nobody => return Ok(HashAnswer::Unknown),
            Found::Several => return Ok(HashAnswer::Refused(LoginRefused::Ambiguous)),
        };
        if !row.enabled {
            return Ok(HashAnswer::Refused(LoginRefused::Account(AccountState::Disabled)));
        }
        // Somebody without a hash cannot use this scheme.
        let Some(ha1) = row.ha1.clone() else { return Ok(HashAnswer::Refused(LoginRefused::WrongPassword)) };
        let hash = ha1.reveal();
        if hash.len() != algorithm.hexadecimal_digits() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let why = format!("{}: the column `ha1` has no hash of {}", self.pool.name(), algorithm.name());
            return Ok(HashAnswer::Refused(LoginRefused::StoredPassword(why)));
        }
        let hash = Redacted::new(hash.to_ascii_lowercase());
        Ok(HashAnswer::Known(hash, Box::new(row.into_person(groups?))))
    }

    /// Reads a person again.
    async fn read_again(&self, id: String, username: String, deadline: Instant) -> Result<LoginAnswer, DirectoryError> {
        let found = match &self.plan.by_id {
            Some(by_id) => self.find_by_id(by_id, &id, &Steps::default(), deadline).await?,
            None => self.find(&[&username], &Steps::default(), deadline).await?,
        };
        Ok(match found {
            // Databases find `7` for `7a`, and names are given to others.
            Found::One(WithGroups { row, groups: _ }) if row.id != id => LoginAnswer::Unknown,
            Found::One(WithGroups { row, groups }) if row.enabled => {
                LoginAnswer::Verified(Box::new(row.into_person(groups?)))
            }
            Found::One(_) => LoginAnswer::Refused(LoginRefused::Account(AccountState::Disabled)),
            Found::Nobody => LoginAnswer::Unknown,
            Found::Several => LoginAnswer::Refused(LoginRefused::Ambiguous),
        })
    }
}

impl Driver for Database {
    fn hash(&self, asked: NameAsked, deadline: Instant) -> Reading<'_> {
        Box::pin(self.read_hash(asked, deadline))
    }

    fn verify(&self, login: Login, deadline: Instant) -> Running<'_> {
        Box::pin(self.check(login, deadline))
    }

    fn look_up(&self, id: String, username: String, deadline: Instant) -> Running<'_> {
        Box::pin(self.read_again(id, username, deadline))
    }
}

#[cfg(test)]
mod tests;
