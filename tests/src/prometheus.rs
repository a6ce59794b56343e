use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{free_address, raw};

/// A Prometheus on loopback that reads the metrics of gateways every 200 ms, and ends with the test.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that reads from these control ports.
    pub fn of(gateways: &[SocketAddr]) -> Self {
        let targets: Vec<String> = gateways.iter().map(|address| format!("\"{address}\"")).collect();
        // Another process may take the port between the choice and the start; then the next one is tried.
        for _ in 0..20 {
            let address = free_address();
            if let Some(prometheus) = Self::start_at(address, &targets.join(", ")) {
                return prometheus;
            }
        }
        panic!("prometheus does not start")
    }

    fn start_at(address: SocketAddr, targets: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: idm\n  \
             metrics_path: /-/metrics\n  static_configs: [{{targets: [{targets}], labels: {{namespace: shop, pod: \
             a}}}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed");
        // From here on it ends with its owner in every case.
        let mut prometheus = Self { address, child, _dir: dir };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) && prometheus.child.try_wait().ok().flatten().is_none() {
            if std::net::TcpStream::connect(address).is_ok() && prometheus.get("/-/ready").status == 200 {
                return Some(prometheus);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn get(&self, target: &str) -> crate::Reply {
        raw(self.address, format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// The `data` of an answer of its HTTP API, or the error that it tells.
    pub fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut target = format!("/api/v1/{endpoint}?");
        for (name, value) in parameters {
            let _ = write!(target, "{name}=");
            for byte in value.bytes() {
                let _ = match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(target, "{}", char::from(byte)),
                    _ => write!(target, "%{byte:02X}"),
                };
            }
            target.push('&');
        }
        let reply = self.get(&target);
        let answer: Value = serde_json::from_str(&reply.body).map_err(|error| format!("{error}: {reply:?}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer["error"].to_string()) }
    }

    /// The value of an expression that has one; `None` where it has none yet.
    pub fn value(&self, expression: &str) -> Option<f64> {
        let data = self.ask("query", &[("query", expression)]).expect("an expression");
        data["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
