//! Servers that are known by their public keys.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use idm_plan::{CertificateName, Secrets};
use idm_types::Timestamp;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, ClientConfig, Error};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::verifier::{CheckCertificates, checked_by};

/// The SHA-256 digest of the `SubjectPublicKeyInfo` of a certificate in DER; `None`: it cannot be read.
pub fn key_digest(certificate: &[u8]) -> Option<[u8; 32]> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().ok()?;
    digest(&SHA256, &key).as_ref().try_into().ok()
}

/// Accepts a server that has one of these keys. Whether it has the private part is proved by the signature of the
/// handshake, which is verified as always.
#[derive(Debug)]
pub(crate) struct PinnedKeys(pub(crate) Vec<[u8; 32]>);

impl CheckCertificates for PinnedKeys {
    fn check(
        &self,
        own: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
        _algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let key = key_digest(own).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.0.contains(&key) {
            return Ok(());
        }
        Err(Error::General("the server has none of the keys that are pinned".into()))
    }
}

/// The certificates that a server shows, its own first. Every handshake fails as soon as they are known: nothing can
/// be said to a server whose certificate was read but not verified.
#[derive(Clone, Debug, Default)]
pub struct ShownCertificates(Arc<Mutex<Vec<Vec<u8>>>>);

impl ShownCertificates {
    /// A configuration whose handshakes read the certificates and fail.
    pub fn config(&self) -> Result<ClientConfig, String> {
        crate::backend::showing(checked_by(self.clone())?, None, &Secrets::default())
    }

    /// The facts about the server's own certificate; `None`: none was shown, or it cannot be read.
    pub fn facts(&self) -> Option<ServerCertificateFacts> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shown.first()?;
        let certificate = Certificate::from_der(own).ok()?.tbs_certificate;
        Some(ServerCertificateFacts {
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            names: crate::certificate::names_of(&own.as_slice().into(), CertificateName::Dns),
            not_after: Timestamp::from_seconds(certificate.validity.not_after.to_unix_duration().as_secs()),
            key: key_digest(own)?,
        })
    }
}

/// The facts about a server's certificate, which nobody has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificateFacts {
    /// Its subject (RFC 4514).
    pub subject: String,
    /// Its issuer (RFC 4514).
    pub issuer: String,
    /// Its DNS names.
    pub names: Vec<String>,
    /// The time when it ends.
    pub not_after: Timestamp,
    /// The digest of its key, as [`key_digest`] makes it.
    pub key: [u8; 32],
}

/// Accepts nothing.
impl CheckCertificates for ShownCertificates {
    fn check(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
        _algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let all = std::iter::once(own).chain(chain).map(|certificate| certificate.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
        Err(Error::General("the certificates were read, and nothing else is wanted".into()))
    }
}
