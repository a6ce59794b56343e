//! Mirrors get what the upstream gets, of permitted requests only, and nothing waits for them.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use idm_compile::{Settings, compile, yaml::read_files};
use idm_tests::{Gateway, Upstream, eventually, policy_of, raw, route_to, secret};
use idm_types::ApiKey;
use serde_json::Value;

/// A Service with this name for an address of this machine.
fn service(name: &str, address: SocketAddr) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: ExternalName, externalName: \
         127.0.0.1, ports: [{{name: http, port: {}}}]}}\n",
        address.port()
    )
}

/// The filter with further members.
fn to(name: &str, address: SocketAddr, more: &str) -> String {
    let port = address.port();
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: {port}}}{more}}}}}")
}

/// A route with these filters, for callers with a key.
fn yaml(upstream: &Upstream, services: &[(&str, SocketAddr)], filters: &[String]) -> String {
    let rule = format!("  - {{filters: [{}], UP}}\n", filters.join(", "));
    let methods = "{name: machines, apiKey: {sources: [{header: {name: X-Api-Key}}, {query: {name: key}}]}}";
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: batch}\nspec: \
                      {apiKey: {}, secretRef: {name: batch}}\n";
    let all = [
        route_to(upstream, &rule),
        policy_of("p", None, methods, ""),
        credential.to_owned(),
        secret("batch", &[("key", key())]),
    ];
    all.into_iter().chain(services.iter().map(|(name, address)| service(name, *address))).collect()
}

fn key() -> String {
    ApiKey::from_random([3; 32]).reveal().to_owned()
}

struct Bed {
    gateway: Gateway,
    admin: SocketAddr,
}

impl Bed {
    fn start(yaml: &str) -> Self {
        let admin = idm_tests::free_address();
        let gateway = Gateway::start_with(&[("all.yaml", yaml)], &["--admin", &admin.to_string()]);
        Self { gateway, admin }
    }

    fn get(&self, target: &str) -> idm_tests::Reply {
        let key = key();
        raw(self.gateway.address, format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n").as_bytes())
    }

    fn post(&self, body: &str, framing: &str) -> idm_tests::Reply {
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {}\r\n{framing}\r\n\r\n", key());
        raw(self.gateway.address, format!("{head}{body}").as_bytes())
    }

    /// The copies by outcome: answered, failed, dropped.
    fn counted(&self) -> [u64; 3] {
        let metrics = raw(self.admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body;
        ["Answered", "Failed", "Dropped"].map(|outcome| {
            let name = format!("idm_mirrored_requests_total{{outcome=\"{outcome}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
        })
    }

    fn wait_for(&self, counts: [u64; 3]) {
        eventually("the copies", || {
            let counted = self.counted();
            if counted == counts { Ok(()) } else { Err(format!("{counted:?}, not {counts:?}")) }
        });
    }
}

/// The lines of the one message, sorted, without what frames it.
fn message(upstream: &Upstream) -> Vec<String> {
    let received = upstream.received().to_lowercase();
    let mut lines: Vec<String> = received.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.starts_with("transfer-encoding") && !line.starts_with("content-length"));
    lines.sort();
    lines
}

#[test]
fn a_mirror_gets_what_the_upstream_gets_without_credentials() {
    let (upstream, one, two) =
        (Upstream::new(), Upstream::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), Upstream::new());
    let edit = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: here}]}}".to_owned();
    let mirrors = [("one", one.address), ("two", two.address)];
    let filters = [to("one", one.address, ""), edit, to("two", two.address, "")];
    let bed = Bed::start(&yaml(&upstream, &mirrors, &filters));
    let reply = bed.get("/x?a=1");
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    bed.wait_for([2, 0, 0]);
    assert_eq!(message(&one), message(&upstream));
    assert_eq!(message(&two), message(&upstream));
    let received = one.received().to_lowercase();
    assert!(received.starts_with("get /x?a=1 http/1.1\r\n"), "{received}");
    assert!(received.contains("x-set: here") && received.contains("x-authenticated-userid: batch"), "{received}");
    assert!(!received.contains("x-api-key"), "{received}");

    let names: Vec<Value> = [&one, &two].map(|mirror| format!("127.0.0.1:{}", mirror.address.port()).into()).to_vec();
    eventually("the record names the mirrors", || {
        let records = bed.gateway.records();
        if records.len() == 1 && records[0]["mirrors"] == Value::from(names.clone()) {
            Ok(())
        } else {
            Err(format!("{records:?}"))
        }
    });

    // A refused request is not copied.
    one.forget();
    let refused = raw(bed.gateway.address, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(refused.status, 401);
    assert!(bed.gateway.record(refused.decision()).get("mirrors").is_none());
    assert_eq!(bed.get("/x?key=other").status, 400, "two credentials");
    assert_eq!((bed.counted(), one.received()), ([2, 0, 0], String::new()));
}

#[test]
fn a_body_is_copied_as_it_streams_and_a_large_one_is_not() {
    let (upstream, one) = (Upstream::new(), Upstream::new());
    let bed = Bed::start(&yaml(&upstream, &[("one", one.address)], &[to("one", one.address, "")]));
    let chunked = bed.post("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "Transfer-Encoding: chunked");
    assert_eq!(chunked.status, 200, "{chunked:?}");
    bed.wait_for([1, 0, 0]);
    let received = one.received();
    assert!(received.ends_with("\r\n\r\nhello world"), "{received}");
    assert!(received.to_lowercase().contains("content-length: 11\r\n"), "{received}");

    let full = "x".repeat(64 << 10);
    assert_eq!(bed.post(&full, &format!("Content-Length: {}", full.len())).status, 200);
    bed.wait_for([2, 0, 0]);
    assert!(one.received().ends_with(&full));
    one.forget();

    let larger = format!("{full}y");
    assert_eq!(bed.post(&larger, &format!("Content-Length: {}", larger.len())).status, 200);
    let chunk = format!("{:x}\r\n{larger}\r\n0\r\n\r\n", larger.len());
    assert_eq!(bed.post(&chunk, "Transfer-Encoding: chunked").status, 200);
    bed.wait_for([2, 0, 2]);
    assert_eq!(one.received(), "", "a part of a request went out");
    assert!(upstream.received().ends_with("y\r\n0\r\n\r\n"), "the upstream got all of it");
}

#[test]
fn a_mirror_that_hangs_or_is_away_costs_the_caller_nothing() {
    let upstream = Upstream::new();
    // It takes connections into its queue, and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let away = idm_tests::free_address();
    let hangs = hanging.local_addr().expect("an address");
    let filters = [to("hangs", hangs, ""), to("away", away, "")];
    let bed = Bed::start(&yaml(&upstream, &[("hangs", hangs), ("away", away)], &filters));
    // Each core has sixteen places for one mirror; all other copies for the one that hangs are dropped at once.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let requests = 16 * cores + 48;
    for _ in 0..requests {
        let started = Instant::now();
        assert_eq!(bed.get("/x").status, 200);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
    eventually("the one that is away fails or fills up, the one that hangs fills up", || {
        let [answered, failed, dropped] = bed.counted();
        let all = answered == 0 && failed > 0 && dropped >= 48 && failed + dropped >= requests;
        if all { Ok(()) } else { Err(format!("{answered} {failed} {dropped} of {requests}")) }
    });
}

#[test]
fn a_mirror_gets_its_share_and_nothing_where_its_share_is_nothing() {
    let (upstream, none, half) = (Upstream::new(), Upstream::new(), Upstream::new());
    let filters = [
        to("none", none.address, ", percent: 0"),
        to("half", half.address, ", fraction: {numerator: 1, denominator: 2}"),
    ];
    let bed = Bed::start(&yaml(&upstream, &[("none", none.address), ("half", half.address)], &filters));
    for _ in 0..200 {
        assert_eq!(bed.get("/x").status, 200);
    }
    eventually("about half of the requests", || {
        let copies = half.received().matches("GET /x").count();
        if (60..=140).contains(&copies) { Ok(()) } else { Err(copies.to_string()) }
    });
    assert_eq!(none.received(), "");
}

#[test]
fn a_mirror_that_cannot_be_used_is_left_out_and_named() {
    let upstream = Upstream::new();
    let there = service("there", upstream.address);
    let port = upstream.address.port();
    for (mirror, cause, mirrors) in [
        (format!("backendRef: {{name: there, port: {port}}}"), None, Some(1)),
        (format!("backendRef: {{name: nowhere, port: {port}}}"), Some("RefNotFound"), Some(0)),
        (format!("backendRef: {{name: there, namespace: other, port: {port}}}"), Some("RefNotPermitted"), Some(0)),
        (format!("backendRef: {{name: there, kind: ConfigMap, port: {port}}}"), Some("InvalidKind"), Some(0)),
        ("backendRef: {name: there}".into(), Some("Invalid"), None),
        (format!("backendRef: {{name: there, port: {port}}}, percent: 101"), Some("Invalid"), None),
        (
            format!("backendRef: {{name: there, port: {port}}}, percent: 1, fraction: {{numerator: 1}}"),
            Some("Invalid"),
            None,
        ),
        (
            format!("backendRef: {{name: there, port: {port}}}, fraction: {{numerator: 1, denominator: 0}}"),
            Some("Invalid"),
            None,
        ),
    ] {
        let filter = format!("{{type: RequestMirror, requestMirror: {{{mirror}}}}}");
        let text = yaml(&upstream, &[], &[filter]) + &there;
        let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).expect("it is read");
        let compiled = compile(&world, None);
        let findings: Vec<_> = compiled.report.findings().iter().map(|finding| finding.cause.name()).collect();
        assert_eq!(findings, cause.into_iter().collect::<Vec<_>>(), "{mirror}");
        let forwards: Vec<_> = compiled
            .plan
            .rules
            .iter()
            .filter_map(|rule| match &rule.handler {
                idm_plan::Handler::Enforce { mirrors, .. } => Some(mirrors.len()),
                _ => None,
            })
            .collect();
        assert_eq!(forwards, mirrors.into_iter().collect::<Vec<_>>(), "{mirror}");
    }
}

#[test]
fn the_key_of_a_language_models_provider_is_not_copied() {
    let upstream = Upstream::new();
    let port = upstream.address.port();
    let filter = to("up", upstream.address, "");
    let llm = "  llm: {keyRef: {name: provider}, provider: OpenAI}\n";
    let rule = format!("  - {{filters: [{filter}], backendRefs: [{{name: up, port: {port}}}]}}\n");
    let policy = policy_of("p", None, "{name: everyone, anonymous: {}}", llm);
    let text = route_to(&upstream, &rule) + &policy + &secret("provider", &[("apiKey", "k".into())]);
    let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).expect("it is read");
    let compiled = compile(&world, None);
    let findings: Vec<_> = compiled.report.findings().iter().map(ToString::to_string).collect();
    assert!(findings.iter().any(|finding| finding.contains("remove RequestMirror")), "{findings:#?}");
    assert!(compiled.plan.rules.iter().all(|rule| matches!(rule.handler, idm_plan::Handler::Refuse { .. })));
}
