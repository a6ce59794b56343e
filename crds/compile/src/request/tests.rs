use idm_api::v1alpha1::Credential;
use idm_jose::{DecryptionKeys, Jwe, JweExpectations, generate_ec, generate_x25519};

use super::*;

fn recipient(key: &Jwk) -> Value {
    json!({"jwk": key.public().expect("a public part").reveal().to_string()})
}

fn request(key: &Jwk) -> Value {
    json!({
        "apiVersion": "identity-manager.io/v1alpha1", "kind": "CredentialRequest",
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "u-1", "labels": {TEAM_LABEL: "checkout"}},
        "spec": {
            "requester": {"username": "ana"}, "purpose": "a nightly export", "recipient": recipient(key),
            "credential": {
                "apiKey": {}, "labels": [{"name": "plan", "value": "gold"}], "roles": ["order-reader"],
                "access": {"policies": ["orders"]}, "expireTime": "2030-01-01T00:00:00Z",
            },
        },
    })
}

fn typed(object: &Value) -> CredentialRequest {
    serde_json::from_value(object.clone()).expect("a request")
}

fn answered(object: &Value, decision: &str, by: &str, hash: &str) -> CredentialRequest {
    let mut object = object.clone();
    object["spec"]["approval"] = json!({"decision": decision, "by": {"username": by}, "hash": hash, "reason": "r"});
    typed(&object)
}

/// Everybody who shows a hash computes this one; the browser too.
#[test]
fn the_hash_is_that_of_the_sorted_json_of_what_is_asked() {
    let object = json!({
        "metadata": {"uid": "u", "namespace": "shop", "name": "a", "resourceVersion": "7"},
        "spec": {"purpose": "\u{e4}\"\n", "requester": {"username": "ana"}, "received": true,
            "approval": {"decision": "Approved"}, "credential": {"roles": ["b", "a"], "apiKey": {}}},
        "status": {"hash": "x"},
    });
    let text = "{\"name\":\"a\",\"namespace\":\"shop\",\"spec\":{\"credential\":{\"apiKey\":{},\
                \"roles\":[\"b\",\"a\"]},\"purpose\":\"\u{e4}\\\"\\n\",\"requester\":{\"username\":\"ana\"}},\
                \"team\":\"\",\"uid\":\"u\"}";
    assert_eq!(request_hash(&object), hex(&Sha256::digest(text.as_bytes())));
}

#[test]
fn every_part_that_is_asked_for_is_in_the_hash_and_no_answer_is() {
    let object = request(&generate_x25519().unwrap());
    let hash = request_hash(&object);
    let changes = [
        ("/metadata/uid", json!("u-2")),
        ("/metadata/namespace", json!("bank")),
        ("/metadata/labels", json!({TEAM_LABEL: "other"})),
        ("/spec/requester/username", json!("eve")),
        ("/spec/purpose", json!("another")),
        ("/spec/credential/roles/0", json!("admin")),
        ("/spec/credential/access/policies/0", json!("payments")),
        ("/spec/credential/labels/0/value", json!("platinum")),
        ("/spec/credential/expireTime", json!("2031-01-01T00:00:00Z")),
        ("/spec/recipient/jwk", json!("B")),
    ];
    for (path, value) in changes {
        let mut other = object.clone();
        *other.pointer_mut(path).expect(path) = value;
        assert_ne!(request_hash(&other), hash, "{path}");
    }
    let mut later = object.clone();
    later["spec"]["approval"] = json!({"decision": "Approved"});
    later["spec"]["received"] = json!(true);
    later["status"] = json!({"hash": "x"});
    later["metadata"]["resourceVersion"] = json!("9");
    assert_eq!(request_hash(&later), hash);
}

#[test]
fn the_key_is_read_by_the_recipient_alone() {
    let (own, other) = (generate_ec("P-256").unwrap(), generate_ec("P-256").unwrap());
    for (key, stranger) in [(own, other), (generate_x25519().unwrap(), generate_x25519().unwrap())] {
        let to: Recipient = serde_json::from_value(recipient(&key)).unwrap();
        let jwe = encrypted_to(&to, b"the key").unwrap();
        let open = |key: &Jwk| {
            let set = json!({"keys": [key.reveal()]}).to_string();
            let keys = DecryptionKeys::parse(set.as_bytes(), &[KeyManagement::EcdhEs]).unwrap();
            let expected = JweExpectations {
                key_management: &[KeyManagement::EcdhEs],
                content_encryption: &[ContentEncryption::A256Gcm],
                compressed: false,
            };
            Jwe::parse(&jwe).unwrap().decrypt(&keys, &expected)
        };
        assert_eq!(open(&key).unwrap().payload, b"the key");
        assert!(open(&stranger).is_err());
    }
}

#[test]
fn what_cannot_be_fulfilled_is_told_with_its_field() {
    let object = request(&generate_ec("P-256").unwrap());
    let now = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z");
    let fault = |object: &Value, name: &str| check_request(name, &typed(object).spec, now).map_err(|fault| fault.path);
    assert_eq!(fault(&object, "nightly"), Ok(()));
    let zero = "A".repeat(43);
    let off_the_curve = json!({"kty": "EC", "crv": "P-256", "x": zero, "y": zero}).to_string();
    let private = generate_x25519().unwrap().reveal().to_string();
    let other_curve = generate_ec("P-384").unwrap().public().unwrap().reveal().to_string();
    assert_eq!(fault(&object, &"n".repeat(64)), Err("metadata.name"));
    for (path, value, expected) in [
        ("/spec/credential/expireTime", json!("2026-12-31T23:59:59Z"), "spec.credential.expireTime"),
        ("/spec/credential/expireTime", json!("2030-13-01T00:00:00Z"), "spec.credential.expireTime"),
        ("/spec/recipient/jwk", json!("{}"), "spec.recipient.jwk"),
        ("/spec/recipient/jwk", json!(off_the_curve), "spec.recipient.jwk"),
        ("/spec/recipient/jwk", json!(private), "spec.recipient.jwk"),
        ("/spec/recipient/jwk", json!(other_curve), "spec.recipient.jwk"),
    ] {
        let mut other = object.clone();
        *other.pointer_mut(path).expect(path) = value;
        assert_eq!(fault(&other, "nightly"), Err(expected), "{other}");
    }
    let past = json!("2026-12-31T23:59:59Z");
    let mut other = object;
    other["spec"]["credential"]["expireTime"] = past;
    assert_eq!(check_request("nightly", &typed(&other).spec, None), Ok(()), "without a clock nothing is late");
}

#[test]
fn only_an_approval_of_this_request_by_somebody_else_makes_a_credential() {
    let object = request(&generate_x25519().unwrap());
    let hash = request_hash(&object);
    let made = |request: &CredentialRequest| made_credential(request, &hash, "idm-operator");
    assert_eq!(made(&typed(&object)), None, "nobody answered");
    assert_eq!(made(&answered(&object, "Rejected", "omar", &hash)), None);
    assert_eq!(made(&answered(&object, "Approved", "ana", &hash)), None, "her own");
    assert_eq!(made(&answered(&object, "Approved", "omar", &"0".repeat(64))), None, "another hash");
    let made = made(&answered(&object, "Approved", "omar", &hash)).expect("a Credential");
    let credential: Credential = serde_json::from_value(made.clone()).expect("it is valid");
    assert_eq!(credential.spec.owner.and_then(|owner| owner.user).as_deref(), Some("ana"));
    assert_eq!(made["spec"]["access"], json!({"policies": ["orders"]}));
    assert_eq!(made["spec"]["roles"], json!(["order-reader"]));
    let labels = json!({"plan": "gold", TEAM_LABEL: "checkout", "app.kubernetes.io/managed-by": "idm-operator"});
    assert_eq!(made["metadata"]["labels"], labels);
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(made["metadata"]["annotations"][REQUEST_HASH_ANNOTATION], hash);
}
