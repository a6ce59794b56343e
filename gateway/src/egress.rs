//! The proxy on the way to outside servers: for keys, discovery, metadata, introspection, tokens and look-ups over
//! https.
//!
//! A tenant writes the URLs of these servers, so the rules that forbid this machine, its link and the API server hold
//! for each URL, whatever its way. The proxy looks up the names of servers, which the gateway's own name server need
//! not know; where a name leads behind the proxy is for the proxy to permit. Servers of the cluster, and all that speak
//! plain http, are reached without it.

use reqwest::{NoProxy, Proxy};
use url::Url;

/// Names that never go through the proxy: those of the cluster and of this machine.
const DIRECT: &str = ".svc,.svc.cluster.local,localhost,127.0.0.0/8,::1";

/// The way to outside servers.
#[derive(Clone, Debug, Default)]
pub struct Egress(Option<Proxy>);

impl Egress {
    /// Through a proxy that takes CONNECT (RFC 9110 §9.3.6), except to the servers of `no_proxy`: names, which stand
    /// for all below them, too, addresses and networks, separated by commas; `*` stands for all. An empty URL is no
    /// proxy. The error shows nothing of the URL, which may hold a password.
    pub fn new(proxy: &str, no_proxy: &str) -> Result<Self, &'static str> {
        if proxy.is_empty() || no_proxy.split(',').any(|name| name.trim() == "*") {
            return Ok(Self(None));
        }
        // As other programs read the variable.
        let proxy = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
        let url = Url::parse(&proxy).map_err(|_| "the proxy must be a URL, for example http://proxy.corp:3128")?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("the proxy must be an http or https URL with a host");
        }
        let direct = NoProxy::from_string(&format!("{DIRECT},{no_proxy}"));
        let proxy = Proxy::https(url).map_err(|_| "the proxy's URL cannot be used")?;
        Ok(Self(Some(proxy.no_proxy(direct))))
    }

    /// Whether there is a proxy.
    pub fn has_proxy(&self) -> bool {
        self.0.is_some()
    }

    /// The client that takes this way.
    pub(crate) fn applied_to(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        // The process's environment is read by the options only.
        let builder = builder.no_proxy();
        match &self.0 {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_and_everything_may_be_excepted() {
        let has = |proxy: &str, no_proxy: &str| Egress::new(proxy, no_proxy).map(|egress| egress.has_proxy());
        assert_eq!(has("http://user:pw@proxy.corp:3128", ".corp,10.0.0.0/8"), Ok(true));
        assert_eq!((has("", ""), has("http://proxy:1", "a, *")), (Ok(false), Ok(false)));
        assert_eq!(has("proxy.corp:3128", ""), Ok(true));
        for bad in ["socks5://proxy:1080", "http://", "a b"] {
            assert!(has(bad, "").is_err(), "{bad}");
        }
        let error = Egress::new("ftp://user:hunter2@proxy", "").unwrap_err();
        assert!(!error.contains("hunter2"));
    }
}
