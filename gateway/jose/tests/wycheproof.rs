//! The Wycheproof vectors for JOSE, through the code that the gateway uses.

use std::path::Path;

use idm_jose::{DecryptionKeys, Jwe, JweExpectations, Jws, KeySet};
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::{Value, json};

/// The groups of one file.
fn groups(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/wycheproof").join(file);
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    vectors["testGroups"].as_array().unwrap().clone()
}

fn tests(group: &Value) -> &[Value] {
    group["tests"].as_array().unwrap()
}

/// A message as text; the JSON serialization where only the compact one is expected must be refused.
fn text(message: &Value) -> String {
    message.as_str().map_or_else(|| message.to_string(), str::to_owned)
}

fn verify(keys: &KeySet, text: &str) -> bool {
    Jws::parse(text).is_ok_and(|jws| jws.verify(keys, Algorithm::ALL).is_ok())
}

#[test]
fn every_signature_vector_has_the_right_verdict() {
    let groups = groups("json_web_signature_test.json");
    let (mut checked, mut wrong, mut skipped) = (0, Vec::new(), Vec::new());
    for group in groups {
        let symmetric = group["private"]["kty"] == "oct";
        let key = if symmetric { &group["private"] } else { &group["public"] };
        let document = json!({ "keys": [key] }).to_string();
        let keys = if symmetric {
            KeySet::parse_secret(document.as_bytes(), Algorithm::ALL)
        } else {
            KeySet::parse(document.as_bytes(), Algorithm::ALL)
        };
        for test in tests(&group) {
            let text = text(&test["jws"]);
            let accepted = keys.as_ref().is_ok_and(|keys| verify(keys, &text));
            // Two keys name an algorithm that is not registered (ES521 for ES512), and two tokens use another
            // algorithm than the one their key names. We bind keys to what they name and refuse all four.
            let misnamed = key["alg"] == "ES521" || test["comment"] == "Figure20" && key["alg"] == "PS256" && !accepted;
            if misnamed {
                skipped.push(format!("{} {}: the key names another algorithm", test["tcId"], test["comment"]));
                assert!(!accepted);
                continue;
            }
            let comment = test["comment"].as_str().unwrap();
            // The padding that two vectors speak of is not in them: they are the valid token.
            let unpadded = comment.starts_with("invalidBase64Padding") && !text.contains('=') && accepted;
            // Ignoring characters outside the alphabet (RFC 2045) gives one token many spellings: refused here.
            let ignorable = comment.starts_with("InvalidCharacterInserted") && !accepted;
            if unpadded || ignorable {
                skipped.push(format!(
                    "{} {comment}: {}",
                    test["tcId"],
                    if unpadded { "it has no padding" } else { "stricter here" }
                ));
                continue;
            }
            if accepted != (test["result"] == "valid") {
                wrong.push(format!(
                    "{} {} should be {}: {:?}",
                    test["tcId"],
                    test["comment"],
                    test["result"],
                    keys.as_ref().err()
                ));
            }
            checked += 1;
        }
    }
    println!("{checked} vectors checked; skipped: {}", skipped.join("; "));
    assert!(wrong.is_empty() && checked > 390, "{checked} checked, wrong: {wrong:#?}");
}

#[test]
fn every_encryption_vector_has_the_right_verdict() {
    let groups = groups("json_web_encryption_test.json");
    let expected = JweExpectations {
        key_management: KeyManagement::ALL,
        content_encryption: ContentEncryption::ALL,
        compressed: true,
    };
    let (mut checked, mut wrong, mut skipped) = (0, Vec::new(), Vec::new());
    for group in groups {
        let keys =
            DecryptionKeys::parse(json!({ "keys": [group["private"]] }).to_string().as_bytes(), KeyManagement::ALL);
        for test in tests(&group) {
            let parsed = Jwe::parse(&text(&test["jwe"]));
            let opened = keys.as_ref().ok().and_then(|keys| parsed.and_then(|jwe| jwe.decrypt(keys, &expected)).ok());
            if group["private"]["alg"] == "RSA1_5" && test["result"] == "valid" {
                skipped.push(format!("{}: RSA1_5 is never accepted", test["tcId"]));
                assert!(opened.is_none());
                continue;
            }
            let right = match &opened {
                Some(opened) => {
                    test["result"] == "valid" && test["pt"].as_str().is_none_or(|pt| pt == hex(&opened.payload))
                }
                None => test["result"] != "valid",
            };
            if !right {
                wrong.push(format!(
                    "{} {} should be {} ({:?})",
                    test["tcId"],
                    test["comment"],
                    test["result"],
                    keys.as_ref().err()
                ));
            }
            checked += 1;
        }
    }
    println!("{checked} vectors checked; skipped: {}", skipped.join("; "));
    assert!(wrong.is_empty() && checked > 125, "{checked} checked, wrong: {wrong:#?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sets of keys that must not be served, and what must not be verified with them.
#[test]
fn every_key_vector_has_the_right_verdict() {
    let expected = JweExpectations {
        key_management: KeyManagement::ALL,
        content_encryption: ContentEncryption::ALL,
        compressed: false,
    };
    let (mut checked, mut wrong) = (0, Vec::new());
    for file in ["json_web_key_test.json", "json_web_crypto_test.json"] {
        let groups = groups(file);
        for group in groups {
            for test in tests(&group) {
                let set = |key: &Value| {
                    if key.get("keys").is_some() { key.to_string() } else { json!({ "keys": [key] }).to_string() }
                };
                let (private, public) = (set(&group["private"]), set(&group["public"]));
                let accepted = if let Some(jws) = test.get("jws").map(text) {
                    let keys = KeySet::parse(public.as_bytes(), Algorithm::ALL)
                        .or_else(|_| KeySet::parse_secret(private.as_bytes(), Algorithm::ALL));
                    keys.is_ok_and(|keys| verify(&keys, &jws))
                } else if let Some(jwe) = test.get("jwe").map(text) {
                    let keys = DecryptionKeys::parse(private.as_bytes(), KeyManagement::ALL);
                    keys.is_ok_and(|keys| Jwe::parse(&jwe).and_then(|jwe| jwe.decrypt(&keys, &expected)).is_ok())
                } else {
                    panic!("a vector of an unknown kind: {test}");
                };
                if accepted != (test["result"] == "valid") {
                    wrong.push(format!(
                        "{file} {} {} {} should be {}",
                        test["tcId"], group["comment"], test["comment"], test["result"]
                    ));
                }
                checked += 1;
            }
        }
    }
    assert!(wrong.is_empty() && checked > 100, "{checked} checked, wrong: {wrong:#?}");
}
