//! Rules that differ by query parameters: no spelling of a query reaches what another rule protects.

use idm_compile::{Settings, compile, yaml::read_files};
use idm_tests::{Gateway, InProcess, Serves, Upstream, policy_of, raw, route_to};

/// A rule for administrators, a more specific one for reports, and one for everybody.
fn yaml(upstream: &Upstream) -> String {
    let rules = "  - {name: admin, matches: [{queryParams: [{name: mode, value: admin}]}], UP}\n  \
                 - {name: report, matches: [{queryParams: [{name: mode, value: admin}, {name: kind, value: a b}]}], \
                 UP}\n  \
                 - {name: open, UP}\n";
    let closed = "{name: machines, apiKey: {}}";
    [
        route_to(upstream, rules),
        policy_of("admin", Some("admin"), closed, ""),
        policy_of("report", Some("report"), "{name: everyone, anonymous: {}}", ""),
        policy_of("open", Some("open"), "{name: everyone, anonymous: {}}", ""),
    ]
    .concat()
}

fn ask(gateway: &impl Serves, upstream: &Upstream, query: &str) -> (u16, String, String, String) {
    upstream.forget();
    let reply = raw(gateway.address(), format!("GET /x{query} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let record = if reply.status == 200 {
        gateway.records().pop().unwrap_or_default()
    } else {
        gateway.record(reply.decision())
    };
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let line = upstream.received().lines().next().unwrap_or_default().to_owned();
    (reply.status, text("reason"), text("route").replace("HTTPRoute default/r rule ", ""), line)
}

#[test]
fn the_query_that_chooses_the_rule_is_the_query_that_is_forwarded() {
    let upstream = Upstream::new();
    let gateway = InProcess::start_with(&[("all.yaml", &yaml(&upstream))], &[]);
    for (query, rule) in [
        ("", "open"),
        ("?mode=user", "open"),
        ("?MODE=admin", "open"),
        ("?mode=Admin&mode2=admin", "open"),
        ("?q=1+1%2B&x=%zz&q=2", "open"),
        ("?mode=user&mode=guest", "open"),
        ("?kind=a%20b&%6dode=%61dmin", "report"),
    ] {
        let line = format!("GET /x{query} HTTP/1.1");
        assert_eq!(ask(&gateway, &upstream, query), (200, String::new(), rule.into(), line), "{query}");
    }
    for query in ["?mode=admin", "?a=b&mode=admin", "?%6Dode=admin", "?mode=admin&kind=ab"] {
        let (status, reason, rule, line) = ask(&gateway, &upstream, query);
        assert_eq!(
            (status, reason.as_str(), rule.as_str(), line.as_str()),
            (401, "NoCredentials", "admin", ""),
            "{query}"
        );
    }
}

#[test]
fn a_query_that_a_server_may_read_as_one_of_another_rule_is_refused() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &yaml(&upstream))]);
    for query in [
        "?mode=user&mode=admin",
        "?mode=admin&mode=user",
        "?mode=admin&mode=admin",
        "?mode=user&%6dode=admin",
        "?x=1;mode=admin",
        "?mode=admin;x=1",
        "?mode=admin%00",
        "?mode%00=admin",
        // Only which of the two closed rules serves is unclear; it is refused all the same.
        "?mode=admin&kind=a+b",
    ] {
        let (status, reason, _, line) = ask(&gateway, &upstream, query);
        assert_eq!((status, reason.as_str(), line.as_str()), (400, "AmbiguousQuery", ""), "{query}");
    }
    let detail = gateway.records().pop().expect("a record")["detail"].to_string();
    assert!(detail.contains("`mode`, `kind`"), "{detail}");
}

#[test]
fn the_order_of_precedence_has_query_parameters_after_headers() {
    let upstream = Upstream::new();
    let rules = "  - {name: query, matches: [{queryParams: [{name: a, value: '1'}, {name: b, value: '2'}]}], UP}\n  \
                 - {name: first, matches: [{queryParams: [{name: a, value: '1'}, {name: a, value: '2'}]}], UP}\n  \
                 - {name: header, matches: [{headers: [{name: x-h, value: '1'}]}], UP}\n  \
                 - {name: path, matches: [{path: {type: PathPrefix, value: /p}}], UP}\n";
    let yaml = route_to(&upstream, rules) + &policy_of("p", None, "{name: everyone, anonymous: {}}", "");
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &[]);
    for (request, rule) in [
        ("GET /?a=1&b=2 HTTP/1.1\r\nX-H: 1\r\n", "header"),
        ("GET /?a=1&b=2 HTTP/1.1\r\n", "query"),
        ("GET /?a=1 HTTP/1.1\r\n", "first"),
        ("GET /p?a=1&b=2 HTTP/1.1\r\nX-H: 1\r\n", "path"),
    ] {
        let reply = raw(gateway.address(), format!("{request}Host: a\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 200, "{request}");
        let record = gateway.records().pop().expect("a record");
        assert_eq!(record["route"], format!("HTTPRoute default/r rule {rule}"), "{request}");
    }
}

#[test]
fn a_pattern_closes_its_rule_and_says_why() {
    let upstream = Upstream::new();
    for (parameter, said) in [
        ("{name: a, value: b, type: RegularExpression}", "UnsupportedValue"),
        ("{name: a, value: ''}", "Invalid"),
        ("{name: '', value: a}", "Invalid"),
    ] {
        let rules = format!("  - {{matches: [{{queryParams: [{parameter}]}}], UP}}\n");
        let yaml = route_to(&upstream, &rules) + &policy_of("p", None, "{name: everyone, anonymous: {}}", "");
        let (world, _) = read_files(&[("all.yaml".into(), yaml)], Settings::of_a_folder(false)).expect("it is read");
        let compiled = compile(&world, None);
        let findings = compiled.report.findings();
        assert!(findings.iter().any(|finding| finding.cause.name() == said), "{parameter}: {findings:?}");
        assert!(compiled.plan.rules.iter().all(|rule| matches!(rule.handler, idm_plan::Handler::Refuse { .. })));
    }
}
