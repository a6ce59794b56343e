use serde_json::json;

use super::*;

fn read(row: &[(&str, Cell)], always_enabled: bool) -> Result<Row, String> {
    let columns: Vec<String> = row.iter().map(|(column, _)| (*column).to_owned()).collect();
    let cells: Vec<Cell> = row.iter().map(|(_, cell)| cell.clone()).collect();
    Row::read(&columns, &cells, always_enabled, false).map_err(|failure| failure.why)
}

fn value(value: Value) -> Cell {
    Cell::Value(value)
}

#[test]
fn r48_enabled_is_a_column_and_null_is_disabled() {
    let with = |cell: Cell| {
        let row = [("username", value(json!("ana"))), ("password", value(json!("x"))), ("enabled", cell)];
        read(&row, false).map(|row| row.enabled)
    };
    for on in [json!(true), json!(1), json!("t"), json!("YES"), json!(" on "), json!("1"), json!("Y")] {
        assert_eq!(with(value(on.clone())), Ok(true), "{on}");
    }
    for off in [json!(false), json!(0), json!("f"), json!("No"), json!("off"), json!("0"), json!("false")] {
        assert_eq!(with(value(off.clone())), Ok(false), "{off}");
    }
    assert_eq!(with(Cell::Null), Ok(false));
    for unclear in [json!(2), json!(-1), json!(1.5), json!("active"), json!(""), json!([true])] {
        let why = with(value(unclear.clone())).unwrap_err();
        assert_eq!(why, "the column `enabled` is neither true nor false", "{unclear}");
    }
    let row = [("username", value(json!("ana"))), ("password", value(json!("x")))];
    assert!(read(&row, false).is_err_and(|why| why.contains("no column `enabled`")));
    assert!(read(&row, true).unwrap().enabled);
}

#[test]
fn columns_are_found_by_name_and_others_are_claims() {
    let row = [
        ("mail", value(json!("ana@corp.test"))),
        ("Password", value(json!("hash"))),
        ("secret_question", value(json!("colour?"))),
        ("ID", value(json!(7))),
        ("phone", Cell::Null),
        ("USERNAME", value(json!("ana"))),
    ];
    let row = read(&row, true).unwrap();
    assert_eq!((row.id.as_str(), row.username.as_str()), ("7", "ana"));
    assert_eq!(row.password.as_ref().map(|hash| hash.reveal().as_str()), Some("hash"));
    let person = row.into_person(Vec::new());
    assert_eq!(Value::Object(person.claims), json!({"mail": "ana@corp.test", "secret_question": "colour?"}));
}

#[test]
fn rows_that_do_not_fit_are_errors_that_name_the_column() {
    let row = |changed: &str, cell: Option<Cell>| {
        let mut row = vec![("id", json!("1")), ("username", json!("ana")), ("password", json!("h"))];
        row.retain(|(column, _)| *column != changed || cell.is_none());
        let mut row: Vec<_> = row.into_iter().map(|(column, json)| (column, value(json))).collect();
        row.extend(cell.map(|cell| (changed, cell)));
        read(&row, true).err().unwrap_or_default()
    };
    for (column, cell, part) in [
        ("id", Cell::Null, "`id` is NULL"),
        ("id", value(json!(1.5)), "`id` has a value that is no id"),
        ("id", value(json!("")), "`id`"),
        ("username", Cell::Null, "`username` is NULL"),
        ("username", value(json!({})), "`username` has a type that is no text"),
        ("password", value(json!(5)), "`password` has a type that is no text"),
        ("picture", Cell::OfOtherType("octets that are no text".into()), "`picture` has octets that are no text"),
    ] {
        let why = row(column, Some(cell));
        assert!(why.contains(part), "{column}: {why}");
    }
    let twice = [("username", value(json!("ana"))), ("username", value(json!("eve"))), ("password", Cell::Null)];
    assert!(read(&twice, true).is_err_and(|why| why.contains("`username` twice")));
    assert!(read(&[("username", value(json!("ana")))], true).is_err_and(|why| why.contains("no column `password`")));
}

#[test]
fn groups_are_the_first_column_each_once() {
    let row = |first: Cell| vec![first, value(json!("other"))];
    let table = Table {
        columns: vec!["name".into(), "x".into()],
        rows: vec![row(value(json!("dev"))), row(value(json!("dev"))), row(Cell::Null), row(value(json!(5)))],
    };
    let names: Vec<_> = groups(&table).unwrap_or_default().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["dev", "5"]);
    assert!(groups(&Table { columns: Vec::new(), rows: Vec::new() }).is_err());
}
