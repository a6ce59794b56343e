//! Samba as a domain controller of Active Directory.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use idm_directory::probe::{LdapGroupFacts, LdapQuestion, Server};
use idm_plan::{DirectoryTls, GroupStrategy, LdapAttribute, LdapSyntax, Protection, ServerTrust};
use idm_trust::{AccountState, DirectoryError, DirectoryErrorKind, LoginAnswer, LoginRefused, Password, Person};
use idm_types::Redacted;

use crate::world::{Certificates, Settings, WRONG, names, refused, run, server, verified};

const SUFFIX: &str = "DC=corp,DC=test";
const GROUPS: &str = "OU=groups,DC=corp,DC=test";
const DEEP: &str = "OU=deep,DC=corp,DC=test";
const MANY: &str = "OU=many,DC=corp,DC=test";
const OWN_NAME: &str = "gateway@corp.test";
const PASSWORD: &str = "canary-Pa55word";

/// The domain controller of all tests of this process, since it takes long to make. It ends with the process: the pipe
/// to it ends then.
struct Samba {
    certificates: Certificates,
    port: u16,
    _serving: Child,
}

fn samba() -> &'static Samba {
    static ONE: OnceLock<Samba> = OnceLock::new();
    ONE.get_or_init(Samba::start)
}

fn user(name: &str, more: &str) -> String {
    let quoted: Vec<u8> = format!("\"{PASSWORD}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let password = base64::engine::general_purpose::STANDARD.encode(quoted);
    let control = if more.contains("userAccountControl") { "" } else { "userAccountControl: 512\n" };
    format!(
        "dn: CN={name},OU=people,{SUFFIX}\nobjectClass: user\nsAMAccountName: {name}\n\
         userPrincipalName: {name}@corp.test\nunicodePwd:: {password}\n{control}{more}\n"
    )
}

fn group(name: &str, members: &[&str]) -> String {
    let mut ldif = format!("dn: CN={name},{GROUPS}\nobjectClass: group\nsAMAccountName: {name}\n");
    for member in members {
        let below = if member.contains(',') { "" } else { ",OU=groups,DC=corp,DC=test" };
        let _ = writeln!(ldif, "member: CN={member}{below}");
    }
    ldif + "\n"
}

fn seed() -> String {
    let mut ldif = String::new();
    for unit in ["people", "groups", "many", "deep", "moved"] {
        let _ = write!(ldif, "dn: OU={unit},{SUFFIX}\nobjectClass: organizationalUnit\n\n");
    }
    for name in ["gateway", "wide", "deep", "round", "primary", "jdoe", "renamed", "locked"] {
        ldif += &user(name, "");
    }
    ldif += &user("disabled", "userAccountControl: 514\n");
    ldif += &user("expired", "accountExpires: 130000000000000000\n");
    // No hour of the week.
    ldif += &user("hours", "logonHours:: AAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    ldif += &user("mustchange", "pwdLastSet: 0\n");
    ldif += &user("changes", "pwdLastSet: 0\n");
    ldif += &user("both", "userAccountControl: 514\npwdLastSet: 0\n");
    ldif += &user("J\u{fc}rgen \\\"J\\, (x)", "")
        .replace("sAMAccountName: J\u{fc}rgen \\\"J\\, (x)", "sAMAccountName: juergen")
        .replace("userPrincipalName: J\u{fc}rgen \\\"J\\, (x)@", "userPrincipalName: j\u{fc}rgen@");
    for n in 0..2_000 {
        ldif += &group(&format!("w{n}"), &["wide,OU=people,DC=corp,DC=test"]).replace(GROUPS, MANY);
    }
    // Samba's rule for chains takes half a minute for 500 of them, so that it has some of its own.
    for (length, below, first) in [(500, DEEP, "n"), (50, GROUPS, "k")] {
        ldif += &group(&format!("{first}0"), &["deep,OU=people,DC=corp,DC=test"]).replace(GROUPS, below);
        for n in 1..length {
            ldif += &group(&format!("{first}{n}"), &[&format!("{first}{}", n - 1)]).replace(GROUPS, below);
        }
    }
    // A cycle of three with a diamond above it.
    ldif += &group("c0", &["round,OU=people,DC=corp,DC=test"]);
    ldif += &group("c1", &["c0"]);
    ldif += &group("c2", &["c1"]);
    ldif += &group("left", &["c2"]);
    ldif += &group("right", &["c2"]);
    ldif += &group("top", &["left", "right"]);
    let _ = write!(ldif, "dn: CN=c0,{GROUPS}\nchangetype: modify\nadd: member\nmember: CN=c2,{GROUPS}\n\n");
    // A group that is somebody's primary one alone, within another one.
    ldif += &group("main", &["primary,OU=people,DC=corp,DC=test"]);
    ldif += &group("above main", &["main"]);
    let change = "changetype: modify\nreplace: primaryGroup\nprimaryGroup";
    let _ = write!(ldif, "dn: CN=primary,OU=people,{SUFFIX}\n{change}: CN=main,{GROUPS}\n\n");
    let _ = write!(ldif, "dn: {SUFFIX}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: 3\n\n");
    ldif
}

impl Samba {
    fn start() -> Self {
        for file in ["/usr/sbin/samba", "/usr/share/samba/setup/provision.ldif"] {
            assert!(std::path::Path::new(file).exists(), "{file} is not installed; ./test installs it");
        }
        let own = tempfile::tempdir().expect("a folder");
        let folder = own.path().to_owned();
        let script = format!("{}/tests/ldap/dc.py", env!("CARGO_MANIFEST_DIR"));
        let at = folder.display().to_string();
        // Debian's Python is the one that knows Samba.
        let command = |rest: &[&str]| -> Vec<String> {
            let alone = ["--map-root-user", "--net", "/usr/bin/python3", &script, &at];
            alone.iter().chain(rest).map(|word| (*word).to_owned()).collect()
        };
        let make = command(&[]);
        run("unshare", &make.iter().map(String::as_str).collect::<Vec<_>>(), &seed(), &folder);
        // From here on it is removed by the program that serves.
        let _ = own.keep();
        let tls = folder.join("certificates");
        std::fs::create_dir(&tls).expect("a folder");
        let certificates = Certificates::within(tls);
        for (file, name) in [("localhost.key", "key.pem"), ("localhost.crt", "cert.pem"), ("ca.crt", "ca.pem")] {
            let target = folder.join("private/tls").join(name);
            std::fs::copy(certificates.path(file), &target).expect("copied");
            std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = Command::new("unshare")
            .args(command(&["serve"]))
            .stdin(Stdio::piped())
            .stdout(OwnedFd::from(listener))
            .stderr(std::fs::File::create(folder.join("relay.log")).expect("a log"))
            .spawn()
            .expect("unshare runs");
        Self { certificates, port, _serving: serving }
    }

    fn settings(&self) -> Settings {
        let server = server("127.0.0.1", self.port, Protection::Tls);
        // The whole domain: the server answers with references to its other trees, too.
        let settings = Settings::search(server, SUFFIX, "sAMAccountName", OWN_NAME, PASSWORD);
        settings.filter("(objectCategory=person)").trusting(&self.certificates).within(20_000)
    }

    fn change(&self, ldif: &str) {
        let (uri, ca) = (format!("ldaps://127.0.0.1:{}", self.port), self.certificates.path("ca.crt"));
        let with_ca = format!("LDAPTLS_CACERT={}", ca.display());
        let arguments =
            [&with_ca, "ldapmodify", "-x", "-H", &uri, "-D", "administrator@corp.test", "-w", "canary-Adm1n"];
        run("env", &arguments, ldif, std::path::Path::new("/"));
    }
}

/// The names of groups that the tests made.
fn own_names(person: &Person) -> Vec<&str> {
    names(person).into_iter().filter(|name| !["Domain Users", "Users"].contains(name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_domain_controller_that_wants_tls_says_which_fields_to_change() {
    let plain = Settings::search(
        server("127.0.0.1", samba().port, Protection::Loopback),
        SUFFIX,
        "sAMAccountName",
        OWN_NAME,
        PASSWORD,
    );
    let error = plain.open().login("jdoe", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::RefusesUs, "{error}");
    assert!(error.detail.contains("`ldaps://`") && error.detail.contains("`startTls`"), "{error}");
    let mut started = samba().settings();
    started.plan.servers = vec![server("localhost", samba().port, Protection::StartTls)];
    assert_eq!(started.open().person("jdoe", PASSWORD).await.username, "jdoe");
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_r21_r28_each_form_of_a_name_is_one_person_of_the_whole_domain() {
    let directory = samba().settings().attributes(&["sAMAccountName", "userPrincipalName"]).open();
    let (answer, steps) = directory.steps_of("jdoe", None, PASSWORD).await;
    let person = verified(answer);
    assert!(steps.iter().any(|step| step.contains("references ignored")), "{steps:?}");
    assert!(person.id.len() == 36 && person.id.split('-').count() == 5, "{}", person.id);
    for (typed, bare) in
        [("JDoe", None), ("jdoe@CORP.test", Some("jdoe")), ("CORP\\jdoe", Some("jdoe")), ("jdoe@corp.test", None)]
    {
        assert_eq!(verified(directory.steps_of(typed, bare, PASSWORD).await.0).id, person.id, "{typed}");
    }
    // Active Directory ignores spaces and accents, and we do not.
    for typed in ["jdoe ", "jdo\u{e9}", " jdoe"] {
        assert_eq!(directory.login(typed, PASSWORD).await, Ok(LoginAnswer::Unknown), "{typed:?}");
    }
    let odd = directory.person("juergen", PASSWORD).await;
    assert!(odd.claims["dn"].as_str().is_some_and(|dn| dn.contains("(x)")), "{odd:?}");
    assert_eq!(directory.login("juergen", "wrong").await, Ok(WRONG));
    assert_eq!(directory.login("nobody", "wrong").await, Ok(LoginAnswer::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn r37_r38_the_state_of_an_account_is_told_at_login_and_without_a_password() {
    let directory = samba().settings().open();
    let ids = samba().settings().attributes(&["cn"]).open();
    for (name, state) in [
        ("disabled", AccountState::Disabled),
        ("both", AccountState::Disabled),
        ("expired", AccountState::Expired),
        ("mustchange", AccountState::MustChangePassword),
    ] {
        assert_eq!(directory.login(name, PASSWORD).await, Ok(refused(state)), "{name}");
        // Without a password that is right, nothing of the account is told but that.
        assert_eq!(directory.login(name, "wrong").await, Ok(WRONG), "{name}");
        let id = id_of(name);
        assert_eq!(ids.look_up(&id, name).await, Ok(refused(state)), "{name}");
    }
    assert_eq!(directory.login("hours", PASSWORD).await, Ok(refused(AccountState::Restricted)));
    let id = directory.person("locked", PASSWORD).await.id;
    assert!(matches!(directory.look_up(&id, "locked").await, Ok(LoginAnswer::Verified(_))));
    for _ in 0..3 {
        assert_eq!(directory.login("locked", "wrong").await, Ok(WRONG));
    }
    assert_eq!(directory.login("locked", PASSWORD).await, Ok(refused(AccountState::Locked)));
    assert_eq!(directory.look_up(&id, "locked").await, Ok(refused(AccountState::Locked)));
}

#[tokio::test(flavor = "multi_thread")]
async fn r37_a_password_of_active_directory_that_must_be_changed_is_changed_over_tls() {
    let directory = samba().settings().open();
    let new = "canary-N3w-password";
    let is_not_taken = |answer: &Result<LoginAnswer, DirectoryError>| {
        matches!(answer, Ok(LoginAnswer::Refused(LoginRefused::NewPassword(_))))
    };
    assert!(is_not_taken(&directory.change("jdoe", PASSWORD, new).await.0), "hers need not be changed");
    assert_eq!(directory.change("changes", "canary-wrong", new).await.0, Ok(WRONG));
    // Too simple for the domain's policy.
    let (simple, steps) = directory.change("changes", PASSWORD, "canary").await;
    assert!(is_not_taken(&simple), "{simple:?} {steps:?}");
    assert_eq!(directory.login("changes", PASSWORD).await, Ok(refused(AccountState::MustChangePassword)));
    let (changed, steps) = directory.change("changes", PASSWORD, new).await;
    assert_eq!(changed, Ok(LoginAnswer::Changed), "{steps:?}");
    assert_eq!(directory.person("changes", new).await.username, "changes");
    assert_eq!(directory.change("disabled", PASSWORD, new).await.0, Ok(refused(AccountState::Disabled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_r44_a_probe_of_a_domain_controller_says_what_it_is_and_how_people_are_found() {
    let password = Password::new(Redacted::new(PASSWORD.to_owned())).expect("a password");
    let trust = ServerTrust::Roots(samba().certificates.read("ca.crt"));
    let question = LdapQuestion {
        server: Server {
            at: server("127.0.0.1", samba().port, Protection::Tls),
            tls: Some(DirectoryTls { trust, certificate: None }),
        },
        bind: Some((OWN_NAME.to_owned(), password)),
        base: None,
        username: Some("jdoe".to_owned()),
    };
    let probed = idm_directory::probe::ldap(question).await;
    assert!(!format!("{probed:?}").contains(PASSWORD), "{probed:?}");
    let facts = probed.found.unwrap();
    assert!(facts.active_directory && facts.pages, "{facts:?}");
    assert_eq!((facts.product.as_str(), facts.base.as_str(), facts.people), ("Active Directory", SUFFIX, 1));
    assert_eq!(facts.login_attributes, ["sAMAccountName"]);
    assert_eq!(facts.id_attribute.as_deref(), Some("objectGUID"));
    assert_eq!(facts.groups, Some(LdapGroupFacts::TokenGroups));
    assert!(probed.certificate.is_some_and(|certificate| certificate.names == ["localhost"]));
}

/// The id of somebody who cannot log in, as the server's own tools write it.
fn id_of(name: &str) -> String {
    let (uri, ca) = (format!("ldaps://127.0.0.1:{}", samba().port), samba().certificates.path("ca.crt"));
    let with_ca = format!("LDAPTLS_CACERT={}", ca.display());
    let arguments = [
        &with_ca,
        "ldapsearch",
        "-LLL",
        "-x",
        "-H",
        &uri,
        "-D",
        "administrator@corp.test",
        "-w",
        "canary-Adm1n",
        "-b",
        SUFFIX,
        &format!("(sAMAccountName={name})"),
        "objectGUID",
    ];
    let found = run("env", &arguments, "", std::path::Path::new("/"));
    let encoded = found.lines().find_map(|line| line.strip_prefix("objectGUID:: ")).expect("an id");
    let octets = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
    let part = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let turned = |range: std::ops::Range<usize>| part(&octets[range].iter().rev().copied().collect::<Vec<_>>());
    format!("{}-{}-{}-{}-{}", turned(0..4), turned(4..6), turned(6..8), part(&octets[8..10]), part(&octets[10..]))
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_r25_a_person_who_is_renamed_and_moved_keeps_the_id() {
    let mut settings = samba().settings();
    let attribute = |claim: &str, attribute: &str, syntax| LdapAttribute {
        claim: claim.into(),
        attribute: attribute.into(),
        syntax,
        all: false,
    };
    settings.plan.person.attributes =
        vec![attribute("sid", "objectSid", LdapSyntax::Sid), attribute("guid", "objectGUID", LdapSyntax::Guid)];
    let directory = settings.open();
    let before = directory.person("renamed", PASSWORD).await;
    assert_eq!((before.id.clone(), before.claims["guid"].as_str().unwrap()), (id_of("renamed"), before.id.as_str()));
    assert!(before.claims["sid"].as_str().unwrap().starts_with("S-1-5-21-"));
    samba().change(&format!(
        "dn: CN=renamed,OU=people,{SUFFIX}\nchangetype: modrdn\nnewrdn: CN=married\ndeleteoldrdn: 1\n\
         newsuperior: OU=moved,{SUFFIX}\n\n\
         dn: CN=married,OU=moved,{SUFFIX}\nchangetype: modify\nreplace: sAMAccountName\nsAMAccountName: married\n\n"
    ));
    let after = directory.person("married", PASSWORD).await;
    assert_eq!((&after.id, &after.claims["sid"]), (&before.id, &before.claims["sid"]));
    assert_eq!(verified(directory.look_up(&before.id, "renamed").await).username, "married");
    assert_eq!(directory.login("renamed", PASSWORD).await, Ok(LoginAnswer::Unknown));
    assert_eq!(directory.look_up("not an id", "x").await, Ok(LoginAnswer::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_nested_groups_are_found_500_deep_in_a_cycle_and_in_a_diamond_each_once() {
    for strategy in [GroupStrategy::TokenGroups, GroupStrategy::InChain, GroupStrategy::MemberOf { nested: true }] {
        if strategy != GroupStrategy::InChain {
            let directory = samba().settings().groups(strategy.clone(), Some(DEEP)).open();
            let deep = directory.person("deep", PASSWORD).await;
            assert_eq!(deep.groups.len(), 500, "{strategy:?}");
            assert!(deep.groups.iter().any(|group| group.name == "n499"));
        }
        let directory = samba().settings().groups(strategy.clone(), Some(GROUPS)).open();
        assert_eq!(directory.person("deep", PASSWORD).await.groups.len(), 50, "{strategy:?}");
        let round = directory.person("round", PASSWORD).await;
        assert_eq!(names(&round), ["c0", "c1", "c2", "left", "right", "top"], "{strategy:?}");
        assert!(round.groups.iter().all(|group| group.ids.len() == 2 && group.ids[1].starts_with("S-1-5-21-")));
    }
    let direct = samba().settings().groups(GroupStrategy::MemberOf { nested: false }, Some(GROUPS)).open();
    assert_eq!(names(&direct.person("round", PASSWORD).await), ["c0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r26_r31_the_primary_group_counts_with_the_groups_that_it_is_in() {
    for (strategy, base) in [
        (GroupStrategy::TokenGroups, None),
        (GroupStrategy::MemberOf { nested: true }, None),
        (GroupStrategy::InChain, Some(GROUPS)),
    ] {
        let directory = samba().settings().groups(strategy.clone(), base).open();
        let person = directory.person("primary", PASSWORD).await;
        // The former primary group is one among others now.
        assert_eq!(own_names(&person), ["above main", "main"], "{strategy:?}");
        // Groups of Windows are known by their numbers, whatever language their names are in.
        let person = directory.person("jdoe", PASSWORD).await;
        let users = |id: &String| id.starts_with("S-1-5-21-") && id.ends_with("-513");
        assert_eq!(person.groups.iter().any(|group| group.ids.iter().any(users)), base.is_none(), "{strategy:?}");
    }
    let direct = samba().settings().groups(GroupStrategy::MemberOf { nested: false }, Some(GROUPS)).open();
    assert_eq!(names(&direct.person("primary", PASSWORD).await), ["main"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r32_somebody_in_2000_groups_has_all_of_them() {
    let strategies = [
        GroupStrategy::TokenGroups,
        GroupStrategy::MemberOf { nested: false },
        GroupStrategy::MemberOf { nested: true },
    ];
    for strategy in strategies {
        let began = Instant::now();
        let directory = samba().settings().groups(strategy.clone(), Some(MANY)).open();
        let wide = directory.person("wide", PASSWORD).await;
        assert_eq!(wide.groups.len(), 2_000, "{strategy:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
