//! MariaDB.

use std::fs;
use std::sync::{Arc, Mutex, Weak};

use idm_tests::free_port;

use super::{Certificates, PASSWORD, Process, command, folder, number, program, run, shared};

/// A MariaDB server with TLS.
pub(in super::super) struct MariaDbServer {
    _process: Process,
    pub(in super::super) port: u16,
    pub(in super::super) certificates: Certificates,
    dir: tempfile::TempDir,
}

static MARIADB: Mutex<Weak<MariaDbServer>> = Mutex::new(Weak::new());

impl MariaDbServer {
    pub(in super::super) fn shared() -> Arc<Self> {
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
                let (user, all) = ("gateway@'127.0.0.1'", "GRANT ALL ON *.* TO");
                server.sql(&format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'; {all} {user}"));
                return server;
            }
        }
        panic!("mariadbd does not start: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default())
    }

    /// Runs SQL as the administrator; returns what it prints.
    pub(in super::super) fn sql(&self, text: &str) -> String {
        let socket = format!("--socket={}", self.dir.path().join("socket").display());
        let mut command = command(&program("mariadb"));
        command.args(["--no-defaults", &socket, "--user=root", "--batch", "--skip-column-names"]);
        command.args(["--default-character-set=utf8mb4", "-e", text]).current_dir(self.dir.path());
        String::from_utf8(run(&mut command).stdout).unwrap().trim().to_owned()
    }

    /// A database with a name of its own.
    pub(in super::super) fn database(&self, options: &str) -> String {
        let name = format!("people{}", number());
        self.sql(&format!("CREATE DATABASE {name} {options}"));
        name
    }
}
