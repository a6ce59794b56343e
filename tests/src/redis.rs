use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Authority, free_address};

/// A Redis server on loopback that stores no data on disk and ends with the test.
pub struct Redis {
    /// The address that it listens on.
    pub address: SocketAddr,
    child: Child,
}

/// The password that it requires.
const PASSWORD: &str = "canary-store-password";

impl Redis {
    /// Starts one on a free port.
    pub fn start() -> Self {
        // Another process may take the port between the choice and the start; then the next one is tried.
        for _ in 0..20 {
            let address = free_address();
            if let Some(redis) = Self::start_at(address) {
                return redis;
            }
        }
        panic!("redis-server does not start")
    }

    /// Starts one at this address; `None` when the address is in use.
    pub fn start_at(address: SocketAddr) -> Option<Self> {
        Self::start_with(address, &["--port", &address.port().to_string()])
    }

    /// Starts one that speaks TLS only, with the certificate `localhost` of an authority.
    pub fn start_tls(authority: &Authority) -> Self {
        for _ in 0..20 {
            let address = free_address();
            let port = address.port().to_string();
            let (ca, certificate, key) =
                (authority.path("ca.crt"), authority.path("localhost.crt"), authority.path("localhost.key"));
            let files = [
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
                "--tls-ca-cert-file",
                &ca,
                "--tls-auth-clients",
                "no",
            ];
            if let Some(redis) =
                Self::start_with(address, &[&["--port", "0", "--tls-port", &port][..], &files[..]].concat())
            {
                return redis;
            }
        }
        panic!("redis-server does not start")
    }

    fn start_with(address: SocketAddr, arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "", "--appendonly", "no"])
            .args(arguments);
        let child = command
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        // From here on it ends with its owner in every case.
        let mut redis = Self { address, child };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) && redis.child.try_wait().ok().flatten().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// A file with its password.
    pub fn password_file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), PASSWORD).expect("written");
        file
    }

    /// Runs a command of `redis-cli` and returns its answer.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.address.port().to_string(), "-a", PASSWORD, "--no-auth-warning"])
            .args(arguments)
            .output();
        String::from_utf8_lossy(&output.expect("redis-cli is installed").stdout).into_owned()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it from answering, or lets it continue.
    pub fn pause(&self, paused: bool) {
        let _ =
            Command::new("kill").args([if paused { "-STOP" } else { "-CONT" }, &self.child.id().to_string()]).status();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
