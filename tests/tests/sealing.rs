//! A gateway pod whose configuration is sealed: it serves with its keys, and takes nothing in the clear.

use std::collections::BTreeMap;
use std::process::Command;

use idm_compile::{Settings, compile, yaml::read_files};
use idm_envelope::{Envelope, KeySet, Place, SharedKeys};
use idm_tests::{Pod, Upstream, eventually, idm, open_to, raw};
use serde_json::Value;

const SECRET: &str = "planted-client-secret";
const AUTHORIZATION: &str = "Bearer planted-authorization";

/// A key as `idm seal keys` makes it.
fn keys(id: &str) -> BTreeMap<String, Vec<u8>> {
    let made = Command::new(idm()).args(["seal", "keys", "--id", id]).output().unwrap();
    let secret: Value = serde_yaml_ng::from_slice(&made.stdout).unwrap();
    assert_eq!(secret["metadata"]["name"], "idm-seal-keys");
    let fields = secret["stringData"].as_object().unwrap().iter();
    fields.map(|(name, value)| (name.clone(), value.as_str().unwrap().as_bytes().to_vec())).collect()
}

fn envelope(keys: &BTreeMap<String, Vec<u8>>) -> Envelope {
    Envelope::new(SharedKeys::new(KeySet::parse(keys.clone()).unwrap()))
}

fn seal(envelope: &Envelope, field: &str, plain: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(envelope.seal(&Place { namespace: "shop", object: "x", field }, plain)).unwrap()
}

fn bundle(upstream: &Upstream, generation: u64) -> Vec<u8> {
    let methods = format!(
        "    - name: opaque\n      introspection: {{issuer: 'https://idp', endpoint: 'https://idp/introspect', \
         clientId: client, clientSecretRef: {{name: idp}}}}\n    - {{name: everyone-{generation}, anonymous: {{}}}}\n"
    );
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: idp}}\nstringData: {{clientSecret: '{SECRET}'}}\n"
    );
    let files = [("all.yaml".to_owned(), format!("{}{secret}", open_to(upstream, &methods)))];
    let (world, _) = read_files(&files, Settings::of_a_folder(true)).unwrap();
    let compiled = compile(&world, None);
    assert_eq!(compiled.report.errors().count(), 0, "{:?}", compiled.report);
    compiled.seal(generation).pack().unwrap()
}

#[test]
fn a_sealed_configuration_serves_and_nothing_that_does_not_open_takes_its_place() {
    let (upstream, collector) = (Upstream::new(), Upstream::new());
    let (old, new) = (keys("old"), keys("new"));
    let (of_old, of_new) = (envelope(&old), envelope(&new));
    let authorization = seal(&of_old, "traces-authorization", AUTHORIZATION.as_bytes());
    // The keys of the namespace alone, as the operator gives them to its gateways.
    let own = |keys: &BTreeMap<String, Vec<u8>>| KeySet::parse(keys.clone()).unwrap().of_namespace("shop");
    let mounted: Vec<_> = own(&old).into_iter().map(|(name, value)| (format!("keys/{name}"), value)).collect();
    let clear = bundle(&upstream, 1);
    let mut files: Vec<(&str, &[u8])> = mounted.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    files.extend([("bundle", clear.as_slice()), ("traces-authorization", authorization.as_slice())]);
    let collector_at = format!("http://{}", collector.address);
    let pod = Pod::start_with(
        "shop",
        &files,
        &[
            "--seal-keys=DIR/keys",
            "--traces",
            &collector_at,
            "--traces-ratio=1",
            "--traces-authorization-file=DIR/traces-authorization",
        ],
    );
    let ask = || raw(pod.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status;
    pod.says(&["it is not sealed"]);
    assert_eq!(ask(), 503, "a bundle in the clear is none");
    let first = seal(&of_old, "bundle", &clear);
    pod.replace(&first, 1);
    assert_eq!(ask(), 200);

    let second = bundle(&upstream, 2);
    let mut damaged = seal(&of_old, "bundle", &second);
    *damaged.last_mut().unwrap() ^= 1;
    let sealed_anew = seal(&of_new, "bundle", &second);
    for (wrong, says) in [
        (damaged, "was sealed with key `old` and does not open"),
        (second.clone(), "it is not sealed"),
        (seal(&of_old, "store-password", &second), "does not open"),
        (sealed_anew, "there is no key `new` here"),
    ] {
        pod.put(&wrong);
        pod.says(&[says, "the last good configuration keeps serving"]);
        assert_eq!(ask(), 200);
    }
    // The kubelet brings the key.
    std::fs::write(pod.dir().join("keys/new"), &own(&new)["new"]).unwrap();
    pod.in_force(2);
    assert_eq!(ask(), 200);
    eventually("the sealed authorization is sent", || match collector.received() {
        received if received.contains(AUTHORIZATION) => Ok(()),
        received => Err(received),
    });

    let stored = String::from_utf8_lossy(&first).into_owned();
    let records = format!("{:?}", pod.records());
    for text in [stored, pod.log(), records, upstream.received()] {
        for canary in [SECRET, AUTHORIZATION, &String::from_utf8_lossy(&old["old"])] {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
    }
}

#[test]
fn a_gateway_without_keys_says_what_it_lacks_and_one_whose_files_do_not_open_does_not_start() {
    let upstream = Upstream::new();
    let of = envelope(&keys("k1"));
    let sealed = seal(&of, "bundle", &bundle(&upstream, 1));
    let pod = Pod::start_with("shop", &[("bundle", &sealed)], &[]);
    pod.says(&["it is sealed with key `k1`", "--seal-keys or --seal-command"]);
    assert_eq!(raw(pod.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 503);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("traces-authorization"), AUTHORIZATION).unwrap();
    let started = Command::new(idm())
        .args(["gateway", "--namespace=shop", "--config-secret=x", "--config-file=/none", "--seal-command=/no/kms"])
        .arg("--audit-dir")
        .arg(dir.path())
        .args(["--traces=http://127.0.0.1:1", "--traces-authorization-file"])
        .arg(dir.path().join("traces-authorization"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(!started.status.success() && said.contains("it is not sealed"), "{said}");
    assert!(!said.contains(AUTHORIZATION), "{said}");
}

#[test]
fn the_commands_say_what_is_wrong_with_their_words() {
    let state = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        (&["seal", "keys", "--id", "primary"][..], "for example key-1"),
        (&["seal", "keys", "--id", "a/b"], "for example key-1"),
        (&["seal", "keys", "--id", "2027-01-01"], "for example key-1"),
        (&["seal", "status", "--seal-command=/kms"], "--seal-key-id"),
        (&["seal", "status", "--seal-key-secret=a", "--seal-command=/kms", "--seal-key-id=k"], "cannot be used with"),
    ] {
        let run =
            Command::new(idm()).args(arguments).env("HOME", state.path()).env_remove("KUBECONFIG").output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.code() == Some(2) && said.contains(wanted), "{arguments:?}: {said}");
    }
}
