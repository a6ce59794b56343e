//! A folder with a Manager, and a person who asks it.

use std::net::SocketAddr;

use idm_tests::{Gateway, Reply, Upstream, eventually, open_to, raw};
use serde_json::{Value, json};

pub(crate) const POLICY: &str = "/api/v1/objects/IdentityPolicy/default/p";
pub(crate) const CANARY: &str = "canary-3f9a77c1d5";

/// A folder with a policy whose comments must survive, a Secret with a canary, and a Manager.
pub(crate) struct Managed {
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
    pub(crate) address: SocketAddr,
    pub(crate) code: String,
    pub(crate) cookie: Option<String>,
}

pub(crate) fn folder(upstream: &Upstream) -> String {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: canary}}\nstringData: {{password: {CANARY}}}\n---\n\
         # Of nobody in particular.\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\n\
         metadata: {{name: person}}\nspec: {{password: {{}}, secretRef: {{name: canary}}}}\n---\n"
    );
    let rest = open_to(upstream, "    - {name: machines, apiKey: {}}\n");
    format!("{secret}# Kept, with its comment.\n{rest}")
}

impl Managed {
    pub(crate) fn start() -> Self {
        let upstream = Upstream::new();
        let yaml = folder(&upstream);
        Self::over(upstream, &yaml, &[])
    }

    pub(crate) fn over(upstream: Upstream, yaml: &str, arguments: &[&str]) -> Self {
        let arguments = [&["--manager", "127.0.0.1:0"], arguments].concat();
        let gateway = Gateway::start_with(&[("all.yaml", yaml)], &arguments);
        let line = eventually("the line with the code", || {
            let output = gateway.output();
            output.lines().find(|line| line.starts_with("Manager ")).map(str::to_owned).ok_or(output.clone())
        });
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("one");
        let code = line.rsplit(' ').next().expect("a code").to_owned();
        Self { gateway, upstream, address, code, cookie: None }
    }

    pub(crate) fn signed_in() -> Self {
        Self::start().sign_in()
    }

    pub(crate) fn sign_in(self) -> Self {
        let mut managed = self;
        let reply = managed.ask("POST", "/api/v1/session", &json!({"code": managed.code}));
        assert_eq!(reply.status, 204, "{}", reply.body);
        let cookie = reply.header("set-cookie").expect("a cookie").to_owned();
        assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
        managed.cookie = cookie.split(';').next().map(str::to_owned);
        managed
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text += &format!("Host: {}\r\n", self.address);
        }
        if let Some(cookie) = &self.cookie {
            text += &format!("Cookie: {cookie}\r\n");
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        raw(self.address, text.as_bytes())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [("Content-Type", "application/json"), ("X-Idm-Manager", "1")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, if method == "GET" { &[] } else { &headers }, &body)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, &Value::Null);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).expect("JSON")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.ask("POST", path, body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).expect("JSON")
    }

    pub(crate) fn call(&self, key: &str) -> u16 {
        raw(self.gateway.address, format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n").as_bytes()).status
    }
}

pub(crate) fn error(reply: &Reply) -> Value {
    serde_json::from_str::<Value>(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))["error"].clone()
}
