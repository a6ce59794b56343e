//! Secrets that the operator stores are sealed, open for the gateways of their namespace, and get other keys step by
//! step.

use clap::Parser;
use idm_envelope::{Envelope, KeySet, Place, Sealed, SharedKeys, is_sealed};
use idm_plan::{Bundle, SHARD_FIELD, SHARD_VERSIONS, SecretHandle};
use idm_types::Redacted;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::api_server::{ApiServer, HOME, NAMESPACE};
use super::parity::{DELETED, SAMPLES, context};
use super::*;
use crate::sealing::{Census, GATEWAY_KEYS, Sealing, SealingOptions};

/// Secrets that people wrote, which must be in nothing that is stored for gateways.
const CANARIES: [&str; 2] = ["replace-me", "hunter2-store"];

/// Objects of two gateways: one of Services, and one of a Gateway.
fn samples() -> String {
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "idm"}, "spec": {"controllerName": "identity-manager.io/gateway-controller"}});
    format!("{SAMPLES}---\n{class}\n")
}

#[derive(Parser)]
struct Given {
    #[command(flatten)]
    sealing: SealingOptions,
}

/// The Secret with the keys of the operator. Each id is of one digit, which makes its key.
fn put_keys(server: &ApiServer, primary: &str, ids: &[&str]) {
    let key = |id: &str| [id.as_bytes()[0]; 32].iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut data: serde_json::Map<String, Value> = ids.iter().map(|id| ((*id).into(), key(id).into())).collect();
    data.insert("primary".into(), primary.into());
    server.write(&json!({"kind": "Secret", "metadata": {"name": "keys"}, "stringData": data}));
}

/// Another process.
async fn sealing(server: &Arc<ApiServer>) -> Sealing {
    let options = Given::parse_from(["operator", "--seal-key-secret=keys"]).sealing;
    options.sealing(&server.client(), HOME).await.expect("there are keys").expect("it is asked for")
}

async fn operator(server: &Arc<ApiServer>) -> Context {
    let mut context = context(server);
    context.sealing = Some(sealing(server).await);
    context.settings.sealing = Some(crate::sealing::GatewaySealing::Keys);
    context.settings.store_password = Some(Redacted::new(CANARIES[1].to_owned()));
    server.fill(&context.store);
    context
}

/// Reconciles until nothing is left to be made.
async fn run(context: &Context) -> anyhow::Result<()> {
    let queue = Arc::new(Queue::default());
    for _ in 0..3 {
        reconcile(context, &queue, NAMESPACE).await?;
    }
    Ok(())
}

/// The Secrets in which everything should be sealed.
fn ours(server: &ApiServer) -> Vec<Secret> {
    let is_ours = |name: &str| name == SIGNING_SECRET || name.starts_with("idm-gateway") && name != GATEWAY_KEYS;
    server.all_secrets().into_iter().filter(|secret| is_ours(&secret.name_any())).collect()
}

fn bundle_bytes(server: &ApiServer) -> Vec<u8> {
    let secret = ours(server).into_iter().find(|secret| secret.name_any() == "idm-gateway").expect("it was written");
    secret.data.expect("it has data")["bundle"].0.clone()
}

/// Opens every value of ours with the keys that the gateways of the namespace, or the operator, have.
async fn open_all(server: &ApiServer, keys: KeySet) -> Vec<(String, Vec<u8>)> {
    let envelope = Envelope::new(SharedKeys::new(keys));
    let mut opened = Vec::new();
    for secret in ours(server) {
        let object = secret.name_any();
        for (field, value) in secret.data.into_iter().flatten() {
            let field = if SHARD_VERSIONS.contains(&field.as_str()) { SHARD_FIELD } else { &field };
            let place = Place { namespace: NAMESPACE, object: &object, field };
            let plain = envelope.open(&place, &value.0).await.unwrap_or_else(|error| panic!("{place:?}: {error}"));
            opened.push((format!("{object}/{field}"), plain.reveal().clone()));
        }
    }
    opened.sort();
    opened
}

fn keys_of(server: &ApiServer, name: &str) -> KeySet {
    let secret = server.all_secrets().into_iter().find(|secret| secret.name_any() == name).expect("it is there");
    KeySet::parse(secret.data.unwrap().into_iter().map(|(field, value)| (field, value.0))).expect("a set")
}

fn bundle(opened: &[(String, Vec<u8>)]) -> Bundle {
    let (_, packed) = opened.iter().find(|(place, _)| place == "idm-gateway/bundle").expect("the bundle");
    Bundle::unpack(packed).expect("it is a bundle")
}

#[tokio::test]
async fn nothing_that_is_stored_shows_a_secret_and_the_gateways_of_the_namespace_open_it() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    let context = operator(&server).await;
    run(&context).await.unwrap();
    let secrets = ours(&server);
    let names: Vec<_> = secrets.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(names, ["idm-gateway", "idm-gateway-shop", SIGNING_SECRET]);
    for (name, value) in secrets.iter().flat_map(|secret| secret.data.iter().flatten()) {
        assert!(is_sealed(&value.0), "{name}");
        let has = |canary: &str| value.0.windows(canary.len()).any(|part| part == canary.as_bytes());
        assert!(!CANARIES.iter().any(|canary| has(canary)) && !has("\"d\""), "{name}");
    }
    assert!(!server.statuses().contains("SealingFailed"), "{}", server.statuses());

    let opened = open_all(&server, keys_of(&server, GATEWAY_KEYS)).await;
    let text = |place: &str| opened.iter().find(|(of, _)| of == place).map(|(_, value)| value.as_slice());
    for gateway in ["idm-gateway", "idm-gateway-shop"] {
        assert_eq!(text(&format!("{gateway}/store-password")), Some(CANARIES[1].as_bytes()));
    }
    assert!(text("idm-signing-keys/reports.json").is_some_and(|keys| keys.starts_with(b"{")));
    let secret = SecretHandle::of_secret("corp-client", "clientSecret");
    let known = bundle(&opened).secrets.get(&secret).map(|secret| secret.reveal().clone());
    assert_eq!(known.as_deref(), Some(CANARIES[0].as_bytes()));

    // Nothing is written again only because it is sealed, also by another process.
    let before = bundle_bytes(&server);
    server.written();
    run(&context).await.unwrap();
    let written = server.written();
    assert!(!written.iter().any(|path| path.contains("/secrets/")), "{written:?}");
    run(&operator(&server).await).await.unwrap();
    assert!(bundle_bytes(&server) == before, "the same bytes");
}

#[tokio::test]
async fn without_its_key_nothing_is_replaced_and_the_policies_name_the_key() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    run(&operator(&server).await).await.unwrap();
    let before = (bundle_bytes(&server), ours(&server));
    put_keys(&server, "2", &["2"]);
    let error = run(&operator(&server).await).await.unwrap_err().to_string();
    assert!(error.contains("there is no key `1` here"), "{error}");
    assert_eq!((bundle_bytes(&server), ours(&server)), before);
    let statuses = server.statuses();
    assert!(statuses.contains("SealingFailed") && statuses.contains("no key `1` here"), "{statuses}");
    put_keys(&server, "2", &["1", "2"]);
    run(&operator(&server).await).await.unwrap();
    assert!(!server.statuses().contains("SealingFailed"));
}

#[tokio::test]
async fn a_bundle_in_the_clear_is_sealed_and_nothing_of_it_is_kept_but_its_generation() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    let before_sealing = {
        let context = context(&server);
        server.fill(&context.store);
        context
    };
    run(&before_sealing).await.unwrap();
    let mut clear = server.bundle().borrow().clone().expect("it is in the clear");
    // Somebody writes another one.
    clear.plan.namespace = "forged".into();
    let forged = Bundle::seal(clear.plan, clear.secrets, clear.credentials, 41);
    let mut secret = server.all_secrets().into_iter().find(|secret| secret.name_any() == "idm-gateway").unwrap();
    secret.metadata.resource_version = None;
    secret.data.get_or_insert_default().insert("bundle".into(), ByteString(forged.pack().unwrap()));
    server.write(&serde_json::to_value(&secret).unwrap());
    run(&operator(&server).await).await.unwrap();
    let now = bundle(&open_all(&server, keys_of(&server, GATEWAY_KEYS)).await);
    assert_eq!((now.plan.namespace.as_str(), now.generation), (NAMESPACE, 42));
}

fn robots() -> String {
    let robot = |number: usize| {
        let key =
            idm_types::ApiKey::from_random([(number % 256) as u8, (number / 256) as u8].repeat(16).try_into().unwrap());
        let key = key.reveal().to_owned();
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key-{number}}}\nstringData: {{key: {key}}}\n---\n\
             apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot-{number}}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: key-{number}}}}}\n"
        )
    };
    (0..300).map(robot).collect()
}

/// The number of values of ours under each key.
fn counted(server: &ApiServer) -> std::collections::BTreeMap<String, usize> {
    let mut by_key = std::collections::BTreeMap::new();
    for value in ours(server).iter().flat_map(|secret| secret.data.iter().flatten()) {
        let sealed = Sealed::parse(&value.1.0).expect("it is sealed");
        *by_key.entry(sealed.key_id().to_owned()).or_default() += 1;
    }
    by_key
}

#[tokio::test]
async fn a_key_is_replaced_in_steps_each_of_which_may_be_the_last_for_a_while() {
    let server = ApiServer::new(&format!("{}{}", samples(), robots()), DELETED);
    put_keys(&server, "1", &["1"]);
    run(&operator(&server).await).await.unwrap();
    let values = counted(&server);
    assert_eq!(values.keys().collect::<Vec<_>>(), ["1"]);
    let all = values["1"];
    assert!(all > 64, "bundle, store password, signing keys and shards");
    let plain = open_all(&server, keys_of(&server, "keys")).await;

    put_keys(&server, "2", &["1", "2"]);
    for steps in 0.. {
        // The process ends after so many writes, and another one begins anew.
        server.fail_after([0, 1, 1, 2].get(steps).copied().unwrap_or(9));
        let rekeyed = sealing(&server).await.rekey(|_| {}).await;
        server.fail_after(usize::MAX);
        assert!(open_all(&server, keys_of(&server, "keys")).await == plain, "after step {steps}");
        let census = sealing(&server).await.census().await.unwrap();
        assert_eq!(census.by_key, counted(&server));
        assert_eq!(census.by_key.values().sum::<usize>(), all);
        if rekeyed.is_ok() {
            break;
        }
        assert_eq!(census.removable().count(), 0, "key 1 is in use");
        assert!(steps < 20, "it ends");
    }
    assert_eq!(counted(&server), [("2".to_owned(), all)].into());
    let process = sealing(&server).await;
    let census = process.census().await.unwrap();
    assert_eq!(census.removable().collect::<Vec<_>>(), ["1"]);
    let text = census.text();
    assert!(text.contains(&format!("\nidm_sealed_values{{key=\"2\"}} {all}\n")), "{text}");
    assert!(text.ends_with("\nidm_unsealed_secrets 0\n"), "{text}");
    assert_eq!(process.rekey(|_| {}).await.unwrap().written, 0, "it is done");

    // The old key is not needed for anything.
    put_keys(&server, "2", &["2"]);
    run(&operator(&server).await).await.unwrap();
    let opened = open_all(&server, keys_of(&server, GATEWAY_KEYS)).await;
    assert_eq!(bundle(&opened).digest, bundle(&plain).digest);
}

#[tokio::test]
async fn rekeying_seals_what_is_in_the_clear_and_does_not_pass_over_what_does_not_open() {
    let server = ApiServer::new(&samples(), DELETED);
    put_keys(&server, "1", &["1"]);
    let clear = {
        let context = context(&server);
        server.fill(&context.store);
        context
    };
    run(&clear).await.unwrap();
    let process = sealing(&server).await;
    let census = process.census().await.unwrap();
    assert_eq!((census.by_key.len(), census.clear.len()), (0, 3), "{census:?}");
    assert_eq!(process.rekey(|_| {}).await.unwrap().written, 3);
    let census = process.census().await.unwrap();
    assert_eq!(
        census,
        Census { by_key: [("1".into(), 3)].into(), primary: "1".into(), known: vec!["1".into()], ..Census::default() }
    );

    // A value that was moved into another field.
    let mut secret = server.all_secrets().into_iter().find(|secret| secret.name_any() == "idm-gateway").unwrap();
    secret.metadata.resource_version = None;
    let data = secret.data.get_or_insert_default();
    data.insert("store-password".into(), data["bundle"].clone());
    server.write(&serde_json::to_value(&secret).unwrap());
    let error = process.rekey(|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("'store-password': it was sealed with key `1` and does not open"), "{error}");
}

mod gateways;
