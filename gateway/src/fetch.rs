//! Issuer keys from the network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::egress::Egress;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use idm_jose::{KeySet, KeySetError, MAX_JWKS_BYTES, parse_document};
use idm_plan::{KeySource, OutgoingTls, Secrets, is_local_address};
use idm_trust::IssuerKeys;
use idm_types::{Algorithm, Timestamp, visible};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::LOCATION;
use url::Url;

/// A key that an issuer removed is gone here within twice this time.
const REFRESH: Duration = Duration::from_secs(25);
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no usable answer from {url}")]
    Http {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered {status}, a redirect to `{to}`, which is not followed: write that address if it is right")]
    Redirect { url: String, status: u16, to: String },
    #[error("{url} answered with more than 512 KiB")]
    TooLarge { url: String },
    #[error("{url} is not an OpenID configuration: {problem}")]
    NotAConfiguration { url: String, problem: String },
    #[error("{url} may not be fetched: {problem}")]
    Forbidden { url: String, problem: &'static str },
    #[error("the keys at {url} are refused")]
    Keys {
        url: String,
        #[source]
        source: KeySetError,
    },
}

fn builder(insecure: bool, lookups: &Lookups, egress: &Egress) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(4))
        .connect_timeout(Duration::from_secs(2))
        // A redirect could lead where the URL itself may not.
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(GuardedResolver { insecure, lookups: lookups.clone() }))
        .user_agent("idm-gateway");
    egress.applied_to(builder)
}

/// Fetches key sets, and only from where a tenant's URL may lead.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: reqwest::Client,
    insecure: bool,
    lookups: Lookups,
    egress: Egress,
}

impl Fetcher {
    /// `insecure`: plain http and local addresses are allowed, for demos and tests.
    pub(crate) fn new(insecure: bool, egress: &Egress) -> Result<Self, reqwest::Error> {
        let lookups = Lookups::default();
        let client = builder(insecure, &lookups, egress).build()?;
        Ok(Self { client, insecure, lookups, egress: egress.clone() })
    }

    /// The same, for a server with authorities of its own. The error shows no key.
    pub(crate) fn for_source(&self, source: &KeySource, secrets: &Secrets) -> Result<Self, String> {
        match source {
            KeySource::Discovery { tls: Some(tls), .. } | KeySource::Url { tls: Some(tls), .. } => {
                self.reached_by(tls, secrets)
            }
            KeySource::Discovery { tls: None, .. } | KeySource::Url { tls: None, .. } | KeySource::Inline { .. } => {
                Ok(self.clone())
            }
        }
    }

    /// The same, with these settings.
    pub(crate) fn reached_by(&self, tls: &OutgoingTls, secrets: &Secrets) -> Result<Self, String> {
        let OutgoingTls { roots, certificate } = tls;
        let mut builder = builder(self.insecure, &self.lookups, &self.egress);
        if let Some(roots) = roots {
            let roots = reqwest::Certificate::from_pem_bundle(roots.as_bytes())
                .map_err(|_| "the trust bundle cannot be read")?;
            builder = builder.tls_certs_only(roots);
        }
        if let Some((chain, handle)) = certificate {
            let key = secrets.wanted(handle)?;
            let identity = reqwest::Identity::from_pem(&[chain.as_bytes(), b"\n", key.reveal()].concat());
            builder =
                builder.identity(identity.map_err(|_| format!("certificate and key of `{}` do not fit", handle.0))?);
        }
        let client = builder.build().map_err(|_| "the TLS settings cannot be used")?;
        Ok(Self { client, insecure: self.insecure, lookups: self.lookups.clone(), egress: self.egress.clone() })
    }

    /// The client that only goes where a tenant's URL may lead.
    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Keeps `keys` fresh for as long as somebody holds them.
    pub(crate) async fn keep_fresh(
        self,
        source: KeySource,
        algorithms: Vec<Algorithm>,
        keys: std::sync::Weak<IssuerKeys>,
    ) {
        let mut last = String::new();
        let mut retry = FIRST_RETRY;
        loop {
            let Some(strong) = keys.upgrade() else { return };
            strong.begin();
            match self.fetch(&source).await.and_then(|(url, jwks)| parse(url, &jwks, &algorithms, &last)) {
                Ok(None) => strong.confirm(Timestamp::now()),
                Ok(Some((set, text))) => {
                    for left_out in set.left_out() {
                        tracing::warn!(source = ?source_name(&source), "an issuer key is left out: {left_out}");
                    }
                    tracing::info!(source = ?source_name(&source), keys = set.len(), "issuer keys in force");
                    strong.publish(set, Timestamp::now());
                    last = text;
                }
                Err(error) => {
                    let kept = if strong.is_loaded() { "the last good keys stay in force" } else { "no keys yet" };
                    tracing::warn!(error = &error as &dyn std::error::Error, "issuer keys: {kept}");
                    strong.fail();
                }
            }
            let pause = if strong.is_loaded() { REFRESH } else { retry };
            retry = (retry * 2).min(REFRESH);
            // Hold the keys weakly while waiting, so that a removed policy ends this task.
            let wanted = async {
                let held = strong;
                held.wanted().await;
            };
            let _ = tokio::time::timeout(pause, wanted).await;
        }
    }

    async fn fetch(&self, source: &KeySource) -> Result<(String, Vec<u8>), FetchError> {
        match source {
            KeySource::Inline { jwks } => Ok((String::new(), jwks.clone().into_bytes())),
            KeySource::Url { url, .. } => Ok((url.clone(), self.get(url).await?)),
            KeySource::Discovery { url, .. } => {
                let configuration = self.get(url).await?;
                let jwks_uri = read_configuration(url, &configuration)?;
                self.check(&jwks_uri)?;
                let jwks = self.get(&jwks_uri).await?;
                Ok((jwks_uri, jwks))
            }
        }
    }

    /// The rules of compile once more, for a URL that the network gave us.
    pub(crate) fn check(&self, text: &str) -> Result<(), FetchError> {
        let forbidden = |problem| FetchError::Forbidden { url: text.to_owned(), problem };
        let url = Url::parse(text).map_err(|_| forbidden("it is not a URL"))?;
        if self.insecure {
            return Ok(());
        }
        let local = match url.host() {
            Some(url::Host::Ipv4(ip)) => is_forbidden(ip.into()),
            Some(url::Host::Ipv6(ip)) => is_forbidden(ip.into()),
            Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => true,
        };
        let in_cluster =
            url.host_str().is_some_and(|host| host.ends_with(".svc") || host.ends_with(".svc.cluster.local"));
        match url.scheme() {
            _ if local => Err(forbidden("it points at this machine, its link or the API server")),
            "https" => Ok(()),
            "http" if in_cluster => Ok(()),
            _ => Err(forbidden("it must be https")),
        }
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let failed = |source: reqwest::Error| FetchError::Http { url: url.to_owned(), source: source.without_url() };
        let mut answer = self.client.get(url).header("accept", "application/json").send().await.map_err(failed)?;
        let status = answer.status();
        if let Some(to) = answer.headers().get(LOCATION).filter(|_| status.is_redirection()) {
            let to = visible(&String::from_utf8_lossy(to.as_bytes())).chars().take(512).collect();
            return Err(FetchError::Redirect { url: url.to_owned(), status: status.as_u16(), to });
        }
        if !status.is_success() {
            return Err(FetchError::Status { url: url.to_owned(), status: status.as_u16() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_JWKS_BYTES {
                return Err(FetchError::TooLarge { url: url.to_owned() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn source_name(source: &KeySource) -> &str {
    match source {
        KeySource::Discovery { url, .. } | KeySource::Url { url, .. } => url,
        KeySource::Inline { .. } => "inline",
    }
}

type Parsed = Option<(KeySet, String)>;

/// `None` when the document is the one already in force.
fn parse(url: String, jwks: &[u8], algorithms: &[Algorithm], last: &str) -> Result<Parsed, FetchError> {
    if jwks == last.as_bytes() && !last.is_empty() {
        return Ok(None);
    }
    let set = KeySet::parse(jwks, algorithms).map_err(|source| FetchError::Keys { url, source })?;
    Ok(Some((set, String::from_utf8_lossy(jwks).into_owned())))
}

/// OpenID Connect Discovery §4.3: the document must be about the issuer that was asked for.
fn read_configuration(url: &str, document: &[u8]) -> Result<String, FetchError> {
    let wrong = |problem: String| FetchError::NotAConfiguration { url: url.to_owned(), problem };
    let document = parse_document(document).map_err(|error| wrong(error.to_string()))?;
    let issuer = document["issuer"].as_str().unwrap_or_default();
    let asked = url.strip_suffix("/.well-known/openid-configuration").unwrap_or(url);
    if issuer.trim_end_matches('/') != asked {
        return Err(wrong(format!("it speaks of the issuer `{issuer}`")));
    }
    document["jwks_uri"].as_str().map(str::to_owned).ok_or_else(|| wrong("it names no `jwks_uri`".into()))
}

fn is_forbidden(ip: IpAddr) -> bool {
    let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
    is_local_address(ip) || api_server == Some(ip)
}

/// Names that are looked up at the same time; each holds a thread of the system's resolver, which may hang.
const MAX_LOOKUPS: usize = 256;

type Found = Result<Vec<SocketAddr>, String>;
type Lookup = Shared<BoxFuture<'static, Found>>;

/// The lookups under way: one for each name, however many wait for it, so that a name that hangs holds one thread.
#[derive(Clone, Default)]
struct Lookups(Arc<Mutex<HashMap<String, Lookup>>>);

impl Lookups {
    fn of(&self, name: &str) -> Option<Lookup> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = all.get(name) {
            return Some(lookup.clone());
        }
        if all.len() >= MAX_LOOKUPS {
            return None;
        }
        let (lookups, wanted) = (self.clone(), name.to_owned());
        // A task of its own: it goes on, and clears up, when those who wait have gone.
        let task = tokio::spawn(async move {
            let found = tokio::net::lookup_host((wanted.as_str(), 0)).await;
            lookups.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&wanted);
            found.map(Iterator::collect).map_err(|error| error.to_string())
        });
        let lookup =
            async move { task.await.unwrap_or_else(|_| Err("the lookup was dropped".into())) }.boxed().shared();
        all.insert(name.to_owned(), lookup.clone());
        Some(lookup)
    }
}

/// Resolves names and drops the addresses that a tenant's URL must not reach, after every answer.
struct GuardedResolver {
    insecure: bool,
    lookups: Lookups,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let insecure = self.insecure;
        let lookup = self.lookups.of(name.as_str());
        Box::pin(async move {
            let lookup = lookup.ok_or("too many names are being looked up")?;
            let found: Vec<SocketAddr> =
                lookup.await?.into_iter().filter(|address| insecure || !is_forbidden(address.ip())).collect();
            if found.is_empty() {
                return Err("the name has no address that may be fetched from".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
