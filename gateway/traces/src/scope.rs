use std::borrow::Cow;
use std::cell::RefCell;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use idm_types::{TraceContext, TraceId};

use crate::{Kind, Sink, Span, SpanId, Value};

/// Turns moments of one request into times of the wall clock, which is read once: no jump of it makes a span negative.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// A moment.
    pub began: Instant,
    /// The same moment, in nanoseconds since 1970.
    pub wall_ns: u64,
}

impl Clock {
    /// The time of a moment.
    pub fn at(&self, moment: Instant) -> u64 {
        self.wall_ns.saturating_add(moment.saturating_duration_since(self.began).as_nanos() as u64)
    }
}

/// A span of a recorded trace that is under way, as the operations within it see it.
#[derive(Clone, Debug)]
pub struct Scope(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sink: Sink,
    trace: TraceId,
    span: SpanId,
    clock: Clock,
    children: AtomicU64,
}

impl Scope {
    /// The span of this context, which began with the clock.
    pub fn new(sink: &Sink, context: TraceContext, clock: Clock) -> Self {
        let (trace, span) = (context.trace, context.parent);
        Self(Arc::new(Inner { sink: sink.clone(), trace, span, clock, children: AtomicU64::new(0) }))
    }

    /// Begins an operation within the span. The name is from a small set.
    pub fn begin(&self, kind: Kind, name: impl Into<Cow<'static, str>>) -> Open {
        self.begin_at(kind, name, Instant::now())
    }

    /// The same, where the operation began at this moment.
    pub fn begin_at(&self, kind: Kind, name: impl Into<Cow<'static, str>>, began: Instant) -> Open {
        let Inner { trace, span, clock, children, .. } = &*self.0;
        let span = Span {
            trace: *trace,
            id: child(*span, children.fetch_add(1, Relaxed)),
            parent: Some(*span),
            link: None,
            kind,
            name: name.into(),
            began: clock.at(began),
            ended: 0,
            attributes: Vec::new(),
            failed: false,
        };
        Open { scope: self.clone(), span: Some(span), is_known: false }
    }

    /// Tells a span that has ended.
    pub fn tell(&self, span: Span) {
        self.0.sink.tell(span);
    }

    /// The clock of the request.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }
}

/// The id of the n-th child of a span: all children of a span differ, and those of other spans nearly always
/// (splitmix64, which is a permutation).
fn child(parent: SpanId, n: u64) -> SpanId {
    let mut z = parent.get().wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    NonZeroU64::new(z ^ (z >> 31)).unwrap_or(NonZeroU64::MIN)
}

/// An operation under way. It is told when it is dropped, and as `cancelled` if nothing is known of its result by then.
#[derive(Debug)]
pub struct Open {
    scope: Scope,
    span: Option<Span>,
    is_known: bool,
}

impl Open {
    /// The place of what happens within the operation, for whoever continues the trace.
    pub fn context(&self) -> Option<TraceContext> {
        let span = self.span.as_ref()?;
        Some(TraceContext { trace: span.trace, parent: span.id, sampled: true })
    }

    /// Adds an attribute.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value.into());
        self
    }

    fn set(&mut self, name: &'static str, value: Value) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value));
        }
    }

    /// It ends as it should.
    pub fn succeeded(&mut self) {
        self.is_known = true;
    }

    /// It ends with an answer of this status, which is an error from 400 up: so the conventions say for clients.
    pub fn answered(&mut self, status: u16) {
        self.set("http.response.status_code", status.into());
        match status {
            400.. => self.failed(status.to_string()),
            _ => self.succeeded(),
        }
    }

    /// It ends with an error of this type, which is from a small set.
    pub fn failed(&mut self, error: impl Into<Cow<'static, str>>) {
        self.is_known = true;
        self.set("error.type", Value::Text(error.into()));
        if let Some(span) = &mut self.span {
            span.failed = true;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_known {
            self.failed("cancelled");
        }
        if let Some(mut span) = self.span.take() {
            span.ended = self.scope.clock().at(Instant::now());
            self.scope.tell(span);
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// The span that the running code is a part of; `None` where nothing is recorded.
pub fn current() -> Option<Scope> {
    CURRENT.with_borrow(Clone::clone)
}

/// A future that is a part of a span: while it runs, it is the [`current`] one. What it hands over to another thread
/// takes the scope along by itself.
pub struct Within<F> {
    scope: Option<Scope>,
    future: F,
}

impl<F> Within<F> {
    /// Runs a future within a span. Without one it runs as it is.
    pub fn new(scope: Option<Scope>, future: F) -> Self {
        Self { scope, future }
    }
}

/// Puts the scope back that was current before, also when the future panics.
struct Before(Option<Scope>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let _before = this.scope.clone().map(|scope| Before(CURRENT.replace(Some(scope))));
        Pin::new(&mut this.future).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU128;
    use std::time::Duration;

    use super::*;
    use crate::{Waiting, queue};

    fn scope() -> (Scope, Waiting, Instant) {
        let (sink, waiting) = queue(8);
        let context = TraceContext { trace: NonZeroU128::MIN.into(), parent: NonZeroU64::MIN, sampled: true };
        let began = Instant::now();
        (Scope::new(&sink, context, Clock { began, wall_ns: 5_000 }), waiting, began)
    }

    async fn told(waiting: &mut Waiting) -> Vec<Span> {
        let mut told = Vec::new();
        waiting.first(&mut told).await;
        told
    }

    #[tokio::test]
    async fn a_span_is_told_with_its_parent_and_its_times() {
        let (scope, mut waiting, began) = scope();
        let mut open = scope.begin_at(Kind::Client, "GET", began + Duration::from_nanos(10)).with("server.port", 80);
        let context = open.context().unwrap();
        open.answered(204);
        drop(open);
        let [span] = told(&mut waiting).await.try_into().unwrap();
        assert_eq!((span.began, span.parent, span.id), (5_010, Some(NonZeroU64::MIN), context.parent));
        assert!(span.ended >= span.began && !span.failed && context.sampled);
        assert_eq!(span.attributes, [("server.port", 80.into()), ("http.response.status_code", 204.into())]);
    }

    #[tokio::test]
    async fn an_error_has_a_type_and_one_without_a_word_was_cancelled() {
        let (scope, mut waiting, _) = scope();
        scope.begin(Kind::Client, "POST").answered(404);
        scope.begin(Kind::Client, "POST").failed("UpstreamTimeout");
        drop(scope.begin(Kind::Internal, "wait"));
        scope.begin(Kind::Internal, "wait").succeeded();
        let told = told(&mut waiting).await;
        let errors: Vec<_> = told.iter().map(|span| (span.failed, span.attributes.last().cloned())).collect();
        let error = |text: &'static str| (true, Some(("error.type", Value::from(text))));
        assert_eq!(errors, [error("404"), error("UpstreamTimeout"), error("cancelled"), (false, None)]);
    }

    #[test]
    fn children_of_a_span_differ() {
        let ids: BTreeSet<_> = (0..1000).flat_map(|n| [child(NonZeroU64::MIN, n), child(NonZeroU64::MAX, n)]).collect();
        assert_eq!(ids.len(), 2000);
    }

    #[tokio::test]
    async fn a_scope_is_current_within_its_future_alone() {
        let (scope, ..) = scope();
        let is_current = || current().is_some_and(|current| Arc::ptr_eq(&current.0, &scope.0));
        let inner = Box::pin(async {
            let first = is_current();
            tokio::task::yield_now().await;
            (first, is_current(), tokio::spawn(async { current().is_some() }).await.unwrap())
        });
        // The other future runs while the first one waits.
        let (within, outside) = tokio::join!(Within::new(Some(scope.clone()), inner), async {
            let first = is_current();
            tokio::task::yield_now().await;
            (first, is_current())
        });
        assert_eq!((within, outside), ((true, true, false), (false, false)));
        Within::new(None, Box::pin(async { assert!(!is_current()) })).await;
    }

    #[test]
    fn a_panic_leaves_no_scope_behind() {
        let (scope, ..) = scope();
        let mut within = Within::new(Some(scope), Box::pin(async { panic!("as a test does") }));
        let poll = || Pin::new(&mut within).poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
        assert!(current().is_none());
    }
}
