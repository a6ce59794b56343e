//! A gateway before OpenLDAP, and its callers.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::http::encoded;
use idm_tests::slapd::{GROUPS, OWN_NAME, OWN_PASSWORD, PEOPLE, SUFFIX, Slapd, group, uid};
use idm_tests::{
    Authority, Browser, Gateway, Reply, Upstream, eventually, free_address, now, open_to, raw, raw_on, secret,
};
use idm_types::{Algorithm, ApiKey, Timestamp};
use serde_json::Value;

/// A wrong password, which must be found nowhere either.
pub(crate) const WRONG: &str = "canary-wrong-guess";

/// The way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Ldaps,
    StartTls,
    Loopback,
}

pub(crate) struct Bed {
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
    pub(crate) slapd: Slapd,
    pub(crate) admin: SocketAddr,
    _authority: Authority,
}

/// Settings of a server: references follow a person who is renamed, and a policy locks accounts.
pub(crate) const OVERLAYS: &str = "overlay memberof\noverlay refint\nrefint_attributes member\noverlay ppolicy\n\
                            ppolicy_default cn=default,dc=corp,dc=test\nppolicy_use_lockout";

/// An authority with the certificate of the directory.
pub(crate) fn authority() -> Authority {
    let authority = Authority::new("directories");
    authority.issue("localhost", "DNS:localhost,IP:127.0.0.1", "serverAuth", "20400101000000Z");
    authority
}

/// A server whose people `ana` and `bob` are in groups.
pub(crate) fn slapd(authority: &Authority) -> Slapd {
    let slapd = Slapd::start_with(authority, OVERLAYS);
    slapd.change(&format!(
        "dn: cn=default,{SUFFIX}\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n\
         pwdLockout: TRUE\npwdMaxFailure: 100\npwdMustChange: TRUE\npwdLockoutDuration: 0\n\n"
    ));
    slapd.change(&group(&format!("cn=Orders,{GROUPS}"), &[uid("ana")]));
    slapd.change(&group(&format!("cn=writers,{GROUPS}"), &[uid("ana"), uid("bob")]));
    slapd.change(&group(&format!("cn=all,{GROUPS}"), &[format!("cn=writers,{GROUPS}")]));
    // A group elsewhere with a name that means something here.
    slapd.change(&group(&format!("cn=admins,ou=other,{SUFFIX}"), &[uid("ana")]));
    slapd
}

/// The Federation `corp` with its Secret: roles by distinguished name in another spelling, and by short name.
pub(crate) fn federation(slapd: &Slapd, way: Way, ca: &str, login: &str) -> String {
    let (port, tls_port) = (slapd.port(), slapd.tls_port());
    let tls = "tls: {trustBundleRef: {name: corp-ca}}";
    let server = match way {
        Way::Ldaps => format!("servers: ['ldaps://127.0.0.1:{tls_port}']\n    {tls}"),
        Way::StartTls => format!("servers: ['ldap://127.0.0.1:{port}']\n    startTls: true\n    {tls}"),
        Way::Loopback => format!("servers: ['ldap://127.0.0.1:{port}']\n    startTls: false"),
    };
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: corp}}\n\
            spec:\n  ldap:\n    \
         {server}\n    bind: {{simple: {{dn: '{OWN_NAME}', passwordRef: {{name: corp-bind}}}}}}\n    users: {{base: \
         '{PEOPLE}', loginAttributes: [uid, mail], attributes: [{{name: mail}}]}}\n    groups: {{base: '{GROUPS}', \
         search: {{filter: (objectClass=groupOfNames), nested: true}}}}\n  roleMappings:\n  - {{group: 'CN=orders, \
         OU=groups, DC=corp, DC=test', roles: [order-reader]}}\n  - {{group: all, roles: [order-writer]}}\n  - \
         {{group: \
         admins, roles: [admin]}}\n  login: {login}\n"
    );
    let bind = secret("corp-bind", &[("password", OWN_PASSWORD.to_owned())]);
    format!("{federation}{bind}{}", secret("corp-ca", &[("ca.crt", ca.to_owned())]))
}

const METHODS: &str = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}
    - {name: people, basic: {realm: shop, validators: [{federationRef: {name: corp}}]}}
    - {name: staff, signIn: {federationRefs: [{name: corp}]}}
    identity: {username: token.preferred_username, roles: token.roles}
  tokenService:
    issuer: 'https://shop.example/oauth'
    audiences: [orders]
    grants: [RefreshToken, DangerPassword]
    validators: [{federationRef: {name: corp}}]
";
const CLIENT: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: app}
spec: {oauthClient: {clientSecret: {}, grants: [RefreshToken, DangerPassword]}, secretRef: {name: app}}
";

/// The secret of the client `app`.
pub(crate) fn client_secret() -> String {
    ApiKey::from_random([7; 32]).reveal().to_owned()
}

/// A route that takes Basic, tokens of its own service and sessions, with this Federation.
pub(crate) fn yaml(upstream: &Upstream, federation: &str) -> String {
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
    let app = secret("app", &[("clientSecret", client_secret())]);
    let keys = secret("idm-signing-keys", &[("p.json", keys)]);
    format!("{}{CLIENT}{app}{keys}{federation}", open_to(upstream, METHODS))
}

impl Bed {
    pub(crate) fn new(way: Way, login: &str) -> Self {
        let authority = authority();
        let slapd = slapd(&authority);
        let ca = authority.read("ca.crt");
        Self::with(way, login, authority, slapd, &ca)
    }

    /// The same, whose gateway trusts this authority.
    pub(crate) fn with(way: Way, login: &str, authority: Authority, slapd: Slapd, ca: &str) -> Self {
        let upstream = Upstream::answering(
            "HTTP/1.1 200 X\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<body>ok</body>",
        );
        let admin = free_address();
        let yaml = yaml(&upstream, &federation(&slapd, way, ca, login));
        let gateway = Gateway::start_with(&[("all.yaml", &yaml)], &["--admin", &admin.to_string()]);
        Self { gateway, upstream, slapd, admin, _authority: authority }
    }

    pub(crate) fn basic(&self, username: &str, password: &str) -> Reply {
        raw(self.gateway.address, request(username, password).as_bytes())
    }

    /// The request that the upstream received, in lower case.
    pub(crate) fn heard(&self) -> String {
        let heard = self.upstream.received().to_ascii_lowercase();
        self.upstream.forget();
        heard
    }

    /// A refusal: its reason is on its one record, and the upstream heard nothing.
    pub(crate) fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }

    /// Asks the token service.
    pub(crate) fn token(&self, form: &str) -> Reply {
        let client = STANDARD.encode(format!("app:{}", client_secret()));
        let text = format!(
            "POST /oauth/token HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Basic {client}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        raw(self.gateway.address, text.as_bytes())
    }

    /// Tokens for a user name and password.
    pub(crate) fn tokens(&self, username: &str, password: &str) -> Value {
        let form = format!("grant_type=password&username={}&password={}", encoded(username), encoded(password));
        let reply = self.token(&form);
        assert_eq!(reply.status, 200, "{}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }

    pub(crate) fn refresh(&self, tokens: &Value) -> Reply {
        self.token(&format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().unwrap()))
    }

    /// A browser whose person has sent the form, and the answer to it.
    pub(crate) fn signed_in(&self, username: &str, password: &str) -> (Browser, Reply) {
        let mut browser = Browser::new(self.gateway.address);
        let form = browser.to_provider("/orders");
        let shown = browser.go(&form);
        let state = shown.body.split("name=\"state\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let fields = [("state", state.as_str()), ("username", username), ("password", password)];
        let body = fields.map(|(name, value)| format!("{name}={}", encoded(value))).join("&");
        let headers = [
            ("Accept", "text/html"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let answer = browser.send("POST", "/_idm/login/corp", &headers, &body);
        (browser, answer)
    }

    pub(crate) fn metrics(&self) -> String {
        raw(self.admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body
    }

    /// The value of a metric of the Federation.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{federation=\"default/corp\"")))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    /// The record of the last request that was let in.
    pub(crate) fn permitted(&self, from: usize) -> Value {
        eventually("the record", || {
            let records = self.gateway.records();
            let is_permitted = |record: &&Value| record["outcome"] == "Permitted";
            records.iter().skip(from).rfind(is_permitted).cloned().ok_or_else(|| "none yet".into())
        })
    }
}

/// A connection from this address of this machine.
pub(crate) fn connect_from(own: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.into()
}

/// An address of this machine that nobody used before.
pub(crate) fn new_address() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(0x7f03_0000);
    Ipv4Addr::from(LAST.fetch_add(1, Ordering::Relaxed))
}

/// A request with Basic.
pub(crate) fn request(username: &str, password: &str) -> String {
    let pair = STANDARD.encode(format!("{username}:{password}"));
    format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {pair}\r\n\r\n")
}

/// The answer to a request with Basic from this address.
pub(crate) fn guess(gateway: SocketAddr, username: &str, password: &str, from: Ipv4Addr) -> Reply {
    let mut stream = connect_from(from, gateway);
    stream.write_all(request(username, password).as_bytes()).unwrap();
    raw_on(&mut stream)
}
