//! Settings of directories, questions to them, and certificates.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use idm_directory::{Pool, Reach};
use idm_plan::{
    DirectoryServer, DirectorySource, DirectoryTls, DistinguishedName, GroupStrategy, LdapBind, LdapDirectory,
    LdapFilter, LdapGroups, LdapLookup, LdapPerson, ObjectKey, Protection, ReferralHost, SecretHandle, Secrets,
    ServerTrust,
};
use idm_trust::{
    AccountState, Directories, Directory, DirectoryError, Login, LoginAnswer, LoginRefused, Password, Person, Steps,
};
use idm_types::Redacted;

pub(crate) use idm_tests::run;

pub(crate) const WRONG: LoginAnswer = LoginAnswer::Refused(LoginRefused::WrongPassword);

pub(crate) const fn refused(state: AccountState) -> LoginAnswer {
    LoginAnswer::Refused(LoginRefused::Account(state))
}

/// The settings of a directory.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) plan: LdapDirectory,
    pub(crate) deadline_ms: u64,
    password: String,
}

impl Settings {
    /// People below `base`, found by one attribute over a bind as `name`.
    pub(crate) fn search(server: DirectoryServer, base: &str, attribute: &str, name: &str, password: &str) -> Self {
        let lookup = LdapLookup::Search {
            bind: LdapBind::Simple { dn: name.into(), password: SecretHandle("bind".into()) },
            base: base.into(),
            filter: None,
            login_attributes: vec![attribute.into()],
        };
        let person = LdapPerson { id_attribute: None, username_attribute: None, attributes: Vec::new() };
        let plan =
            LdapDirectory { servers: vec![server], tls: None, referrals: Vec::new(), lookup, person, groups: None };
        Self { plan, deadline_ms: 3_000, password: password.into() }
    }

    /// People who bind by a template.
    pub(crate) fn template(server: DirectoryServer, before: &str, after: &str, attribute: &str) -> Self {
        let login_attribute = attribute.to_owned();
        let lookup = LdapLookup::Template { before: before.into(), after: after.into(), login_attribute };
        let mut settings = Self::search(server, "", "", "", "");
        settings.plan.lookup = lookup;
        settings
    }

    pub(crate) fn trusting(mut self, certificates: &Certificates) -> Self {
        self.plan.tls =
            Some(DirectoryTls { trust: ServerTrust::Roots(certificates.read("ca.crt")), certificate: None });
        self
    }

    /// Trusts the server with this certificate, whoever issued it.
    pub(crate) fn pinning(mut self, certificate: &str) -> Self {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
        let key = idm_trust::key_digest(&certificate).expect("a certificate");
        self.plan.tls = Some(DirectoryTls { trust: ServerTrust::Keys(vec![[0; 32], key]), certificate: None });
        self
    }

    /// Follows references to these servers.
    pub(crate) fn following(mut self, servers: &[DirectoryServer]) -> Self {
        self.plan.referrals.extend(servers.iter().map(|server| ReferralHost {
            host: server.host.clone(),
            port: Some(server.port),
            plain: server.protection == Protection::Loopback,
        }));
        self
    }

    pub(crate) fn and_servers(mut self, others: impl IntoIterator<Item = DirectoryServer>) -> Self {
        self.plan.servers.extend(others);
        self
    }

    pub(crate) fn within(mut self, deadline_ms: u64) -> Self {
        self.deadline_ms = deadline_ms;
        self
    }

    pub(crate) fn filter(mut self, text: &str) -> Self {
        if let LdapLookup::Search { filter, .. } = &mut self.plan.lookup {
            *filter = Some(LdapFilter::parse(text).expect("a filter"));
        }
        self
    }

    pub(crate) fn attributes(mut self, attributes: &[&str]) -> Self {
        if let LdapLookup::Search { login_attributes, .. } = &mut self.plan.lookup {
            *login_attributes = attributes.iter().map(|attribute| (*attribute).to_owned()).collect();
        }
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        if let LdapLookup::Search { bind, .. } = &mut self.plan.lookup {
            *bind = LdapBind::Anonymous;
        }
        self
    }

    /// Groups, whose short name is `cn`.
    pub(crate) fn groups(mut self, strategy: GroupStrategy, base: Option<&str>) -> Self {
        let base = base.map(|base| DistinguishedName::parse(base).expect("a name"));
        self.plan.groups = Some(LdapGroups { strategy, base, name_attribute: "cn".into() });
        self
    }

    /// The directory, which nobody has asked yet.
    pub(crate) fn open(self) -> Open {
        self.try_open().expect("the settings are sound")
    }

    pub(crate) fn try_open(self) -> Result<Open, String> {
        let Self { plan, deadline_ms, password } = self;
        let mut secrets = Secrets::default();
        secrets.put(SecretHandle("bind".into()), Redacted::new(password.into_bytes()));
        let plan = idm_plan::Directory {
            source: DirectorySource::Ldap(Box::new(plan)),
            realms: Vec::new(),
            cache_seconds: 0,
            recheck_ms: None,
            keeps_sessions: false,
            changes_passwords: false,
            deadline_ms,
            concurrency: 8,
            groups: Vec::new(),
        };
        let pool = Pool::new(Reach { local: false, api_server: None });
        let federation = ObjectKey { namespace: "shop".into(), name: "corp".into() };
        pool.open(&federation, &plan, &secrets).map(|directory| Open { directory })
    }
}

/// A directory that serves.
pub(crate) struct Open {
    directory: Arc<dyn Directory>,
}

type Answer = Result<LoginAnswer, DirectoryError>;

impl Open {
    pub(crate) async fn login(&self, username: &str, password: &str) -> Answer {
        self.steps_of(username, None, password).await.0
    }

    /// A login with a realm, as it is typed and without it.
    pub(crate) async fn login_of_realm(&self, username: &str, bare: &str, password: &str) -> Answer {
        self.steps_of(username, Some(bare), password).await.0
    }

    /// A login, with its steps.
    pub(crate) async fn steps_of(&self, username: &str, bare: Option<&str>, password: &str) -> (Answer, Vec<String>) {
        let steps = Steps::kept();
        let login = Login {
            username: username.into(),
            bare: bare.map(str::to_owned),
            password: Password::new(Redacted::new(password.to_owned())).expect("a password"),
            caller: None,
            steps: steps.clone(),
        };
        let answer = self.directory.verify(login).await;
        (answer, steps.read())
    }

    /// Changes a password, with the steps.
    pub(crate) async fn change(&self, username: &str, password: &str, new: &str) -> (Answer, Vec<String>) {
        let steps = Steps::kept();
        let secret = |text: &str| Password::new(Redacted::new(text.to_owned())).expect("a password");
        let login = Login {
            username: username.into(),
            bare: None,
            password: secret(password),
            caller: None,
            steps: steps.clone(),
        };
        let answer = self.directory.change(login, secret(new)).await;
        let told = format!("{answer:?}{:?}", steps.read());
        assert!(!told.contains(password) && !told.contains(new), "{told}");
        (answer, steps.read())
    }

    pub(crate) async fn look_up(&self, id: &str, username: &str) -> Answer {
        self.directory.look_up(id.into(), username.into()).await
    }

    /// The person whose password is right.
    pub(crate) async fn person(&self, username: &str, password: &str) -> Person {
        verified(self.login(username, password).await)
    }
}

/// The person of an answer.
pub(crate) fn verified(answer: Answer) -> Person {
    match answer {
        Ok(LoginAnswer::Verified(person)) => *person,
        other => panic!("not verified: {other:?}"),
    }
}

/// The short names of a person's groups, sorted.
pub(crate) fn names(person: &Person) -> Vec<&str> {
    let mut names: Vec<&str> = person.groups.iter().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    names
}

pub(crate) fn server(host: &str, port: u16, protection: Protection) -> DirectoryServer {
    DirectoryServer { host: host.into(), port, protection }
}

/// An authority with a certificate for `localhost` and 127.0.0.1, and one for `other.test`, in a folder of its own.
pub(crate) struct Certificates {
    dir: PathBuf,
    /// Removed with the authority.
    _own: Option<tempfile::TempDir>,
}

impl AsRef<Path> for Certificates {
    fn as_ref(&self) -> &Path {
        &self.dir
    }
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().expect("a folder");
        let within = Self::within(own.path().to_owned());
        Self { _own: Some(own), ..within }
    }

    /// In a folder that somebody else removes.
    pub(crate) fn within(dir: PathBuf) -> Self {
        let certificates = Self { dir, _own: None };
        certificates.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 \
             -subj /CN=test",
        );
        certificates.issue("localhost", "DNS:localhost,IP:127.0.0.1");
        certificates.issue("other.test", "DNS:other.test");
        certificates
    }

    /// A certificate with these alternative names.
    pub(crate) fn issue(&self, name: &str, alternatives: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.crt -days 30 \
             -subj /CN={name} -addext subjectAltName={alternatives} -addext basicConstraints=critical,CA:FALSE -CA \
             ca.crt -CAkey ca.key"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.dir)
            .output()
            .expect("openssl is installed; ./test installs it");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).expect("a file of the authority")
    }
}
