//! Decisions without a gateway: there is no listener, no forwarding, and no request to an outside server.

mod hypothetical;
mod token;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use idm_authn::{Memory, PasswordChecker, TokenCache};
use idm_plan::{Bundle, OutgoingTls, Secrets};
use idm_store::Store;
use idm_trust::{Answer, HttpClient, NoAnswer, NoDirectories, OutboundRequest, Outside, Work};
use idm_types::{Refusal, Timestamp};

pub use hypothetical::{
    Assumed, Forwarded, Hypotheses, Hypothesis, Hypothetical, HypotheticalError, HypotheticalOutcome, Rehearsal,
};

use crate::{Armed, BodyLimits, Context, Engine, EngineError, Forward, Payload, Peer, Process, Trace, Verdict, decide};

/// An armed bundle with the state that a decision in this process needs.
pub struct Offline {
    armed: Armed,
    memory: Arc<Memory>,
    outside: Outside,
    cache: RefCell<TokenCache>,
    process: Process,
    asked: Asked,
}

/// The outside servers that a decision would have asked.
type Asked = Arc<Mutex<BTreeSet<String>>>;

/// A decision, and the request as it left it.
pub struct Decision {
    /// The stage that the request reached, and the facts about it.
    pub trace: Trace,
    /// The result of the decision.
    pub outcome: Result<Decided, Refusal>,
}

/// The result for a request that was not refused.
pub enum Decided {
    /// It would go to the upstream.
    Forward {
        /// The target, and the evidence of the permit.
        forward: Forward,
        /// The head that the upstream would get, except for its target.
        head: Box<Parts>,
        /// The body that the upstream would get.
        body: Bytes,
    },
    /// The gateway would answer itself.
    Answer(Response<Bytes>),
}

impl Offline {
    /// Arms a bundle for a gateway of this name. Its memory and its counters are empty at first.
    pub fn arm(bundle: &Bundle, gateway: &str) -> Result<Self, EngineError> {
        let memory = PasswordChecker::start(1).and_then(|passwords| Memory::new(passwords, Store::in_process()));
        let memory = memory.ok_or_else(|| EngineError::Plan("the system gives no threads or no random bits".into()))?;
        Self::with_memory(bundle, gateway, memory)
    }

    fn with_memory(bundle: &Bundle, gateway: &str, memory: Arc<Memory>) -> Result<Self, EngineError> {
        let asked = Asked::default();
        let http = Arc::new(NoHttpClient(asked.clone()));
        let outside = Outside { http, directories: Arc::new(NoDirectories) };
        let armed = Armed::arm(bundle, None, &memory, &outside)?;
        nobody_fetches(&armed);
        let process = Process::new(gateway, BodyLimits::default());
        Ok(Self { armed, memory, outside, cache: RefCell::default(), process, asked })
    }

    /// Puts another bundle in force. On error the previous one stays in force.
    pub fn swap(&mut self, bundle: &Bundle) -> Result<(), EngineError> {
        self.armed = Armed::arm(bundle, Some(&self.armed), &self.memory, &self.outside)?;
        nobody_fetches(&self.armed);
        self.armed.take_over(&mut self.cache.borrow_mut());
        Ok(())
    }

    /// The armed plan.
    pub fn engine(&self) -> &Engine {
        self.armed.engine()
    }

    /// The armed bundle.
    pub fn armed(&self) -> &Armed {
        &self.armed
    }

    /// The outside servers that decisions would have asked so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn was_asked(&self) -> bool {
        !self.asked().is_empty()
    }

    /// Decides about a request whose body is complete. Limits see it as the only one.
    pub async fn decide(&self, peer: &Peer, request: Request<Bytes>, now: Timestamp) -> Decision {
        let (mut head, body) = request.into_parts();
        let mut payload = Payload::Streaming(Full::new(body.clone()));
        let mut trace = Trace::default();
        let Self { armed, cache, process, .. } = self;
        let (engine, credentials) = (armed.engine(), armed.credentials());
        let context = Context { engine, credentials, cache, process, peer, now, random: 0 };
        let verdict = decide(context, &mut head, &mut payload, &mut trace).await;
        // Each decision stands for itself: a hundred tests of one policy are not a hundred requests.
        self.memory.counters().forget();
        let outcome = verdict.map(|verdict| match verdict {
            Verdict::Answer(answer) => Decided::Answer(answer),
            Verdict::Forward(forward) => {
                let body = payload.held_bytes().unwrap_or(body);
                Decided::Forward { forward, head: Box::new(head), body }
            }
        });
        Decision { trace, outcome }
    }
}

/// No request waits for keys that nobody will fetch.
fn nobody_fetches(armed: &Armed) {
    for keys in armed.keys().values() {
        keys.begin();
        keys.fail();
    }
}

/// Replaces every outside server, and notes which were asked.
struct NoHttpClient(Asked);

impl HttpClient for NoHttpClient {
    fn ask(&self, question: OutboundRequest) -> Answer {
        let why = format!("{} is not asked: decisions are made offline", question.endpoint);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(question.endpoint);
        Box::pin(std::future::ready(Err(NoAnswer::Failed(why))))
    }

    fn check(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn reached_by(&self, _: &OutgoingTls, _: &Secrets) -> Result<Arc<dyn HttpClient>, String> {
        Ok(Arc::new(NoHttpClient(self.0.clone())))
    }

    fn carry_on(&self, work: Work) {
        drop(work);
    }
}
