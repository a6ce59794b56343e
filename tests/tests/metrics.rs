//! The metrics of gateways, and Prometheus as their reader.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use idm_tests::{ANONYMOUS, Gateway, Prometheus, Upstream, eventually, open_to, policy_of, raw, route_to, secret};
use idm_types::ApiKey;

/// A gateway with a control port, which it names in its log of what it serves.
fn start(files: &[(&str, &str)], arguments: &[&str]) -> (Gateway, SocketAddr) {
    let admin = idm_tests::free_address();
    let gateway = Gateway::start_with(files, &[&["--admin", &admin.to_string()], arguments].concat());
    eventually("the control port", || std::net::TcpStream::connect(admin).map_err(|error| error.to_string()));
    (gateway, admin)
}

fn metrics(admin: SocketAddr, accept: &str) -> idm_tests::Reply {
    raw(admin, format!("GET /-/metrics HTTP/1.1\r\nHost: a\r\n{accept}\r\n").as_bytes())
}

/// The samples of a text by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

fn get(gateway: &Gateway, path: &str, more: &str) -> u16 {
    raw(gateway.address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes()).status
}

/// A route with a rule that takes API keys of the Credentials `ana` and `ben`, and one that is open.
fn two_rules(upstream: &Upstream) -> String {
    let credential = |name: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: {name}}}}}\n{}",
            secret(name, &[("key", key(name))])
        )
    };
    [
        route_to(
            upstream,
            "  - {name: keys, matches: [{path: {type: PathPrefix, value: /keys}}], UP}\n  \
             - {name: open, matches: [{path: {type: PathPrefix, value: /open}}], UP}\n",
        ),
        policy_of("keyed", Some("keys"), "{name: machines, apiKey: {}}", ""),
        policy_of("everyone", Some("open"), "{name: all, anonymous: {}}", ""),
        credential("ana"),
        credential("ben"),
    ]
    .concat()
}

fn key(name: &str) -> String {
    ApiKey::from_random([name.as_bytes()[0]; 32]).reveal().to_owned()
}

fn with_key(name: &str) -> String {
    format!("X-API-Key: {}\r\n", key(name))
}

#[test]
fn requests_are_counted_by_route_method_backend_and_consumer() {
    let upstream = Upstream::new();
    let (gateway, admin) = start(&[("all.yaml", &two_rules(&upstream))], &[]);
    for _ in 0..3 {
        assert_eq!(get(&gateway, "/keys/a", &with_key("ana")), 200);
    }
    assert_eq!(get(&gateway, "/keys/a", &with_key("ben")), 200);
    assert_eq!(get(&gateway, "/keys/a", &with_key("nobody")), 401);
    assert_eq!(get(&gateway, "/open", ""), 200);
    assert_eq!(get(&gateway, "/nowhere", ""), 404);
    let reply = metrics(admin, "");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = samples(&reply.body);
    let route = |rule: &str, policy: &str| {
        format!(
            "route_kind=\"HTTPRoute\",route_namespace=\"default\",route=\"r\",rule=\"{rule}\",policy=\"default/\
                {policy}\""
        )
    };
    let (keys, open) = (route("keys", "keyed"), route("open", "everyone"));
    let none = "route_kind=\"\",route_namespace=\"\",route=\"\",rule=\"\",policy=\"\"";
    let backend = format!("backend=\"127.0.0.1:{}\"", upstream.address.port());
    let permitted = "status=\"2xx\",outcome=\"Permitted\",reason=\"\"";
    for (sample, value) in [
        (format!("idm_requests_total{{{keys},authentication=\"apiKey\",{permitted}}}"), 4.0),
        (
            format!(
                "idm_requests_total{{{keys},authentication=\"apiKey\",status=\"4xx\",outcome=\"Denied\",\
                 reason=\"UnknownApiKey\"}}"
            ),
            1.0,
        ),
        (format!("idm_requests_total{{{open},authentication=\"anonymous\",{permitted}}}"), 1.0),
        (
            format!(
                "idm_requests_total{{{none},authentication=\"\",status=\"4xx\",outcome=\"Denied\",reason=\"NoRoute\"}}"
            ),
            1.0,
        ),
        (format!("idm_request_duration_seconds_count{{{keys}}}"), 5.0),
        (format!("idm_request_duration_seconds_bucket{{{keys},le=\"+Inf\"}}"), 5.0),
        (format!("idm_requests_in_flight{{{keys}}}"), 0.0),
        (format!("idm_requests_in_flight{{{none}}}"), 0.0),
        (format!("idm_upstream_requests_total{{{keys},{backend},status=\"2xx\",reason=\"\"}}"), 4.0),
        (format!("idm_upstream_duration_seconds_count{{{keys},{backend}}}"), 4.0),
        (format!("idm_upstream_duration_seconds_count{{{open},{backend}}}"), 1.0),
        (
            "idm_consumer_requests_total{policy=\"default/keyed\",consumer_kind=\"Credential\",consumer=\"ana\",\
             outcome=\"Permitted\"}"
                .to_owned(),
            3.0,
        ),
        ("idm_decisions_total{policy=\"default/keyed\",outcome=\"Permitted\",reason=\"\"}".to_owned(), 4.0),
        ("idm_decisions_total{policy=\"\",outcome=\"Denied\",reason=\"NoRoute\"}".to_owned(), 1.0),
    ] {
        assert_eq!(samples.get(&sample), Some(&value), "{sample}\n{}", reply.body);
    }
    let sum = |name: &str| samples.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, value)| value).sum::<f64>();
    assert_eq!(sum("idm_requests_total"), 7.0);
    assert_eq!((sum("idm_consumer_requests_total"), sum("idm_decisions_total")), (4.0, 7.0));
    gateway.stop();
}

#[test]
fn an_upstream_that_cannot_be_reached_is_counted_by_its_reason() {
    let port = idm_tests::free_port();
    let files = idm_tests::open_to_address(([127, 0, 0, 1], port).into(), ANONYMOUS);
    let (gateway, admin) = start(&[("all.yaml", &files)], &[]);
    assert_eq!(get(&gateway, "/", ""), 502);
    let text = metrics(admin, "").body;
    let line = format!(
        "idm_upstream_requests_total{{route_kind=\"Service\",route_namespace=\"default\",route=\"up\",rule=\"\",\
         policy=\"default/p\",backend=\"127.0.0.1:{port}\",status=\"\",reason=\"UpstreamUnreachable\"}} 1\n"
    );
    assert!(text.contains(&line), "{text}");
    gateway.stop();
}

#[test]
fn a_request_is_in_flight_until_its_answer_has_ended() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-");
    let (gateway, admin) = start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))], &[]);
    let mut caller = std::net::TcpStream::connect(gateway.address).unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let in_flight = |expected: f64| {
        eventually("the gauge", || {
            let text = metrics(admin, "").body;
            let found: f64 = samples(&text)
                .into_iter()
                .filter(|(key, _)| key.starts_with("idm_requests_in_flight{route_kind=\"Service\""))
                .map(|(_, value)| value)
                .sum();
            if found == expected { Ok(()) } else { Err(text) }
        });
    };
    // Its decision is counted, and its answer has not ended.
    in_flight(1.0);
    drop(caller);
    in_flight(0.0);
    gateway.stop();
}

#[test]
fn the_consumers_with_the_most_requests_have_numbers_of_their_own() {
    let upstream = Upstream::new();
    let (gateway, admin) = start(&[("all.yaml", &two_rules(&upstream))], &["--metrics-consumers", "1"]);
    let own = || -> Vec<(String, f64)> {
        let all = samples(&metrics(admin, "").body).into_iter();
        all.filter_map(|(key, value)| {
            let name = key.strip_prefix("idm_consumer_requests_total")?.split("consumer=\"").nth(1)?;
            Some((name.split('"').next()?.to_owned(), value))
        })
        .collect()
    };
    get(&gateway, "/keys", &with_key("ana"));
    assert_eq!(own(), [("ana".to_owned(), 1.0)]);
    for _ in 0..9 {
        get(&gateway, "/keys", &with_key("ben"));
    }
    assert_eq!(own(), [("other".to_owned(), 9.0)], "ben's numbers begin with the next request");
    get(&gateway, "/keys", &with_key("ben"));
    assert_eq!(own(), [("other".to_owned(), 9.0), ("ben".to_owned(), 1.0)]);
    gateway.stop();
}

#[test]
fn numbers_go_on_over_a_change_of_the_configuration() {
    let upstream = Upstream::new();
    let files = two_rules(&upstream);
    let (gateway, admin) = start(&[("all.yaml", &files)], &[]);
    get(&gateway, "/open", "");
    gateway.write("all.yaml", &files.replace("name: all, anonymous: {}", "name: others, anonymous: {}"));
    eventually("the change", || {
        let text = metrics(admin, "").body;
        if samples(&text)["idm_config_generation"] > 1.0 { Ok(()) } else { Err(text) }
    });
    get(&gateway, "/open", "");
    let text = metrics(admin, "").body;
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("idm_requests_total")).collect();
    assert!(lines.len() == 1 && lines[0].ends_with(" 2"), "{lines:?}");
    gateway.stop();
}

#[test]
fn promtool_has_no_objection() {
    let upstream = Upstream::new();
    let (gateway, admin) = start(&[("all.yaml", &two_rules(&upstream))], &[]);
    get(&gateway, "/keys", &with_key("ana"));
    get(&gateway, "/keys/%22%5c%0a", "");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(metrics(admin, "").body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
    gateway.stop();
}

#[test]
fn prometheus_reads_exemplars_with_the_trace() {
    let upstream = Upstream::new();
    let (gateway, admin) = start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))], &[]);
    let trace = |digit: &str| digit.repeat(32);
    for (digit, flags) in [("a", "01"), ("b", "00")] {
        get(&gateway, "/", &format!("traceparent: 00-{}-00f067aa0ba902b7-{flags}\r\n", trace(digit)));
    }
    let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let reply = metrics(admin, open);
    assert_eq!(
        reply.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{reply:?}"
    );
    assert!(!reply.body.contains(&trace("b")), "its caller does not record: {}", reply.body);
    let prometheus = Prometheus::of(&[admin]);
    for name in ["idm_request_duration_seconds", "idm_upstream_duration_seconds"] {
        eventually("the exemplar", || {
            let found = prometheus.ask(
                "query_exemplars",
                &[("query", &format!("{name}_bucket")), ("start", "0"), ("end", "99999999999")],
            )?;
            let exemplars = found[0]["exemplars"].as_array().cloned().unwrap_or_default();
            match exemplars.first() {
                Some(exemplar) if exemplar["labels"]["trace_id"] == trace("a") => Ok(()),
                _ => Err(found.to_string()),
            }
        });
    }
    assert_eq!(prometheus.value("sum(idm_requests_total)"), Some(2.0));
    assert_eq!(prometheus.value("up"), Some(1.0));
    gateway.stop();
}
