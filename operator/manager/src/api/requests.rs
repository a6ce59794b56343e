//! Requests for Credentials: asked, answered, withdrawn, received. In a folder there are none.

use idm_api::v1alpha1::RequestDecision;

use crate::call::Call;
use crate::failure::Failure;
use crate::requests::{NewRequest, RequestView};
use crate::wire::request::{AnswerBody, RejectBody, RequestList, RequestUid, Withdrawn};

/// What a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Mine,
    Others,
    All,
}

pub(crate) async fn list(call: Call) -> Result<RequestList, Failure> {
    let whose = match call.parameter("whose") {
        None | Some("all") => Whose::All,
        Some("mine") => Whose::Mine,
        Some("others") => Whose::Others,
        Some(_) => return Err(Failure::invalid("`whose` must be mine, others or all").at("whose")),
    };
    let mut all = call.manager.place.requests(&call.person, call.parameter("namespace")).await?;
    all.requests.retain(|request| whose == Whose::All || request.mine == (whose == Whose::Mine));
    Ok(all)
}

pub(crate) async fn get(call: Call) -> Result<RequestView, Failure> {
    call.manager.place.request(&call.person, call.part("namespace"), call.part("name")).await
}

pub(crate) async fn ask(call: Call, body: NewRequest) -> Result<RequestView, Failure> {
    call.manager.place.ask(&call.person, call.part("namespace"), body).await
}

async fn answer(
    call: Call,
    decision: RequestDecision,
    hash: String,
    reason: Option<String>,
) -> Result<RequestView, Failure> {
    let (namespace, name) = (call.part("namespace"), call.part("name"));
    call.manager.place.answer(&call.person, namespace, name, (decision, hash, reason)).await
}

pub(crate) async fn approve(call: Call, body: AnswerBody) -> Result<RequestView, Failure> {
    answer(call, RequestDecision::Approved, body.hash, body.reason).await
}

pub(crate) async fn reject(call: Call, body: RejectBody) -> Result<RequestView, Failure> {
    if body.reason.trim().is_empty() {
        return Err(Failure::invalid("`reason` must say why: the requester reads it").at("reason"));
    }
    answer(call, RequestDecision::Rejected, body.hash, Some(body.reason)).await
}

pub(crate) async fn received(call: Call, body: RequestUid) -> Result<RequestView, Failure> {
    let (namespace, name) = (call.part("namespace"), call.part("name"));
    call.manager.place.received(&call.person, namespace, name, body.uid).await
}

pub(crate) async fn withdraw(call: Call, body: RequestUid) -> Result<Withdrawn, Failure> {
    let (namespace, name) = (call.part("namespace"), call.part("name"));
    call.manager.place.withdraw(&call.person, namespace, name, body.uid).await?;
    Ok(Withdrawn { withdrawn: true })
}
