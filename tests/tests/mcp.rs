//! Protected resources (RFC 9728) as OAuth clients see them, those of the Model Context Protocol among them:
//! the metadata, the challenges that name them, and a client and a server of the protocol that others wrote.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use idm_compile::{Settings, compile, yaml::read_files};
use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, now, policy_of, raw, route_to, route_to_port, secret};
use idm_types::{Algorithm, Timestamp};
use serde_json::{Value, json};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const RESOURCE: &str = "https://shop.example/mcp";

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    key: SigningKey,
}

/// A method that takes tokens of one issuer for this audience.
fn tokens(key: &SigningKey, audience: &str) -> String {
    format!(
        "{{name: people, jwt: {{issuers: [{{issuer: 'https://idp.example', audiences: ['{audience}'], algorithms: \
         [ES256], keys: {{inline: '{}'}}}}]}}}}",
        key.jwks()
    )
}

impl<G: Serves> Bed<G> {
    /// Rules of one route, and for each of some of them a policy that takes tokens, with these members.
    fn new(rules: &str, policies: &[(&str, &str)]) -> Self {
        let (upstream, key) = (Upstream::new(), SigningKey::generate(Algorithm::ES256, "k1").unwrap());
        let method = tokens(&key, RESOURCE);
        let policy = |(i, (rule, more)): (usize, &(&str, &str))| {
            policy_of(&format!("p{i}"), Some(*rule).filter(|rule| !rule.is_empty()), &method, more)
        };
        let all = route_to(&upstream, rules) + &policies.iter().enumerate().map(policy).collect::<String>();
        Self { gateway: G::start(&[("all.yaml", &all)]), upstream, key }
    }

    /// One policy for everything.
    fn of(resource: &str) -> Self {
        Self::new(MCP, &[("", &format!("  resource: {resource}\n"))])
    }

    fn send(&self, line: &str, headers: &str) -> Reply {
        let host = if headers.contains("Host:") { "" } else { "Host: shop.example\r\n" };
        raw(self.gateway.address(), format!("{line} HTTP/1.1\r\n{host}{headers}\r\n").as_bytes())
    }

    /// The metadata at an address: a public document, with one record that names nobody, and nothing sent on.
    fn metadata(&self, path: &str, headers: &str) -> Value {
        let before = self.gateway.records().len();
        let reply = self.send(&format!("GET {WELL_KNOWN}{path}"), headers);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{path}: {reply:?}");
        assert_eq!(reply.header("cache-control"), Some("public, max-age=60"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let records = self.gateway.records().split_off(before);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((&records[0]["outcome"], &records[0]["identity"]), (&"Permitted".into(), &Value::Null));
        assert!(records[0]["route"].as_str().unwrap().ends_with("resource metadata"), "{}", records[0]);
        assert_eq!(self.upstream.received(), "");
        serde_json::from_str(&reply.body).unwrap()
    }

    fn resource(&self, path: &str, headers: &str) -> Value {
        self.metadata(path, headers)["resource"].clone()
    }

    /// Refused for this reason, with one record, and nothing sent on.
    fn refused(&self, line: &str, headers: &str, reason: &str) -> Reply {
        let reply = self.send(line, headers);
        assert_eq!(self.gateway.record(reply.decision())["reason"], reason, "{line}: {reply:?}");
        assert_eq!(self.upstream.received(), "");
        reply
    }

    fn bearer(&self, audience: &str, scope: &str) -> String {
        let claims = json!({
            "iss": "https://idp.example", "aud": audience, "sub": "ana", "exp": now() + 300, "scope": scope,
        });
        format!("Authorization: Bearer {}\r\n", self.key.sign(&claims).unwrap())
    }
}

const MCP: &str = "  - {name: mcp, matches: [{path: {type: PathPrefix, value: /mcp}}], UP}\n  - {name: exact, matches: \
                   [{path: {type: Exact, value: /rpc}}], UP}";

fn challenges(reply: &Reply) -> Vec<&str> {
    reply.headers.iter().filter(|(name, _)| name == "www-authenticate").map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_metadata_of_a_request_speak_of_what_it_asked_about() {
    let bed: Bed = Bed::of("{}");
    assert_eq!(
        bed.metadata("/mcp", ""),
        json!({
            "resource": "http://shop.example/mcp",
            "authorization_servers": ["https://idp.example"],
            "bearer_methods_supported": ["header"],
        })
    );
    // RFC 9728 §3.1 and §3.3: the identifier is what the address was made of.
    assert_eq!(bed.resource("/mcp/tools", ""), "http://shop.example/mcp/tools");
    assert_eq!(bed.resource("/rpc", ""), "http://shop.example/rpc");
    assert_eq!(bed.resource("/mcp", "Host: Shop.Example:8080\r\n"), "http://shop.example:8080/mcp");
    assert_eq!(bed.resource("/mcp", "Host: shop.example:80\r\n"), "http://shop.example/mcp");
    assert_eq!(bed.resource("/mcp?x=1", ""), "http://shop.example/mcp");
    for path in ["", "/", "/other", "/mcpx", "/rpc/deeper"] {
        assert_eq!(bed.refused(&format!("GET {WELL_KNOWN}{path}"), "", "NoRoute").status, 404, "{path}");
    }
    let whole: Bed = Bed::new("  - {UP}", &[("", "  resource: {}\n")]);
    assert_eq!(whole.resource("", ""), "http://shop.example");
    assert_eq!(whole.resource("/any/where", ""), "http://shop.example/any/where");
}

#[test]
fn an_identifier_that_is_written_has_one_address() {
    let bed: Bed = Bed::of(
        "{identifier: 'https://shop.example/mcp', name: Orders, documentation: 'https://docs.example/mcp', scopes: \
         [mcp.read, mcp.write], authorizationServers: ['https://login.example', 'https://idp.example/realms/a']}",
    );
    let expected = json!({
        "resource": RESOURCE,
        "resource_name": "Orders",
        "resource_documentation": "https://docs.example/mcp",
        "scopes_supported": ["mcp.read", "mcp.write"],
        "authorization_servers": ["https://login.example", "https://idp.example/realms/a"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(bed.metadata("/mcp", ""), expected);
    // A proxy in front may have asked for another host.
    assert_eq!(bed.metadata("/mcp", "Host: mcp.shop.svc\r\n"), expected);
    for path in ["", "/rpc", "/mcp/tools"] {
        bed.refused(&format!("GET {WELL_KNOWN}{path}"), "", "NoRoute");
    }
}

#[test]
fn metadata_are_read_with_get_and_pages_of_any_origin_may() {
    let bed: Bed = Bed::of("{}");
    let address = format!("{WELL_KNOWN}/mcp");
    let head = bed.send(&format!("HEAD {address}"), "");
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = bed.refused(&format!("{method} {address}"), "", "MethodNotAllowed");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    // The header of the protocol's version makes browsers ask first.
    let preflight = bed.send(
        &format!("OPTIONS {address}"),
        "Origin: https://inspector.example\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: \
         mcp-protocol-version\r\n",
    );
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("*"));
    for path in ["/mcp%2ftools", "/mcp/../rpc", "//mcp"] {
        bed.refused(&format!("GET {WELL_KNOWN}{path}"), "", "AmbiguousPath");
    }
}

#[test]
fn a_head_of_metadata_has_no_body_on_the_wire() {
    let bed: Bed<Gateway> = Bed::of("{}");
    let mut stream = TcpStream::connect(bed.gateway.address).unwrap();
    let request = format!("HEAD {WELL_KNOWN}/mcp HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: application/json"), "{answer}");
}

#[test]
fn challenges_for_tokens_name_the_metadata() {
    let bed: Bed = Bed::new(
        MCP,
        &[("", "  resource: {}\n  authorization: {rules: [{name: write, require: {scopes: {all: [mcp.write]}}}]}\n")],
    );
    let named = |path: &str| format!("resource_metadata=\"http://shop.example{WELL_KNOWN}{path}\"");
    for (line, path) in [("POST /mcp", "/mcp"), ("GET /mcp/tools/1?x=y", "/mcp"), ("GET /rpc", "/rpc")] {
        let reply = bed.refused(line, "", "NoCredentials");
        assert_eq!(challenges(&reply), [format!("Bearer realm=\"default/p0\", {}", named(path))], "{line}");
        // The document that a challenge names is there.
        assert_eq!(bed.resource(path, ""), format!("http://shop.example{path}"));
    }
    let reply = bed.refused("GET /mcp", &bed.bearer("https://other.example/mcp", "mcp.write"), "WrongAudience");
    assert_eq!(
        challenges(&reply),
        [format!("Bearer realm=\"default/p0\", error=\"invalid_token\", {}", named("/mcp"))]
    );
    let reply = bed.refused("GET /mcp", &bed.bearer(RESOURCE, "mcp.read"), "InsufficientScope");
    let missing = "Bearer realm=\"default/p0\", error=\"insufficient_scope\", scope=\"mcp.write\"";
    assert_eq!((reply.status, challenges(&reply)), (403, vec![format!("{missing}, {}", named("/mcp")).as_str()]));
    assert_eq!(bed.send("GET /mcp", &bed.bearer(RESOURCE, "mcp.write")).status, 200);

    let written: Bed = Bed::of("{identifier: 'https://shop.example/mcp'}");
    let reply = written.refused("GET /rpc", "Host: mcp.shop.svc\r\n", "NoCredentials");
    let address = format!("https://shop.example{WELL_KNOWN}/mcp");
    assert_eq!(challenges(&reply), [format!("Bearer realm=\"default/p0\", resource_metadata=\"{address}\"")]);
    let silent: Bed = Bed::new(MCP, &[("", "")]);
    assert_eq!(challenges(&silent.refused("GET /mcp", "", "NoCredentials")), ["Bearer realm=\"default/p0\""]);
}

#[test]
fn the_challenge_for_tokens_comes_first_where_there_are_others() {
    let (upstream, key) = (Upstream::new(), SigningKey::generate(Algorithm::ES256, "k1").unwrap());
    let methods = format!("{{name: staff, basic: {{realm: staff}}}}, {}", tokens(&key, RESOURCE));
    let all = route_to(&upstream, MCP) + &policy_of("p0", None, &methods, "  resource: {}\n");
    let bed: Bed = Bed { gateway: InProcess::start(&[("all.yaml", &all)]), upstream, key };
    let reply = bed.refused("GET /mcp", "", "NoCredentials");
    let told = challenges(&reply);
    assert!(told[0].starts_with("Bearer ") && told[0].contains("resource_metadata="), "{told:?}");
    assert!(told[1].starts_with("Basic ") && !told[1].contains("resource_metadata="), "{told:?}");
}

#[test]
fn each_path_is_described_by_its_own_policy_or_by_none() {
    let rules = "  - {name: all, UP}\n  - {name: mcp, matches: [{path: {type: PathPrefix, value: /mcp}}], UP}\n  - \
                 {name: inside, matches: [{path: {type: PathPrefix, value: /mcp/inside}}], UP}";
    let bed: Bed = Bed::new(
        rules,
        &[("all", "  resource: {name: All}\n"), ("mcp", ""), ("inside", "  resource: {name: Inside}\n")],
    );
    for (path, name) in [("", "All"), ("/other", "All"), ("/mcp/inside", "Inside"), ("/mcp/inside/x", "Inside")] {
        assert_eq!(bed.metadata(path, "")["resource_name"], name, "{path}");
    }
    for path in ["/mcp", "/mcp/other"] {
        bed.refused(&format!("GET {WELL_KNOWN}{path}"), "", "NoRoute");
    }
    assert!(!challenges(&bed.refused("GET /mcp", "", "NoCredentials"))[0].contains("resource_metadata"));
}

#[test]
fn bound_tokens_are_said_to_be_required() {
    let (upstream, key) = (Upstream::new(), SigningKey::generate(Algorithm::ES256, "k1").unwrap());
    let method = tokens(&key, RESOURCE);
    let method = method.replace("jwt: {", "jwt: {confirmation: {dpop: Required, certificate: Required}, ");
    let all = route_to(&upstream, MCP) + &policy_of("p0", None, &method, "  resource: {}\n");
    let bed: Bed = Bed { gateway: InProcess::start(&[("all.yaml", &all)]), upstream, key };
    let metadata = bed.metadata("/mcp", "");
    for name in ["dpop_bound_access_tokens_required", "tls_client_certificate_bound_access_tokens"] {
        assert_eq!(metadata[name], true, "{metadata}");
    }
    let reply = bed.refused("GET /mcp", "", "NoCredentials");
    let told = challenges(&reply);
    assert!(told.iter().any(|text| text.starts_with("DPoP ") && text.contains("resource_metadata=")), "{told:?}");
}

#[test]
fn what_cannot_be_described_is_said_before_it_is_served() {
    let (upstream, key) = (Upstream::new(), SigningKey::generate(Algorithm::ES256, "k1").unwrap());
    let findings = |method: &str, resource: &str| {
        let policy = policy_of("p0", None, method, &format!("  resource: {resource}\n"));
        let files = [("all.yaml".into(), route_to(&upstream, MCP) + &policy)];
        let (world, _) = read_files(&files, Settings::of_a_folder(false)).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let method = tokens(&key, RESOURCE);
    assert_eq!(findings(&method, "{identifier: 'https://shop.example/mcp'}"), "");
    for (resource, why) in [
        ("{identifier: 'https://shop.example/mcp/'}", "slash at its end"),
        ("{identifier: 'https://shop.example/mcp?x=1'}", "without query"),
        ("{identifier: 'https://shop.example/mcp#x'}", "without query"),
        ("{identifier: 'https://shop.example/a%2Fb'}", "two readings"),
        ("{identifier: 'http://shop.example/mcp'}", "must be https"),
        ("{identifier: 'https://u:p@shop.example/mcp'}", "user name or password"),
        ("{identifier: 'urn:example:mcp'}", "must"),
        ("{documentation: 'javascript:alert(1)'}", "http or https URL"),
        ("{scopes: ['a b']}", "must be a scope"),
        ("{authorizationServers: ['http://login.example']}", "must be https"),
    ] {
        let said = findings(&method, resource);
        assert!(said.contains(why) && said.contains("spec.resource"), "{resource}: {said}");
    }
    for other in ["{name: machines, apiKey: {}}", "{name: everyone, anonymous: {}}"] {
        assert!(findings(other, "{}").contains("`jwt` or `introspection`"), "{other}");
    }
    // RFC 8707: a token is made for the resource that accepts it.
    let unbound = findings(&tokens(&key, "orders"), "{identifier: 'https://shop.example/mcp'}");
    assert!(unbound.contains("DangerousOption") && unbound.contains("issuer 'https://idp.example'"), "{unbound}");
    assert_eq!(findings(&tokens(&key, "orders"), "{}"), "");
}

#[test]
fn two_policies_do_not_describe_one_address() {
    let (upstream, key) = (Upstream::new(), SigningKey::generate(Algorithm::ES256, "k1").unwrap());
    let rules = "  - {name: a, matches: [{path: {type: PathPrefix, value: /mcp}}], UP}\n  - {name: b, matches: [{path: \
                 {type: PathPrefix, value: /mcp}, headers: [{name: x-version, value: '2'}]}], UP}";
    let policy = |name: &str, rule: &str| policy_of(name, Some(rule), &tokens(&key, RESOURCE), "  resource: {}\n");
    let files = [("all.yaml".into(), route_to(&upstream, rules) + &policy("p0", "a") + &policy("p1", "b"))];
    let (world, _) = read_files(&files, Settings::of_a_folder(false)).unwrap();
    let compiled = compile(&world, None);
    let said: Vec<String> = compiled.report.findings().iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("p1") && said[0].contains("Conflicted"), "{said:?}");
}

/// The first block of this kind in the page.
fn block(page: &str, kind: &str) -> String {
    page.split(&format!("```{kind}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned()
}

#[test]
fn the_page_shows_what_is_served() {
    let page = include_str!("../../docs/mcp.md");
    let around = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: shop}\nspec: \
                  {gatewayClassName: idm, listeners: [{name: http, port: 80, protocol: HTTP}]}\n---\napiVersion: \
                  v1\nkind: Service\nmetadata: {name: orders}\nspec: {selector: {app: orders}, ports: [{name: http, \
                  port: 80}]}\n";
    let gateway = InProcess::start(&[("all.yaml", &(block(page, "yaml sample") + around))]);
    let send = |line: &str| raw(gateway.address, format!("{line} HTTP/1.1\r\nHost: shop.example\r\n\r\n").as_bytes());
    let refused = send("POST /mcp");
    let told = challenges(&refused);
    assert_eq!((refused.status, format!("WWW-Authenticate: {}\n", told[0])), (401, block(page, "http")));
    let address = told[0].split("https://shop.example").nth(1).unwrap().trim_end_matches('"');
    let served: Value = serde_json::from_str(&send(&format!("GET {address}")).body).unwrap();
    assert_eq!(served, serde_json::from_str::<Value>(&block(page, "json")).unwrap());
}

/// A process that ends with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A client and a server of the protocol's own library: the client knows the server's address, and finds everything
/// else out. The authorization server is a certified one.
#[test]
fn a_client_of_the_protocol_finds_its_token_and_calls_a_tool() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/mcp.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(idm_tests::interop_libraries());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut peer = Peer(command.spawn().expect("node runs"));
    let mut out = BufReader::new(peer.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let (port, issuer) = line.trim().split_once(' ').unwrap_or_else(|| panic!("{line}"));
    let methods = format!(
        "{{name: people, jwt: {{issuers: [{{issuer: '{issuer}', audiences: ['{RESOURCE}'], algorithms: [ES256], keys: \
         {{discovery: {{}}}}}}]}}}}"
    );
    let more = format!(
        "  resource: {{identifier: '{RESOURCE}', name: Orders, scopes: [mcp.read]}}\n  authorization: {{rules: \
         [{{name: read, require: {{scopes: {{all: [mcp.read]}}}}}}]}}\n"
    );
    let all = route_to_port(port.parse().unwrap(), MCP) + &policy_of("p0", None, &methods, &more);
    let gateway = Gateway::start_with(&[("all.yaml", &all)], &["--danger-insecure-issuers"]);
    writeln!(peer.0.stdin.take().unwrap(), "{}", gateway.address).unwrap();
    let said = out.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
    let mut problems = String::new();
    peer.0.stderr.take().unwrap().read_to_string(&mut problems).unwrap();
    assert!(peer.0.wait().unwrap().success() && said.ends_with("done: 4 steps"), "{said}\n{problems}");
}

/// RFC 8707: the gateway's own token service makes a token for the resource that is asked for.
#[test]
fn the_token_service_of_the_policy_makes_tokens_for_the_resource() {
    let upstream = Upstream::new();
    let client_secret = idm_types::ApiKey::from_random([7; 32]).reveal().to_owned();
    let methods =
        format!("{{name: own, jwt: {{issuers: [{{tokenServiceRef: {{name: p0}}, audiences: ['{RESOURCE}']}}]}}}}");
    let more = format!(
        "  tokenService: {{issuer: 'https://shop.example/oauth', audiences: ['{RESOURCE}', \
         'https://shop.example/a']}}\n  resource: {{identifier: '{RESOURCE}'}}\n"
    );
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: \
                      agent}\nspec:\n  oauthClient: {clientSecret: {}}\n  secretRef: {name: agent-secret}\n";
    let all = [
        route_to(&upstream, MCP),
        policy_of("p0", None, &methods, &more),
        credential.to_owned(),
        secret("agent-secret", &[("clientSecret", client_secret.clone())]),
        secret("idm-signing-keys", &[("p0.json", keys)]),
    ];
    let gateway = InProcess::start(&[("all.yaml", &all.concat())]);
    let send = |head: String, body: &str| {
        let length = body.len();
        let request = format!("{head}\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n{body}");
        raw(gateway.address, request.as_bytes())
    };
    let metadata = send(format!("GET {WELL_KNOWN}/mcp HTTP/1.1"), "");
    let metadata: Value = serde_json::from_str(&metadata.body).unwrap();
    assert_eq!(metadata["authorization_servers"], json!(["https://shop.example/oauth"]));
    let token = |resource: &str| {
        let head = "POST /oauth/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded".to_owned();
        let body =
            format!("grant_type=client_credentials&client_id=agent&client_secret={client_secret}&resource={resource}");
        send(head, &body)
    };
    for (resource, status) in [(RESOURCE, 200), ("https://shop.example/a", 401)] {
        let answer: Value = serde_json::from_str(&token(resource).body).unwrap();
        let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let reply = send(format!("GET /mcp HTTP/1.1\r\nAuthorization: Bearer {token}"), "");
        assert_eq!(reply.status, status, "{resource}: {reply:?}");
    }
    let refused = token("https://other.example/mcp");
    assert!(refused.status == 400 && refused.body.contains("invalid_target"), "{refused:?}");
}
