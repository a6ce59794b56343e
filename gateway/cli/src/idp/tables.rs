//! Tables of people, guessed from the names of their columns. A guess is printed for a person to read, and never used
//! by itself.

use std::fmt::Write as _;

use super::directory::quoted;

/// Names of columns, the likeliest first.
const USERNAMES: &[&str] = &["username", "user_name", "login", "user_login", "userid", "name", "email"];
const PASSWORDS: &[&str] =
    &["password_hash", "passwordhash", "hash", "password", "passwd", "user_pass", "encrypted_password", "pwd", "pass"];
const ENABLED: &[&str] = &["enabled", "is_enabled", "active", "is_active"];
const DISABLED: &[&str] = &["disabled", "is_disabled", "locked", "is_locked", "blocked"];
const IDS: &[&str] = &["uuid", "id", "user_id"];
const GROUPS: &[&str] = &["group_name", "groupname", "grp", "role_name", "role", "group", "authority"];

/// A table of people, by its columns.
#[derive(Debug, PartialEq)]
pub(super) struct People {
    pub(super) table: String,
    id: Option<String>,
    username: String,
    password: String,
    /// The expression that is true for people who are enabled.
    pub(super) enabled: Option<String>,
    email: Option<String>,
    /// The table of groups, its column of the person, its column of the group, and the parameter.
    pub(super) groups: Option<(String, String, String, &'static str)>,
}

/// Names that need no quotes in any product. Others are passed over.
fn is_plain(name: &str) -> bool {
    !["user", "group", "order", "table"].contains(&name)
        && !name.is_empty()
        && name.split('.').all(|part| {
            part.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        })
}

fn column(columns: &[String], names: &[&str]) -> Option<String> {
    let known = |name: &&&str| columns.iter().any(|column| column == **name);
    names.iter().find(known).filter(|name| is_plain(name)).map(|name| (*name).to_owned())
}

impl People {
    /// The first table with a user name and a password; those with more of what is needed first.
    pub(super) fn find(tables: &[(String, Vec<String>)]) -> Option<Self> {
        let read = |(table, columns): &(String, Vec<String>)| {
            let enabled = column(columns, ENABLED);
            let disabled = column(columns, DISABLED).map(|column| format!("NOT {column}"));
            let username = column(columns, USERNAMES)?;
            let email = column(columns, &["email", "mail"]).filter(|email| *email != username);
            Some(Self {
                table: table.clone(),
                id: column(columns, IDS),
                username,
                password: column(columns, PASSWORDS)?,
                enabled: enabled.or(disabled),
                email,
                groups: None,
            })
        };
        let weight = |people: &Self| usize::from(people.enabled.is_some()) + usize::from(people.id.is_some());
        let plain = || tables.iter().filter(|(table, _)| is_plain(table));
        // Of equals, the first one: `max_by_key` would take the last.
        let mut found: Vec<Self> = plain().filter_map(read).collect();
        found.sort_by_key(|people| std::cmp::Reverse(weight(people)));
        let mut people = found.into_iter().next()?;
        people.groups = plain().filter(|(table, _)| *table != people.table).find_map(|(table, columns)| {
            let group = column(columns, GROUPS)?;
            let by_name = column(columns, &[people.username.as_str(), "username", "login", "user_name"]);
            let by_id = people.id.as_ref().and_then(|_| column(columns, &["user_id", "member_id", "person_id"]));
            let (by, parameter) = match (by_name, by_id) {
                (Some(by), _) => (by, ":username"),
                (None, Some(by)) => (by, ":id"),
                (None, None) => return None,
            };
            Some((table.clone(), by, group, parameter))
        });
        Some(people)
    }

    /// The columns, for people.
    pub(super) fn told(&self) -> String {
        let Self { id, username, password, enabled, .. } = self;
        let or = |column: &Option<String>| column.clone().unwrap_or_else(|| "none".into());
        format!("user name `{username}`, password `{password}`, enabled `{}`, id `{}`", or(enabled), or(id))
    }

    /// The queries of a Federation.
    pub(super) fn queries(&self) -> String {
        let Self { table, id, username, password, enabled, email, groups } = self;
        let mut columns: Vec<String> = Vec::new();
        let renamed = |column: &str, name: &str| {
            if column == name { column.to_owned() } else { format!("{column} AS {name}") }
        };
        columns.extend(id.as_ref().map(|id| renamed(id, "id")));
        columns.push(renamed(username, "username"));
        columns.push(renamed(password, "password"));
        columns.extend(enabled.as_ref().map(|enabled| renamed(enabled, "enabled")));
        columns.extend(email.clone());
        let query = format!("SELECT {} FROM {table} WHERE {username} = :username", columns.join(", "));
        let mut out = format!("    query: {}\n", quoted(&query));
        if let Some((table, by, group, parameter)) = groups {
            let query = format!("SELECT {group} FROM {table} WHERE {by} = {parameter}");
            let _ = writeln!(out, "    groupQuery: {}", quoted(&query));
        }
        if enabled.is_none() {
            out.push_str("    enabled: Always\n");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> (String, Vec<String>) {
        (name.to_owned(), columns.iter().map(|column| (*column).to_owned()).collect())
    }

    #[test]
    fn a_table_of_people_is_found_among_others_with_its_groups() {
        let tables = [
            table("audit", &["id", "password"]),
            table("sessions", &["username", "hash"]),
            table("members", &["id", "login", "hash", "active", "email"]),
            table("memberships", &["login", "grp"]),
        ];
        let people = People::find(&tables).unwrap();
        let expected = "    query: \"SELECT id, login AS username, hash AS password, active AS enabled, email FROM \
            members \
                        WHERE login = :username\"\n    groupQuery: \"SELECT grp FROM memberships WHERE login = \
                        :username\"\n";
        assert_eq!(people.queries(), expected);
    }

    #[test]
    fn who_is_disabled_is_turned_around_and_names_that_need_quotes_are_passed_over() {
        let tables = [
            table("x; DROP TABLE y", &["username", "password", "enabled", "id"]),
            table("accounts", &["user_id", "email", "passwd", "locked"]),
            table("account_roles", &["user_id", "role"]),
        ];
        let queries = People::find(&tables).unwrap().queries();
        assert!(
            queries
                .contains("user_id AS id, email AS username, passwd AS password, NOT locked AS enabled FROM accounts")
        );
        assert!(queries.contains("SELECT role FROM account_roles WHERE user_id = :id"), "{queries}");
        assert_eq!(People::find(&[table("a", &["username"]), table("b", &["password"])]), None);
        let always = People::find(&[table("a", &["username", "password"])]).unwrap().queries();
        assert!(always.ends_with("enabled: Always\n"));
    }
}
