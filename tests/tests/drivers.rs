//! The driver without a process plays the proxy. It is believed because both drivers agree: on each answer, on each
//! byte at the upstream, and on each record.

use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, eventually, raw, secret};
use idm_types::ApiKey;
use serde_json::Value;

fn key() -> String {
    ApiKey::from_random([3; 32]).reveal().to_owned()
}

/// One host that is open, with steps on request and answer, and one that wants a password or a key.
fn files(upstream: &Upstream) -> String {
    let host = |name: &str, policy: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{identity-manager.io/hostnames: \
             {name}.example}}}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: \
             {}}}]}}\n---\napiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: \
             {name}}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: {name}}}]\n{policy}---\n",
            upstream.address.port()
        )
    };
    let open = "  authentication: {methods: [{name: everyone, anonymous: {}}]}\n  jose:\n  - name: digest\n    \
                produce: {message: Response, from: {body: {}}, sign: {keyRef: {name: mac}, algorithm: HS256, form: \
                Detached}, \
                to: {header: X-Receipt}}\n  upstream: {headers: [{name: X-What, value: request.path}]}\n";
    let closed = "  authentication:\n    methods:\n    - {name: machines, apiKey: {sources: [{query: {name: key}}, \
                  {header: {name: X-Api-Key}}]}}\n    - {name: people, basic: {realm: shop}}\n  authorization: {rules: \
                  [{name: not-there, when: \"request.path != '/forbidden'\"}]}\n";
    let credential = |name: &str, spec: &str| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
             spec: {{{spec}, secretRef: {{name: {name}}}, roles: [reader]}}\n"
        )
    };
    [
        host("open", open),
        host("closed", closed),
        credential("batch", "apiKey: {}"),
        secret("batch", &[("key", key())]),
        "---\n".into(),
        credential("ana", "password: {}"),
        secret("ana", &[("password", "secret".into())]),
        secret("mac", &[("key", MAC.into())]),
    ]
    .concat()
}

const MAC: &str = r#"{"kty":"oct","kid":"m","alg":"HS256","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;
const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";

fn requests() -> Vec<String> {
    let get = |host: &str, target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}.example\r\n{headers}\r\n")
    };
    let send = |method: &str, headers: &str, body: &str| {
        format!("{method} /x HTTP/1.1\r\nHost: open.example\r\n{headers}\r\n{body}")
    };
    vec![
        get("open", "/", ""),
        get("open", "/a%20b/%63?x=%2F&y", "Accept: text/html\r\nCookie: a=1; b=2\r\n"),
        get("open", "http://open.example/absolute?x", ""),
        get("OPEN", "/case", ""),
        get("open", "/hop", "Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTE: trailers\r\n"),
        get("open", "/forwarded", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=x\r\nX_Real_IP: 1\r\nX-What: no\r\n"),
        get("open", "/upgrade", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        get("open", "/a/../b", ""),
        get("open", "//", ""),
        get("unknown", "/", ""),
        get("open", "/twice", "X-Twice: 1\r\nX-Twice: 2\r\nAuthorization: Bearer of-no-method\r\n"),
        send("POST", "Content-Length: 5\r\nContent-Type: text/plain\r\n", "hello"),
        send("POST", "Content-Length: 0\r\n", ""),
        send("PUT", "", ""),
        send("DELETE", "", ""),
        send("OPTIONS", "", ""),
        send("TRACE", "", ""),
        get("closed", "/", ""),
        get("closed", "/", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n"),
        get("closed", "/", ANA),
        get("closed", "/forbidden", ANA),
        get("closed", "/", "Authorization: Basic YW5hOndyb25n\r\n"),
        get("closed", "/", "Authorization: Basic !!!\r\n"),
        get("closed", "/", &format!("X-Api-Key: {}\r\n", key())),
        get("closed", &format!("/?a=1&key={}&b=2", key()), ""),
        get("closed", &format!("/?key={}", key()), &format!("X-Api-Key: {}\r\n", key())),
        get("closed", "/", "X-Api-Key: idm_nothing\r\n"),
    ]
}

/// An answer, the bytes at the upstream and the record, without their times and ids.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    upstream: String,
    record: Value,
}

impl Seen {
    fn of(reply: Reply, upstream: &Upstream, mut record: Value) -> Self {
        let id = reply.header("x-decision-id").unwrap_or("no id").to_owned();
        assert!(id == "no id" || record["id"] == id.as_str(), "{reply:?} {record}");
        // The HTTP library adds the date, and closes connections.
        let mut headers: Vec<_> = reply.headers.into_iter().filter(|(n, _)| n != "date" && n != "connection").collect();
        headers.iter_mut().filter(|(name, _)| name == "x-decision-id").for_each(|(_, value)| *value = "id".into());
        headers.sort();
        let fields = record.as_object_mut().expect("a record");
        ["id", "@timestamp", "duration_us"].iter().for_each(|field| drop(fields.remove(*field).expect("a field")));
        if let Some(identity) = record["identity"].as_object_mut() {
            // Each core has a cache of its own.
            identity.remove("cached");
        }
        let (status, body) = (reply.status, reply.body.replace(&id, "id"));
        Self { status, headers, body, upstream: upstream.received(), record }
    }
}

fn play<G: Serves>(upstream: &Upstream, requests: &[String]) -> Vec<Seen> {
    let gateway = G::start_with(&[("all.yaml", &files(upstream))], &[]);
    let mut seen = Vec::new();
    for request in requests {
        upstream.forget();
        let reply = raw(gateway.address(), request.as_bytes());
        let record = eventually("one record each", || {
            let mut records = gateway.records();
            if records.len() == seen.len() + 1 { Ok(records.remove(seen.len())) } else { Err(format!("{records:?}")) }
        });
        seen.push(Seen::of(reply, upstream, record));
    }
    seen
}

#[test]
fn both_drivers_answer_forward_and_record_alike() {
    let upstream = Upstream::answering(
        "HTTP/1.1 203 X\r\nX-Answer: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nCache-Control: no-cache\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let requests = requests();
    let (process, here) = (play::<Gateway>(&upstream, &requests), play::<InProcess>(&upstream, &requests));
    for ((request, process), here) in requests.iter().zip(&process).zip(&here) {
        assert_eq!(process, here, "left the process, right without one: {request}");
    }
    let permitted = process.iter().filter(|seen| seen.record["outcome"] == "Permitted");
    assert!(permitted.clone().all(|seen| !seen.upstream.is_empty()) && permitted.count() > 10);
}
