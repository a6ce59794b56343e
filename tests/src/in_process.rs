//! A gateway without a process and without sockets: the product's own code reads a folder's files, compiles, arms and
//! decides, on one thread that is a core. The proxy's part, which is to perform decisions, is played: a permitted
//! request is written to the [`Upstream`](crate::Upstream) of this process that its backend names.

mod core;
mod message;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::raw::Reply;
use crate::{Serves, network};

/// The longest time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway in this process, with records and a log of its own. Sockets, framing, TLS, the files being watched, the
/// spool and the command line are not in it: tests of these start a [`Gateway`](crate::Gateway).
pub struct InProcess {
    /// The address by which [`raw`](crate::raw()) and browsers reach it, in this process alone.
    pub address: SocketAddr,
    /// Keeps the port, so that no other process listens there.
    _reserved: TcpListener,
    tasks: Tasks,
    files: Mutex<BTreeMap<String, String>>,
    output: Output,
    core: Option<JoinHandle<()>>,
}

/// The records and the log of a gateway.
#[derive(Clone, Default)]
pub(crate) struct Output {
    records: Arc<Mutex<Vec<Value>>>,
    log: Arc<Mutex<Vec<u8>>>,
}

/// A task for the core.
enum Task {
    /// Answer a request.
    Answer(Box<Request<Bytes>>, Sender<Reply>),
    /// Put files in force; on error the ones before stay.
    Apply(Vec<(String, String)>, Sender<Result<(), String>>),
    /// End.
    Stop,
}

/// The way to the core.
#[derive(Clone)]
struct Tasks(UnboundedSender<Task>);

impl Tasks {
    /// Sends one request and waits for the answer.
    fn ask(&self, bytes: &[u8]) -> Reply {
        let (reply, answered) = channel();
        let _ = self.0.send(Task::Answer(Box::new(message::request(bytes)), reply));
        answered
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("no answer, or a panic of the gateway: {}", String::from_utf8_lossy(bytes)))
    }

    fn apply(&self, files: &BTreeMap<String, String>) -> Result<(), String> {
        let (done, applied) = channel();
        let files = files.iter().map(|(name, text)| (name.clone(), text.clone())).collect();
        let _ = self.0.send(Task::Apply(files, done));
        applied.recv_timeout(PATIENCE).expect("the gateway runs")
    }
}

impl Serves for InProcess {
    /// Arguments that do not concern decisions are an error.
    fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        let files: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let reserved = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = reserved.local_addr().expect("an address");
        let (options, output) = (core::Options::of(arguments), Output::default());
        let (sender, tasks) = tokio::sync::mpsc::unbounded_channel();
        let asked = Tasks(sender);
        let core = std::thread::spawn({
            let output = output.clone();
            move || core::run(options, output, tasks)
        });
        let door = asked.clone();
        network::open(address, Arc::new(move |bytes| door.ask(bytes)));
        let gateway =
            Self { address, _reserved: reserved, tasks: asked, files: Mutex::new(files), output, core: Some(core) };
        let started = gateway.tasks.apply(&gateway.files.lock().expect("no panic inside"));
        if let Err(problem) = started {
            panic!("the files cannot be served: {problem}");
        }
        gateway
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file is in force at once; if it cannot be used, the files before stay in force, and the log gives the
    /// reason.
    fn write(&self, name: &str, text: &str) {
        let mut files = self.files.lock().expect("no panic inside");
        files.insert(name.to_owned(), text.to_owned());
        let _ = self.tasks.apply(&files);
    }

    fn read(&self, name: &str) -> String {
        self.files.lock().expect("no panic inside")[name].clone()
    }

    fn records(&self) -> Vec<Value> {
        self.output.records.lock().expect("no panic inside").clone()
    }

    fn record(&self, id: &str) -> Value {
        let mut found: Vec<Value> = self.records().into_iter().filter(|record| record["id"] == id).collect();
        assert_eq!(found.len(), 1, "records of {id}");
        found.remove(0)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.output.log.lock().expect("no panic inside")).into_owned()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        network::close(self.address);
        let _ = self.tasks.0.send(Task::Stop);
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}
