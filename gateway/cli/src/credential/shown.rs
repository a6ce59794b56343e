//! The view of a Credential, which never has a key.

use idm_manager::{Made, Shown};
use serde_json::{Value, json};

use super::Form;
use crate::print;

fn json_of(of: &Shown) -> Value {
    json!({
        "name": of.name, "kind": of.kind, "owner": of.owner, "expireTime": of.expires,
        "suspend": of.suspended, "keys": of.keys, "message": of.message,
    })
}

fn keys_in_short(of: &Shown) -> String {
    let short = of.keys.iter().filter(|key| matches!(text(key, "state"), "Active" | "Overlapping"));
    let short: Vec<String> = short
        .map(|key| match text(key, "state") {
            "Overlapping" => format!("{} until {}", text(key, "id"), text(key, "untilTime")),
            _ => text(key, "id").to_owned(),
        })
        .collect();
    if short.is_empty() { "-".to_owned() } else { short.join(", ") }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Prints a key that was made a moment ago, this once.
pub(super) fn print_made(made: &Made, form: Form) {
    let Made { name, key, id, old, file } = made;
    if form == Form::Json {
        let old = old.as_ref().map(|(id, until)| json!({"id": id, "untilTime": until}));
        let made = json!({"credential": name, "id": id, "key": key.reveal(), "old": old, "file": file});
        return print::json("", &made);
    }
    say!("{}", key.reveal());
    complain!("key {id} of Credential '{name}', shown this once: {file} has its hash alone");
    if let Some((id, until)) = old {
        complain!("the old key {id} is refused from {until} on");
    }
}

/// Prints what was done.
pub(super) fn done(form: Form, value: &Value, text: &str) {
    match form {
        Form::Json => print::json("", value),
        Form::Table => print::lines(&format!("{text}\n")),
    }
}

/// Prints all Credentials.
pub(super) fn print(all: &[Shown], form: Form) {
    if form == Form::Json {
        return print::json("", &Value::from_iter(all.iter().map(json_of)));
    }
    let head = ["NAME", "TYPE", "OWNER", "EXPIRES", "KEYS"].map(str::to_owned);
    let rows = all.iter().map(|of| {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let expires = if of.suspended { "suspended".to_owned() } else { dash(&of.expires) };
        [of.name.clone(), of.kind.clone(), dash(&of.owner), expires, keys_in_short(of)]
    });
    table(std::iter::once(head).chain(rows).collect());
}

/// Prints rows, each column as wide as it needs; the first row is the head.
pub(super) fn table(rows: Vec<[String; 5]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for [first, second, third, fourth, last] in &rows {
        let [a, b, c, d] = widths;
        say!("{first:a$}  {second:b$}  {third:c$}  {fourth:d$}  {last}");
    }
}

/// Prints one Credential.
pub(super) fn print_one(of: &Shown, form: Form) {
    if form == Form::Json {
        return print::json("", &json_of(of));
    }
    say!("{} ({})", of.name, of.kind);
    for (name, value) in [("owner", &of.owner), ("expires", &of.expires), ("message", &of.message)] {
        if let Some(value) = value {
            say!("  {name}: {value}");
        }
    }
    if of.suspended {
        say!("  suspended");
    }
    for key in &of.keys {
        let mut line = format!("  key {}: {}", text(key, "id"), text(key, "state"));
        for (name, label) in [
            ("sinceTime", "since"),
            ("untilTime", "until"),
            ("gateways", "known by gateways"),
            ("lastUseTime", "last used"),
            ("lastUseAddress", "from"),
        ] {
            if !text(key, name).is_empty() {
                line += &format!(", {label} {}", text(key, name));
            }
        }
        say!("{line}");
    }
}
