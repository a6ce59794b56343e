//! TLS of the HTTPS listeners: made anew with every plan and every change of the
//! clients' authorities, so that no session and no ticket outlives
//! the authorities and certificates it was made under. Connections that are open stay open.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use idm_decide::Secured;
use idm_plan::{ClientAuthentication, Credentials, Host, MethodKind, Plan, Proof, Secrets, ServerCertificate};
use idm_trust::{end_of, roots, thumbprint};
use idm_types::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

/// The facts that TLS proved about one connection.
pub(crate) fn secured(connection: &ServerConnection) -> Secured {
    let chain: Vec<_> = connection
        .peer_certificates()
        .into_iter()
        .flatten()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let thumbprint = chain.first().map(thumbprint).unwrap_or_default();
    Secured { server_name: connection.server_name().map(str::to_ascii_lowercase), chain, thumbprint }
}

/// The authorities of the clients that prove themselves with a certificate, as PEM, each once.
pub(crate) fn authorities_of_clients(credentials: &Credentials) -> Vec<String> {
    let roots = credentials.all.iter().filter_map(|credential| match &credential.proof {
        Proof::Client(client) => match &client.authentication {
            ClientAuthentication::Certificate(method) => Some(method.roots.clone()),
            _ => None,
        },
        _ => None,
    });
    roots.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The hosts with certificates of their own, each with the time when it ends. The host is `*` for all other names.
pub(crate) fn ends(certificates: &[ServerCertificate]) -> BTreeMap<String, Timestamp> {
    let mut ends = BTreeMap::new();
    for ServerCertificate { host, chain, key: _ } in certificates {
        let host = match host {
            Host::Exact(name) => name.clone(),
            Host::Below(domain) => format!("*.{domain}"),
            Host::Any => "*".to_owned(),
        };
        // As below, the first one of a host is shown.
        if let Some(end) = end_of(chain) {
            ends.entry(host).or_insert(end);
        }
    }
    ends
}

/// Arms the TLS of a plan; `None` when it has no HTTPS listener.
pub(crate) fn arm(
    plan: &Plan,
    secrets: &Secrets,
    authorities_of_clients: &[String],
) -> Result<Option<Arc<ServerConfig>>, String> {
    if plan.certificates.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificates = Certificates::new(&plan.certificates, secrets, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    // A client that presents a certificate must present a valid one; the policies decide whether one is needed.
    let mut authorities = RootCertStore::empty();
    // A policy in shadow makes no client show a certificate that nothing else asks for.
    let enforced = plan.policies.iter().filter(|policy| !policy.shadow);
    for method in enforced.flat_map(|policy| &policy.methods) {
        if let MethodKind::Mtls(mtls) = &method.kind {
            authorities.extend(roots(&mtls.roots)?.roots);
        }
    }
    for pem in authorities_of_clients {
        authorities.extend(roots(pem)?.roots);
    }
    let builder = if authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
            .allow_unauthenticated()
            .build();
        builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The certificates by host.
#[derive(Debug)]
struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    below: HashMap<String, Arc<CertifiedKey>>,
    /// For every other name, and for clients that send no name.
    any: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(
        certificates: &[ServerCertificate],
        secrets: &Secrets,
        provider: &rustls::crypto::CryptoProvider,
    ) -> Result<Self, String> {
        let mut all = Self { exact: HashMap::new(), below: HashMap::new(), any: None };
        for ServerCertificate { host, chain, key } in certificates {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| "a certificate is not PEM")?;
            let secret = secrets.wanted(key)?;
            let private = PrivateKeyDer::from_pem_slice(secret.reveal())
                .map_err(|_| format!("the secret `{}` is not a private key in PEM", key.0))?;
            let certified = CertifiedKey::from_der(chain, private, provider)
                .map_err(|error| format!("certificate and key of `{}`: {error}", key.0))?;
            let certified = Arc::new(certified);
            match host {
                Host::Exact(name) => drop(all.exact.entry(name.clone()).or_insert(certified)),
                Host::Below(domain) => drop(all.below.entry(domain.clone()).or_insert(certified)),
                Host::Any => drop(all.any.get_or_insert(certified)),
            }
        }
        Ok(all)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name().map(str::to_ascii_lowercase) else { return self.any.clone() };
        if let Some(found) = self.exact.get(&name) {
            return Some(found.clone());
        }
        let mut rest = name.as_str();
        while let Some((_, domain)) = rest.split_once('.') {
            if let Some(found) = self.below.get(domain) {
                return Some(found.clone());
            }
            rest = domain;
        }
        self.any.clone()
    }
}
