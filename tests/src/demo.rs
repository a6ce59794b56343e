//! `idm demo` as a process, on free ports.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::idm;

/// A running demo; ends when dropped.
pub struct Demo {
    /// The address of its gateway.
    pub address: SocketAddr,
    child: Child,
    // Kept until the end: a demo whose reader has gone is another test's matter.
    _out: BufReader<ChildStdout>,
}

impl Demo {
    /// Starts it with this state folder and waits for its address.
    pub fn start(state: &Path) -> Self {
        let ports = ["--listen", "--echo", "--idp", "--manager"].iter().flat_map(|name| [*name, "127.0.0.1:0"]);
        let mut child = Command::new(idm())
            .arg("demo")
            .args(ports)
            .env("IDM_STATE_DIR", state)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        let mut out = BufReader::new(child.stdout.take().expect("its output"));
        let mut first = String::new();
        out.read_line(&mut first).expect("a line");
        let address = first.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok()).expect("the first line has the address");
        Self { address, child, _out: out }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.kill();
    }
}
