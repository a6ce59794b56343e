//! Headers that a caller writes beside, instead of or against those that a policy reads and writes: what reaches the
//! upstream, byte for byte, and the record.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use idm_jose::{Jwk, parse_strict};
use idm_tests::{ANONYMOUS, Authority, Gateway, Upstream, eventually, open_to, raw, secret};
use idm_types::Algorithm;

/// A refusal: this status, this reason, one record, and nothing at the upstream.
fn assert_refused(gateway: &Gateway, upstream: &Upstream, request: &str, status: u16, reason: &str) {
    upstream.forget();
    let reply = raw(gateway.address, request.as_bytes());
    assert_eq!(reply.status, status, "{request:?}: {reply:?}");
    assert_eq!(gateway.record(reply.decision())["reason"], reason, "{request:?}");
    assert_eq!(upstream.received(), "", "{request:?} reached the upstream");
}

fn get(headers: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
}

impl Bed {
    fn new(policy: &str, more: &str) -> Self {
        let upstream = Upstream::new();
        let gateway = Gateway::start(&[("all.yaml", &format!("{}{policy}{more}", open_to(&upstream, ANONYMOUS)))]);
        Self { gateway, upstream }
    }

    /// What the upstream got, in lower case.
    fn passed(&self, headers: &str) -> String {
        self.upstream.forget();
        let reply = raw(self.gateway.address, get(headers).as_bytes());
        assert_eq!(reply.status, 200, "{headers}: {reply:?}");
        self.upstream.received().to_ascii_lowercase()
    }
}

/// A policy that verifies `X-Order` and signs `X-Passport`.
fn steps() -> (Bed, String) {
    let key = Jwk::generate(Algorithm::EdDsa, &mut idm_jose::system_entropy).unwrap();
    let order = idm_jose::SigningKey::from_jwk(&key, Algorithm::EdDsa).unwrap();
    let claims = parse_strict(b"{\"order\":7}").unwrap();
    let object = order.sign_compact(claims.as_object().unwrap());
    let public = key.public().to_string();
    let policy = format!(
        "  jose:\n  - name: order\n    consume: {{from: {{header: X-Order}}, verify: {{keys: {{inline: '{{\"keys\":[{public}]}}'}}, algorithms: [EdDSA]}}, to: {{header: X-Order}}}}\n  \
         - name: passport\n    produce: {{sign: {{keyRef: {{name: passport}}, algorithm: ES256, claims: {{issuer: me}}}}, to: {{header: X-Passport}}}}\n"
    );
    (Bed::new(&policy, ""), object)
}
