//! The life of a request, in order: decide, forward, answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use idm_audit::NotStored;
use idm_decide::{
    Account, Caller, Held, Limited, MAX_TEXT, Metering, Payload, Peer, Taken, Used, Verdict, authority, decide,
    make_response,
};
use idm_traces::Within;
use idm_transform::{HiddenUsage, Meter, Usage};
use idm_types::{DecisionId, Reason, Refusal, Stage, Timestamp};
use serde_json::Value;

use crate::body::{LimitedBody, Metered, ResponseBody, Room, let_go};
use crate::core::{Core, Local};
use crate::forward::{Outbound, forward};
use crate::guard::Guard;
use crate::realtime;
use crate::streams::Candidate;
use crate::telling::Ending;
use crate::traced;

/// An answer, with what lasts until it has been sent.
pub(crate) type Answer = (Response<ResponseBody>, Ending);

/// Serves one request. In every case it leaves exactly one record.
pub(crate) async fn serve(core: Rc<Core>, peer: Rc<Peer>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    // If the disk is slow, the request waits here, before anything is done or held for it.
    core.spool_handle.room().await;
    let now = Timestamp::now();
    // From here on there is always a record, also if the caller disconnects or the code panics.
    let mut guard = Guard::open(core.clone(), peer.address, request.method(), now);
    guard.version = request.version();
    let Some(local) = guard.local.clone() else {
        return Ok(refuse(guard, Refusal::new(Reason::NotConfigured, "")).await);
    };
    // A request that cannot be recorded is not served, unless the configuration accepts the loss of records.
    if !core.spool_handle.is_open() {
        return Ok(refuse(guard, Refusal::new(Reason::AuditUnavailable, "")).await);
    }
    let (mut head, body) = request.into_parts();
    guard.arrived(&peer, &head.headers);
    let mut body = Payload::Streaming(body);
    let (id, version) = (guard.id, guard.version);
    let context = local.context(&core, &peer, now);
    let scope = guard.scope();
    let verdict = {
        let deciding = pin!(decide(context, &mut head, &mut body, &mut guard.trace));
        Within::new(scope, deciding).await
    };
    guard.routed();
    match verdict {
        Ok(Verdict::Forward(forward)) => Ok(forwarded(core, local, guard, Outbound { forward, head }, body).await),
        Ok(Verdict::Answer(answer)) => {
            let ending = guard.ending();
            let stored = guard.permitted(answer.status().as_u16()).await;
            Ok((without(body, version, told(&core, id, stored, own(answer))), ending))
        }
        Err(refusal) => {
            let (response, ending) = refuse(guard, refusal).await;
            Ok((without(body, version, response), ending))
        }
    }
}

/// Forwards a permitted request, and records the result.
async fn forwarded(
    core: Rc<Core>,
    local: Rc<Local>,
    mut guard: Box<Guard>,
    mut outbound: Outbound,
    body: Payload<Incoming>,
) -> Answer {
    let jose = outbound.forward.jose.take();
    let metering = outbound.forward.metering.as_deref().copied();
    let mut limited = std::mem::take(&mut outbound.forward.limited);
    let edits = outbound.forward.answer.take();
    guard.trace.stage = Stage::Upstream;
    // Before there is an answer, the caller has used its prompt.
    let counted_later = metering.filter(|metering| !metering.realtime);
    let mut asked = counted_later.and_then(|metering| Asked::of(&core, &local, &mut guard, metering));
    if let Some(asked) = &mut asked {
        asked.taken = limited.taken.take();
    }
    let exchange = guard.leave(&local, &outbound.forward, &mut outbound.head);
    let began = Instant::now();
    let caller = Candidate::of(&core, &local, &guard.trace);
    let sent = forward(&core, &local, &mut guard, outbound, body, &mut limited, caller.as_ref());
    let response = match &caller {
        None => sent.await,
        Some(caller) => caller.wait(sent).await.unwrap_or_else(|reason| {
            Err(Refusal::new(reason, "the right of the caller ended before the upstream answered"))
        }),
    };
    let outcome = response.as_ref().map(|response| response.status().as_u16()).map_err(|refusal| refusal.reason);
    guard.count_upstream(began, outcome);
    traced::ended(exchange, outcome);
    if let Some(asked) = asked {
        limited.taken = asked.answered(&mut guard);
    }
    let answered = match response {
        Ok(mut response) => {
            // RFC 6750 §2.3: an answer to a URL with a token in it is for its sender alone.
            if guard.trace.in_query {
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
            }
            guard.trace.stage = Stage::Answer;
            answer(&core, &local, &guard, jose.as_ref(), response).await
        }
        Err(refusal) => Err(refusal),
    };
    let answered = answered.and_then(|response| fits(response, &limited, &mut guard));
    match answered {
        Ok(mut response) => {
            if let Some(edits) = edits {
                edits.apply(response.headers_mut());
            }
            guard.trace.share(response.headers_mut());
            let response = response.map(|body| body.watched(caller.as_ref()));
            let ending = guard.ending();
            (recorded(&core, &local, guard, (metering, limited), response).await, ending)
        }
        Err(refusal) => refuse(guard, refusal).await,
    }
}

/// Refuses an answer that is known to be longer than a limit allows.
fn fits(
    response: Response<ResponseBody>,
    limited: &Limited,
    guard: &mut Guard,
) -> Result<Response<ResponseBody>, Refusal> {
    match limited.response_size.as_ref().filter(|size| response.body().size_hint().lower() > size.max_bytes) {
        Some(size) => {
            guard.trace.limit = Some(size.name.clone());
            Err(size.refusal(Reason::ResponseTooLarge))
        }
        None => Ok(response),
    }
}

/// An answer that does not need the request's body, of which a part may not have arrived yet.
fn without(body: Payload<Incoming>, version: Version, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    if let_go(body) {
        end_connection(&mut response, version);
    }
    response
}

/// Closes the connection after this answer; in HTTP/2 only the stream ends.
fn end_connection(response: &mut Response<ResponseBody>, version: Version) {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Refuses a request without any further check when its turn comes; its body is not held until then. This leaves
/// exactly one record, too.
pub(crate) async fn turn_away(
    core: Rc<Core>,
    peer: &Peer,
    request: Request<Incoming>,
    refusal: Refusal,
    turn: impl Future<Output = ()>,
) -> Answer {
    let mut guard = Guard::open(core, peer.address, request.method(), Timestamp::now());
    guard.version = request.version();
    guard.arrived(peer, request.headers());
    let path = request.uri().path();
    guard.trace.path = path.get(..path.floor_char_boundary(MAX_TEXT + 1)).unwrap_or_default().to_owned();
    if let Ok(host) = authority(request.uri(), request.headers(), request.version()) {
        host.clone_into(&mut guard.trace.host);
    }
    drop(request);
    turn.await;
    let seconds = refusal.retry_after.or((refusal.reason == Reason::TooManyRequestsAtOnce).then_some(1));
    refuse(guard, refusal.retry_after(seconds)).await
}

/// Records a success: at once, or, where use is counted, when the answer has ended.
async fn recorded(
    core: &Rc<Core>,
    local: &Local,
    mut guard: Box<Guard>,
    (metering, mut limited): (Option<Metering>, Limited),
    mut response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let status = response.status().as_u16();
    let account = Account::of(local.configuration.engine(), &guard.trace);
    let (Some(account), Some(metering)) = (account, metering) else {
        return with_limits(core, guard, limited, response).await;
    };
    if let Some(pending) = guard.realtime.take() {
        realtime::serve(*pending, guard, account, limited, metering);
        return response;
    }
    let core = core.clone();
    let meter = Meter::new(status, response.headers(), metering.call);
    let hidden = (metering.hides_usage && meter.is_streamed()).then(HiddenUsage::default);
    if hidden.is_some() {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let (parts, body) = response.into_parts();
    let taken = limited.taken.take();
    let ended = move |usage: Usage| {
        let usage = usage.priced(metering.price);
        account.charge(&core.shared.process, usage.tokens(), guard.now);
        if let Some(taken) = taken {
            taken.settle(used(&usage));
        }
        guard.usage = Some(usage);
        // The answer has been sent: nothing is left to wait for.
        drop(guard.permitted(status));
    };
    let room = limited.response_size.as_ref().map(|size| Room::new(size.max_bytes));
    let body = if room.is_some() { LimitedBody::around(body, limited, room, None) } else { body };
    Response::from_parts(parts, Metered::around(body, meter, hidden, ended))
}

/// Records a success whose answer may have limits: one whose length is not known is recorded at its end, because it may
/// be cut.
async fn with_limits(
    core: &Rc<Core>,
    guard: Box<Guard>,
    limited: Limited,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let (id, status) = (guard.id, response.status().as_u16());
    let is_open = response.body().size_hint().exact().is_none();
    let size = limited.response_size.clone().filter(|_| is_open);
    let Some(size) = size else {
        let holds = limited.taken.is_some() && !response.body().is_end_stream();
        let stored = guard.permitted(status).await;
        let response = told(core, id, stored, response);
        return if holds { response.map(|body| LimitedBody::around(body, limited, None, None)) } else { response };
    };
    let room = Some(Room::new(size.max_bytes));
    let ended = move |is_cut: bool| {
        let mut guard = guard;
        // The head of the answer has been sent: nothing is left to wait for.
        if is_cut {
            guard.trace.limit = Some(size.name.clone());
            let refusal = size.refusal(Reason::ResponseTooLarge);
            drop(guard.refused(refusal.reason, status, &refusal.detail));
        } else {
            drop(guard.permitted(status));
        }
    };
    response.map(|body| LimitedBody::around(body, limited, room, Some(Box::new(ended))))
}

/// The use of a call, as limits count it.
pub(crate) fn used(usage: &Usage) -> Used {
    Used { tokens: usage.tokens(), micros: usage.micros() }
}

/// A prompt that was sent to a language model without an answer yet. It counts as used if the caller disconnects now.
struct Asked {
    core: Rc<Core>,
    account: Account,
    used: Used,
    now: Timestamp,
    /// The share that the limits gave.
    taken: Option<Taken>,
    open: bool,
}

impl Asked {
    fn of(core: &Rc<Core>, local: &Local, guard: &mut Guard, metering: Metering) -> Option<Self> {
        let account = Account::of(local.configuration.engine(), &guard.trace)?;
        let usage = Usage::of_prompt(metering.call).priced(metering.price);
        let used = used(&usage);
        guard.usage = Some(usage);
        Some(Self { core: core.clone(), account, used, now: guard.now, taken: None, open: true })
    }

    /// From here on the answer is counted, or there is no answer.
    fn answered(mut self, guard: &mut Guard) -> Option<Taken> {
        self.open = false;
        guard.usage = None;
        self.taken.take()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open {
            self.account.charge(&self.core.shared.process, self.used.tokens, self.now);
            if let Some(taken) = self.taken.take() {
                taken.settle(self.used);
            }
        }
    }
}

/// Applies the policy's steps to the upstream's answer, which must be buffered completely for that.
async fn answer(
    core: &Core,
    local: &Local,
    guard: &Guard,
    jose: Option<&Value>,
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, Refusal> {
    let engine = local.configuration.engine();
    if !idm_decide::wants_response(engine, &guard.trace) {
        return Ok(response);
    }
    let process = &core.shared.process;
    let (mut parts, body) = response.into_parts();
    let identity = guard.trace.identity.as_ref().map(|(identity, _)| &**identity);
    let caller = identity.map_or(Caller::Stranger, Caller::of);
    let share = || process.holding.share(guard.source, caller);
    let whole = body.whole(&process.holding, share()).await?;
    let made = make_response(engine, process, &guard.trace, jose, guard.now, &mut parts.headers, whole)?;
    // A slow reader keeps the memory in use for some time.
    let body = Held::made(made, share()).bytes().clone();
    Ok(Response::from_parts(parts, ResponseBody::Text(Some(body))))
}

/// Whether the framing of the request is not trustworthy, or its body was not read: then the connection is closed.
fn ends_connection(reason: Reason) -> bool {
    use Reason::*;
    matches!(reason, MalformedRequest | MethodNotAllowed | HeadTooLarge | BodyTooSlow | PayloadTooLarge)
}

async fn refuse(mut guard: Box<Guard>, refusal: Refusal) -> Answer {
    let (core, id, now) = (guard.core().clone(), guard.id, guard.now);
    let engine = guard.local.as_ref().map(|local| local.configuration.engine());
    let mut response = own(idm_decide::refusal(engine, &guard.trace, &refusal, id, now));
    if ends_connection(refusal.reason) {
        end_connection(&mut response, guard.version);
    }
    // The answer waits for the disk: a refused caller always gets the reason.
    let ending = guard.ending();
    let stored = guard.refused(refusal.reason, response.status().as_u16(), &refusal.detail).await;
    (told(&core, id, stored, response), ending)
}

/// An answer of the gateway's own.
fn own(answer: Response<Bytes>) -> Response<ResponseBody> {
    answer.map(|body| ResponseBody::Text(Some(body)))
}

/// The answer, if its record is on disk or may be lost. Otherwise the caller learns that the gateway gives no answer
/// without a record; the record of the decision stays in memory until the disk accepts it.
fn told(
    core: &Core,
    id: DecisionId,
    stored: Result<(), NotStored>,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if stored.is_ok() || core.spool_handle.may_lose() {
        return response;
    }
    let refusal = Refusal::new(Reason::AuditUnavailable, "");
    own(idm_decide::refusal(None, &idm_decide::Trace::default(), &refusal, id, Timestamp::now()))
}
