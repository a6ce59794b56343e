//! The driver against a real PostgreSQL.

use idm_plan::{Directory, DirectorySource, LegacyFormat, ObjectKey};
use idm_trust::{AccountState, Directories, LoginAnswer, LoginRefused};
use serde_json::{Value, json};

use super::servers::PgBouncer;
use super::*;

pub(super) const PERSON: &str = "SELECT username, password, enabled FROM people WHERE username = $1";

/// A database with a table of people, and a plan for it.
pub(super) fn people(server: &PostgresServer, table: &str, person: &str) -> (String, DatabaseDirectory) {
    let database = server.database("");
    server.sql(&database, &format!("{table}; GRANT ALL ON ALL TABLES IN SCHEMA public TO gateway"));
    let plan = plan(DatabaseProduct::PostgreSql, server.port, &database, person);
    (database, plan)
}

/// A table with `ana`, whose password is [`RIGHT`].
pub(super) fn ana(kind: &str, hash: &str) -> String {
    format!(
        "CREATE TABLE people (username {kind}, password text, enabled boolean);
         INSERT INTO people VALUES ('ana', '{hash}', true)"
    )
}

#[tokio::test]
async fn a_person_is_read_whole_over_tls() {
    let server = PostgresServer::shared();
    let table = format!(
        "CREATE TYPE colour AS ENUM ('red', 'green');
         CREATE TABLE people (id uuid, username varchar(40), password text, enabled boolean, mail text, age int,
           height numeric(5,2), huge numeric, ratio float8, odd float8, member boolean, born date, seen timestamptz,
           made timestamp, extra jsonb, shade colour, nothing text, letter \"char\");
         INSERT INTO people VALUES ('6b1f6a3e-5a0e-4a52-9f3e-0d9a7c6b5a41', 'ana', '{SHA}', true, 'ana@corp.test', 41,
           1.75, 123456789012345678901234567890, 0.1, 'NaN', false, '1985-02-03', '2026-01-02 03:04:05.5+02',
           '2026-01-02 03:04:05', '{{\"a\": [1, null]}}', 'green', NULL, 'x');
         CREATE TABLE memberships (username text, name text);
         INSERT INTO memberships VALUES ('ana', 'dev'), ('ana', 'ops'), ('ana', 'dev'), ('bob', 'admin')"
    );
    let (_, plan) = people(&server, &table, "SELECT * FROM people WHERE username = $1");
    let by_id = statement("SELECT * FROM people WHERE id = $1", &[Parameter::Id]);
    let groups = by_name("SELECT name FROM memberships WHERE username = $1 ORDER BY name");
    let plan = DatabaseDirectory { by_id: Some(by_id), groups: Some(groups), ..plan };
    let database = open(&with_tls(plan, server.certificates.roots()));
    let person = verified(&database, "ana").await;
    assert_eq!((person.id.as_str(), person.username.as_str()), ("6b1f6a3e-5a0e-4a52-9f3e-0d9a7c6b5a41", "ana"));
    assert_eq!(
        Value::Object(person.claims.clone()),
        json!({
            "mail": "ana@corp.test", "age": 41, "height": 1.75, "huge": "123456789012345678901234567890", "ratio": 0.1,
            "odd": "NaN", "member": false, "born": "1985-02-03", "seen": "2026-01-02T01:04:05.5Z",
            "made": "2026-01-02T03:04:05Z", "extra": {"a": [1, null]}, "shade": "green", "letter": "x",
        })
    );
    let names: Vec<_> = person.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["dev", "ops"]);

    assert_eq!(verify(&database, "ana", "wrong").await, WRONG);
    assert_eq!(verify(&database, "bob", RIGHT).await, UNKNOWN);
    let again = database.look_up(person.id.clone(), "renamed".into(), soon()).await;
    assert_eq!(again, Ok(LoginAnswer::Verified(Box::new(person))));
    let other = database.look_up("00000000-0000-0000-0000-000000000000".into(), "ana".into(), soon()).await;
    assert_eq!(other, UNKNOWN);
}

#[tokio::test]
async fn a_federation_opens_the_database_of_its_plan() {
    let server = PostgresServer::shared();
    let (_, plan) = people(&server, &ana("text", SHA), PERSON);
    let source = DirectorySource::Database(Box::new(plan));
    let (realms, groups) = (Vec::new(), Vec::new());
    let directory = Directory {
        source,
        realms,
        cache_seconds: 0,
        recheck_ms: None,
        keeps_sessions: false,
        changes_passwords: false,
        deadline_ms: 5000,
        concurrency: 4,
        groups,
    };
    let (pool, federation) = (crate::Pool::new(reach()), ObjectKey::new("shop", "people"));
    let opened = pool.open(&federation, &directory, &secrets()).unwrap();
    let answer = opened.verify(login("ana", RIGHT, Steps::default())).await;
    assert!(matches!(answer, Ok(LoginAnswer::Verified(person)) if person.username == "ana"));
    let again = pool.open(&federation, &directory, &secrets()).unwrap();
    assert_eq!(again.verify(login("ana", "wrong", Steps::default())).await, WRONG);
}

#[tokio::test]
async fn r44_steps_tell_what_was_asked_and_nothing_secret() {
    let server = PostgresServer::shared();
    let (_, plan) = people(&server, &ana("text", SHA), PERSON);
    let groups = Some(by_name("SELECT 'dev' WHERE $1 <> ''"));
    let database = open(&DatabaseDirectory { groups, ..plan });
    let steps = Steps::kept();
    database.verify(login("ana", RIGHT, steps.clone()), soon()).await.unwrap();
    let told = steps.read().join("\n");
    for part in
        ["PostgreSQL 127.0.0.1:", "opened in", "person: 1 row,", "groups: 1 row,", "sha256-crypt rounds=1234", "fits"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains(RIGHT) && !told.contains("$5$") && !told.contains(PASSWORD), "{told}");
}

#[tokio::test]
async fn r46_user_names_are_values_and_never_sql() {
    let server = PostgresServer::shared();
    let (name, plan) = people(&server, &ana("text", SHA), PERSON);
    let database = open(&plan);
    for injection in INJECTIONS {
        assert_eq!(verify(&database, injection, RIGHT).await, UNKNOWN, "{injection:?}");
    }
    assert_eq!(server.sql(&name, "SELECT count(*) FROM people"), "1");
    verified(&database, "ana").await;
}

#[tokio::test]
async fn r46_questions_cannot_write() {
    let server = PostgresServer::shared();
    let (name, plan) = people(&server, &ana("text", SHA), PERSON);
    for writing in [
        "INSERT INTO people VALUES ($1, 'x', true) RETURNING username, password, enabled",
        "UPDATE people SET enabled = false WHERE username = $1 RETURNING username, password, enabled",
    ] {
        let (kind, detail) =
            failed(&open(&DatabaseDirectory { person: by_name(writing), ..plan.clone() }), "ana").await;
        assert_eq!(kind, DirectoryErrorKind::Unusable);
        assert!(detail.contains("25006") && detail.contains("read-only transaction"), "{detail}");
    }
    assert_eq!(server.sql(&name, "SELECT username, enabled FROM people"), "ana|t");
    let ends = DatabaseDirectory { person: statement("COMMIT", &[]), ..plan };
    assert!(Database::new(&ends, &secrets(), reach()).is_err_and(|why| why.contains("person")));
}

#[tokio::test]
async fn r47_a_loose_collation_finds_nobody_else() {
    let server = PostgresServer::shared();
    let loose = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);";
    let spellings = ["ana ", "ANA", "ána", "Ana", " ana", "ana\u{301}"];
    for (prelude, kind) in
        [("", "text"), (loose, "text COLLATE loose"), ("CREATE EXTENSION citext;", "citext"), ("", "char(9)")]
    {
        let (name, plan) = people(&server, &format!("{prelude}{}", ana(kind, SHA)), PERSON);
        let exact = open(&plan);
        verified(&exact, "ana").await;
        for spelling in spellings {
            assert_eq!(verify(&exact, spelling, RIGHT).await, UNKNOWN, "{kind} {spelling:?}");
        }
        let database = open(&DatabaseDirectory { ignores_case: true, ..plan });
        let found = server.sql(&name, "SELECT count(*) FROM people WHERE username = 'ANA'") == "1";
        assert_eq!(found, kind.contains("loose") || kind == "citext", "{kind}");
        for (spelling, is_case) in spellings.map(|spelling| (spelling, spelling.eq_ignore_ascii_case("ana"))) {
            let answer = verify(&database, spelling, RIGHT).await;
            match answer {
                // The person has the spelling of the database, whichever was typed.
                Ok(LoginAnswer::Verified(person)) if is_case && found => assert_eq!(person.username, "ana"),
                answer => assert_eq!((answer, is_case && found), (UNKNOWN, false), "{kind} {spelling:?}"),
            }
        }
    }
}

#[tokio::test]
async fn r47_a_name_that_the_encoding_lacks_is_unknown() {
    let server = PostgresServer::shared();
    let name = server.database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    server.sql(&name, &format!("{}; GRANT ALL ON people TO gateway", ana("text", SHA)));
    let database = open(&plan(DatabaseProduct::PostgreSql, server.port, &name, PERSON));
    verified(&database, "ana").await;
    assert_eq!(verify(&database, "ana€😀", RIGHT).await, UNKNOWN);
    verified(&database, "ana").await;
}

#[tokio::test]
async fn r48_disabled_people_are_refused_and_an_unknown_state_is_an_error() {
    let server = PostgresServer::shared();
    let table = format!(
        "CREATE TABLE people (username text, password text, enabled text, id int);
         INSERT INTO people VALUES ('on', '{SHA}', 'yes', 1), ('off', '{SHA}', 'no', 2), ('null', '{SHA}', NULL, 3),
           ('odd', '{SHA}', 'maybe', 4), ('none', NULL, 'yes', 5), ('locked', '!{SHA}', 'yes', 6),
           ('twice', '{SHA}', 'yes', 7), ('twice', '{SHA}', 'yes', 8)"
    );
    let query = "SELECT username, password, enabled, id FROM people WHERE username = $1";
    let (_, plan) = people(&server, &table, query);
    let disabled = Ok(LoginAnswer::Refused(LoginRefused::Account(AccountState::Disabled)));
    let database = open(&plan);
    verified(&database, "on").await;
    for name in ["off", "null"] {
        assert_eq!(verify(&database, name, RIGHT).await, disabled, "{name}");
        assert_eq!(verify(&database, name, "wrong").await, WRONG, "{name}");
    }
    for name in ["none", "locked"] {
        assert_eq!(verify(&database, name, RIGHT).await, WRONG, "{name}");
    }
    assert_eq!(verify(&database, "twice", RIGHT).await, Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)));
    assert_eq!(failed(&database, "odd").await.0, DirectoryErrorKind::Unusable);
    // Without a statement by id, the name finds the row, which must have the same id.
    assert!(matches!(database.look_up("1".into(), "on".into(), soon()).await, Ok(LoginAnswer::Verified(_))));
    assert_eq!(database.look_up("9".into(), "on".into(), soon()).await, UNKNOWN);
    assert_eq!(database.look_up("2".into(), "off".into(), soon()).await, disabled);

    let without = by_name("SELECT username, password FROM people WHERE username = $1");
    let plan = DatabaseDirectory { person: without, ..plan };
    let (kind, detail) = failed(&open(&plan), "off").await;
    assert!(kind == DirectoryErrorKind::Unusable && detail.contains("no column `enabled`"), "{detail}");
    verified(&open(&DatabaseDirectory { always_enabled: true, ..plan }), "off").await;
}

/// The detail of the refusal of a person whose stored password cannot be checked: a verdict, not an outage, which would
/// tell that there is such a person.
async fn unusable(database: &Database, username: &str) -> String {
    match verify(database, username, RIGHT).await {
        Ok(LoginAnswer::Refused(LoginRefused::StoredPassword(why))) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn r49_a_password_in_an_unknown_form_is_refused_and_not_shown() {
    let server = PostgresServer::shared();
    for stored in ["$9$unknown", "correct horse", "$argon2id$v=19$m=1"] {
        let (_, plan) = people(&server, &ana("text", stored), PERSON);
        let detail = unusable(&open(&plan), "ana").await;
        assert!(!detail.contains(stored), "{detail}");
    }
}

#[tokio::test]
async fn r49_legacy_formats_are_accepted_where_they_are_listed() {
    let server = PostgresServer::shared();
    let (_, plan) = people(&server, &ana("text", "$1$abcdefgh$gCErstC/hBvUFrRhu7oVr1"), PERSON);
    let detail = unusable(&open(&plan), "ana").await;
    assert!(detail.contains("legacy format md5-crypt") && !detail.contains("gCErstC"), "{detail}");
    verified(&open(&DatabaseDirectory { legacy_formats: vec![LegacyFormat::Md5Crypt], ..plan }), "ana").await;
}

#[tokio::test]
async fn r50_a_row_that_costs_too_much_harms_nobody_else() {
    let server = PostgresServer::shared();
    let costly = "$2b$31$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS";
    let table = format!("{}; INSERT INTO people VALUES ('eve', '{costly}', true)", ana("text", SHA));
    let (_, plan) = people(&server, &table, PERSON);
    let database = open(&plan);
    let began = Instant::now();
    let detail = unusable(&database, "eve").await;
    assert!(detail.contains("bcrypt cost 31"), "{detail}");
    assert!(began.elapsed() < Duration::from_secs(2));
    verified(&database, "ana").await;
}

#[tokio::test]
async fn r43_people_who_do_not_exist_cost_a_hash_too() {
    let server = PostgresServer::shared();
    // 200,000 rounds take longer by far than everything else.
    let hash = "$5$rounds=200000$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/";
    let (_, plan) = people(&server, &ana("text", hash), PERSON);
    let database = open(&plan);
    let mut least = [Duration::MAX; 2];
    for _ in 0..3 {
        for (least, (name, answer)) in least.iter_mut().zip([("ana", WRONG), ("eve", UNKNOWN)]) {
            let began = Instant::now();
            assert_eq!(verify(&database, name, "wrong").await, answer);
            *least = began.elapsed().min(*least);
        }
    }
    let [known, unknown] = least.map(|time| time.as_secs_f64());
    assert!(unknown > known / 2.0 && unknown < known * 2.0, "{known} s and {unknown} s");
}

#[tokio::test]
async fn both_names_of_a_realm_are_asked_for_and_two_people_are_ambiguous() {
    let server = PostgresServer::shared();
    let table = format!(
        "{}; INSERT INTO people VALUES ('bob', '{SHA}', true), ('bob@corp.test', '{SHA}', true)",
        ana("text", SHA)
    );
    let (_, plan) = people(&server, &table, PERSON);
    let database = open(&plan);
    for (whole, bare, found) in [
        ("CORP\\ana", "ana", Some("ana")),
        ("ana@corp.test", "ana", Some("ana")),
        ("bob@corp.test", "bob", None),
        ("bob@corp.test", "nobody", Some("bob@corp.test")),
    ] {
        let login = Login { bare: Some(bare.into()), ..login(whole, RIGHT, Steps::default()) };
        match (database.verify(login, soon()).await, found) {
            (Ok(LoginAnswer::Verified(person)), Some(name)) => assert_eq!(person.username, name),
            (answer, _) => assert_eq!((answer, found), (Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)), None)),
        }
    }
}

#[tokio::test]
async fn too_many_groups_are_an_error_and_never_fewer_groups() {
    let server = PostgresServer::shared();
    let (_, plan) = people(&server, &ana("text", SHA), PERSON);
    let with = |count: usize| {
        let text = format!("SELECT 'g' || n FROM generate_series(1, {count}) n WHERE $1 = 'ana'");
        open(&DatabaseDirectory { groups: Some(by_name(&text)), ..plan.clone() })
    };
    let full = with(5000);
    assert_eq!(verified(&full, "ana").await.groups.len(), 5000);
    assert_eq!(verified(&full, "ana").await.groups.len(), 5000);
    assert_eq!(failed(&with(5001), "ana").await.0, DirectoryErrorKind::TooManyGroups);
    // A caller who does not know the password learns nothing of them.
    let wrong = login("ana", "wrong", Steps::default());
    let answer = with(5001).verify(wrong, Instant::now() + Duration::from_secs(5)).await;
    assert_eq!(answer, Ok(LoginAnswer::Refused(LoginRefused::WrongPassword)));
    // Rows that nobody wants are neither sent nor made.
    let text = "SELECT a::text FROM generate_series(1, 9999) a, generate_series(1, 9999) b WHERE $1 <> ''";
    let endless = open(&DatabaseDirectory { groups: Some(by_name(text)), ..plan.clone() });
    assert_eq!(failed(&endless, "ana").await.0, DirectoryErrorKind::TooManyGroups);
}

#[tokio::test]
async fn statements_that_do_not_fit_are_errors_that_say_why() {
    let server = PostgresServer::shared();
    let table = "CREATE TABLE people (username text, password text, enabled boolean, no int, picture bytea);
                 INSERT INTO people VALUES ('ana', 'x', true, 7, 'x')";
    let (name, plan) = people(&server, table, PERSON);
    server.sql(&name, "CREATE TABLE hidden (username text)");
    for (text, part) in [
        ("SELECT usernam FROM people WHERE username = $1", "usernam"),
        ("SELECT FROM WHERE $1", "syntax error"),
        ("SELECT * FROM hidden WHERE username = $1", "permission denied"),
        ("SELECT username, password, enabled FROM people WHERE no = $1", "22P02"),
        ("SELECT username, password, enabled, picture FROM people WHERE username = $1", "`picture` has a type"),
        ("SELECT password, enabled FROM people WHERE username = $1", "no column `username`"),
    ] {
        let (kind, detail) = failed(&open(&DatabaseDirectory { person: by_name(text), ..plan.clone() }), "ana").await;
        assert_eq!(kind, DirectoryErrorKind::Unusable, "{text}");
        assert!(detail.contains(part) && detail.starts_with("PostgreSQL 127.0.0.1:"), "{text}: {detail}");
    }
    let other = DatabaseDirectory { user: "stranger".into(), ..plan.clone() };
    assert_eq!(failed(&open(&other), "ana").await.0, DirectoryErrorKind::RefusesUs);
    let other = DatabaseDirectory { database: "nowhere".into(), ..plan };
    assert!(failed(&open(&other), "ana").await.1.contains("3D000"));
}

#[tokio::test]
async fn r53_pods_share_a_pgbouncer_in_transaction_mode() {
    let server = PostgresServer::shared();
    let table = format!(
        "CREATE EXTENSION citext; {};
         INSERT INTO people SELECT 'user' || n, '{SHA}', true FROM generate_series(1, 20) n",
        ana("citext", SHA)
    );
    let (_, plan) = people(&server, &table, PERSON);
    let bouncer = PgBouncer::start(&server, 2);
    let groups = Some(by_name("SELECT 'dev' WHERE $1 <> ''"));
    let text = "UPDATE people SET password = $1 WHERE username = $2 AND password = $3";
    let upgrade = statement(text, &[Parameter::NewHash, Parameter::Username, Parameter::OldHash]);
    let server_of_it = DirectoryServer { port: bouncer.port, ..plan.server.clone() };
    let plan = DatabaseDirectory { groups, upgrade: Some(upgrade), server: server_of_it, ..plan };
    let plan = with_tls(plan, server.certificates.roots());
    // Two pods with up to eight connections each, over two connections to the server.
    let pods = [open(&plan), open(&plan)];
    for _ in 0..3 {
        let logins = (1..=20).map(|number| {
            let (pod, name) = (&pods[number % 2], format!("user{number}"));
            async move { assert_eq!(verified(pod, &name).await.groups.len(), 1) }
        });
        futures::StreamExt::for_each_concurrent(futures::stream::iter(logins), 6, |login| login).await;
    }
    until("the end of all upgrades", async || pods.iter().all(|pod| pod.upgrades.available_permits() == 2)).await;
}
