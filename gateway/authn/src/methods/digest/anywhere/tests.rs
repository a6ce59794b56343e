use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use idm_plan::{
    DatabaseDirectory, DatabaseProduct, DigestAlgorithm, DigestColumn, DigestMethod, DirectoryServer, DirectorySource,
    ObjectKey, Protection, Quality, SecretHandle, Secrets, Statement,
};
use idm_trust::{
    AccountState, Asked, Directories, Directory, DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused,
    Password,
};
use idm_types::Timestamp;

use super::super::tests::{Case, NOW};
use super::super::{digest_of, nonce};
use super::*;
use crate::directory::tests::opened;
use crate::method::{Attempt, Method};

const ALGORITHM: DigestAlgorithm = DigestAlgorithm::Sha256;

/// A table in which `eva` is, with the password `canary`, and `gone`, who is disabled.
#[derive(Default)]
struct Table {
    asked: AtomicUsize,
    is_away: AtomicBool,
}

struct Shared(Arc<Table>);

fn no_answer<T: Send + 'static>(why: &str) -> Asked<T> {
    Box::pin(std::future::ready(Err(DirectoryError::new(DirectoryErrorKind::Unavailable, why))))
}

impl Directory for Shared {
    fn verify(&self, _: Login) -> Asked<LoginAnswer> {
        no_answer("no password comes here")
    }

    fn change(&self, _: Login, _: Password) -> Asked<LoginAnswer> {
        no_answer("no password comes here")
    }

    fn look_up(&self, _: String, _: String) -> Asked<LoginAnswer> {
        no_answer("nobody is looked up")
    }

    fn hash(&self, asked: NameAsked) -> Asked<HashAnswer> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        if self.0.is_away.load(Ordering::Relaxed) {
            return no_answer("away");
        }
        let answer = match asked.username.as_str() {
            "eva" => {
                let person = Person {
                    id: "7".into(),
                    username: "eva".into(),
                    claims: serde_json::Map::new(),
                    groups: Vec::new(),
                };
                HashAnswer::Known(Redacted::new(digest_of(ALGORITHM, &[b"eva:r:canary"])), Box::new(person))
            }
            "gone" => HashAnswer::Refused(LoginRefused::Account(AccountState::Disabled)),
            _ => HashAnswer::Unknown,
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

impl Directories for Shared {
    fn open(&self, _: &ObjectKey, _: &idm_plan::Directory, _: &Secrets) -> Result<Arc<dyn Directory>, String> {
        Ok(Arc::new(Shared(self.0.clone())))
    }
}

fn armed(table: &Arc<Table>) -> ArmedDirectory {
    let by_name = Statement { text: "SELECT 1".into(), parameters: vec![idm_plan::Parameter::Username] };
    let database = DatabaseDirectory {
        product: DatabaseProduct::PostgreSql,
        server: DirectoryServer { host: "127.0.0.1".into(), port: 1, protection: Protection::Loopback },
        tls: None,
        database: "shop".into(),
        user: "gateway".into(),
        password: SecretHandle("db".into()),
        person: by_name,
        by_id: None,
        groups: None,
        always_enabled: false,
        ignores_case: false,
        legacy_formats: vec![],
        digest: Some(DigestColumn { realm: "r".into(), algorithm: ALGORITHM }),
        upgrade: None,
    };
    opened(DirectorySource::Database(Box::new(database)), vec![], Arc::new(Shared(table.clone())))
}

/// A method whose Credential is `ana`, with the table besides.
fn case(table: &Arc<Table>) -> Case {
    let mut case = Case::new(ALGORITHM, "r", "ana", "secret");
    let mut secrets = Secrets::default();
    for (name, value) in [("h", digest_of(ALGORITHM, &[b"ana:r:secret"])), ("db", "canary-db".into())] {
        secrets.put(SecretHandle(name.into()), Redacted::new(value.into_bytes()));
    }
    let plan =
        DigestMethod { qualities: vec![Quality::Auth], directories: vec!["corp".into()], ..case.digest.plan.clone() };
    case.digest = ArmedDigest::over(&plan, &secrets, vec![Arc::new(armed(table))]).unwrap();
    case
}

/// The verdict on the response that somebody makes with this password: the user name, or the reason.
async fn verdict(case: &Case, username: &str, password: &str, nonce: &str, nc: u32) -> Result<String, Reason> {
    let ha1 = digest_of(ALGORITHM, &[format!("{username}:r:{password}").as_bytes()]);
    let name = format!("username=\"{username}\"");
    let credential = case.credential(ALGORITHM, &ha1, nonce, nc, "auth", "GET", "/", b"", &name);
    case.in_context("GET", "/", None, async |context| match case.digest.verify(context, &credential).await {
        Attempt::Verified(verdict) => Ok(verdict.identity.username.clone()),
        Attempt::Rejected(denied) | Attempt::NotMine(denied) | Attempt::NeedsKeys(_, _, denied) => Err(denied.reason),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_hash_of_a_table_proves_its_person_once_and_nobody_else() {
    let table = Arc::new(Table::default());
    let case = case(&table);
    let nonce = nonce::make(&case.digest.nonce_key, NOW).unwrap();
    assert_eq!(verdict(&case, "eva", "canary", &nonce, 1).await, Ok("eva".into()));
    assert_eq!(verdict(&case, "eva", "canary", &nonce, 1).await, Err(Reason::ReplayedNonce));
    assert_eq!(verdict(&case, "eva", "wrong", &nonce, 2).await, Err(Reason::WrongPassword));
    assert_eq!(verdict(&case, "nobody", "canary", &nonce, 3).await, Err(Reason::WrongPassword));
    assert_eq!(verdict(&case, "gone", "canary", &nonce, 4).await, Err(Reason::AccountDisabled));
    // A Credential is asked before, and no table about it.
    let asked = table.asked.load(Ordering::Relaxed);
    assert_eq!(verdict(&case, "ana", "secret", &nonce, 5).await, Ok("ana".into()));
    // Nor is it asked for a nonce that is not ours, or old.
    assert_eq!(verdict(&case, "eva", "canary", "AAAA", 6).await, Err(Reason::StaleNonce));
    let old = nonce::make(&case.digest.nonce_key, Timestamp(NOW.0 - 60_000)).unwrap();
    assert_eq!(verdict(&case, "eva", "canary", &old, 7).await, Err(Reason::StaleNonce));
    assert_eq!(table.asked.load(Ordering::Relaxed), asked);
    assert!(case.digest.challenges(false, NOW)[0].contains("userhash=false"));
}

#[tokio::test(start_paused = true)]
async fn guesses_with_a_table_are_counted_and_an_outage_is_none() {
    let table = Arc::new(Table::default());
    let case = case(&table);
    let nonce = nonce::make(&case.digest.nonce_key, NOW).unwrap();
    table.is_away.store(true, Ordering::Relaxed);
    for nc in 1..8 {
        assert_eq!(verdict(&case, "eva", "canary", &nonce, nc).await, Err(Reason::DirectoryUnavailable));
    }
    table.is_away.store(false, Ordering::Relaxed);
    for nc in 8..13 {
        assert_eq!(verdict(&case, "eva", "wrong", &nonce, nc).await, Err(Reason::WrongPassword));
    }
    let asked = table.asked.load(Ordering::Relaxed);
    assert_eq!(verdict(&case, "eva", "canary", &nonce, 13).await, Err(Reason::TooManyAttempts));
    assert_eq!(table.asked.load(Ordering::Relaxed), asked, "who must wait is not asked about");
}
