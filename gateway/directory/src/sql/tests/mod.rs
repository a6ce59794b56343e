//! Tests on real servers, and on ones that break the protocols.

mod digest;
mod downgrade;
mod hostile;
mod mariadb;
mod pooling;
mod postgres;
mod probe;
mod script;
mod servers;
mod upgrades;

use std::sync::Arc;
use std::time::{Duration, Instant};

use idm_plan::{
    DatabaseDirectory, DatabaseProduct, DirectoryServer, DirectoryTls, Parameter, Protection, SecretHandle, Secrets,
    ServerTrust, Statement,
};
use idm_trust::{DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused, Password, Person, Steps};
use idm_types::Redacted;

use super::Database;
use crate::{Driver, Reach};
use servers::{MariaDbServer, PASSWORD, PostgresServer};

/// The password of everybody in the tables, and hashes of it: sha256-crypt (openssl) and bcrypt (libxcrypt).
const RIGHT: &str = "pässwörd €1";
const SHA: &str = "$5$rounds=1234$ab$Ygo2OTnXbIqhvAC2s1EGqmPAUcLVRUuGXVzisTsDn3/";
const BCRYPT: &str = "$2b$05$abcdefghijklmnopqrstuuZw8x3lzKcO.3XK5AOlK.GeAYAZcYBBS";

fn statement(text: &str, parameters: &[Parameter]) -> Statement {
    Statement { text: text.into(), parameters: parameters.into() }
}

fn by_name(text: &str) -> Statement {
    statement(text, &[Parameter::Username])
}

/// A plan for a server without TLS; tests change what they are about.
fn plan(product: DatabaseProduct, port: u16, database: &str, person: &str) -> DatabaseDirectory {
    DatabaseDirectory {
        product,
        server: DirectoryServer { host: "127.0.0.1".into(), port, protection: Protection::Loopback },
        tls: None,
        database: database.into(),
        user: "gateway".into(),
        password: SecretHandle("password".into()),
        person: by_name(person),
        by_id: None,
        groups: None,
        always_enabled: false,
        ignores_case: false,
        legacy_formats: Vec::new(),
        digest: None,
        upgrade: None,
    }
}

/// The same with TLS that trusts these authorities.
fn with_tls(plan: DatabaseDirectory, roots: String) -> DatabaseDirectory {
    let server = DirectoryServer { host: "localhost".into(), protection: Protection::StartTls, ..plan.server };
    DatabaseDirectory {
        server,
        tls: Some(DirectoryTls { trust: ServerTrust::Roots(roots), certificate: None }),
        ..plan
    }
}

fn secrets() -> Secrets {
    let mut secrets = Secrets::default();
    secrets.put(SecretHandle("password".into()), Redacted::new(PASSWORD.into()));
    secrets
}

fn reach() -> Reach {
    Reach { local: true, api_server: None }
}

fn open(plan: &DatabaseDirectory) -> Database {
    Database::new(plan, &secrets(), reach()).unwrap()
}

fn login(username: &str, password: &str, steps: Steps) -> Login {
    let password = Password::new(Redacted::new(password.into())).unwrap();
    Login { username: username.into(), bare: None, password, caller: None, steps }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn verify(database: &Database, username: &str, password: &str) -> Result<LoginAnswer, DirectoryError> {
    let answer = database.verify(login(username, password, Steps::default()), soon()).await;
    let shown = format!("{answer:?}");
    assert!(!shown.contains(password) && !shown.contains(PASSWORD) && !shown.contains("rounds=1234$"), "{shown}");
    answer
}

async fn verified(database: &Database, username: &str) -> Person {
    match verify(database, username, RIGHT).await {
        Ok(LoginAnswer::Verified(person)) => *person,
        other => panic!("{username:?}: {other:?}"),
    }
}

/// The kind and text of an error.
async fn failed(database: &Database, username: &str) -> (DirectoryErrorKind, String) {
    match verify(database, username, RIGHT).await {
        Err(DirectoryError { kind, detail }) => (kind, detail),
        other => panic!("{username:?}: {other:?}"),
    }
}

const WRONG: Result<LoginAnswer, DirectoryError> = Ok(LoginAnswer::Refused(LoginRefused::WrongPassword));
const UNKNOWN: Result<LoginAnswer, DirectoryError> = Ok(LoginAnswer::Unknown);

/// Waits for a state.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// User names that end statements, quotes and comments.
const INJECTIONS: &[&str] = &[
    "' OR '1'='1",
    "ana' --",
    "ana'; DROP TABLE people; --",
    "ana'/*",
    "\" OR \"\"=\"",
    "\\' OR 1=1 #",
    "ana\\",
    "%",
    "_na",
    "$1",
    "?",
    ":username",
    "ana\0",
    "\u{feff}ana",
    "ana\u{200b}",
    "0",
    "' UNION SELECT 'x','x' --",
    "\u{2019} OR 1=1",
];
