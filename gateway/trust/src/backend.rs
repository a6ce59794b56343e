//! TLS towards a backend: the check of its certificate, and the certificate that is shown to it.

use std::sync::Arc;

use idm_plan::{
    BackendName, BackendTls, CertificateName, DirectoryTls, OutgoingTls, SecretHandle, Secrets, ServerTrust,
};
use rustls::client::WantsClientCert;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore};

use crate::certificate::{names_of, roots};
use crate::pinned::PinnedKeys;
use crate::verifier::{CheckCertificates, checked_by};

/// Arms the TLS of connections to a backend. The error shows no key.
///
/// The authorities of the system count where the plan names none (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). If
/// there are none, every connection is refused, and the rest of the plan is served.
pub fn backend_config(tls: &BackendTls, secrets: &Secrets) -> Result<ClientConfig, String> {
    let BackendTls { server_name: _, names, settings: OutgoingTls { roots: bundle, certificate } } = tls;
    let builder = checked_by(BackendNames::new(roots_of(bundle.as_deref())?, names)?)?;
    showing(builder, certificate.as_ref(), secrets)
}

/// Arms the TLS of connections to a directory: its certificate must have the name that it is reached by, or its key is
/// one of those that are pinned. `None`: the authorities of the system, and no certificate of ours. The error shows no
/// key.
pub fn client_config(tls: Option<&DirectoryTls>, secrets: &Secrets) -> Result<ClientConfig, String> {
    let authorities = |roots: RootCertStore| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        builder.map(|builder| builder.with_root_certificates(roots)).map_err(|error| error.to_string())
    };
    let builder = match tls.map(|tls| &tls.trust) {
        None | Some(ServerTrust::System) => authorities(roots_of_the_system())?,
        Some(ServerTrust::Roots(pem)) => authorities(roots(pem)?)?,
        Some(ServerTrust::Keys(keys)) => checked_by(PinnedKeys(keys.clone()))?,
    };
    showing(builder, tls.and_then(|tls| tls.certificate.as_ref()), secrets)
}

/// The last step of a configuration: the certificate that is shown.
pub(crate) fn showing(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: Option<&(String, SecretHandle)>,
    secrets: &Secrets,
) -> Result<ClientConfig, String> {
    let Some((chain, handle)) = certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| "a certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(secrets.wanted(handle)?.reveal())
        .map_err(|_| format!("the secret `{}` is not a private key in PEM", handle.0))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("certificate and key of `{}`: {error}", handle.0))
}

/// The authorities of a bundle in PEM, or of the system.
fn roots_of(bundle: Option<&str>) -> Result<RootCertStore, String> {
    match bundle {
        Some(pem) => roots(pem),
        None => Ok(roots_of_the_system()),
    }
}

fn roots_of_the_system() -> RootCertStore {
    let mut store = RootCertStore::empty();
    // One that cannot be read vouches for nobody; the others count.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// Accepts a certificate that leads to one of the authorities and has one of the names: the default check, for several
/// names.
#[derive(Debug)]
struct BackendNames {
    roots: RootCertStore,
    dns: Vec<ServerName<'static>>,
    uris: Vec<String>,
}

impl BackendNames {
    fn new(roots: RootCertStore, names: &[BackendName]) -> Result<Self, String> {
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                BackendName::Dns(name) => {
                    dns.push(ServerName::try_from(name.clone()).map_err(|_| format!("`{name}` is not a DNS name"))?)
                }
                BackendName::Uri(uri) => uris.push(uri.clone()),
            }
        }
        Ok(Self { roots, dns, uris })
    }

    /// Whether the certificate has one of the names.
    fn has_name(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        self.dns.iter().any(|name| verify_server_name(parsed, name).is_ok())
            || names_of(certificate, CertificateName::Uri).iter().any(|uri| self.uris.contains(uri))
    }
}

impl CheckCertificates for BackendNames {
    fn check(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(own)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms.all)?;
        let has_name = self.has_name(own, &parsed);
        has_name.then_some(()).ok_or(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}
