//! Servers of the tests: PostgreSQL, MariaDB and PgBouncer, each in a temporary folder, on loopback and as a user that
//! is not root. Tests share them, and the last one that uses a server stops it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// `nobody` of Debian.
const NOBODY: u32 = 65534;
/// Numbers for what needs a name of its own.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// The password of the gateway in all servers.
pub(super) const PASSWORD: &str = "canary-gateway-password";

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

/// The newest PostgreSQL of Debian.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or_default());
    newest.unwrap_or_else(|| "/usr/lib/postgresql".into()).join("bin").join(name)
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

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
        let (dir, name) = (folder(), NEXT.fetch_add(1, Ordering::Relaxed));
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

/// A PostgreSQL server with TLS.
pub(super) struct PostgresServer {
    process: Mutex<Option<Process>>,
    pub(super) port: u16,
    pub(super) certificates: Certificates,
    dir: tempfile::TempDir,
}

static POSTGRES: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());

impl PostgresServer {
    pub(super) fn shared() -> Arc<Self> {
        shared(&POSTGRES, Self::start)
    }

    pub(super) fn start() -> Self {
        let (dir, certificates) = (folder(), Certificates::new());
        let data = dir.path().join("data");
        run(command(&postgres_program("initdb"))
            .args(["-U", "postgres", "--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .current_dir(dir.path()));
        write(
            &data.join("pg_hba.conf"),
            "local all all trust\nhost all cut 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
        );
        let server = Self { process: Mutex::new(None), port: 0, certificates, dir };
        for _ in 0..20 {
            let port = free_port();
            if server.start_at(port) {
                let server = Self { port, ..server };
                server.sql(
                    "postgres",
                    &format!("CREATE ROLE gateway LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE cut LOGIN"),
                );
                return server;
            }
        }
        panic!("postgres does not start: {}", server.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn start_at(&self, port: u16) -> bool {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", self.dir.path().display()),
            "fsync=off".into(),
            "max_connections=60".into(),
            "ssl=on".into(),
            format!("ssl_cert_file={}", self.certificates.path("server.crt")),
            format!("ssl_key_file={}", self.certificates.path("server.key")),
        ];
        let mut command = command(&postgres_program("postgres"));
        command.arg("-D").arg(self.dir.path().join("data")).current_dir(self.dir.path());
        for setting in &settings {
            command.args(["-c", setting]);
        }
        let mut process = Process::start(&mut command, &self.dir.path().join("log"));
        let listens = process.listens(port) && self.answers(port);
        *self.process.lock().unwrap() = Some(process).filter(|_| listens);
        listens
    }

    fn psql(&self, port: u16) -> Command {
        let mut command = command(&postgres_program("psql"));
        command.args([
            "-h",
            &self.dir.path().display().to_string(),
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-XqAt",
        ]);
        command.args(["-v", "ON_ERROR_STOP=1"]).current_dir(self.dir.path());
        command
    }

    /// Waits until the server has started up.
    fn answers(&self, port: u16) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            let output = self.psql(port).args(["-d", "postgres", "-c", "SELECT 1"]).output().unwrap();
            if output.status.success() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Stops the server at once.
    pub(super) fn stop(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Starts the server again at the same port.
    pub(super) fn restart(&self) {
        self.stop();
        assert!(self.start_at(self.port), "{}", self.log());
    }

    /// Runs SQL as the administrator; returns what it prints.
    pub(super) fn sql(&self, database: &str, text: &str) -> String {
        let output = run(self.psql(self.port).args(["-d", database, "-c", text]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A database with a name of its own.
    pub(super) fn database(&self, options: &str) -> String {
        let name = format!("people{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} {options}"));
        name
    }
}

/// A PgBouncer in transaction mode in front of a server.
pub(super) struct PgBouncer {
    _process: Process,
    pub(super) port: u16,
    _dir: tempfile::TempDir,
}

impl PgBouncer {
    /// With so many connections to the server.
    pub(super) fn start(server: &PostgresServer, size: usize) -> Self {
        let dir = folder();
        for _ in 0..20 {
            let port = free_port();
            let path = |file: &str| dir.path().join(file).display().to_string();
            write(&dir.path().join("users"), &format!("\"gateway\" \"{PASSWORD}\"\n"));
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
                 unix_socket_dir=\nauth_type=scram-sha-256\nauth_file={}\npool_mode=transaction\n\
                 default_pool_size={size}\nserver_reset_query=\nclient_tls_sslmode=require\nclient_tls_key_file={}\n\
                 client_tls_cert_file={}\n",
                server.port,
                path("users"),
                server.certificates.path("server.key"),
                server.certificates.path("server.crt"),
            );
            write(&dir.path().join("ini"), &settings);
            let mut command = command(&program("pgbouncer"));
            command.arg(dir.path().join("ini")).current_dir(dir.path());
            let mut process = Process::start(&mut command, &dir.path().join("log"));
            if process.listens(port) {
                return Self { _process: process, port, _dir: dir };
            }
        }
        panic!("pgbouncer does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default())
    }
}

/// A MariaDB server with TLS.
pub(super) struct MariaDbServer {
    _process: Process,
    pub(super) port: u16,
    pub(super) certificates: Certificates,
    dir: tempfile::TempDir,
}

static MARIADB: Mutex<Weak<MariaDbServer>> = Mutex::new(Weak::new());

impl MariaDbServer {
    pub(super) fn shared() -> Arc<Self> {
        shared(&MARIADB, Self::start)
    }

    fn start() -> Self {
        let (dir, certificates) = (folder(), Certificates::new());
        let data = dir.path().join("data");
        let argument = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
        run(command(&program("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(argument("datadir", &data.display()))
            .current_dir(dir.path()));
        for _ in 0..20 {
            let (port, path) = (free_port(), |file: &str| dir.path().join(file).display().to_string());
            let mut command = command(&program("mariadbd"));
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve"]).args(
                [
                    argument("datadir", &data.display()),
                    argument("port", &port),
                    argument("socket", &path("socket")),
                    argument("pid-file", &path("pid")),
                    argument("innodb-flush-log-at-trx-commit", &0),
                    argument("innodb-buffer-pool-size", &"16M"),
                    argument("ssl-cert", &certificates.path("server.crt")),
                    argument("ssl-key", &certificates.path("server.key")),
                ],
            );
            let mut process = Process::start(command.current_dir(dir.path()), &dir.path().join("log"));
            if process.listens(port) {
                let server = Self { _process: process, port, certificates, dir };
                server.sql(&format!(
                    "CREATE USER gateway@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO gateway@'127.0.0.1'"
                ));
                return server;
            }
        }
        panic!("mariadbd does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default())
    }

    /// Runs SQL as the administrator; returns what it prints.
    pub(super) fn sql(&self, text: &str) -> String {
        let socket = format!("--socket={}", self.dir.path().join("socket").display());
        let mut command = command(&program("mariadb"));
        command.args(["--no-defaults", &socket, "--user=root", "--batch", "--skip-column-names"]);
        command.args(["--default-character-set=utf8mb4", "-e", text]).current_dir(self.dir.path());
        String::from_utf8(run(&mut command).stdout).unwrap().trim().to_owned()
    }

    /// A database with a name of its own.
    pub(super) fn database(&self, options: &str) -> String {
        let name = format!("people{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE DATABASE {name} {options}"));
        name
    }
}
