use idm_audit::{RecordFilter, Spool, SpoolConfig};
use idm_compile::request_hash;
use serde_json::json;

use super::*;
use crate::permissions::Trust;
use crate::reconcile::api_server::{ApiServer, NAMESPACE};
use crate::reconcile::parity;

const NOTHING: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n";
const START: u64 = 1_800_000_000_000;
const DAY: u64 = 24 * 3_600_000;
/// RFC 7515 §A.3.
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

/// A namespace with a request of ana, and the operator that works on it.
struct Bed {
    server: Arc<ApiServer>,
    context: Context,
    now: u64,
}

fn request() -> Value {
    json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "CredentialRequest",
        "metadata": {"name": "nightly", "namespace": NAMESPACE, "uid": "u-1", "generation": 1,
            "creationTimestamp": Timestamp(START).rfc3339(), "labels": {"identity-manager.io/team": "checkout"}},
        "spec": {
            "requester": {"username": "ana"}, "purpose": "a nightly export",
            "recipient": {"jwk": json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y}).to_string()},
            "credential": {"apiKey": {}, "labels": [{"name": "plan", "value": "gold"}], "roles": ["reader"],
                "access": {"policies": ["orders"]}, "expireTime": "2030-01-01T00:00:00Z"},
        },
    })
}

impl Bed {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(spool: Option<SpoolHandle>) -> Self {
        let server = ApiServer::new(NOTHING, NOTHING);
        let context = Context { requests: Board::new(spool), ..parity::context(&server) };
        context.permissions.believe(Trust::Since(Timestamp(START - DAY)));
        let bed = Self { server, context, now: START + 60_000 };
        bed.store(&request());
        bed
    }

    fn store(&self, object: &Value) {
        let stored = self.server.put("credentialrequests", object);
        self.watch(&stored);
    }

    /// The watch brings an object.
    fn watch(&self, object: &Value) {
        let object = serde_json::from_value(object.clone()).expect("an object");
        self.context.store.replace(Kind::CredentialRequest, Arc::new(object));
    }

    fn stored(&self) -> Value {
        self.server.request("nightly").expect("the request")
    }

    /// One round of work, with what the watch brings of it. The state afterwards.
    async fn work(&self) -> String {
        work(&self.context, Timestamp(self.now)).await;
        self.watch(&self.stored());
        tell::state_of(&self.stored()["status"]).unwrap_or("none").to_owned()
    }

    /// Somebody changes the spec.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut object = self.stored();
        change(&mut object);
        let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
        self.store(&object);
    }

    fn answer(&self, decision: &str, by: &str, hash: &str) {
        let answer = json!({"decision": decision, "by": {"username": by}, "hash": hash, "reason": "of a test"});
        self.edit(|object| object["spec"]["approval"] = answer);
    }

    async fn approved() -> Self {
        let bed = Self::new();
        assert_eq!(bed.work().await, "Pending");
        bed.answer("Approved", "omar", &request_hash(&request()));
        bed
    }

    fn secret(&self) -> std::collections::BTreeMap<String, String> {
        self.server.values("nightly-key-hash").unwrap_or_default()
    }
}

#[tokio::test]
async fn a_request_gets_its_hash_and_an_approval_one_credential_with_one_key() {
    let bed = Bed::approved().await;
    let approved = bed.stored();
    assert_eq!(approved["status"]["hash"], request_hash(&request()));
    assert_eq!(bed.work().await, "Issued");
    let (made, secret, status) = (bed.server.made("nightly").unwrap(), bed.secret(), bed.stored()["status"].clone());
    assert_eq!(made["spec"]["owner"], json!({"user": "ana"}));
    assert_eq!(made["spec"]["secretRef"]["name"], "nightly-key-hash");
    assert_eq!(made["metadata"]["labels"]["identity-manager.io/team"], "checkout");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(status["credential"], json!({"name": "nightly", "keyId": &secret["sha256"][..12]}));
    assert_eq!(status["encryptedKey"], secret["encryptedKey"]);
    assert_eq!(secret["sha256"].len(), 64);
    // A watch that is behind makes no other key, and takes no status back.
    let mut unread = approved.clone();
    unread["spec"].as_object_mut().unwrap().remove("approval");
    for stale in [unread, approved, bed.stored()] {
        bed.watch(&stale);
        assert_eq!(bed.work().await, "Issued");
        assert_eq!(bed.secret(), secret);
        assert_eq!(bed.stored()["status"], status);
    }
}

/// What is written at each place is searched for what must not be there.
#[tokio::test]
async fn r89_the_key_is_nowhere_in_clear_text() {
    let bed = Bed::approved().await;
    bed.work().await;
    let everything = format!("{:?} {} {:?}", bed.server.all_secrets(), bed.stored(), bed.server.made("nightly"));
    assert!(!everything.contains("idm_"), "{everything}");
    let names: Vec<_> = bed.secret().into_keys().collect();
    assert_eq!(names, ["encryptedKey", "sha256"]);
}

#[tokio::test]
async fn an_interruption_between_any_two_writes_makes_no_second_key() {
    for refused in ["credentials", "status"] {
        let bed = Bed::approved().await;
        if refused == "credentials" {
            bed.server.refuse("/credentials");
            assert_eq!(bed.work().await, "Pending", "the Secret is there, and the Credential is not");
            bed.server.refuse_nothing();
        } else {
            // The operator was killed before it wrote the status.
            let before = bed.stored();
            assert_eq!(bed.work().await, "Issued");
            bed.store(&before);
        }
        let secret = bed.secret();
        assert_eq!(secret.len(), 2);
        assert_eq!(bed.work().await, "Issued");
        assert_eq!(bed.secret(), secret, "{refused}");
        assert_eq!(bed.stored()["status"]["encryptedKey"], secret["encryptedKey"]);
    }
}

#[tokio::test]
async fn the_ciphertext_goes_when_it_was_received_and_when_nobody_came() {
    let bed = Bed::approved().await;
    bed.work().await;
    bed.edit(|object| object["spec"]["received"] = json!(true));
    assert_eq!(bed.work().await, "Received");
    let status = bed.stored()["status"].clone();
    assert!(status["encryptedKey"].is_null() && status["keyUntilTime"].is_null(), "{status}");
    assert_eq!(status["credential"]["name"], "nightly");
    assert_eq!(bed.secret().into_keys().collect::<Vec<_>>(), ["sha256"]);

    let mut bed = Bed::approved().await;
    bed.work().await;
    bed.now += 7 * DAY - 1;
    assert_eq!(bed.work().await, "Issued");
    bed.now += 1;
    assert_eq!(bed.work().await, "NotReceived");
    assert!(bed.stored()["status"]["encryptedKey"].is_null());
    assert_eq!(bed.secret().into_keys().collect::<Vec<_>>(), ["sha256"]);
}

#[tokio::test]
async fn r87_an_answer_to_another_request_or_of_the_requester_makes_nothing() {
    let hash = request_hash(&request());
    for (by, hash, state) in [("omar", "0".repeat(64), "StaleAnswer"), ("ana", hash.clone(), "StaleAnswer")] {
        let bed = Bed::new();
        bed.work().await;
        bed.answer("Approved", by, &hash);
        assert_eq!(bed.work().await, state, "{by}");
        assert!(bed.server.made("nightly").is_none() && bed.secret().is_empty());
    }
    // r88: it moves to another team after it was approved, and before the Credential is made.
    let bed = Bed::approved().await;
    bed.edit(|object| object["metadata"]["labels"]["identity-manager.io/team"] = json!("other"));
    assert_eq!(bed.work().await, "StaleAnswer");
    assert!(bed.server.made("nightly").is_none());
    // The watch still shows the one that was approved, and another one of its name is stored.
    let bed = Bed::approved().await;
    let mut other = bed.stored();
    other["metadata"]["uid"] = json!("u-2");
    other["spec"]["credential"]["roles"] = json!(["admin"]);
    bed.server.put("credentialrequests", &other);
    bed.work().await;
    assert!(bed.server.made("nightly").is_none() && bed.secret().is_empty());
}

#[tokio::test]
async fn a_rejected_request_and_one_that_nobody_answered_end() {
    let bed = Bed::new();
    bed.work().await;
    bed.answer("Rejected", "omar", &request_hash(&request()));
    assert_eq!(bed.work().await, "Rejected");
    let message = bed.stored()["status"]["conditions"][3]["message"].clone();
    assert_eq!(message, "omar rejected it: of a test");

    let mut bed = Bed::new();
    bed.work().await;
    bed.now = START + 14 * DAY - 1;
    assert_eq!(bed.work().await, "Pending");
    bed.now += 1;
    assert_eq!(bed.work().await, "Expired");
    assert!(bed.stored()["status"]["hash"].is_null(), "so the API server takes no answer");
    bed.answer("Approved", "omar", &request_hash(&request()));
    assert_eq!(bed.work().await, "Expired");
    assert!(bed.server.made("nightly").is_none());
}

#[tokio::test]
async fn what_cannot_be_fulfilled_cannot_be_answered() {
    let bed = Bed::new();
    bed.edit(|object| object["spec"]["credential"]["expireTime"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(bed.work().await, "Invalid");
    let status = bed.stored()["status"].clone();
    assert!(status["hash"].is_null() && status.to_string().contains("must lie in the future"), "{status}");
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_over() {
    let bed = Bed::approved().await;
    let owned = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "another"}]);
    let credential = json!({"apiVersion": "identity-manager.io/v1alpha1", "kind": "Credential",
        "metadata": {"name": "nightly", "namespace": NAMESPACE, "ownerReferences": owned}, "spec": {"apiKey": {}}});
    bed.server.put("credentials", &credential);
    assert_eq!(bed.work().await, "Conflicted");
    assert!(bed.secret().is_empty());

    let bed = Bed::approved().await;
    let labels = json!({"app.kubernetes.io/managed-by": "idm-operator"});
    bed.server.write(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "nightly-key-hash", "labels": labels}, "stringData": {"sha256": "planted"}}));
    assert_eq!(bed.work().await, "Conflicted");
    assert!(bed.server.made("nightly").is_none());
}

/// Without the guard nobody compares the names of a request with those of the API server.
#[tokio::test]
async fn r87_what_was_written_without_the_guard_counts_for_nothing() {
    let weak = || Trust::Weak("it was changed".into());
    let strong = || Trust::Since(Timestamp(START - DAY));
    // Asked for without it.
    let bed = Bed::new();
    bed.context.permissions.believe(weak());
    assert_eq!(bed.work().await, "GuardNotInForce");
    assert!(bed.stored()["status"]["hash"].is_null());
    bed.context.permissions.believe(strong());
    bed.answer("Approved", "omar", &request_hash(&request()));
    assert_eq!(bed.work().await, "GuardNotInForce", "for good");
    // Answered without it.
    let bed = Bed::new();
    bed.work().await;
    bed.context.permissions.believe(weak());
    assert_eq!(bed.work().await, "Pending", "what was seen before still counts");
    bed.answer("Approved", "omar", &request_hash(&request()));
    assert_eq!(bed.work().await, "GuardNotInForce");
    bed.context.permissions.believe(strong());
    assert_eq!(bed.work().await, "GuardNotInForce");
    // The guard is younger than the request, or nobody looked at it yet.
    let bed = Bed::new();
    bed.context.permissions.believe(Trust::Unknown);
    assert_eq!(bed.work().await, "none");
    bed.context.permissions.believe(Trust::Since(Timestamp(START - 1000)));
    assert_eq!(bed.work().await, "GuardNotInForce");
    assert!(bed.server.made("nightly").is_none());
}

#[tokio::test]
async fn every_step_is_one_record_with_who_and_the_hash() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(SpoolConfig::in_folder(dir.path(), 1 << 20)).unwrap();
    let mut bed = Bed::with(Some(spool.spool_handle()));
    let hash = request_hash(&request());
    for _ in 0..2 {
        bed.work().await;
    }
    bed.now += 1000;
    bed.answer("Approved", "omar", &hash);
    for _ in 0..2 {
        bed.work().await;
    }
    bed.now += 8 * DAY;
    bed.work().await;
    bed.context.requests.finish();
    spool.close();
    let told = idm_audit::read(dir.path(), &RecordFilter::default(), None, 100).unwrap().items;
    let mut told: Vec<Value> = told.iter().map(|record| record.value().clone()).collect();
    told.sort_by_key(|record| record["@timestamp"].to_string());
    let steps: Vec<_> = told.iter().map(|record| (record["actor"].as_str(), record["diff"][0].as_str())).collect();
    let expected = [
        (Some("ana"), Some("state: none → Pending")),
        (Some("omar"), Some("state: Pending → Issued")),
        (Some("idm-operator"), Some("state: Issued → NotReceived")),
    ];
    assert_eq!(steps, expected, "{told:#?}");
    assert!(told.iter().all(|record| record["diff"].to_string().contains(&format!("hash: {hash}"))), "{told:#?}");
}
