//! Conditions and mappings in CEL: what they see, what they decide, and that nothing of one request or policy
//! is seen by another.

use idm_tests::{Gateway, InProcess, Serves, Upstream, open_to, raw};

fn bed<G: Serves>(rest: &str) -> (G, Upstream) {
    let upstream = Upstream::new();
    let yaml = format!(
        "{}{rest}",
        open_to(&upstream, "    - {name: people, basic: {realm: shop}}\n    - {name: everyone, anonymous: {}}\n")
    );
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: ana}\n\
        spec: {password: {}, secretRef: {name: ana}, roles: [writer], attributes: [{name: tenant, value: acme}]}\n\
        ---\napiVersion: v1\nkind: Secret\nmetadata: {name: ana}\nstringData: {password: secret}\n";
    (G::start_with(&[("all.yaml", &format!("{yaml}{credential}"))], &[]), upstream)
}

const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";

fn send(gateway: &impl Serves, method: &str, target: &str, headers: &str) -> idm_tests::Reply {
    raw(gateway.address(), format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
}

#[test]
fn a_rule_covers_the_requests_its_condition_holds_for() {
    let (gateway, upstream) = bed::<InProcess>(
        "  authorization:\n    rules:\n    - {name: open, when: \"request.path == '/open'\"}\n    - {name: admin, \
            when: \"request.path.startsWith('/admin')\", require: {roles: {any: [writer]}}}\n    - {name: tenant, \
            when: \"request.path == '/t' && request.parameters.tenant == identity.attributes.tenant\"}\n    - {name: \
            odd, when: \"request.path == '/odd' && request.headers['x-missing'] == '1'\"}\n",
    );
    assert_eq!(send(&gateway, "GET", "/open", "").status, 200);
    assert_eq!(send(&gateway, "GET", "/admin/x", ANA).status, 200);
    assert_eq!(send(&gateway, "GET", "/t?tenant=acme", ANA).status, 200);
    upstream.forget();
    for (target, headers, reason) in [
        ("/admin/x", "", "MissingRole"),
        ("/other", ANA, "NoRuleMatched"),
        ("/open?x=/admin", ANA, "-"),
        ("/t?tenant=other", ANA, "NoRuleMatched"),
        // Given twice, nobody can say which one counts.
        ("/t?tenant=other&tenant=acme", ANA, "RuleUndecided"),
        ("/t?tenant=acme", "", "RuleUndecided"),
        ("/odd", ANA, "RuleUndecided"),
    ] {
        let reply = send(&gateway, "GET", target, headers);
        if reason == "-" {
            assert_eq!(reply.status, 200, "{target}");
            upstream.forget();
            continue;
        }
        assert_eq!(gateway.record(reply.decision())["reason"], reason, "{target}");
        assert_eq!((reply.status, upstream.received().as_str()), (403, ""), "{target}");
    }
}

#[test]
fn headers_are_made_of_the_request_and_the_caller() {
    let (gateway, upstream) = bed::<InProcess>(
        "  upstream:\n    headers:\n    - \
            {name: X-Who, value: \"identity.username + '@' + identity.attributes.tenant\"}\n    - \
            {name: X-What, value: \"request.method + ' ' + request.path\"}\n    - \
            {name: X-From, value: source.address}\n    - \
            {name: X-Policy, value: \"env.namespace + '/' + env.policy\"}\n    - \
            {name: X-Absent, value: 'request.headers[\"x-nothing\"]'}\n",
    );
    assert_eq!(send(&gateway, "GET", "/a/b?c=d", &format!("{ANA}X-What: forged\r\nX-Absent: forged\r\n")).status, 200);
    let seen = upstream.received().to_ascii_lowercase();
    for header in ["x-who: ana@acme\r\n", "x-what: get /a/b\r\n", "x-from: 127.0.0.1\r\n", "x-policy: default/p\r\n"] {
        assert!(seen.contains(header), "{header}: {seen}");
    }
    assert!(!seen.contains("forged") && !seen.contains("x-absent"), "{seen}");
}

/// Many callers at once through one policy: each upstream request speaks of its own caller and path.
#[test]
fn no_request_sees_the_values_of_another() {
    let (gateway, upstream) =
        bed::<Gateway>("  upstream: {headers: [{name: X-Mix, value: \"request.headers['x-me'] + request.path\"}]}\n");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                for i in 0..50 {
                    assert_eq!(
                        send(gateway, "GET", &format!("/p{thread}-{i}"), &format!("X-Me: m{thread}-{i}\r\n")).status,
                        200
                    );
                }
            });
        }
    });
    let seen = upstream.received().to_ascii_lowercase();
    let requests: Vec<&str> = seen.split("get /p").skip(1).collect();
    assert_eq!(requests.len(), 400);
    for request in requests {
        let id = request.split(' ').next().unwrap();
        assert!(request.contains(&format!("x-mix: m{id}/p{id}\r\n")), "{request}");
    }
}

#[test]
fn what_is_not_an_expression_is_refused_with_its_place() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let said = |rest: &str| {
        let yaml = format!("{}{rest}", open_to(&upstream, "    - {name: everyone, anonymous: {}}\n"));
        let settings = Settings::of_a_folder(false);
        let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let rule = |when: &str| format!("  authorization: {{rules: [{{name: r, when: \"{when}\"}}]}}\n");
    assert!(
        said(&rule("request.path =="))
            .contains("spec.authorization.rules[0].when: `request.path ==` is not a CEL expression"),
        "{}",
        said(&rule("request.path =="))
    );
    assert!(said(&rule("jonas.x == 1")).contains("`jonas` is not known here"));
    assert!(said(&rule("file.read('/etc/passwd')")).contains("`file` is not known here"));
    assert!(
        said("  upstream: {headers: [{name: X-A, value: request.headers.x-a}]}\n")
            .contains("with a dash as `[\"a-b\"]`")
    );
    assert!(said("    identity: {username: request.path}\n").contains("must use `token` here"));
}
