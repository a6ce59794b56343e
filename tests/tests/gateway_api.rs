//! The Gateway API at the sockets: routes without a backend that works, and classes with the open default.

use idm_tests::{Gateway, InProcess, Serves, Upstream, eventually, raw};

const OPEN_CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: wide, annotations: {identity-manager.io/danger-open-default: 'true'}}
spec: {controllerName: identity-manager.io/gateway-controller}
";

/// A route of a Gateway of this class to this backend, and no policy.
fn uncovered(class: &str, upstream: &Upstream) -> String {
    let port = upstream.address.port();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{name: http, port: {port}}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: \
         {class}, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{parentRefs: \
         [{{name: g}}], rules: [{{backendRefs: [{{name: up, port: {port}}}]}}]}}\n"
    )
}

#[test]
fn a_rule_without_backends_refuses_whom_its_policy_lets_pass() {
    let upstream = Upstream::new();
    let port = upstream.address.port();
    for (methods, status, reason) in
        [("{name: everyone, anonymous: {}}", 500, "NoBackend"), ("{name: machines, apiKey: {}}", 401, "NoCredentials")]
    {
        let with = uncovered("idm", &upstream);
        let without = with.replace(&format!("backendRefs: [{{name: up, port: {port}}}]"), "name: nowhere");
        assert_ne!(with, without);
        let policy = format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  \
             targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}}]\n  authentication: \
             {{methods: [{methods}]}}\n"
        );
        let gateway = Gateway::start(&[("all.yaml", &format!("{without}{policy}"))]);
        let reply = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((reply.status, upstream.received().as_str()), (status, ""), "{reply:?}");
        assert_eq!(gateway.record(reply.decision())["reason"], reason);
    }
}

#[test]
fn what_no_policy_covers_is_forwarded_under_a_class_that_asks_for_it_and_on_record() {
    let upstream = Upstream::new();
    let gateway = Gateway::start(&[("all.yaml", &format!("{}{OPEN_CLASS}", uncovered("wide", &upstream)))]);
    let reply = raw(gateway.address, b"GET /x HTTP/1.1\r\nHost: a\r\nX-Authenticated-UserId: eve\r\n\r\n");
    assert_eq!(reply.status, 200, "{reply:?}");
    let received = upstream.received().to_lowercase();
    assert!(received.starts_with("get /x http/1.1") && !received.contains("eve"), "{received}");
    eventually("a record under the name of the open default", || {
        let records = gateway.records();
        let named = records.iter().filter(|record| record.to_string().contains("(open by default)")).count();
        if named == 1 { Ok(()) } else { Err(format!("{records:?}")) }
    });

    upstream.forget();
    let closed = OPEN_CLASS.replace("'true'", "'false'");
    let gateway = Gateway::start(&[("all.yaml", &format!("{}{closed}", uncovered("wide", &upstream)))]);
    let reply = raw(gateway.address, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((reply.status, upstream.received().as_str()), (403, ""), "{reply:?}");
    assert_eq!(gateway.record(reply.decision())["reason"], "NoPolicy");
}

/// Requests for a host are for one listener of a Gateway, the one with the narrowest hostname that covers it.
#[test]
fn a_listener_does_not_serve_hosts_of_another_listener_of_its_gateway() {
    let upstream = Upstream::new();
    let listener = |name: &str, hostname: &str| format!("{{name: {name}, port: 80, protocol: HTTP{hostname}}}");
    let listeners = [
        listener("any", ""),
        listener("wide", ", hostname: '*.example.com'"),
        listener("narrow", ", hostname: '*.foo.example.com'"),
        listener("one", ", hostname: abc.foo.example.com"),
    ];
    let route = |listener: &str, hostnames: &str| {
        let port = upstream.address.port();
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {listener}}}\nspec: \
             {{parentRefs: [{{name: g, sectionName: {listener}}}], {hostnames} rules: [{{matches: [{{path: {{type: \
             PathPrefix, value: /{listener}}}}}], backendRefs: [{{name: up, port: {port}}}]}}]}}\n"
        )
    };
    let names = "hostnames: [bar.com, '*.example.com', '*.foo.example.com', xyz.foo.example.com],";
    for (hostnames, routed) in [("", 3), (names, 3), ("", 1)] {
        let base = uncovered("wide", &upstream);
        let base = base.split("---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute").next().unwrap();
        let base = base.replace("[{name: http, port: 80, protocol: HTTP}]", &format!("[{}]", listeners.join(", ")));
        // The last listener never has a route: its host is not served by the others nevertheless.
        let routes: String = ["any", "wide", "narrow"][..routed].iter().map(|of| route(of, hostnames)).collect();
        let gateway = InProcess::start_with(&[("all.yaml", &format!("{base}{routes}{OPEN_CLASS}"))], &[]);
        for (host, of) in [
            ("bar.com", "any"),
            ("bar.example.com", "wide"),
            ("bar.foo.example.com", "narrow"),
            ("xyz.foo.example.com", "narrow"),
            ("abc.foo.example.com", "one"),
        ] {
            for path in ["any", "wide", "narrow", "one"] {
                let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
                let status = raw(gateway.address(), request.as_bytes()).status;
                let served = path == of && path != "one" && (routed == 3 || path == "any");
                assert_eq!(status == 200, served, "{hostnames} {routed} {host} {path}: {status}");
            }
        }
    }
}
