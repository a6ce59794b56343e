//! Helpers for tests of a gateway: two drivers, an upstream that keeps the raw bytes it received, a scripted issuer,
//! and raw sockets.
//!
//! In: a folder of YAML. Out: [`Gateway`], a running `idm run`, or [`InProcess`], the product's decisions without
//! process and sockets; each with its audit. The oracle of a refusal is threefold: the reason in the record, exactly
//! one record, and no byte at the upstream.

mod authority;
mod browser;
mod collector;
mod demo;
pub mod http;
#[cfg(feature = "in-process")]
mod in_process;
mod issuer;
mod network;
pub mod play;
mod pod;
mod port;
mod prometheus;
mod provider;
mod raw;
mod redis;
mod routes;
mod saml;
mod serves;
pub mod slapd;
mod upstream;

pub use authority::{Authority, config_map, secret};
pub use browser::Browser;
pub use collector::{CollectedSpan, Collector};
pub use demo::Demo;
#[cfg(feature = "in-process")]
pub use in_process::InProcess;
pub use issuer::{Issuer, now};
pub use pod::Pod;
pub use port::{free_address, free_port};
pub use prometheus::Prometheus;
pub use provider::{CLIENT_SECRET, PASSWORD_OF_ALL, Provider, Script};
pub use raw::{Reply, raw, raw_on};
pub use redis::Redis;
pub use routes::{policy_of, route_to, route_to_port};
pub use saml::{IDP, SLO, SSO, SamlIdp, Says, signature_template};
pub use serves::Serves;
pub use upstream::Upstream;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary under test, built by `cargo test` together with everything else.
pub fn idm() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push("idm");
    assert!(path.exists(), "{} is not built: run `cargo build` (or the whole `cargo test`)", path.display());
    path
}

/// The folder with libraries of other languages; installed on first use.
pub fn interop_libraries() -> PathBuf {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/prepare"))
        .output()
        .expect("tests/interop/prepare runs");
    assert!(output.status.success(), "the libraries cannot be installed: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Tries for up to ten seconds; panics with the last problem.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(problem) if start.elapsed() > Duration::from_secs(10) => panic!("{what}: {problem}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs a program with a text as its input, and fails unless it succeeds. Returns its output.
pub fn run(program: &str, arguments: &[&str], input: &str, dir: &Path) -> String {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not run ({error}); ./test installs what the tests need"));
    let mut stdin = child.stdin.take().expect("an input");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let _ = writer.join();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A running `idm run` on a free port, with a folder and an audit of its own.
pub struct Gateway {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The address that it listens on for HTTPS, if a test asked for it.
    pub tls: Option<SocketAddr>,
    /// The folder it serves.
    pub dir: tempfile::TempDir,
    /// The folder of its records.
    pub audit: tempfile::TempDir,
    child: Child,
    log: std::sync::Arc<std::sync::Mutex<String>>,
    output: std::sync::Arc<std::sync::Mutex<String>>,
}

/// The lines of a stream as they come.
fn said(stream: impl std::io::Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

impl Gateway {
    /// Serves these files.
    pub fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, &[])
    }

    /// Serves these files with further arguments.
    pub fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_in(files, arguments, &[])
    }

    /// Serves these files with further arguments and these environment variables; it logs at trace level unless
    /// `IDM_LOG` is among them.
    pub fn start_in(files: &[(&str, &str)], arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let (dir, audit) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        let mut command = Command::new(idm());
        command
            .args(["run", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir.path())
            .arg("--audit-dir")
            .arg(audit.path())
            .args(arguments)
            .env("IDM_LOG", "trace")
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("idm starts");
        let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let errors = child.stderr.take().expect("piped");
        let logged = std::thread::spawn({
            let log = log.clone();
            move || {
                BufReader::new(errors)
                    .lines()
                    .map_while(Result::ok)
                    .for_each(|line| log.lock().expect("no panic inside").push_str(&format!("{line}\n")))
            }
        });
        let lines = said(child.stdout.take().expect("piped"));
        let output = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        // If standard output is the access log's, the rest is said on standard error.
        let (is_logged, wants_tls) = (arguments.contains(&"--access-log"), arguments.contains(&"--listen-tls"));
        let mut next = |scheme: &str| -> Result<SocketAddr, String> {
            let line = if is_logged {
                let found = || {
                    log.lock().expect("no panic inside").lines().find(|line| line.contains(scheme)).map(str::to_owned)
                };
                let ended = |child: &mut Child| child.try_wait().ok().flatten().is_some();
                loop {
                    match found() {
                        Some(line) => break line,
                        None if ended(&mut child) => break String::new(),
                        None => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
            } else {
                lines.recv().unwrap_or_default()
            };
            line.trim().rsplit(scheme).next().and_then(|address| address.parse().ok()).ok_or(line)
        };
        let address = next("http://");
        let tls = (wants_tls && address.is_ok()).then(|| next("https://").expect("an address"));
        std::thread::spawn({
            let output = output.clone();
            move || lines.iter().for_each(|line| output.lock().expect("no panic inside").push_str(&format!("{line}\n")))
        });
        let address = match address {
            Ok(address) => address,
            Err(line) => {
                let _ = child.wait();
                // The process has ended, and therefore its log, too.
                let _ = logged.join();
                panic!("idm did not start: {line}{}", log.lock().expect("no panic inside"));
            }
        };
        Self { address, tls, dir, audit, child, log, output }
    }

    /// The log so far, at trace level.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic inside").clone()
    }

    /// The text that it printed after it had said where it listens; with an access log, its lines.
    pub fn output(&self) -> String {
        self.output.lock().expect("no panic inside").clone()
    }

    /// Writes a file of the served folder anew.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).expect("written");
    }

    /// A file of the served folder.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).expect("a file")
    }

    /// All records so far.
    pub fn records(&self) -> Vec<Value> {
        records(self.audit.path())
    }

    /// The one record of a decision.
    pub fn record(&self, id: &str) -> Value {
        record(self.audit.path(), id)
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The number of file descriptors that the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// The number of connections of callers that the process holds open: of its port, and neither closed nor closing.
    pub fn callers(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let is_open = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            matches!(fields[..], [_, local, _, state, ..] if local.ends_with(&port) && state == ESTABLISHED)
        };
        table.lines().filter(is_open).count()
    }

    /// The CPU time the process has used, in ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // After the name in parentheses, user and system time are the 12th and 13th fields.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        [11, 12].iter().map(|field| fields[*field].parse::<u64>().expect("a number")).sum()
    }

    /// The CPU time that all threads of the process have used, to the nanosecond.
    pub fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let used = |thread: std::fs::DirEntry| -> Option<u64> {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(threads.flatten().filter_map(used).sum())
    }

    /// The memory the process has resident, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All records in a folder, without their places in the chain, which differ from run to run.
pub fn records(dir: &Path) -> Vec<Value> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "ndjson"))
        .collect();
    segments.sort();
    let text: String = segments.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let records = records.filter(|record| record["kind"] != "Seal");
    records
        .map(|mut record| {
            record.as_object_mut().map(|record| record.remove("chain"));
            record
        })
        .collect()
}

/// The one record of a decision in a folder.
pub fn record(dir: &Path, id: &str) -> Value {
    eventually("the record", || {
        let mut found: Vec<Value> = records(dir).into_iter().filter(|record| record["id"] == id).collect();
        if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{} records of {id}", found.len())) }
    })
}

/// A Service for the upstream that answers under every host, and a policy with these methods.
pub fn open_to(upstream: &Upstream, methods: &str) -> String {
    open_to_address(upstream.address, methods)
}

/// The same for an upstream at an address of this machine.
pub fn open_to_address(upstream: SocketAddr, methods: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: up, annotations: {{identity-manager.io/hostnames: \
            '*'}}}}\nspec: {{type: ExternalName, externalName: 127.0.0.1, ports: [{{name: http, port: {}}}]}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: p}}\nspec:\n  targetRefs: \
         [{{group: '', kind: Service, name: up}}]\n  authentication:\n    methods:\n{methods}",
        upstream.port()
    )
}

/// A Gateway with one HTTPS listener for every host, with the certificate in the Secret `server`.
pub const HTTPS_LISTENER: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n\
    spec: {gatewayClassName: idm, listeners: [{name: s, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: \
    server}]}}]}\n";

/// A policy method that opens the route.
pub const ANONYMOUS: &str = "    - {name: everyone, anonymous: {}}\n";
