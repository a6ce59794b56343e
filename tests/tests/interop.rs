//! JOSE against libraries that nobody here wrote, both ways, for the full matrix of algorithms: npm `jose`,
//! jwcrypto with PyJWT, and nimbus-jose-jwt. What a library cannot do is listed here by name, and nothing else.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use idm_jose::{
    DecryptionKeys, EncryptionKey, Jwe, JweExpectations, Jwk, Jws, KeySet, SigningKey, generate_ec, generate_octets,
    generate_rsa, generate_x25519, system_entropy, to_base64url,
};
use idm_tests::interop_libraries;
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::{Value, json};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

fn keys_for(algorithm: KeyManagement, enc: ContentEncryption, rsa: &Jwk) -> Vec<(&'static str, Jwk)> {
    use KeyManagement::*;
    match algorithm {
        RsaOaep | RsaOaep256 => vec![("RSA", rsa.clone())],
        EcdhEs | EcdhEsA128Kw | EcdhEsA192Kw | EcdhEsA256Kw => {
            let curves = ["P-256", "P-384", "P-521"].map(|curve| (curve, generate_ec(curve).unwrap()));
            curves.into_iter().chain([("X25519", generate_x25519().unwrap())]).collect()
        }
        A128Kw | A128GcmKw => vec![("oct", generate_octets(16).unwrap())],
        A192Kw | A192GcmKw => vec![("oct", generate_octets(24).unwrap())],
        A256Kw | A256GcmKw => vec![("oct", generate_octets(32).unwrap())],
        Dir => vec![("oct", generate_octets(enc.key_bytes()).unwrap())],
        // A password is text to some of the libraries.
        Pbes2Hs256A128Kw | Pbes2Hs384A192Kw | Pbes2Hs512A256Kw => {
            let text = generate_octets(20).unwrap().text("k").unwrap().to_owned();
            let jwk = json!({"kty": "oct", "k": to_base64url(text.as_bytes())});
            vec![("password", Jwk::parse(jwk.to_string().as_bytes()).unwrap())]
        }
    }
}

struct Case {
    id: String,
    key: Jwk,
    algorithm: KeyManagement,
    enc: ContentEncryption,
}

fn cases() -> (Vec<Case>, Vec<(Algorithm, SigningKey)>) {
    let rsa = generate_rsa(2048).unwrap();
    let mut encrypted = Vec::new();
    for &algorithm in KeyManagement::ALL {
        for &enc in ContentEncryption::ALL {
            for (kind, key) in keys_for(algorithm, enc, &rsa) {
                encrypted.push(Case { id: format!("{algorithm} {enc} {kind}"), key, algorithm, enc });
            }
        }
    }
    let signed =
        Algorithm::ALL.iter().map(|&algorithm| (algorithm, SigningKey::generate(algorithm, "k").unwrap())).collect();
    (encrypted, signed)
}

/// Hands all our objects to a peer, and checks all that it made.
fn converse(name: &str, mut peer: Command, cannot: &[&str]) {
    let (encrypted, signed) = cases();
    let jwe: Vec<Value> = encrypted
        .iter()
        .map(|case| {
            let key = EncryptionKey::from_jwk(&case.key, case.algorithm).unwrap();
            let ours = format!("ours {}", case.id);
            let made = key.encrypt(case.enc, Default::default(), ours.as_bytes(), &mut system_entropy).unwrap();
            json!({"id": case.id, "alg": case.algorithm.name(), "enc": case.enc.name(), "key": case.key.reveal(),
                "object": made.compact()})
        })
        .collect();
    let jws: Vec<Value> = signed
        .iter()
        .map(|(algorithm, key)| {
            let made = key.sign_payload(&key.header(), format!("ours {algorithm}").as_bytes()).unwrap();
            let jwk: Value = serde_json::from_str(key.reveal_jwk()).unwrap();
            json!({"id": algorithm.name(), "alg": algorithm.name(), "key": jwk, "object": made.compact()})
        })
        .collect();
    let mut child = peer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer starts");
    child.stdin.take().unwrap().write_all(json!({"jwe": jwe, "jws": jws}).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}"));

    let unsupported: Vec<&str> =
        answer["unsupported"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    let unexpected: Vec<&Value> = answer["unsupported"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| !cannot.iter().any(|part| one["id"].as_str().unwrap().contains(part)))
        .collect();
    assert!(unexpected.is_empty(), "{name} could not read ours: {unexpected:#?}");
    let find = |kind: &str, id: &str| answer[kind].as_array().unwrap().iter().find(|one| one["id"] == id).cloned();
    let mut both_ways = 0;
    for case in &encrypted {
        let Some(theirs) = find("jwe", &case.id) else {
            assert!(unsupported.contains(&case.id.as_str()), "{name} said nothing of {}", case.id);
            continue;
        };
        assert_eq!(theirs["payload"], format!("ours {}", case.id), "{name} read something else");
        let keys = DecryptionKeys::parse(case.key.reveal().to_string().as_bytes(), &[case.algorithm]).unwrap();
        let expected =
            JweExpectations { key_management: &[case.algorithm], content_encryption: &[case.enc], compressed: false };
        let opened = Jwe::parse(theirs["object"].as_str().unwrap()).and_then(|jwe| jwe.decrypt(&keys, &expected));
        let opened = opened.unwrap_or_else(|error| panic!("{name} {}: {error}", case.id));
        assert!(String::from_utf8(opened.payload).unwrap().ends_with(&case.id));
        both_ways += 1;
    }
    for (algorithm, key) in &signed {
        let Some(theirs) = find("jws", algorithm.name()) else { continue };
        assert_eq!(theirs["payload"], format!("ours {algorithm}"), "{name} read something else");
        let keys = KeySet::parse_secret(key.reveal_jwk().as_bytes(), &[*algorithm]).unwrap();
        let verified = Jws::parse(theirs["object"].as_str().unwrap()).and_then(|jws| jws.verify(&keys, &[*algorithm]));
        let verified = verified.unwrap_or_else(|error| panic!("{name} {algorithm}: {error}"));
        assert!(String::from_utf8(verified.payload).unwrap().ends_with(algorithm.name()));
        both_ways += 1;
    }
    println!(
        "{name}: {both_ways} of {} combinations both ways; it cannot: {}",
        encrypted.len() + signed.len(),
        unsupported.join(", ")
    );
    assert_eq!(both_ways + unsupported.len(), encrypted.len() + signed.len());
}

#[test]
fn npm_jose_and_we_read_each_other() {
    let libraries = interop_libraries();
    let mut peer = Command::new("node");
    peer.arg(source().join("peer.mjs")).arg(&libraries);
    converse("npm jose", peer, &[]);
}

#[test]
fn jwcrypto_and_we_read_each_other() {
    let mut peer = Command::new(interop_libraries().join("python/bin/python"));
    peer.arg(source().join("peer.py"));
    converse("jwcrypto", peer, &[]);
}

#[test]
fn nimbus_and_we_read_each_other() {
    let libraries = interop_libraries();
    let mut peer = Command::new("java");
    peer.arg("-cp").arg(format!("{0}/classes:{0}/jars/*", libraries.display())).arg("Peer");
    converse("nimbus", peer, &[]);
}
