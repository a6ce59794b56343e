//! The report about a request when its answer has ended. It is made only for requests that are told of.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use idm_audit::Decision;
use idm_traces::{Scope, Span};

use crate::access_log::{Line, More, Seen};
use crate::core::Core;
use crate::metrics::Flight;
use crate::traced::Traced;

/// A request that is told of. Whoever knows something about it holds it; it is told when it is let go by the last.
pub(crate) struct Telling {
    core: Rc<Core>,
    began: Instant,
    seen: RefCell<Seen>,
    /// The time of the upstream until the head of its answer.
    upstream: Cell<Option<Duration>>,
    line: RefCell<Option<Line>>,
    span: RefCell<Option<(Scope, Span)>>,
    bytes: Cell<u64>,
}

impl Telling {
    /// For a request that arrived at this time; `None` where nobody wants to know of it.
    pub(crate) fn begin(core: &Rc<Core>, began: Instant) -> Option<Rc<Self>> {
        if core.access_log.is_none() && core.shared.traces.is_none() {
            return None;
        }
        Some(Rc::new(Self {
            core: core.clone(),
            began,
            seen: RefCell::default(),
            upstream: Cell::default(),
            line: RefCell::default(),
            span: RefCell::default(),
            bytes: Cell::new(0),
        }))
    }

    /// The headers as the caller sent them.
    pub(crate) fn arrived(&self, headers: &HeaderMap) {
        if self.core.access_log.is_some() {
            *self.seen.borrow_mut() = Seen::of(headers);
        }
    }

    /// The upstream has answered, or failed, after this time.
    pub(crate) fn upstream(&self, took: Duration) {
        self.upstream.set(Some(took));
    }

    /// The decision about a request of this version of HTTP.
    pub(crate) fn decided(&self, decision: &Decision<'_>, version: http::Version, traced: Option<&Traced>) {
        *self.span.borrow_mut() = traced.and_then(|traced| traced.span(decision, version));
        let Some(log) = &self.core.shared.access_log else { return };
        let more = More { version, seen: &self.seen.borrow(), upstream: self.upstream.get() };
        *self.line.borrow_mut() = Some(Line::of(log.format(), decision, &more));
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some((scope, mut span)) = self.span.take() {
            span.ended = scope.clock().at(Instant::now());
            scope.tell(span);
        }
        let (Some(lines), Some(line)) = (&self.core.access_log, self.line.take()) else { return };
        lines.add(&line.ended(self.bytes.get(), self.began.elapsed()));
        self.core.recorded();
    }
}

/// The state that lasts until an answer has been sent: its place among the requests under way, and what is told of it.
#[derive(Default)]
pub(crate) struct Ending {
    pub(crate) flight: Option<Flight>,
    pub(crate) telling: Option<Rc<Telling>>,
}

impl Ending {
    /// So many bytes of the body are on their way.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(telling) = &self.telling {
            telling.bytes.set(telling.bytes.get() + bytes as u64);
        }
    }
}
