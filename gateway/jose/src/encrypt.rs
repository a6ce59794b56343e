//! Making a JWE (RFC 7516 §5.1).

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use idm_types::{ContentEncryption, KeyManagement};
use pkcs1::der::Encode;
use pkcs8::spki;
use serde_json::{Map, Value};

use crate::{JweError, Jwk, JwkError, agree, content, jwe, numbers, to_base64url, wrap};

/// Rounds of PBKDF2 that we ask for ourselves.
const ROUNDS: u32 = 60_000;

/// The source of random bytes.
pub type Entropy<'e> = &'e mut dyn FnMut(&mut [u8]) -> Result<(), JweError>;

/// The system's random bytes.
pub fn system_entropy(out: &mut [u8]) -> Result<(), JweError> {
    SystemRandom::new().fill(out).map_err(|_| JweError::CannotEncrypt)
}

/// A key that encrypts for one recipient with one algorithm.
#[derive(Debug)]
pub struct EncryptionKey {
    jwk: Jwk,
    algorithm: KeyManagement,
}

/// An encrypted object, ready to be written in one of its serializations.
#[derive(Debug)]
pub struct Encrypted {
    protected: String,
    encrypted_key: Vec<u8>,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

impl EncryptionKey {
    /// Binds a public (or symmetric) key to one algorithm.
    pub fn from_jwk(jwk: &Jwk, algorithm: KeyManagement) -> Result<Self, JwkError> {
        let public = jwk.public().unwrap_or_else(|| jwk.clone());
        if !jwe::fits(&public, algorithm, &["encrypt", "wrapKey", "deriveKey", "deriveBits"]) {
            return Err(JwkError::Unfit { key: jwk.describe(), algorithm: algorithm.name() });
        }
        if public.text("kty") == Some("RSA") {
            numbers::rsa_public(&public)?;
        }
        Ok(Self { jwk: public, algorithm })
    }

    /// The key's name.
    pub fn kid(&self) -> Option<&str> {
        self.jwk.kid()
    }

    /// Encrypts. `header` holds further protected members, such as `cty`; `alg`, `enc`, `kid` and what the
    /// algorithm needs are added.
    pub fn encrypt(
        &self,
        enc: ContentEncryption,
        mut header: Map<String, Value>,
        plaintext: &[u8],
        entropy: Entropy<'_>,
    ) -> Result<Encrypted, JweError> {
        header.insert("alg".into(), self.algorithm.name().into());
        header.insert("enc".into(), enc.name().into());
        if let Some(kid) = self.jwk.kid() {
            header.entry("kid").or_insert_with(|| kid.into());
        }
        let (cek, encrypted_key) = self.content_key(enc, &mut header, entropy)?;
        let protected = to_base64url(Value::Object(header).to_string().as_bytes());
        let mut iv = vec![0; enc.iv_bytes()];
        entropy(&mut iv)?;
        let (ciphertext, tag) = content::seal(enc, &cek, &iv, protected.as_bytes(), plaintext)?;
        Ok(Encrypted { protected, encrypted_key, iv, ciphertext, tag })
    }

    /// The content key and its wrapped form.
    fn content_key(
        &self,
        enc: ContentEncryption,
        header: &mut Map<String, Value>,
        entropy: Entropy<'_>,
    ) -> Result<(Vec<u8>, Vec<u8>), JweError> {
        use KeyManagement::*;
        if self.algorithm == Dir {
            let key = numbers::octets(&self.jwk)?;
            return if key.len() == enc.key_bytes() {
                Ok((key, Vec::new()))
            } else {
                Err(JwkError::Broken("the key must have the size that `enc` needs").into())
            };
        }
        if self.algorithm == EcdhEs {
            return Ok((self.agreed_key(enc, header)?, Vec::new()));
        }
        let mut cek = vec![0; enc.key_bytes()];
        entropy(&mut cek)?;
        let wrapped = match self.algorithm {
            RsaOaep => self.oaep(&OAEP_SHA1_MGF1SHA1, &cek)?,
            RsaOaep256 => self.oaep(&OAEP_SHA256_MGF1SHA256, &cek)?,
            A128Kw | A192Kw | A256Kw => wrap::wrap(&numbers::octets(&self.jwk)?, &cek)?,
            A128GcmKw | A192GcmKw | A256GcmKw => {
                let mut iv = [0; 12];
                entropy(&mut iv)?;
                let (wrapped, tag) = content::gcm_seal(&numbers::octets(&self.jwk)?, &iv, b"", &cek)?;
                header.insert("iv".into(), to_base64url(&iv).into());
                header.insert("tag".into(), to_base64url(&tag).into());
                wrapped
            }
            Pbes2Hs256A128Kw | Pbes2Hs384A192Kw | Pbes2Hs512A256Kw => {
                let mut salt = [0; 16];
                entropy(&mut salt)?;
                header.insert("p2s".into(), to_base64url(&salt).into());
                header.insert("p2c".into(), ROUNDS.into());
                wrap::wrap(&jwe::password_key(self.algorithm, &numbers::octets(&self.jwk)?, &salt, ROUNDS)?, &cek)?
            }
            EcdhEsA128Kw | EcdhEsA192Kw | EcdhEsA256Kw => wrap::wrap(&self.agreed_key(enc, header)?, &cek)?,
            Dir | EcdhEs => return Err(JweError::CannotEncrypt),
        };
        Ok((cek, wrapped))
    }

    fn agreed_key(&self, enc: ContentEncryption, header: &mut Map<String, Value>) -> Result<Vec<u8>, JweError> {
        let (ephemeral, epk) = agree::ephemeral(&self.jwk)?;
        header.insert("epk".into(), epk);
        let secret = agree::shared_secret(&ephemeral, &self.jwk)?;
        let (id, size) = jwe::agreed(self.algorithm, enc);
        agree::derive(&secret, id, b"", b"", size)
    }

    fn oaep(&self, algorithm: &'static OaepAlgorithm, cek: &[u8]) -> Result<Vec<u8>, JweError> {
        let key = OaepPublicEncryptingKey::new(rsa_key(&self.jwk)?).map_err(|_| JweError::CannotEncrypt)?;
        let mut out = vec![0; key.ciphertext_size()];
        key.encrypt(algorithm, cek, &mut out, None).map(|bytes| bytes.to_vec()).map_err(|_| JweError::CannotEncrypt)
    }
}

fn rsa_key(jwk: &Jwk) -> Result<PublicEncryptingKey, JweError> {
    let pkcs1 = numbers::rsa_public(jwk)?;
    let bits = spki::der::asn1::BitStringRef::from_bytes(&pkcs1).map_err(|_| JweError::CannotEncrypt)?;
    let info = spki::SubjectPublicKeyInfoRef { algorithm: pkcs1::ALGORITHM_ID, subject_public_key: bits };
    let der = info.to_der().map_err(|_| JweError::CannotEncrypt)?;
    PublicEncryptingKey::from_der(&der).map_err(|_| JweError::CannotEncrypt)
}

impl Encrypted {
    /// The compact serialization (RFC 7516 §7.1).
    pub fn compact(&self) -> String {
        let parts = [&self.encrypted_key, &self.iv, &self.ciphertext, &self.tag].map(|part| to_base64url(part));
        format!("{}.{}", self.protected, parts.join("."))
    }

    /// The flattened JSON serialization (RFC 7516 §7.2.2).
    pub fn flattened(&self) -> Value {
        let mut out = Map::from_iter([("protected".to_owned(), Value::from(self.protected.as_str()))]);
        if !self.encrypted_key.is_empty() {
            out.insert("encrypted_key".into(), to_base64url(&self.encrypted_key).into());
        }
        for (name, bytes) in [("iv", &self.iv), ("ciphertext", &self.ciphertext), ("tag", &self.tag)] {
            out.insert(name.into(), to_base64url(bytes).into());
        }
        Value::Object(out)
    }
}
