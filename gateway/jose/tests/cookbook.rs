//! The cookbooks (RFC 7520, RFC 7797, RFC 8037): what they verify and decrypt we verify and decrypt, and
//! what is deterministic we make byte for byte.

use std::path::Path;

use idm_jose::{
    DecryptionKeys, EncryptionKey, Jwe, JweExpectations, Jwk, Jws, JwsForm, KeySet, SigningKey, base64url,
    system_entropy, to_base64url,
};
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::{Value, json};

fn read(dir: &str) -> Vec<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/jose-cookbook").join(dir);
    let entries = std::fs::read_dir(&path).unwrap();
    let json = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    let mut all: Vec<_> = json
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(),
            )
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn as_list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// Every serialization of an example that is there, with the payload when it travels apart.
fn jws_forms(example: &Value) -> Vec<(String, Option<Vec<u8>>)> {
    let payload = example["input"]["payload"].as_str().unwrap_or_default();
    let output = &example["output"];
    let mut forms = Vec::new();
    for name in ["compact", "json", "json_flat"] {
        let Some(form) = output.get(name) else { continue };
        let text = form.as_str().map_or_else(|| form.to_string(), str::to_owned);
        // An unencoded payload inside the compact form is refused; the same signature is read detached.
        if name == "compact" && text.split('.').nth(1) == Some(payload) {
            assert!(Jws::parse(&text).is_err());
            let signature = text.rsplit('.').next().unwrap();
            forms
                .push((format!("{}..{signature}", text.split('.').next().unwrap()), Some(payload.as_bytes().to_vec())));
            continue;
        }
        let detached = if name == "compact" { text.contains("..") } else { form.get("payload").is_none() };
        forms.push((text, detached.then(|| payload.as_bytes().to_vec())));
    }
    forms
}

#[test]
fn every_signature_of_the_cookbooks_verifies() {
    let mut checked = 0;
    for (name, example) in
        ["jws", "curve25519", "rfc7797"].into_iter().flat_map(read).filter(|(name, _)| name != "ecdh-es.json")
    {
        let keys: Vec<Value> = as_list(&example["input"]["key"]);
        let forms = jws_forms(&example);
        assert!(!forms.is_empty(), "{name} has no form that is read");
        for (text, detached) in forms {
            let form = JwsForm { detached: detached.as_deref(), max_bytes: 0 };
            let all = if text.starts_with('{') {
                Jws::parse_json(&text, form)
            } else {
                Jws::parse_compact(&text, form).map(|one| vec![one])
            };
            // RFC 7797 §6 demands `crit` with `b64`, which this example leaves out: others would read it encoded.
            if name == "4.2.hmac-sha2_b64_false.json" {
                assert!(all.is_err());
                continue;
            }
            let all = all.unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
            // Each signature verifies under one of the example's keys, and under no other.
            for (position, jws) in all.into_iter().enumerate() {
                let key = if keys.len() > 1 { &keys[position] } else { &keys[0] };
                let set =
                    KeySet::parse_secret(json!({ "keys": [key] }).to_string().as_bytes(), Algorithm::ALL).unwrap();
                let verified = jws.verify(&set, Algorithm::ALL).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(verified.payload, example["input"]["payload"].as_str().unwrap().as_bytes(), "{name}");
                checked += 1;
            }
        }
    }
    println!("{checked} signatures verified");
    assert!(checked == 0 || checked > 20, "{checked}");
}

#[test]
fn deterministic_signatures_of_the_cookbooks_are_made_byte_for_byte() {
    let mut made = 0;
    for (name, example) in ["jws", "curve25519"].into_iter().flat_map(read) {
        let (Some(alg), Some(compact)) = (example["input"]["alg"].as_str(), example["output"]["compact"].as_str())
        else {
            continue;
        };
        let Some(algorithm) = Algorithm::from_name(alg) else { continue };
        let jwk = Jwk::parse(example["input"]["key"].to_string().as_bytes()).unwrap();
        let key = SigningKey::from_jwk(&jwk, algorithm).unwrap();
        let protected = example["signing"]["protected_b64u"].as_str().or_else(|| compact.split('.').next()).unwrap();
        let ours = key
            .sign_compact(&base64url(protected).unwrap(), example["input"]["payload"].as_str().unwrap().as_bytes())
            .unwrap();
        if ["RS256", "HS256", "EdDSA"].contains(&alg) && !compact.contains("..") {
            assert_eq!(ours, compact, "{name}");
            made += 1;
        } else {
            // With a random part: what we make must verify under the example's key.
            let set = KeySet::parse_secret(jwk.reveal().to_string().as_bytes(), &[algorithm]).unwrap();
            assert!(Jws::parse(&ours).unwrap().verify(&set, &[algorithm]).is_ok(), "{name}");
        }
    }
    println!("{made} signatures made byte for byte");
    assert!(made == 0 || made >= 3, "{made}");
}

/// A password example has `pwd` instead of a key.
fn jwe_keys(input: &Value) -> Vec<Value> {
    match input["pwd"].as_str() {
        Some(password) => vec![json!({"kty": "oct", "k": to_base64url(password.as_bytes())})],
        None => as_list(&input["key"]),
    }
}

#[test]
fn every_encryption_of_the_cookbook_opens_and_ours_opens_too() {
    let expected = JweExpectations {
        key_management: KeyManagement::ALL,
        content_encryption: ContentEncryption::ALL,
        compressed: true,
    };
    let (mut opened, mut skipped) = (0, Vec::new());
    let agreement = read("curve25519").into_iter().filter(|(name, _)| name == "ecdh-es.json");
    for (name, example) in read("jwe").into_iter().chain(agreement) {
        let input = &example["input"];
        let algorithms: Vec<String> =
            as_list(&input["alg"]).iter().map(|alg| alg.as_str().unwrap().to_owned()).collect();
        if algorithms == ["RSA1_5"] {
            skipped.push(format!("{name}: RSA1_5 is never accepted"));
            continue;
        }
        for (key, alg) in jwe_keys(input).iter().zip(&algorithms) {
            let Some(algorithm) = KeyManagement::from_name(alg) else { continue };
            let keys = DecryptionKeys::parse(key.to_string().as_bytes(), &[algorithm])
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            for form in ["compact", "json", "json_flat"] {
                let Some(output) = example["output"].get(form) else { continue };
                let text = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
                let parsed = if form == "compact" { Jwe::parse(&text) } else { Jwe::parse_json(&text) }
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                let decrypted =
                    parsed.decrypt(&keys, &expected).unwrap_or_else(|error| panic!("{name} {form}: {error}"));
                assert_eq!(decrypted.payload, input["plaintext"].as_str().unwrap().as_bytes(), "{name}");
                opened += 1;
            }
            let jwk = Jwk::parse(key.to_string().as_bytes()).unwrap();
            // One example misspells its `enc`.
            let enc =
                ContentEncryption::from_name(input["enc"].as_str().unwrap()).unwrap_or(ContentEncryption::A128CbcHs256);
            let ours = EncryptionKey::from_jwk(&jwk, algorithm).unwrap();
            let made = ours.encrypt(enc, Default::default(), b"ours", &mut system_entropy).unwrap();
            assert_eq!(
                Jwe::parse(&made.compact()).unwrap().decrypt(&keys, &expected).unwrap().payload,
                b"ours",
                "{name}"
            );
            assert_eq!(
                Jwe::parse_json(&made.flattened().to_string()).unwrap().decrypt(&keys, &expected).unwrap().payload,
                b"ours",
                "{name}"
            );
        }
    }
    println!("{opened} forms opened; skipped: {}", skipped.join("; "));
    assert!(opened == 0 || opened > 25, "{opened}");
}

/// Direct encryption with the cookbook's own initialization vector gives the cookbook's own ciphertext.
#[test]
fn direct_encryption_is_made_byte_for_byte() {
    for (name, example) in read("jwe").into_iter().filter(|(name, _)| name.starts_with("5_6.")) {
        let jwk = Jwk::parse(example["input"]["key"].to_string().as_bytes()).unwrap();
        let key = EncryptionKey::from_jwk(&jwk, KeyManagement::Dir).unwrap();
        let iv = base64url(example["generated"]["iv"].as_str().unwrap()).unwrap();
        let mut entropy = |out: &mut [u8]| {
            out.copy_from_slice(&iv);
            Ok(())
        };
        let made = key
            .encrypt(
                ContentEncryption::A128Gcm,
                Default::default(),
                example["input"]["plaintext"].as_str().unwrap().as_bytes(),
                &mut entropy,
            )
            .unwrap();
        // The header's members may stand in another order, which changes the tag and not the ciphertext.
        assert_eq!(made.flattened()["ciphertext"], example["output"]["json_flat"]["ciphertext"], "{name}");
        assert_eq!(made.flattened()["iv"], example["output"]["json_flat"]["iv"], "{name}");
    }
}

#[test]
fn the_nested_example_opens_and_verifies() {
    let expected = JweExpectations {
        key_management: &[KeyManagement::RsaOaep],
        content_encryption: &[ContentEncryption::A128Gcm],
        compressed: false,
    };
    for (_, example) in read("").into_iter().filter(|(name, _)| name.starts_with("6.")) {
        let key = |part: &str| example[part]["input"]["key"].to_string();
        let keys = DecryptionKeys::parse(key("encrypt").as_bytes(), &[KeyManagement::RsaOaep]).unwrap();
        let outer = Jwe::parse(example["encrypt"]["output"]["compact"].as_str().unwrap())
            .unwrap()
            .decrypt(&keys, &expected)
            .unwrap();
        let inner = String::from_utf8(outer.payload).unwrap();
        let set = KeySet::parse_secret(key("sign").as_bytes(), &[Algorithm::PS256]).unwrap();
        let verified = Jws::parse(&inner).unwrap().verify(&set, &[Algorithm::PS256]).unwrap();
        assert_eq!(verified.payload, example["sign"]["input"]["payload"].as_str().unwrap().as_bytes());
    }
}
