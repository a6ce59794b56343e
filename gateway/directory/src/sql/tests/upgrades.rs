//! New hashes at logins.

use super::*;

#[tokio::test]
async fn r51_hashes_of_postgresql_are_replaced_and_two_at_once_leave_one_that_fits() {
    let server = PostgresServer::shared();
    let (name, plan) = postgres::people(&server, &postgres::ana("text", BCRYPT), postgres::PERSON);
    let text = "UPDATE people SET password = $1 WHERE username = $2 AND password = $3";
    let upgrade = statement(text, &[Parameter::NewHash, Parameter::Username, Parameter::OldHash]);
    verified(&open(&plan), "ana").await;
    let plan = DatabaseDirectory { upgrade: Some(upgrade), ..plan };
    let pods = [open(&plan), open(&plan)];
    assert_eq!(verify(&pods[0], "ana", "wrong").await, WRONG);
    assert_eq!(server.sql(&name, "SELECT password FROM people"), BCRYPT, "only a right password replaces anything");
    futures::future::join_all(pods.iter().map(|pod| verified(pod, "ana"))).await;
    let stored = || server.sql(&name, "SELECT password FROM people");
    until("a new hash", async || stored().starts_with("$argon2id$v=19$m=19456,t=2,p=1$")).await;
    // The slower one of the two changes nothing any more.
    until("the end of both upgrades", async || pods.iter().all(|pod| pod.upgrades.available_permits() == 2)).await;
    let replaced = stored();
    verified(&pods[0], "ana").await;
    until("no upgrade", async || pods[0].upgrades.available_permits() == 2).await;
    assert_eq!(stored(), replaced, "a current hash stays");
}

#[tokio::test]
async fn r51_a_database_that_cannot_be_written_to_refuses_nobody() {
    let server = PostgresServer::shared();
    let (name, plan) = postgres::people(&server, &postgres::ana("text", BCRYPT), postgres::PERSON);
    server.sql(&name, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let text = "UPDATE people SET password = $1 WHERE password = $2";
    let upgrade = Some(statement(text, &[Parameter::NewHash, Parameter::OldHash]));
    let database = open(&DatabaseDirectory { upgrade, ..plan });
    for _ in 0..2 {
        verified(&database, "ana").await;
        until("the end of the upgrade", async || database.upgrades.available_permits() == 2).await;
    }
    assert_eq!(server.sql(&name, "SELECT password FROM people"), BCRYPT);
}

#[tokio::test]
async fn r51_hashes_of_mariadb_are_replaced_and_two_at_once_leave_one_that_fits() {
    let server = MariaDbServer::shared();
    let (name, plan) = mariadb::people(&server, "", &mariadb::ana("varchar(40)", BCRYPT), mariadb::PERSON);
    let text = "UPDATE people SET password = ? WHERE username = ? AND password = ?";
    let upgrade = statement(text, &[Parameter::NewHash, Parameter::Username, Parameter::OldHash]);
    let plan = DatabaseDirectory { upgrade: Some(upgrade), ..plan };
    let pods = [open(&plan), open(&plan)];
    futures::future::join_all(pods.iter().map(|pod| verified(pod, "ana"))).await;
    let stored = || server.sql(&format!("SELECT password FROM {name}.people"));
    until("a new hash", async || stored().starts_with("$argon2id$v=19$m=19456,t=2,p=1$")).await;
    until("the end of both upgrades", async || pods.iter().all(|pod| pod.upgrades.available_permits() == 2)).await;
    let replaced = stored();
    verified(&pods[0], "ana").await;
    assert_eq!(stored(), replaced);
}

#[tokio::test]
async fn r51_an_account_that_cannot_write_refuses_nobody() {
    let server = MariaDbServer::shared();
    let (name, plan) = mariadb::people(&server, "", &mariadb::ana("varchar(40)", BCRYPT), mariadb::PERSON);
    let user = format!("reader_{name}");
    server.sql(&format!(
        "CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON {name}.* TO {user}@'127.0.0.1'"
    ));
    let text = "UPDATE people SET password = ? WHERE password = ?";
    let upgrade = Some(statement(text, &[Parameter::NewHash, Parameter::OldHash]));
    let database = open(&DatabaseDirectory { upgrade, user, ..plan });
    for _ in 0..2 {
        verified(&database, "ana").await;
        until("the end of the upgrade", async || database.upgrades.available_permits() == 2).await;
    }
    assert_eq!(server.sql(&format!("SELECT password FROM {name}.people")), BCRYPT);
}
