use std::sync::Arc;

use idm_api::v1alpha1::CredentialSpec;
use idm_compile::{Meta, Settings, compile};
use idm_plan::{EndCause, Keys, Proof};
use idm_types::hex;
use serde_json::json;

use super::*;
use crate::reconcile::api_server::{ApiServer, HOME, NAMESPACE};

const NOTHING: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n";
const HOUR: u64 = 3_600_000;
const START: u64 = 1_800_000_000_000;

/// A namespace with one Credential, an API server, and an operator that can be started anew.
struct Bed {
    server: Arc<ApiServer>,
    registers: Registers,
    spec: CredentialSpec,
    meta: Meta,
    now: u64,
}

impl Bed {
    async fn new(spec: serde_json::Value) -> Self {
        let meta = Meta { name: "robot".into(), uid: "u".into(), ..Meta::default() };
        let spec = serde_json::from_value(spec).expect("a spec");
        let bed =
            Self { server: ApiServer::new(NOTHING, NOTHING), registers: Registers::default(), spec, meta, now: START };
        // The operator makes the Secret.
        let mut world = bed.world();
        crate::credentials::supply(&mut world, &bed.server.client()).await.expect("it is made");
        bed
    }

    fn world(&self) -> World {
        let mut world = World::new(NAMESPACE, Settings::default());
        world.credentials.push(Object { meta: self.meta.clone(), spec: self.spec.clone() }.into());
        if let Some(values) = self.server.values("robot") {
            let values = values.into_iter().map(|(key, value)| (key, Redacted::new(value.into_bytes())));
            world.secrets.insert("robot".into(), values.collect());
        }
        world
    }

    fn key(&self) -> String {
        self.server.values("robot").expect("the Secret")["key"].clone()
    }

    /// One reconcile: what it tells, and the keys of the bundle that it would write. `refused` tells whether gateways
    /// acknowledge it.
    async fn reconcile(&self, refused: bool) -> (Vec<String>, Keys, idm_plan::Credentials) {
        let client = self.server.client();
        let work = KeyWork { client: &client, registers: &self.registers, home: HOME, now: Timestamp(self.now) };
        let (mut world, mut report) = (self.world(), Report::default());
        work.remember(&mut world).await.expect("a register");
        work.advance(&mut world, &mut report).await.expect("it goes on");
        let compiled = compile(&world, None);
        work.finish_leaked(&mut world, refused).await.expect("it goes on");
        let told = report.findings().iter().map(ToString::to_string).collect();
        let proof = compiled.credentials.all.first().map(|credential| credential.proof.clone());
        let Some(Proof::ApiKey { keys, .. }) = proof else { panic!("{:?}", compiled.report) };
        (told, keys, compiled.credentials)
    }

    fn ask(&mut self, request: &str, overlap: Option<&str>) {
        self.meta.rotate =
            Some(overlap.map_or_else(|| request.into(), |overlap| format!("{request} overlap={overlap}")));
    }
}

fn hash(key: &str) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref())
}

fn current(keys: &Keys) -> Option<&str> {
    keys.current.as_ref().map(|key| key.sha256.as_str())
}

#[tokio::test]
async fn r56_a_request_makes_the_next_key_once_and_the_old_one_has_its_end() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let old = bed.key();
    bed.ask("r1", Some("24h"));
    let (told, keys, _) = bed.reconcile(true).await;
    let new = bed.key();
    assert!(told.is_empty() && new != old && ApiKey::is_well_formed(&new), "{told:?}");
    let retiring = keys.retiring.as_ref().expect("the old key works");
    assert_eq!((current(&keys), retiring.sha256.as_str()), (Some(hash(&new).as_str()), hash(&old).as_str()));
    assert_eq!(retiring.end.at.0, START + 24 * HOUR);
    for _ in 0..2 {
        // Another process, which knows what is stored and nothing else.
        bed.registers = Registers::default();
        bed.now += HOUR;
        assert_eq!(bed.reconcile(true).await.1, keys);
        assert_eq!(bed.key(), new);
    }
}

#[tokio::test]
async fn r57_after_a_leak_the_old_key_is_refused_everywhere_before_there_is_a_new_one() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let old = bed.key();
    bed.ask("leak", Some("0"));
    for _ in 0..2 {
        let (_, keys, credentials) = bed.reconcile(false).await;
        assert_eq!(keys, Keys::default(), "no key works");
        assert_eq!(
            (credentials.ended[0].sha256.as_str(), credentials.ended[0].end.cause),
            (hash(&old).as_str(), EndCause::Revoked)
        );
        assert_eq!(bed.key(), old, "a gateway does not know it yet");
    }
    bed.reconcile(true).await;
    let (_, keys, credentials) = bed.reconcile(true).await;
    let new = bed.key();
    assert_ne!(new, old);
    assert_eq!((current(&keys), keys.retiring.is_none()), (Some(hash(&new).as_str()), true));
    assert_eq!(credentials.ended.len(), 1);
}

#[tokio::test]
async fn r57_a_gateway_that_never_answers_does_not_keep_the_new_key_for_ever() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let old = bed.key();
    bed.ask("leak", Some("0"));
    bed.reconcile(false).await;
    bed.now += LEARN_MS;
    bed.reconcile(false).await;
    assert_ne!(bed.key(), old);
}

#[tokio::test]
async fn r59_neither_the_secret_nor_the_register_restored_from_a_backup_brings_a_key_back() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let old = bed.key();
    let labels = json!({"app.kubernetes.io/managed-by": MANAGER, "identity-manager.io/credential": "robot"});
    let secret = |key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "robot", "labels": labels},
            "stringData": {"key": key}})
    };
    bed.reconcile(true).await;
    bed.meta.revoke = Some(key_id(&hash(&old)).to_owned());
    let (_, keys, _) = bed.reconcile(true).await;
    assert_eq!(keys, Keys::default());
    // The annotation goes, the Secret is written again, another process starts.
    bed.meta.revoke = None;
    bed.server.write(&secret(&old));
    bed.registers = Registers::default();
    assert_eq!(bed.reconcile(true).await.1, Keys::default());
    // A new key is asked for and made; then the Secret is restored.
    bed.ask("r1", Some("24h"));
    let (_, keys, _) = bed.reconcile(true).await;
    let new = bed.key();
    assert_eq!(
        (current(&keys), keys.retiring.is_none()),
        (Some(hash(&new).as_str()), true),
        "no overlap for a dead key"
    );
    bed.server.write(&secret(&old));
    let (told, keys, credentials) = bed.reconcile(true).await;
    assert!(told.is_empty() && keys == Keys::default(), "{told:?}");
    assert!(credentials.ended.iter().any(|ended| ended.sha256 == hash(&old)));
    // The register itself is restored while the operator runs: the next write finds it, and keeps both.
    bed.server.write(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("idm-credential-keys-{NAMESPACE}")}, "stringData": {"register.json": "{}"}}));
    bed.server.write(&secret(&new));
    bed.meta.revoke = Some(key_id(&hash(&new)).to_owned());
    let client = bed.server.client();
    let work = KeyWork { client: &client, registers: &bed.registers, home: HOME, now: Timestamp(bed.now) };
    let mut world = bed.world();
    work.remember(&mut world).await.expect("it is in memory");
    assert!(work.advance(&mut world, &mut Report::default()).await.is_err(), "somebody else wrote it");
    assert_eq!(bed.reconcile(true).await.1, Keys::default());
    bed.registers = Registers::default();
    bed.meta.revoke = None;
    for key in [&old, &new] {
        bed.server.write(&secret(key));
        assert_eq!(bed.reconcile(true).await.1, Keys::default(), "what is stored has both again");
    }
}

#[tokio::test]
async fn r69_a_secret_of_somebody_else_is_not_rotated_and_its_change_takes_effect_as_ever() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let theirs = |n: u8| ApiKey::from_random([n; 32]).reveal().to_owned();
    let write = |bed: &Bed, key: &str| {
        bed.server.write(&json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"key": key}, "metadata": {
            "name": "robot", "managedFields": [{"manager": "external-secrets", "operation": "Update",
                "apiVersion": "v1", "time": "2026-01-01T00:00:00Z"}]}}));
    };
    write(&bed, &theirs(1));
    bed.ask("r1", None);
    let (told, keys, _) = bed.reconcile(true).await;
    assert_eq!(current(&keys), Some(hash(&theirs(1)).as_str()));
    assert!(told.len() == 1 && told[0].contains("is written by 'external-secrets'"), "{told:?}");
    assert_eq!(bed.key(), theirs(1));
    write(&bed, &theirs(2));
    let (_, keys, _) = bed.reconcile(true).await;
    assert_eq!((current(&keys), keys.retiring.is_none()), (Some(hash(&theirs(2)).as_str()), true));
}

#[tokio::test]
async fn a_schedule_replaces_a_key_at_its_age() {
    let spec = json!({"apiKey": {}, "secretRef": {"name": "robot"},
        "rotation": {"every": {"hours": 48}, "overlap": {"hours": 2}}});
    let mut bed = Bed::new(spec).await;
    let first = bed.key();
    bed.reconcile(true).await;
    bed.now += 48 * HOUR - 1;
    bed.reconcile(true).await;
    assert_eq!(bed.key(), first);
    bed.now += 1;
    let (_, keys, _) = bed.reconcile(true).await;
    let second = bed.key();
    assert_ne!(second, first);
    assert_eq!(keys.retiring.expect("the old one works").end.at.0, bed.now + 2 * HOUR);
    bed.now += 47 * HOUR;
    bed.registers = Registers::default();
    bed.reconcile(true).await;
    assert_eq!(bed.key(), second);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_replaces_nothing() {
    let mut bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    let key = bed.key();
    bed.ask("r1", Some("tomorrow"));
    let (told, ..) = bed.reconcile(true).await;
    assert!(told.len() == 1 && told[0].contains("may have `overlap=24h`"), "{told:?}");
    assert_eq!(bed.key(), key);
}

#[tokio::test]
async fn a_register_that_cannot_be_read_stops_the_namespace_s_changes() {
    let bed = Bed::new(json!({"apiKey": {}, "secretRef": {"name": "robot"}})).await;
    bed.server.write(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("idm-credential-keys-{NAMESPACE}")}, "stringData": {"register.json": "{"}}));
    let client = bed.server.client();
    let work = KeyWork { client: &client, registers: &bed.registers, home: HOME, now: Timestamp(bed.now) };
    let error = work.remember(&mut bed.world()).await.expect_err("it is broken").to_string();
    assert!(error.starts_with("Secret idm-system/idm-credential-keys-shop"), "{error}");
}
