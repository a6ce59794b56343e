//! Client certificates: checked by the handshake against all authorities of the gateway, and here once more
//! against those of the policy.

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

use crate::chain::{Attempt, Fresh};
use crate::credential::Through;
use crate::present::ClientCertificate;
use crate::{Identity, Unusable};

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

pub(crate) struct ArmedMtls {
    pub(crate) plan: MtlsMethod,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ArmedMtls {
    pub(crate) fn new(plan: &MtlsMethod) -> Result<Self, String> {
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

    pub(crate) fn attempt(&self, through: Through<'_>, certificate: ClientCertificate<'_>) -> Attempt {
        if let Err(refusal) = self.trusted(certificate.chain, through.now) {
            let refusal = refusal.by_method(through.name);
            // Another method of the policy may know its authority.
            let not_mine = refusal.reason == Reason::UntrustedCertificate;
            return if not_mine { Attempt::NotMine(refusal) } else { Attempt::Rejected(refusal) };
        }
        let Some(own) = certificate.chain.first() else {
            return Attempt::NotMine(through.denied(Reason::UntrustedCertificate, "there is no certificate"));
        };
        match self.identity(through, own) {
            Ok((identity, until)) => Attempt::Verified(Fresh { identity: identity.into(), until, epoch: 0 }),
            Err(problem) => Attempt::Rejected(through.denied(problem.reason, problem.detail)),
        }
    }

    /// Whether a chain leads to one of the authorities, at this time, and was not revoked.
    fn trusted(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), Refusal> {
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

    /// Whether the certificate has one of the names.
    fn has_a_name(&self, names: &Names) -> Result<(), String> {
        let fits = |NameRule { kind, value, prefix }: &NameRule| {
            names.of_kind(*kind).any(|name| if *prefix { name.starts_with(value.as_str()) } else { name == value })
        };
        if self.plan.names.is_empty() || self.plan.names.iter().any(fits) {
            Ok(())
        } else {
            Err("no name of the certificate is one that the policy accepts".into())
        }
    }

    fn identity(&self, through: Through<'_>, der: &CertificateDer<'_>) -> Result<(Identity, u64), Unusable> {
        let not_allowed = |detail: String| Unusable { reason: Reason::CertificateNotAllowed, detail };
        let certificate =
            Certificate::from_der(der).map_err(|_| not_allowed("the certificate cannot be read".into()))?;
        let names = Names::of(&certificate);
        self.has_a_name(&names).map_err(not_allowed)?;
        let mut mapped = names.of_kind(self.plan.identity);
        let (Some(username), None) = (mapped.next(), mapped.next()) else {
            let kind = self.plan.identity;
            return Err(not_allowed(format!("the certificate must have exactly one {kind:?} name to be a user")));
        };
        let issuer = format!("x509:{}", certificate.tbs_certificate.issuer);
        let mut roles: Vec<String> = through.grants.of_user(&issuer, username, &[]).cloned().collect();
        roles.sort();
        roles.dedup();
        let expires =
            Timestamp::from_seconds(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs());
        let mut identity = Identity {
            id: format!("{issuer}#{username}"),
            username: username.to_owned(),
            issuer: Some(issuer),
            roles,
            attributes: vec![("subject".into(), certificate.tbs_certificate.subject.to_string())],
            expires: Some(expires),
            ..Identity::nobody(through.name, through.kind)
        };
        identity.headers = through.headers(&identity)?;
        Ok((identity, expires.0))
    }
}

/// Authorities and names of certificates that signers bring along.
pub struct Signers(ArmedMtls);

impl Signers {
    /// Arms them.
    pub fn new(plan: &MtlsMethod) -> Result<Self, String> {
        ArmedMtls::new(plan).map(Self)
    }

    /// The public key (SubjectPublicKeyInfo in DER) of the first certificate of a chain in DER, if the chain and its
    /// names are good.
    pub fn key(&self, chain: Vec<Vec<u8>>, now: Timestamp) -> Result<Vec<u8>, Refusal> {
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        self.0.trusted(&chain, now)?;
        let unreadable = || Refusal::new(Reason::UntrustedCertificate, "the certificate cannot be read");
        let certificate = chain.first().and_then(|own| Certificate::from_der(own).ok()).ok_or_else(unreadable)?;
        self.0
            .has_a_name(&Names::of(&certificate))
            .map_err(|detail| Refusal::new(Reason::CertificateNotAllowed, detail))?;
        certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| unreadable())
    }
}

/// The names in a certificate; one with control characters (a NUL ends a name for some readers) is none.
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

/// SHA-256 of a certificate in base64url: `x5t#S256`.
pub fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash.as_ref())
}
