//! Keys that are bound to what they may do when they are loaded, and the algorithms that there are.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair as RsaKeyPair, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::SamlError;

/// Signature algorithms: RSA and ECDSA, with SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    RsaSha256,
    RsaSha384,
    RsaSha512,
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    /// The field's messages for tests are older than SHA-2: only tests take it, to see what comes after.
    #[cfg(test)]
    RsaSha1,
}

const ALGORITHMS: &[(Algorithm, &str)] = &[
    #[cfg(test)]
    (Algorithm::RsaSha1, "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
    (Algorithm::RsaSha256, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"),
    (Algorithm::RsaSha384, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"),
    (Algorithm::RsaSha512, "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512"),
    (Algorithm::EcdsaSha256, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
    (Algorithm::EcdsaSha384, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"),
    (Algorithm::EcdsaSha512, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512"),
];

impl Algorithm {
    pub(crate) fn uri(self) -> &'static str {
        ALGORITHMS.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, uri)| uri)
    }

    /// Everything else is refused by its name.
    pub(crate) fn from_uri(uri: &str) -> Result<Self, SamlError> {
        ALGORITHMS
            .iter()
            .find(|(_, known)| *known == uri)
            .map(|(algorithm, _)| *algorithm)
            .ok_or_else(|| SamlError::algorithm(uri))
    }
}

/// Hashes of references.
pub(crate) fn hash(uri: &str) -> Result<&'static digest::Algorithm, SamlError> {
    match uri {
        "http://www.w3.org/2001/04/xmlenc#sha256" => Ok(&SHA256),
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => Ok(&SHA384),
        "http://www.w3.org/2001/04/xmlenc#sha512" => Ok(&SHA512),
        #[cfg(test)]
        "http://www.w3.org/2000/09/xmldsig#sha1" => Ok(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        other => Err(SamlError::algorithm(other)),
    }
}

/// base64 as it stands in XML, with line breaks anywhere.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, SamlError> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(|_| SamlError::Malformed("something is not base64"))
}

pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
}

/// A key that a provider signs with, known from its metadata or written down: never from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    kind: Kind,
    /// RSA: the SubjectPublicKeyInfo; otherwise the point.
    key: Vec<u8>,
    certificate: Vec<u8>,
}

impl VerifyingKey {
    /// The key of a certificate in DER. Its dates are not looked at: trust comes from where it was written down
    /// (SAML metadata interoperability profile §2.6.1).
    pub fn from_certificate(der: &[u8]) -> Result<Self, SamlError> {
        let unusable = || {
            SamlError::Key(
                "a certificate cannot be read, or its key is neither RSA with 2048 bits or more nor on P-256, P-384 \
                 or P-521",
            )
        };
        let certificate = Certificate::from_der(der).map_err(|_| unusable())?;
        let info = &certificate.tbs_certificate.subject_public_key_info;
        let bits = info.subject_public_key.as_bytes().ok_or_else(unusable)?;
        let curve = || {
            info.algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.decode_as::<x509_cert::der::asn1::ObjectIdentifier>().ok())
                .map(|oid| oid.to_string())
        };
        let kind = match (info.algorithm.oid.to_string().as_str(), curve().as_deref()) {
            ("1.2.840.113549.1.1.1", _) => Kind::Rsa,
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => Kind::P256,
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => Kind::P384,
            ("1.2.840.10045.2.1", Some("1.3.132.0.35")) => Kind::P521,
            _ => return Err(unusable()),
        };
        // A modulus of 2048 bits makes at least so many bytes.
        if kind == Kind::Rsa && bits.len() < 256 + 8 && !cfg!(test) {
            return Err(unusable());
        }
        let key = if kind == Kind::Rsa { info.to_der().map_err(|_| unusable())? } else { bits.to_vec() };
        Ok(Self { kind, key, certificate: der.to_vec() })
    }

    /// The keys of certificates in PEM.
    pub fn from_pem(pem: &str) -> Result<Vec<Self>, SamlError> {
        certificates(pem)?.iter().map(|der| Self::from_certificate(der)).collect()
    }

    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verification: &dyn sig::VerificationAlgorithm = match (algorithm, self.kind) {
            #[cfg(test)]
            (Algorithm::RsaSha1, Kind::Rsa) => &sig::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            #[cfg(test)]
            (Algorithm::RsaSha256, Kind::Rsa) if self.key.len() < 256 => {
                &sig::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY
            }
            #[cfg(test)]
            (Algorithm::RsaSha512, Kind::Rsa) if self.key.len() < 256 => {
                &sig::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
            }
            (Algorithm::RsaSha256, Kind::Rsa) => &sig::RSA_PKCS1_2048_8192_SHA256,
            (Algorithm::RsaSha384, Kind::Rsa) => &sig::RSA_PKCS1_2048_8192_SHA384,
            (Algorithm::RsaSha512, Kind::Rsa) => &sig::RSA_PKCS1_2048_8192_SHA512,
            (Algorithm::EcdsaSha256, Kind::P256) => &sig::ECDSA_P256_SHA256_FIXED,
            (Algorithm::EcdsaSha384, Kind::P384) => &sig::ECDSA_P384_SHA384_FIXED,
            (Algorithm::EcdsaSha512, Kind::P521) => &sig::ECDSA_P521_SHA512_FIXED,
            // A key does what it is for, whatever a message says.
            _ => return false,
        };
        UnparsedPublicKey::new(verification, &self.key).verify(message, signature).is_ok()
    }
}

/// The certificates of a PEM text, in DER.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, SamlError> {
    let mut found = Vec::new();
    for part in pem.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let body = part.split("-----END CERTIFICATE-----").next().unwrap_or_default();
        found.push(from_base64(body)?);
    }
    if found.is_empty() { Err(SamlError::Key("there is no certificate")) } else { Ok(found) }
}

enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>, Algorithm),
}

/// Our own key, with its certificate: it signs what we send and opens what was encrypted for us.
pub struct OwnKey {
    signer: Signer,
    opener: Option<OaepPrivateDecryptingKey>,
    certificate: Vec<u8>,
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey([redacted])")
    }
}

impl OwnKey {
    /// A certificate and its private key (PKCS#8, PKCS#1 or SEC1), both in PEM.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, SamlError> {
        let unusable =
            || SamlError::Key("the private key must be in PEM, RSA with 2048 bits or more or on P-256 or P-384");
        let block = |label: &str| {
            let (_, rest) = key.split_once(&format!("-----BEGIN {label}-----"))?;
            Some(from_base64(rest.split_once(&format!("-----END {label}-----"))?.0))
        };
        let certificate =
            certificates(certificate)?.into_iter().next().ok_or(SamlError::Key("there is no certificate"))?;
        let public = VerifyingKey::from_certificate(&certificate)?;
        let pkcs8 = block("PRIVATE KEY").transpose()?;
        let ec = |signing, algorithm| {
            let pair = match &pkcs8 {
                Some(der) => EcdsaKeyPair::from_pkcs8(signing, der).ok()?,
                None => EcdsaKeyPair::from_private_key_der(signing, &block("EC PRIVATE KEY")?.ok()?).ok()?,
            };
            Some(Signer::Ec(Box::new(pair), algorithm))
        };
        let rsa = || match &pkcs8 {
            Some(der) => RsaKeyPair::from_pkcs8(der).ok(),
            None => RsaKeyPair::from_der(&block("RSA PRIVATE KEY")?.ok()?).ok(),
        };
        let signer = match public.kind {
            Kind::Rsa => rsa().map(|pair| Signer::Rsa(Box::new(pair))),
            Kind::P256 => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::EcdsaSha256),
            Kind::P384 => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::EcdsaSha384),
            Kind::P521 => None,
        };
        let signer = signer.ok_or_else(unusable)?;
        let opener = match &signer {
            Signer::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair)
                .ok()
                .and_then(|der| PrivateDecryptingKey::from_pkcs8(der.as_ref()).ok())
                .and_then(|key| OaepPrivateDecryptingKey::new(key).ok()),
            Signer::Ec(..) => None,
        };
        let own = Self { signer, opener, certificate };
        // A key that is not the certificate's would be noticed by the provider only.
        let proof = own.sign(b"proof")?;
        if !public.verifies(own.algorithm(), b"proof", &proof) {
            return Err(SamlError::Key("the private key is not that of the certificate"));
        }
        Ok(own)
    }

    /// The certificate in base64 of DER.
    pub(crate) fn certificate(&self) -> String {
        to_base64(&self.certificate)
    }

    /// Whether it can open what is encrypted for it.
    pub(crate) fn opens(&self) -> bool {
        self.opener.is_some()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match &self.signer {
            Signer::Rsa(_) => Algorithm::RsaSha256,
            Signer::Ec(_, algorithm) => *algorithm,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SamlError> {
        let (random, failed) = (SystemRandom::new(), || SamlError::Key("the key cannot sign"));
        match &self.signer {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&sig::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| failed())?;
                Ok(signature)
            }
            Signer::Ec(pair, _) => Ok(pair.sign(&random, message).map_err(|_| failed())?.as_ref().to_vec()),
        }
    }

    /// RSA-OAEP; with SHA-1 inside where the message says nothing else, which harms nothing here.
    pub(crate) fn open(&self, sealed: &[u8], sha256: bool) -> Option<Vec<u8>> {
        let opener = self.opener.as_ref()?;
        let mut out = vec![0; opener.min_output_size()];
        let algorithm = if sha256 { &OAEP_SHA256_MGF1SHA256 } else { &OAEP_SHA1_MGF1SHA1 };
        opener.decrypt(algorithm, sealed, &mut out, None).ok().map(|opened| opened.to_vec())
    }
}
