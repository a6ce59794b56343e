//! Operations per second on one core: signatures made and checked, objects sealed and opened. Run by
//! `tests/bench/jose`.

use std::time::{Duration, Instant};

use idm_jose::{
    DecryptionKeys, EncryptionKey, Jwe, JweExpectations, Jws, KeySet, SigningKey, generate_ec, generate_octets,
    generate_rsa, system_entropy,
};
use idm_types::{Algorithm, ContentEncryption, KeyManagement};
use serde_json::Map;

fn per_second(mut work: impl FnMut()) -> f64 {
    let (start, mut done) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..16 {
            work();
        }
        done += 16;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let payload = format!("{{\"order\": 7, \"note\": \"{}\"}}", "x".repeat(200));
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
        let key = SigningKey::generate(algorithm, "k")?;
        let signed = key.sign_payload(&key.header(), payload.as_bytes())?.compact();
        println!(
            "idm sign {algorithm} {:.0}",
            per_second(|| drop(key.sign_payload(&key.header(), payload.as_bytes()).map(|signed| signed.compact())))
        );
        if !algorithm.is_symmetric() {
            let keys = KeySet::parse(key.jwks().to_string().as_bytes(), &[algorithm])?;
            assert!(Jws::parse(&signed)?.verify(&keys, &[algorithm]).is_ok());
            println!(
                "idm verify {algorithm} {:.0}",
                per_second(|| drop(Jws::parse(&signed).and_then(|jws| jws.verify(&keys, &[algorithm]))))
            );
        }
    }
    for (algorithm, encryption, key) in [
        (KeyManagement::RsaOaep256, ContentEncryption::A256Gcm, generate_rsa(2048)?),
        (KeyManagement::EcdhEsA256Kw, ContentEncryption::A256Gcm, generate_ec("P-256")?),
        (KeyManagement::Dir, ContentEncryption::A128CbcHs256, generate_octets(32)?),
    ] {
        let set = serde_json::json!({"keys": [key.reveal()]}).to_string();
        let public = key.public().unwrap_or_else(|| key.clone());
        let encrypting = EncryptionKey::from_jwk(&public, algorithm)?;
        let decrypting = DecryptionKeys::parse(set.as_bytes(), &[algorithm])?;
        let expected =
            JweExpectations { key_management: &[algorithm], content_encryption: &[encryption], compressed: false };
        let seal = || {
            encrypting
                .encrypt(encryption, Map::new(), payload.as_bytes(), &mut system_entropy)
                .map(|sealed| sealed.compact())
        };
        let sealed = seal()?;
        assert!(Jwe::parse(&sealed)?.decrypt(&decrypting, &expected).is_ok());
        println!("idm encrypt {algorithm}/{encryption} {:.0}", per_second(|| drop(seal())));
        println!(
            "idm decrypt {algorithm}/{encryption} {:.0}",
            per_second(|| drop(Jwe::parse(&sealed).and_then(|jwe| jwe.decrypt(&decrypting, &expected))))
        );
    }
    Ok(())
}
