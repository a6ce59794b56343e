//! OpenLDAP.

use std::time::{Duration, Instant};

use idm_plan::{DistinguishedName, LdapAttribute, LdapLookup, LdapSyntax, Protection};
use idm_trust::{AccountState, DirectoryError, DirectoryErrorKind, LoginAnswer, LoginRefused};

use crate::openldap_groups::by_search;
use crate::peer::Valve;
use crate::slapd::{Configures, GROUPS, OWN_NAME, OWN_PASSWORD, PASSWORD, PEOPLE, SUFFIX, Slapd, group, person, uid};
use crate::world::{Certificates, Settings, WRONG, refused, server, verified};

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_login_over_tls_and_over_starttls_sends_its_binds_encrypted() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    for protection in [Protection::Tls, Protection::StartTls] {
        let settings = Settings::search(slapd.at(protection), PEOPLE, "uid", OWN_NAME, OWN_PASSWORD);
        let directory = settings.trusting(&certificates).open();
        assert_eq!(directory.person("ana", PASSWORD).await.username, "ana");
        assert_eq!(directory.login("ana", "wrong").await, Ok(WRONG));
        assert_eq!(directory.login("nobody", "wrong").await, Ok(LoginAnswer::Unknown));
    }
    let log = slapd.log();
    let encrypted = |line: &&str| line.contains(" BIND ") && line.contains("mech=SIMPLE") && !line.contains("ssf=256");
    assert_eq!(log.lines().filter(encrypted).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(log.matches("STARTTLS").count(), 3, "one for the gateway, one for each of the two passwords: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_certificate_of_another_authority_or_name_gets_no_bind() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    for protection in [Protection::Tls, Protection::StartTls] {
        let of = |settings: Settings, certificates: &Certificates| settings.trusting(certificates).open();
        let settings = |host: &str| {
            Settings::search(server(host, slapd.at(protection).port, protection), PEOPLE, "uid", OWN_NAME, OWN_PASSWORD)
        };
        let error = of(settings("127.0.0.1"), &Certificates::new()).login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Untrusted, "{error}");
        assert!(of(settings("localhost"), &certificates).login("ana", PASSWORD).await.is_ok());
        // The name that is checked is the one that is written.
        let error = of(settings("127.0.0.2"), &certificates).login("ana", PASSWORD).await.unwrap_err();
        assert_ne!(error.kind, DirectoryErrorKind::RefusesUs, "{error}");
    }
    let binds = slapd.binds();
    assert_eq!(binds.len(), 4, "those of the two good names alone: {binds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_pinned_key_is_trusted_whoever_issued_it_and_no_other_key_is() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    for protection in [Protection::Tls, Protection::StartTls] {
        // The name is not in the certificate, and its authority is not known here.
        let settings = |host: &str| {
            Settings::search(server(host, slapd.at(protection).port, protection), PEOPLE, "uid", OWN_NAME, OWN_PASSWORD)
        };
        let pinned = certificates.read("localhost.crt");
        assert!(settings("127.0.0.1").pinning(&pinned).open().login("ana", PASSWORD).await.is_ok());
        // The same name and authority with another key.
        certificates.issue("again", "DNS:localhost,IP:127.0.0.1");
        let other = settings("localhost").pinning(&certificates.read("again.crt")).open();
        let error = other.login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Untrusted, "{error}");
        assert!(error.detail.contains("none of the keys that are pinned"), "{error}");
    }
    assert_eq!(slapd.binds().len(), 4, "those with the right key alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_one_wrong_password_is_one_bind_over_three_servers() {
    let certificates = Certificates::new();
    let servers = [Slapd::start(&certificates), Slapd::start(&certificates), Slapd::start(&certificates)];
    let others = servers[1..].iter().map(|slapd| slapd.at(Protection::Loopback));
    let directory = servers[0].settings().and_servers(others).open();
    assert_eq!(directory.login("ana", "wrong").await, Ok(WRONG));
    assert_eq!(servers.iter().map(Slapd::binds_of_people).sum::<usize>(), 1);
    assert_eq!(directory.login("nobody", "wrong").await, Ok(LoginAnswer::Unknown));
    assert_eq!(servers.iter().map(Slapd::binds_of_people).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_server_that_died_costs_one_login_and_is_used_again_when_it_is_back() {
    let certificates = Certificates::new();
    let (mut first, second) = (Slapd::start(&certificates), Slapd::start(&certificates));
    let directory = first.settings().and_servers([second.at(Protection::Loopback)]).open();
    assert!(directory.login("ana", PASSWORD).await.is_ok());
    assert_eq!((first.binds().len(), second.binds().len()), (2, 0));
    first.kill();
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(directory.person("ana", PASSWORD).await.username, "ana");
        assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    }
    assert_eq!(second.binds_of_people(), 3);
    first.restart();
    // A login starts the look after it, and another one goes there: people's passwords at once, since each has a
    // connection of its own.
    let start = Instant::now();
    while first.binds_of_people() == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the first server is asked again");
        assert!(directory.login("ana", PASSWORD).await.is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_connections_that_were_cut_off_without_a_word_delay_one_login_and_fail_none() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let valve = Valve::open(("127.0.0.1", slapd.port())).await;
    let settings = Settings::search(valve.server(), PEOPLE, "uid", OWN_NAME, OWN_PASSWORD);
    let directory = settings.open();
    // Several logins at once leave several connections.
    let logins = futures::future::join_all((0..4).map(|_| directory.login("ana", PASSWORD))).await;
    assert!(logins.into_iter().all(|answer| answer.is_ok()));
    valve.swallow();
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(directory.person("ana", PASSWORD).await.username, "ana");
        assert!(began.elapsed() < Duration::from_millis(2_500), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_noticed_and_replaced() {
    let certificates = Certificates::new();
    let mut slapd = Slapd::start(&certificates);
    let directory = slapd.settings().open();
    assert!(directory.login("ana", PASSWORD).await.is_ok());
    slapd.restart();
    let (answer, steps) = directory.steps_of("ana", None, PASSWORD).await;
    assert_eq!(verified(answer).username, "ana", "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_a_directory_that_died_is_an_error_and_nothing_is_concluded_from_it() {
    let certificates = Certificates::new();
    let mut slapd = Slapd::start(&certificates);
    let directory = slapd.settings().groups(by_search("member", None, false), Some(GROUPS)).open();
    let id = directory.person("ana", PASSWORD).await.id;
    slapd.kill();
    assert_eq!(directory.login("ana", PASSWORD).await.unwrap_err().kind, DirectoryErrorKind::Unavailable);
    assert_eq!(directory.look_up(&id, "ana").await.unwrap_err().kind, DirectoryErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_a_refused_bind_of_the_gateway_is_told_and_not_repeated() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let wrong = Settings::search(slapd.at(Protection::Loopback), PEOPLE, "uid", OWN_NAME, "wrong").open();
    let answers = futures::future::join_all((0..5).map(|_| wrong.login("ana", PASSWORD))).await;
    for answer in answers.into_iter().chain([wrong.login("ana", PASSWORD).await]) {
        let error = answer.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::RefusesUs);
        assert!(error.detail.contains(OWN_NAME) && !error.detail.contains("canary"), "{error}");
    }
    assert_eq!(slapd.binds(), [OWN_NAME]);
    // Another secret is another directory, which is asked at once.
    assert!(slapd.settings().open().login("ana", PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_a_bind_is_anonymous_only_where_the_federation_says_so() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, &format!("access to dn.sub={SUFFIX} by anonymous read by * read"));
    for empty in ["", "\0", "\0x"] {
        let settings = Settings::search(slapd.at(Protection::Loopback), PEOPLE, "uid", OWN_NAME, empty);
        assert!(settings.try_open().is_err_and(|error| error.contains("is empty")), "{empty:?}");
    }
    assert!(Settings::search(slapd.at(Protection::Loopback), PEOPLE, "uid", "", "x").try_open().is_err());
    // This server lets nobody read without a name: the entry is not found, and nobody is let in.
    let anonymous = slapd.settings().anonymous().open();
    assert!(!matches!(anonymous.login("ana", PASSWORD).await, Ok(LoginAnswer::Verified(_))));
    assert_eq!(slapd.binds(), [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_nothing_is_searched_under_the_name_of_a_person() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let directory = slapd.settings().groups(by_search("member", None, true), Some(GROUPS)).open();
    for password in ["wrong", PASSWORD, "wrong", PASSWORD] {
        let _ = directory.login("ana", password).await;
        let _ = directory.login("bob", password).await;
    }
    let log = slapd.log();
    let connection = |line: &str| line.split("conn=").nth(1)?.split(' ').next().map(str::to_owned);
    let with =
        |what: &str| -> Vec<String> { log.lines().filter(|line| line.contains(what)).filter_map(connection).collect() };
    let people = log.lines().filter(|line| line.contains("BIND dn=\"uid=")).filter_map(connection);
    let searched = with(" SRCH base=");
    assert!(searched.len() >= 12, "{log}");
    assert!(people.into_iter().all(|connection| !searched.contains(&connection)), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_r18_every_character_of_a_name_is_itself_and_nothing_else() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let odd = [
        "a,b",
        "a+b=c",
        "\"quoted\"",
        "<x>;y",
        "back\\slash",
        "#hash",
        "st*r",
        "(paren)",
        "Müller",
        "a/b@c|&!",
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        "x\u{7f}y",
    ];
    for name in odd {
        let escaped = idm_plan::escape_dn_value(name);
        let dn = base64_line("dn", &format!("uid={escaped},{PEOPLE}"));
        slapd.change(&format!(
            "{dn}objectClass: inetOrgPerson\nsn: x\ncn: x\n{}userPassword: {PASSWORD}\n\n",
            base64_line("uid", name)
        ));
    }
    let search = slapd.settings().open();
    let template = Settings::template(slapd.at(Protection::Loopback), "uid=", &format!(",{PEOPLE}"), "uid").open();
    for directory in [&search, &template] {
        for name in odd {
            let person = directory.person(name, PASSWORD).await;
            assert_eq!(person.username, name);
            let bound = DistinguishedName::parse(person.claims["dn"].as_str().unwrap());
            assert_eq!(bound, DistinguishedName::parse(&format!("uid={},{PEOPLE}", idm_plan::escape_dn_value(name))));
        }
    }
    let known = slapd.binds_of_people();
    for injected in ["*", "ana)(uid=*", "ana*", "a*a", "*)(objectClass=*", "\\61na", "ana\0", "ana)(|(uid=*", "uid=ana"]
    {
        assert_eq!(search.login(injected, PASSWORD).await, Ok(LoginAnswer::Unknown), "{injected:?}");
    }
    assert_eq!(slapd.binds_of_people(), known, "nobody was bound as");
    for injected in ["ana,ou=people", "ana\0", "*", "x,uid=ana", "ana+cn=Ana Ruiz"] {
        let answer = template.login(injected, PASSWORD).await;
        assert!(!matches!(answer, Ok(LoginAnswer::Verified(_))), "{injected:?}: {answer:?}");
    }
}

fn base64_line(attribute: &str, value: &str) -> String {
    use base64::Engine as _;
    format!("{attribute}:: {}\n", base64::engine::general_purpose::STANDARD.encode(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_two_people_for_one_name_are_refused_without_a_bind() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    slapd.change(&person("ana@corp.test", "Another Ana"));
    let directory = slapd.settings().attributes(&["uid", "mail"]).open();
    let ambiguous = Ok(LoginAnswer::Refused(LoginRefused::Ambiguous));
    assert_eq!(directory.login("ana@corp.test", PASSWORD).await, ambiguous);
    assert_eq!(
        directory.login_of_realm("bob@x", "bob", PASSWORD).await.map(|answer| verified(Ok(answer)).username),
        Ok("bob".into())
    );
    assert_eq!(slapd.binds_of_people(), 1);
    // Three are as many as two.
    slapd.change(&person("x1", "Same").replace("mail: x1@", "mail: same@"));
    slapd.change(&person("x2", "Same").replace("mail: x2@", "mail: same@"));
    slapd.change(&person("x3", "Same").replace("mail: x3@", "mail: same@"));
    assert_eq!(directory.login("same@corp.test", PASSWORD).await, Ok(LoginAnswer::Refused(LoginRefused::Ambiguous)));
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_r21_r27_one_person_for_each_spelling_and_for_no_other_name() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    slapd.change(&person("jane doe", "Jane").replace("mail: jane doe@", "mail: J.Doe@"));
    let directory = slapd.settings().attributes(&["uid", "mail"]).filter("(objectClass=inetOrgPerson)").open();
    let id = directory.person("jane doe", PASSWORD).await.id;
    for (typed, bare) in [
        ("JANE DOE", None),
        ("j.doe@CORP.test", None),
        ("CORP\\Jane Doe", Some("Jane Doe")),
        ("jane doe@corp", Some("jane doe")),
    ] {
        let (answer, _) = directory.steps_of(typed, bare, PASSWORD).await;
        assert_eq!(verified(answer).id, id, "{typed}");
    }
    let before = slapd.binds_of_people();
    // OpenLDAP takes these for equal.
    for typed in ["jane  doe", " jane doe", "jane doe "] {
        assert_eq!(directory.login(typed, PASSWORD).await, Ok(LoginAnswer::Unknown), "{typed:?}");
    }
    assert_eq!(slapd.binds_of_people(), before);
    let outside = slapd.settings().filter("(!(uid=ana))").open();
    assert_eq!(outside.login("ana", PASSWORD).await, Ok(LoginAnswer::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_attributes_become_claims_by_their_syntax() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    slapd.change(&format!(
        "dn: {}\nchangetype: modify\nadd: jpegPhoto\njpegPhoto:: /9j/\n-\n\
         add: telephoneNumber\ntelephoneNumber: 1\ntelephoneNumber: 2\n\n",
        uid("ana")
    ));
    let attribute = |claim: &str, attribute: &str, syntax, all| LdapAttribute {
        claim: claim.into(),
        attribute: attribute.into(),
        syntax,
        all,
    };
    let mut settings = slapd.settings();
    settings.plan.person.attributes = vec![
        attribute("name", "CN", LdapSyntax::Text, false),
        attribute("photo", "jpegPhoto", LdapSyntax::Base64, false),
        attribute("phones", "telephoneNumber", LdapSyntax::Text, true),
        attribute("title", "title", LdapSyntax::Text, true),
    ];
    settings.plan.person.username_attribute = Some("mail".into());
    let person = settings.clone().open().person("ana", PASSWORD).await;
    assert_eq!(person.username, "ana@corp.test");
    let claims = serde_json::json!({ "dn": uid("ana"), "name": "Ana Ruiz", "photo": "/9j/", "phones": ["1", "2"] });
    assert_eq!(serde_json::Value::Object(person.claims), claims);
    settings.plan.person.attributes = vec![attribute("photo", "jpegPhoto", LdapSyntax::Text, false)];
    let error = settings.clone().open().login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("`jpegPhoto`"), "{error}");
    settings.plan.person.id_attribute = Some("employeeNumber".into());
    let error = settings.open().login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("`employeeNumber`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_does_not_exist_is_named() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let mut people = slapd.settings();
    if let LdapLookup::Search { base, .. } = &mut people.plan.lookup {
        *base = format!("ou=gone,{SUFFIX}");
    }
    let groups = slapd.settings().groups(by_search("member", None, false), Some("ou=gone,dc=corp,dc=test"));
    let elsewhere = slapd.settings().groups(by_search("member", None, false), Some("dc=elsewhere,dc=test"));
    for (settings, named) in [(people, "ou=gone"), (groups, "ou=gone"), (elsewhere, "dc=elsewhere")] {
        let error = settings.open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable);
        assert!(error.detail.contains(named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_a_template_binds_once_and_reads_the_entry_that_was_bound() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    slapd.change(&group(&format!("cn=staff,{GROUPS}"), &[uid("ana")]));
    let template =
        |attribute: &str| Settings::template(slapd.at(Protection::Loopback), "uid=", &format!(",{PEOPLE}"), attribute);
    let directory = template("uid").open();
    let person = verified(directory.login_of_realm("CORP\\ANA", "ANA", PASSWORD).await);
    assert_eq!((person.username.as_str(), person.claims["dn"].as_str()), ("ana", Some(uid("ana").as_str())));
    assert_eq!(directory.login("ana", "wrong").await, Ok(WRONG));
    assert_eq!(slapd.binds_of_people(), 2);
    // The entry says another name.
    assert_eq!(template("cn").open().login("ana", PASSWORD).await, Ok(LoginAnswer::Unknown));
    let error = directory.look_up(&person.id, "ana").await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unusable);
    assert!(Settings::template(slapd.at(Protection::Loopback), "", "@corp.test", "uid").try_open().is_err());
}

/// A policy that locks after three wrong passwords.
const POLICY: &str = "overlay ppolicy\nppolicy_default cn=default,dc=corp,dc=test\nppolicy_use_lockout";

fn policy(more: &str) -> String {
    format!(
        "dn: cn=default,{SUFFIX}\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n\
         pwdLockout: TRUE\npwdMaxFailure: 3\npwdMustChange: TRUE\n{more}\n\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_r39_a_locked_account_and_a_password_that_was_reset_are_told_at_login_and_later() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, POLICY);
    slapd.change(&policy("pwdLockoutDuration: 0"));
    let directory = slapd.settings().open();
    let ana = directory.person("ana", PASSWORD).await.id;
    let bob = directory.person("bob", PASSWORD).await.id;
    for _ in 0..3 {
        assert_eq!(directory.login("ana", "wrong").await, Ok(WRONG));
    }
    let locked = Ok(refused(AccountState::Locked));
    assert_eq!(directory.login("ana", PASSWORD).await, locked, "the right password does not help");
    assert_eq!(directory.look_up(&ana, "ana").await, locked);
    slapd.change(&format!("dn: {}\nchangetype: modify\nadd: pwdReset\npwdReset: TRUE\n\n", uid("bob")));
    let change = Ok(refused(AccountState::MustChangePassword));
    assert_eq!(directory.login("bob", PASSWORD).await, change);
    assert_eq!(directory.login("bob", "wrong").await, Ok(WRONG));
    assert_eq!(directory.look_up(&bob, "bob").await, change);
}

#[tokio::test(flavor = "multi_thread")]
async fn r39_an_expired_password_with_grace_is_refused_and_costs_one_grace_login() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, POLICY);
    slapd.change(&policy("pwdMaxAge: 60\npwdGraceAuthNLimit: 5"));
    slapd.change(&format!(
        "dn: {}\nchangetype: modify\nreplace: pwdChangedTime\npwdChangedTime: 20200101000000Z\n\n",
        uid("ana")
    ));
    let directory = slapd.settings().open();
    let expired = Ok(refused(AccountState::PasswordExpired));
    assert_eq!(directory.login("ana", PASSWORD).await, expired);
    assert_eq!(grace_used(&slapd), 1);
    assert_eq!(directory.login("ana", "wrong").await, Ok(WRONG));
    assert_eq!(grace_used(&slapd), 1);
    for _ in 0..6 {
        assert_eq!(directory.login("ana", PASSWORD).await, expired);
    }
    assert_eq!(grace_used(&slapd), 5);
}

fn grace_used(slapd: &Slapd) -> usize {
    let uri = format!("ldap://127.0.0.1:{}", slapd.port());
    let admin = format!("cn=admin,{SUFFIX}");
    let arguments = ["-LLL", "-x", "-H", &uri, "-D", &admin, "-w", "admin", "-b", &uid("ana"), "pwdGraceUseTime"];
    crate::world::run("ldapsearch", &arguments, "", std::path::Path::new("/")).matches("pwdGraceUseTime:").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn r44_the_steps_of_a_login_say_what_was_asked_and_nothing_secret() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    slapd.change(&group(&format!("cn=staff,{GROUPS}"), &[uid("ana")]));
    let directory = slapd.settings().groups(by_search("member", None, false), Some(GROUPS)).open();
    let (answer, steps) = directory.steps_of("ana", None, PASSWORD).await;
    assert!(answer.is_ok());
    let text = steps.join("\n");
    let server = format!("127.0.0.1:{}", slapd.port());
    for part in [
        format!("{server}: connected (Loopback)"),
        format!("{server}: bind of the gateway `{OWN_NAME}`: code 0 (Success)"),
        format!("search base `{PEOPLE}` scope Subtree filter `(uid=ana)`: 1 entries, code 0 (Success)"),
        format!("{server}: bind of the person `{}`: code 0 (Success)", uid("ana")),
        format!("search base `{GROUPS}` scope Subtree filter `(member={})`: 1 entries", uid("ana")),
        "groups: 1 found".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
    assert!(text.contains(" ms") && !text.contains("canary"), "{text}");
}

/// Whether a change was refused because of the new password.
fn is_not_taken(answer: &Result<LoginAnswer, DirectoryError>) -> bool {
    matches!(answer, Ok(LoginAnswer::Refused(LoginRefused::NewPassword(_))))
}

#[tokio::test(flavor = "multi_thread")]
async fn r37_r39_a_password_that_must_be_changed_is_changed_once_by_whoever_knows_it() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, POLICY);
    slapd.change(&policy("pwdMinLength: 12\npwdCheckQuality: 2\npwdAllowUserChange: TRUE"));
    let directory = slapd.settings().open();
    // A person who may log in changes nothing here.
    assert!(is_not_taken(&directory.change("ana", PASSWORD, "canary-new-password").await.0));
    slapd.change(&format!("dn: {}\nchangetype: modify\nadd: pwdReset\npwdReset: TRUE\n\n", uid("ana")));
    let before = slapd.binds_of_people();
    assert_eq!(directory.change("ana", "canary-wrong", "canary-new-password").await.0, Ok(WRONG));
    assert_eq!(slapd.binds_of_people() - before, 1, "one guess is one bind");
    let (short, steps) = directory.change("ana", PASSWORD, "canary-1").await;
    assert!(is_not_taken(&short), "{short:?} {steps:?}");
    let (changed, steps) = directory.change("ana", PASSWORD, "canary-new-password").await;
    assert_eq!(changed, Ok(LoginAnswer::Changed), "{steps:?}");
    assert!(steps.iter().any(|step| step.contains("change of the password of `uid=ana")), "{steps:?}");
    assert_eq!(directory.person("ana", "canary-new-password").await.username, "ana");
    assert_eq!(directory.login("ana", PASSWORD).await, Ok(WRONG));
    assert_eq!(directory.change("nobody", PASSWORD, "canary-new-password").await.0, Ok(LoginAnswer::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn r39_an_expired_password_is_changed_with_one_grace_login_and_not_without() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, POLICY);
    slapd.change(&policy("pwdMaxAge: 60\npwdGraceAuthNLimit: 1\npwdAllowUserChange: TRUE"));
    let expire = "changetype: modify\nreplace: pwdChangedTime\npwdChangedTime: 20200101000000Z";
    for name in ["ana", "bob"] {
        slapd.change(&format!("dn: {}\n{expire}\n\n", uid(name)));
    }
    let directory = slapd.settings().open();
    assert_eq!(directory.change("ana", PASSWORD, "canary-new-password").await.0, Ok(LoginAnswer::Changed));
    assert_eq!(directory.person("ana", "canary-new-password").await.username, "ana");
    // The only grace login of `bob` is used up.
    assert_eq!(directory.login("bob", PASSWORD).await, Ok(refused(AccountState::PasswordExpired)));
    let (late, _) = directory.change("bob", PASSWORD, "canary-new-password").await;
    assert!(is_not_taken(&late), "{late:?}");
    assert_eq!(directory.login("bob", "canary-new-password").await, Ok(WRONG));
}
