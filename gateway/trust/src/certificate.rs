//! Certificates of clients and signers: authorities, revocation lists and names.

use std::sync::Arc;

use base64::Engine;
use idm_plan::{CertificateName, MtlsMethod, NameRule};
use idm_types::{Reason, Refusal, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The authorities in PEM.
pub fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "the trust bundle is not PEM")?;
        store.add(certificate).map_err(|error| format!("a certificate of the trust bundle cannot be used: {error}"))?;
    }
    if store.is_empty() { Err("the trust bundle is empty".into()) } else { Ok(store) }
}

/// The end of the first certificate of a chain in PEM; `None` for one that cannot be read.
pub fn end_of(chain: &str) -> Option<Timestamp> {
    let first = CertificateDer::pem_slice_iter(chain.as_bytes()).next()?.ok()?;
    Certificate::from_der(&first).ok().as_ref().map(end)
}

fn end(certificate: &Certificate) -> Timestamp {
    Timestamp::from_seconds(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

/// The certificates that a policy accepts.
pub struct CertificateCheck {
    plan: MtlsMethod,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl CertificateCheck {
    /// Arms it. The error names the part that cannot be used.
    pub fn new(plan: &MtlsMethod) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let lists =
            plan.revocation_lists.iter().flat_map(|pem| CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()));
        let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|_| "the revocation lists are not PEM")?;
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&plan.roots)?), provider).with_crls(lists);
        let verifier = builder
            .build()
            .map_err(|error| format!("the trust bundle or the revocation lists cannot be used: {error}"))?;
        Ok(Self { plan: plan.clone(), verifier })
    }

    /// The plan that it was armed with.
    pub fn plan(&self) -> &MtlsMethod {
        &self.plan
    }

    /// Checks that a chain leads to one of the authorities at this time, and that no certificate of it was revoked.
    pub fn check_chain(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Refusal> {
        let (own, rest) =
            chain.split_first().ok_or_else(|| Refusal::new(Reason::UntrustedCertificate, "there is no certificate"))?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.seconds()));
        self.verifier.verify_client_cert(own, rest, time).map(drop).map_err(|error| {
            let reason = match &error {
                Error::InvalidCertificate(CertificateError::Revoked | CertificateError::UnknownRevocationStatus) => {
                    Reason::CertificateRevoked
                }
                Error::InvalidCertificate(
                    CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. },
                ) => Reason::CertificateExpired,
                _ => Reason::UntrustedCertificate,
            };
            Refusal::new(reason, error.to_string())
        })
    }

    /// Reads a certificate that has one of the names.
    pub fn read(&self, own: &CertificateDer<'_>) -> Result<Accepted, Refusal> {
        let not_allowed = |why: &str| Refusal::new(Reason::CertificateNotAllowed, why);
        let certificate = Certificate::from_der(own).map_err(|_| not_allowed("the certificate cannot be read"))?;
        let names = Names::of(&certificate);
        let fits = |NameRule { kind, value, prefix }: &NameRule| {
            names.of_kind(*kind).any(|name| if *prefix { name.starts_with(value.as_str()) } else { name == value })
        };
        if self.plan.names.is_empty() || self.plan.names.iter().any(fits) {
            Ok(Accepted { certificate, names })
        } else {
            Err(not_allowed("no name of the certificate is one that the policy accepts"))
        }
    }
}

/// A certificate with a name that the policy accepts.
pub struct Accepted {
    certificate: Certificate,
    names: Names,
}

impl Accepted {
    /// Its only name of this kind; `None` where it has none or several.
    pub fn only_name(&self, kind: CertificateName) -> Option<&str> {
        let mut names = self.names.of_kind(kind);
        names.next().filter(|_| names.next().is_none())
    }

    /// The name of its issuer (RFC 4514).
    pub fn issuer(&self) -> String {
        self.certificate.tbs_certificate.issuer.to_string()
    }

    /// Its subject (RFC 4514).
    pub fn subject(&self) -> String {
        self.certificate.tbs_certificate.subject.to_string()
    }

    /// The time when it ends.
    pub fn not_after(&self) -> Timestamp {
        end(&self.certificate)
    }
}

/// The authorities and names that are accepted for certificates in signed objects.
pub struct Signers(CertificateCheck);

impl Signers {
    /// Arms them.
    pub fn new(plan: &MtlsMethod) -> Result<Self, String> {
        CertificateCheck::new(plan).map(Self)
    }

    /// The public key (SubjectPublicKeyInfo in DER) of the first certificate of a chain in DER, if the chain and its
    /// names are valid.
    pub fn key(&self, chain: Vec<Vec<u8>>, now: Timestamp) -> Result<Vec<u8>, Refusal> {
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        self.0.check_chain(&chain, now)?;
        let unreadable = || Refusal::new(Reason::UntrustedCertificate, "the certificate cannot be read");
        let accepted = self.0.read(chain.first().ok_or_else(unreadable)?)?;
        accepted.certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| unreadable())
    }
}

/// The names in a certificate; one with control characters (a NUL ends a name for some readers) does not count.
struct Names(Vec<(CertificateName, String)>);

impl Names {
    fn of(certificate: &Certificate) -> Self {
        let mut names = Vec::new();
        if let Ok(Some((_, SubjectAltName(alternatives)))) = certificate.tbs_certificate.get::<SubjectAltName>() {
            for name in alternatives {
                match name {
                    GeneralName::UniformResourceIdentifier(uri) => names.push((CertificateName::Uri, uri.to_string())),
                    GeneralName::DnsName(name) => {
                        names.push((CertificateName::Dns, name.to_string().to_ascii_lowercase()))
                    }
                    GeneralName::Rfc822Name(address) => names.push((CertificateName::Email, address.to_string())),
                    _ => {}
                }
            }
        }
        let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
        for attribute in attributes.filter(|attribute| attribute.oid == COMMON_NAME) {
            let value = &attribute.value;
            let text = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.to_string());
            let text = text.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.to_string()));
            names.extend(
                text.or_else(|_| value.decode_as::<Ia5StringRef<'_>>().map(|text| text.to_string()))
                    .ok()
                    .map(|text| (CertificateName::CommonName, text)),
            );
        }
        names.push((CertificateName::Subject, certificate.tbs_certificate.subject.to_string()));
        names.retain(|(_, name)| !name.is_empty() && name.len() <= 512 && !name.chars().any(char::is_control));
        Self(names)
    }

    fn of_kind(&self, kind: CertificateName) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| *of == kind).map(|(_, name)| name.as_str())
    }
}

/// The names of this kind in a certificate; none if it cannot be read.
pub(crate) fn names_of(certificate: &CertificateDer<'_>, kind: CertificateName) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return vec![] };
    Names::of(&certificate).of_kind(kind).map(str::to_owned).collect()
}

/// SHA-256 of a certificate in base64url: `x5t#S256`.
pub fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_ref())
}
