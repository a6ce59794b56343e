//! The Gateway API at the sockets: routes without a backend that works, and classes with the open default.

use idm_tests::{Gateway, Upstream, eventually, raw};

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
