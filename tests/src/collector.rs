use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::eventually;

/// The OTLP receiver of the OpenTelemetry Collector on loopback, which keeps what it received and ends with the test.
pub struct Collector {
    /// The address that it listens on.
    pub address: SocketAddr,
    child: Child,
    received: Arc<Mutex<String>>,
}

/// A span as the collector read it.
#[derive(Clone, Debug)]
pub struct CollectedSpan(pub Value);

impl CollectedSpan {
    /// A member that is a text; empty if there is none.
    pub fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_default()
    }

    /// An attribute: a text, or a number as text. `None`: it has no such attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let all = self.0["attributes"].as_array()?;
        let value = &all.iter().find(|attribute| attribute["key"] == name)?["value"];
        let text = value["stringValue"].as_str().or_else(|| value["intValue"].as_str());
        Some(text.unwrap_or_else(|| panic!("{value}")).to_owned())
    }

    /// Whether its status is an error.
    pub fn failed(&self) -> bool {
        self.0["status"]["code"] == 2
    }
}

impl Collector {
    /// Starts one; it is built on first use.
    pub fn start() -> Self {
        let built = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("collector/prepare"))
            .output()
            .expect("tests/collector/prepare runs");
        assert!(built.status.success(), "no collector: {}", String::from_utf8_lossy(&built.stderr));
        let mut child = Command::new(String::from_utf8_lossy(&built.stdout).trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the collector starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let address = lines.next().and_then(|line| line.parse().ok()).expect("its address");
        let received = Arc::<Mutex<String>>::default();
        std::thread::spawn({
            let received = received.clone();
            move || lines.for_each(|line| received.lock().expect("no panic inside").push_str(&format!("{line}\n")))
        });
        Self { address, child, received }
    }

    /// Its address for `--traces`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that it received, an object of JSON for each request.
    pub fn received(&self) -> String {
        self.received.lock().expect("no panic inside").clone()
    }

    /// The resources and the spans that it received so far.
    pub fn all(&self) -> Vec<(Value, CollectedSpan)> {
        let mut all = Vec::new();
        for line in self.received().lines() {
            let request: Value = serde_json::from_str(line).expect("the collector writes JSON");
            for of in request["resourceSpans"].as_array().into_iter().flatten() {
                for scope in of["scopeSpans"].as_array().into_iter().flatten() {
                    let spans = scope["spans"].as_array().into_iter().flatten();
                    all.extend(spans.map(|span| (of["resource"].clone(), CollectedSpan(span.clone()))));
                }
            }
        }
        all
    }

    /// Waits until a trace has this many spans, and returns them in the order in which they began.
    pub fn trace(&self, id: &str, count: usize) -> Vec<CollectedSpan> {
        eventually("the spans", || {
            let spans = self.all().into_iter().map(|(_, span)| span);
            let mut spans: Vec<_> = spans.filter(|span| span.text("traceId") == id).collect();
            let began = |span: &CollectedSpan| span.text("startTimeUnixNano").parse::<u64>().expect("a time");
            spans.sort_by_key(began);
            if spans.len() == count { Ok(spans) } else { Err(format!("{}: {spans:#?}", spans.len())) }
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
