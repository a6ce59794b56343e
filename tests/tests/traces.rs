//! Spans of requests, as the receiver of the OpenTelemetry Collector reads them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::http::serve;
use idm_tests::{
    ANONYMOUS, CollectedSpan, Collector, Gateway, Redis, Reply, Upstream, eventually, open_to, open_to_address, raw,
    secret,
};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Serves `ana`'s API key, and sends its spans to a collector.
fn keys(upstream: &Upstream, collector: &Collector, arguments: &[&str]) -> Gateway {
    let key = idm_types::ApiKey::from_random([7; 32]).reveal().to_owned();
    let credential = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: ana}}\n\
         spec: {{apiKey: {{}}, secretRef: {{name: ana}}}}\n{}",
        secret("ana", &[("key", key)])
    );
    let files = format!("{}{credential}", open_to(upstream, "    - {name: machines, apiKey: {}}\n"));
    traced(&files, collector, arguments)
}

fn traced(files: &str, collector: &Collector, arguments: &[&str]) -> Gateway {
    Gateway::start_with(&[("all.yaml", files)], &[&["--traces", &collector.url()], arguments].concat())
}

fn get(gateway: &Gateway, path: &str, headers: &str) -> Reply {
    raw(gateway.address, format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n").as_bytes())
}

fn key() -> String {
    format!("X-API-Key: {}\r\n", idm_types::ApiKey::from_random([7; 32]).reveal())
}

fn continued(trace: &str, flags: &str) -> String {
    format!("traceparent: 00-{trace}-{PARENT}-{flags}\r\ntracestate: other=1\r\n")
}

/// The parts of the last `traceparent` that an upstream received: trace, parent, flags.
fn told(upstream: &Upstream) -> [String; 3] {
    let received = upstream.received();
    let lines: Vec<_> = received.lines().filter_map(|line| line.strip_prefix("traceparent: 00-")).collect();
    let parts: Vec<_> = lines.last().unwrap_or_else(|| panic!("{received}")).split('-').map(str::to_owned).collect();
    parts.try_into().unwrap()
}

fn attributes<const N: usize>(span: &CollectedSpan, expected: [(&str, &str); N]) {
    for (name, value) in expected {
        assert_eq!(span.attribute(name).as_deref(), Some(value), "{name} of {span:#?}");
    }
}

#[test]
fn a_request_is_a_span_with_its_exchange_and_no_secret() {
    let (upstream, collector) = (Upstream::new(), Collector::start());
    let gateway = keys(&upstream, &collector, &[]);
    let headers = format!("{}{}Cookie: c=canary-cookie\r\n", key(), continued(TRACE, "01"));
    assert_eq!(get(&gateway, "/orders/7?token=canary-query", &headers).status, 200);
    let [request, exchange] = collector.trace(TRACE, 2).try_into().unwrap();
    assert_eq!((request.text("name"), &request.0["kind"]), ("GET Service default/up", &json!(2)));
    assert_eq!(request.text("parentSpanId"), PARENT);
    let record = eventually("the record", || gateway.records().first().cloned().ok_or_else(String::new));
    attributes(
        &request,
        [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("url.scheme", "http"),
            ("url.path", "/orders/7"),
            ("server.address", "a.example"),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("idm.decision.id", record["id"].as_str().unwrap()),
            ("idm.outcome", "Permitted"),
            ("idm.route", "Service default/up"),
            ("idm.policy", "default/p"),
            ("idm.authentication", "machines"),
        ],
    );
    let port = upstream.address.port().to_string();
    assert_eq!((exchange.text("name"), &exchange.0["kind"]), ("GET", &json!(3)));
    assert_eq!(exchange.text("parentSpanId"), request.text("spanId"));
    attributes(
        &exchange,
        [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("url.full", &format!("http://127.0.0.1:{port}/orders/7")),
        ],
    );
    assert!(!request.failed() && !exchange.failed());
    let times = |span: &CollectedSpan| {
        ["startTimeUnixNano", "endTimeUnixNano"].map(|member| span.text(member).parse::<u64>().unwrap())
    };
    let ([began, ended], [left, came]) = (times(&request), times(&exchange));
    assert!(began <= left && left <= came && came <= ended, "{began} {left} {came} {ended}");
    assert!(idm_tests::now().abs_diff(began / 1_000_000_000) < 60);
    // The upstream continues the trace below the exchange, and the record names the trace.
    assert_eq!(told(&upstream), [TRACE, exchange.text("spanId"), "01"]);
    assert!(upstream.received().contains("tracestate: other=1\r\n"));
    assert_eq!(record["trace"]["id"], TRACE);
    let resource = collector.all()[0].0.to_string();
    assert!(resource.contains("\"idm-gateway\"") && resource.contains("\"standalone\""), "{resource}");
    let all = collector.received();
    assert!(!all.contains("canary") && !all.contains(key().trim_start_matches("X-API-Key: ").trim()), "{all}");
    gateway.stop();
}

#[test]
fn a_refusal_is_a_span_with_its_reason() {
    let (upstream, collector) = (Upstream::new(), Collector::start());
    let gateway = keys(&upstream, &collector, &[]);
    let reply = get(&gateway, "/", &format!("X-API-Key: canary\r\n{}", continued(TRACE, "01")));
    assert_eq!(reply.status, 401);
    let [request] = collector.trace(TRACE, 1).try_into().unwrap();
    let reason = gateway.record(reply.decision())["reason"].as_str().unwrap().to_owned();
    attributes(
        &request,
        [
            ("http.response.status_code", "401"),
            ("idm.outcome", "Denied"),
            ("idm.reason", &reason),
            ("idm.decision.id", reply.decision()),
        ],
    );
    // A caller's error is none of the server's (semantic conventions for HTTP, "Status").
    assert!(!request.failed() && request.attribute("error.type").is_none());
    assert_eq!(upstream.received(), "");
    assert!(!collector.received().contains("canary"));
    gateway.stop();
}

#[test]
fn a_trace_that_is_not_recorded_is_told_and_on_record_and_nobody_exports_it() {
    let (upstream, collector) = (Upstream::new(), Collector::start());
    let gateway = keys(&upstream, &collector, &["--traces-ratio", "0"]);
    // One that begins here, and one that its caller does not record.
    get(&gateway, "/", &format!("{}tracestate: other=1\r\n", key()));
    let [own, _, flags] = told(&upstream);
    assert_eq!((own.len(), flags.as_str()), (32, "00"));
    assert!(!upstream.received().contains("tracestate"));
    get(&gateway, "/", &format!("{}{}", key(), continued(TRACE, "00")));
    let [trace, parent, flags] = told(&upstream);
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    assert_ne!(parent, PARENT);
    let ids = eventually("both records", || {
        let ids: Vec<_> = gateway.records().iter().map(|record| record["trace"]["id"].clone()).collect();
        if ids.len() == 2 { Ok(ids) } else { Err(format!("{ids:?}")) }
    });
    assert_eq!(ids, [json!(own), json!(TRACE)]);
    // A gateway that stops sends the spans that are left.
    gateway.stop();
    assert_eq!(collector.received(), "");
}

#[test]
fn callers_record_no_more_than_their_bound() {
    let (upstream, collector) = (Upstream::new(), Collector::start());
    let gateway = keys(&upstream, &collector, &["--traces-ratio", "1", "--traces-callers-per-second", "2"]);
    let start = Instant::now();
    for n in 1..=40 {
        assert_eq!(get(&gateway, "/", &format!("{}{}", key(), continued(&format!("{n:032x}"), "01"))).status, 200);
    }
    let seconds = start.elapsed().as_secs() as usize + 2;
    gateway.stop();
    let recorded =
        upstream.received().lines().filter(|line| line.starts_with("traceparent: ") && line.ends_with("-01")).count();
    assert!((2..=2 * seconds).contains(&recorded), "{recorded} in {seconds} s");
    assert_eq!(collector.all().len(), 2 * recorded, "a request and its exchange for each");
}

#[test]
fn an_ignored_caller_is_linked_to_and_the_share_decides() {
    let (upstream, collector) = (Upstream::new(), Collector::start());
    let gateway = keys(&upstream, &collector, &["--traces-ratio", "1", "--traces-callers", "ignored"]);
    assert_eq!(get(&gateway, "/", &format!("{}{}", key(), continued(TRACE, "00"))).status, 200);
    let [trace, _, flags] = told(&upstream);
    assert!(trace != TRACE && flags == "01");
    assert!(!upstream.received().contains("tracestate"));
    let [request, _] = collector.trace(&trace, 2).try_into().unwrap();
    assert_eq!(request.text("parentSpanId"), "");
    let link = &request.0["links"][0];
    assert_eq!((&link["traceId"], &link["spanId"]), (&json!(TRACE), &json!(PARENT)));
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_is_seen() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector::start();
    let gateway = traced(&open_to_address(silent.local_addr().unwrap(), ANONYMOUS), &collector, &[]);
    let mut caller = TcpStream::connect(gateway.address).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", continued(TRACE, "01"));
    caller.write_all(request.as_bytes()).unwrap();
    // The upstream has the request, and says nothing.
    let (mut held, _) = silent.accept().unwrap();
    held.read_exact(&mut [0; 16]).unwrap();
    drop(caller);
    let [request, exchange] = collector.trace(TRACE, 2).try_into().unwrap();
    attributes(&request, [("error.type", "ClientGone"), ("idm.reason", "ClientGone"), ("idm.outcome", "Failed")]);
    attributes(&exchange, [("error.type", "cancelled")]);
    assert!(request.failed() && exchange.failed() && request.attribute("http.response.status_code").is_none());
    gateway.stop();
}

#[test]
fn an_upstream_that_fails_is_an_error_of_both_spans() {
    let collector = Collector::start();
    let gateway = traced(&open_to_address(idm_tests::free_address(), ANONYMOUS), &collector, &[]);
    assert_eq!(get(&gateway, "/", &continued(TRACE, "01")).status, 502);
    let [request, exchange] = collector.trace(TRACE, 2).try_into().unwrap();
    attributes(&request, [("error.type", "UpstreamUnreachable"), ("http.response.status_code", "502")]);
    attributes(&exchange, [("error.type", "UpstreamUnreachable")]);
    assert!(request.failed() && exchange.failed());
    gateway.stop();
}

/// A directory at a service, the store's count of guesses, and a token that an authorization server is asked about.
#[test]
fn questions_to_others_are_spans_within_the_request() {
    let (upstream, collector, redis) = (Upstream::new(), Collector::start(), Redis::start());
    let (password, store) = (redis.password_file(), redis.url());
    let directory = serve(|_| (200, vec![], json!({"id": "p-1", "login": "ana", "groups": []}).to_string()));
    let active = json!({"active": true, "iss": "https://idp", "sub": "7", "exp": idm_tests::now() + 60}).to_string();
    let idp = serve(move |_| (200, vec![("Content-Type".into(), "application/json".into())], active.clone()));
    let methods = format!(
        "    - {{name: people, basic: {{realm: shop, validators: [{{federationRef: {{name: corp}}}}]}}}}\n    \
         - {{name: opaque, introspection: {{issuer: 'https://idp', endpoint: 'http://{idp}/ask?canary=1', clientId: c, \
         clientSecretRef: {{name: idp}}}}}}\n"
    );
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: corp}}\nspec:\n  rest:\n\
         \x20   verify: {{url: 'http://{directory}/login', json: {{login: '{{username}}', word: \
         '{{password}}'}}}}\n    \
         retries: 0\n    answer: {{success: 'token.status == 200', id: token.body.id, username: token.body.login, \
         groups: token.body.groups}}\n  login: {{}}\n"
    );
    let secret = secret("idp", &[("clientSecret", "canary-secret".into())]);
    let gateway = traced(
        &format!("{}{federation}{secret}", open_to(&upstream, &methods)),
        &collector,
        &["--danger-insecure-issuers", "--store", &store, "--store-password-file", password.path().to_str().unwrap()],
    );
    let basic = STANDARD.encode("ana:canary-password");
    let reply = get(&gateway, "/", &format!("Authorization: Basic {basic}\r\n{}", continued(TRACE, "01")));
    assert_eq!(reply.status, 200, "{}", gateway.log());
    let [request, begin, login, _] = collector.trace(TRACE, 4).try_into().unwrap();
    for (span, name) in [(&begin, "EVAL"), (&login, "directory login")] {
        assert_eq!((span.text("name"), span.text("parentSpanId")), (name, request.text("spanId")), "{span:#?}");
        assert!(!span.failed() && span.0["kind"] == 3, "{span:#?}");
    }
    attributes(&begin, [("db.system.name", "redis"), ("db.operation.name", "EVAL")]);
    attributes(&login, [("idm.federation", "default/corp")]);
    let other = "5bf92f3577b34da6a3ce929d0e0e4736";
    let reply = get(&gateway, "/", &format!("Authorization: Bearer canary-token\r\n{}", continued(other, "01")));
    assert_eq!(reply.status, 200, "{}", gateway.log());
    let [request, asked, _] = collector.trace(other, 3).try_into().unwrap();
    assert_eq!((asked.text("name"), asked.text("parentSpanId")), ("POST", request.text("spanId")));
    let (port, url) = (idp.port().to_string(), format!("http://{idp}/ask"));
    attributes(
        &asked,
        [
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("url.full", &url),
        ],
    );
    assert!(!collector.received().contains("canary"), "{}", collector.received());
    gateway.stop();
}

#[test]
fn while_the_collector_is_away_requests_are_served_and_the_loss_is_counted() {
    let (upstream, admin) = (Upstream::new(), idm_tests::free_address());
    let dead = format!("http://{}", idm_tests::free_address());
    let files = open_to(&upstream, ANONYMOUS);
    let arguments = ["--traces", &dead, "--traces-ratio", "1", "--admin", &admin.to_string()];
    let gateway = Gateway::start_with(&[("all.yaml", &files)], &arguments);
    for _ in 0..300 {
        assert_eq!(get(&gateway, "/", "").status, 200);
    }
    eventually("the loss", || {
        let reply = raw(admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n").body;
        let count = |outcome: &str| {
            let name = format!("idm_spans_total{{outcome=\"{outcome}\"}} ");
            reply.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap()
        };
        let counts = (count("failed"), count("exported"), count("dropped"));
        if counts.0 >= 2 { Ok(assert_eq!((counts.1, counts.2), (0, 0))) } else { Err(format!("{counts:?}")) }
    });
    gateway.stop();
}

#[test]
fn a_provider_of_language_models_learns_nothing_of_the_trace() {
    let body = r#"{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let length = body.len();
    let upstream = Upstream::answering(&format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let collector = Collector::start();
    let secret = secret("provider", &[("apiKey", "canary-provider".into())]);
    let files =
        format!("{}  llm: {{keyRef: {{name: provider}}, provider: OpenAI}}\n{secret}", open_to(&upstream, ANONYMOUS));
    let gateway = traced(&files, &collector, &[]);
    let call = r#"{"model":"m","messages":[]}"#;
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", call.len());
    let request =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{headers}{}\r\n{call}", continued(TRACE, "01"));
    assert_eq!(raw(gateway.address, request.as_bytes()).status, 200, "{}", gateway.log());
    assert_eq!(collector.trace(TRACE, 2).len(), 2);
    let received = upstream.received();
    assert!(received.contains("canary-provider") && !received.contains("trace"), "{received}");
    assert!(!collector.received().contains("canary"));
    gateway.stop();
}

#[test]
fn without_a_collector_a_traceparent_passes_as_it_is() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    get(&gateway, "/", &continued(TRACE, "01"));
    assert_eq!(told(&upstream), [TRACE, PARENT, "01"]);
    upstream.forget();
    get(&gateway, "/", "");
    assert!(!upstream.received().contains("traceparent"));
    gateway.stop();
}
