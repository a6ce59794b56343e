//! The keys of Credentials: supplied by hash, revoked, and rotated with the command line of a folder.

#[path = "credential_keys/signed.rs"]
mod signed;
#[path = "credential_keys/tokens.rs"]
mod tokens;

use std::path::Path;
use std::process::{Command, Output};

use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, eventually, idm, open_to, raw};
use idm_types::{ApiKey, Timestamp, hex};
use serde_json::Value;
use sha2::{Digest, Sha256};

const METHODS: &str = "    - {name: machines, apiKey: {}}\n";

fn call(gateway: &impl Serves, key: &str) -> Reply {
    raw(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n").as_bytes())
}

/// The caller is refused for this reason, of which one record tells, and nothing reaches the upstream.
fn refused(gateway: &impl Serves, upstream: &Upstream, key: &str, reason: &str) -> (Reply, Value) {
    upstream.forget();
    let before = gateway.records().len();
    let reply = call(gateway, key);
    let record = gateway.record(reply.decision());
    assert_eq!((reply.status, record["reason"].as_str()), (401, Some(reason)), "{record:#}");
    assert_eq!((upstream.received().as_str(), gateway.records().len()), ("", before + 1));
    (reply, record)
}

fn hash_of(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn credential(name: &str, api_key: &str, secret: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-key}}\nstringData: {secret}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
         spec: {{apiKey: {api_key}, secretRef: {{name: {name}-key}}, owner: {{user: ana}}{more}}}\n"
    )
}

#[test]
fn keys_of_any_form_are_known_by_their_hash_and_the_record_names_the_one() {
    let upstream = Upstream::new();
    let (theirs, weak) = ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "hunter2");
    let hash = hash_of(theirs);
    let yaml = [
        open_to(&upstream, METHODS),
        credential("stripe", "{sha256: {entropyBits: 140}}", &format!("{{sha256: {}}}", hash.to_uppercase()), ""),
        credential("old", "{sha256: {dangerGuessable: true}}", &format!("{{sha256: {}}}", hash_of(weak)), ""),
    ];
    let gateway = InProcess::start(&[("all.yaml", &yaml.concat())]);
    for (key, name) in [(theirs, "stripe"), (weak, "old")] {
        upstream.forget();
        let reply = call(&gateway, key);
        assert_eq!(reply.status, 200);
        let record = gateway.records().pop().expect("a record");
        assert_eq!(record["identity"]["credential"], name);
        assert_eq!(record["identity"]["kid"].as_str(), hash_of(key).get(..12));
        assert!(!record.to_string().contains(key) && !upstream.received().contains(key));
    }
    refused(&gateway, &upstream, "hunter3", "UnknownApiKey");
    refused(&gateway, &upstream, &hash, "UnknownApiKey");
}

#[test]
fn a_key_with_few_random_bits_is_refused_by_lint_unless_it_looks_dangerous() {
    let folder = tempfile::tempdir().expect("a folder");
    let lint = |api_key: &str, secret: &str| {
        let yaml = credential("a", api_key, secret, "");
        std::fs::write(folder.path().join("a.yaml"), yaml.trim_start_matches("---\n")).expect("it is written");
        let output = Command::new(idm()).arg("lint").arg(folder.path()).output().expect("idm runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let hash = format!("{{sha256: {}}}", "ab".repeat(32));
    for (api_key, told) in [
        ("{sha256: {}}", "`entropyBits` must be at least 128"),
        ("{sha256: {entropyBits: 127}}", "`entropyBits` must be at least 128"),
        ("{sha256: {entropyBits: 64, dangerGuessable: false}}", "`entropyBits` must be at least 128"),
    ] {
        let (ok, text) = lint(api_key, &hash);
        assert!(!ok && text.contains(told), "{api_key}: {text}");
    }
    assert!(lint("{sha256: {entropyBits: 128}}", &hash).0);
    let (ok, text) = lint("{sha256: {dangerGuessable: true}}", &hash);
    assert!(ok && text.contains("can be guessed"), "{text}");
    let (ok, text) = lint("{sha256: {entropyBits: 128}}", "{sha256: my-secret-key}");
    assert!(!ok && text.contains("64 hexadecimal digits") && !text.contains("my-secret-key"), "{text}");
    let (ok, text) = lint("{}", "{key: sk_live_4eC39}");
    assert!(!ok && text.contains("`apiKey.sha256`") && !text.contains("sk_live"), "{text}");
}

#[test]
fn r59_a_key_that_the_spec_revokes_is_refused_wherever_it_turns_up_and_only_its_holder_learns_why() {
    let (upstream, key, other) = (Upstream::new(), ApiKey::from_random([7; 32]), ApiKey::from_random([8; 32]));
    let hash = hash_of(key.reveal());
    let id = &hash[..12];
    let with = |more: &str| {
        let of = credential("robot", "{}", &format!("{{key: {}}}", key.reveal()), more);
        format!("{}{of}", open_to(&upstream, METHODS))
    };
    let gateway = InProcess::start(&[("all.yaml", &with(""))]);
    assert_eq!(call(&gateway, key.reveal()).status, 200);
    gateway.write("all.yaml", &with(&format!(", revokedKeys: [{id}]")));
    let (reply, record) = refused(&gateway, &upstream, key.reveal(), "KeyRevoked");
    assert_eq!(record["detail"], format!("the key {id} of Credential default/robot was revoked"));
    let told: Value = serde_json::from_str(&reply.body).expect("a problem document");
    assert_eq!((told["reason"].as_str(), told["detail"].as_str()), (Some("KeyRevoked"), Some("the key was revoked")));
    let (reply, _) = refused(&gateway, &upstream, other.reveal(), "UnknownApiKey");
    assert!(!reply.body.contains("reason"), "{}", reply.body);
    // Re-enabled, and with another expiry: it is the same key.
    gateway.write(
        "all.yaml",
        &with(&format!(", suspend: false, expireTime: '2100-01-01T00:00:00Z', revokedKeys: [{id}]")),
    );
    refused(&gateway, &upstream, key.reveal(), "KeyRevoked");
}

struct Folder {
    gateway: Gateway,
    upstream: Upstream,
}

impl Folder {
    fn start() -> Self {
        let upstream = Upstream::new();
        let gateway = Gateway::start(&[("policy.yaml", &open_to(&upstream, METHODS))]);
        Self { gateway, upstream }
    }

    fn dir(&self) -> &Path {
        self.gateway.dir.path()
    }

    fn credential(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(idm());
        command.arg("credential").args(arguments).arg("--dir").arg(self.dir());
        command.output().expect("idm runs")
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.credential(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it is JSON")
    }

    fn is_in_force(&self, key: &str, reason: Option<&str>) {
        eventually("the change of the folder", || {
            let reply = call(&self.gateway, key);
            if reply.status == 200 {
                return if reason.is_none() { Ok(()) } else { Err(format!("{reply:?}")) };
            }
            let record = self.gateway.record(reply.decision());
            let told = record["reason"].as_str();
            if told == reason { Ok(()) } else { Err(format!("{record:#}")) }
        });
    }

    /// All that the folder holds.
    fn text(&self) -> String {
        let entries = std::fs::read_dir(self.dir()).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.map(|path| std::fs::read_to_string(path).expect("text")).collect()
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn r56_a_folder_s_key_is_made_rotated_and_revoked_and_the_folder_holds_no_key() {
    let folder = Folder::start();
    let made =
        folder.done(&["create", "nightly", "--user", "ana", "--role", "reader", "--expires", "2099-01-01T00:00:00Z"]);
    let first = text(&made, "key").to_owned();
    assert!(ApiKey::is_well_formed(&first));
    folder.is_in_force(&first, None);
    // The next key, with a day for the old one.
    let rotated = folder.done(&["rotate", "nightly", "--overlap", "24h"]);
    let second = text(&rotated, "key").to_owned();
    folder.is_in_force(&second, None);
    folder.is_in_force(&first, None);
    let shown = folder.done(&["show", "nightly"]);
    let states = |shown: &Value| {
        let keys = shown["keys"].as_array().expect("a list");
        keys.iter().map(|key| (text(key, "id").to_owned(), text(key, "state").to_owned())).collect::<Vec<_>>()
    };
    let (id, old) = (text(&rotated, "id").to_owned(), text(&made, "id").to_owned());
    assert_eq!(states(&shown), [(id.clone(), "Active".to_owned()), (old.clone(), "Overlapping".to_owned())]);
    let until = Timestamp::parse_rfc3339(text(&shown["keys"][1], "untilTime")).expect("a time");
    let hours = until.0.saturating_sub(Timestamp::now().0) as f64 / 3.6e6;
    assert!((23.9..=24.0).contains(&hours), "{hours}");
    // A third key: two are the most.
    let third = text(&folder.done(&["rotate", "nightly"]), "key").to_owned();
    folder.is_in_force(&third, None);
    folder.is_in_force(&second, None);
    folder.is_in_force(&first, Some("KeyRotatedOut"));
    // A leak.
    let fourth = text(&folder.done(&["rotate", "nightly", "--overlap", "0"]), "key").to_owned();
    folder.is_in_force(&fourth, None);
    folder.is_in_force(&third, Some("KeyRevoked"));
    let all = folder.text();
    for key in [&first, &second, &third, &fourth] {
        assert!(!all.contains(key.as_str()));
    }
    let listed = folder.credential(&["list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("NAME") && listed.contains("nightly") && !listed.contains("idm_"), "{listed}");
    assert_eq!(folder.done(&["revoke", "nightly"])["revoked"].as_array().map(Vec::len), Some(1));
    folder.is_in_force(&fourth, Some("KeyRevoked"));
    refused(&folder.gateway, &folder.upstream, &fourth, "KeyRevoked");
}

#[test]
fn r59_neither_git_nor_a_backup_brings_a_revoked_key_back_into_a_folder() {
    let folder = Folder::start();
    let first = text(&folder.done(&["create", "nightly"]), "key").to_owned();
    let secret = folder.gateway.read("credential-nightly-key.yaml");
    folder.is_in_force(&first, None);
    let revoked = folder.done(&["revoke", "nightly"]);
    folder.is_in_force(&first, Some("KeyRevoked"));
    let shown = folder.done(&["show", "nightly"]);
    assert_eq!((&shown["keys"][0]["id"], text(&shown["keys"][0], "state")), (&revoked["revoked"][0], "Revoked"));
    let second = text(&folder.done(&["rotate", "nightly"]), "key").to_owned();
    folder.is_in_force(&second, None);
    folder.gateway.write("credential-nightly-key.yaml", &secret);
    folder.is_in_force(&second, Some("UnknownApiKey"));
    refused(&folder.gateway, &folder.upstream, &first, "KeyRevoked");
    // A Credential of another name with the same Secret.
    let renamed = folder.gateway.read("credential-nightly.yaml").replace("name: nightly\n", "name: daily\n");
    folder.gateway.write("credential-nightly.yaml", &renamed);
    eventually("the other name", || {
        let shown = folder.done(&["list"]);
        if shown.to_string().contains("daily") { Ok(()) } else { Err(shown.to_string()) }
    });
    refused(&folder.gateway, &folder.upstream, &first, "KeyRevoked");
}

#[test]
fn r69_a_secret_that_was_written_by_hand_is_not_changed() {
    let (folder, key) = (Folder::start(), ApiKey::from_random([5; 32]));
    let hand = credential("robot", "{}", &format!("{{key: {}}}", key.reveal()), "");
    let hash = credential("stripe", "{sha256: {entropyBits: 128}}", &format!("{{sha256: {}}}", "cd".repeat(32)), "");
    folder.gateway.write("hand.yaml", &format!("{}{hash}", hand.trim_start_matches("---\n")));
    folder.is_in_force(key.reveal(), None);
    for (name, told) in [("robot", "is written by hand"), ("stripe", "was not made by `idm credential create`")] {
        let output = folder.credential(&["rotate", name]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(told), "{error}");
        assert!(output.stdout.is_empty(), "no key is shown");
    }
    folder.is_in_force(key.reveal(), None);
    // Revoking works for every key.
    folder.done(&["revoke", "robot"]);
    folder.is_in_force(key.reveal(), Some("KeyRevoked"));
}

#[test]
fn r57_a_key_whose_end_is_in_the_past_is_refused_with_its_cause_and_counted() {
    let (upstream, old) = (Upstream::new(), ApiKey::from_random([1; 32]));
    let new = ApiKey::from_random([2; 32]);
    let hashes = format!("{}\\n{} until 2020-01-01T00:00:00Z", hash_of(new.reveal()), hash_of(old.reveal()));
    let yaml = format!(
        "{}{}",
        open_to(&upstream, METHODS),
        credential("robot", "{sha256: {entropyBits: 256}}", &format!("{{sha256: \"{hashes}\"}}"), "")
    );
    let gateway = InProcess::start(&[("all.yaml", &yaml)]);
    assert_eq!(call(&gateway, new.reveal()).status, 200);
    let (reply, record) = refused(&gateway, &upstream, old.reveal(), "KeyRotatedOut");
    assert!(text(&record, "detail").ends_with("was replaced, and is refused since 2020-01-01T00:00:00.000Z"));
    assert!(reply.body.contains("KeyRotatedOut"), "{}", reply.body);
}

#[test]
fn without_a_cluster_the_command_says_how_to_name_a_folder() {
    let output = Command::new(idm())
        .args(["credential", "list"])
        .env("KUBECONFIG", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("idm runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && error.contains("--dir"), "{error}");
}

/// Hashes that `htpasswd -nbB` and `-nbs` of Apache made for the password `correct horse`.
#[test]
fn lines_of_htpasswd_are_taken_with_bcrypt_and_sha() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let upstream = Upstream::new();
    let user = |name: &str, line: &str| {
        format!(
            "---\n{}---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
             spec: {{password: {{}}, secretRef: {{name: {name}}}}}\n",
            idm_tests::secret(name, &[("password", line.to_owned())])
        )
    };
    let (bcrypt, sha) =
        ("ana:$2y$04$9odwg7abQSUiiSwVTrOkV.ejvepIl.9Y0RWkSHbCDyhYR89irb7Hi", "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=");
    let yaml = [
        open_to(&upstream, "    - {name: people, basic: {realm: r}}\n"),
        user("ana", bcrypt),
        user("bob", &format!("bob:{sha}")),
    ];
    let gateway = InProcess::start(&[("all.yaml", &yaml.concat())]);
    let status = |name: &str, password: &str| {
        let basic = STANDARD.encode(format!("{name}:{password}"));
        raw(gateway.address(), format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {basic}\r\n\r\n").as_bytes())
            .status
    };
    for name in ["ana", "bob"] {
        assert_eq!((status(name, "correct horse"), status(name, "wrong")), (200, 401), "{name}");
        assert_ne!(status(name, sha), 200, "the hash is no password");
    }
    assert_eq!(status("eve", "correct horse"), 401);
}
