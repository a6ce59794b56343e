//! Before its caller is authenticated, a request costs at most in proportion to its size, in every dimension.

use std::io::Write;
use std::net::TcpStream;

use idm_jose::SigningKey;
use idm_tests::{Gateway, Upstream, open_to, raw_on};
use idm_types::Algorithm;

/// Processor time for a request of 60 KiB. A build without optimization takes twenty to forty times as long.
const MOST_MICROSECONDS: f64 = if cfg!(debug_assertions) { 40_000.0 } else { 1_000.0 };
const REQUESTS: usize = 40;
const SIZES: [usize; 4] = [7 << 10, 15 << 10, 30 << 10, 60 << 10];

fn gateway(upstream: &Upstream, routes: usize) -> Gateway {
    let key = SigningKey::generate(Algorithm::ES256, "k").unwrap();
    let methods = format!(
        "    - {{name: tokens, jwt: {{issuers: [{{issuer: 'https://idp', audiences: [a], algorithms: [ES256], \
         keys: {{inline: '{}'}}}}], sources: [{{header: {{name: Authorization, scheme: Bearer}}}}, \
         {{cookie: {{name: token}}}}]}}}}\n\
         \x20   - {{name: keys, apiKey: {{sources: [{{query: {{name: key}}}}, {{header: {{name: X-Api-Key}}}}, \
         {{cookie: {{name: key}}}}]}}}}\n\
         \x20   - {{name: people, basic: {{realm: shop}}}}\n    - {{name: others, digest: {{realm: shop}}}}\n",
        key.jwks()
    );
    let rules = "  authorization: {rules: [{name: r, when: 'request.headers.exists(h, h == \"x\")'}]}\n";
    let more: String = (0..routes)
        .map(|n| {
            format!(
                "---\napiVersion: v1\nkind: Service\n\
                 metadata: {{name: s{n}, annotations: {{identity-manager.io/hostnames: 'h{n}.example'}}}}\n\
                 spec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: 1}}]}}\n"
            )
        })
        .collect();
    let yaml = format!("{}{rules}{more}", open_to(upstream, &methods));
    Gateway::start_in(&[("all.yaml", &yaml)], &[], &[("IDM_LOG", "error")])
}

/// Microseconds of processor time for one of these requests, all of which are refused.
fn cost(gateway: &Gateway, request: &str) -> f64 {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    let mut send = || {
        stream.write_all(request.as_bytes()).unwrap();
        let reply = raw_on(&mut stream);
        assert!((400..500).contains(&reply.status), "{} {reply:?}", &request[..60]);
        // A malformed request is the last of its connection: the next one pays for a connection too.
        if reply.header("connection") == Some("close") {
            stream = TcpStream::connect(gateway.address).unwrap();
        }
    };
    // The first requests are not measured: they allocate memory that later ones use again.
    (0..3).for_each(|_| send());
    let before = gateway.cpu_time();
    (0..REQUESTS).for_each(|_| send());
    (gateway.cpu_time() - before).as_secs_f64() * 1e6 / REQUESTS as f64
}

/// The exponent of the growth: 1 when twice the size costs twice as much.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.max(1.0).ln())).collect();
    let n = logs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
    let covariance: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    covariance / logs.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")
}

#[test]
fn a20_the_cost_of_a_stranger_grows_at_most_with_the_size_of_the_request() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, 0);
    let fill = |piece: &str, size: usize| piece.repeat(size / piece.len());
    let lines = |name: &str, size: usize| -> String {
        (0..100).map(|n| format!("{name}{n}: {}\r\n", "v".repeat(size / 100 - name.len() - 6))).collect()
    };
    type Make<'m> = Box<dyn Fn(usize) -> String + 'm>;
    let one = |name: &'static str, piece: &'static str| -> Make<'_> {
        Box::new(move |size| get("/", &format!("{name}: {}\r\n", piece.repeat(size / piece.len()))))
    };
    let dimensions: Vec<(&str, Make<'_>)> = vec![
        ("segments", Box::new(|size| get(&fill("/a", size), ""))),
        ("escapes in the path", Box::new(|size| get(&format!("/{}", fill("%C3%A9", size)), ""))),
        ("parameters", Box::new(|size| get(&format!("/?a=1{}", fill("&a=1", size)), ""))),
        ("escaped parameters", Box::new(|size| get(&format!("/?a=1{}", fill("&%6be=1", size)), ""))),
        ("headers", Box::new(|size| get("/", &lines("x-header-", size)))),
        ("reserved headers", Box::new(|size| get("/", &lines("x_authenticated_", size)))),
        ("cookies", one("Cookie", "c=1; ")),
        ("empty cookies", one("Cookie", ";")),
        ("hop-by-hop names", one("Connection", "x-a,")),
        (
            "as many hop-by-hop names as are taken",
            Box::new(|size| {
                get("/", &format!("Connection: x{}\r\n", format!(",{}", "a".repeat(size / 128)).repeat(127)))
            }),
        ),
        ("languages", one("Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\nAccept-Language", "de;q=0.5,")),
        ("a bearer token", one("Authorization: Bearer a", ".a")),
        ("a Basic credential", one("Authorization: Basic YTph", "YWFh")),
        ("Digest parameters", one("Authorization: Digest a=1", ",b=\"1\"")),
        ("an API key", one("X-Api-Key", "a")),
        ("certificates", one("X-Forwarded-Client-Cert", "By=a;URI=\"b\",")),
    ];
    let mut costly = Vec::new();
    for (name, request) in dimensions {
        let request = |size| request(size).replacen(": Bearer a: ", ": Bearer a", 1).replacen("YTph: ", "YTph", 1);
        let request = |size| request(size).replacen("Digest a=1: ", "Digest a=1", 1);
        let points: Vec<(f64, f64)> = SIZES.iter().map(|&size| (size as f64, cost(&gateway, &request(size)))).collect();
        let (exponent, most) = (exponent(&points), points.last().unwrap().1);
        println!("{name}: exponent {exponent:.2}, {most:.0} µs at 60 KiB");
        if exponent >= 1.5 || most >= MOST_MICROSECONDS {
            costly.push(format!("{name}: {points:?}"));
        }
    }
    assert!(costly.is_empty(), "{costly:#?}");
    assert_eq!(upstream.received(), "");
}

#[test]
fn a20_the_cost_of_a_stranger_does_not_grow_with_the_routes() {
    let upstream = Upstream::new();
    let points: Vec<(f64, f64)> = [20, 80, 320]
        .iter()
        .map(|&routes| (routes as f64, cost(&gateway(&upstream, routes), &get("/a/b/c", ""))))
        .collect();
    println!("routes: {points:?}");
    assert!(exponent(&points) < 0.5, "{points:?}");
}
