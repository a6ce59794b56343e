use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::provider::Provider;
use crate::raw::{Reply, raw};

/// A browser with the functions that sign-in needs: it keeps cookies of one host, and sends the `Sec-Fetch` headers.
#[derive(Clone)]
pub struct Browser {
    address: SocketAddr,
    /// Its cookies.
    pub jar: BTreeMap<String, String>,
    /// The attributes of each cookie.
    pub attributes: BTreeMap<String, String>,
    /// The `Host` it names.
    pub host: String,
}

impl Browser {
    /// A browser without cookies.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, jar: BTreeMap::new(), attributes: BTreeMap::new(), host: address.to_string() }
    }

    /// Sends a request with these headers and its cookies, and stores the cookies of the answer.
    pub fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookie = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let reply = raw(
            self.address,
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{cookie}{headers}{length}\r\n{body}", self.host)
                .as_bytes(),
        );
        for (_, set) in reply.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = set.split_once(';').unwrap_or((set, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a name");
            if attributes.contains("Max-Age=0") {
                drop(self.jar.remove(name))
            } else {
                drop(self.jar.insert(name.into(), value.into()))
            }
            self.attributes.insert(name.into(), attributes.trim().into());
        }
        reply
    }

    /// Navigates to a page, as when a person types its address.
    pub fn go(&mut self, target: &str) -> Reply {
        self.go_with(target, &[])
    }

    /// The same with further headers.
    pub fn go_with(&mut self, target: &str, more: &[(&str, &str)]) -> Reply {
        let mut headers = vec![
            ("Accept", "text/html,*/*"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
            ("Sec-Fetch-Site", "none"),
        ];
        headers.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        headers.extend(more);
        self.send("GET", target, &headers, "")
    }

    /// Sends a request as a script of the page does.
    pub fn fetch(&mut self, target: &str) -> Reply {
        self.send(
            "GET",
            target,
            &[("Accept", "*/*"), ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin")],
            "",
        )
    }

    /// The target of a redirect: a path of the same host, or an address elsewhere.
    pub fn location(&self, reply: &Reply) -> String {
        let to = reply.header("location").unwrap_or_else(|| panic!("no redirect: {reply:?}"));
        to.strip_prefix(&format!("http://{}", self.host)).unwrap_or(to).to_owned()
    }

    /// Navigates to a page until it is redirected to a provider; returns that address.
    pub fn to_provider(&mut self, page: &str) -> String {
        let reply = self.go(page);
        let start = self.location(&reply);
        let reply = self.go(&start);
        self.location(&reply)
    }

    /// Signs in at a provider on the way to a page; returns the answer to the last step, which leads back to the page.
    pub fn sign_in(&mut self, provider: &Provider, page: &str) -> Reply {
        let there = self.to_provider(page);
        let back = provider.sign_in(&there);
        let back = back
            .strip_prefix(&format!("http://{}", self.host))
            .unwrap_or_else(|| panic!("not for us: {back}"))
            .to_owned();
        self.go(&back)
    }
}
