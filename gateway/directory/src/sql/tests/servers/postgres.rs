//! PostgreSQL, and PgBouncer in front of it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use idm_tests::free_port;

use super::{Certificates, PASSWORD, Process, command, folder, number, program, run, shared, write};

/// The newest PostgreSQL of Debian.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()).unwrap_or_default());
    newest.unwrap_or_else(|| "/usr/lib/postgresql".into()).join("bin").join(name)
}

/// A PostgreSQL server with TLS.
pub(in super::super) struct PostgresServer {
    process: Mutex<Option<Process>>,
    pub(in super::super) port: u16,
    pub(in super::super) certificates: Certificates,
    dir: tempfile::TempDir,
}

static POSTGRES: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());

impl PostgresServer {
    pub(in super::super) fn shared() -> Arc<Self> {
        shared(&POSTGRES, Self::start)
    }

    pub(in super::super) fn start() -> Self {
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
    pub(in super::super) fn stop(&self) {
        *self.process.lock().unwrap() = None;
    }

    /// Starts the server again at the same port.
    pub(in super::super) fn restart(&self) {
        self.stop();
        assert!(self.start_at(self.port), "{}", self.log());
    }

    /// Runs SQL as the administrator; returns what it prints.
    pub(in super::super) fn sql(&self, database: &str, text: &str) -> String {
        let output = run(self.psql(self.port).args(["-d", database, "-c", text]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A database with a name of its own.
    pub(in super::super) fn database(&self, options: &str) -> String {
        let name = format!("people{}", number());
        self.sql("postgres", &format!("CREATE DATABASE {name} {options}"));
        name
    }
}

/// A PgBouncer in transaction mode in front of a server.
pub(in super::super) struct PgBouncer {
    _process: Process,
    pub(in super::super) port: u16,
    _dir: tempfile::TempDir,
}

impl PgBouncer {
    /// With so many connections to the server.
    pub(in super::super) fn start(server: &PostgresServer, size: usize) -> Self {
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
