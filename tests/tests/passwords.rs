//! Basic, Digest and Base64 at the gateway: curl as the client nobody here wrote, and everything it should not get.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::{Gateway, InProcess, Redis, Reply, Serves, Upstream, eventually, free_address, idm, open_to, raw};

const CREDENTIALS: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana, labels: {plan: gold}}
spec: {password: {username: 'ana@shop.example'}, secretRef: {name: ana}, roles: [order-reader]}
---
apiVersion: v1
kind: Secret
metadata: {name: ana}
stringData: {password: 'corréct horse'}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: bob}
spec: {password: {}, secretRef: {name: bob}, suspend: true}
---
apiVersion: v1
kind: Secret
metadata: {name: bob}
stringData: {password: 'bobs password'}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: hashed}
spec: {password: {}, secretRef: {name: hashed}}
---
apiVersion: v1
kind: Secret
metadata: {name: hashed}
stringData: {password: '$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$C28Fnzc7nzUOtlhrfBQp6Q'}
---
";

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

fn bed<G: Serves>(method: &str) -> Bed<G> {
    let upstream = Upstream::new();
    let yaml = format!("{CREDENTIALS}{}", open_to(&upstream, method));
    Bed { gateway: G::start_with(&[("all.yaml", &yaml)], &[]), upstream }
}

impl<G: Serves> Bed<G> {
    fn send(&self, headers: &str) -> Reply {
        raw(self.gateway.address(), format!("GET /a?b=c HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
    }

    fn basic(&self, pair: &str) -> Reply {
        self.send(&format!("Authorization: Basic {}\r\n", STANDARD.encode(pair)))
    }

    fn refused(&self, reply: &Reply, status: u16, reason: &str) {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
    }

    /// curl's status and what the upstream saw of the request.
    fn curl(&self, arguments: &[&str]) -> (String, String) {
        self.upstream.forget();
        let url = format!("http://{}/a?b=c", self.gateway.address());
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(arguments)
            .arg(&url)
            .output()
            .expect("curl runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), self.upstream.received())
    }
}

const BASIC: &str = "    - {name: people, basic: {realm: shop}}\n";

#[test]
fn basic_lets_the_right_password_in_and_tells_the_upstream_who_it_is() {
    let bed: Bed<Gateway> = bed(BASIC);
    let (status, seen) = bed.curl(&["-u", "ana@shop.example:corréct horse"]);
    assert_eq!(status, "200");
    let seen = seen.to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana@shop.example")
            && seen.contains("x-authenticated-userroles: order-reader"),
        "{seen}"
    );
    assert!(!seen.contains("authorization"), "the password goes no further: {seen}");
    // From the cache, and it is the same answer.
    assert_eq!(bed.curl(&["-u", "ana@shop.example:corréct horse"]).0, "200");
}

#[test]
fn basic_refuses_what_is_wrong_for_the_right_reason() {
    let bed: Bed = bed(BASIC);
    bed.refused(&bed.basic("ana@shop.example:wrong"), 401, "WrongPassword");
    bed.refused(&bed.basic("ana:corréct horse"), 401, "WrongPassword");
    bed.refused(&bed.basic("nobody:x"), 401, "WrongPassword");
    bed.refused(&bed.basic("bob:bobs password"), 401, "CredentialSuspended");
    for malformed in ["ana@shop.example:", ":x", "no colon", "ana@shop.example:a\u{0}b"] {
        bed.refused(&bed.basic(malformed), 401, "MalformedCredential");
    }
    bed.refused(&bed.send("Authorization: Basic !!!\r\n"), 401, "MalformedCredential");
    let asked = bed.send("");
    bed.refused(&asked, 401, "NoCredentials");
    assert_eq!(asked.header("www-authenticate"), Some("Basic realm=\"shop\", charset=\"UTF-8\""));
    assert_eq!(bed.upstream.received(), "");
    let log = bed.gateway.log();
    assert!(!log.contains("corréct") && !log.contains("bobs password"), "no password in the log");
}

#[test]
fn guessing_costs_more_and_more_time_and_the_known_caller_is_not_kept_out() {
    let bed: Bed = bed(BASIC);
    let right = bed.basic("ana@shop.example:corréct horse");
    assert_eq!(right.status, 200);
    for _ in 0..5 {
        bed.refused(&bed.basic("ana@shop.example:guess"), 401, "WrongPassword");
    }
    let late = bed.basic("ana@shop.example:guess");
    bed.refused(&late, 429, "TooManyAttempts");
    assert!(late.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()));
    // The right password from the cache: the owner works on while someone guesses.
    assert_eq!(bed.basic("ana@shop.example:corréct horse").status, 200);
}

#[test]
fn a_flood_of_guesses_does_not_starve_the_valid_caller() {
    let bed: Bed<Gateway> = bed(BASIC);
    assert_eq!(bed.basic("ana@shop.example:corréct horse").status, 200);
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..12)
            .map(|i| {
                scope.spawn({
                    let bed = &bed;
                    move || (0..10).map(|j| bed.basic(&format!("user{i}:{j}")).status).collect::<Vec<_>>()
                })
            })
            .collect();
        for _ in 0..50 {
            assert_eq!(bed.basic("ana@shop.example:corréct horse").status, 200);
        }
        let statuses: Vec<u16> = flood.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| [401, 429, 503].contains(status)), "{statuses:?}");
    });
}

#[test]
fn digest_is_spoken_with_curl_in_each_algorithm() {
    // SHA-512-256 is proven by the vector of RFC 7616 instead: curl before 8.7 computes plain SHA-256 for it.
    for algorithm in ["SHA-256", "MD5"] {
        let bed: Bed<Gateway> = bed(&format!(
            "    - {{name: people, digest: {{realm: shop, algorithms: [{algorithm}], qualities: [auth]}}}}\n"
        ));
        let (status, seen) = bed.curl(&["--digest", "-u", "ana@shop.example:corréct horse"]);
        assert_eq!(status, "200", "{algorithm}");
        assert!(
            seen.to_ascii_lowercase().contains("x-authenticated-userid: ana@shop.example") && !seen.contains("Digest"),
            "{seen}"
        );
        assert_eq!(
            bed.curl(&["--digest", "-u", "ana@shop.example:wrong"]),
            ("401".into(), String::new()),
            "{algorithm}"
        );
        // A hash of another kind cannot be used for Digest, whatever the password.
        assert_eq!(bed.curl(&["--digest", "-u", "hashed:password"]).0, "401");
    }
}

#[test]
fn a_digest_seen_once_is_worth_nothing_to_whoever_saw_it() {
    let bed: Bed<Gateway> = bed("    - {name: people, digest: {realm: shop}}\n");
    let output = Command::new("curl")
        .args([
            "-s",
            "-v",
            "-o",
            "/dev/null",
            "--digest",
            "-u",
            "ana@shop.example:corréct horse",
            &format!("http://{}/a?b=c", bed.gateway.address),
        ])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let credential =
        log.lines().find_map(|line| line.strip_prefix("> Authorization: ")).expect("curl sent one").to_owned();
    bed.upstream.forget();
    bed.refused(&bed.send(&format!("Authorization: {credential}\r\n")), 401, "ReplayedNonce");
    let elsewhere = raw(
        bed.gateway.address,
        format!("GET /b HTTP/1.1\r\nHost: a\r\nAuthorization: {credential}\r\n\r\n").as_bytes(),
    );
    bed.refused(&elsewhere, 401, "MalformedCredential");
    assert_eq!(bed.upstream.received(), "");
    assert!(log.contains("WWW-Authenticate: Digest") || log.contains("www-authenticate: Digest"), "{log}");
}

/// With a store, what was used at one gateway is used up at all of them; without the store nobody can say.
#[test]
fn a_digest_that_one_gateway_took_is_refused_by_the_next() {
    let mut redis = Redis::start();
    let (upstream, password, url) = (Upstream::new(), redis.password_file(), redis.url());
    let yaml = format!("{}---{CREDENTIALS}", open_to(&upstream, "    - {name: people, digest: {realm: shop}}\n"));
    let arguments = ["--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let (one, two) = (
        Gateway::start_with(&[("all.yaml", &yaml)], &arguments),
        Gateway::start_with(&[("all.yaml", &yaml)], &arguments),
    );
    let curl = |address: std::net::SocketAddr| {
        let user = ["-s", "-v", "-o", "/dev/null", "--digest", "-u", "ana@shop.example:corréct horse"];
        let output = Command::new("curl").args(user).arg(format!("http://{address}/a")).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        log.lines().rev().find_map(|line| line.strip_prefix("> Authorization: ")).expect("curl sent one").to_owned()
    };
    let credential = curl(one.address);
    upstream.forget();
    let send = |gateway: &Gateway, credential: &str| {
        raw(gateway.address, format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: {credential}\r\n\r\n").as_bytes())
    };
    for gateway in [&two, &one] {
        let reply = send(gateway, &credential);
        assert_eq!((reply.status, gateway.record(reply.decision())["reason"].as_str()), (401, Some("ReplayedNonce")));
    }
    redis.kill();
    let reply = send(&two, &curl(two.address));
    assert!(matches!(two.record(reply.decision())["reason"].as_str(), Some("StoreUnavailable" | "ReplayedNonce")));
    assert_eq!(upstream.received(), "", "neither a replay nor what nobody can judge goes on");
}

#[test]
fn base64_of_a_layout_is_read_as_the_policy_says() {
    let bed: Bed = bed(
        "    - {name: devices, base64: {sources: [{header: {name: X-Device}}], layout: 'v1;{username}|{password}'}}\n",
    );
    let send = |text: &str| bed.send(&format!("X-Device: {}\r\n", STANDARD.encode(text)));
    assert_eq!(send("v1;ana@shop.example|corréct horse").status, 200);
    assert!(!bed.upstream.received().to_ascii_lowercase().contains("x-device"));
    bed.upstream.forget();
    bed.refused(&send("v1;ana@shop.example|wrong"), 401, "WrongPassword");
    bed.refused(&send("v2;ana@shop.example|corréct horse"), 401, "MalformedCredential");
    bed.refused(&bed.send("X-Device: %%%\r\n"), 401, "MalformedCredential");
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn a_broken_layout_or_password_is_a_finding() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let check = |yaml: &str| {
        let (world, _) = read_files(&[("all.yaml".into(), yaml.into())], Settings::of_a_folder(false)).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let layout = open_to(
        &upstream,
        "    - {name: d, base64: {sources: [{header: {name: X-D}}], layout: '{username}{password}'}}\n",
    );
    assert!(check(&layout).contains("there must be text between two placeholders"), "{}", check(&layout));
    let md5 = open_to(&upstream, "    - {name: d, digest: {realm: shop, algorithms: [MD5]}}\n");
    assert!(check(&md5).contains("MD5 is broken"), "{}", check(&md5));
    let twice = CREDENTIALS.replace(
        "password: {}, secretRef: {name: bob}",
        "password: {username: 'ana@shop.example'}, secretRef: {name: bob}",
    );
    assert!(check(&twice).contains("already has the same user name"), "{}", check(&twice));
    let missing = CREDENTIALS.replace("stringData: {password: 'bobs password'}", "stringData: {other: canary}");
    assert!(check(&missing).contains("must have the key 'password'") && !check(&missing).contains("canary"));
}

/// A gateway behind a trusted proxy, which names any caller, with blocks; and the address of its control port.
fn blocking(more: &[&str]) -> (Bed<Gateway>, String) {
    let (upstream, admin) = (Upstream::new(), free_address().to_string());
    let yaml = format!("{CREDENTIALS}{}", open_to(&upstream, BASIC));
    let usual = ["--trusted-proxies", "127.0.0.0/8", "--blocks-credentials", "3", "--blocks-failures", "3"];
    let arguments = [&usual[..], &["--admin", &admin], more].concat();
    (Bed { gateway: Gateway::start_with(&[("all.yaml", &yaml)], &arguments), upstream }, admin)
}

impl Bed<Gateway> {
    fn from(&self, address: &str, pair: &str) -> Reply {
        self.send(&format!("X-Forwarded-For: {address}\r\nAuthorization: Basic {}\r\n", STANDARD.encode(pair)))
    }

    /// A command of `idm blocks` at this gateway: whether it succeeded, and its output.
    fn blocks(&self, admin: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(idm())
            .arg("blocks")
            .args(arguments)
            .args(["--admin", &format!("http://{admin}"), "--audit-dir"])
            .arg(self.gateway.audit.path())
            .output()
            .expect("idm runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn explained(&self, reply: &Reply) -> String {
        let mut command = Command::new(idm());
        command.args(["explain", reply.decision(), "--audit-dir"]).arg(self.gateway.audit.path());
        String::from_utf8_lossy(&command.output().expect("idm runs").stdout).into_owned()
    }
}

const ANA: &str = "ana@shop.example:corréct horse";

#[test]
fn an_address_that_guesses_is_blocked_at_every_gateway_until_somebody_ends_it() {
    let redis = Redis::start();
    let (url, password) = (redis.url(), redis.password_file());
    let password = password.path().display().to_string();
    let store = ["--blocks", "enforce", "--store", &url, "--store-password-file", &password];
    let ((one, admin), (other, _)) = (blocking(&store), blocking(&store));
    for user in ["u1", "u2", "u3"] {
        one.refused(&one.from("203.0.113.7", &format!("{user}:guess")), 401, "WrongPassword");
    }
    // Also with the right password, and before anything else; the caller learns no rule.
    let blocked = one.from("203.0.113.7", ANA);
    one.refused(&blocked, 429, "AddressBlocked");
    assert!(blocked.header("retry-after").is_some_and(|seconds| (1..=900).contains(&seconds.parse().unwrap())));
    assert!(!blocked.body.contains("manyCredentials") && one.upstream.received().is_empty());
    let record = one.gateway.record(blocked.decision());
    assert_eq!((&record["stage"], &record["block"]["rule"]), (&"request".into(), &"manyCredentials".into()));
    assert_eq!((&record["request"]["path"], record.get("policy")), (&"/a".into(), None));
    let explained = one.explained(&blocked);
    assert!(explained.contains("3 different credentials of 203.0.113.7 were refused"), "{explained}");
    assert!(explained.contains("the block ends at "), "{explained}");
    assert_eq!(one.from("203.0.113.8", ANA).status, 200, "others are not concerned");
    let status_at_other = |wanted: u16| {
        eventually("the other gateway knows", || match other.from("203.0.113.7", ANA).status {
            status if status == wanted => Ok(()),
            status => Err(status.to_string()),
        });
    };
    status_at_other(429);
    let (listed, told) = one.blocks(&admin, &["list"]);
    assert!(listed && told.contains("203.0.113.7  until ") && told.contains("(mode enforce)"), "{told}");
    let stranger = raw(admin.parse().unwrap(), b"GET /-/blocks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n");
    assert_eq!(stranger.status, 401);
    let (removed, told) = one.blocks(&admin, &["remove", "203.0.113.7"]);
    assert!(removed && told.starts_with("ended: 203.0.113.7"), "{told}");
    assert_eq!(one.from("203.0.113.7", ANA).status, 200);
    status_at_other(200);
    assert!(!one.blocks(&admin, &["remove", "203.0.113.7"]).0, "there is none any more");
    let changes: Vec<_> = one.gateway.records().into_iter().filter(|record| record["kind"] == "Change").collect();
    let told = |change: &serde_json::Value| format!("{} {}", change["action"], change["actor"]);
    assert_eq!(
        changes.iter().map(told).collect::<Vec<_>>(),
        [r#""Created" "gateway standalone""#, r#""Deleted" "holder of the admin token""#]
    );
    assert_eq!(changes[0]["object"]["name"], "203.0.113.7");
}

#[test]
fn a_credential_is_blocked_at_one_address_and_trusted_proxies_never_are() {
    let (bed, _) = blocking(&["--blocks", "enforce"]);
    for _ in 0..3 {
        bed.refused(&bed.from("203.0.113.9", "ana@shop.example:guess"), 401, "WrongPassword");
    }
    let blocked = bed.from("203.0.113.9", ANA);
    bed.refused(&blocked, 429, "CredentialBlocked");
    assert!(bed.explained(&blocked).contains("rule oneCredential"), "{}", bed.explained(&blocked));
    assert_eq!(bed.from("203.0.113.8", ANA).status, 200, "its owner is let in elsewhere");
    bed.refused(&bed.from("203.0.113.9", "bob:guess"), 401, "WrongPassword");
    // The proxy itself speaks for everybody.
    for user in ["u1", "u2", "u3"] {
        bed.refused(&bed.basic(&format!("{user}:guess")), 401, "WrongPassword");
    }
    assert_eq!(bed.basic(ANA).status, 200);
}

#[test]
fn a_block_that_is_only_observed_is_on_record_and_refuses_nothing() {
    let (bed, admin) = blocking(&["--blocks", "observe"]);
    for user in ["u1", "u2", "u3"] {
        bed.refused(&bed.from("203.0.113.7", &format!("{user}:guess")), 401, "WrongPassword");
    }
    let passed = bed.from("203.0.113.7", ANA);
    assert_eq!(passed.status, 200);
    let told = eventually("its record", || {
        let found = bed.gateway.records().into_iter().find(|record| record["block"]["observed"] == true);
        found.ok_or_else(|| "none".to_owned())
    });
    assert_eq!((&told["outcome"], &told["block"]["rule"]), (&"Permitted".into(), &"manyCredentials".into()));
    let explained = Command::new(idm())
        .args(["explain", told["id"].as_str().unwrap(), "--audit-dir"])
        .arg(bed.gateway.audit.path())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&explained.stdout).contains("would have refused it: AddressBlocked"));
    let (_, list) = bed.blocks(&admin, &["list"]);
    assert!(list.contains("would have refused 1 here") && list.contains("(mode observe)"), "{list}");
    let refused = Command::new(idm()).args(["run", "--dir", "/", "--blocks", "enforce"]).output().unwrap();
    let problem = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && problem.contains("--blocks-callers-connect-directly"), "{problem}");
}
