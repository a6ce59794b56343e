//! Probes of real databases.

use crate::probe::{DatabaseFacts, DatabaseQuestion, Probed, Server, database};

use super::*;

const TABLES: &str = "CREATE TABLE members (id int, login varchar(40), hash varchar(200), active boolean);
    CREATE TABLE memberships (login varchar(40), grp varchar(40))";

async fn probe(plan: &DatabaseDirectory, password: &str) -> Probed<DatabaseFacts> {
    let password = Password::new(Redacted::new(password.into())).unwrap();
    let question = DatabaseQuestion {
        product: plan.product,
        server: Server { at: plan.server.clone(), tls: plan.tls.clone() },
        database: plan.database.clone(),
        login: (plan.user.clone(), password),
    };
    let probed = database(question).await;
    let shown = format!("{probed:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary"), "{shown}");
    probed
}

async fn is_told(plan: DatabaseDirectory, roots: String, version: &str) {
    let trusted = with_tls(plan, roots);
    let Probed { steps, certificate, found } = probe(&trusted, PASSWORD).await;
    let facts = found.unwrap();
    assert!(facts.version.contains(version), "{facts:?}");
    let columns =
        |table: &str| facts.tables.iter().find(|(name, _)| name == table).map(|(_, columns)| columns.join(" "));
    assert_eq!(columns("members").as_deref(), Some("id login hash active"));
    assert_eq!(columns("memberships").as_deref(), Some("login grp"));
    assert!(steps.iter().any(|step| step.contains("connected (TLS) and logged in as `gateway`, ")), "{steps:?}");
    let certificate = certificate.unwrap();
    assert_eq!(certificate.names, ["localhost"]);
    // The key that was shown is one that can be trusted alone.
    let trust = |key| Some(DirectoryTls { trust: ServerTrust::Keys(vec![key]), certificate: None });
    let pinned = DatabaseDirectory { tls: trust(certificate.key), ..trusted.clone() };
    assert!(probe(&pinned, PASSWORD).await.found.is_ok());
    for (plan, password, kind) in [
        (DatabaseDirectory { tls: None, ..trusted.clone() }, PASSWORD, DirectoryErrorKind::Untrusted),
        (DatabaseDirectory { tls: trust([7; 32]), ..trusted.clone() }, PASSWORD, DirectoryErrorKind::Untrusted),
        (trusted.clone(), "canary-wrong", DirectoryErrorKind::RefusesUs),
    ] {
        assert_eq!(probe(&plan, password).await.found.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn tables_of_postgresql_are_told_and_its_key_can_be_pinned() {
    let server = PostgresServer::shared();
    let (_, plan) = postgres::people(&server, TABLES, postgres::PERSON);
    is_told(plan, server.certificates.roots(), "PostgreSQL").await;
}

#[tokio::test]
async fn tables_of_mariadb_are_told_and_its_key_can_be_pinned() {
    let server = MariaDbServer::shared();
    let (_, plan) = mariadb::people(&server, "", TABLES, mariadb::PERSON);
    is_told(plan, server.certificates.roots(), "MariaDB").await;
}
