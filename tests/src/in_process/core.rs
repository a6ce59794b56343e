//! The core of a gateway in this process: one thread that decides, plays the proxy, and keeps the records.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use idm_compile::Settings;
use idm_decide::{
    Account, AnswerEdits, Armed, BodyLimits, Conclusion, Context, Forward, Payload, Peer, Process, TokenCache, Trace,
    Used, Verdict,
};
use idm_gateway::{Environment, source::dir};
use idm_proxy::Framing;
use idm_store::{SharedOptions, Store};
use idm_transform::{HiddenUsage, Meter, Usage};
use idm_types::{DecisionId, Reason, Refusal, Stage, Timestamp};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;

use super::{Output, Task, message};
use crate::network;
use crate::raw::Reply;

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The arguments of `idm run` that concern decisions.
#[derive(Default)]
pub(super) struct Options {
    danger_insecure_issuers: bool,
    store: Option<String>,
}

impl Options {
    pub(super) fn of(arguments: &[&str]) -> Self {
        let (mut options, mut arguments) = (Self::default(), arguments.iter());
        while let Some(argument) = arguments.next() {
            match *argument {
                "--danger-insecure-issuers" => options.danger_insecure_issuers = true,
                "--store" => options.store = arguments.next().map(|url| (*url).to_owned()),
                other => panic!("{other} concerns the process: start a `Gateway`"),
            }
        }
        options
    }

    fn store(&self) -> Store {
        let Some(url) = self.store.clone() else { return Store::in_process() };
        let namespace = "standalone".to_owned();
        Store::shared(SharedOptions { url, username: None, password: None, ca_pem: None, namespace }).expect("a store")
    }
}

struct Core {
    settings: Settings,
    environment: Environment,
    armed: RefCell<Option<Rc<Armed>>>,
    generation: Cell<u64>,
    cache: RefCell<TokenCache>,
    process: Process,
    peer: Peer,
    ids: Cell<u128>,
    output: Output,
}

/// Serves until it is told to stop.
pub(super) fn run(options: Options, output: Output, mut tasks: UnboundedReceiver<Task>) {
    let log = output.log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || Log(log.clone()))
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let core = Rc::new(Core::new(&options, output));
        while let Some(task) = tasks.recv().await {
            match task {
                Task::Stop => return,
                Task::Apply(files, done) => drop(done.send(core.apply(&files).await)),
                Task::Answer(request, reply) => {
                    let core = core.clone();
                    // As on a core of the proxy, requests wait for servers side by side.
                    tokio::task::spawn_local(async move { reply.send(core.serve(*request).await) });
                }
            }
        }
    });
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic inside").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Core {
    fn new(options: &Options, output: Output) -> Self {
        let insecure = options.danger_insecure_issuers;
        Self {
            settings: Settings::of_a_folder(insecure),
            environment: Environment::new(options.store(), 1, insecure, &idm_gateway::Egress::default())
                .expect("an environment"),
            armed: RefCell::default(),
            generation: Cell::new(0),
            cache: RefCell::default(),
            process: Process::new("standalone", BodyLimits::default()),
            peer: Peer::plain(CALLER),
            ids: Cell::new(u128::from(idm_gateway::random_seed()) << 64),
            output,
        }
    }

    async fn apply(&self, files: &[(String, String)]) -> Result<(), String> {
        let applied = async {
            let compiled = dir::load(files, self.settings).map_err(|error| error.to_string())?;
            let before = self.armed.borrow().clone();
            let bundle = compiled.seal(self.generation.get() + 1);
            self.environment.arm(&bundle, before.as_deref()).await.map_err(|error| error.to_string())
        };
        let armed = applied.await.inspect_err(|error| tracing::error!("{error}"))?;
        armed.take_over(&mut self.cache.borrow_mut());
        *self.armed.borrow_mut() = Some(Rc::new(armed));
        self.generation.set(self.generation.get() + 1);
        Ok(())
    }

    /// Decides about a request, performs the decision, and keeps its record.
    async fn serve(&self, request: Request<Bytes>) -> Reply {
        let (now, started) = (Timestamp::now(), Instant::now());
        let armed = self.armed.borrow().clone().expect("files are in force");
        let Self { cache, process, peer, .. } = self;
        let (engine, credentials) = (armed.engine(), armed.credentials());
        let random = self.ids.get() as u64;
        let context = Context { engine, credentials, cache, process, peer, now, random };
        let (mut head, body) = request.into_parts();
        let (mut body, mut trace) = (Payload::Streaming(Full::new(body)), Trace::default());
        let method = head.method.clone();
        let verdict = idm_decide::decide(context, &mut head, &mut body, &mut trace).await;
        let mut played = Played { armed: &armed, core: self, now, trace, upstream: None, usage: None };
        let outcome = match verdict {
            Ok(Verdict::Answer(answer)) => Ok(answer),
            Ok(Verdict::Forward(forward)) => played.forward(forward, head, body).await,
            Err(refusal) => Err(refusal),
        };
        let id = DecisionId::from_parts(now.0, self.ids.replace(self.ids.get() + 1));
        let Played { trace, upstream, usage, .. } = played;
        let (response, reason, detail) = match outcome {
            Ok(response) => (response, None, String::new()),
            Err(refusal) => {
                let response = idm_decide::refusal(Some(engine), &trace, &refusal, id, now);
                (response, Some(refusal.reason), refusal.detail)
            }
        };
        let conclusion = Conclusion {
            id,
            time: now,
            took: started.elapsed(),
            method: &method,
            source: peer.address,
            reason,
            status: response.status().as_u16(),
            detail: &detail,
            upstream: upstream.as_deref(),
            mirrors: &[],
            usage: usage.as_ref(),
        };
        let record = idm_decide::record(Some(&armed), process, &trace, conclusion);
        let record = serde_json::to_value(&record).expect("a record is JSON");
        self.output.records.lock().expect("no panic inside").push(record);
        message::reply(&method, response)
    }
}

/// A request that is performed.
struct Played<'p> {
    armed: &'p Armed,
    core: &'p Core,
    now: Timestamp,
    trace: Trace,
    upstream: Option<String>,
    usage: Option<Usage>,
}

impl Played<'_> {
    /// Gives a permitted request to its upstream, and makes the caller's answer of the upstream's.
    async fn forward(
        &mut self,
        mut forward: Forward,
        mut head: Parts,
        body: Payload<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Refusal> {
        assert!(!forward.websocket, "a tunnel is a matter of sockets");
        self.trace.stage = Stage::Upstream;
        let mut limited = std::mem::take(&mut forward.limited);
        let (engine, process) = (self.armed.engine(), &self.core.process);
        let backend = forward.backend.and_then(|position| engine.backends().get(position));
        let backend = backend.ok_or_else(|| Refusal::new(Reason::NoBackend, ""))?;
        self.upstream = Some(format!("{}:{}", backend.host, backend.port));
        if forward.own_host {
            head.headers.insert(header::HOST, HeaderValue::from_str(&backend.authority()).expect("a host"));
        }
        let body = match body {
            Payload::Streaming(body) => body,
            Payload::Held(held) => Full::new(held.bytes().clone()),
        };
        Framing::of(&body).announce(&head.method, &mut head.headers);
        let body = http_body_util::BodyExt::collect(body).await.expect("it is in memory").to_bytes();
        let address = SocketAddr::new(backend.host.parse().expect("an address"), backend.port);
        let upstream = network::upstream(address).unwrap_or_else(|| panic!("no upstream of this process: {address}"));
        upstream.receive(&message::written(&head, &forward.target, &body));
        let mut response = message::answer(&upstream.answer);
        if head.method == Method::HEAD {
            *response.body_mut() = Bytes::new();
        }
        idm_decide::remove_hop_by_hop(response.headers_mut());
        if self.trace.in_query {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        self.trace.stage = Stage::Answer;
        let too_long = limited.response_size.as_ref().filter(|size| response.body().len() as u64 > size.max_bytes);
        if let Some(size) = too_long {
            self.trace.limit = Some(size.name.clone());
            return Err(size.refusal(Reason::ResponseTooLarge));
        }
        if let (Some(account), Some(metering)) =
            (Account::of(engine, &self.trace), forward.metering.as_deref().copied())
        {
            let mut meter = Meter::new(response.status().as_u16(), response.headers(), metering.call);
            meter.see(response.body());
            if metering.hides_usage && meter.is_streamed() {
                let mut hidden = HiddenUsage::default();
                let (passed, rest) = (hidden.pass(response.body()), hidden.rest());
                response.headers_mut().remove(header::CONTENT_LENGTH);
                *response.body_mut() = [passed, rest].concat().into();
            }
            let usage = meter.usage().priced(metering.price);
            let tokens = usage.tokens();
            account.charge(process, tokens, self.now);
            if let Some(taken) = limited.taken.take() {
                taken.settle(Used { tokens, micros: usage.micros() });
            }
            self.usage = Some(usage);
        }
        if !idm_decide::wants_response(engine, &self.trace) {
            return Ok(self.edited(response, forward.answer));
        }
        let jose = forward.jose.take();
        let (mut parts, body) = response.into_parts();
        let jose = jose.as_ref();
        let made = idm_decide::make_response(engine, process, &self.trace, jose, self.now, &mut parts.headers, body)?;
        Ok(self.edited(Response::from_parts(parts, made), forward.answer))
    }

    /// An answer with the changes of its head that the route and the policy ask for.
    fn edited(&self, mut response: Response<Bytes>, edits: Option<AnswerEdits>) -> Response<Bytes> {
        if let Some(edits) = edits {
            edits.apply(response.headers_mut());
        }
        self.trace.share(response.headers_mut());
        response
    }
}
