//! Requests for Credentials, with the token of the person: the API server's guard compares the names.

use idm_api::v1alpha1::RequestDecision;
use idm_permission::{Kind, Permission, Verb};
use kube::Client;

use super::credentials::refused_of;
use super::reach::{Reach, Right};
use super::{Caller, is_absent};
use crate::credential::CredentialError;
use crate::failure::Failure;
use crate::requests::{ClusterRequests, NewRequest, RequestView};
use crate::wire::request::RequestList;

/// Of one list.
const MOST_SHOWN: usize = 1_000;

fn refused(error: CredentialError, verb: Verb, namespace: &str) -> Failure {
    refused_of(error, (verb, Kind::CredentialRequest), namespace)
}

fn answer_refused(error: CredentialError, verb: Verb, namespace: &str) -> Failure {
    refused_of(error, (verb, Kind::Credential), namespace)
}

/// The requests of namespaces, the newest first. A namespace whose requests the person may not read is noted.
pub(super) async fn list(
    caller: &Caller,
    reach: &Reach,
    person: &str,
    namespaces: &[String],
) -> Result<RequestList, Failure> {
    let (mut requests, mut notes) = (Vec::new(), Vec::new());
    for namespace in namespaces {
        let all = ClusterRequests::with(caller.client.clone(), namespace).all().await;
        match all.map_err(|error| refused(error, Verb::Read, namespace)) {
            Ok(all) => requests.extend(all.iter().map(|object| RequestView::of(object, person))),
            Err(failure) if is_absent(&failure) && namespaces.len() > 1 => notes.push(failure.message),
            Err(failure) => return Err(failure),
        }
    }
    requests.sort_by(|a, b| b.created_time.cmp(&a.created_time));
    if requests.len() > MOST_SHOWN {
        notes.push(format!("the newest {MOST_SHOWN} of {} are shown", requests.len()));
        requests.truncate(MOST_SHOWN);
    }
    for request in requests.iter_mut().filter(|request| request.may_answer) {
        judge(caller, reach, request).await?;
    }
    Ok(RequestList { requests, notes })
}

/// Whether the person may approve a request that can be answered; answers of the API server are kept for a while.
async fn judge(caller: &Caller, reach: &Reach, request: &mut RequestView) -> Result<(), Failure> {
    let team = request.team.clone().unwrap_or_default();
    for verb in [Verb::Approve, Verb::Create] {
        let permission = Permission { kind: Kind::Credential, verb };
        let Some(right) = Right::guarded(permission, &request.namespace, &team) else { continue };
        if !reach.allows(caller, &right).await? {
            request.may_answer = false;
            request.why_not = Some(format!("you may not {permission} there"));
            return Ok(());
        }
    }
    Ok(())
}

pub(super) async fn one(
    caller: &Caller,
    reach: &Reach,
    person: &str,
    (namespace, name): (&str, &str),
) -> Result<RequestView, Failure> {
    let object = ClusterRequests::with(caller.client.clone(), namespace).one(name).await;
    let mut view = RequestView::of(&object.map_err(|error| refused(error, Verb::Read, namespace))?, person);
    if view.may_answer {
        judge(caller, reach, &mut view).await?;
    }
    Ok(view)
}

pub(super) async fn ask(
    client: &Client,
    person: &str,
    namespace: &str,
    new: NewRequest,
) -> Result<RequestView, Failure> {
    let made = ClusterRequests::with(client.clone(), namespace).ask(person, new).await;
    Ok(RequestView::of(&made.map_err(|error| refused(error, Verb::Create, namespace))?, person))
}

pub(super) async fn answer(
    client: &Client,
    person: &str,
    (namespace, name): (&str, &str),
    (decision, hash, reason): (RequestDecision, String, Option<String>),
) -> Result<RequestView, Failure> {
    let all = ClusterRequests::with(client.clone(), namespace);
    let answered = all.answer(person, name, decision, &hash, reason.as_deref()).await;
    let answered = answered.map_err(|error| answer_refused(error, Verb::Approve, namespace))?;
    Ok(RequestView::of(&answered, person))
}

pub(super) async fn received(
    client: &Client,
    person: &str,
    (namespace, name): (&str, &str),
    uid: &str,
) -> Result<RequestView, Failure> {
    let received = ClusterRequests::with(client.clone(), namespace).received(name, uid).await;
    Ok(RequestView::of(&received.map_err(|error| refused(error, Verb::Create, namespace))?, person))
}

pub(super) async fn withdraw(client: &Client, (namespace, name): (&str, &str), uid: &str) -> Result<(), Failure> {
    let withdrawn = ClusterRequests::with(client.clone(), namespace).withdraw(name, uid).await;
    withdrawn.map_err(|error| refused(error, Verb::Delete, namespace))
}
