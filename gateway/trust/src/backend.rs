//! TLS towards a backend: the check of its certificate, and the certificate that is shown to it.

use std::sync::Arc;

use idm_plan::{
    BackendName, BackendTls, CertificateName, DirectoryTls, OutgoingTls, SecretHandle, Secrets, ServerTrust,
};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::certificate::{names_of, roots};
use crate::pinned::PinnedKeys;

/// Arms the TLS of connections to a backend. The error shows no key.
///
/// The authorities of the system count where the plan names none (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). If
/// there are none, every connection is refused, and the rest of the plan is served.
pub fn backend_config(tls: &BackendTls, secrets: &Secrets) -> Result<ClientConfig, String> {
    let BackendTls { server_name: _, names, settings: OutgoingTls { roots: bundle, certificate } } = tls;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = BackendVerifier::new(roots_of(bundle.as_deref())?, names, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous() // The verifier does what the default one does, for several names.
        .with_custom_certificate_verifier(Arc::new(verifier));
    showing(builder, certificate.as_ref(), secrets)
}

/// Arms the TLS of connections to a directory: its certificate must have the name that it is reached by, or its key is
/// one of those that are pinned. `None`: the authorities of the system, and no certificate of ours. The error shows no
/// key.
pub fn client_config(tls: Option<&DirectoryTls>, secrets: &Secrets) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match tls.map(|tls| &tls.trust) {
        None | Some(ServerTrust::System) => builder.with_root_certificates(roots_of_the_system()),
        Some(ServerTrust::Roots(pem)) => builder.with_root_certificates(roots(pem)?),
        Some(ServerTrust::Keys(keys)) => builder
            .dangerous() // The verifier compares the key, and the handshake proves that the server has it.
            .with_custom_certificate_verifier(Arc::new(PinnedKeys::new(keys.clone(), provider))),
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

/// Accepts a certificate that leads to one of the authorities and has one of the names.
#[derive(Debug)]
struct BackendVerifier {
    roots: RootCertStore,
    dns: Vec<ServerName<'static>>,
    uris: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl BackendVerifier {
    fn new(roots: RootCertStore, names: &[BackendName], provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let (mut dns, mut uris) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                BackendName::Dns(name) => {
                    dns.push(ServerName::try_from(name.clone()).map_err(|_| format!("`{name}` is not a DNS name"))?)
                }
                BackendName::Uri(uri) => uris.push(uri.clone()),
            }
        }
        Ok(Self { roots, dns, uris, provider })
    }

    /// Whether the certificate has one of the names.
    fn has_name(&self, certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        self.dns.iter().any(|name| verify_server_name(parsed, name).is_ok())
            || names_of(certificate, CertificateName::Uri).iter().any(|uri| self.uris.contains(uri))
    }
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(own)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms)?;
        if self.has_name(own, &parsed) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
