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
    door: Door,
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
    Answer(Request<Bytes>, Sender<Reply>),
    /// Put files in force; on error the ones before stay.
    Apply(Vec<(String, String)>, Sender<Result<(), String>>),
    /// End.
    Stop,
}

/// The way to a gateway of this process.
#[derive(Clone)]
pub(crate) struct Door(UnboundedSender<Task>);

impl Door {
    /// Sends one request and waits for the answer.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Reply {
        let (reply, answered) = channel();
        let _ = self.0.send(Task::Answer(message::request(bytes), reply));
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

impl InProcess {
    /// Serves these files.
    pub fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, &[])
    }

    /// Serves these files with the arguments of `idm run` that concern decisions.
    pub fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        let files: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let reserved = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = reserved.local_addr().expect("an address");
        let (options, output) = (core::Options::of(arguments), Output::default());
        let (sender, tasks) = tokio::sync::mpsc::unbounded_channel();
        let door = Door(sender);
        let core = std::thread::spawn({
            let output = output.clone();
            move || core::run(options, output, tasks)
        });
        network::open(address, door.clone());
        let gateway = Self { address, _reserved: reserved, door, files: Mutex::new(files), output, core: Some(core) };
        let started = gateway.door.apply(&gateway.files.lock().expect("no panic inside"));
        if let Err(problem) = started {
            panic!("the files cannot be served: {problem}");
        }
        gateway
    }

    /// Writes a file anew. It is in force at once; if it cannot be used, the files before stay in force, and the log
    /// gives the reason.
    pub fn write(&self, name: &str, text: &str) {
        let mut files = self.files.lock().expect("no panic inside");
        files.insert(name.to_owned(), text.to_owned());
        let _ = self.door.apply(&files);
    }

    /// A file as it is now.
    pub fn read(&self, name: &str) -> String {
        self.files.lock().expect("no panic inside")[name].clone()
    }

    /// All records so far.
    pub fn records(&self) -> Vec<Value> {
        self.output.records.lock().expect("no panic inside").clone()
    }

    /// The one record of a decision.
    pub fn record(&self, id: &str) -> Value {
        let mut found: Vec<Value> = self.records().into_iter().filter(|record| record["id"] == id).collect();
        assert_eq!(found.len(), 1, "records of {id}");
        found.remove(0)
    }

    /// The log so far, at trace level.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.output.log.lock().expect("no panic inside")).into_owned()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        network::close(self.address);
        let _ = self.door.0.send(Task::Stop);
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}

impl Serves for InProcess {
    fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_with(files, arguments)
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn write(&self, name: &str, text: &str) {
        self.write(name, text);
    }

    fn read(&self, name: &str) -> String {
        self.read(name)
    }

    fn records(&self) -> Vec<Value> {
        self.records()
    }

    fn record(&self, id: &str) -> Value {
        self.record(id)
    }

    fn log(&self) -> String {
        self.log()
    }
}
