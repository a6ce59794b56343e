//! GRPCRoutes: their matches, their policies, and their place beside HTTPRoutes.

use idm_compile::{Compiled, RouteKind, Settings, compile, yaml::read_files};
use idm_plan::{BackendProtocol, Handler};
use idm_tests::{InProcess, Serves, Upstream, raw};

fn base(port: u16, app_protocol: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, \
         ports: [{{port: {port}{app_protocol}}}]}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: \
         Gateway\nmetadata: {{name: g}}\nspec: {{gatewayClassName: idm, listeners: [{{name: http, port: 80, protocol: \
         HTTP}}]}}\n"
    )
}

/// A route with these members of its spec, `UP` in them standing for its backends.
fn route(kind: &str, name: &str, created: &str, port: u16, spec: &str) -> String {
    let spec = spec.replace("UP", &format!("backendRefs: [{{name: up, port: {port}}}]"));
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, creationTimestamp: \
         '2026-01-{created}T00:00:00Z'}}\nspec: {{parentRefs: [{{name: g}}], {spec}}}\n"
    )
}

fn policy(kind: &str, target: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: of-{target}}}\n\
         spec:\n  targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {target}}}]\n  \
         authentication: {{methods: [{{name: everyone, anonymous: {{}}}}]}}\n"
    )
}

fn compiled(yaml: &str) -> Compiled {
    let files = [("all.yaml".into(), yaml.to_owned())];
    let (world, _) = read_files(&files, Settings::of_a_folder(false)).expect("it is read");
    compile(&world, None)
}

fn said(compiled: &Compiled) -> Vec<String> {
    compiled.report.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn a_call_is_served_by_the_rule_with_the_most_of_its_service_method_and_headers() {
    let upstream = Upstream::new();
    let port = upstream.address.port();
    let rules = "rules: [{name: all, UP}, {name: service, matches: [{method: {service: shop.Orders}}], UP}, \
                 {name: method, matches: [{method: {service: shop.Orders, method: List}}], UP}, \
                 {name: header, matches: [{method: {service: shop.Orders, method: List}, headers: [{name: X-V, value: \
                 '2'}]}], UP}]";
    // In the clear every backend of a GRPCRoute has HTTP/2; the played upstream is given the head all the same.
    let yaml = base(port, "") + &route("GRPCRoute", "r", "01", port, rules) + &policy("GRPCRoute", "r");
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &[]);
    let ask = |method: &str, path: &str, headers: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{headers}\r\n");
        let reply = raw(gateway.address(), request.as_bytes());
        let record = gateway.records().pop().expect("a record");
        let route = record["route"].as_str().unwrap_or_default().replace("GRPCRoute default/r rule ", "");
        (reply.status, route)
    };
    let grpc = "Content-Type: application/grpc+proto\r\n";
    for (path, headers, rule) in [
        ("/shop.Orders/List", "", "method"),
        ("/shop.Orders/List", "X-V: 2\r\n", "header"),
        ("/shop.Orders/Get", "X-V: 2\r\n", "service"),
        ("/shop.Orders2/List", "", "all"),
    ] {
        assert_eq!(ask("POST", path, &format!("{grpc}{headers}")), (200, rule.into()), "{path} {headers}");
    }
    for (method, headers) in [
        ("GET", grpc),
        ("POST", ""),
        ("POST", "Content-Type: application/json\r\n"),
        ("POST", "Content-Type: application/grpc-web+proto\r\n"),
        ("POST", "Content-Type: application/grpc\r\nContent-Type: application/grpc\r\n"),
    ] {
        assert_eq!(ask(method, "/shop.Orders/List", headers), (404, String::new()), "{method} {headers}");
    }
}

#[test]
fn a_call_without_a_backend_is_unavailable_and_on_record() {
    let upstream = Upstream::new();
    let yaml = base(1, "") + &route("GRPCRoute", "r", "01", 1, "rules: [{name: nowhere}]") + &policy("GRPCRoute", "r");
    let gateway = InProcess::start_with(&[("all.yaml", &yaml)], &[]);
    let reply = raw(
        gateway.address(),
        b"POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
    );
    let record = gateway.record(reply.decision());
    assert_eq!((reply.status, &record["reason"], &record["status"]), (503, &"NoBackend".into(), &503.into()));
    assert_eq!(upstream.received(), "");
}

#[test]
fn a_policy_of_a_kind_covers_routes_of_this_kind_only() {
    let route = route("GRPCRoute", "r", "01", 80, "rules: [{UP}]");
    for (kind, covered) in [("GRPCRoute", true), ("HTTPRoute", false)] {
        let compiled = compiled(&(base(80, "") + &route + &policy(kind, "r")));
        let enforced = matches!(compiled.plan.rules[0].handler, Handler::Enforce { .. });
        assert_eq!(enforced, covered, "{kind}: {:?}", said(&compiled));
        assert_eq!(said(&compiled).iter().any(|finding| finding.contains("TargetNotFound")), !covered);
    }
}

#[test]
fn the_protocol_of_a_backend_is_inferred_or_refused() {
    for (app_protocol, protocol, secure) in [
        ("", Some(BackendProtocol::Http2), false),
        (", appProtocol: kubernetes.io/h2c", Some(BackendProtocol::Http2), false),
        (", appProtocol: https", Some(BackendProtocol::Http1), true),
        (", appProtocol: http", None, false),
        (", appProtocol: kubernetes.io/ws", None, false),
    ] {
        let yaml = base(80, app_protocol) + &route("GRPCRoute", "r", "01", 80, "rules: [{UP}]");
        let compiled = compiled(&(yaml + &policy("GRPCRoute", "r")));
        let Handler::Enforce { backends, unresolved_weight, .. } = &compiled.plan.rules[0].handler else {
            panic!("{app_protocol}: {:?}", said(&compiled))
        };
        let found = backends.first().map(|backend| (backend.protocol, backend.tls.is_some()));
        assert_eq!(found, protocol.map(|protocol| (protocol, secure)), "{app_protocol}");
        assert_eq!(*unresolved_weight, u64::from(protocol.is_none()));
        let refused = said(&compiled).iter().any(|finding| finding.contains("UnsupportedProtocol"));
        assert_eq!(refused, protocol.is_none(), "{app_protocol}: {:?}", said(&compiled));
    }
}

#[test]
fn what_cannot_be_matched_closes_its_rule_and_says_why() {
    for (rule, why) in [
        ("{matches: [{method: {type: RegularExpression, service: 'a.*'}}], UP}", "UnsupportedValue"),
        ("{matches: [{method: {method: List}}], UP}", "UnsupportedValue"),
        ("{matches: [{method: {}}], UP}", "Invalid"),
        ("{matches: [{method: {service: a/b, method: List}}], UP}", "Invalid"),
        ("{matches: [{method: {service: .., method: List}}], UP}", "Invalid"),
        ("{matches: [{headers: [{type: RegularExpression, name: a, value: b}]}], UP}", "UnsupportedValue"),
        ("{filters: [{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}], UP}", "UnsupportedValue"),
    ] {
        let yaml = base(80, "") + &route("GRPCRoute", "r", "01", 80, &format!("rules: [{rule}]"));
        let compiled = compiled(&(yaml + &policy("GRPCRoute", "r")));
        assert!(
            said(&compiled).iter().any(|finding| finding.contains(&format!("({why})"))),
            "{rule}: {:?}",
            said(&compiled)
        );
        assert!(matches!(compiled.plan.rules[0].handler, Handler::Refuse { .. }), "{rule}");
    }
}

/// Gateway API: of an HTTPRoute and a GRPCRoute that share a hostname at a listener, the older is taken.
#[test]
fn a_hostname_of_a_listener_is_for_routes_of_one_kind() {
    let with = |hostnames: &str| format!("{hostnames}rules: [{{UP}}]");
    for (http, grpc, taken) in [
        (("01", ""), ("02", ""), (true, false)),
        (("02", ""), ("01", ""), (false, true)),
        (("02", "hostnames: [a.example], "), ("01", "hostnames: ['*.example'], "), (false, true)),
        (("02", "hostnames: [a.example], "), ("01", "hostnames: [b.example], "), (true, true)),
        // Of two of one age, the first in the alphabet.
        (("01", ""), ("01", ""), (true, false)),
    ] {
        let yaml = base(80, "")
            + &route("HTTPRoute", "a", http.0, 80, &with(http.1))
            + &route("GRPCRoute", "b", grpc.0, 80, &with(grpc.1));
        let compiled = compiled(&(yaml + &policy("HTTPRoute", "a") + &policy("GRPCRoute", "b")));
        let of = |kind: RouteKind| {
            let status = compiled.routes.iter().find(|status| status.kind == kind).expect("a status");
            status.listeners.as_ref().map(Vec::len).map_err(|why| why.cause().name())
        };
        let expected = |taken: bool| if taken { Ok(1) } else { Err("HostnameConflict") };
        assert_eq!(
            (of(RouteKind::Http), of(RouteKind::Grpc)),
            (expected(taken.0), expected(taken.1)),
            "{http:?} {grpc:?}"
        );
        let served = compiled.plan.hosts.iter().flat_map(|host| &host.entries).count();
        assert_eq!(served, usize::from(taken.0) + usize::from(taken.1));
    }
}
