//! The questions about a person, all in one transaction that only reads.

use std::time::{Duration, Instant};

use idm_plan::{Parameter, Statement};
use idm_trust::{DirectoryError, DirectoryErrorKind, Group, Steps};

use super::failure::{Cause, Failure};
use super::person::{self, Row};
use super::pool::Lease;
use super::statement::Values;
use super::table::Table;
use super::{Database, names};

/// The groups of one person.
const MOST_GROUPS: usize = 5_000;
/// The longest time that a connection may be silent before it counts as cut, if it was used before.
const PATIENCE: Duration = Duration::from_millis(500);

/// The person who was found.
pub(super) enum Found {
    Nobody,
    Several,
    One(WithGroups),
}

/// A person with their groups. An error about these is told only to those who prove the password.
pub(super) struct WithGroups {
    pub(super) row: Row,
    pub(super) groups: Result<Vec<Group>, DirectoryError>,
}

impl Database {
    /// Finds the person who has one of these names.
    pub(super) async fn find(&self, names: &[&str], steps: &Steps, deadline: Instant) -> Result<Found, DirectoryError> {
        // No database that is asked here stores a NUL in a name.
        let names: Vec<&str> = names.iter().copied().filter(|name| !name.contains('\0')).collect();
        let asked = async {
            let mut asking = Asking::begin(self, steps, deadline).await?;
            let mut found = Found::Nobody;
            for name in &names {
                let table = match asking.rows("person", &self.plan.person, &Values::of_username(name), 1).await {
                    Err(Failure { cause: Cause::ImpossibleName, .. }) if !name.is_ascii() => {
                        // The server has ended the transaction. The place must be free before another one is taken.
                        drop(asking);
                        asking = Asking::begin(self, steps, deadline).await?;
                        continue;
                    }
                    answer => answer.map_err(|failure| self.at(failure))?,
                };
                let one = self.read(&table, |row| names::same(&row.username, name, self.plan.ignores_case));
                found = match (found, one.map_err(|failure| self.at(failure))?) {
                    (Found::One(before), Found::One(row)) if before.row.id != row.row.id => Found::Several,
                    (Found::Several, _) | (_, Found::Several) => Found::Several,
                    (Found::Nobody, one) => one,
                    (one, _) => one,
                };
            }
            let name = names.first().copied().unwrap_or_default();
            self.add_groups(asking, found, &Values::of_username(name)).await
        };
        self.within(deadline, asked).await
    }

    /// Finds the person with this id.
    pub(super) async fn find_by_id(
        &self,
        by_id: &Statement,
        id: &str,
        steps: &Steps,
        deadline: Instant,
    ) -> Result<Found, DirectoryError> {
        let asked = async {
            let mut asking = Asking::begin(self, steps, deadline).await?;
            let table = asking.rows("byId", by_id, &Values::of_id(id), 1).await;
            let table = table.map_err(|failure| self.at(failure))?;
            let found = self.read(&table, |row| row.id == id).map_err(|failure| self.at(failure))?;
            self.add_groups(asking, found, &Values::of_id(id)).await
        };
        self.within(deadline, asked).await
    }

    fn at(&self, failure: Failure) -> DirectoryError {
        failure.at(&self.pool.name())
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        asked: impl Future<Output = Result<T, DirectoryError>>,
    ) -> Result<T, DirectoryError> {
        let late = |_| Err(self.at(Failure::lost("the server does not answer in time")));
        tokio::time::timeout_at(deadline.into(), asked).await.unwrap_or_else(late)
    }

    /// The person of a table, if the row is about the person who was asked for.
    fn read(&self, table: &Table, is_meant: impl FnOnce(&Row) -> bool) -> Result<Found, Failure> {
        let Table { columns, rows } = table;
        match rows.as_slice() {
            [] => Ok(Found::Nobody),
            [cells] => {
                let row = Row::read(columns, cells, self.plan.always_enabled, self.plan.digest.is_some())?;
                let found =
                    if is_meant(&row) { Found::One(WithGroups { row, groups: Ok(Vec::new()) }) } else { Found::Nobody };
                Ok(found)
            }
            _ => Ok(Found::Several),
        }
    }

    /// Asks for the groups and ends the transaction. Groups of nobody are asked for too, where that can be done, so
    /// that the time does not tell who exists.
    async fn add_groups(
        &self,
        mut asking: Asking<'_>,
        mut found: Found,
        asked: &Values<'_>,
    ) -> Result<Found, DirectoryError> {
        let at = |failure| self.at(failure);
        if let Some(groups) = &self.plan.groups {
            let values = match &found {
                Found::One(WithGroups { row, groups: _ }) => {
                    Some(Values { id: Some(&row.id), ..Values::of_username(&row.username) })
                }
                Found::Nobody | Found::Several => {
                    let known = |parameter: &Parameter| *parameter == Parameter::Username && asked.username.is_some();
                    groups.parameters.iter().all(known).then_some(*asked)
                }
            };
            if let Some(values) = values {
                let table = asking.rows("groups", groups, &values, MOST_GROUPS).await;
                let table = match (table, &mut found) {
                    (table, Found::One(_)) => Some(table.map_err(at)?),
                    (table, Found::Nobody | Found::Several) => table.ok(),
                };
                if let (Some(table), Found::One(person)) = (table, &mut found) {
                    person.groups = match table.rows.len() {
                        ..=MOST_GROUPS => person::groups(&table).map_err(at),
                        _ => {
                            let why = format!("{}: a person is in more than {MOST_GROUPS} groups", self.pool.name());
                            Err(DirectoryError::new(DirectoryErrorKind::TooManyGroups, why))
                        }
                    };
                }
            }
        }
        asking.end().await;
        Ok(found)
    }
}

/// A transaction that only reads.
struct Asking<'a> {
    lease: Lease<'a>,
    steps: &'a Steps,
    /// Whether another question can follow on the connection.
    whole: bool,
}

impl<'a> Asking<'a> {
    async fn begin(database: &'a Database, steps: &'a Steps, deadline: Instant) -> Result<Self, DirectoryError> {
        let began = Instant::now();
        let mut lease = database.pool.take(deadline).await?;
        let limit = || deadline.saturating_duration_since(Instant::now());
        if !lease.fresh {
            let begun = tokio::time::timeout(PATIENCE, lease.connection.begin(limit())).await;
            match begun {
                Ok(Ok(())) => {
                    steps.note(|| format!("{}: a connection is open", database.pool.name()));
                    return Ok(Self { lease, steps, whole: true });
                }
                Ok(Err(failure)) if failure.cause != Cause::Lost => return Err(database.at(failure)),
                // It was cut without notice. Nothing was asked on it, so another one may be.
                Ok(Err(_)) | Err(_) => lease = database.pool.replace(lease, deadline).await?,
            }
        }
        lease.connection.begin(limit()).await.map_err(|failure| database.at(failure))?;
        let name = database.pool.name();
        steps.note(|| format!("{name}: a connection was opened in {} ms", began.elapsed().as_millis()));
        Ok(Self { lease, steps, whole: true })
    }

    /// Runs a statement and returns one row more than the most that are taken, if there are so many.
    async fn rows(
        &mut self,
        name: &str,
        statement: &Statement,
        values: &Values<'_>,
        most: usize,
    ) -> Result<Table, Failure> {
        let began = Instant::now();
        let answer = self.lease.connection.rows(statement, values, most + 1).await;
        let took = began.elapsed().as_millis();
        let (table, whole) = answer.inspect_err(|failure| {
            self.steps.note(|| format!("{name}: {}, {took} ms", failure.why));
            self.whole = false;
        })?;
        self.whole &= whole;
        let count = table.rows.len();
        self.steps.note(|| format!("{name}: {count} {}, {took} ms", if count == 1 { "row" } else { "rows" }));
        Ok(table)
    }

    /// Ends the transaction. What was read stays true when that fails, but the connection is closed then.
    async fn end(mut self) {
        if self.whole && self.lease.connection.end().await.is_ok() {
            self.lease.give_back();
        }
    }
}
