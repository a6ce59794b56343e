//! Services that check passwords over HTTP. One login is sent that cannot be right, and one that is right where a
//! person gives one; the difference between the answers becomes the Federation.

use anyhow::Context;
use idm_types::Redacted;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::directory::quoted;
use super::report::Report;
use super::{MAX_BYTES, Probe};

/// Members of an answer that may be an id, a user name or groups, the likeliest first.
const IDS: &[&str] = &["id", "uuid", "sub", "user_id", "userId"];
const USERNAMES: &[&str] = &["username", "login", "user", "name", "preferred_username", "email"];
const GROUPS: &[&str] = &["groups", "roles"];

/// An answer of the service.
struct Answer {
    status: StatusCode,
    body: Option<Map<String, Value>>,
    millis: u128,
}

/// Asks a service. `None`: something about it must be changed first, and the report says what.
pub(super) async fn probe(
    asked: &Probe,
    client: &reqwest::Client,
    report: &mut Report,
) -> anyhow::Result<Option<String>> {
    let right = match &asked.username {
        Some(username) => Some((username.clone(), super::login::password()?)),
        None => None,
    };
    if asked.url.starts_with("http://") {
        report.notable("transport", "plain http: gateways take that from Services of their own cluster only");
    }
    // A name that nobody has, so that no account is locked by the guess.
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).ok().context("the system gave no random bits")?;
    let nobody = format!("idm-probe-{}", idm_types::hex(&random));
    let Some(wrong) = ask(client, &asked.url, &nobody, &Redacted::new(nobody.clone()), "wrong login", report).await
    else {
        return Ok(None);
    };
    if wrong.status.is_success() {
        let fix = "a service that answers alike to right and wrong logins must say which it was in its answer";
        report.notable("wrong login", format!("a login that cannot be right is answered with {}: {fix}", wrong.status));
    }
    let Some((username, password)) = right else {
        report.notable(
            "right login",
            "not sent: give `--username`, and the password as the first line of standard input",
        );
        return Ok(Some(federation(asked, &wrong, None)));
    };
    let Some(right) = ask(client, &asked.url, &username, &password, "right login", report).await else {
        return Ok(None);
    };
    if right.status == wrong.status && right.body.as_ref().map(members) == wrong.body.as_ref().map(members) {
        report.failed(
            "right login",
            "it is answered like one that cannot be right",
            "check user name and password, and whether the service takes JSON with `username` and `password`",
        );
        return Ok(None);
    }
    match &right.body {
        Some(body) => report.good("members", members(body).join(", ")),
        None => report.failed("members", "the answer is no JSON object", "let the service answer who the person is"),
    }
    for (what, names) in [("id", IDS), ("user name", USERNAMES)] {
        match right.body.as_ref().and_then(|body| member(body, names)) {
            Some(name) => report.good(what, format!("`{name}`")),
            None => report.failed(what, "no member of the answer looks like it", "name it in `answer` by hand"),
        }
    }
    Ok(Some(federation(asked, &wrong, right.body.as_ref())))
}

/// Sends one login. `None`: there is no answer, and the report says why.
async fn ask(
    client: &reqwest::Client,
    url: &str,
    username: &str,
    password: &Redacted<String>,
    what: &str,
    report: &mut Report,
) -> Option<Answer> {
    let began = std::time::Instant::now();
    let body = json!({"username": username, "password": password.reveal()}).to_string();
    let sent = client.post(url).header("content-type", "application/json").header("accept", "application/json");
    let answer = match sent.body(body).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = "check the address, the network and the certificate (`--ca-file`)";
            report.failed("reached", &format!("{:#}", anyhow::Error::from(error.without_url())), fix);
            return None;
        }
    };
    let status = answer.status();
    let octets = match read(answer).await {
        Ok(octets) => octets,
        Err(why) => {
            report.failed(what, why, "let the service answer with a small JSON object");
            return None;
        }
    };
    let body = match serde_json::from_slice(&octets) {
        Ok(Value::Object(body)) => Some(body),
        _ => None,
    };
    let answer = Answer { status, body, millis: began.elapsed().as_millis() };
    let form = if answer.body.is_some() { "a JSON object" } else { "no JSON object" };
    report.good(what, format!("POST: {status}, {form} of {} bytes, {} ms", octets.len(), answer.millis));
    if status.is_redirection() {
        report.failed(what, "it redirects, which gateways do not follow", "give the address that it leads to");
        return None;
    }
    if status.is_server_error() || [404, 405, 415].contains(&status.as_u16()) {
        let fix = "give the address that takes POST with JSON; what takes something else is written by hand";
        report.failed(what, &format!("the service answers {status}"), fix);
        return None;
    }
    Some(answer)
}

async fn read(mut answer: reqwest::Response) -> Result<Vec<u8>, &'static str> {
    let mut octets = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| "the answer ended early")? {
        octets.extend_from_slice(&chunk);
        if octets.len() > MAX_BYTES {
            return Err("the answer is longer than 1 MiB");
        }
    }
    Ok(octets)
}

fn members(body: &Map<String, Value>) -> Vec<&str> {
    body.keys().map(String::as_str).collect()
}

/// The first of these names that the answer has. Names that are no member of an expression are passed over.
fn member<'a>(body: &Map<String, Value>, names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|name| body.get(*name).is_some_and(|value| !value.is_null()))
}

fn federation(asked: &Probe, wrong: &Answer, body: Option<&Map<String, Value>>) -> String {
    let name = &asked.name;
    let of = |names: &[&'static str], usual: &'static str| body.and_then(|body| member(body, names)).unwrap_or(usual);
    let groups = body.and_then(|body| member(body, GROUPS));
    let groups = groups.map(|name| format!("      groups: token.body.{name}\n")).unwrap_or_default();
    let (success, failure) = match wrong.status.as_u16() {
        status @ 400..500 => ("token.status == 200".to_owned(), format!("token.status == {status}")),
        _ => {
            let id = of(IDS, "id");
            let has = format!("has(token.body.{id})");
            (format!("token.status == 200 && {has}"), format!("token.status == 200 && !{has}"))
        }
    };
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: {name}}}\nspec:\n  rest:\n    \
         verify:\n      url: {}\n      json: {{username: '{{username}}', password: '{{password}}'}}\n    \
         answer:\n      \
         success: {}\n      failure: {}\n      id: token.body.{}\n      username: token.body.{}\n{groups}",
        quoted(&asked.url),
        quoted(&success),
        quoted(&failure),
        of(IDS, "id"),
        of(USERNAMES, "username"),
    )
}
