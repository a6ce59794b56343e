use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::{free_address, idm, record, records};

/// A running `idm gateway` with a bundle in a file, as in a pod.
pub struct Pod {
    /// The address that it listens on.
    pub address: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
    log: Receiver<String>,
}

impl Pod {
    /// A pod of this namespace, once its first bundle, of generation 1, is in force.
    pub fn start(namespace: &str, bundle: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("bundle"), bundle).expect("written");
        let address = free_address();
        let mut command = Command::new(idm());
        command
            .args(["gateway", "--namespace", namespace, "--config-secret", "x", "--config-file"])
            .arg(dir.path().join("bundle"))
            .args(["--listen", &address.to_string(), "--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--audit-dir")
            .arg(dir.path().join("audit"))
            .env("IDM_LOG", "info")
            .env("HOME", dir.path())
            .env_remove("KUBECONFIG");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("idm starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let (say, log) = channel();
        // The process can write its log also when no test waits for a line.
        std::thread::spawn(move || lines.for_each(|line| drop(say.send(line))));
        let pod = Self { address, child, dir, log };
        pod.in_force(1);
        pod
    }

    /// Replaces the bundle, as the kubelet does it: the file is another one from one moment to the next. Returns when
    /// its generation is in force.
    pub fn replace(&self, bundle: &[u8], generation: u64) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, bundle).expect("written");
        std::fs::rename(next, self.dir.path().join("bundle")).expect("replaced");
        self.in_force(generation);
    }

    fn in_force(&self, generation: u64) {
        let wanted = format!("\"generation\":{generation}");
        let is_it = |line: &String| line.contains("configuration in force") && line.contains(&wanted);
        assert!(self.log.iter().any(|line| is_it(&line)), "it ended");
    }

    /// All records so far.
    pub fn records(&self) -> Vec<Value> {
        records(&self.dir.path().join("audit"))
    }

    /// The one record of a decision.
    pub fn record(&self, id: &str) -> Value {
        record(&self.dir.path().join("audit"), id)
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
