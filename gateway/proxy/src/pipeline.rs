//! The life of a request, in order.

use std::convert::Infallible;
use std::rc::Rc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use idm_audit::{NotStored, Stage};
use idm_authn::{Authenticated, ClientCertificate, Facts, RequestView, SharedFacts, forwarded_certificate, thumbprint};
use idm_authz::Permit;
use idm_issue::{Answered, Ask, TokenIssuer};
use idm_plan::{Door, Endpoint, Message, Source, TokenQuota};
use idm_sign_in::Wish;
use idm_store::Store;
use idm_transform::{Content, MAX_REQUEST, Meter, Refused, Steps, Usage};
use idm_types::{DecisionId, Reason, Timestamp};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::body::{MAX_HELD, Metered, Payload, ResponseBody};
use crate::canonical::{Canonical, authority};
use crate::core::{Core, Local};
use crate::engine::{ArmedHandler, ArmedRule, Engine, PolicyInForce, Shared};
use crate::forward::{Outbound, apply_edits, forward, tell_upstream, tell_way};
use crate::framing;
use crate::guard::Guard;
use crate::held::{Caller, Held};
use crate::render::{self, Refusal};
use crate::scrub::{lists_too_many, remove_connections_own, remove_listed};
use crate::server::Peer;
use crate::upgrade::wants_websocket;

const FORWARDED_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Why a request goes no further.
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    pub(crate) missing_scopes: Vec<String>,
    pub(crate) retry_after: Option<u64>,
    /// The page for which a browser may begin its sign-in anew.
    pub(crate) again: Option<String>,
}

impl Stop {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), missing_scopes: Vec::new(), retry_after: None, again: None }
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::new(refused.reason, refused.detail)
    }
}

/// One request that may be forwarded: only a [`Permit`] makes one.
struct Allowed {
    permit: Permit,
    canonical: Canonical,
    rule: usize,
    source: Option<Source>,
    /// For the upstream: what depends on the request, and not on the caller alone.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the upstream gets in exchange for the caller's token.
    exchanged: Option<HeaderValue>,
    /// What JOSE steps found in the request.
    jose: Option<Value>,
}

/// What the gateway answers itself.
#[derive(Clone, Copy)]
enum Own<'e> {
    /// An endpoint of a token service.
    Endpoint(Endpoint),
    /// A door of a sign-in method, and whose it is.
    Door(Door, Option<&'e str>),
}

/// What becomes of a request that was not refused.
enum Decided {
    Forward(Allowed),
    /// The gateway answers itself.
    Answer(Response<ResponseBody>),
}

/// Serves one request. Whatever happens, it leaves exactly one record.
pub(crate) async fn serve(
    core: Rc<Core>,
    peer: Rc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    // A disk that is behind is waited for before anything is done or held for the request.
    core.lane.room().await;
    let now = Timestamp::now();
    // From here on something is recorded, also if the caller leaves or the code panics.
    let mut guard = Guard::open(core.clone(), peer.address, request.method(), now);
    guard.version = request.version();
    let Some(local) = guard.local.clone() else {
        return Ok(refuse(guard, Stop::new(Reason::NotConfigured, "")).await);
    };
    // An unrecorded request is not served, unless losing records was chosen.
    if !core.lane.is_open() {
        return Ok(refuse(guard, Stop::new(Reason::AuditUnavailable, "")).await);
    }
    let (mut parts, body) = request.into_parts();
    let mut body = Payload::Streaming(body);
    let (id, version) = (guard.id, guard.version);
    match decide(&core.shared, &peer, &mut guard, &local, &mut parts, &mut body).await {
        Ok(Decided::Answer(response)) => {
            let stored = guard.permitted(response.status().as_u16()).await;
            Ok(without(body, version, told(&core, id, stored, response)))
        }
        Ok(Decided::Forward(mut allowed)) => {
            let jose = allowed.jose.take();
            let request_bytes = body.held().map_or(0, <[u8]>::len) as u64;
            let outbound = match prepare(&local.engine, allowed, parts, &peer) {
                Ok(outbound) => outbound,
                Err(stop) => return Ok(without(body, version, refuse(guard, stop).await)),
            };
            guard.stage = Stage::Upstream;
            let asked = Asked::of(&core, &local, &mut guard, request_bytes);
            let forwarded = forward(&core, &local, &mut guard, outbound, body).await;
            if let Some(asked) = asked {
                asked.answered(&mut guard);
            }
            let answered = match forwarded {
                Ok(mut response) => {
                    // RFC 6750 §2.3: an answer to a URL with a token in it is for its sender alone.
                    if guard.in_query {
                        response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("private"));
                    }
                    guard.stage = Stage::Answer;
                    answer(&core.shared, &local, &guard, jose.as_ref(), response).await
                }
                Err(stop) => Err(stop),
            };
            match answered {
                Ok(response) => Ok(recorded(&core, &local, guard, request_bytes, response).await),
                Err(stop) => Ok(refuse(guard, stop).await),
            }
        }
        Err(stop) => Ok(without(body, version, refuse(guard, stop).await)),
    }
}

/// An answer that does not need the request's body, of which some may be on its way still.
fn without(body: Payload, version: Version, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    if body.let_go() {
        end_connection(&mut response, version);
    }
    response
}

/// Ends the connection with this answer; in HTTP/2 the stream alone ends.
fn end_connection(response: &mut Response<ResponseBody>, version: Version) {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Refuses a request that is not looked into any further. It leaves exactly one record, too.
pub(crate) async fn turn_away(
    core: Rc<Core>,
    peer: &Peer,
    request: &Request<Incoming>,
    stop: Stop,
) -> Response<ResponseBody> {
    let mut guard = Guard::open(core, peer.address, request.method(), Timestamp::now());
    guard.path = request.uri().path().to_owned();
    if let Ok(host) = authority(request.uri(), request.headers(), request.version()) {
        host.clone_into(&mut guard.host);
    }
    let retry_after = stop.retry_after.or((stop.reason == Reason::TooManyRequestsAtOnce).then_some(1));
    refuse(guard, Stop { retry_after, ..stop }).await
}

/// The order of the checks. Each stands where it does for a reason.
async fn decide(
    core: &Shared,
    peer: &Peer,
    guard: &mut Guard,
    local: &Local,
    parts: &mut Parts,
    body: &mut Payload,
) -> Result<Decided, Stop> {
    let engine = &local.engine;
    // One spelling of host and path from here on: what is judged is what is forwarded.
    guard.path = parts.uri.path().to_owned();
    let canonical = Canonical::of(&parts.method, &parts.uri, &parts.headers, parts.version)
        .map_err(|(reason, detail)| Stop::new(reason, detail))?;
    guard.host.clone_from(&canonical.host);
    canonical.path().clone_into(&mut guard.path);
    if lists_too_many(&parts.headers) {
        return Err(Stop::new(Reason::MalformedRequest, "`Connection` lists more names than a request has headers"));
    }
    if let Payload::Streaming(incoming) = body {
        framing::check(parts, incoming).map_err(|(reason, detail)| Stop::new(reason, detail))?;
    }
    // A connection that was opened for one host may not be used for another, which may have other authorities.
    let asked_for = peer.secured.as_ref().and_then(|secured| secured.server_name.as_deref());
    if let Some(name) = asked_for.filter(|name| *name != canonical.host) {
        return Err(Stop::new(Reason::MisdirectedRequest, format!("the connection is for `{name}`")));
    }
    guard.stage = Stage::Route;
    // Before anything reads a header: what is judged is what is forwarded, and what is written later stays.
    remove_listed(&mut parts.headers, |name| engine.used.holds(name));
    let forwarded: Vec<HeaderValue> = parts.headers.get_all(FORWARDED_CERTIFICATE).iter().cloned().collect();
    // Before routing, because routes may match headers: nobody arrives pre-named.
    engine.reserved.scrub(&mut parts.headers);
    let router = if peer.secured.is_some() { &engine.secure_router } else { &engine.router };
    let position = router.find(&canonical.host, canonical.path(), &parts.method, &parts.headers);
    let rule = position.and_then(|position| engine.rules.get(position).map(|rule| (position, rule)));
    let Some((position, rule)) = rule else { return Err(Stop::new(Reason::NoRoute, "")) };
    guard.rule = Some(position);
    let (policy, itself) = match &rule.handler {
        ArmedHandler::Refuse { reason, detail } => return Err(Stop::new(*reason, detail)),
        ArmedHandler::Enforce { policy, reserved, .. } => {
            reserved.scrub(&mut parts.headers);
            (*policy, None)
        }
        ArmedHandler::Issue { policy, endpoint } => (*policy, Some(Own::Endpoint(*endpoint))),
        ArmedHandler::SignIn { policy, door, federation } => (*policy, Some(Own::Door(*door, federation.as_deref()))),
    };
    let Some(in_force) = engine.policies.get(policy) else {
        return Err(Stop::new(Reason::InternalError, "no policy at the rule's position"));
    };
    let PolicyInForce { armed, steps, llm, issuer, .. } = in_force;
    guard.policy = Some(policy);
    guard.stage = Stage::Authenticate;
    // A proxy that ends TLS speaks for its clients, and only where the policy says so.
    let handed_on: Vec<CertificateDer<'static>> = if armed.believes_proxy(peer.address) {
        // One that cannot be read is not none: no other credential may then decide in its place.
        let lines = forwarded.iter().map(HeaderValue::as_bytes);
        let malformed = |why| Stop::new(Reason::MalformedCredential, format!("X-Forwarded-Client-Cert: {why}"));
        forwarded_certificate(lines).map_err(malformed)?.into_iter().collect()
    } else {
        Vec::new()
    };
    let handed_on_thumbprint = handed_on.first().map(thumbprint).unwrap_or_default();
    let own = peer
        .secured
        .as_ref()
        .map(|secured| ClientCertificate { chain: &secured.chain, thumbprint: &secured.thumbprint });
    let certificate = own.filter(|own| !own.chain.is_empty());
    let certificate = if handed_on.is_empty() {
        certificate
    } else {
        Some(ClientCertificate { chain: &handed_on, thumbprint: &handed_on_thumbprint })
    };
    let largest = if llm.is_some() { MAX_REQUEST } else { MAX_HELD };
    let view = RequestView {
        headers: &parts.headers,
        query: canonical.query(),
        method: parts.method.as_str(),
        host: &canonical.host,
        // Read once more instead of kept: only where people sign in somebody asks.
        authority: if armed.sign_in().is_some() {
            authority(&parts.uri, &parts.headers, parts.version).unwrap_or_default()
        } else {
            ""
        },
        secure: peer.secured.is_some(),
        path: canonical.path(),
        target: parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        address: guard.source,
        body: None,
        certificate,
    };
    // Before the caller is known, a body is held only where it says who the caller is: in a form that is posted, or in
    // a digest that covers it.
    let posted = parts.method == Method::POST;
    let limit = match itself {
        Some(Own::Endpoint(endpoint)) => (posted && idm_issue::wants_form(endpoint)).then_some(idm_issue::MAX_FORM),
        Some(Own::Door(door, _)) => (posted && idm_sign_in::wants_form(door)).then_some(idm_sign_in::MAX_FORM),
        None => armed.wants_body(view, guard.now).then_some(largest),
    };
    if let Some(limit) = limit {
        body.hold(&core.holding, limit, guard.source, Caller::Stranger).await?;
    }
    let shown = body.held_bytes();
    let view = RequestView { body: shown.as_deref(), ..view };
    if armed.sign_in().is_some() {
        guard.wish = Wish::of(view);
    }
    match (itself, issuer) {
        (None, _) => {}
        (Some(Own::Endpoint(endpoint)), Some(issuer)) => {
            let ask = Ask { policy: armed, view, gateway: &core.gateway, now: guard.now };
            return issue(issuer, endpoint, ask, guard).await.map(Decided::Answer);
        }
        (Some(Own::Endpoint(_)), None) => {
            return Err(Stop::new(Reason::InternalError, "an endpoint without a token service"));
        }
        (Some(Own::Door(door, federation)), _) => {
            let wish = guard.wish.clone();
            let ask = idm_sign_in::Ask { policy: armed, view, wish: wish.as_ref(), now: guard.now };
            return sign_in(door, federation, ask, guard).await.map(Decided::Answer);
        }
    }
    let (who, source) = armed.authenticate(view, &local.cache, guard.now).await.map_err(|denied| {
        guard.authentication = denied.method;
        Stop { retry_after: denied.retry_after, ..Stop::new(denied.reason, denied.detail) }
    })?;
    guard.authentication = Some(who.identity().method.clone());
    guard.in_query = matches!(source, Some(Source::Query { .. }));
    guard.identity = Some((who.identity().clone(), who.cached()));
    let identity = who.identity().clone();
    let caller = Caller::of(&identity);
    if caller == Caller::Known {
        body.now_known();
    }
    // It would carry the provider's key, and nothing that passes a tunnel is counted.
    if llm.is_some() && wants_websocket(parts) {
        return Err(Stop::new(Reason::UpgradeNotAllowed, ""));
    }
    let shared = SharedFacts::of(view);
    let facts = Facts {
        shared: Some(&shared),
        identity: Some(&identity),
        policy: Some(&armed.plan().key),
        gateway: &core.gateway,
        now: Some(guard.now),
        ..Facts::default()
    };
    // Opened objects tell the rules more. Without them the rules say first whether the body is worth holding.
    let (permit, who) = if steps.opens() {
        (None, Some(who))
    } else {
        (Some(admit(core, in_force, parts, &facts, who, guard).await?), None)
    };
    guard.stage = Stage::Open;
    if llm.is_some() || steps.wants_request_body() {
        body.hold(&core.holding, largest, guard.source, caller).await?;
    }
    // The steps work on a copy: conditions and mappings go on seeing what the caller sent.
    let untouched = steps.is_empty() && llm.is_none();
    let mut changed = untouched.then(HeaderMap::new).unwrap_or_else(|| parts.headers.clone());
    let mut content = Content { headers: &mut changed, body: body.held_bytes(), replaced: false };
    let jose = if steps.opens() { Some(steps.open(&mut content, &facts).await?) } else { None };
    let facts = Facts { jose: jose.as_ref(), ..facts };
    let permit = match (permit, who) {
        (Some(permit), _) => permit,
        (None, Some(who)) => admit(core, in_force, parts, &facts, who, guard).await?,
        (None, None) => return Err(Stop::new(Reason::InternalError, "no permit, and nobody to ask one for")),
    };
    guard.stage = Stage::Authorize;
    let headers = armed.request_headers(&facts).map_err(|problem| Stop::new(problem.reason, problem.detail))?;
    if let Some(llm) = llm {
        guard.stage = Stage::Limit;
        let new_body =
            llm.ask_for_usage(canonical.path(), content.headers, content.body.as_deref().unwrap_or_default())?;
        content.replaced |= new_body.is_some();
        content.body = new_body.or(content.body.take());
    }
    guard.stage = Stage::Prepare;
    let exchanged = armed
        .exchange(view, source.as_ref(), &identity, guard.now)
        .await
        .map_err(|denied| Stop::new(denied.reason, denied.detail))?;
    steps.make(Message::Request, &mut content, &facts)?;
    let Content { body: new_body, replaced, .. } = content;
    if !untouched {
        parts.headers = changed;
    }
    if let (true, Some(new_body)) = (replaced, new_body) {
        *body = Payload::Held(Held::made(new_body, core.holding.share(guard.source, caller)));
    }
    Ok(Decided::Forward(Allowed { permit, canonical, rule: position, source, headers, exchanged, jose }))
}

/// Whether the rules permit it, and the caller has tokens left where tokens are counted.
async fn admit(
    core: &Shared,
    policy: &PolicyInForce,
    parts: &Parts,
    facts: &Facts<'_>,
    who: Authenticated,
    guard: &mut Guard,
) -> Result<Permit, Stop> {
    guard.stage = Stage::Authorize;
    let identity = who.identity().clone();
    let permit = policy.rules.decide(parts.method.as_str(), facts, who).map_err(|refusal| {
        guard.authorization = refusal.rule;
        Stop { missing_scopes: refusal.missing_scopes, ..Stop::new(refusal.reason, refusal.detail) }
    })?;
    guard.authorization = permit.rule().cloned();
    if let Some(llm) = &policy.llm {
        guard.stage = Stage::Limit;
        let (store, owner) = (policy.armed.store(), quota_owner(&policy.armed, &identity));
        crate::spent::check(store, &owner, llm.quotas()).await?;
        let spent = core.quotas.check(&owner, llm.quotas(), store.moment(guard.now));
        spent.map_err(|seconds| Stop { retry_after: Some(seconds), ..Stop::new(Reason::TokenQuotaExceeded, "") })?;
    }
    Ok(permit)
}

/// Asks the policy's token service, and notes on the record what came of it.
async fn issue(
    issuer: &TokenIssuer,
    endpoint: Endpoint,
    ask: Ask<'_>,
    guard: &mut Guard,
) -> Result<Response<ResponseBody>, Stop> {
    match issuer.answer(endpoint, ask).await {
        Ok(Answered { body, public, who, issued }) => {
            guard.identity = who.map(|who| (who, false));
            guard.issued = issued;
            Ok(render::document(body.as_ref(), public))
        }
        Err(refused) => {
            guard.identity = refused.who.map(|who| (who, false));
            Err(Stop { retry_after: refused.retry_after, ..Stop::new(refused.reason, refused.detail) })
        }
    }
}

/// Answers at a door of the policy's sign-in method, and notes on the record whose session it was about.
async fn sign_in(
    door: Door,
    federation: Option<&str>,
    ask: idm_sign_in::Ask<'_>,
    guard: &mut Guard,
) -> Result<Response<ResponseBody>, Stop> {
    match idm_sign_in::answer(door, federation, ask).await {
        Ok(answer) => {
            guard.authentication = answer.who.as_ref().map(|who| who.method.clone());
            guard.identity = answer.who.clone().map(|who| (who, false));
            Ok(render::answer(answer))
        }
        Err(refused) => {
            guard.identity = refused.who.map(|who| (who, false));
            Err(Stop {
                retry_after: refused.retry_after,
                again: refused.again,
                ..Stop::new(refused.reason, refused.detail)
            })
        }
    }
}

/// Records a success: at once, or where use is counted when the answer has ended.
async fn recorded(
    core: &Rc<Core>,
    local: &Local,
    mut guard: Guard,
    request_bytes: u64,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    let status = response.status().as_u16();
    let policy = guard.policy.and_then(|policy| local.engine.policies.get(policy));
    let Some(PolicyInForce { armed, llm: Some(llm), .. }) = policy else {
        let id = guard.id;
        let stored = guard.permitted(status).await;
        return told(core, id, stored, response);
    };
    let owner = guard.identity.as_ref().map(|(identity, _)| quota_owner(armed, identity)).unwrap_or_default();
    let (core, quotas, store) = (core.clone(), llm.quotas().to_vec(), armed.store().clone());
    let meter = Meter::new(status, response.headers(), request_bytes);
    let (parts, body) = response.into_parts();
    let ended = move |usage: Usage| {
        let tokens = usage.prompt.saturating_add(usage.completion);
        charge(&core, &store, &owner, &quotas, tokens, guard.now);
        guard.usage = Some(usage);
        // The answer has passed: nothing is left that could wait.
        drop(guard.permitted(status));
    };
    Response::from_parts(parts, Metered::around(body, meter, ended))
}

/// A prompt that a language model got and did not answer yet. A caller who leaves now has used it.
struct Asked {
    core: Rc<Core>,
    local: Rc<Local>,
    policy: usize,
    owner: String,
    tokens: u64,
    now: Timestamp,
    open: bool,
}

impl Asked {
    fn of(core: &Rc<Core>, local: &Rc<Local>, guard: &mut Guard, request_bytes: u64) -> Option<Self> {
        let policy = guard.policy?;
        let PolicyInForce { armed, llm: Some(_), .. } = local.engine.policies.get(policy)? else { return None };
        let owner = guard.identity.as_ref().map(|(identity, _)| quota_owner(armed, identity)).unwrap_or_default();
        let usage = Usage::of_prompt(request_bytes);
        let tokens = usage.prompt;
        guard.usage = Some(usage);
        Some(Self { core: core.clone(), local: local.clone(), policy, owner, tokens, now: guard.now, open: true })
    }

    /// From here on the answer is counted, or there is none.
    fn answered(mut self, guard: &mut Guard) {
        self.open = false;
        guard.usage = None;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let policy = self.local.engine.policies.get(self.policy).filter(|_| self.open);
        let Some(PolicyInForce { armed, llm: Some(llm), .. }) = policy else { return };
        charge(&self.core, armed.store(), &self.owner, llm.quotas(), self.tokens, self.now);
    }
}

/// Counts tokens that a caller used, here and where gateways share a store.
fn charge(core: &Core, store: &Store, owner: &str, quotas: &[TokenQuota], tokens: u64, now: Timestamp) {
    core.shared.quotas.add(owner, quotas, tokens, store.moment(now));
    crate::spent::add(store, owner, quotas, tokens);
}

/// Whose tokens are counted together: one caller under one policy.
fn quota_owner(armed: &idm_authn::ArmedPolicy, identity: &idm_authn::Identity) -> String {
    format!("{}#{}", armed.plan().uid, identity.id)
}

/// What the policy makes of the response, for which it has to be there as a whole.
async fn answer(
    core: &Shared,
    local: &Local,
    guard: &Guard,
    jose: Option<&Value>,
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, Stop> {
    let policy = guard
        .policy
        .and_then(|policy| local.engine.policies.get(policy))
        .filter(|policy| policy.steps.wants_response());
    let Some(PolicyInForce { armed, steps, .. }) = policy else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    let identity = guard.identity.as_ref().map(|(identity, _)| &**identity);
    let caller = identity.map_or(Caller::Stranger, Caller::of);
    let share = || core.holding.share(guard.source, caller);
    let whole = body.whole(&core.holding, share()).await?;
    let shared = SharedFacts::default();
    let facts = Facts {
        identity,
        policy: Some(&armed.plan().key),
        gateway: &core.gateway,
        jose,
        now: Some(guard.now),
        shared: Some(&shared),
        ..Facts::default()
    };
    let mut content = Content { headers: &mut parts.headers, body: Some(whole), replaced: false };
    steps.make(Message::Response, &mut content, &facts)?;
    // A slow reader keeps it for a while.
    let body = content.body.take().map(|made| Held::made(made, share()).bytes().clone());
    Ok(Response::from_parts(parts, ResponseBody::Text(body)))
}

/// Makes the upstream's request of the caller's: only after a permit.
fn prepare(engine: &Engine, allowed: Allowed, mut parts: Parts, peer: &Peer) -> Result<Outbound, Stop> {
    let Allowed { permit, canonical, rule, source: verified_in, headers, exchanged, jose: _ } = allowed;
    let internal = || Stop::new(Reason::InternalError, "no rule at the position that was matched");
    let Some(ArmedRule { handler: ArmedHandler::Enforce { policy, backends, timeouts, edits, reserved: _ }, .. }) =
        engine.rules.get(rule)
    else {
        return Err(internal());
    };
    let PolicyInForce { armed, steps, llm, .. } = engine.policies.get(*policy).ok_or_else(internal)?;
    let websocket = wants_websocket(&parts);
    // First everything that callers had a hand in goes, then what the gateway says is written.
    let target = take_credentials(armed, steps, verified_in.as_ref(), &canonical, &mut parts.headers);
    // A browser sends its session to every route of the host: no upstream is to see one.
    if engine.signs_in && parts.headers.contains_key(http::header::COOKIE) {
        idm_authn::COOKIES.iter().for_each(|name| idm_authn::remove_cookie(&mut parts.headers, name));
    }
    remove_connections_own(&mut parts.headers);
    if let Some(llm) = llm {
        llm.keep_only_what_it_needs(&mut parts.headers, |name| steps.headers().any(|made| made == name));
    }
    apply_edits(&mut parts.headers, edits);
    tell_upstream(&mut parts.headers, armed.plan(), permit.who().identity(), &headers);
    // A provider is a stranger: for which of our hosts and from where it was asked is not its business.
    if llm.is_none() {
        tell_way(&mut parts.headers, &canonical.authority, peer);
    }
    let forwards = armed.plan().upstream.credential == idm_plan::CredentialForwarding::Forward;
    let of_session = permit.who().identity().session_token().filter(|_| forwards);
    if let Some(exchanged) = exchanged.or_else(|| of_session.and_then(|token| render::bearer(token.reveal()))) {
        parts.headers.insert(http::header::AUTHORIZATION, exchanged);
    }
    if let Some(llm) = llm {
        llm.sign(&mut parts.headers);
    }
    Ok(Outbound {
        permit,
        parts,
        target: target.unwrap_or(canonical.target),
        backends: backends.clone(),
        timeouts: *timeouts,
        websocket,
        own_host: llm.is_some(),
    })
}

/// Removes every credential that a method of the policy looks for, wherever it was put; the verified
/// one stays only if the policy forwards it. What a step of the policy wrote replaced the caller's value already.
/// Returns a new target when the query changed.
fn take_credentials(
    armed: &idm_authn::ArmedPolicy,
    steps: &Steps,
    verified_in: Option<&Source>,
    canonical: &Canonical,
    headers: &mut HeaderMap,
) -> Option<http::uri::PathAndQuery> {
    let forwards = armed.plan().upstream.credential == idm_plan::CredentialForwarding::Forward;
    let mut query: Option<Option<String>> = None;
    for source in armed.sources().filter(|source| !(forwards && Some(*source) == verified_in)) {
        match source {
            // With a scheme, another scheme's credential in the same header is not ours to remove.
            Source::Header { name, scheme } if !steps.headers().any(|made| made == name) => {
                let ours = |value: &http::HeaderValue| {
                    scheme.as_deref().is_none_or(|scheme| has_scheme(value.as_bytes(), scheme))
                };
                if headers.get(name.as_str()).is_some_and(ours) {
                    headers.remove(name.as_str());
                }
                // The proof goes where its token goes, and that is no further.
                if scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("dpop")) {
                    headers.remove("dpop");
                }
            }
            Source::Header { .. } => {}
            Source::Cookie { name } => idm_authn::remove_cookie(headers, name),
            Source::Query { name, .. } => {
                let current = query.take().unwrap_or_else(|| canonical.query().map(str::to_owned));
                query = Some(current.and_then(|current| idm_authn::remove_query(&current, name)));
            }
        }
    }
    let query = query?;
    let text = query.map_or_else(|| canonical.path().to_owned(), |query| format!("{}?{query}", canonical.path()));
    text.parse().ok()
}

fn has_scheme(value: &[u8], scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|given| given.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// Whether signing in, or doing it again, may be what a person lacks.
fn asks_to_sign_in(reason: Reason) -> bool {
    matches!(reason, Reason::NoCredentials | Reason::SessionEnded | Reason::StepUpRequired)
}

/// Whether the framing of the request can no longer be trusted, or its body was left unread: then the connection ends.
fn ends_connection(reason: Reason) -> bool {
    use Reason::*;
    matches!(reason, MalformedRequest | MethodNotAllowed | HeadTooLarge | BodyTooSlow | PayloadTooLarge)
}

async fn refuse(guard: Guard, stop: Stop) -> Response<ResponseBody> {
    let Stop { reason, detail, missing_scopes, retry_after, again } = stop;
    let (core, id, now) = (guard.core().clone(), guard.id, guard.now);
    let (local, policy) = (guard.local.clone(), guard.policy);
    let handler =
        local.as_ref().zip(guard.rule).and_then(|(local, rule)| local.engine.rules.get(rule)).map(|rule| &rule.handler);
    let armed = local
        .as_ref()
        .zip(policy)
        .and_then(|(local, policy)| local.engine.policies.get(policy))
        .map(|policy| &policy.armed);
    let refusal = Refusal { reason, id, now, missing_scopes, retry_after };
    let mut response = match (handler, armed.and_then(|armed| armed.sign_in()), &guard.wish) {
        (Some(ArmedHandler::Issue { .. }), _, _) => render::oauth_refusal(reason, id, retry_after),
        // A person is sent to sign in, or told in words; a program gets what programs get.
        (Some(ArmedHandler::Enforce { .. }), Some(method), Some(wish)) if asks_to_sign_in(reason) => {
            render::to_sign_in(method, &wish.page, id)
        }
        (_, Some(method), Some(_)) if again.is_some() => {
            render::to_sign_in(method, again.as_deref().unwrap_or_default(), id)
        }
        (_, Some(method), Some(wish)) => render::page(method, wish, &guard.host, &refusal),
        _ => render::refusal(&refusal, armed),
    };
    if ends_connection(reason) {
        end_connection(&mut response, guard.version);
    }
    // The answer waits for the disk: a caller who was refused can always be told why.
    let stored = guard.refused(reason, response.status().as_u16(), &detail).await;
    told(&core, id, stored, response)
}

/// The answer, whose record is on disk, or may be lost. Otherwise the caller learns that nothing is answered
/// unrecorded; what was decided stays in memory until the disk takes it.
fn told(
    core: &Core,
    id: DecisionId,
    stored: Result<(), NotStored>,
    response: Response<ResponseBody>,
) -> Response<ResponseBody> {
    if stored.is_ok() || core.lane.may_lose() {
        return response;
    }
    let (reason, now) = (Reason::AuditUnavailable, Timestamp::now());
    render::refusal(&Refusal { reason, id, now, missing_scopes: Vec::new(), retry_after: None }, None)
}
