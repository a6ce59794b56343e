//! One request to the API server, and the words for its refusals.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use idm_permission::{Denial, GROUP, Kind, Verb};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use super::text;
use crate::failure::{Code, Failure, FieldConflict};
use crate::kind::ObjectKind;
use crate::table::Later;
use crate::wire::FindingView;

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read: a list of 500 objects is far smaller.
const MOST_BYTES: usize = 256 << 20;
/// Of a message of the API server.
const MOST_CHARS: usize = 2000;

/// The subject of a request, for the words of a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    what: &'a str,
    /// The verb, the kind and its namespace, where it is about objects of ours.
    permission: Option<(Verb, Kind, &'a str)>,
}

impl<'a> Asked<'a> {
    pub(super) const fn plain(what: &'a str) -> Self {
        Self { what, permission: None }
    }

    pub(super) fn on(verb: Verb, kind: ObjectKind, namespace: &'a str, what: &'a str) -> Self {
        Self { what, permission: kind.ours().map(|kind| (verb, kind, namespace)) }
    }
}

/// An answer of the API server.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its warnings.
    pub(super) warnings: Vec<String>,
    pub(super) body: Value,
}

/// Questions to the API server at the same time, for one request of a person.
const AT_ONCE: usize = 16;

/// Does pieces of work some at a time; the results are in their order, and the first failure ends it.
pub(super) async fn together<T: Send>(work: Vec<Later<'_, T>>) -> Result<Vec<T>, Failure> {
    stream::iter(work).buffered(AT_ONCE).try_collect().await
}

/// Asks. Whatever the API server answers is an answer.
///
/// # Errors
/// It does not answer.
pub(super) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<(&'static str, &Value)>,
) -> Result<Answer, Failure> {
    let silent = || Failure::unavailable("the API server does not answer: try again");
    let mut request = Request::builder().method(method).uri(path).header("accept", "application/json");
    if let Some((media_type, _)) = &body {
        request = request.header("content-type", *media_type);
    }
    let bytes = body.map(|(_, body)| body.to_string().into_bytes()).unwrap_or_default();
    let request = request.body(Body::from(bytes)).map_err(|_| Failure::invalid("a name has no form in an address"))?;
    let work = async {
        let answer = client.send(request).await.map_err(|_| silent())?;
        let (head, body) = answer.into_parts();
        let bytes = Limited::new(body, MOST_BYTES).collect().await.map_err(|_| silent())?.to_bytes();
        let warnings = head.headers.get_all("warning").iter().filter_map(|line| line.to_str().ok().and_then(warning));
        let warnings = warnings.collect();
        Ok(Answer { status: head.status.as_u16(), warnings, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    };
    tokio::time::timeout(TIMEOUT, work).await.map_err(|_| silent())?
}

/// The text of a header `Warning: 299 - "text"`.
fn warning(line: &str) -> Option<String> {
    let quoted = line.split_once('"')?.1.rsplit_once('"')?.0;
    Some(short(&quoted.replace("\\\"", "\"")))
}

fn short(text: &str) -> String {
    idm_types::visible(text).chars().take(MOST_CHARS).collect()
}

impl Answer {
    /// The answer, if it is a success.
    pub(super) fn done(self, asked: &Asked<'_>) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(self.refusal(asked)) }
    }

    /// The meaning of a refusal for the person.
    fn refusal(&self, asked: &Asked<'_>) -> Failure {
        let told = short(text(&self.body, "/message"));
        let said = |words: &str| if told.is_empty() { format!("{}: {words}", asked.what) } else { told.clone() };
        match self.status {
            401 => ended(),
            403 => {
                let mut failure = Failure::new(Code::Forbidden, said("the API server does not allow it"));
                failure.missing = asked.permission.map(|(verb, kind, namespace)| {
                    // The guard knows the team: what it says is more exact.
                    Box::new(super::reach::missing(verb, kind, namespace).as_guard_says(&told))
                });
                failure
            }
            404 => Failure::new(Code::NotFound, format!("{}: there is none", asked.what)),
            409 => {
                let conflicts = self.causes().map(|cause| FieldConflict {
                    field: short(text(cause, "/field").trim_start_matches('.')),
                    manager: conflicting_manager(text(cause, "/message")),
                });
                let conflicts = conflicts.filter(|conflict| !conflict.field.is_empty()).collect();
                Failure { conflicts, ..Failure::new(Code::Conflict, said("it is there already, or was changed")) }
            }
            400 | 422 => {
                let findings: Vec<_> = self.causes().map(finding).collect();
                match findings.is_empty() {
                    true => Failure::new(Code::Refused, said("the API server refuses it")),
                    false => Failure::refused(findings),
                }
            }
            410 => Failure::invalid("the list that this goes on with is too old: begin again").at("after"),
            413 => Failure::new(Code::TooLarge, said("the API server takes no object of this size")),
            _ => Failure::unavailable(said("the API server cannot do it now: try again")),
        }
    }

    fn causes(&self) -> impl Iterator<Item = &Value> {
        self.body.pointer("/details/causes").and_then(Value::as_array).into_iter().flatten()
    }
}

/// The end of a session whose token is over.
pub(super) fn ended() -> Failure {
    let message = "the API server does not take your token any more, because it is over or was revoked: sign in with a \
                   new one";
    Failure::new(Code::NoSession, message)
}

fn finding(cause: &Value) -> FindingView {
    let message = without_object(text(cause, "/message"));
    // The field of a patch as a whole is in the words.
    let unknown = message.split("unknown field \"").nth(1).and_then(|rest| rest.split('"').next());
    let field = Some(text(cause, "/field")).filter(|field| *field != "patch").or(unknown).unwrap_or_default();
    FindingView { field: short(field), reason: short(text(cause, "/reason")), message: short(message), is_note: false }
}

/// A message without the whole object that the API server repeats in it.
fn without_object(message: &str) -> &str {
    let repeated = message.strip_prefix("Invalid value: \"{").and_then(|rest| rest.rsplit_once("\": "));
    repeated.map_or(message, |(_, reason)| reason)
}

/// The name in `conflict with "kubectl" using …`.
fn conflicting_manager(message: &str) -> String {
    message.split('"').nth(1).map(short).unwrap_or_default()
}

/// The address of a kind in a namespace, or in all of them.
pub(super) fn collection(kind: ObjectKind, namespace: &str) -> String {
    let (root, resource) = match kind {
        ObjectKind::Ours(kind) => (format!("/apis/{GROUP}/v1alpha1"), kind.resource()),
        ObjectKind::Gateway => ("/apis/gateway.networking.k8s.io/v1".to_owned(), "gateways"),
        ObjectKind::HttpRoute => ("/apis/gateway.networking.k8s.io/v1".to_owned(), "httproutes"),
        ObjectKind::Service => ("/api/v1".to_owned(), "services"),
    };
    in_namespace(&root, resource, namespace)
}

/// The address of a resource of a group in a namespace, or in all of them.
pub(super) fn in_namespace(root: &str, resource: &str, namespace: &str) -> String {
    match namespace {
        "" => format!("{root}/{resource}"),
        namespace => format!("{root}/namespaces/{namespace}/{resource}"),
    }
}

/// A query in an address.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    pairs.iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| {
        query.append_pair(name, value);
    });
    format!("?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> Failure {
        let kind = ObjectKind::Ours(Kind::Credential);
        let asked = Asked::on(Verb::Update, kind, "shop", "Credential `a`");
        Answer { status, warnings: vec![], body }.done(&asked).expect_err("a refusal")
    }

    #[test]
    fn a_refusal_of_the_guard_says_which_permission_is_missing_and_who_has_it() {
        let told = "ValidatingAdmissionPolicy 'idm-guard' denied request: user ana may not revoke credentials of team \
                    web in namespace shop; who may: idm who-can revoke credentials -n shop --team web";
        let failure = answer(403, json!({"message": told}));
        let missing = failure.missing.expect("a permission");
        assert_eq!(
            (missing.permission.as_str(), missing.scope.as_str()),
            ("revoke Credential", "team `web` of project `shop`")
        );
        assert_eq!(missing.who_can.as_deref(), Some("idm who-can revoke credentials -n shop --team web"));
        let plain = answer(403, json!({"message": "credentials is forbidden"}));
        let missing = plain.missing.expect("a permission");
        assert_eq!(missing.who_can.as_deref(), Some("idm who-can update credential -n shop"));
        assert_eq!((missing.verb.as_deref(), missing.kind.as_deref()), (Some("update"), Some("Credential")));
    }

    #[test]
    fn a_conflict_names_field_and_manager_and_an_ended_token_the_session() {
        let cause = json!({"reason": "FieldManagerConflict", "field": ".spec.owner",
            "message": "conflict with \"kubectl\" using identity-manager.io/v1alpha1"});
        let failure = answer(409, json!({"message": "Apply failed", "details": {"causes": [cause]}}));
        let conflict = FieldConflict { field: "spec.owner".into(), manager: "kubectl".into() };
        assert_eq!((failure.code, failure.conflicts), (Code::Conflict, vec![conflict]));
        assert_eq!(answer(401, Value::Null).code, Code::NoSession);
        assert_eq!(answer(500, Value::Null).code, Code::Unavailable);
        assert_eq!(answer(410, Value::Null).field.as_deref(), Some("after"));
    }

    #[test]
    fn an_unknown_field_is_named_and_the_object_is_not_repeated() {
        let told =
            r#"Invalid value: "{\"spec\":{\"unknown\":1}}": strict decoding error: unknown field "spec.unknown""#;
        let found = finding(&json!({"field": "patch", "reason": "FieldValueInvalid", "message": told}));
        assert_eq!(found.field, "spec.unknown");
        assert_eq!(found.message, r#"strict decoding error: unknown field "spec.unknown""#);
        let plain = finding(&json!({"field": "spec.a", "message": "Invalid value: \"x\": must be y"}));
        assert_eq!((plain.field.as_str(), plain.message.as_str()), ("spec.a", "Invalid value: \"x\": must be y"));
    }

    #[test]
    fn a_warning_is_the_text_between_the_quotes() {
        assert_eq!(warning(r#"299 - "unknown field \"spec.x\"""#).as_deref(), Some(r#"unknown field "spec.x""#));
        assert_eq!(warning("299"), None);
    }
}
