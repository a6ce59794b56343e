//! The offline tools as a user runs them, with OpenSSL as the other side where it has one.

use std::io::Write;
use std::process::{Command, Stdio};

use idm_tests::idm;
use serde_json::Value;

/// Runs a program with standard input; what it printed, or what it complained about.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let program = if program == "idm" { idm() } else { program.into() };
    let state = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .env("IDM_STATE_DIR", state.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn idm_ok(arguments: &[&str], input: &str) -> String {
    run("idm", arguments, input).unwrap_or_else(|error| panic!("idm {}: {error}", arguments.join(" ")))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_key_is_made_shown_named_and_converted() {
    let folder = Folder::new();
    for kind in ["rsa", "p256", "p384", "p521", "ed25519", "x25519"] {
        let key = folder.write(kind, &idm_ok(&["jwk", "new", kind], ""));
        let private: Value = serde_json::from_str(&std::fs::read_to_string(&key).unwrap()).unwrap();
        let public: Value = serde_json::from_str(&idm_ok(&["jwk", "public", &key], "")).unwrap();
        assert!(private["d"].is_string() && public["d"].is_null() && public["p"].is_null(), "{kind}");
        assert_eq!(private["kid"], idm_ok(&["jwk", "thumbprint", &key], "").trim(), "{kind}");
        if kind == "x25519" {
            continue;
        }
        // Through PEM and back it is the same key, and OpenSSL reads it.
        let pem = folder.write("pem", &idm_ok(&["jwk", "convert", &key, "--to", "pem"], ""));
        let spki =
            run("openssl", &["pkey", "-in", &pem, "-pubout"], "").unwrap_or_else(|error| panic!("{kind}: {error}"));
        let spki = folder.write("spki", &spki);
        for form in [&pem, &spki] {
            assert_eq!(private["kid"], idm_ok(&["jwk", "thumbprint", form], "").trim(), "{kind}");
        }
    }
    let pem = run("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "").unwrap();
    assert!(idm_ok(&["jwk", "convert", "-", "--to", "jwk"], &pem).contains("\"crv\":\"P-256\""));
    assert!(
        run("idm", &["jwk", "public", "-"], "{\"kty\":\"oct\",\"k\":\"AAAA\"}").unwrap_err().contains("no public part")
    );
    assert!(run("idm", &["jwk", "thumbprint", "-"], "nonsense").unwrap_err().contains("neither a JWK nor PEM"));
}

#[test]
fn what_is_signed_verifies_and_what_is_altered_does_not() {
    let folder = Folder::new();
    let key = folder.write("key", &idm_ok(&["jwk", "new", "p256"], ""));
    let public = folder.write("public", &idm_ok(&["jwk", "public", "--set", &key], ""));
    let payload = folder.write("payload", "hello");
    let other = folder.write("other", "hullo");
    let verify = |object: &str, more: &[&str]| {
        run("idm", &[&["jose", "verify", "--key", &public, "--algorithm", "ES256"], more].concat(), object)
    };
    for form in [&[][..], &["--json"]] {
        let signed = idm_ok(&[&["jose", "sign", "--key", &key, "--algorithm", "ES256", &payload], form].concat(), "");
        assert_eq!(verify(&signed, &[]).unwrap(), "hello");
        assert!(verify(&signed.replace("aGVsbG8", "aHVsbG8"), &[]).unwrap_err().contains("does not verify"));
    }
    let detached = idm_ok(&["jose", "sign", "--key", &key, "--algorithm", "ES256", "--detached", &payload], "");
    assert!(detached.contains(".."));
    assert_eq!(verify(&detached, &["--detached", &payload]).unwrap(), "hello");
    assert!(verify(&detached, &["--detached", &other]).unwrap_err().contains("does not verify"));
    assert!(run("idm", &["jose", "sign", "--key", &public, "--algorithm", "ES256", &payload], "").is_err());
    assert!(
        run("idm", &["jose", "sign", "--key", &key, "--algorithm", "RS256", &payload], "")
            .unwrap_err()
            .contains("cannot be used with RS256")
    );
}

#[test]
fn what_is_encrypted_opens_with_the_key_only() {
    let folder = Folder::new();
    let (key, other) = (
        folder.write("key", &idm_ok(&["jwk", "new", "rsa"], "")),
        folder.write("other", &idm_ok(&["jwk", "new", "rsa"], "")),
    );
    let public = folder.write("public", &idm_ok(&["jwk", "public", &key], ""));
    for form in [&[][..], &["--json"]] {
        let sealed = idm_ok(
            &[
                &["jose", "encrypt", "--key", &public, "--algorithm", "RSA-OAEP-256", "--header", "cty=text/plain"],
                form,
            ]
            .concat(),
            "secret",
        );
        assert_eq!(idm_ok(&["jose", "decrypt", "--key", &key], &sealed), "secret");
        assert!(run("idm", &["jose", "decrypt", "--key", &other], &sealed).is_err());
        assert!(
            run("idm", &["jose", "decrypt", "--key", &key, "--algorithm", "RSA-OAEP"], &sealed)
                .unwrap_err()
                .contains("RSA-OAEP-256")
        );
    }
}

#[test]
fn a_token_is_minted_and_verified_with_a_key_of_ones_own() {
    let folder = Folder::new();
    let key = folder.write("key", &idm_ok(&["jwk", "new", "ed25519"], ""));
    let mint = [
        "token",
        "mint",
        "--user",
        "ana",
        "--key",
        &key,
        "--algorithm",
        "EdDSA",
        "--issuer",
        "https://me",
        "--audience",
        "orders",
        "--claim",
        "level=3",
    ];
    let token = idm_ok(&mint, "");
    let verify = |audience: &str| {
        run(
            "idm",
            &[
                "token",
                "verify",
                "-",
                "--key",
                &key,
                "--issuer",
                "https://me",
                "--audience",
                audience,
                "--algorithm",
                "EdDSA",
            ],
            &token,
        )
    };
    let claims: Value = serde_json::from_str(&verify("orders").unwrap()).unwrap();
    assert_eq!((claims["sub"].as_str(), claims["level"].as_i64()), (Some("ana"), Some(3)));
    assert!(verify("billing").unwrap_err().contains("WrongAudience"));
}

/// The chart's values reach the operator, and the operator's options the gateways, by the same names.
#[test]
fn every_limit_of_the_chart_is_an_option_of_operator_and_gateway() {
    let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/idm");
    let template = std::fs::read_to_string(chart.join("templates/operator.yaml")).unwrap();
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(chart.join("values.schema.json")).unwrap()).unwrap();
    let (operator, gateway) = (idm_ok(&["operator", "--help"], ""), idm_ok(&["gateway", "--help"], ""));
    let mut options = 0;
    for group in ["limits", "bodies"] {
        for name in schema["properties"]["gateway"]["properties"][group]["properties"].as_object().unwrap().keys() {
            let value = format!(" .Values.gateway.{group}.{name}");
            let line = template.lines().find_map(|line| line.trim().strip_suffix(&value)).expect(name);
            let option = line.trim_matches('"');
            assert!(operator.contains(&format!("--gateway-{option} <")), "operator: {option}");
            assert!(gateway.contains(&format!("--{option} <")), "gateway: {option}");
            options += 1;
        }
    }
    assert_eq!(options, 11);
}
