//! Servers of the tests: PostgreSQL, MariaDB and PgBouncer, each in a temporary folder, on loopback and as a user that
//! is not root. Tests share them, and the last one that uses a server stops it.

mod mariadb;
mod postgres;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(super) use mariadb::MariaDbServer;
pub(super) use postgres::{PgBouncer, PostgresServer};

/// `nobody` of Debian.
const NOBODY: u32 = 65534;
/// The password of the gateway in all servers.
pub(super) const PASSWORD: &str = "canary-gateway-password";

/// A number for what needs a name of its own.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// A program that runs as somebody who is not root.
fn command(program: &Path) -> Command {
    assert!(program.exists(), "{} is missing: run ./test, which installs it", program.display());
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]).arg(program);
    command
}

fn program(name: &str) -> PathBuf {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn run(command: &mut Command) -> Output {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}: run ./test"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told} {}", String::from_utf8_lossy(&output.stdout));
    output
}

/// A folder that belongs to the user of the servers.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    give(dir.path());
    dir
}

fn give(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    give(path);
}

/// A process that ends with its owner.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        let spawned = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        Self(spawned.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([name, &self.0.id().to_string()]).status();
    }

    /// Waits until something listens; `false`: the process ended, or nothing does in 30 s.
    fn listens(&mut self, port: u16) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) && self.0.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // PostgreSQL ends its own processes at SIGQUIT, the others end at once too.
        self.signal("-QUIT");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if self.0.try_wait().ok().flatten().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority with a certificate for `localhost` and 127.0.0.1.
pub(super) struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let (dir, name) = (folder(), number());
        let openssl = |arguments: &str| {
            run(Command::new("openssl").args(arguments.split(' ')).current_dir(dir.path()));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 30 -subj /CN=authority{name}"));
        openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
        write(&dir.path().join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n");
        openssl(
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 30 -extfile names",
        );
        for file in ["server.key", "server.crt", "ca.crt"] {
            give(&dir.path().join(file));
        }
        Self { dir }
    }

    pub(super) fn path(&self, file: &str) -> String {
        self.dir.path().join(file).display().to_string()
    }

    /// The TLS settings of a server in the test itself.
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from_pem_file(self.path("server.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    /// The authority in PEM.
    pub(super) fn roots(&self) -> String {
        fs::read_to_string(self.dir.path().join("ca.crt")).unwrap()
    }
}

/// A server that tests share while one of them needs it.
fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *slot = Arc::downgrade(&started);
        started
    })
}
