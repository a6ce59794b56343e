//! The spans of one request: its own, and that of its exchange with the upstream.

use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use idm_audit::{Decision, Outcome};
use idm_decide::{Forward, Peer, distributed_trace};
use idm_plan::Backend;
use idm_traces::{Clock, Kind, Open, Placed, Sampler, Scope, Sink, Span, Value};
use idm_types::{Reason, TraceContext};

use crate::connect::Pool;
use crate::core::Core;

/// How the requests of a process are traced.
pub struct Traces {
    /// Which of them are recorded.
    pub sampler: Sampler,
    /// The destination of spans.
    pub sink: Sink,
}

/// A request's place in its trace.
pub(crate) struct Traced {
    placed: Placed,
    /// `None`: the trace is not recorded.
    scope: Option<Scope>,
    https: bool,
}

impl Traced {
    /// Places a request that began at this moment; `None` where nothing is traced.
    pub(crate) fn of(core: &Core, peer: &Peer, headers: &HeaderMap, began: Instant) -> Option<Rc<Self>> {
        let Traces { sampler, sink } = core.shared.traces.as_ref()?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = idm_types::Timestamp(wall.as_millis() as u64);
        let placed = sampler.place(distributed_trace(headers), now, || core.random());
        let since = wall.saturating_sub(began.elapsed());
        let clock = Clock { began, wall_ns: since.as_nanos() as u64 };
        let scope = placed.context.sampled.then(|| Scope::new(sink, placed.context, clock));
        Some(Rc::new(Self { placed, scope, https: peer.https }))
    }

    /// The trace, and the gateway's span in it.
    pub(crate) fn context(&self) -> TraceContext {
        self.placed.context
    }

    /// The span that the operations within the request are a part of.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// The request leaves for this backend. Its upstream is told the trace, in the place of what the caller said.
    pub(crate) fn leave(&self, pool: Option<&Rc<Pool>>, forward: &Forward, head: &mut Parts) -> Option<Open> {
        let exchange = self.scope.as_ref().zip(pool).map(|(scope, pool)| exchange(scope, pool, forward, &head.method));
        // A language model's provider is a third party, and learns nothing of the caller.
        if forward.metering.is_none() {
            let context = exchange.as_ref().and_then(Open::context).unwrap_or(self.placed.context);
            if let Ok(value) = HeaderValue::from_str(&context.to_string()) {
                head.headers.insert("traceparent", value);
            }
            // It speaks of a trace that ended here.
            if self.placed.parent.is_none() {
                head.headers.remove("tracestate");
            }
        }
        exchange
    }

    /// The span of the request, but for its end.
    pub(crate) fn span(&self, decision: &Decision<'_>, version: Version) -> Option<(Scope, Span)> {
        let scope = self.scope.clone()?;
        let Placed { context, parent, link } = self.placed;
        let method = known_method(decision.request.method);
        let name = match (method, decision.route) {
            (OTHER, None) => "HTTP".into(),
            (OTHER, Some(route)) => format!("HTTP {route}").into(),
            (method, None) => method.into(),
            (method, Some(route)) => format!("{method} {route}").into(),
        };
        let is_error = decision.status >= 500 || decision.status == 0;
        let began = scope.clock().wall_ns;
        let span = Span {
            trace: context.trace,
            id: context.parent,
            parent,
            link,
            kind: Kind::Server,
            name,
            began,
            ended: began,
            attributes: attributes(decision, method, version, self.https),
            failed: is_error,
        };
        Some((scope, span))
    }
}

/// The attributes of a request: those of the conventions for HTTP servers, and ours.
fn attributes(
    decision: &Decision<'_>,
    method: &'static str,
    version: Version,
    https: bool,
) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("http.request.method", Value::from(method)),
        ("url.scheme", if https { "https" } else { "http" }.into()),
        ("url.path", Value::text(decision.request.path)),
        ("server.address", Value::text(decision.request.host)),
        ("client.address", Value::text(&decision.request.source.to_string())),
        ("network.protocol.version", number_of(version).into()),
        ("idm.decision.id", Value::text(&decision.id.to_string())),
        ("idm.outcome", outcome(decision.outcome).into()),
    ];
    if decision.status > 0 {
        all.push(("http.response.status_code", decision.status.into()));
    }
    if decision.status >= 500 || decision.status == 0 {
        let status = || decision.status.to_string();
        all.push(("error.type", decision.reason.map_or_else(|| Value::text(&status()), |reason| reason.code().into())));
    }
    all.extend(decision.reason.map(|reason| ("idm.reason", Value::from(reason.code()))));
    all.extend(decision.route.map(|route| ("idm.route", Value::text(route))));
    if let Some(policy) = &decision.policy {
        all.push(("idm.policy", Value::text(&format!("{}/{}", decision.namespace, policy.name))));
        all.extend(policy.method.map(|method| ("idm.authentication", Value::text(method))));
    }
    all
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Permitted => "Permitted",
        Outcome::Denied => "Denied",
        Outcome::Failed => "Failed",
    }
}

/// The conventions' name for methods that are a caller's own.
const OTHER: &str = "_OTHER";

fn known_method(method: &str) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    known.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}

fn number_of(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// The span of an exchange with a backend; the conventions for HTTP clients. Of the URL it has no query.
fn exchange(scope: &Scope, pool: &Pool, forward: &Forward, method: &Method) -> Open {
    let Backend { host, port, .. } = pool.backend();
    let method = known_method(method.as_str());
    let url = format!("{}://{}{}", pool.scheme(), pool.name, forward.target.path());
    let name = if method == OTHER { "HTTP" } else { method };
    scope
        .begin(Kind::Client, name)
        .with("http.request.method", method)
        .with("server.address", Value::text(host))
        .with("server.port", *port)
        .with("url.full", Value::text(&url))
}

/// The exchange has ended: there is the head of an answer, or a reason why there is none.
pub(crate) fn ended(exchange: Option<Open>, answer: Result<u16, Reason>) {
    let Some(mut exchange) = exchange else { return };
    match answer {
        Ok(status) => exchange.answered(status),
        Err(reason) => exchange.failed(reason.code()),
    }
}
