//! The driver against a real MariaDB, which speaks the protocol of MySQL.

use idm_trust::AccountState;
use serde_json::{Value, json};

use super::*;

pub(super) const PERSON: &str = "SELECT username, password, enabled FROM people WHERE username = ?";

pub(super) fn people(server: &MariaDbServer, options: &str, table: &str, person: &str) -> (String, DatabaseDirectory) {
    let database = server.database(options);
    server.sql(&format!("USE {database}; {table}"));
    let plan = plan(DatabaseProduct::MySql, server.port, &database, person);
    (database, plan)
}

pub(super) fn ana(kind: &str, hash: &str) -> String {
    format!(
        "CREATE TABLE people (username {kind}, password varchar(200), enabled boolean);
         INSERT INTO people VALUES ('ana', '{hash}', true)"
    )
}

#[tokio::test]
async fn a_person_is_read_whole_over_tls() {
    let server = MariaDbServer::shared();
    let table = format!(
        "CREATE TABLE people (id bigint unsigned, username varchar(40), password binary(64), enabled bit(1), mail text,
           age tinyint, small smallint unsigned, middle mediumint, height decimal(5,2), ratio double, single float,
           member boolean, born date, seen timestamp(3) NULL, made datetime, zero datetime, extra json,
           shade enum('red','green'), nothing text, old year, flags bit(12), tags set('a','b'), no_int int unsigned,
           many bigint) DEFAULT CHARSET utf8mb4;
         SET time_zone = '+02:00'; SET sql_mode = '';
         INSERT INTO people VALUES (18446744073709551615, 'ana', '{SHA}', 1, 'ana@corp.test', -41, 65535, -8388608,
           1.75, 0.1, 0.1, false, '1985-02-03', '2026-01-02 03:04:05.5', '2026-01-02 03:04:05', '0000-00-00',
           '{{\"a\": 1}}',
           'green', NULL, 1999, b'100000000001', 'a,b', 4294967295, -9223372036854775808);
         CREATE TABLE memberships (username text, name text);
         INSERT INTO memberships VALUES ('ana', 'dev'), ('ana', 'ops'), ('bob', 'admin')"
    );
    let (_, plan) = people(&server, "", &table, "SELECT * FROM people WHERE username = ?");
    let by_id = statement("SELECT * FROM people WHERE id = ?", &[Parameter::Id]);
    let groups = statement(
        "SELECT name FROM memberships WHERE username = ? AND ? <> '' ORDER BY name",
        &[Parameter::Username, Parameter::Id],
    );
    let plan = DatabaseDirectory { by_id: Some(by_id), groups: Some(groups), ..plan };
    let database = open(&with_tls(plan, server.certificates.roots()));
    let person = verified(&database, "ana").await;
    assert_eq!((person.id.as_str(), person.username.as_str()), ("18446744073709551615", "ana"));
    assert_eq!(
        Value::Object(person.claims.clone()),
        json!({
            "mail": "ana@corp.test", "age": -41, "small": 65535, "middle": -8_388_608, "height": 1.75, "ratio": 0.1,
            "single": 0.1, "member": false, "born": "1985-02-03", "seen": "2026-01-02T01:04:05.500000Z",
            "made": "2026-01-02T03:04:05Z", "extra": "{\"a\": 1}", "shade": "green", "old": 1999, "flags": 2049,
            "tags": "a,b", "no_int": 4_294_967_295u32, "many": i64::MIN,
        })
    );
    let names: Vec<_> = person.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["dev", "ops"]);
    assert_eq!(verify(&database, "ana", "wrong").await, WRONG);
    assert_eq!(verify(&database, "bob", RIGHT).await, UNKNOWN);
    let again = database.look_up(person.id.clone(), "renamed".into(), soon()).await;
    assert_eq!(again, Ok(LoginAnswer::Verified(Box::new(person))));
    // MySQL takes the digits at the beginning of a text for a number.
    let other = database.look_up("18446744073709551615a".into(), "ana".into(), soon()).await;
    assert_eq!(other, UNKNOWN);
}

#[tokio::test]
async fn r46_user_names_are_values_and_questions_cannot_write() {
    let server = MariaDbServer::shared();
    let (name, plan) = people(&server, "", &ana("varchar(40)", SHA), PERSON);
    let database = open(&plan);
    for injection in INJECTIONS {
        assert_eq!(verify(&database, injection, RIGHT).await, UNKNOWN, "{injection:?}");
    }
    verified(&database, "ana").await;
    for (writing, part) in [
        ("INSERT INTO people VALUES (?, 'x', true)", "1792"),
        ("UPDATE people SET enabled = false WHERE username = ?", "1792"),
        ("SELECT 1 FROM people WHERE username = ?; DELETE FROM people", "1064"),
    ] {
        let (kind, detail) =
            failed(&open(&DatabaseDirectory { person: by_name(writing), ..plan.clone() }), "ana").await;
        assert!(kind == DirectoryErrorKind::Unusable && detail.contains(part), "{writing}: {detail}");
    }
    assert_eq!(server.sql(&format!("SELECT username, enabled FROM {name}.people")), "ana\t1");
}

/// All of these find `ana` for `ana␠`, and most of them for `ANA` and `ána` too.
#[tokio::test]
async fn r47_a_loose_collation_finds_nobody_else() {
    let server = MariaDbServer::shared();
    let spellings = ["ana ", "ANA", "ána", "Ana", " ana", "ana\u{301}", "ana😀"];
    for (options, looser) in [
        ("CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", &["ana ", "ANA", "ána", "Ana"][..]),
        ("CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", &["ana ", "ANA", "ána", "Ana", "ana\u{301}"]),
        ("CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", &["ana "]),
        ("CHARACTER SET latin1", &["ana ", "ANA", "Ana"]),
    ] {
        let (name, plan) = people(&server, options, &ana("varchar(40)", SHA), PERSON);
        let (exact, folding) = (open(&plan), open(&DatabaseDirectory { ignores_case: true, ..plan.clone() }));
        verified(&exact, "ana").await;
        for spelling in spellings {
            assert_eq!(verify(&exact, spelling, RIGHT).await, UNKNOWN, "{options} {spelling:?}");
            let is_found = looser.contains(&spelling);
            if spelling.is_ascii() || options.contains("utf8") {
                let count = server.sql(&format!("SELECT count(*) FROM {name}.people WHERE username = '{spelling}'"));
                assert_eq!(count == "1", is_found, "{options} {spelling:?}");
            }
            match verify(&folding, spelling, RIGHT).await {
                Ok(LoginAnswer::Verified(person)) if is_found && spelling.eq_ignore_ascii_case("ana") => {
                    assert_eq!(person.username, "ana");
                }
                answer => {
                    let is_case = is_found && spelling.eq_ignore_ascii_case("ana");
                    assert_eq!((answer, is_case), (UNKNOWN, false), "{options} {spelling:?}");
                }
            }
        }
        verified(&exact, "ana").await;
    }
}

#[tokio::test]
async fn r47_two_rows_of_a_loose_collation_are_ambiguous() {
    let server = MariaDbServer::shared();
    let table = format!("{}; INSERT INTO people VALUES ('ANA', '{SHA}', true)", ana("varchar(40)", SHA));
    let (_, plan) = people(&server, "", &table, PERSON);
    let database = open(&plan);
    assert_eq!(verify(&database, "ana", RIGHT).await, Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)));
    let many = "SELECT a.username, a.password, a.enabled FROM people a, people b, people c WHERE a.username = ?";
    let database = open(&DatabaseDirectory { person: by_name(many), ..plan });
    for _ in 0..3 {
        assert_eq!(verify(&database, "ana", RIGHT).await, Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)));
    }
}

#[tokio::test]
async fn r48_disabled_people_are_refused() {
    let server = MariaDbServer::shared();
    let table = format!(
        "{}; INSERT INTO people VALUES ('off', '{SHA}', false), ('null', '{SHA}', NULL), ('none', NULL, true)",
        ana("varchar(40)", SHA)
    );
    let (_, plan) = people(&server, "", &table, PERSON);
    let database = open(&plan);
    let disabled = Ok(LoginAnswer::Refused(LoginRefused::Account(AccountState::Disabled)));
    for (name, answer) in [("off", disabled.clone()), ("null", disabled), ("none", WRONG)] {
        assert_eq!(verify(&database, name, RIGHT).await, answer, "{name}");
    }
}

#[tokio::test]
async fn statements_that_do_not_fit_are_errors_that_say_why() {
    let server = MariaDbServer::shared();
    let (_, plan) = people(&server, "", &ana("varchar(40)", SHA), PERSON);
    for (text, part) in [
        ("SELECT usernam FROM people WHERE username = ?", "1054: Unknown column"),
        ("SELECT FROM WHERE ?", "1064"),
        ("SELECT * FROM nothing WHERE username = ?", "1146"),
        ("SELECT username, password, enabled, sec_to_time(1) t FROM people WHERE username = ?", "`t` has TIME"),
        ("SELECT username, password, enabled, unhex('ff') o FROM people WHERE username = ?", "`o` has octets"),
        ("SELECT username, password, enabled FROM people WHERE username = ? AND ? = 1", "2 parameters"),
    ] {
        let (kind, detail) = failed(&open(&DatabaseDirectory { person: by_name(text), ..plan.clone() }), "ana").await;
        assert_eq!(kind, DirectoryErrorKind::Unusable, "{text}");
        assert!(detail.contains(part) && detail.starts_with("MySQL 127.0.0.1:"), "{text}: {detail}");
    }
    let other = DatabaseDirectory { user: "stranger".into(), ..plan.clone() };
    assert_eq!(failed(&open(&other), "ana").await.0, DirectoryErrorKind::RefusesUs);
    let other = DatabaseDirectory { database: "nowhere".into(), ..plan };
    assert!(failed(&open(&other), "ana").await.1.contains("1049"));
}
