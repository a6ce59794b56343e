//! Scripts of pages of other origins: preflights, the headers by which they may read answers, and what a page that is
//! not listed gets. `f19` and `f20` are the numbers of reports from users of such systems.

use idm_jose::SigningKey;
use idm_tests::{Gateway, Issuer, Reply, Upstream, eventually, now, policy_of, raw, route_to, secret};
use idm_types::Algorithm;

const APP: &str = "https://app.example";

/// A route with these rules, and policies of a rule or of all, with a method and further members.
fn world(upstream: &Upstream, rules: &str, policies: &[(&str, &str, &str)]) -> String {
    let policy = |(i, (rule, method, more)): (usize, &(&str, &str, &str))| {
        policy_of(&format!("p{i}"), Some(*rule).filter(|rule| !rule.is_empty()), method, more)
    };
    route_to(upstream, rules) + &policies.iter().enumerate().map(policy).collect::<String>()
}

const KEYS: &str = "{name: machines, apiKey: {}}";
const OPEN: &str = "{name: everyone, anonymous: {}}";

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
}

impl Bed {
    fn new(upstream: Upstream, rules: &str, policies: &[(&str, &str, &str)]) -> Self {
        let gateway = Gateway::start(&[("all.yaml", &world(&upstream, rules, policies))]);
        Self { gateway, upstream }
    }

    /// One rule for everything, and one policy with these methods and this `cors`.
    fn of_policy(method: &str, cors: &str) -> Self {
        Self::new(Upstream::new(), "  - {UP}", &[("", method, &format!("  cors: {cors}\n"))])
    }

    fn send(&self, head: &str) -> Reply {
        raw(self.gateway.address, format!("{head}\r\nHost: a\r\n\r\n").as_bytes())
    }

    fn preflight(&self, path: &str, origin: &str, method: &str, headers: &str) -> Reply {
        let headers =
            if headers.is_empty() { String::new() } else { format!("\r\nAccess-Control-Request-Headers: {headers}") };
        self.send(&format!(
            "OPTIONS {path} HTTP/1.1\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}{headers}"
        ))
    }

    /// Answered by the gateway, with one record, and nothing sent on.
    fn answered(&self, path: &str, origin: &str, method: &str, headers: &str) -> Reply {
        // Records of other answers may still be on their way.
        let answered = || {
            let records = self.gateway.records().into_iter();
            records.filter(|record| record["stage"] == "preflight" && record["status"] == 204).collect::<Vec<_>>()
        };
        let before = answered().len();
        let reply = self.preflight(path, origin, method, headers);
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{origin} {method} {headers}: {reply:?}");
        let record = eventually("one record", || {
            let records = answered();
            if records.len() == before + 1 { Ok(records.last().unwrap().clone()) } else { Err(format!("{records:?}")) }
        });
        assert_eq!((&record["outcome"], &record["stage"]), (&"Permitted".into(), &"preflight".into()), "{record}");
        assert!(record["identity"].is_null() && record["upstream"].is_null(), "{record}");
        assert_eq!(self.upstream.received(), "");
        reply
    }

    /// Refused, with nothing that a browser takes for a permission, one record, and nothing sent on.
    fn refused(&self, path: &str, origin: &str, method: &str, headers: &str, why: &str) {
        let reply = self.preflight(path, origin, method, headers);
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, &record["reason"]), (403, &"CrossOriginRefused".into()), "{origin}: {record}");
        assert!(record["detail"].as_str().unwrap().contains(why), "{record}");
        assert_eq!(allowed(&reply), Vec::<String>::new());
        assert_eq!(self.upstream.received(), "");
    }
}

/// The headers of the CORS protocol in an answer.
fn allowed(reply: &Reply) -> Vec<String> {
    let told = reply.headers.iter().filter(|(name, _)| name.starts_with("access-control-"));
    told.map(|(name, value)| format!("{name}: {value}")).collect()
}

fn varies(reply: &Reply) -> Vec<&str> {
    reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value.as_str()).collect()
}

#[test]
fn f19_a_preflight_is_answered_before_anyone_authenticates() {
    let bed = Bed::of_policy(
        KEYS,
        "{allowOrigins: [https://app.example, 'https://*.shop.example'], allowCredentials: true, allowMethods: [PUT, \
         DELETE], allowHeaders: [Authorization, Content-Type], exposeHeaders: [X-Total], maxAge: 600}",
    );
    let reply = bed.answered("/orders", APP, "PUT", "authorization,content-type");
    assert_eq!(
        allowed(&reply),
        [
            "access-control-allow-origin: https://app.example",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: PUT, DELETE",
            "access-control-allow-headers: authorization, content-type",
            "access-control-max-age: 600"
        ]
    );
    assert_eq!(varies(&reply), ["Origin"]);
    let reply = bed.answered("/", "https://a.b.shop.example", "GET", "");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://a.b.shop.example"));
    bed.answered("/", APP, "POST", "Authorization");

    for origin in
        ["null", "https://evil.example", "https://shop.example", "http://app.example", "https://app.example.", "x"]
    {
        bed.refused("/", origin, "GET", "", "`allowOrigins` does not list");
    }
    bed.refused("/", APP, "PATCH", "", "`allowMethods` does not list PATCH");
    bed.refused("/", APP, "put", "", "`allowMethods` does not list put");
    bed.refused("/", APP, "PUT", "authorization, x-debug", "`allowHeaders` does not list `x-debug`");
    bed.refused("/", APP, "PUT", "a b", "malformed");
    let many: Vec<String> = (0..65).map(|_| "authorization".into()).collect();
    bed.refused("/", APP, "PUT", &many.join(","), "more than 64");

    // A request that is no preflight goes the way of all requests.
    for head in [
        "OPTIONS / HTTP/1.1",
        "OPTIONS / HTTP/1.1\r\nOrigin: https://app.example",
        "OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: GET",
        "OPTIONS / HTTP/1.1\r\nOrigin: https://app.example\r\nOrigin: https://app.example\r\n\
         Access-Control-Request-Method: GET",
        "OPTIONS / HTTP/1.1\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Method: GET",
        "OPTIONS / HTTP/1.1\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: G T",
        "GET / HTTP/1.1\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: GET",
    ] {
        let reply = bed.send(head);
        assert_eq!(bed.gateway.record(reply.decision())["reason"], "NoCredentials", "{head}");
        assert_eq!(bed.upstream.received(), "");
    }
}

#[test]
fn f20_a_script_of_a_listed_origin_reads_refusals_and_no_other_does() {
    let bed = Bed::of_policy(KEYS, "{allowOrigins: [https://app.example], exposeHeaders: [X-Total]}");
    let reply = bed.send("GET / HTTP/1.1\r\nOrigin: https://app.example");
    assert_eq!(reply.status, 401);
    assert_eq!(
        allowed(&reply),
        [
            "access-control-allow-origin: https://app.example",
            "access-control-expose-headers: x-total, x-decision-id, www-authenticate, retry-after"
        ]
    );
    assert!(reply.body.contains(reply.decision()), "{reply:?}");
    for head in ["GET / HTTP/1.1\r\nOrigin: https://evil.example", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nOrigin: null"] {
        let reply = bed.send(head);
        assert_eq!((reply.status, allowed(&reply)), (401, vec![]), "{head}");
        // A cache must not give this answer to the page that is listed.
        assert_eq!(varies(&reply), ["Origin"], "{head}");
    }
    // Before the rule is known there is nobody to ask which origins it takes.
    let reply = bed.send("GET /a//b HTTP/1.1\r\nOrigin: https://app.example");
    assert_eq!((reply.status, allowed(&reply)), (400, vec![]));
}

#[test]
fn f20_what_an_upstream_says_of_origins_is_replaced_and_not_doubled() {
    let answer = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
                  Access-Control-Allow-Headers: x-up\r\nX-Total: 3\r\nVary: Accept-Encoding\r\nContent-Length: 2\r\n\
                  \r\nok";
    let listed = "{allowOrigins: [https://app.example], exposeHeaders: [X-Total]}";
    let with = |cors: &str| Bed::new(Upstream::answering(answer), "  - {UP}", &[("", OPEN, cors)]);
    let bed = with(&format!("  cors: {listed}\n"));
    let reply = bed.send("GET / HTTP/1.1\r\nOrigin: https://app.example");
    let told = ["access-control-allow-origin: https://app.example", "access-control-expose-headers: x-total"];
    assert_eq!((reply.status, allowed(&reply)), (200, told.map(String::from).to_vec()));
    assert_eq!(varies(&reply), ["Accept-Encoding", "Origin"]);
    let reply = bed.send("GET / HTTP/1.1\r\nOrigin: https://evil.example");
    assert_eq!((reply.status, allowed(&reply)), (200, vec![]));
    // Without settings the upstream speaks for itself.
    let reply = with("").send("GET / HTTP/1.1\r\nOrigin: https://evil.example");
    assert_eq!(allowed(&reply).len(), 3);
    assert_eq!(varies(&reply), ["Accept-Encoding"]);
    for vary in ["*", "accept, ORIGIN"] {
        let upstream = Upstream::answering(&answer.replace("Accept-Encoding", vary));
        let bed = Bed::new(upstream, "  - {UP}", &[("", OPEN, &format!("  cors: {listed}\n"))]);
        assert_eq!(varies(&bed.send("GET / HTTP/1.1")), [vary]);
    }
}

#[test]
fn f19_every_origin_is_answered_with_a_star_and_never_reflected() {
    let bed =
        Bed::of_policy(OPEN, "{allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']}");
    let reply = bed.answered("/", "https://evil.example", "PATCH", "x-one, authorization");
    assert_eq!(
        allowed(&reply),
        [
            "access-control-allow-origin: *",
            "access-control-allow-methods: *",
            "access-control-allow-headers: *, authorization",
            "access-control-max-age: 5"
        ]
    );
    assert_eq!(bed.answered("/", "null", "GET", "x-one").header("access-control-allow-headers"), Some("*"));
    // The same for every caller, also for one that names no origin: a cache may keep it.
    for head in ["GET / HTTP/1.1", "GET / HTTP/1.1\r\nOrigin: null"] {
        let reply = bed.send(head);
        assert_eq!(reply.status, 200);
        assert_eq!(allowed(&reply), ["access-control-allow-origin: *", "access-control-expose-headers: *"]);
        assert_eq!(varies(&reply), Vec::<&str>::new());
    }
}

#[test]
fn f19_with_credentials_a_star_is_spelled_out() {
    let answer = "HTTP/1.1 200 OK\r\nX-Total: 3\r\nContent-Length: 2\r\n\r\nok";
    let cors = "  cors: {allowOrigins: [https://app.example], allowCredentials: true, allowMethods: ['*'], \
                allowHeaders: ['*'], exposeHeaders: ['*']}\n";
    let bed = Bed::new(Upstream::answering(answer), "  - {UP}", &[("", OPEN, cors)]);
    let reply = bed.answered("/", APP, "PATCH", "X-One,authorization");
    assert_eq!(reply.header("access-control-allow-methods"), Some("PATCH"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("x-one, authorization"));
    assert_eq!(bed.answered("/", APP, "PATCH", "").header("access-control-allow-headers"), None);
    let reply = bed.send("GET / HTTP/1.1\r\nOrigin: https://app.example");
    let exposed = reply.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-total") && !exposed.contains('*'), "{exposed}");
}

#[test]
fn f19_a_route_filter_wins_over_the_policy_and_a_rule_for_options_over_both() {
    let bed = Bed::new(
        Upstream::new(),
        "  - {name: filtered, matches: [{path: {type: PathPrefix, value: /a}, method: PUT}], UP, filters: [{type: \
         CORS, cors: {allowOrigins: [https://route.example], allowMethods: [PUT]}}]}\n  \
         - {name: own, matches: [{path: {type: PathPrefix, value: /b}, method: OPTIONS}], UP}\n  \
         - {name: rest, UP}",
        &[("", KEYS, "  cors: {allowOrigins: [https://app.example]}\n"), ("own", OPEN, "")],
    );
    // The rule of the announced method says which origins it takes.
    let reply = bed.answered("/a", "https://route.example", "PUT", "");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://route.example"));
    bed.refused("/a", APP, "PUT", "", "`allowOrigins`");
    bed.answered("/a", APP, "GET", "");
    bed.refused("/a", "https://route.example", "GET", "", "`allowOrigins`");
    // A rule that names OPTIONS gets the preflight itself, as any request.
    let reply = bed.preflight("/b/x", "https://evil.example", "GET", "");
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    assert!(bed.upstream.received().starts_with("OPTIONS /b/x HTTP/1.1\r\n"));
    bed.upstream.forget();
    // And nothing else.
    let reply = bed.send("GET /b/x HTTP/1.1\r\nOrigin: https://app.example");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (401, Some(APP)));
    // Without a setting, nothing is answered.
    let bed = Bed::new(Upstream::new(), "  - {UP}", &[("", KEYS, "")]);
    let reply = bed.preflight("/", APP, "GET", "");
    assert_eq!((reply.status, allowed(&reply)), (401, vec![]));
    assert_eq!(bed.gateway.record(reply.decision())["reason"], "NoCredentials");
}

#[test]
fn f20_a_closed_rule_says_so_to_scripts_and_explain_names_the_preflight() {
    let rules = "  - {UP, filters: [{type: CORS, cors: {allowOrigins: [https://app.example]}}]}";
    let bed = Bed::new(Upstream::new(), rules, &[]);
    let reply = bed.send("GET / HTTP/1.1\r\nOrigin: https://app.example");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, Some(APP)));
    assert_eq!(bed.gateway.record(reply.decision())["reason"], "NoPolicy");
    bed.answered("/", APP, "GET", "");
    let reply = bed.preflight("/", APP, "PUT", "");
    let _ = bed.gateway.record(reply.decision());
    let explain = std::process::Command::new(idm_tests::idm())
        .args(["explain", reply.decision(), "--audit-dir"])
        .arg(bed.gateway.audit.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&explain.stdout).into_owned();
    assert!(said.contains("✗ preflight") && said.contains("does not list PUT"), "{said}");
    assert!(!said.contains("authenticate"), "{said}");
}

#[test]
fn f20_endpoints_of_a_token_service_take_the_scripts_of_their_policy() {
    let service = "  cors: {allowOrigins: [https://app.example], allowHeaders: [Authorization]}\n  tokenService: \
                   {issuer: 'https://a/oauth', audiences: [orders]}\n";
    let upstream = Upstream::new();
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, idm_types::Timestamp::from_seconds(now() - 10)).unwrap();
    let secret = secret("idm-signing-keys", &[("p0.json", keys)]);
    let gateway =
        Gateway::start(&[("all.yaml", &format!("{}{secret}", world(&upstream, "  - {UP}", &[("", KEYS, service)])))]);
    let bed = Bed { gateway, upstream };
    for (path, method, status) in [
        ("/oauth/token", "POST", 401),
        ("/oauth/introspect", "POST", 401),
        ("/oauth/revoke", "POST", 401),
        ("/oauth/.well-known/jwks.json", "GET", 200),
        ("/.well-known/oauth-authorization-server/oauth", "GET", 200),
        ("/oauth/.well-known/openid-configuration", "GET", 200),
    ] {
        let reply = bed.answered(path, APP, method, "authorization");
        assert_eq!(reply.header("access-control-allow-headers"), Some("authorization"));
        bed.refused(path, "https://evil.example", method, "", "`allowOrigins`");
        let form = if method == "POST" {
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n"
        } else {
            ""
        };
        for (origin, told) in [(APP, Some(APP)), ("https://evil.example", None)] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{form}Origin: {origin}\r\n\r\n");
            let reply = raw(bed.gateway.address, request.as_bytes());
            assert_eq!(
                (reply.status, reply.header("access-control-allow-origin")),
                (status, told),
                "{path}: {reply:?}"
            );
            assert_eq!(varies(&reply), ["Origin"]);
        }
    }
    assert_eq!(bed.upstream.received(), "");
}

/// Settings that cannot be right are refused when they are written, and the rule stays closed.
#[test]
fn f19_dangerous_and_malformed_settings_are_findings() {
    let upstream = Upstream::new();
    for (cors, message) in [
        ("{allowOrigins: ['*'], allowCredentials: true}", "act with the person's session"),
        ("{allowOrigins: ['https://*'], allowCredentials: true}", "act with the person's session"),
        ("{allowOrigins: ['*', 'https://a']}", "`*` must stand alone"),
        ("{allowOrigins: ['null']}", "never `null`"),
        ("{allowOrigins: ['https://a/']}", "must be an origin"),
        ("{allowOrigins: ['a.example']}", "must be an origin"),
        ("{allowOrigins: []}", "at least one origin"),
        ("{}", "at least one origin"),
        ("{allowOrigins: [https://a], maxAge: 0}", "between 1 and 86400"),
        ("{allowOrigins: [https://a], allowHeaders: ['*', x]}", "`*` must stand alone"),
        ("{allowOrigins: [https://a], exposeHeaders: ['a b']}", "must be a name"),
        ("{allowOrigins: [https://a], allowMethods: [TRACE]}", "neither TRACE nor CONNECT"),
    ] {
        let route =
            world(&upstream, &format!("  - {{UP, filters: [{{type: CORS, cors: {cors}}}]}}"), &[("", OPEN, "")]);
        let policy = world(&upstream, "  - {UP}", &[("", OPEN, &format!("  cors: {cors}\n"))]);
        for (yaml, of_route) in [(route, true), (policy, false)] {
            if !of_route && cors == "{}" {
                continue; // a missing member is refused when the document is read
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("all.yaml"), &yaml).unwrap();
            let lint = std::process::Command::new(idm_tests::idm()).arg("lint").arg(dir.path()).output().unwrap();
            let said = format!("{}{}", String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
            assert!(!lint.status.success() && said.contains(message), "{cors}: {said}");
        }
    }
}

#[test]
fn f19_filters_that_are_not_served_are_named_as_the_gateway_api_names_them() {
    let upstream = Upstream::new();
    for (filter, message) in [
        (
            "{type: ExtensionRef, extensionRef: {group: example.com, kind: Cache, name: c}}",
            "filter ExtensionRef is not supported",
        ),
        ("{type: URLRewrite}", "must have its settings in `urlRewrite`"),
        ("{type: CORS}", "must have its settings in `cors`"),
    ] {
        let yaml = world(&upstream, &format!("  - {{UP, filters: [{filter}]}}"), &[("", OPEN, "")]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("all.yaml"), &yaml).unwrap();
        let lint = std::process::Command::new(idm_tests::idm()).arg("lint").arg(dir.path()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
        assert!(said.contains(message), "{filter}: {said}");
        if filter.contains("ExtensionRef") {
            assert!(said.contains("RequestRedirect, ResponseHeaderModifier and URLRewrite"), "{said}");
        }
    }
}

/// A real browser: its scripts of a listed origin read answers and refusals, and those of another origin do not.
#[test]
fn f20_chromium_lets_the_listed_page_read_and_no_other() {
    use std::io::{BufRead, BufReader, Write};
    let key = SigningKey::generate(Algorithm::ES256, "k1").unwrap();
    let issuer = Issuer::new(&key);
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nX-Total: 3\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"n\":\"3\"}",
    );
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/cors.mjs");
    let mut browser = std::process::Command::new("node")
        .arg(script)
        .arg(idm_tests::interop_libraries())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut out = BufReader::new(browser.stdout.take().unwrap());
    let mut origin = String::new();
    out.read_line(&mut origin).unwrap();
    let method = format!(
        "{{name: people, jwt: {{issuers: [{{issuer: '{}', audiences: [orders], algorithms: [ES256], keys: {{discovery: \
         {{}}}}}}]}}}}",
        issuer.name()
    );
    let cors = format!(
        "  cors: {{allowOrigins: ['{}'], allowMethods: [PUT], allowHeaders: [Authorization, Content-Type], \
         exposeHeaders: [X-Total]}}\n",
        origin.trim()
    );
    let yaml = world(&upstream, "  - {UP}", &[("", &method, &cors)]);
    let gateway = Gateway::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    let token = key.sign(&issuer.claims("ana")).unwrap();
    writeln!(browser.stdin.take().unwrap(), "http://{} {token}", gateway.address).unwrap();
    let said = out.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    let output = browser.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("done: 5 steps"), "{said}{problems}");
    assert!(!upstream.received().contains("OPTIONS "), "{}", upstream.received());
    // The decision that the script read is on record.
    let id = said.lines().find_map(|line| line.strip_prefix("decision: ")).expect("a decision id");
    assert_eq!(gateway.record(id)["reason"], "NoCredentials");
}
