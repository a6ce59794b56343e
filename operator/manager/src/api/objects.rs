//! Objects: lists, one of them, and changes.

use crate::call::{Call, Reply};
use crate::failure::Failure;
use crate::place::{Draft, ListQuery, ObjectRef};
use crate::wire::{CheckDraft, Checked, GatewayView, ObjectView, Page, SaveRequest};

/// Objects of a page, unless the query says another number.
const USUAL: usize = 50;
const MOST: usize = 500;

fn named(call: &Call) -> Result<ObjectRef, Failure> {
    let kind = call.part("kind").parse()?;
    Ok(ObjectRef { kind, namespace: call.part("namespace").to_owned(), name: call.part("name").to_owned() })
}

pub(crate) async fn list(call: Call) -> Result<Page, Failure> {
    let text = |name: &str| call.parameter(name).map(str::to_owned);
    let query = ListQuery {
        kind: call.part("kind").parse()?,
        namespace: text("namespace"),
        team: text("team"),
        search: text("search").map(|search| search.to_lowercase()),
        limit: call.number("limit", USUAL, MOST)?,
        after: text("after"),
    };
    call.manager.place.list(&call.person, query).await
}

pub(crate) async fn get(call: Call) -> Result<ObjectView, Failure> {
    call.manager.place.object(&call.person, &named(&call)?).await
}

pub(crate) async fn check(call: Call, draft: CheckDraft) -> Result<Checked, Failure> {
    call.manager.place.check(&call.person, Draft::of(draft)?).await
}

pub(crate) async fn save(call: Call, body: SaveRequest) -> Result<ObjectView, Failure> {
    let draft = Draft { object: named(&call)?, yaml: body.yaml, version: body.version };
    call.manager.place.save(&call.person, draft).await
}

pub(crate) async fn delete(call: Call) -> Result<Reply, Failure> {
    let version = call.parameter("version").ok_or_else(|| Failure::invalid("`version` must say which one is meant"))?;
    call.manager.place.delete(&call.person, named(&call)?, version.to_owned()).await?;
    Ok(Reply::done())
}

pub(crate) async fn gateways(call: Call) -> Result<Vec<GatewayView>, Failure> {
    call.manager.place.gateways(&call.person, call.parameter("namespace")).await
}
