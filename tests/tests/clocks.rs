//! Pods whose wall clock jumps: what was revoked stays revoked. A shim in front of the system's clock moves it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::{Gateway, Reply, Upstream, now, open_to, raw, secret};
use idm_types::{Algorithm, Timestamp};
use serde_json::Value;

/// Adds the seconds that a file holds to the wall clock, and leaves the monotonic one alone.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile int64_t *ahead;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("CLOCK_AHEAD"), O_RDONLY);
    void *mapped = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0 && mapped != MAP_FAILED) ahead = mapped;
}

int clock_gettime(clockid_t which, struct timespec *time) {
    if (!real) begin();
    int result = real(which, time);
    if (which == CLOCK_REALTIME && ahead) time->tv_sec += *ahead;
    return result;
}
"#;

const SECRET: &str = "idm_00000000000000000000000000000000000000000003RBGQh";

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
    ahead: File,
    _shim: tempfile::TempDir,
}

impl Bed {
    fn start() -> Self {
        let shim = tempfile::tempdir().unwrap();
        let (source, library, hand) =
            (shim.path().join("clock.c"), shim.path().join("clock.so"), shim.path().join("ahead"));
        std::fs::write(&source, SHIM).unwrap();
        std::fs::write(&hand, 0i64.to_ne_bytes()).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .expect("a C compiler is installed");
        assert!(compiled.success());
        let upstream = Upstream::new();
        let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
        let keys =
            idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now().saturating_sub(90_000)));
        let all = [
            open_to(&upstream, methods),
            "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders]}\n".into(),
            secret("idm-signing-keys", &[("p.json", keys.unwrap())]),
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: reports}\n\
             spec: {oauthClient: {clientSecret: {}}, secretRef: {name: s}}\n"
                .into(),
            secret("s", &[("clientSecret", SECRET.to_owned())]),
        ];
        let (library, hand_text) = (library.to_str().unwrap(), hand.to_str().unwrap());
        let environment = [("LD_PRELOAD", library), ("CLOCK_AHEAD", hand_text)];
        let gateway = Gateway::start_in(&[("all.yaml", &all.concat())], &[], &environment);
        let ahead = File::options().write(true).open(&hand).unwrap();
        Self { gateway, upstream, ahead, _shim: shim }
    }

    /// The pod's clock is ahead by this many seconds from now on.
    fn clock(&mut self, seconds: i64) {
        self.ahead.seek(SeekFrom::Start(0)).unwrap();
        self.ahead.write_all(&seconds.to_ne_bytes()).unwrap();
    }

    fn post(&self, path: &str, body: &str) -> Reply {
        let basic = STANDARD.encode(format!("reports:{SECRET}"));
        let head = format!(
            "POST /oauth/{path} HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        raw(self.gateway.address, format!("{head}{body}").as_bytes())
    }

    fn token(&self) -> String {
        let reply = self.post("token", "grant_type=client_credentials");
        let body: Value = serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"));
        body["access_token"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
    }

    fn revoke(&self, token: &str) {
        let reply = self.post("revoke", &format!("token={token}"));
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    fn call(&self, token: &str) -> Reply {
        let head = format!("GET /orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(self.gateway.address, head.as_bytes())
    }

    fn is_revoked(&self, token: &str) {
        let before = self.upstream.received();
        let reply = self.call(token);
        assert_eq!(reply.status, 401, "{reply:?}");
        assert_eq!(self.gateway.record(reply.decision())["reason"], "TokenRevoked");
        assert_eq!(self.upstream.received(), before, "nothing went on");
    }
}

#[test]
fn a24_a_clock_that_ran_ahead_for_a_moment_brings_no_revoked_token_back() {
    let mut bed = Bed::start();
    let first = bed.token();
    assert_eq!(bed.call(&first).status, 200);
    bed.revoke(&first);
    bed.is_revoked(&first);
    for ahead in [3600, 86_000] {
        bed.clock(ahead);
        // By this clock the first revocation has ended; another one is the time to forget it.
        let other = bed.token();
        bed.revoke(&other);
        bed.is_revoked(&other);
        bed.clock(0);
        bed.is_revoked(&first);
    }
}

#[test]
fn a24_a_token_that_was_revoked_while_the_clock_was_wrong_is_revoked_when_it_is_right() {
    let mut bed = Bed::start();
    for wrong in [7200, -7200] {
        let token = bed.token();
        assert_eq!(bed.call(&token).status, 200);
        bed.clock(wrong);
        bed.revoke(&token);
        bed.clock(0);
        bed.is_revoked(&token);
    }
}

#[test]
fn a14_a_clock_that_steps_back_takes_no_revoked_token_again() {
    let mut bed = Bed::start();
    let token = bed.token();
    bed.revoke(&token);
    bed.clock(3600);
    let other = bed.token();
    bed.revoke(&other);
    bed.clock(0);
    bed.is_revoked(&token);
}
