//! Questions to outside servers on behalf of requests: each server behind its own bulkhead, each question with an end.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idm_bulkhead::{Admission, Bounds, Bulkhead, Change, Counts, NotAsked, Place};
use idm_metrics::Exposition;
use idm_plan::{OutgoingTls, Secrets};
use idm_traces::{Kind, Open, Value, current};
use idm_trust::{Answer, Authorization, Deadline, HttpClient, NoAnswer, OutboundRequest, Work};
use tokio::runtime::Handle;
use url::Url;

use crate::fetch::Fetcher;

const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(20);
/// The longest time that a question waits for a place.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
const BOUNDS: Bounds = Bounds {
    places: 64,
    places_of_one: 48,
    queue: 256,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(30),
};
/// Larger answers are refused.
const MAX_ANSWER: usize = 256 * 1024;
/// Servers with a bulkhead. Only configuration and the documents of configured providers name any, so that more are a
/// provider that names others all the time; idle ones give way.
const MAX_SERVERS: usize = 1024;

/// A server: one endpoint, and how it is reached. An endpoint that hangs is not felt by those who need another one of
/// the same host, and a certificate that a server does not take is felt by nobody who shows another one.
type ServerKey = (String, Option<OutgoingTls>);

/// The bulkheads of all servers, which outlive changes of the configuration.
#[derive(Default)]
pub(crate) struct Servers(Mutex<HashMap<ServerKey, Arc<Server>>>);

struct Server {
    endpoint: String,
    bulkhead: Mutex<Bulkhead>,
    jitter: RandomState,
}

impl Servers {
    fn of(&self, endpoint: &str, tls: Option<&OutgoingTls>, now: Instant) -> Result<Arc<Server>, NotAsked> {
        let key = (server_name(endpoint), tls.cloned());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = all.get(&key) {
            return Ok(server.clone());
        }
        if all.len() >= MAX_SERVERS {
            let idle = all.iter().filter(|(_, server)| Arc::strong_count(server) == 1 && server.lock().is_idle());
            let oldest = idle.min_by_key(|(_, server)| server.lock().last_used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else {
                return Err(NotAsked { why: "too many outside servers are asked at once".into(), seconds: 1 });
            };
            all.remove(&oldest);
        }
        let (bulkhead, jitter) = (Mutex::new(Bulkhead::new(BOUNDS, now)), RandomState::new());
        let server = Arc::new(Server { endpoint: key.0.clone(), bulkhead, jitter });
        all.insert(key, server.clone());
        Ok(server)
    }

    /// Metrics, one line for each server and number.
    pub(crate) fn render(&self, out: &mut Exposition) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: std::collections::BTreeMap<&str, (Counts, bool, usize)> = Default::default();
        for ((endpoint, _), server) in all.iter() {
            let bulkhead = server.lock();
            let (counts, open, under_way) = rows.entry(endpoint).or_default();
            counts.answered += bulkhead.counts.answered;
            counts.failed += bulkhead.counts.failed;
            counts.not_asked += bulkhead.counts.not_asked;
            *open |= bulkhead.is_open();
            *under_way += bulkhead.under_way();
        }
        let mut family =
            out.counter("idm_outside_questions_total", "Questions to outside servers by what came of them.");
        for (endpoint, (counts, ..)) in &rows {
            for (outcome, count) in
                [("answered", counts.answered), ("failed", counts.failed), ("not_asked", counts.not_asked)]
            {
                family.sample(&[("server", endpoint), ("outcome", outcome)], count);
            }
        }
        let mut family =
            out.gauge("idm_outside_circuit_open", "1 while a server is not asked because it did not answer.");
        rows.iter().for_each(|(endpoint, (_, open, _))| family.sample(&[("server", endpoint)], u64::from(*open)));
        let mut family = out.gauge("idm_outside_under_way", "Questions to outside servers that wait for an answer.");
        rows.iter().for_each(|(endpoint, (.., under_way))| family.sample(&[("server", endpoint)], *under_way as u64));
    }
}

/// Scheme, host, port and path, without anything that may be secret.
fn server_name(endpoint: &str) -> String {
    let Ok(mut url) = Url::parse(endpoint) else { return "no URL".into() };
    url.set_query(None);
    url.set_fragment(None);
    let _ = (url.set_username(""), url.set_password(None));
    url.as_str().chars().filter(|c| !c.is_control()).take(256).collect()
}

impl Server {
    fn lock(&self) -> std::sync::MutexGuard<'_, Bulkhead> {
        self.bulkhead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_asked(&self, NotAsked { why, seconds }: NotAsked) -> NoAnswer {
        NoAnswer::NotAsked { why: format!("{} is not asked: {why}", self.endpoint), seconds }
    }

    /// A place, after some time in the queue perhaps.
    async fn place(self: &Arc<Self>, admission: Admission) -> Result<Held, NoAnswer> {
        let place = admission.place(tokio::time::sleep(QUEUE_WAIT)).await;
        let place = place.map_err(|why| self.not_asked(self.lock().not_asked(why, Instant::now())))?;
        Ok(Held { server: self.clone(), place, began: Instant::now(), answered: false })
    }
}

/// A place in use; without a word it counts as a question without an answer.
struct Held {
    server: Arc<Server>,
    place: Place,
    began: Instant,
    answered: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = Instant::now();
        let jitter = (self.server.jitter.hash_one(now) % 1001) as f64 / 1000.0;
        let change = self.server.lock().finish(self.place, self.answered, self.began, now, jitter);
        let server = &self.server.endpoint;
        match change {
            Some(Change::Opened { next_try }) => {
                tracing::warn!(
                    server,
                    next_try_ms = next_try.as_millis() as u64,
                    "an outside server does not answer: its circuit is open"
                );
            }
            Some(Change::Closed { after }) => {
                tracing::info!(
                    server,
                    after_s = after.as_secs(),
                    "an outside server answers again: its circuit is closed"
                );
            }
            None => {}
        }
    }
}

/// Asks over HTTP, from the runtime that made it: the serving cores only wait.
pub(crate) struct Asker {
    fetcher: Fetcher,
    tls: Option<OutgoingTls>,
    runtime: Handle,
    servers: Arc<Servers>,
}

impl Asker {
    pub(crate) fn new(fetcher: &Fetcher, servers: &Arc<Servers>) -> Self {
        Self { fetcher: fetcher.clone(), tls: None, runtime: Handle::current(), servers: servers.clone() }
    }
}

impl HttpClient for Asker {
    fn ask(&self, question: OutboundRequest) -> Answer {
        let now = Instant::now();
        let mut span = traced(&question);
        let mut refused = |why: NoAnswer| -> Answer {
            span.iter_mut().for_each(|span| span.failed("not_asked"));
            Box::pin(std::future::ready(Err(why)))
        };
        let server = match self.servers.of(&question.endpoint, self.tls.as_ref(), now) {
            Ok(server) => server,
            Err(NotAsked { why, seconds }) => return refused(NoAnswer::NotAsked { why, seconds }),
        };
        // Checked before it counts: what may not be asked says nothing about the server.
        if let Err(error) = self.fetcher.check(&question.endpoint) {
            return refused(NoAnswer::Failed(error.to_string()));
        }
        let admitted = server.lock().admit(idm_bulkhead::Asker::of(question.caller), now);
        let admission = match admitted {
            Ok(admission) => admission,
            Err(why) => return refused(server.not_asked(why)),
        };
        let fetcher = self.fetcher.clone();
        let limit = match question.deadline {
            Deadline::Short => SHORT,
            Deadline::Long => LONG,
        };
        let task = self.runtime.spawn(async move {
            let placed = server.place(admission).await;
            if let (Err(_), Some(span)) = (&placed, &mut span) {
                span.failed("not_asked");
            }
            let mut held = placed?;
            let answer = tokio::time::timeout(limit, ask(&fetcher, &question, limit))
                .await
                .unwrap_or_else(|_| Err(NoAnswer::Failed("no answer in time".into())));
            // Any status is an answer: callers must not be able to shut a server off by what they send.
            held.answered = matches!(answer, Ok(_) | Err(NoAnswer::Refused { .. }));
            match (&answer, &mut span) {
                (Ok(_), Some(span)) => span.answered(question.expected),
                (Err(NoAnswer::Refused { status, .. }), Some(span)) => span.answered(*status),
                (Err(_), Some(span)) => span.failed("no_answer"),
                (_, None) => {}
            }
            answer
        });
        Box::pin(async move { task.await.unwrap_or_else(|_| Err(NoAnswer::Failed("the question was dropped".into()))) })
    }

    fn check(&self, url: &str) -> Result<(), String> {
        self.fetcher.check(url).map_err(|error| error.to_string())
    }

    fn reached_by(&self, tls: &OutgoingTls, secrets: &Secrets) -> Result<Arc<dyn HttpClient>, String> {
        let fetcher = self.fetcher.reached_by(tls, secrets)?;
        let (runtime, servers) = (self.runtime.clone(), self.servers.clone());
        Ok(Arc::new(Self { fetcher, tls: Some(tls.clone()), runtime, servers }))
    }

    fn carry_on(&self, work: Work) {
        self.runtime.spawn(work);
    }
}

/// The span of a question for a request that is recorded. Of the endpoint it has no query.
fn traced(question: &OutboundRequest) -> Option<Open> {
    let method = if question.form.is_some() { "POST" } else { "GET" };
    let open = current()?.begin(Kind::Client, method).with("http.request.method", method);
    let open = open.with("url.full", Value::text(&server_name(&question.endpoint)));
    let Ok(url) = Url::parse(&question.endpoint) else { return Some(open) };
    let open = open.with("server.address", Value::text(url.host_str().unwrap_or_default()));
    Some(match url.port_or_known_default() {
        Some(port) => open.with("server.port", port),
        None => open,
    })
}

/// A form or a look at a document, with whatever proves us.
async fn ask(fetcher: &Fetcher, question: &OutboundRequest, limit: Duration) -> Result<Vec<u8>, NoAnswer> {
    let OutboundRequest { endpoint, authorization, form, expected, deadline: _, caller: _ } = question;
    let failed = NoAnswer::Failed;
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let request = match form {
        Some(form) => {
            let form = form
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value.reveal())))
                .collect::<Vec<_>>()
                .join("&");
            fetcher.client().post(endpoint).header("content-type", "application/x-www-form-urlencoded").body(form)
        }
        None => fetcher.client().get(endpoint),
    };
    let request = match authorization {
        Authorization::Nothing => request,
        // RFC 6749 §2.3.1: both are encoded first.
        Authorization::Basic { client_id, secret } => {
            request.basic_auth(encoded(client_id), Some(encoded(secret.reveal())))
        }
        Authorization::Bearer(token) => request.bearer_auth(token.reveal()),
    };
    let request = request.header("accept", "application/json, */*;q=0.1").timeout(limit);
    // The error of the client may hold the URL and never the body; the token stays out of every message.
    let mut answer =
        request.send().await.map_err(|error| failed(format!("no answer from {endpoint}: {}", error.without_url())))?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| failed(format!("the answer of {endpoint} ended early")))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(failed(format!("the answer of {endpoint} is too large")));
        }
        body.extend_from_slice(&chunk);
    }
    if status == *expected {
        return Ok(body);
    }
    // RFC 6749 §5.2: a code of printable characters, and nothing else of the answer gets into our records.
    let error = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|answer| Some(answer["error"].as_str()?.to_owned()));
    let error =
        error.filter(|error| error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    Err(NoAnswer::Refused { endpoint: endpoint.clone(), status, error })
}
