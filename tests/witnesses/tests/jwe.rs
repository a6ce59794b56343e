//! Encrypted objects and `josekit`, whose cryptography is OpenSSL's: every `alg`, `enc` and kind of key, both ways.

use idm_jose::{
    DecryptionKeys, EncryptionKey, Jwe, JweError, JweExpectations, Jwk, generate_ec, generate_octets, generate_rsa,
    generate_x25519, system_entropy,
};
use idm_types::{ContentEncryption, KeyManagement};
use josekit::jwe::{self, JweDecrypter, JweEncrypter, JweHeader};

const TEXT: &[u8] = "forty-two péople".as_bytes();

/// The keys that an algorithm is tried with, by their kind.
fn keys_for(algorithm: KeyManagement, enc: ContentEncryption, rsa: &Jwk) -> Vec<(&'static str, Jwk)> {
    use KeyManagement::*;
    let octets = |bytes| vec![("oct", generate_octets(bytes).unwrap())];
    match algorithm {
        RsaOaep | RsaOaep256 => vec![("RSA", rsa.clone())],
        EcdhEs | EcdhEsA128Kw | EcdhEsA192Kw | EcdhEsA256Kw => {
            let curves = ["P-256", "P-384", "P-521"].map(|curve| (curve, generate_ec(curve).unwrap()));
            curves.into_iter().chain([("X25519", generate_x25519().unwrap())]).collect()
        }
        A128Kw | A128GcmKw => octets(16),
        A192Kw | A192GcmKw => octets(24),
        A256Kw | A256GcmKw => octets(32),
        Dir => octets(enc.key_bytes()),
        Pbes2Hs256A128Kw | Pbes2Hs384A192Kw | Pbes2Hs512A256Kw => octets(20),
    }
}

type Pair = (Box<dyn JweEncrypter>, Box<dyn JweDecrypter>);

/// The other library's two halves for this algorithm, made of one JWK.
fn theirs(algorithm: KeyManagement, key: &Jwk) -> Pair {
    use KeyManagement::*;
    let jwk = josekit::jwk::Jwk::from_bytes(key.reveal().to_string()).unwrap();
    macro_rules! pair {
        ($algorithm:expr) => {
            (
                Box::new($algorithm.encrypter_from_jwk(&jwk).unwrap()) as Box<dyn JweEncrypter>,
                Box::new($algorithm.decrypter_from_jwk(&jwk).unwrap()) as Box<dyn JweDecrypter>,
            )
        };
    }
    match algorithm {
        RsaOaep => pair!(jwe::RSA_OAEP),
        RsaOaep256 => pair!(jwe::RSA_OAEP_256),
        EcdhEs => pair!(jwe::ECDH_ES),
        EcdhEsA128Kw => pair!(jwe::ECDH_ES_A128KW),
        EcdhEsA192Kw => pair!(jwe::ECDH_ES_A192KW),
        EcdhEsA256Kw => pair!(jwe::ECDH_ES_A256KW),
        A128Kw => pair!(jwe::A128KW),
        A192Kw => pair!(jwe::A192KW),
        A256Kw => pair!(jwe::A256KW),
        A128GcmKw => pair!(jwe::A128GCMKW),
        A192GcmKw => pair!(jwe::A192GCMKW),
        A256GcmKw => pair!(jwe::A256GCMKW),
        Dir => pair!(jwe::Dir),
        Pbes2Hs256A128Kw => pair!(jwe::PBES2_HS256_A128KW),
        Pbes2Hs384A192Kw => pair!(jwe::PBES2_HS384_A192KW),
        Pbes2Hs512A256Kw => pair!(jwe::PBES2_HS512_A256KW),
    }
}

/// Runs `check` for every combination, with its name.
fn every_combination(check: impl Fn(&str, KeyManagement, ContentEncryption, &Jwk)) {
    let rsa = generate_rsa(2048).unwrap();
    let mut count = 0;
    for &algorithm in KeyManagement::ALL {
        for &enc in ContentEncryption::ALL {
            for (kind, key) in keys_for(algorithm, enc, &rsa) {
                check(&format!("{algorithm} {enc} {kind}"), algorithm, enc, &key);
                count += 1;
            }
        }
    }
    assert_eq!(count, 6 * (2 + 4 * 4 + 6 + 1 + 3), "six encryptions for each algorithm and kind of key");
}

/// The five parts of an object, each with one bit turned over in the middle; empty parts are left out.
fn altered(object: &str) -> Vec<(usize, String)> {
    let parts: Vec<&str> = object.split('.').collect();
    assert_eq!(parts.len(), 5, "{object}");
    let turned = |part: &str| {
        let mut bytes = idm_jose::base64url(part).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        idm_jose::to_base64url(&bytes)
    };
    let at = |index: usize| {
        let mut changed: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        changed[index] = turned(parts[index]);
        (index, changed.join("."))
    };
    (0..5).filter(|index| !parts[*index].is_empty()).map(at).collect()
}

#[test]
fn what_we_encrypt_is_opened_by_josekit() {
    every_combination(|name, algorithm, enc, key| {
        let ours = EncryptionKey::from_jwk(key, algorithm).unwrap();
        let object = ours.encrypt(enc, Default::default(), TEXT, &mut system_entropy).unwrap().compact();
        let (_, decrypter) = theirs(algorithm, key);
        let (opened, header) = jwe::deserialize_compact(&object, &*decrypter).unwrap();
        assert_eq!((opened.as_slice(), header.content_encryption()), (TEXT, Some(enc.name())), "{name}");
        for (part, changed) in altered(&object) {
            assert!(jwe::deserialize_compact(&changed, &*decrypter).is_err(), "{name}: part {part} was changed");
        }
    });
}

#[test]
fn what_josekit_encrypts_is_opened_by_us() {
    every_combination(|name, algorithm, enc, key| {
        let mut header = JweHeader::new();
        header.set_content_encryption(enc.name());
        let (encrypter, _) = theirs(algorithm, key);
        let object = jwe::serialize_compact(TEXT, &header, &*encrypter).unwrap();
        let keys = DecryptionKeys::parse(key.reveal().to_string().as_bytes(), &[algorithm]).unwrap();
        let expected = JweExpectations { key_management: &[algorithm], content_encryption: &[enc], compressed: false };
        let open = |object: &str| Jwe::parse(object).and_then(|object| object.decrypt(&keys, &expected));
        assert_eq!(open(&object).unwrap().payload, TEXT, "{name}");
        for (part, changed) in altered(&object) {
            let error = open(&changed).expect_err(name);
            // A changed header may not be JSON any more, or name another algorithm.
            assert!(part == 0 || error == JweError::CannotDecrypt, "{name}: part {part} was changed: {error:?}");
        }
    });
}

#[test]
fn another_key_opens_nothing_on_either_side() {
    let (key, other) = (generate_octets(32).unwrap(), generate_octets(32).unwrap());
    let (algorithm, enc) = (KeyManagement::A256Kw, ContentEncryption::A256Gcm);
    let ours = EncryptionKey::from_jwk(&key, algorithm).unwrap();
    let object = ours.encrypt(enc, Default::default(), TEXT, &mut system_entropy).unwrap().compact();
    assert!(jwe::deserialize_compact(&object, &*theirs(algorithm, &other).1).is_err());
    let mut header = JweHeader::new();
    header.set_content_encryption(enc.name());
    let object = jwe::serialize_compact(TEXT, &header, &*theirs(algorithm, &key).0).unwrap();
    let keys = DecryptionKeys::parse(other.reveal().to_string().as_bytes(), &[algorithm]).unwrap();
    let expected = JweExpectations { key_management: &[algorithm], content_encryption: &[enc], compressed: false };
    assert_eq!(Jwe::parse(&object).unwrap().decrypt(&keys, &expected).unwrap_err(), JweError::CannotDecrypt);
}
