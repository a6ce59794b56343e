//! The service in another language: TLS, client certificates, and what arrives of what was typed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use idm_plan::SecretHandle;
use idm_tests::Authority;

use super::*;

const END: &str = "20400101000000Z";

/// The service, which ends with the test.
struct Service {
    child: Child,
    port: u16,
    lines: Receiver<String>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Service {
    fn start(authority: &Authority) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rest/service.py");
        let mut command = Command::new("python3");
        command.arg(program).args(["service.crt", "service.key", "ca.crt"].map(|file| authority.path(file)));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = output.next().unwrap().parse().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || output.try_for_each(|line| sender.send(line)));
        Self { child, port, lines }
    }

    /// The next request, as the service decoded it.
    fn decoded(&self) -> Value {
        serde_json::from_str(&self.lines.recv_timeout(Duration::from_secs(10)).unwrap()).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }
}

/// An authority with the certificates of the service and of the gateway.
fn authority() -> Authority {
    let authority = Authority::new("directories");
    authority.issue("service", "DNS:localhost", "serverAuth", END);
    authority.issue("gateway", "DNS:gateway", "clientAuth", END);
    authority
}

fn secrets(authority: &Authority) -> Secrets {
    let mut secrets = Secrets::default();
    let key = Redacted::new(authority.read("gateway.key").into_bytes());
    secrets.put(SecretHandle::of_secret("gateway", "tls.key"), key);
    secrets.put(SecretHandle::of_secret("api", "key"), Redacted::new(b"s3cret\n".to_vec()));
    secrets
}

fn tls(authority: &Authority) -> Option<DirectoryTls> {
    let key = SecretHandle::of_secret("gateway", "tls.key");
    let trust = ServerTrust::Roots(authority.read("ca.crt"));
    Some(DirectoryTls { trust, certificate: Some((authority.read("gateway.crt"), key)) })
}

/// The same question with its values at other leaves.
fn questions(service: &Service) -> Vec<(&'static str, RestRequest)> {
    let request = |path: &str| RestRequest { body: RestBody::Nothing, ..post(service.url(path)) };
    let word = || RestBody::Json(RestJson::Text(RestValue::Password));
    let form = vec![("name".into(), RestValue::Username), ("word".into(), RestValue::Password)];
    let headers = vec![("x-name".into(), RestValue::Username), ("x-word".into(), RestValue::Password)];
    vec![
        ("json", post(service.url("json"))),
        ("form", RestRequest { body: RestBody::Form(form), ..request("form") }),
        ("basic", RestRequest { headers: vec![("authorization".into(), RestValue::Basic)], ..request("basic") }),
        ("header", RestRequest { method: "GET".into(), headers, ..request("header") }),
        ("path", RestRequest { segments: vec![RestValue::Username], body: word(), ..request("path/") }),
        ("query", RestRequest { query: vec![("name".into(), RestValue::Username)], body: word(), ..request("query") }),
    ]
}

const TYPED: &[&str] = &[
    "ana",
    "Jörg Müller",
    "日本語 👩‍🚀",
    "a\", \"admin\": true, \"b\": \"",
    "\\\"}]}",
    "x&name=admin&word=right",
    "a+b c%20d%",
    "../../people/7?x#y",
    "a/b;c=d",
    "%2e%2e%2f%00",
    "{{password}} ${x} %u {0}",
    "a\r\nX-Admin: 1\r\n\r\nGET /people/7 HTTP/1.1\r\n",
    "a\0b",
    "a\tb",
    "a:b",
    " ana",
    "ana ",
    "..",
];

/// Whether the place cannot hold a user name as it is.
fn takes_no_name(place: &str, name: &str) -> bool {
    name.chars().any(char::is_control)
        || match place {
            "basic" => name.contains(':'),
            "header" => name != name.trim(),
            "path" => name == "..",
            _ => false,
        }
}

/// Whether the place cannot hold a password as it is.
fn takes_no_password(place: &str, word: &str) -> bool {
    let control = word.chars().any(char::is_control);
    match place {
        "basic" => control,
        "header" => control || word != word.trim(),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r55_every_leaf_arrives_as_it_was_typed_or_is_not_sent() {
    let authority = authority();
    let service = Service::start(&authority);
    let secrets = secrets(&authority);
    for (place, question) in questions(&service) {
        let directory = open(RestDirectory { tls: tls(&authority), ..plan(question) }, &secrets);
        for name in TYPED {
            let answer = directory.verify(login(name, "right")).await;
            if takes_no_name(place, name) {
                assert_eq!(answer, Ok(LoginAnswer::Unknown), "{place} {name:?}");
                continue;
            }
            let person = person(answer);
            assert_eq!((&*person.username, &*person.id), (*name, "7"), "{place}");
            assert_eq!(Value::Object(person.claims), serde_json::json!({"mail": "ana@corp.test"}));
            let decoded = service.decoded();
            assert_eq!((&decoded["name"], &decoded["word"]), (&(*name).into(), &"right".into()));
            assert_eq!((&decoded["segments"][0], &decoded["caller"]), (&place.into(), &"gateway".into()));
        }
        for word in TYPED {
            let answer = directory.verify(login("ana", word)).await;
            if takes_no_password(place, word) {
                assert_eq!(answer, WRONG, "{place} {word:?}");
            } else {
                assert_eq!(kind(answer), DirectoryErrorKind::Unusable, "{place} {word:?}");
                let decoded = service.decoded();
                assert_eq!((&decoded["name"], &decoded["word"]), (&"ana".into(), &(*word).into()), "{place}");
            }
        }
        assert_eq!(directory.verify(login("ana", "wrong")).await, WRONG, "{place}");
        service.decoded();
    }
    assert!(service.lines.try_recv().is_err(), "the service was asked for a name that was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_looked_up_again_by_id() {
    let authority = authority();
    let service = Service::start(&authority);
    let bearer = RestValue::Secret("Bearer ".into(), SecretHandle::of_secret("api", "key"));
    let look_up = RestRequest {
        method: "GET".into(),
        segments: vec![RestValue::Id],
        headers: vec![("authorization".into(), bearer)],
        body: RestBody::Nothing,
        ..post(service.url("people"))
    };
    let rest = RestDirectory { tls: tls(&authority), look_up: Some(look_up), ..plan(post(service.url("json"))) };
    let directory = open(rest, &secrets(&authority));
    let renamed = person(directory.look_up("a/b 7".into(), "ana".into()).await);
    assert_eq!((&*renamed.id, &*renamed.username), ("a/b 7", "renamed"));
    assert_eq!(directory.look_up("gone".into(), "ana".into()).await, Ok(LoginAnswer::Unknown));
    let nowhere = open(RestDirectory { tls: tls(&authority), ..plan(post(service.url("json"))) }, &secrets(&authority));
    assert_eq!(kind(nowhere.look_up("7".into(), "ana".into()).await), DirectoryErrorKind::Unusable);
}

#[tokio::test]
async fn another_id_than_the_one_asked_for_is_an_error() {
    let server = Scripted::start(vec![vec![json(200, PERSON), json(200, PERSON)]]).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let look_up = RestRequest { segments: vec![RestValue::Id], body: RestBody::Nothing, ..post(url.clone()) };
    let directory = open(RestDirectory { look_up: Some(look_up), ..plan(post(url)) }, &Secrets::default());
    assert_eq!(person(directory.look_up("7".into(), "ana".into()).await).id, "7");
    assert_eq!(kind(directory.look_up("8".into(), "ana".into()).await), DirectoryErrorKind::Unusable);
}

#[tokio::test(flavor = "multi_thread")]
async fn r44_steps_say_what_was_done_and_nothing_secret() {
    let authority = authority();
    let service = Service::start(&authority);
    let mut question = questions(&service).pop().unwrap().1;
    let key = RestValue::Secret(String::new(), SecretHandle::of_secret("api", "key"));
    question.query.push(("key".into(), key));
    let directory = open(RestDirectory { tls: tls(&authority), ..plan(question) }, &secrets(&authority));
    let mut all = Vec::new();
    for word in ["right", "wrong", "hunter2"] {
        let asked = login("ana", word);
        let _ = directory.verify(asked.clone()).await;
        all.extend(asked.steps.read());
    }
    let url = format!("POST {}?name=…&key=…", service.url("query"));
    for (at, status) in [(0, 200), (2, 401), (4, 418)] {
        assert!(all[at].starts_with(&format!("{url}: {status} after ")) && all[at].ends_with(" ms"), "{all:?}");
    }
    assert_eq!(all[1], "`success` is true: `ana` with 1 groups");
    assert_eq!(all[3], "`failure` is true");
    assert_eq!(all[5], format!("{url}: neither `success` nor `failure` is true for its answer 418"));
    assert!(!["right", "wrong", "hunter2", "s3cret"].iter().any(|secret| all.concat().contains(secret)), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_trusted_gets_no_password() {
    let (authority, other) = (authority(), Authority::new("others"));
    let service = Service::start(&authority);
    let secrets = secrets(&authority);
    let with = |url: String, tls| open(RestDirectory { tls, retries: 3, ..plan(post(url)) }, &secrets);
    let foreign = tls(&authority).map(|tls| DirectoryTls { trust: ServerTrust::Roots(other.read("ca.crt")), ..tls });
    let elsewhere = format!("https://127.0.0.1:{}/json", service.port);
    for directory in
        [with(service.url("json"), foreign), with(elsewhere, tls(&authority)), with(service.url("json"), None)]
    {
        assert_eq!(kind(verify(&directory).await), DirectoryErrorKind::Untrusted);
    }
    let without = tls(&authority).map(|tls| DirectoryTls { certificate: None, ..tls });
    // TLS 1.3 tells about it after the handshake, and perhaps after the connection has ended.
    let refused = kind(verify(&with(service.url("json"), without)).await);
    assert!([DirectoryErrorKind::RefusesUs, DirectoryErrorKind::Unavailable].contains(&refused), "{refused:?}");
    let plain = with(format!("http://localhost:{}/json", service.port), None);
    assert!(verify(&plain).await.is_err());
    assert!(service.lines.try_recv().is_err(), "the service was asked");
    assert_eq!(person(with(service.url("json"), tls(&authority)).verify(login("ana", "right")).await).id, "7");
}
