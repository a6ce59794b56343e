//! HTTPRoute's filters that change a request on its way to the backend, and the backend's answer. What is decided, is
//! decided on the request as the caller sent it.

use idm_compile::{Settings, compile, yaml::read_files};
use idm_tests::{Gateway, InProcess, Serves, Upstream, policy_of, raw, route_to};

/// A route with one rule for `/api`, with these filters. Administrators' paths need a key, all others are open.
fn yaml(upstream: &Upstream, rule: &str) -> String {
    let open = "  authorization:\n    rules:\n    - \
        {name: open, when: \"!request.path.startsWith('/api/admin')\"}\n    \
                - {name: admin, when: \"request.path.startsWith('/api/admin')\", require: {roles: {any: [admin]}}}\n";
    let rule = format!("  - {{matches: [{{path: {{type: PathPrefix, value: /api}}}}], {rule}, UP}}");
    route_to(upstream, &rule) + &policy_of("p", None, "{name: everyone, anonymous: {}}", open)
}

fn filters(filters: &str) -> String {
    format!("filters: [{filters}]")
}

fn path(change: &str) -> String {
    filters(&format!("{{type: URLRewrite, urlRewrite: {{path: {{{change}}}}}}}"))
}

/// The request line that arrives at the upstream.
fn arrives(gateway: &impl Serves, upstream: &Upstream, target: &str) -> String {
    upstream.forget();
    let reply = raw(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n").as_bytes());
    assert_eq!(reply.status, 200, "{target}: {reply:?}");
    upstream.received().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_path_is_rewritten_for_the_upstream_after_the_decision() {
    let upstream = Upstream::new();
    let start = |rule: &str| InProcess::start_with(&[("all.yaml", &yaml(&upstream, rule))], &[]);
    let prefix = start(&path("type: ReplacePrefixMatch, replacePrefixMatch: /v2"));
    for (target, line) in [
        ("/api", "GET /v2 HTTP/1.1"),
        ("/api/", "GET /v2/ HTTP/1.1"),
        ("/api/orders?a=1&b=%2F", "GET /v2/orders?a=1&b=%2F HTTP/1.1"),
    ] {
        assert_eq!(arrives(&prefix, &upstream, target), line);
    }
    let gone = start(&path("type: ReplacePrefixMatch, replacePrefixMatch: /"));
    assert_eq!(arrives(&gone, &upstream, "/api/orders"), "GET /orders HTTP/1.1");
    assert_eq!(arrives(&gone, &upstream, "/api"), "GET / HTTP/1.1");
    let full = start(&path("type: ReplaceFullPath, replaceFullPath: /one"));
    assert_eq!(arrives(&full, &upstream, "/api/orders?x"), "GET /one?x HTTP/1.1");
    // The rules read the caller's path, and so does the record.
    upstream.forget();
    let refused = raw(prefix.address(), b"GET /api/admin HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    let record = prefix.record(refused.decision());
    assert_eq!(
        (refused.status, &record["reason"], &record["request"]["path"]),
        (403, &"MissingRole".into(), &"/api/admin".into())
    );
    assert_eq!(upstream.received(), "");
    for spelling in ["/api/../admin", "/api//admin", "/api%2fadmin", "/api/%2e%2e/x"] {
        let reply = raw(prefix.address(), format!("GET {spelling} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(matches!(reply.status, 400 | 404), "{spelling}: {reply:?}");
        assert_eq!(upstream.received(), "", "{spelling}");
    }
}

#[test]
fn a_host_is_rewritten_and_the_callers_is_told_beside_it() {
    let upstream = Upstream::new();
    let rule = filters("{type: URLRewrite, urlRewrite: {hostname: API.Provider.Example}}");
    let gateway = Gateway::start(&[("all.yaml", &yaml(&upstream, &rule))]);
    assert_eq!(arrives(&gateway, &upstream, "/api/x"), "GET /api/x HTTP/1.1");
    let received = upstream.received().to_ascii_lowercase();
    let hosts: Vec<_> = received.lines().filter(|line| line.contains("host:")).collect();
    assert_eq!(hosts, ["host: api.provider.example", "x-forwarded-host: shop.example"], "{received}");
}

#[test]
fn the_headers_of_an_upstreams_answer_are_edited_and_those_of_refusals_are_not() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret/1.2\r\nX-Kept: a\r\n\r\nok");
    let rule = filters(
        "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: Strict-Transport-Security, value: \
         max-age=60}], add: [{name: X-Kept, value: b}], remove: [Server]}}",
    );
    for black_box in [false, true] {
        let files = [("all.yaml", yaml(&upstream, &rule))];
        let files = [(files[0].0, files[0].1.as_str())];
        let (address, _running): (_, Box<dyn std::any::Any>) = if black_box {
            let gateway = Gateway::start(&files);
            (gateway.address, Box::new(gateway))
        } else {
            let gateway = InProcess::start_with(&files, &[]);
            (gateway.address, Box::new(gateway))
        };
        let reply = raw(address, b"GET /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
        assert_eq!(reply.header("strict-transport-security"), Some("max-age=60"));
        assert_eq!(reply.header("server"), None, "{reply:?}");
        let kept: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "x-kept").map(|(_, value)| value).collect();
        assert_eq!(kept, ["a", "b"]);
        let refused = raw(address, b"GET /api/admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!((refused.status, refused.header("strict-transport-security")), (403, None));
    }
}

/// The filters of a backend are for the requests that it gets; what the gateway writes stays as it is.
#[test]
fn requests_to_one_of_several_backends_are_edited_for_it() {
    let (one, two) = (Upstream::new(), Upstream::new());
    let filter = |value: &str| {
        format!(
            "filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: X-Backend, value: \
             {value}}}, {{name: X-Who, value: eve}}], add: [{{name: X-Rule, value: {value}}}]}}}}]"
        )
    };
    let backend = |name: &str, upstream: &Upstream| {
        format!("{{name: {name}, port: {}, {}}}", upstream.address.port(), filter(name))
    };
    let of_rule = filters("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Rule, value: r}]}}");
    let rules = format!("  - {{{of_rule}, backendRefs: [{}, {}]}}\n", backend("up", &one), backend("two", &two));
    let service = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: two}}\nspec: {{type: ExternalName, externalName: \
         127.0.0.1, ports: [{{name: http, port: {}}}]}}\n",
        two.address.port()
    );
    let told = "  upstream: {headers: [{name: X-Who, value: request.path}]}\n";
    let yaml = route_to(&one, &rules) + &policy_of("p", None, "{name: everyone, anonymous: {}}", told) + &service;
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let spoofed = b"GET /me HTTP/1.1\r\nHost: a\r\nX_Backend: spoofed\r\n\r\n";
    for _ in 0..40 {
        assert_eq!(raw(gateway.address, spoofed).status, 200);
    }
    for (name, other, upstream) in [("up", "two", &one), ("two", "up", &two)] {
        let received = upstream.received().to_lowercase();
        let count = |line: &str| received.matches(&format!("{line}\r\n")).count();
        let all = count("get /me http/1.1");
        assert!(all > 0, "{name} got nothing of forty");
        assert_eq!((count(&format!("x-backend: {name}")), count(&format!("x-backend: {other}"))), (all, 0));
        assert_eq!((count("x-rule: r"), count(&format!("x-rule: {name}"))), (all, all), "{received}");
        assert_eq!((count("x-who: /me"), count("x-who: eve"), count("x_backend: spoofed")), (all, 0, 0));
    }
}

#[test]
fn what_cannot_be_done_closes_the_rule_and_says_why() {
    let upstream = Upstream::new();
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a.example}}";
    let answer = |edit: &str| filters(&format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {{{edit}}}}}"));
    let several = format!(
        "matches: [{{path: {{type: PathPrefix, value: /a}}}}, {{path: {{type: PathPrefix, value: /b}}}}], {}",
        path("type: ReplacePrefixMatch, replacePrefixMatch: /c")
    );
    for (rule, said) in [
        (filters(&format!("{rewrite}, {rewrite}")), "one filter URLRewrite at most"),
        (
            filters(&format!("{rewrite}, {{type: RequestRedirect, requestRedirect: {{hostname: b.example}}}}")),
            "a rule that redirects forwards nothing",
        ),
        (filters("{type: URLRewrite, urlRewrite: {hostname: '*.example'}}"), "must be a DNS name"),
        (path("type: ReplaceFullPath, replaceFullPath: /a/../b"), "'/a/../b'"),
        (path("type: ReplaceFullPath, replacePrefixMatch: /a"), "the one member that its type names"),
        (several, "exactly one match"),
        (answer("remove: [Content-Length]"), "the gateway sets it itself"),
        (answer("set: [{name: Access-Control-Allow-Origin, value: '*'}]"), "must be made by the filter CORS"),
        (
            "backendRefs: [{name: up, port: 1, filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}]}]"
                .into(),
            "the one filter of a backend that is supported",
        ),
        (filters("{type: URLRewrite}"), "must have its settings in `urlRewrite`"),
        (
            filters("{type: ExtensionRef, extensionRef: {group: example.com, kind: Cache, name: c}}"),
            "filter ExtensionRef is not supported",
        ),
        (filters("{type: RequestMirror}"), "must have its settings in `requestMirror`"),
    ] {
        let mut text = yaml(&upstream, &rule);
        if rule.starts_with("backendRefs") {
            let port = upstream.address.port();
            text = text.replace(&format!(", backendRefs: [{{name: up, port: {port}}}]"), "");
        }
        if rule.starts_with("matches") {
            text = text.replace("matches: [{path: {type: PathPrefix, value: /api}}], ", "");
        }
        let (world, _) = read_files(&[("all.yaml".into(), text)], Settings::of_a_folder(false)).expect("it is read");
        let compiled = compile(&world, None);
        let findings: Vec<_> = compiled.report.findings().iter().map(ToString::to_string).collect();
        assert!(findings.iter().any(|finding| finding.contains(said)), "{said}: {findings:#?}");
        assert!(
            compiled.plan.rules.iter().all(|rule| matches!(rule.handler, idm_plan::Handler::Refuse { .. })),
            "{said}: {:?}",
            compiled.plan.rules
        );
    }
}
