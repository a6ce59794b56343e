//! Services that are asked over HTTP whether a password is right.

use idm_api::v1alpha1 as wire;
use idm_plan::{RestAnswer, RestBody, RestDirectory, RestJson, RestRequest, RestValue, Secrets, Variable};
use serde_json::{Map, Value};
use url::Url;

use super::Notes;
use super::keys::{judge_url, secret_text};
use super::mtls::lower_directory_tls;
use super::policy::expr;
use crate::{Cause, World};

/// Claims that the gateway writes itself.
const OWN_CLAIMS: &[&str] = &["iss", "sub", "preferred_username", "groups", "mappedGroups"];
/// Headers that belong to the connection.
const OWN_HEADERS: &[&str] = &["host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade"];

pub(crate) fn lower_rest(
    world: &World,
    rest: &wire::RestDirectory,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<RestDirectory> {
    let wire::RestDirectory { verify, look_up, tls, retries, answer } = rest;
    let tls = match tls {
        Some(tls) => Some(lower_directory_tls(world, "spec.rest.tls", tls, secrets, notes)?),
        None => None,
    };
    let path = "spec.rest.verify";
    let question = lower_request(world, path, verify, secrets, notes)?;
    let values = values(&question);
    if !values.iter().any(|value| matches!(value, RestValue::Password | RestValue::Basic)) {
        let message = "the request must carry the password: write `{password}` in `json` or `form`, or a header \
                       `Authorization` with `basic: {}`";
        return notes.fail(path, Cause::Invalid, message);
    }
    if values.contains(&&RestValue::Id) {
        return notes.fail(
            path,
            Cause::Invalid,
            "`{id}` is known only where people are looked up again: use `{username}`",
        );
    }
    let look_up = match look_up {
        Some(request) => Some(lower_look_up(world, request, secrets, notes)?),
        None => None,
    };
    let Ok(retries @ 0..=3) = u32::try_from(retries.unwrap_or(1)) else {
        return notes.fail("spec.rest.retries", Cause::Invalid, "retries must be between 0 and 3");
    };
    Some(RestDirectory { verify: question, look_up, tls, retries, answer: lower_answer(answer, notes)? })
}

fn lower_look_up(
    world: &World,
    request: &wire::RestRequest,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<RestRequest> {
    let path = "spec.rest.lookUp";
    let question = lower_request(world, path, request, secrets, notes)?;
    let values = values(&question);
    if values.iter().any(|value| matches!(value, RestValue::Password | RestValue::Basic)) {
        return notes.fail(path, Cause::Invalid, "the password is not known where people are looked up again");
    }
    if !values.iter().any(|value| matches!(value, RestValue::Id | RestValue::Username)) {
        let message = "the request must have `{id}` or `{username}`: otherwise it is about everybody";
        return notes.fail(path, Cause::Invalid, message);
    }
    Some(question)
}

/// Every value of a request.
fn values(request: &RestRequest) -> Vec<&RestValue> {
    fn of_json<'j>(json: &'j RestJson, all: &mut Vec<&'j RestValue>) {
        match json {
            RestJson::Text(value) => all.push(value),
            RestJson::Constant(_) => {}
            RestJson::List(items) => items.iter().for_each(|item| of_json(item, all)),
            RestJson::Object(members) => members.iter().for_each(|(_, member)| of_json(member, all)),
        }
    }
    let RestRequest { method: _, url: _, segments, query, headers, body } = request;
    let mut all: Vec<&RestValue> = segments.iter().collect();
    all.extend(query.iter().chain(headers).map(|(_, value)| value));
    match body {
        RestBody::Nothing => {}
        RestBody::Json(json) => of_json(json, &mut all),
        RestBody::Form(form) => all.extend(form.iter().map(|(_, value)| value)),
    }
    all
}

fn lower_request(
    world: &World,
    path: &str,
    request: &wire::RestRequest,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<RestRequest> {
    let wire::RestRequest { method, url, headers, json, form } = request;
    let body = match (json, form) {
        (None, None) => RestBody::Nothing,
        (Some(json), None) => RestBody::Json(lower_object(&format!("{path}.json"), json, 8, notes)?),
        (None, Some(form)) => RestBody::Form(
            form.iter().map(|wire::RestParameter { name, value }| (name.clone(), placeholder(value))).collect(),
        ),
        (Some(_), Some(_)) => {
            return notes.fail(path, Cause::Invalid, "request must have at most one of `json`, `form`");
        }
    };
    for value in form.iter().flatten().map(|parameter| &parameter.value) {
        check_text(&format!("{path}.form"), value, notes)?;
    }
    let method = match (method, &body) {
        (None, RestBody::Nothing) | (Some(wire::RestMethod::Get), RestBody::Nothing) => "GET",
        (Some(wire::RestMethod::Get), _) => {
            return notes.fail(format!("{path}.method"), Cause::Invalid, "GET must not have a body");
        }
        (None | Some(wire::RestMethod::Post), _) => "POST",
        (Some(wire::RestMethod::Put), _) => "PUT",
    };
    let (url, segments, query) = lower_url(world, &format!("{path}.url"), url, notes)?;
    let headers = lower_headers(world, path, headers.as_deref().unwrap_or_default(), secrets, notes)?;
    Some(RestRequest { method: method.to_owned(), url, segments, query, headers, body })
}

type Query = Vec<(String, RestValue)>;

/// The fixed part of a URL, the segments behind it, and the parameters.
fn lower_url(world: &World, path: &str, text: &str, notes: &mut Notes<'_>) -> Option<(String, Vec<RestValue>, Query)> {
    if text.contains("{password}") {
        let message = "a password must not be in a URL, which servers and proxies log: write it in `json` or `form`";
        return notes.fail(path, Cause::Invalid, message);
    }
    let (address, query) = text.split_once('?').map_or((text, None), |(address, query)| (address, Some(query)));
    if query.is_some_and(|query| query.contains('#')) || address.contains('#') {
        return notes.fail(path, Cause::Invalid, "the URL must have no fragment");
    }
    let fixed = address.find('{').map_or(address, |at| &address[..at]);
    // The values begin at a segment of their own.
    let (fixed, rest) = match address.strip_prefix(fixed) {
        Some("") | None => (address, ""),
        Some(rest) if fixed.ends_with('/') && fixed.matches('/').count() >= 3 => (fixed, rest),
        Some(_) => return notes.fail(path, Cause::Invalid, WHOLE),
    };
    if let Err(why) = judge_url(world, fixed) {
        return notes.fail(path, Cause::Invalid, why);
    }
    let mut segments = Vec::new();
    for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
        check_text(path, segment, notes)?;
        segments.push(placeholder(segment));
    }
    let mut parameters = Vec::new();
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        check_text(path, value, notes)?;
        let plain = |text: &str| {
            let text = format!("{text}=");
            let decoded = url::form_urlencoded::parse(text.as_bytes()).next();
            decoded.map(|(text, _)| text.into_owned()).unwrap_or_default()
        };
        let value = match placeholder(value) {
            RestValue::Text(text) => RestValue::Text(plain(&text)),
            other => other,
        };
        parameters.push((plain(name), value));
    }
    match Url::parse(fixed) {
        Ok(url) => Some((url.as_str().trim_end_matches('/').to_owned(), segments, parameters)),
        Err(_) => notes.fail(path, Cause::Invalid, format!("'{text}' must be a URL")),
    }
}

const WHOLE: &str = "`{username}`, `{password}` and `{id}` must stand as a whole: a segment of the path, a parameter, \
    a header or a text of the body, with nothing before or behind";

fn lower_headers(
    world: &World,
    path: &str,
    headers: &[wire::RestHeader],
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Option<Vec<(String, RestValue)>> {
    let mut lowered: Vec<(String, RestValue)> = Vec::new();
    for (i, wire::RestHeader { name, value, basic, secret_ref, prefix }) in headers.iter().enumerate() {
        let path = format!("{path}.headers[{i}]");
        let name = name.to_ascii_lowercase();
        if OWN_HEADERS.contains(&name.as_str()) || lowered.iter().any(|(known, _)| *known == name) {
            let message = format!("the header '{name}' must be written once, and not if the gateway writes it itself");
            return notes.fail(format!("{path}.name"), Cause::Invalid, message);
        }
        let value = match (value, basic, secret_ref) {
            (Some(text), None, None) => {
                check_text(&format!("{path}.value"), text, notes)?;
                let value = placeholder(text);
                if value == RestValue::Password || text.chars().any(char::is_control) {
                    let message = "a header must not hold `{password}` or control characters: use `basic: {}`, `json` \
                                   or `form` for the password";
                    return notes.fail(format!("{path}.value"), Cause::Invalid, message);
                }
                value
            }
            (None, Some(wire::RestBasic {}), None) if name == "authorization" => RestValue::Basic,
            (None, Some(_), None) => {
                return notes.fail(format!("{path}.basic"), Cause::Invalid, "`basic` is for `Authorization` alone");
            }
            (None, None, Some(reference)) => {
                let path = format!("{path}.secretRef");
                let (handle, text) = secret_text(world, &path, reference, "token", secrets, notes)?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() || text.chars().any(char::is_control) {
                    let message = format!("Secret '{}' must hold one line of text", reference.name);
                    return notes.fail(path, Cause::InvalidRef, message);
                }
                RestValue::Secret(prefix.clone().unwrap_or_default(), handle)
            }
            _ => {
                let message = "header must have exactly one of `value`, `basic`, `secretRef`";
                return notes.fail(path, Cause::Invalid, message);
            }
        };
        if prefix.is_some() && secret_ref.is_none() {
            return notes.fail(format!("{path}.prefix"), Cause::Invalid, "`prefix` must be set only with `secretRef`");
        }
        lowered.push((name, value));
    }
    Some(lowered)
}

fn lower_object(path: &str, object: &Map<String, Value>, depth: usize, notes: &mut Notes<'_>) -> Option<RestJson> {
    let members = object.iter().map(|(name, value)| {
        if name.contains('{') {
            return notes.fail(path, Cause::Invalid, WHOLE);
        }
        Some((name.clone(), lower_json(path, value, depth, notes)?))
    });
    Some(RestJson::Object(members.collect::<Option<_>>()?))
}

fn lower_json(path: &str, value: &Value, depth: usize, notes: &mut Notes<'_>) -> Option<RestJson> {
    let Some(depth) = depth.checked_sub(1) else {
        return notes.fail(path, Cause::Invalid, "the body must not be nested more than 8 deep");
    };
    match value {
        Value::String(text) => {
            check_text(path, text, notes)?;
            Some(RestJson::Text(placeholder(text)))
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| lower_json(path, item, depth, notes));
            Some(RestJson::List(items.collect::<Option<_>>()?))
        }
        Value::Object(members) => lower_object(path, members, depth, notes),
        constant => Some(RestJson::Constant(constant.clone())),
    }
}

fn placeholder(text: &str) -> RestValue {
    match text {
        "{username}" => RestValue::Username,
        "{password}" => RestValue::Password,
        "{id}" => RestValue::Id,
        other => RestValue::Text(other.to_owned()),
    }
}

/// Refuses a placeholder that is only a part of a text.
fn check_text(path: &str, text: &str, notes: &mut Notes<'_>) -> Option<()> {
    let is_part = ["{username}", "{password}", "{id}"].iter().any(|name| text.contains(name) && text != *name);
    if is_part { notes.fail(path, Cause::Invalid, WHOLE) } else { Some(()) }
}

fn lower_answer(answer: &wire::RestAnswer, notes: &mut Notes<'_>) -> Option<RestAnswer> {
    let wire::RestAnswer { success, failure, id, username, groups, claims } = answer;
    let mut one = |field: &str, text: &str| expr(&format!("spec.rest.answer.{field}"), text, &[Variable::Token], notes);
    let success = one("success", success)?;
    let failure = one("failure", failure.as_deref().unwrap_or("token.status == 401"))?;
    let (id, username) = (one("id", id)?, one("username", username)?);
    let groups = match groups {
        Some(groups) => Some(one("groups", groups)?),
        None => None,
    };
    let mut lowered = Vec::new();
    for (i, wire::TokenClaim { name, value }) in claims.iter().flatten().enumerate() {
        let path = format!("spec.rest.answer.claims[{i}]");
        if OWN_CLAIMS.contains(&name.as_str()) {
            let message = format!("the claim '{name}' must not be replaced: the gateway writes it itself");
            return notes.fail(format!("{path}.name"), Cause::Invalid, message);
        }
        lowered.push((name.clone(), expr(&format!("{path}.value"), value, &[Variable::Token], notes)?));
    }
    Some(RestAnswer { success, failure, id, username, groups, claims: lowered })
}
