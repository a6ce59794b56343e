//! OpenLDAP's server, with a directory of the test's own.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{free_port, run};

/// The suffix of the directory.
pub const SUFFIX: &str = "dc=corp,dc=test";
/// The people are below this entry.
pub const PEOPLE: &str = "ou=people,dc=corp,dc=test";
/// The place for groups; there are none yet.
pub const GROUPS: &str = "ou=groups,dc=corp,dc=test";
/// The name of the gateway's own entry, which may read everything but passwords.
pub const OWN_NAME: &str = "cn=gateway,dc=corp,dc=test";
/// The password of [`OWN_NAME`].
pub const OWN_PASSWORD: &str = "canary-own-password";
/// The password of every person.
pub const PASSWORD: &str = "canary-Pa55word";

/// A running server.
pub struct Slapd {
    dir: tempfile::TempDir,
    child: Child,
    port: u16,
    tls_port: u16,
}

/// The entries that every directory has.
fn seed() -> String {
    let mut ldif = format!(
        "dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: corp\n\n\
         dn: {PEOPLE}\nobjectClass: organizationalUnit\n\n\
         dn: {GROUPS}\nobjectClass: organizationalUnit\n\n\
         dn: ou=other,{SUFFIX}\nobjectClass: organizationalUnit\n\n\
         dn: cn=gateway,{SUFFIX}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
         userPassword: {OWN_PASSWORD}\n\n"
    );
    for (uid, name) in [("ana", "Ana Ruiz"), ("bob", "Bob Stone")] {
        ldif.push_str(&person(uid, name));
    }
    ldif
}

/// The name of a person's entry.
pub fn uid(uid: &str) -> String {
    format!("uid={uid},{PEOPLE}")
}

/// An entry of a person.
pub fn person(uid: &str, name: &str) -> String {
    format!(
        "dn: uid={uid},{PEOPLE}\nobjectClass: inetOrgPerson\nsn: {name}\ncn: {name}\nmail: {uid}@corp.test\n\
         userPassword: {PASSWORD}\n\n"
    )
}

/// An entry of a group.
pub fn group(dn: &str, members: &[String]) -> String {
    let mut ldif = format!("dn: {dn}\nobjectClass: groupOfNames\n");
    for member in members {
        let _ = writeln!(ldif, "member: {member}");
    }
    ldif + "\n"
}

impl Slapd {
    /// A server with the people `ana` and `bob`, whose password is [`PASSWORD`]. Its certificate `localhost` is in this
    /// folder, with the authority `ca`.
    pub fn start(certificates: &impl AsRef<Path>) -> Self {
        Self::start_with(certificates, "")
    }

    /// The same, with further lines of configuration at the end.
    pub fn start_with(certificates: &impl AsRef<Path>, more: &str) -> Self {
        let mut dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("db")).expect("a folder");
        let at = |file: &str| dir.path().join(file).display().to_string();
        let of = |file: &str| certificates.as_ref().join(file).display().to_string();
        let schemas: String = ["core", "cosine", "inetorgperson", "nis"]
            .map(|schema| format!("include /etc/ldap/schema/{schema}.schema\n"))
            .concat();
        let config = format!(
            "{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\nmoduleload \
                refint\nmoduleload ppolicy\n\
             pidfile {}\nTLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
             sizelimit size.soft=500 size.pr=unlimited size.prtotal=unlimited\n\
             database mdb\nsuffix {SUFFIX}\nrootdn cn=admin,{SUFFIX}\nrootpw admin\ndirectory {}\ndbnosync\n\
             maxsize 268435456\nindex uid,mail,cn,member,uniqueMember,memberUid,memberOf,entryUUID eq\n\
             access to attrs=userPassword by self write by anonymous auth by * none\n\
             access to * by dn.exact={OWN_NAME} read by self read by users none by anonymous auth\n{more}\n",
            at("pid"),
            of("ca.crt"),
            of("localhost.crt"),
            of("localhost.key"),
            at("db"),
        );
        std::fs::write(dir.path().join("slapd.conf"), config).expect("written");
        run("/usr/sbin/slapadd", &["-q", "-f", "slapd.conf"], &seed(), dir.path());
        for _ in 0..20 {
            let (port, tls_port) = (free_port(), free_port());
            let child = Self::spawn(&dir, port, tls_port);
            let mut slapd = Self { dir, child, port, tls_port };
            if slapd.is_ready() {
                return slapd;
            }
            // Somebody else has taken a port. The folder goes on to the next attempt.
            let _ = slapd.child.kill();
            let _ = slapd.child.wait();
            dir = std::mem::replace(&mut slapd.dir, tempfile::tempdir().expect("a folder"));
        }
        panic!("slapd does not start")
    }

    fn spawn(dir: &tempfile::TempDir, port: u16, tls_port: u16) -> Child {
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        Command::new("/usr/sbin/slapd")
            .args(["-d", "stats", "-f", "slapd.conf", "-h"])
            .arg(format!("ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port}"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("slapd is not installed; ./test installs it")
    }

    fn is_ready(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && self.child.try_wait().ok().flatten().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && TcpStream::connect(("127.0.0.1", self.tls_port)).is_ok()
            {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Ends the server without a word to anybody.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, at the same ports and with the same entries.
    pub fn restart(&mut self) {
        self.kill();
        self.child = Self::spawn(&self.dir, self.port, self.tls_port);
        assert!(self.is_ready(), "slapd starts again");
    }

    /// The port of `ldap://`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of `ldaps://`.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Adds entries, or changes them, as an administrator.
    pub fn change(&self, ldif: &str) {
        let uri = format!("ldap://127.0.0.1:{}", self.port);
        let admin = format!("cn=admin,{SUFFIX}");
        run("ldapmodify", &["-a", "-e", "relax", "-x", "-H", &uri, "-D", &admin, "-w", "admin"], ldif, self.dir.path());
    }

    /// The requests that the server says it was asked.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// The names as which somebody tried to bind, in order.
    pub fn binds(&self) -> Vec<String> {
        let log = self.log();
        let binds = log.lines().filter(|line| line.contains(" BIND dn=") && line.contains(" method="));
        binds.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
    }

    /// The number of binds as a person.
    pub fn binds_of_people(&self) -> usize {
        self.binds().iter().filter(|name| name.ends_with(PEOPLE)).count()
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
    }
}
