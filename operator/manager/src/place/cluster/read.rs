//! Reads objects with the rights of the person: pages of a list, or one of them.

use http::Method;
use idm_permission::{Kind, TEAM_LABEL, Verb};
use kube::Client;
use serde_json::Value;

use super::request::{Asked, collection, query as query_of, send};
use super::{text, view};
use crate::failure::{Code, Failure};
use crate::kind::ObjectKind;
use crate::place::{ListQuery, ObjectRef};
use crate::wire::Page;

/// Objects that the API server is asked for at once.
const CHUNK: usize = 500;
/// Objects that one request looks through; the answer says where to go on.
const MOST_LOOKED_AT: usize = 10_000;

/// The place behind which a list goes on: a namespace, the API server's mark of a chunk in it, and how many objects of
/// the chunk are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    namespace: String,
    chunk: String,
    done: usize,
}

impl Place {
    fn written(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.done, self.chunk)
    }

    fn read(text: &str) -> Result<Self, Failure> {
        let mut parts = text.splitn(3, '/');
        let mut place = || Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?, parts.next()?.to_owned()));
        match place() {
            Some((namespace, done, chunk)) => Ok(Self { namespace, chunk, done }),
            None => Err(Failure::invalid("`after` must be the `next` of a page").at("after")),
        }
    }
}

/// A part of a list: the namespaces in their order, in each the objects by name. `""` is the whole cluster.
pub(super) async fn page(client: &Client, query: &ListQuery, namespaces: &[String]) -> Result<Page, Failure> {
    let mut place = query.after.as_deref().map(Place::read).transpose()?;
    let mut items = Vec::new();
    let mut looked_at = 0;
    for namespace in namespaces {
        if place.as_ref().is_some_and(|place| place.namespace != *namespace) {
            continue;
        }
        let mut at = place.take().unwrap_or_else(|| Place { namespace: namespace.clone(), ..Place::default() });
        loop {
            let (found, next) = match chunk(client, query, &at).await {
                // Of several namespaces, those that this kind may not be read in are passed over.
                Err(failure) if failure.code == Code::Forbidden && namespaces.len() > 1 => break,
                found => found?,
            };
            let begun = at.done;
            for (number, object) in found.iter().enumerate().skip(begun) {
                if items.len() >= query.limit || looked_at >= MOST_LOOKED_AT {
                    at.done = number;
                    return Ok(Page { items, next: Some(at.written()), total: None });
                }
                looked_at += 1;
                if matches(object, query) {
                    items.push(view::item(object, query.kind));
                }
            }
            if next.is_empty() {
                break;
            }
            at = Place { namespace: namespace.clone(), chunk: next, done: 0 };
        }
    }
    // The whole list is known when it was read from its beginning.
    let total = query.after.is_none().then_some(items.len() as u64);
    Ok(Page { items, next: None, total })
}

/// Objects from a place on, and the mark behind them.
async fn chunk(client: &Client, query: &ListQuery, at: &Place) -> Result<(Vec<Value>, String), Failure> {
    let ListQuery { kind, team, .. } = query;
    let limit = CHUNK.to_string();
    // The team of a RoleBinding is in its spec.
    let by_label = team.as_ref().filter(|_| *kind != ObjectKind::Ours(Kind::RoleBinding));
    let selector = by_label.map(|team| format!("{TEAM_LABEL}={team}")).unwrap_or_default();
    let parameters = [("limit", limit.as_str()), ("continue", at.chunk.as_str()), ("labelSelector", selector.as_str())];
    let path = collection(*kind, &at.namespace) + &query_of(&parameters);
    let asked = Asked::on(Verb::Read, *kind, &at.namespace, kind.name());
    let mut body = match send(client, Method::GET, &path, None).await?.done(&asked) {
        // The cluster need not have the Gateway API.
        Err(failure) if failure.code == Code::NotFound && kind.ours().is_none() => return Ok((vec![], String::new())),
        answer => answer?.body,
    };
    let next = text(&body, "/metadata/continue").to_owned();
    let items = match body["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    Ok((items, next))
}

fn matches(object: &Value, query: &ListQuery) -> bool {
    let of_team = query.team.as_deref().is_none_or(|team| team_of(object, query.kind) == Some(team));
    of_team
        && query.search.as_deref().is_none_or(|search| {
            let owner = ["/spec/owner/user", "/spec/owner/application"].map(|pointer| text(object, pointer));
            let ids = object.pointer("/status/keys").and_then(Value::as_array).into_iter().flatten();
            let ids = ids.map(|key| text(key, "/id"));
            let team = team_of(object, query.kind).unwrap_or_default();
            let words = owner.into_iter().chain([text(object, "/metadata/name"), team]).chain(ids);
            words.into_iter().any(|word| word.to_lowercase().contains(search))
        })
}

/// The team of an object.
pub(super) fn team_of(object: &Value, kind: ObjectKind) -> Option<&str> {
    let team = match kind {
        ObjectKind::Ours(Kind::RoleBinding) => text(object, "/spec/scope/team/name"),
        _ => object["metadata"]["labels"][TEAM_LABEL].as_str().unwrap_or_default(),
    };
    Some(team).filter(|team| !team.is_empty())
}

/// The first objects of a kind in a namespace; none where they may not be read.
pub(super) async fn first(client: &Client, kind: ObjectKind, namespace: &str) -> Result<Vec<Value>, Failure> {
    let all = ListQuery { kind, namespace: None, team: None, search: None, limit: CHUNK, after: None };
    match chunk(client, &all, &Place { namespace: namespace.to_owned(), ..Place::default() }).await {
        Err(failure) if super::is_absent(&failure) => Ok(Vec::new()),
        found => Ok(found?.0),
    }
}

/// One object.
pub(super) async fn object(client: &Client, object: &ObjectRef) -> Result<Value, Failure> {
    let ObjectRef { kind, namespace, name } = object;
    let path = format!("{}/{name}", collection(*kind, namespace));
    let what = format!("{} `{name}` in namespace {namespace}", kind.name());
    let answer = send(client, Method::GET, &path, None).await?;
    Ok(answer.done(&Asked::on(Verb::Read, *kind, namespace, &what))?.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_list_is_read_as_it_was_written() {
        let place = Place { namespace: "shop".into(), chunk: "eyJ2Ijoi/x".into(), done: 7 };
        assert_eq!(Place::read(&place.written()).expect("a place"), place);
        for bad in ["", "shop", "shop/x/y", "shop/1"] {
            assert_eq!(Place::read(bad).expect_err(bad).field.as_deref(), Some("after"));
        }
    }
}
