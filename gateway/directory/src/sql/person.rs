//! A row of the person's statement.

use std::collections::HashSet;

use idm_trust::{Group, Person};
use idm_types::Redacted;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::table::{Cell, Table};

/// A person as the database has them.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) username: String,
    /// The stored password; `None`: there is none.
    pub(super) password: Option<Redacted<String>>,
    pub(super) enabled: bool,
    /// The hash of the Digest scheme, where the Federation says that there is one.
    pub(super) ha1: Option<Redacted<String>>,
    claims: Map<String, Value>,
}

impl Row {
    /// Reads the only row of a table.
    pub(super) fn read(
        columns: &[String],
        cells: &[Cell],
        always_enabled: bool,
        has_digest: bool,
    ) -> Result<Self, Failure> {
        let (mut id, mut username, mut password, mut enabled, mut ha1) = (None, None, None, None, None);
        let mut claims = Map::new();
        for (column, cell) in columns.iter().zip(cells) {
            let twice = match column.to_ascii_lowercase().as_str() {
                "id" => id.replace(cell).is_some(),
                "username" => username.replace(cell).is_some(),
                "password" => password.replace(cell).is_some(),
                "enabled" => enabled.replace(cell).is_some(),
                "ha1" if has_digest => ha1.replace(cell).is_some(),
                _ => match cell {
                    Cell::Null => false,
                    Cell::Value(value) => claims.insert(column.clone(), value.clone()).is_some(),
                    Cell::OfOtherType(kind) => return Err(other_type(column, kind)),
                },
            };
            if twice {
                return Err(Failure::unusable(format!("the statement person returns the column `{column}` twice")));
            }
        }
        let absent = |column: &str| Failure::unusable(format!("the statement person returns no column `{column}`"));
        let username = text("username", username.ok_or_else(|| absent("username"))?)?;
        let username = username.ok_or_else(|| Failure::unusable("the column `username` is NULL"))?;
        let password = text("password", password.ok_or_else(|| absent("password"))?)?.map(Redacted::new);
        let ha1 = match ha1 {
            None if has_digest => return Err(absent("ha1")),
            None => None,
            Some(cell) => text("ha1", cell)?.map(Redacted::new),
        };
        let enabled = match enabled {
            _ if always_enabled => true,
            Some(cell) => flag(cell)?,
            None => return Err(absent("enabled")),
        };
        let id = match id {
            None => username.clone(),
            Some(cell) => identifier(cell)?,
        };
        Ok(Self { id, username, password, enabled, ha1, claims })
    }

    /// The person, with groups.
    pub(super) fn into_person(self, groups: Vec<Group>) -> Person {
        let Self { id, username, password: _, enabled: _, ha1: _, claims } = self;
        Person { id, username, claims, groups }
    }
}

fn other_type(column: &str, kind: &str) -> Failure {
    Failure::unusable(format!("the column `{column}` has {kind}: convert it to text or JSON in the statement"))
}

fn text(column: &str, cell: &Cell) -> Result<Option<String>, Failure> {
    match cell {
        Cell::Null => Ok(None),
        Cell::Value(Value::String(text)) => Ok(Some(text.clone())),
        Cell::Value(Value::Number(number)) if column != "password" => Ok(Some(number.to_string())),
        Cell::Value(_) => Err(other_type(column, "a type that is no text")),
        Cell::OfOtherType(kind) => Err(other_type(column, kind)),
    }
}

fn identifier(cell: &Cell) -> Result<String, Failure> {
    match cell {
        Cell::Value(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Cell::Value(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
        Cell::Null => Err(Failure::unusable("the column `id` is NULL")),
        Cell::Value(_) => Err(other_type("id", "a value that is no id")),
        Cell::OfOtherType(kind) => Err(other_type("id", kind)),
    }
}

/// A truth value in one of the ways in which tables store it. NULL is false.
fn flag(cell: &Cell) -> Result<bool, Failure> {
    let unclear = || Failure::unusable("the column `enabled` is neither true nor false");
    match cell {
        Cell::Null => Ok(false),
        Cell::Value(Value::Bool(flag)) => Ok(*flag),
        Cell::Value(Value::Number(number)) => match number.as_i64() {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => Err(unclear()),
        },
        Cell::Value(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(unclear()),
        },
        Cell::Value(_) => Err(unclear()),
        Cell::OfOtherType(kind) => Err(other_type("enabled", kind)),
    }
}

/// The groups in the first column of a table, each once.
pub(super) fn groups(table: &Table) -> Result<Vec<Group>, Failure> {
    let column = table.columns.first().ok_or_else(|| Failure::unusable("the statement groups returns no column"))?;
    let mut known = HashSet::new();
    let mut groups = Vec::new();
    for cell in table.rows.iter().filter_map(|row| row.first()) {
        if let Some(name) = text(column, cell)?.filter(|name| !name.is_empty())
            && known.insert(name.clone())
        {
            groups.push(Group { name, ids: Vec::new(), dn: None });
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests;
