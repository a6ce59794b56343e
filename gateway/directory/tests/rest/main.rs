//! Services that know people: one in another language over TLS, and one that does everything wrong.

mod scripted;
mod service;

use std::sync::Arc;

use idm_directory::{Pool, Reach};
use idm_plan::{
    DirectorySource, DirectoryTls, Expr, ObjectKey, RestAnswer, RestBody, RestDirectory, RestJson, RestRequest,
    RestValue, Secrets, ServerTrust, Variable,
};
use idm_trust::{
    Directories, Directory, DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused, Password, Person,
    Steps,
};
use idm_types::Redacted;
use scripted::{Reply, Scripted, json};
use serde_json::Value;

const PERSON: &str = r#"{"id": "7", "name": "ana", "groups": ["staff"]}"#;

fn expr(text: &str) -> Expr {
    idm_expr::parse(text, &[Variable::Token]).unwrap()
}

fn answer() -> RestAnswer {
    RestAnswer {
        success: expr("token.status == 200 && !has(token.body.error)"),
        failure: expr("token.status in [401, 404] || token.body.error == 'credentials'"),
        id: expr("token.body.id"),
        username: expr("token.body.name"),
        groups: Some(expr("token.body.groups")),
        claims: vec![("mail".into(), expr("token.body.mail"))],
    }
}

/// A question that posts user name and password as JSON.
fn post(url: String) -> RestRequest {
    let words = RestJson::List(vec![RestJson::Text(RestValue::Password)]);
    let login = RestJson::Object(vec![("name".into(), RestJson::Text(RestValue::Username)), ("words".into(), words)]);
    RestRequest {
        method: "POST".into(),
        url,
        segments: vec![],
        query: vec![],
        headers: vec![],
        body: RestBody::Json(RestJson::Object(vec![("login".into(), login)])),
    }
}

fn plan(verify: RestRequest) -> RestDirectory {
    RestDirectory { verify, look_up: None, tls: None, retries: 0, answer: answer() }
}

/// A directory that serves; connections end with the pool's runtime.
fn open(rest: RestDirectory, secrets: &Secrets) -> Arc<dyn Directory> {
    let plan = idm_plan::Directory {
        source: DirectorySource::Rest(Box::new(rest)),
        realms: vec![],
        cache_seconds: 0,
        recheck_ms: None,
        keeps_sessions: false,
        changes_passwords: false,
        deadline_ms: 1_500,
        concurrency: 8,
        groups: vec![],
    };
    let key = ObjectKey { namespace: "shop".into(), name: "people".into() };
    Pool::new(Reach { local: false, api_server: None }).open(&key, &plan, secrets).unwrap()
}

/// The directory of a scripted server, with these repetitions.
fn asking(server: &Scripted, retries: u32) -> Arc<dyn Directory> {
    let verify = post(format!("http://127.0.0.1:{}/json", server.port));
    open(RestDirectory { retries, ..plan(verify) }, &Secrets::default())
}

fn login(username: &str, password: &str) -> Login {
    Login {
        username: username.into(),
        bare: None,
        password: Password::new(Redacted::new(password.into())).unwrap(),
        caller: None,
        steps: Steps::kept(),
    }
}

async fn verify(directory: &Arc<dyn Directory>) -> Result<LoginAnswer, DirectoryError> {
    directory.verify(login("ana", "hunter2")).await
}

fn person(answer: Result<LoginAnswer, DirectoryError>) -> Person {
    match answer {
        Ok(LoginAnswer::Verified(person)) => *person,
        other => panic!("nobody is verified: {other:?}"),
    }
}

fn kind(answer: Result<LoginAnswer, DirectoryError>) -> DirectoryErrorKind {
    let error = answer.unwrap_err();
    assert!(!error.detail.contains("hunter2"), "{error}");
    error.kind
}

const WRONG: Result<LoginAnswer, DirectoryError> = Ok(LoginAnswer::Refused(LoginRefused::WrongPassword));

#[tokio::test]
async fn r55_redirects_are_not_followed() {
    let elsewhere = Scripted::start(vec![vec![json(200, PERSON)]]).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("http://127.0.0.1:{}/json?p=hunter2", elsewhere.port);
        let redirect = format!("HTTP/1.1 {status} X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let server = Scripted::start(vec![vec![Reply::Send(redirect)]]).await;
        let error = verify(&asking(&server, 3)).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable);
        assert!(
            error.detail.contains("a redirect to http://127.0.0.1") && !error.detail.contains("hunter2"),
            "{error}"
        );
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn r55_status_and_body_decide_and_an_unknown_answer_is_nobodys_fault() {
    let script = [
        json(200, r#"{"error": "credentials"}"#),
        json(401, ""),
        json(200, r#"{"error": "database"}"#),
        json(418, PERSON),
        json(500, "{}"),
        Reply::Send("HTTP/1.1 204 X\r\n\r\n".into()),
        json(200, PERSON),
    ];
    let server = Scripted::start(vec![script.into()]).await;
    let directory = asking(&server, 3);
    assert_eq!(verify(&directory).await, WRONG);
    assert_eq!(verify(&directory).await, WRONG);
    for status in ["200", "418", "500", "204"] {
        let error = verify(&directory).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable);
        assert!(error.detail.contains(status), "{error}");
    }
    assert_eq!(person(verify(&directory).await).id, "7");
    assert_eq!((server.connections(), server.requests().len()), (1, 7));
}

#[tokio::test]
async fn answers_are_bounded_in_size_depth_and_time() {
    let long = "x".repeat(300 << 10);
    let chunk = format!("{:x}\r\n{}\r\n", 100 << 10, "x".repeat(100 << 10));
    let chunked = format!("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}0\r\n\r\n");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let headers = "a: b\r\n".repeat(200);
    for reply in [
        json(200, &long),
        json(200, &deep),
        Reply::Send(chunked),
        Reply::Send(format!("HTTP/1.1 200 X\r\na: {long}\r\n\r\n")),
        Reply::Send(format!("HTTP/1.1 200 X\r\n{headers}\r\n")),
        Reply::Send("HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n".into()),
        Reply::Send("SSH-2.0-OpenSSH_9.2\r\n".into()),
    ] {
        let server = Scripted::start(vec![vec![reply]]).await;
        assert_eq!(kind(verify(&asking(&server, 3)).await), DirectoryErrorKind::Unusable);
        assert_eq!(server.requests().len(), 1);
    }
    for reply in [Reply::Hang, Reply::Drip("HTTP/1.1 200 X\r\ncontent-length: 200000\r\n\r\n".into())] {
        let server = Scripted::start(vec![vec![reply], vec![json(200, PERSON)]]).await;
        let directory = asking(&server, 3);
        assert_eq!(kind(verify(&directory).await), DirectoryErrorKind::Unavailable);
        // A connection whose answer had not ended is not used again.
        assert_eq!(person(verify(&directory).await).username, "ana");
        assert_eq!((server.connections(), server.requests().len()), (2, 2));
    }
}

/// The directory of a scripted server, which is asked about people whom it knows by id.
fn looking_up(server: &Scripted, retries: u32) -> Arc<dyn Directory> {
    let address = format!("http://127.0.0.1:{}", server.port);
    let look_up = RestRequest {
        method: "GET".into(),
        url: format!("{address}/people"),
        segments: vec![RestValue::Id],
        body: RestBody::Nothing,
        ..post(address.clone())
    };
    open(RestDirectory { retries, look_up: Some(look_up), ..plan(post(address)) }, &Secrets::default())
}

async fn look_up(directory: &Arc<dyn Directory>) -> Result<LoginAnswer, DirectoryError> {
    directory.look_up("7".into(), "ana".into()).await
}

#[tokio::test]
async fn r06_a_password_that_was_sent_is_not_sent_again() {
    for lost in [Reply::Close, json(502, ""), json(503, "{}"), json(504, "")] {
        let server = Scripted::start(vec![vec![lost.clone(), json(200, PERSON)], vec![json(200, PERSON)]]).await;
        let error = verify(&asking(&server, 3)).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_ends_connections_is_not_left_alone() {
    let mut script = vec![vec![Reply::Close]; 8];
    script.push(vec![json(200, PERSON)]);
    let server = Scripted::start(script).await;
    let directory = asking(&server, 0);
    for _ in 0..8 {
        assert_eq!(kind(verify(&directory).await), DirectoryErrorKind::Unusable);
    }
    assert_eq!(person(verify(&directory).await).id, "7", "one caller's requests shut it off for nobody");
}

#[tokio::test]
async fn a_question_without_an_answer_is_repeated_and_one_with_an_answer_is_not() {
    let server = Scripted::start(vec![vec![Reply::Close], vec![Reply::Close], vec![json(200, PERSON)]]).await;
    assert_eq!(person(look_up(&looking_up(&server, 2)).await).id, "7");
    assert_eq!(server.connections(), 3);

    let server = Scripted::start(vec![vec![Reply::Close], vec![json(200, PERSON)]]).await;
    assert_eq!(kind(look_up(&looking_up(&server, 0)).await), DirectoryErrorKind::Unusable);
    assert_eq!(server.connections(), 1);

    let server = Scripted::start(vec![vec![json(503, "{}"), json(502, ""), json(504, ""), json(200, PERSON)]]).await;
    assert_eq!(person(look_up(&looking_up(&server, 3)).await).id, "7");
    assert_eq!((server.connections(), server.requests().len()), (1, 4));

    let server = Scripted::start(vec![vec![json(503, "{}"); 3]]).await;
    let error = look_up(&looking_up(&server, 2)).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("503"), "{error}");
    assert_eq!(server.requests().len(), 3);

    for answered in [
        Reply::SendAndClose("HTTP/1.1 2".into()),
        Reply::SendAndClose("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{".into()),
        json(500, "{}"),
        json(401, ""),
    ] {
        let server = Scripted::start(vec![vec![answered], vec![json(200, PERSON)]]).await;
        assert!(!matches!(look_up(&looking_up(&server, 3)).await, Ok(LoginAnswer::Verified(_))));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_is_replaced_once() {
    let script = [vec![json(200, PERSON), Reply::Close], vec![json(200, PERSON), Reply::Close], vec![Reply::Close]];
    let server = Scripted::start(script.into()).await;
    let directory = asking(&server, 0);
    for connections in [1, 2] {
        assert_eq!(person(verify(&directory).await).id, "7");
        assert_eq!(server.connections(), connections);
    }
    assert_eq!(kind(verify(&directory).await), DirectoryErrorKind::Unusable);
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn nobody_listens_and_an_interim_answer_is_no_answer() {
    let port = idm_tests::free_port();
    let directory = open(plan(post(format!("http://127.0.0.1:{port}/"))), &Secrets::default());
    assert_eq!(kind(verify(&directory).await), DirectoryErrorKind::Unavailable);
    let Reply::Send(answer) = json(200, PERSON) else { unreachable!() };
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let server = Scripted::start(vec![vec![Reply::Send(format!("{interim}{answer}"))]]).await;
    assert_eq!(person(verify(&asking(&server, 0)).await).id, "7");
}

#[tokio::test]
async fn r27_the_service_must_speak_of_the_name_that_was_typed() {
    let named = |name: &str| json(200, &PERSON.replace("ana", name));
    let server = Scripted::start(vec![vec![named("ANA"), named("admin"), named("ana "), named("ana@corp.test")]]).await;
    let directory = asking(&server, 0);
    assert_eq!(person(verify(&directory).await).username, "ANA");
    for other in ["admin", "ana "] {
        let asked = login("ana", "hunter2");
        assert_eq!(directory.verify(asked.clone()).await, Ok(LoginAnswer::Unknown));
        let steps = asked.steps.read();
        assert!(steps.last().unwrap().contains(&format!("`{other}`, which is not `ana`")), "{steps:?}");
    }
    let typed = Login { username: "Ana@CORP.test".into(), bare: Some("Ana".into()), ..login("x", "hunter2") };
    assert_eq!(person(directory.verify(typed).await).username, "ana@corp.test");
}

#[tokio::test]
async fn a_domain_is_left_out_and_a_suffix_is_not() {
    let server = Scripted::start(vec![vec![json(200, PERSON), json(200, PERSON)]]).await;
    let directory = asking(&server, 0);
    for (username, sent) in [("CORP\\ana", r#""name":"ana""#), ("ana@corp.test", r#""name":"ana@corp.test""#)] {
        let typed = Login { username: username.into(), bare: Some("ana".into()), ..login("x", "hunter2") };
        assert_eq!(person(directory.verify(typed).await).username, "ana");
        let asked = server.requests().pop().unwrap();
        assert!(asked.contains(sent), "{asked}");
    }
}
