//! Requests that callers sign (RFC 9421): what is let in, what is refused and why, and that a library of another author
//! in another language is understood.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, eventually, interop_libraries, now, open_to, raw};
use idm_types::Algorithm;
use sha2::{Digest, Sha256};

/// Components that the default wants, in an order of the caller's own.
const ALL: &str = "\"@method\" \"@path\" \"@query\" \"@authority\"";
const SECRET: &str = "a secret of thirty-two bytes....";

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    ana: SigningKey,
    bob: SigningKey,
}

/// A request before it is signed.
#[derive(Clone)]
struct Request<'r> {
    method: &'r str,
    target: &'r str,
    host: &'r str,
    headers: String,
    body: &'r str,
}

const GET: Request<'static> = Request { method: "GET", target: "/a?b=c", host: "a", headers: String::new(), body: "" };

fn post(body: &'static str, digest_of: &str) -> Request<'static> {
    let digest = STANDARD.encode(Sha256::digest(digest_of));
    let headers = format!("Content-Length: {}\r\nContent-Digest: sha-256=:{digest}:\r\n", body.len());
    Request { method: "POST", headers, body, ..GET }
}

fn credential(name: &str, key: &str, more: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
         spec: {{signature: {{keys: [{key}]}}, roles: [reader]{more}}}\n"
    )
}

/// The public key as a line of YAML.
fn public(id: &str, algorithm: &str, key: &SigningKey) -> String {
    format!("{{id: {id}, algorithm: {algorithm}, publicKey: '{}'}}", key.public().unwrap().reveal())
}

fn bed<G: Serves>(method: &str) -> Bed<G> {
    bed_with(method, "")
}

fn bed_with<G: Serves>(method: &str, policy: &str) -> Bed<G> {
    let upstream = Upstream::new();
    let ana = SigningKey::generate(Algorithm::EdDSA, "ana").unwrap();
    let bob = SigningKey::generate(Algorithm::ES256, "bob").unwrap();
    let old = public("old", "ed25519", &ana);
    let old = format!("{}, expireTime: '2020-01-01T00:00:00Z'}}", old.strip_suffix('}').unwrap());
    let yaml = [
        open_to(&upstream, &format!("    - {{name: signed, signature: {{{method}}}}}\n{policy}")),
        credential("ana", &[public("ana", "ed25519", &ana), old].join(", "), ""),
        credential("bob", &public("bob", "ecdsa-p256-sha256", &bob), ", suspend: true"),
        credential("shared", "{id: shared, algorithm: hmac-sha256, secretRef: {name: shared}}", ""),
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: shared}}\nstringData: {{secret: '{SECRET}'}}\n"),
    ];
    Bed { gateway: G::start_with(&[("all.yaml", &yaml.concat())], &[]), upstream, ana, bob }
}

/// The parameters of a signature by this key, made now.
fn by(keyid: &str, nonce: &str) -> String {
    format!("created={};keyid=\"{keyid}\";nonce=\"{nonce}\"", now())
}

/// The fields of one signature over the components, as their RFC says them and not as the gateway reads them.
fn fields(key: &SigningKey, request: &Request<'_>, components: &str, parameters: &str) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let header = |name: &str| {
        let lines = request.headers.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<&str> = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect();
        values.join(", ")
    };
    let mut base = String::new();
    for component in components.split_whitespace() {
        let value = match component.trim_matches('"') {
            "@method" => request.method.to_owned(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            "@authority" => request.host.to_owned(),
            "@target-uri" => format!("http://{}{}", request.host, request.target),
            name => header(name),
        };
        base.push_str(&format!("{component}: {value}\n"));
    }
    let list = format!("({components});{parameters}");
    let signature = key.sign_bytes(format!("{base}\"@signature-params\": {list}").as_bytes()).unwrap();
    format!("Signature-Input: s={list}\r\nSignature: s=:{}:\r\n", STANDARD.encode(signature))
}

impl<G: Serves> Bed<G> {
    fn send(&self, request: &Request<'_>, more: &str) -> Reply {
        let Request { method, target, host, headers, body } = request;
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}{more}\r\n{body}");
        raw(self.gateway.address(), text.as_bytes())
    }

    fn refused(&self, request: &Request<'_>, more: &str, status: u16, reason: &str) -> (Reply, String) {
        self.upstream.forget();
        let before = self.gateway.records().len();
        let reply = self.send(request, more);
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record:#}");
        assert_eq!((self.upstream.received().as_str(), self.gateway.records().len()), ("", before + 1));
        let detail = record["detail"].as_str().unwrap_or_default().to_owned();
        (reply, detail)
    }
}

#[test]
fn a_signed_request_is_let_in_and_the_upstream_gets_it_without_the_signature() {
    let bed: Bed<Gateway> = bed("");
    let status = bed.send(&GET, &fields(&bed.ana, &GET, ALL, &by("ana", "1"))).status;
    let record = eventually("a record", || bed.gateway.records().pop().ok_or("none yet".into()));
    assert_eq!(status, 200, "{record:#}");
    let text = |name: &str| record["identity"][name].as_str();
    assert_eq!((text("credential"), text("kid")), (Some("ana"), Some("ana")));
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana") && seen.contains("x-authenticated-userroles: reader"),
        "{seen}"
    );
    assert!(!seen.contains("signature"), "{seen}");
    let body = post("{\"a\": 1}", "{\"a\": 1}");
    let components = format!("{ALL} \"content-digest\"");
    bed.upstream.forget();
    assert_eq!(bed.send(&body, &fields(&bed.ana, &body, &components, &by("ana", "2"))).status, 200);
    assert!(bed.upstream.received().ends_with("{\"a\": 1}") && bed.upstream.received().contains("ontent-"));
    // The target URI is everything that the default wants of the target.
    let uri = "\"@method\" \"@target-uri\"";
    assert_eq!(bed.send(&GET, &fields(&bed.ana, &GET, uri, &by("ana", "3"))).status, 200);
    let shared = SigningKey::from_jwk(&octets(SECRET), Algorithm::HS256).unwrap();
    let parameters = format!("{};alg=\"hmac-sha256\"", by("shared", "4"));
    assert_eq!(bed.send(&GET, &fields(&shared, &GET, ALL, &parameters)).status, 200);
    // Successes are on record within milliseconds.
    eventually("the records", || (bed.gateway.records().len() == 4).then_some(()).ok_or("not yet".into()));
    // A body in chunks has no length, and is a body.
    let headers = "Transfer-Encoding: chunked\r\n".to_owned();
    let chunked = Request { headers, body: "2\r\n{}\r\n0\r\n\r\n", ..post("", "") };
    bed.refused(&chunked, &fields(&bed.ana, &chunked, ALL, &by("ana", "5")), 401, "SignatureCoversTooLittle");
    let digest = STANDARD.encode(Sha256::digest("{}"));
    let headers = format!("Transfer-Encoding: chunked\r\nContent-Digest: sha-256=:{digest}:\r\n");
    let chunked = Request { headers, ..chunked };
    assert_eq!(bed.send(&chunked, &fields(&bed.ana, &chunked, &components, &by("ana", "6"))).status, 200);
    assert!(!bed.gateway.log().contains(SECRET));
}

fn octets(secret: &str) -> idm_jose::Jwk {
    let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    idm_jose::Jwk::parse(format!("{{\"kty\":\"oct\",\"k\":\"{k}\"}}").as_bytes()).unwrap()
}

#[test]
fn what_is_not_signed_rightly_is_refused_for_its_own_reason() {
    let bed: Bed = bed("");
    let sign =
        |request: &Request<'_>, components: &str, parameters: &str| fields(&bed.ana, request, components, parameters);
    let good = || sign(&GET, ALL, &by("ana", "once"));
    let (asked, _) = bed.refused(&GET, "", 401, "NoCredentials");
    assert_eq!(asked.header("www-authenticate"), Some("Signature realm=\"default/p\""));
    let wanted = "sig=(\"@method\" \"@authority\" \"@path\" \"@query\");created";
    assert_eq!(asked.header("accept-signature"), Some(wanted));

    bed.refused(&GET, &good().replace("keyid=\"ana\"", "keyid=\"eve\""), 401, "UnknownSignatureKey");
    bed.refused(&GET, &sign(&GET, ALL, &format!("{};tag=\"other\"", by("ana", "1"))), 401, "UnknownSignatureKey");
    bed.refused(&GET, &good().replace("Signature-Input: s=(", "Signature-Input: s="), 401, "MalformedSignature");
    bed.refused(&GET, "Signature: keyId=\"ana\",signature=\"AA==\"\r\n", 401, "MalformedSignature");
    let twice = format!("{}Signature: s=:AA==:\r\n", good());
    bed.refused(&GET, &twice, 401, "MalformedSignature");

    // Each covered part counts.
    for other in [
        Request { method: "DELETE", ..GET },
        Request { target: "/b?b=c", ..GET },
        Request { target: "/a?b=d", ..GET },
        Request { target: "/a", ..GET },
        Request { host: "b", ..GET },
    ] {
        bed.refused(&other, &good(), 401, "WrongSignature");
    }
    bed.refused(&GET, &good().replace("nonce=\"once\"", "nonce=\"more\""), 401, "WrongSignature");
    let named = sign(&GET, ALL, &format!("{};alg=\"rsa-pss-sha512\"", by("ana", "1")));
    let (_, detail) = bed.refused(&GET, &named, 401, "WrongSignature");
    assert!(detail.contains("for ed25519"), "{detail}");
    let forged = fields(&bed.bob, &GET, ALL, &by("ana", "1"));
    bed.refused(&GET, &forged, 401, "WrongSignature");

    let (_, detail) =
        bed.refused(&GET, &sign(&GET, "\"@method\" \"@path\"", &by("ana", "1")), 401, "SignatureCoversTooLittle");
    assert!(detail.contains("@authority, @query"), "{detail}");
    let body = post("{}", "{}");
    bed.refused(&body, &sign(&body, ALL, &by("ana", "1")), 401, "SignatureCoversTooLittle");
    for (created, more) in [(now() - 71, ""), (now() + 20, ""), (now(), ";expires=1")] {
        let parameters = format!("created={created}{more};keyid=\"ana\"");
        bed.refused(&GET, &sign(&GET, ALL, &parameters), 401, "SignatureNotInTime");
    }
    bed.refused(&GET, &sign(&GET, ALL, "keyid=\"ana\""), 401, "SignatureNotInTime");
    bed.refused(&GET, &sign(&GET, ALL, &by("old", "1")), 401, "CredentialExpired");
    bed.refused(&GET, &fields(&bed.bob, &GET, ALL, &by("bob", "1")), 401, "CredentialSuspended");
    let two = format!("{}{}", good(), fields(&bed.bob, &GET, ALL, &by("bob", "1")).replace(" s=", " t="));
    bed.refused(&GET, &two, 400, "AmbiguousCredential");
    // A signature of somebody else beside the caller's changes nothing.
    let other = "Signature-Input: t=(\"@status\");keyid=\"proxy\"\r\nSignature: t=:AA==:\r\n";
    assert_eq!(bed.send(&GET, &format!("{}{other}", good())).status, 200);
}

#[test]
fn a_request_is_taken_once() {
    let bed: Bed = bed("");
    let first = fields(&bed.ana, &GET, ALL, &by("ana", "n"));
    assert_eq!(bed.send(&GET, &first).status, 200);
    bed.refused(&GET, &first, 401, "ReplayedSignature");
    // Another request with the nonce, and the same content without one.
    let other = Request { target: "/other", ..GET };
    bed.refused(&other, &fields(&bed.ana, &other, ALL, &by("ana", "n")), 401, "ReplayedSignature");
    let bare = fields(&bed.ana, &GET, ALL, &format!("created={};keyid=\"ana\"", now()));
    assert_eq!(bed.send(&GET, &bare).status, 200);
    bed.refused(&GET, &bare, 401, "ReplayedSignature");
    let replayable: Bed = self::bed("dangerReplayable: true, tag: shop");
    let again = fields(&replayable.ana, &GET, ALL, &format!("{};tag=\"shop\"", by("ana", "n")));
    assert_eq!([replayable.send(&GET, &again).status, replayable.send(&GET, &again).status], [200, 200]);
    replayable.refused(&GET, &fields(&replayable.ana, &GET, ALL, &by("ana", "m")), 401, "UnknownSignatureKey");
}

#[test]
fn a_body_that_was_not_signed_goes_nowhere() {
    let bed: Bed = bed("");
    let components = format!("{ALL} \"content-digest\"");
    let altered = post("{\"amount\": 9}", "{\"amount\": 1}");
    let (reply, detail) =
        bed.refused(&altered, &fields(&bed.ana, &altered, &components, &by("ana", "1")), 400, "ContentDigestMismatch");
    assert!(detail.contains("sha-256") && reply.header("x-decision-id").is_some(), "{detail}");
    let unknown = Request { headers: "Content-Length: 2\r\nContent-Digest: md5=:AA==:\r\n".into(), ..post("{}", "{}") };
    bed.refused(&unknown, &fields(&bed.ana, &unknown, &components, &by("ana", "2")), 401, "MalformedSignature");
    let digest = STANDARD.encode(Sha256::digest("{}"));
    // A digest that is covered counts also where there is no body.
    let headers = format!("Content-Digest: sha-256=:{digest}:\r\n");
    let empty = Request { headers, ..GET };
    bed.refused(&empty, &fields(&bed.ana, &empty, &components, &by("ana", "5")), 400, "ContentDigestMismatch");
}

#[test]
fn a_signed_header_that_the_gateway_removes_voids_the_signature() {
    let bed: Bed = bed("components: ['@method', '@target-uri', content-digest, x-order]");
    let components = "\"@method\" \"@target-uri\" \"x-order\"";
    let given = |headers: &str| Request { headers: headers.to_owned(), ..GET };
    let ordered = given("X-Order: 7\r\nX-Order: 8\r\n");
    assert_eq!(bed.send(&ordered, &fields(&bed.ana, &ordered, components, &by("ana", "1"))).status, 200);
    bed.refused(
        &GET,
        &fields(&bed.ana, &GET, "\"@method\" \"@target-uri\"", &by("ana", "2")),
        401,
        "SignatureCoversTooLittle",
    );
    // The upstream would read the other spelling as the header that is signed.
    let twice = given("X-Order: 7\r\nX_Order: 9\r\n");
    bed.upstream.forget();
    assert_eq!(bed.send(&twice, &fields(&bed.ana, &twice, components, &by("ana", "3"))).status, 200);
    assert!(!bed.upstream.received().to_ascii_lowercase().contains("x_order"));
    let forwarded = given("X-Order: 7\r\nX-Forwarded-For: 192.0.2.1\r\n");
    let components = format!("{components} \"x-forwarded-for\"");
    let (_, detail) =
        bed.refused(&forwarded, &fields(&bed.ana, &forwarded, &components, &by("ana", "4")), 401, "WrongSignature");
    assert!(detail.contains("the gateway may have removed it"), "{detail}");
    // `Connection` takes no field of the signature away, and a header that it takes away is missed.
    let listed = given("X-Order: 7\r\nX-Extra: 1\r\nConnection: x-extra, x-order, signature-input, signature\r\n");
    let with_extra = "\"@method\" \"@target-uri\" \"x-order\" \"x-extra\"";
    bed.refused(&listed, &fields(&bed.ana, &listed, with_extra, &by("ana", "5")), 401, "WrongSignature");
    let without = "\"@method\" \"@target-uri\" \"x-order\"";
    assert_eq!(bed.send(&listed, &fields(&bed.ana, &listed, without, &by("ana", "6"))).status, 200);
}

#[test]
fn keys_that_cannot_verify_are_said_before_they_serve() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let key = SigningKey::generate(Algorithm::EdDSA, "k").unwrap();
    let findings = |method: &str, keys: &str, more: &str| {
        let text = [
            open_to(&upstream, &format!("    - {{name: signed, signature: {{{method}}}}}\n")),
            credential("c", keys, ""),
            more.to_owned(),
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: short}\nstringData: {secret: short}\n".to_owned(),
        ];
        let (world, _) = read_files(&[("all.yaml".into(), text.concat())], Settings::of_a_folder(false)).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let good = public("k", "ed25519", &key);
    assert_eq!(findings("", &good, ""), "");
    for (keys, expected) in [
        (public("k", "rsa-pss-sha512", &key), "the key (OKP Ed25519) cannot be used with PS512"),
        (format!("{good}, {good}"), "key 'k' must be listed once"),
        (good.replace("ed25519, ", "hmac-sha256, "), "key must have `secretRef` for hmac-sha256"),
        ("{id: k, algorithm: ed25519, publicKey: hunter2}".into(), "the key must be PEM with one `BEGIN PUBLIC KEY`"),
        (good.replace("\"kty\"", "\"d\":\"hunter2\",\"kty\""), "the key has its private part"),
        (
            "{id: k, algorithm: hmac-sha256, secretRef: {name: short}}".into(),
            "must hold as many bytes as the hash of HS256",
        ),
        (good.replace("id: k,", "id: k, expireTime: later,"), "must be a time in UTC"),
    ] {
        let found = findings("", &keys, "");
        assert!(found.contains(expected) && !found.contains("hunter2"), "{expected}: {found}");
    }
    assert!(findings("components: ['@status']", &good, "").contains("'@status' must be a header in lower case"));
    let short = findings("components: ['@method', '@target-uri']", &good, "");
    assert!(short.contains("it need not cover content-digest"), "{short}");
    assert!(findings("dangerReplayable: true", &good, "").contains("can send it again"));
    let same = findings("", &good, &credential("d", &good, ""));
    assert!(same.contains("Credential 'c' already has the same name of a key"), "{same}");
}

/// The same signature is right in both versions of HTTP, whose requests look different.
#[test]
fn the_version_of_http_is_no_part_of_what_is_signed() {
    let bed: Bed<Gateway> = bed_with("dangerReplayable: true", "  upstream: {credential: Forward}\n");
    let host = bed.gateway.address().to_string();
    let request = Request { host: &host, ..post("{\"a\": 1}", "{\"a\": 1}") };
    let components = format!("{ALL} \"content-digest\" \"x-list\"");
    let request = Request { headers: format!("{}X-List: a\r\nX-List: b\r\n", request.headers), ..request };
    let signed = format!("{}{}", request.headers, fields(&bed.ana, &request, &components, &by("ana", "1")));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        bed.upstream.forget();
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", version, "--data-binary", request.body]);
        signed.lines().filter(|line| !line.starts_with("Content-Length")).for_each(|line| {
            curl.args(["-H", line]);
        });
        let output = curl.arg(format!("http://{host}{}", request.target)).output().expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{version}: {:#?}", bed.gateway.records());
        // Where the policy forwards the credential, both fields go on.
        let seen = bed.upstream.received().to_ascii_lowercase();
        assert!(seen.contains("\r\nsignature-input: ") && seen.contains("\r\nsignature: "), "{seen}");
    }
}

/// The client is `http-message-signatures` of PyPI, which nobody here wrote.
#[test]
fn a_stock_library_of_another_language_signs() {
    let libraries = interop_libraries();
    let bed: Bed<Gateway> = bed("");
    let output = Command::new(libraries.join("python/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/signed_request.py"))
        .arg(bed.gateway.address().to_string())
        .env("ED25519_SEED", bed.ana.reveal_jwk())
        .env("SHARED_SECRET", SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), "200 200 400 401", "{:#?}", bed.gateway.records());
}
