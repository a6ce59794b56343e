//! The order of the checks, each with the reason for its place.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body::Body;
use idm_authn::{Authenticated, CredentialTable, CredentialTables, TokenCache};
use idm_authz::Permit;
use idm_plan::{Message, PathForms, PathMatch, RouteEntry, Source};
use idm_request::{AsForwarded, ClientCertificate, Facts, Identity, RequestView, SharedFacts, forwarded_certificate};
use idm_sign_in::PageRequest;
use idm_transform::{ArmedLlm, Content};
use idm_trust::thumbprint;
use idm_types::{Reason, Refusal, Stage, Timestamp, TraceContext};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::account::Account;
use crate::body::{MAX_HELD, Payload};
use crate::canonical::{Canonical, authority};
use crate::cors::Preflight;
use crate::engine::{ArmedHandler, ArmedRule, Enforced, Engine, PolicyInForce};
use crate::held::{Caller, Held};
use crate::limits::{self, Limited, RequestLimits};
use crate::model_call::ModelCall;
use crate::own::{self, Own};
use crate::prepare::{self, Forward};
use crate::query::Query;
use crate::router::{Ambiguous, Asked as AskedFor};
use crate::scrub::{lists_too_many, remove_listed};
use crate::websocket::wants_websocket;
use crate::{Metering, Peer, Process, Trace, blocked, forms, framing, resource, shadow};

const FORWARDED_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// The context of a decision, besides the request.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// The armed plan.
    pub engine: &'c Engine,
    /// The Credentials in force, of all namespaces.
    pub credentials: &'c CredentialTables,
    /// Verdicts on credentials that were verified before.
    pub cache: &'c RefCell<TokenCache>,
    /// The state that the decisions of the process share.
    pub process: &'c Process,
    /// The connection that the request came on.
    pub peer: &'c Peer,
    /// The time.
    pub now: Timestamp,
    /// A number that chooses among backends and mirrors; no secret depends on it.
    pub random: u64,
}

impl<'c> Context<'c> {
    /// The Credentials that a policy knows: those of its namespace.
    pub(crate) fn table(&self, policy: &PolicyInForce) -> &'c CredentialTable {
        self.credentials.of(&policy.armed.plan().key.namespace)
    }
}

/// The result for a request that was not refused.
pub enum Verdict {
    /// It goes to the upstream, with the head as it is now.
    Forward(Forward),
    /// The gateway answers itself.
    Answer(Response<Bytes>),
}

/// Decides about one request.
///
/// With [`Verdict::Forward`], `head` is the head that the upstream gets except for its target, and `body` is the body
/// that it gets; values that were verified must go nowhere else. The trace is filled in as the decision proceeds, also
/// where it ends early.
pub async fn decide<B>(
    context: Context<'_>,
    head: &mut Parts,
    body: &mut Payload<B>,
    trace: &mut Trace,
) -> Result<Verdict, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Context { engine, peer, now, .. } = context;
    blocked::check(context, head, trace)?;
    let canonical = read(context, head, body, trace)?;
    trace.stage = Stage::Route;
    let forwarded = scrub(engine, &mut head.headers);
    let (rule, found, matched) = find(context, head, &canonical, trace)?;
    if let Some(cors) = &found.cors {
        if let Some(preflight) = Preflight::of(head) {
            // Browsers send no credential with it, so it is answered before anyone authenticates.
            trace.stage = Stage::Preflight;
            return cors.answer(&preflight, &head.headers).map(Verdict::Answer);
        }
        trace.sharing = Some(cors.sharing(&head.headers));
    }
    let Routed { policy, own } = route(context, head, found)?;
    if let Some(described) = policy.armed.plan().resource.as_ref().filter(|_| own.is_none()) {
        trace.resource_metadata = Some(resource::address(described, &canonical, peer.https, matched).into());
    }
    trace.stage = Stage::Authenticate;
    let certificates = Certificates::of(peer, policy, &forwarded)?;
    let websocket = wants_websocket(head);
    trace.has_body = body.may_follow();
    let view = view(context, policy, head, &canonical, certificates.of_caller(peer));
    let view = RequestView { forwarded: AsForwarded { has_body: trace.has_body, ..view.forwarded }, ..view };
    for (baseline, _) in engine.baselines(found) {
        baseline.check_request(view, now).inspect_err(|_| trace.stage = Stage::Route)?;
    }
    if let Some(limit) = held_before_authentication(own, policy, view, now) {
        body.hold(&context.process.holding, limit, peer.address, Caller::Stranger).await?;
    }
    let shown = body.held_bytes();
    let view = RequestView { body: shown.as_deref(), ..view };
    if policy.armed.sign_in().is_some() {
        trace.page_request = PageRequest::of(view);
    }
    if let Some(own) = own {
        return own::answer(own, policy, view, &canonical, context, trace)
            .await
            .map(|answer| own_answer(answer, trace));
    }
    let (who, source) = authenticate(context, policy, view, trace).await?;
    let caller = Caller::of(who.identity());
    if caller == Caller::Known {
        body.now_known();
    }
    // Every other tunnel would carry the provider's key, and the tokens that pass through it are not counted.
    if let Some(llm) = policy.llm.as_ref().filter(|_| websocket) {
        let admitted = llm.admits_websocket(view.path, view.query.unwrap_or_default());
        admitted.map_err(|why| Refusal::new(Reason::UpgradeNotAllowed, why))?;
    }
    let asked = Asked { context, rule: found, policy, view, source, caller, websocket };
    let Granted { permit, source, headers, exchanged, jose, changed, replaced, metering, limited } =
        permit(asked, who, body, trace).await?;
    if !found.shadows.is_empty() {
        trace.shadows = shadow::judge(context, found, view, &canonical.read_path(), permit.who().identity());
    }
    if let Some(changed) = changed {
        head.headers = changed;
    }
    if let Some(ArmedHandler::Redirect { redirect, .. }) = engine.rules.get(rule).map(|rule| &rule.handler) {
        return prepare::redirect(policy, redirect, peer, &canonical, &mut head.headers)
            .map(|answer| own_answer(answer, trace));
    }
    if let Some(replaced) = replaced {
        // It was true of the caller's body.
        head.headers.remove("content-digest");
        *body = Payload::Held(Held::made(replaced, context.process.holding.share(peer.address, caller)));
    }
    let allowed =
        prepare::Allowed { permit, canonical, rule, source, headers, exchanged, jose, websocket, metering, limited };
    prepare::forward(context, policy, allowed, &mut head.headers).map(Verdict::Forward)
}

fn own_answer(mut answer: Response<Bytes>, trace: &Trace) -> Verdict {
    if let Some(sharing) = &trace.sharing {
        sharing.write(answer.headers_mut(), true);
    }
    trace.tell_limits(answer.headers_mut());
    Verdict::Answer(answer)
}

/// The canonical spelling of host and path: the value that is checked is the value that is forwarded.
fn read<B: Body>(
    context: Context<'_>,
    head: &Parts,
    body: &Payload<B>,
    trace: &mut Trace,
) -> Result<Canonical, Refusal> {
    trace.path = head.uri.path().to_owned();
    trace.distributed = distributed_trace(&head.headers);
    let canonical = Canonical::of(&head.method, &head.uri, &head.headers, head.version)?;
    trace.host.clone_from(&canonical.host);
    canonical.path().clone_into(&mut trace.path);
    if lists_too_many(&head.headers) {
        let why = "`Connection` lists more names than a request has headers";
        return Err(Refusal::new(Reason::MalformedRequest, why));
    }
    if let Payload::Streaming(incoming) = body {
        framing::check(head, incoming)?;
    }
    // A connection that was opened for one host may not be used for another, which may have other authorities.
    let asked_for = context.peer.secured.as_ref().and_then(|secured| secured.server_name.as_deref());
    match asked_for.filter(|name| *name != canonical.host) {
        Some(name) => Err(Refusal::new(Reason::MisdirectedRequest, format!("the connection is for `{name}`"))),
        None => Ok(canonical),
    }
}

/// The trace that a request says it is part of. It is on record and decides nothing; two are none.
pub fn distributed_trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut all = headers.get_all("traceparent").iter();
    let first = all.next().filter(|_| all.next().is_none())?;
    TraceContext::of_traceparent(first.as_bytes())
}

/// Removes what no caller may send on any route, before anything reads a header: routes may match headers. Returns the
/// forwarded client certificate, which only some policies believe.
fn scrub(engine: &Engine, headers: &mut HeaderMap) -> Vec<HeaderValue> {
    remove_listed(headers, |name| engine.used.holds(name));
    let forwarded = headers.get_all(FORWARDED_CERTIFICATE).iter().cloned().collect();
    engine.reserved.scrub(headers);
    forwarded
}

/// The rule that serves a request. A preflight is for the rule of the request that it announces, where that rule says
/// which origins it takes and no rule names the method OPTIONS: then the preflight goes that rule's way.
fn find<'e>(
    context: Context<'e>,
    head: &Parts,
    canonical: &Canonical,
    trace: &mut Trace,
) -> Result<(usize, &'e ArmedRule, &'e PathMatch), Refusal> {
    let engine = context.engine;
    let router = if context.peer.secured.is_some() { &engine.secure_router } else { &engine.router };
    let query = Query::new(canonical.query());
    let entry = |path: &str, method: &Method| -> Result<Option<&'e RouteEntry>, Refusal> {
        let asked = AskedFor { method, headers: &head.headers, query: &query };
        router.find(&canonical.host, path, asked).map_err(ambiguous)
    };
    let rule = |entry: &'e RouteEntry| Some((entry, engine.rules.get(entry.rule)?));
    let direct = entry(canonical.path(), &head.method)?;
    let preflight = Preflight::of(head).filter(|_| direct.is_none_or(|entry| entry.method.is_none()));
    let announced = match preflight {
        Some(Preflight { method, .. }) => entry(canonical.path(), &method)?
            .and_then(rule)
            .filter(|(_, rule)| rule.cors.is_some())
            .map(|found| (found, method)),
        None => None,
    };
    let found = announced.or_else(|| Some((direct.and_then(rule)?, head.method.clone())));
    let path = canonical.read_path();
    let Some(((found, rule), method)) = found else {
        forms::check(&path, PathForms::default(), |_| true)?;
        return Err(Refusal::new(Reason::NoRoute, ""));
    };
    let position = found.rule;
    trace.rule = Some(position);
    trace.grpc = direct.is_some_and(|entry| entry.grpc);
    trace.policy = rule.handler.policy();
    if !path.forms.is_empty() {
        let same = |other: &str| matches!(entry(other, &method), Ok(Some(entry)) if entry.rule == position);
        forms::check(&path, rule.paths, same)?;
    }
    Ok((position, rule, &found.path))
}

/// The query could be read as one of another rule.
fn ambiguous(Ambiguous(other): Ambiguous<'_>) -> Refusal {
    let names: Vec<_> = other.query.iter().map(|wanted| format!("`{}`", wanted.name)).collect();
    let names = names.join(", ");
    Refusal::new(Reason::AmbiguousQuery, format!("a server could read {names} in the query as another rule matches it"))
}

/// The policy of a rule, and the endpoint where the gateway answers itself.
struct Routed<'e> {
    policy: &'e PolicyInForce,
    own: Option<Own<'e>>,
}

fn route<'e>(context: Context<'e>, head: &mut Parts, rule: &'e ArmedRule) -> Result<Routed<'e>, Refusal> {
    let (policy, own) = match &rule.handler {
        ArmedHandler::Refuse { reason, detail } => return Err(Refusal::new(*reason, detail.as_str())),
        ArmedHandler::Enforce(Enforced { policy, reserved, .. }) | ArmedHandler::Redirect { policy, reserved, .. } => {
            reserved.scrub(&mut head.headers);
            (*policy, None)
        }
        ArmedHandler::Issue { policy, endpoint } => (*policy, Some(Own::Endpoint(*endpoint))),
        ArmedHandler::SignIn { policy, endpoint, federation } => {
            (*policy, Some(Own::SignInEndpoint(*endpoint, federation.as_deref())))
        }
        ArmedHandler::ResourceMetadata { policy } => {
            let described = context.engine.policies.get(*policy).and_then(|of| of.armed.plan().resource.as_ref());
            let none = || Refusal::new(Reason::InternalError, "metadata without a protected resource");
            (*policy, Some(Own::ResourceMetadata(described.ok_or_else(none)?)))
        }
    };
    let Some(policy) = context.engine.policies.get(policy) else {
        return Err(Refusal::new(Reason::InternalError, "no policy at the rule's position"));
    };
    Ok(Routed { policy, own })
}

/// The client certificate that a proxy handed on, where the policy believes the proxy.
#[derive(Default)]
struct Certificates {
    handed_on: Vec<CertificateDer<'static>>,
    thumbprint: String,
}

impl Certificates {
    fn of(peer: &Peer, policy: &PolicyInForce, forwarded: &[HeaderValue]) -> Result<Self, Refusal> {
        if forwarded.is_empty() || !policy.armed.believes_proxy(peer.sender) {
            return Ok(Self::default());
        }
        // A certificate that cannot be read is not the same as no certificate: no other credential may then decide in
        // its place.
        let malformed = |why| Refusal::new(Reason::MalformedCredential, format!("X-Forwarded-Client-Cert: {why}"));
        let lines = forwarded.iter().map(HeaderValue::as_bytes);
        let handed_on: Vec<_> = forwarded_certificate(lines).map_err(malformed)?.into_iter().collect();
        Ok(Self { thumbprint: handed_on.first().map(thumbprint).unwrap_or_default(), handed_on })
    }

    fn of_caller<'a>(&'a self, peer: &'a Peer) -> Option<ClientCertificate<'a>> {
        if !self.handed_on.is_empty() {
            return Some(ClientCertificate { chain: &self.handed_on, thumbprint: &self.thumbprint });
        }
        let own = peer.secured.as_ref().filter(|secured| !secured.chain.is_empty());
        own.map(|secured| ClientCertificate { chain: &secured.chain, thumbprint: &secured.thumbprint })
    }
}

fn view<'r>(
    context: Context<'r>,
    policy: &PolicyInForce,
    head: &'r Parts,
    canonical: &'r Canonical,
    certificate: Option<ClientCertificate<'r>>,
) -> RequestView<'r> {
    RequestView {
        headers: &head.headers,
        query: canonical.query(),
        method: head.method.as_str(),
        host: &canonical.host,
        // Read once more instead of stored: it is needed only where people sign in.
        authority: if policy.armed.sign_in().is_some() {
            authority(&head.uri, &head.headers, head.version).unwrap_or_default()
        } else {
            ""
        },
        secure: context.peer.https,
        path: canonical.path(),
        target: head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        forwarded: AsForwarded {
            authority: canonical.authority.to_str().unwrap_or_default(),
            path: canonical.target.path(),
            has_body: true,
        },
        address: context.peer.address,
        body: None,
        certificate,
    }
}

/// Before the caller is known, a body is held only where it identifies the caller: in a form that is posted, or in a
/// digest that covers it. Returns the most bytes that are held.
fn held_before_authentication(
    own: Option<Own<'_>>,
    policy: &PolicyInForce,
    view: RequestView<'_>,
    now: Timestamp,
) -> Option<usize> {
    let posted = view.method == Method::POST.as_str();
    match own {
        Some(own) => own.form().filter(|_| posted),
        None => policy.armed.wants_body(view, now).then_some(largest_body(policy)),
    }
}

fn largest_body(policy: &PolicyInForce) -> usize {
    policy.llm.as_ref().map_or(MAX_HELD, ArmedLlm::max_request_bytes)
}

async fn authenticate(
    context: Context<'_>,
    policy: &PolicyInForce,
    view: RequestView<'_>,
    trace: &mut Trace,
) -> Result<(Authenticated, Option<Source>), Refusal> {
    let found = policy.armed.authenticate(view, context.table(policy), context.cache, context.now).await;
    let (who, source) = found.inspect_err(|refusal| trace.decided_by(refusal))?;
    trace.authentication = Some(who.identity().method.clone());
    trace.in_query = matches!(source, Some(Source::Query { .. }));
    trace.identity = Some((who.identity().clone(), who.cached()));
    Ok((who, source))
}

/// An authenticated request.
struct Asked<'a> {
    context: Context<'a>,
    rule: &'a ArmedRule,
    policy: &'a PolicyInForce,
    view: RequestView<'a>,
    /// The place where the credential was found.
    source: Option<Source>,
    caller: Caller,
    websocket: bool,
}

/// A request that the rules permit, with the results of the policy's steps.
struct Granted {
    permit: Permit,
    source: Option<Source>,
    /// For the upstream: what depends on the request, and not on the caller alone.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The upstream's own token in exchange for the caller's.
    exchanged: Option<HeaderValue>,
    /// The results of the JOSE steps on the request.
    jose: Option<Value>,
    /// The headers where a step may have changed them.
    changed: Option<HeaderMap>,
    /// A body that replaces the caller's.
    replaced: Option<Bytes>,
    /// The counting of a language model's call.
    metering: Option<Box<Metering>>,
    /// The share that the limits gave.
    limited: Limited,
}

/// Evaluates the rules, and lets the policy's steps open the objects in the request and make those for the upstream.
async fn permit<B>(
    asked: Asked<'_>,
    who: Authenticated,
    body: &mut Payload<B>,
    trace: &mut Trace,
) -> Result<Granted, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Asked { context, rule, policy, view, source, caller, websocket } = asked;
    let PolicyInForce { armed, steps, llm, .. } = policy;
    let identity: Rc<Identity> = who.identity().clone();
    let shared = SharedFacts::of(view);
    let facts = Facts {
        shared: Some(&shared),
        identity: Some(&identity),
        policy: Some(&armed.plan().key),
        gateway: &context.process.gateway,
        now: Some(context.now),
        ..Facts::default()
    };
    // The rules can use the opened objects. Without such objects, the rules are evaluated before the body is held.
    let mut asking = Asking::Later(who);
    if !steps.opens() {
        asking = asking.ask(context, rule, policy, view.method, &facts, trace).await?;
    }
    let limits = RequestLimits::of(context, rule, policy, &identity);
    let largest = limits::checked_size(&limits, body, largest_body(policy), trace)?;
    trace.stage = Stage::Open;
    let mut called = ModelCall::of(policy, context.table(policy), view, (body, websocket), &identity);
    let signed = identity.content.as_deref();
    let is_read = called.as_ref().is_some_and(|called| called.wants_body(&limits));
    if is_read || steps.wants_request_body() || signed.is_some() {
        let held = body.hold(&context.process.holding, largest, view.address, caller).await;
        held.map_err(|refusal| limits::too_large(&limits, largest, refusal, trace))?;
    }
    if let Some(signed) = signed {
        // The caller is known, and the body is not the one that the caller signed.
        let fits = signed.fits(body.held().unwrap_or_default());
        let altered = |algorithm| Refusal::new(Reason::ContentDigestMismatch, format!("its {algorithm} is another"));
        fits.map_err(altered).inspect_err(|_| trace.stage = Stage::Authenticate)?;
    }
    // The steps work on a copy: conditions and mappings still read the request that the caller sent.
    let untouched = steps.is_empty() && llm.is_none();
    let mut changed = untouched.then(HeaderMap::new).unwrap_or_else(|| view.headers.clone());
    let mut content = Content { headers: &mut changed, body: body.held_bytes(), replaced: false };
    let jose = if steps.opens() { Some(steps.open(&mut content, &facts).await?) } else { None };
    let facts = Facts { jose: jose.as_ref(), ..facts };
    let permit = asking.ask(context, rule, policy, view.method, &facts, trace).await?.granted()?;
    trace.stage = Stage::Authorize;
    if let Some(called) = &mut called {
        called.check(&content, &facts, trace)?;
    }
    let headers = armed.request_headers(&facts)?;
    let reserved =
        called.as_ref().map(|called| called.reserved(&limits, content.body.as_deref())).transpose()?.flatten();
    let limited = if limits.is_empty() {
        Limited::default()
    } else {
        trace.stage = Stage::Limit;
        limits.take(context, policy, reserved.as_ref(), trace).await?
    };
    trace.stage = Stage::Limit;
    let metering = called.map(|called| called.metered(&mut content)).transpose()?.map(Box::new);
    trace.stage = Stage::Prepare;
    let exchanged = armed.exchange(view, source.as_ref(), &identity, context.now).await?;
    steps.make(Message::Request, &mut content, &facts)?;
    let replaced = content.body.filter(|_| content.replaced);
    let changed = (!untouched).then_some(changed);
    Ok(Granted { permit, source, headers, exchanged, jose, changed, replaced, metering, limited })
}

/// The rules are evaluated once: before the body is held, or after the objects in the request were opened.
enum Asking {
    Later(Authenticated),
    Done(Permit),
}

impl Asking {
    async fn ask(
        self,
        context: Context<'_>,
        rule: &ArmedRule,
        policy: &PolicyInForce,
        method: &str,
        facts: &Facts<'_>,
        trace: &mut Trace,
    ) -> Result<Self, Refusal> {
        match self {
            Asking::Later(who) => admit(context, rule, policy, method, facts, who, trace).await.map(Asking::Done),
            done => Ok(done),
        }
    }

    fn granted(self) -> Result<Permit, Refusal> {
        match self {
            Asking::Done(permit) => Ok(permit),
            Asking::Later(_) => Err(Refusal::new(Reason::InternalError, "the rules were not asked")),
        }
    }
}

/// Whether the rules and the baselines of the Gateway permit it, and the caller has tokens left where tokens are
/// counted.
async fn admit(
    context: Context<'_>,
    rule: &ArmedRule,
    policy: &PolicyInForce,
    method: &str,
    facts: &Facts<'_>,
    who: Authenticated,
    trace: &mut Trace,
) -> Result<Permit, Refusal> {
    trace.stage = Stage::Authorize;
    let identity = who.identity().clone();
    let permit = policy.rules.decide(method, facts, who).inspect_err(|refusal| trace.decided_by(refusal))?;
    trace.authorization = permit.rule().cloned();
    for (baseline, _) in context.engine.baselines(rule) {
        baseline.check_caller(facts, &identity)?;
    }
    if let Some(account) = Account::of_policy(policy, Some(&identity)) {
        trace.stage = Stage::Limit;
        account.check(context.process, context.now).await?;
    }
    Ok(permit)
}
