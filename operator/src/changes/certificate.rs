//! The webhook's certificate: made here, signed by itself, in memory only, and renewed long before it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use idm_types::Timestamp;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use x509_cert::certificate::{Certificate as X509, TbsCertificate, Version};
use x509_cert::der::asn1::{BitString, Ia5String, OctetString, UtcTime};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Any, Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

/// Its life, of which an hour lies before its making: clocks differ.
const LIFE_SECONDS: u64 = 14 * 86_400;
const BEFORE_SECONDS: u64 = 3_600;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// A certificate and the configuration of a server that has it.
pub(crate) struct Certificate {
    /// For the API server, which trusts this one alone.
    pub(crate) pem: String,
    pub(crate) config: Arc<ServerConfig>,
    /// The name that it is for.
    pub(crate) name: String,
    made: Timestamp,
}

impl Certificate {
    /// Makes one for a name of DNS, with a key of its own.
    pub(crate) fn make(name: &str, now: Timestamp) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("no key could be made"))?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).map_err(|_| anyhow!("no key could be made"))?;
        let mut serial = [0; 16];
        random.fill(&mut serial).map_err(|_| anyhow!("the system gave no random bits"))?;
        let body = body(name, &serial, key.public_key().as_ref(), now)?;
        let signature = key.sign(&random, &body.to_der()?).map_err(|_| anyhow!("the certificate cannot be signed"))?;
        let signed = X509 {
            signature_algorithm: body.signature.clone(),
            tbs_certificate: body,
            signature: BitString::from_bytes(signature.as_ref())?,
        };
        let der = CertificateDer::from(signed.to_der()?);
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![der], private)
            .context("the certificate cannot be used")?;
        let pem = signed.to_pem(x509_cert::der::pem::LineEnding::LF)?;
        Ok(Self { pem, config: Arc::new(config), name: name.to_owned(), made: now })
    }

    /// Whether it is time for the next one: a third of its life has passed, or it is for another name.
    pub(crate) fn is_due(&self, name: &str, now: Timestamp) -> bool {
        self.name != name || now.seconds().abs_diff(self.made.seconds()) > LIFE_SECONDS / 3
    }
}

fn body(name: &str, serial: &[u8], public: &[u8], now: Timestamp) -> anyhow::Result<TbsCertificate> {
    let oid = |oid, parameters: Option<Any>| AlgorithmIdentifierOwned { oid, parameters };
    let subject: Name = "CN=idm changes".parse()?;
    let at = |seconds: u64| anyhow::Ok(Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(seconds))?));
    let extension = |id, value: Vec<u8>| {
        anyhow::Ok(Extension { extn_id: id, critical: false, extn_value: OctetString::new(value)? })
    };
    let host = match name.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
        Ok(std::net::IpAddr::V6(ip)) => GeneralName::IpAddress(OctetString::new(ip.octets())?),
        Err(_) => GeneralName::DnsName(Ia5String::new(name)?),
    };
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(serial)?,
        signature: oid(ECDSA_WITH_SHA256, None),
        issuer: subject.clone(),
        validity: Validity {
            not_before: at(now.seconds().saturating_sub(BEFORE_SECONDS))?,
            not_after: at(now.seconds().saturating_add(LIFE_SECONDS))?,
        },
        subject,
        subject_public_key_info: SubjectPublicKeyInfoOwned {
            algorithm: oid(EC_PUBLIC_KEY, Some(Any::from(P256))),
            subject_public_key: BitString::from_bytes(public)?,
        },
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(vec![
            extension(SUBJECT_ALT_NAME, SubjectAltName(vec![host]).to_der()?)?,
            extension(EXTENDED_KEY_USAGE, ExtendedKeyUsage(vec![SERVER_AUTH]).to_der()?)?,
        ]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_long_before_it_ends() {
        let made = Timestamp::from_seconds(1_800_000_000);
        let certificate = Certificate::make("idm-changes.idm-system.svc", made).unwrap();
        let later = |seconds: u64| Timestamp::from_seconds(made.seconds() + seconds);
        assert!(!certificate.is_due("idm-changes.idm-system.svc", later(LIFE_SECONDS / 3)));
        assert!(certificate.is_due("idm-changes.idm-system.svc", later(LIFE_SECONDS / 3 + 1)));
        assert!(certificate.is_due("another.svc", made));
        assert!(certificate.pem.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    /// A client that trusts nothing but the certificate accepts it for its name, and for no other.
    #[tokio::test]
    async fn a_client_trusts_it_for_its_name() {
        for (name, asked, accepted) in
            [("a.b.svc", "a.b.svc", true), ("127.0.0.1", "127.0.0.1", true), ("a.b.svc", "c.svc", false)]
        {
            let certificate = Certificate::make(name, Timestamp::now()).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            use rustls::pki_types::pem::PemObject;
            roots.add(CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let client = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let (near, far) = tokio::io::duplex(1 << 14);
            let acceptor = tokio_rustls::TlsAcceptor::from(certificate.config.clone());
            let server = tokio::spawn(async move { acceptor.accept(far).await.is_ok() });
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let connected = connector.connect(asked.to_owned().try_into().unwrap(), near).await;
            assert_eq!(connected.is_ok(), accepted, "{name} {asked}: {:?}", connected.err());
            drop(connected);
            server.await.unwrap();
        }
    }
}
