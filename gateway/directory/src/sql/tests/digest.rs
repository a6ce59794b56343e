//! Hashes of the Digest scheme in real databases.

use idm_plan::{DigestAlgorithm, DigestColumn};
use idm_trust::{AccountState, HashAnswer, NameAsked};

use super::*;

const HASH: &str = "3BA6CD94661C5EF34598040C868C73E2E4B4C2BDDC9F3D16C1B2E7F9B1E0A5D4";

fn table() -> String {
    format!(
        "CREATE TABLE people (username varchar(40), password varchar(40), ha1 varchar(64), enabled boolean);
         INSERT INTO people VALUES ('ana', NULL, '{HASH}', true), ('off', NULL, '{HASH}', false),
           ('none', NULL, NULL, true), ('odd', NULL, 'canary-no-hash', true)"
    )
}

async fn is_read(plan: DatabaseDirectory) {
    let column = DigestColumn { realm: "shop".into(), algorithm: DigestAlgorithm::Sha256 };
    let database = open(&DatabaseDirectory { digest: Some(column), ..plan.clone() });
    let ask = async |name: &str| {
        let asked = NameAsked { username: name.into(), caller: None };
        database.hash(asked, soon()).await
    };
    let Ok(HashAnswer::Known(hash, person)) = ask("ana").await else { panic!("ana has a hash") };
    assert_eq!((hash.reveal().as_str(), person.username.as_str()), (HASH.to_lowercase().as_str(), "ana"));
    assert!(!person.claims.contains_key("ha1"), "{person:?}");
    let refused = async |name: &str| match ask(name).await {
        Ok(HashAnswer::Refused(why)) => why,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(refused("off").await, LoginRefused::Account(AccountState::Disabled));
    assert_eq!(refused("none").await, LoginRefused::WrongPassword);
    let odd = refused("odd").await;
    assert!(matches!(&odd, LoginRefused::StoredPassword(why) if !why.contains("canary")), "{odd:?}");
    for nobody in ["nobody", "ana ' OR '1'='1", "ANA "] {
        assert!(matches!(ask(nobody).await, Ok(HashAnswer::Unknown)), "{nobody}");
    }
    // Without the column in the Federation none is given, and without it in the query nobody is read.
    let without = open(&plan).hash(NameAsked { username: "ana".into(), caller: None }, soon()).await;
    assert_eq!(without.unwrap_err().kind, DirectoryErrorKind::Unusable);
}

#[tokio::test]
async fn hashes_are_read_from_postgresql() {
    let server = PostgresServer::shared();
    let query = "SELECT username, password, ha1, enabled FROM people WHERE username = $1";
    is_read(postgres::people(&server, &table(), query).1).await;
}

#[tokio::test]
async fn hashes_are_read_from_mariadb() {
    let server = MariaDbServer::shared();
    let query = "SELECT username, password, ha1, enabled FROM people WHERE username = ?";
    is_read(mariadb::people(&server, "", &table(), query).1).await;
}
