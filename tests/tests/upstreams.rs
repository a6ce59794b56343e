//! Upstreams: shares, limits, streams, HTTP/2, failures.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, open_to, raw, raw_on, secret};
use idm_types::ApiKey;

/// A route with one rule to these (port, weight) backends, open to everyone.
fn route(backends: &[(u16, u32)], extra: &str) -> String {
    let services: String = backends
        .iter()
        .map(|(port, _)| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: up-{port}}}\nspec: {{type: ExternalName, \
                externalName: 127.0.0.1, ports: [{{name: http, port: {port}}}]}}\n---\n"
            )
        })
        .collect();
    let references: Vec<String> =
        backends.iter().map(|(port, weight)| format!("{{name: up-{port}, port: {port}, weight: {weight}}}")).collect();
    format!(
        "{services}apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: \
            {{gatewayClassName: idm, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: \
         [{{name: g}}]\n  rules: [{{backendRefs: [{}]{extra}}}]\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: \
         [{{group: gateway.networking.k8s.io, kind: Gateway, name: g}}]\n  authentication: {{methods: [{{name: \
         everyone, anonymous: {{}}}}]}}\n",
        references.join(", ")
    )
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn traffic_is_shared_by_weight_and_weight_0_gets_none() {
    let (many, few, none) = (Upstream::new(), Upstream::new(), Upstream::new());
    let gateway = Gateway::start(&[(
        "all.yaml",
        &route(&[(many.address.port(), 3), (few.address.port(), 1), (none.address.port(), 0)], ""),
    )]);
    for _ in 0..400 {
        assert_eq!(raw(gateway.address, GET).status, 200);
    }
    let count = |upstream: &Upstream| upstream.received().matches("GET / ").count();
    assert_eq!((count(&many) + count(&few), count(&none)), (400, 0));
    assert!((250..350).contains(&count(&many)), "{} of 400", count(&many));
}

#[test]
fn a_silent_upstream_is_given_up_at_the_routes_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(&[(
        "all.yaml",
        &route(&[(silent.local_addr().unwrap().port(), 1)], ", timeouts: {request: 300ms}"),
    )]);
    let start = Instant::now();
    let reply = raw(gateway.address, GET);
    assert_eq!(reply.status, 504);
    assert!((300..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(gateway.record(reply.decision())["reason"], "UpstreamTimeout");
}

#[test]
fn an_upstream_that_is_not_there_or_talks_nonsense_is_a_502_with_a_reason() {
    let closed = idm_tests::free_port();
    let gateway = Gateway::start(&[("all.yaml", &route(&[(closed, 1)], ""))]);
    let reply = raw(gateway.address, GET);
    assert_eq!((reply.status, gateway.record(reply.decision())["reason"].as_str()), (502, Some("UpstreamUnreachable")));
    let nonsense = Upstream::answering("this is not HTTP\r\n\r\n");
    let gateway = Gateway::start(&[("all.yaml", &route(&[(nonsense.address.port(), 1)], ""))]);
    let reply = raw(gateway.address, GET);
    assert_eq!((reply.status, gateway.record(reply.decision())["reason"].as_str()), (502, Some("UpstreamFailed")));
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (next, wanted) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).unwrap();
            // The next event comes only after the reader has seen this one.
            if wanted.recv().is_err() {
                return;
            }
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let gateway = Gateway::start(&[("all.yaml", &route(&[(port, 1)], ""))]);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(raw_on(&mut stream).header("content-type"), Some("text/event-stream"));
    let mut seen = String::new();
    for number in 0..3 {
        let mut chunk = [0; 64];
        while !seen.contains(&format!("data: {number}")) {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        next.send(()).unwrap();
    }
}

#[test]
fn http2_is_spoken_to_a_backend_that_asks_for_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (seen, requests) = std::sync::mpsc::channel();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let _ = seen.send((request.uri().to_string(), request.headers().get("x-forwarded-for").cloned()));
                    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                    body.send_data(bytes::Bytes::from_static(b"over two"), true).unwrap();
                }
            });
        }
    });
    let yaml =
        route(&[(port, 1)], "").replacen("name: http, port:", "name: http, appProtocol: kubernetes.io/h2c, port:", 1);
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    for _ in 0..3 {
        assert_eq!(
            raw(gateway.address, b"GET /x?y=1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").status,
            200
        );
        let (uri, source) = requests.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!((uri.as_str(), source.unwrap().to_str().unwrap()), ("http://a.example/x?y=1", "127.0.0.1"));
    }
}

#[test]
fn a_caller_who_leaves_is_on_record() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::start(&[("all.yaml", &route(&[(silent.local_addr().unwrap().port(), 1)], ""))]);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let _held = silent.accept().unwrap();
    drop(stream);
    eventually("its record", || {
        let records = gateway.records();
        let found = records.iter().any(|r| r["reason"] == "ClientGone" && r["request"]["path"] == "/left");
        if found && records.len() == 1 { Ok(()) } else { Err(format!("{records:?}")) }
    });
}

#[test]
fn route_filters_edit_headers_but_never_the_callers_name() {
    let upstream = Upstream::new();
    let filter = ", filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: \
        ours}], add: [{name: X-Add, value: b}], remove: [X-Gone]}}]";
    let gateway = Gateway::start(&[("all.yaml", &route(&[(upstream.address.port(), 1)], filter))]);
    assert_eq!(
        raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\nX-Set: theirs\r\nX-Add: a\r\nX-Gone: x\r\n\r\n").status,
        200
    );
    let received = upstream.received();
    assert!(
        received.contains("x-set: ours")
            && received.contains("x-add: a")
            && received.contains("x-add: b")
            && !received.contains("theirs")
            && !received.contains("x-gone"),
        "{received}"
    );
    let open = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
    assert_eq!(raw(open.address, GET).status, 200);
}

#[test]
fn a_redirect_answers_permitted_callers_only_and_hands_no_credential_on() {
    let filter = "filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example, statusCode: 301, path: \
        {type: ReplaceFullPath, replaceFullPath: /new}}}]";
    let yaml = route(&[], "").replace("backendRefs: []", filter);
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let reply = raw(gateway.address, b"GET /old?a=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((reply.status, reply.header("location")), (301, Some("http://b.example/new?a=1")));
    eventually("its record", || {
        let records = gateway.records();
        let is_permit = |r: &serde_json::Value| r["outcome"] == "Permitted" && r["status"] == 301;
        if records.len() == 1 && records.iter().all(is_permit) { Ok(()) } else { Err(format!("{records:?}")) }
    });

    let keyed =
        yaml.replace("[{name: everyone, anonymous: {}}]", "[{name: keys, apiKey: {sources: [{query: {name: key}}]}}]");
    let key = ApiKey::from_random([7; 32]);
    let credential = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: c}\n\
                      spec: {apiKey: {}, secretRef: {name: c}}\n";
    let keyed = [keyed, credential.into(), secret("c", &[("key", key.reveal().into())])].concat();
    let keyed = Gateway::start(&[("all.yaml", &keyed)]);
    let reply = raw(keyed.address, GET);
    assert_eq!((reply.status, reply.header("location")), (401, None));
    assert_eq!(keyed.record(reply.decision())["reason"], "NoCredentials");
    let head = format!("GET /old?a=1&key={}&b=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", key.reveal());
    let reply = raw(keyed.address, head.as_bytes());
    assert_eq!((reply.status, reply.header("location")), (301, Some("http://b.example/new?a=1&b=2")));
    eventually("one record of each", || match keyed.records().len() {
        2 => Ok(()),
        other => Err(format!("{other} records")),
    });
}
