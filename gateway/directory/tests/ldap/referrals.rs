//! References to other servers.

use idm_plan::{DirectoryServer, Protection};
use idm_trust::{DirectoryErrorKind, LoginAnswer, LoginRefused};
use ldap3_proto::proto::{LdapOp, LdapResultCode as Code, LdapSearchResultReference};

use crate::peer::{Do, Scripted, Seen, ana, done};
use crate::script::{PASSWORD, good, is_search_for_ana};
use crate::slapd::{Configures, GROUPS, OWN_NAME, OWN_PASSWORD, PEOPLE, Slapd, group};
use crate::world::{Certificates, Settings, names, verified};

const BRANCH: &str = "ou=branch,ou=people,dc=corp,dc=test";

fn uri(server: &DirectoryServer, base: &str) -> String {
    let scheme = if server.protection == Protection::Tls { "ldaps" } else { "ldap" };
    format!("{scheme}://{}:{}/{base}", server.host, server.port)
}

/// A server whose branch is on another one, where `eva` is.
fn pair(certificates: &Certificates, elsewhere: &Certificates, protection: Protection) -> (Slapd, Slapd) {
    let (main, branch) = (Slapd::start(certificates), Slapd::start(elsewhere));
    branch.change(&format!(
        "dn: {BRANCH}\nobjectClass: organizationalUnit\n\ndn: uid=eva,{BRANCH}\nobjectClass: inetOrgPerson\nsn: Eva\n\
         cn: Eva\nuserPassword: {PASSWORD}\n\n"
    ));
    let to = DirectoryServer { host: "localhost".into(), ..branch.at(protection) };
    main.change(&format!(
        "dn: {BRANCH}\nobjectClass: referral\nobjectClass: extensibleObject\nou: branch\nref: {}\n\n",
        uri(&to, BRANCH)
    ));
    main.change(&group(&format!("cn=staff,{GROUPS}"), &[format!("uid=eva,{BRANCH}")]));
    (main, branch)
}

fn settings(main: &Slapd, protection: Protection) -> Settings {
    let at = DirectoryServer { host: "localhost".into(), ..main.at(protection) };
    let groups = crate::script::groups();
    Settings::search(at, PEOPLE, "uid", OWN_NAME, OWN_PASSWORD).groups(groups, Some(GROUPS))
}

fn listed(branch: &Slapd, protection: Protection) -> [DirectoryServer; 1] {
    [DirectoryServer { host: "localhost".into(), ..branch.at(protection) }]
}

/// The binds that are not the administrator's, who made the entries.
fn heard(branch: &Slapd) -> usize {
    branch.binds().iter().filter(|name| !name.starts_with("cn=admin")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_somebody_on_a_listed_server_logs_in_there_and_has_the_groups_of_both() {
    let certificates = Certificates::new();
    for protection in [Protection::StartTls, Protection::Tls] {
        let (main, branch) = pair(&certificates, &certificates, protection);
        let open = |follows: bool| {
            let settings = settings(&main, protection).trusting(&certificates);
            if follows { settings.following(&listed(&branch, protection)).open() } else { settings.open() }
        };
        assert_eq!(open(false).login("eva", PASSWORD).await, Ok(LoginAnswer::Unknown));
        assert_eq!(heard(&branch), 0, "a server that is not listed hears nothing");
        let directory = open(true);
        let (answer, steps) = directory.steps_of("eva", None, PASSWORD).await;
        let eva = verified(answer);
        assert_eq!((eva.username.as_str(), names(&eva)), ("eva", vec!["staff"]), "{steps:?}");
        assert_eq!((main.binds_of_people(), branch.binds_of_people()), (0, 1), "the server that has her asks her");
        assert_eq!(directory.login("eva", "wrong").await, Ok(LoginAnswer::Refused(LoginRefused::WrongPassword)));
        assert_eq!((main.binds_of_people(), branch.binds_of_people()), (0, 2));
        assert_eq!(verified(directory.look_up(&eva.id, "eva").await), eva);
        assert_eq!(directory.person("ana", PASSWORD).await.username, "ana");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_listed_server_that_cannot_prove_its_name_gets_no_password() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let (main, branch) = pair(&certificates, &others, Protection::StartTls);
    let trusting = settings(&main, Protection::StartTls).trusting(&certificates);
    let directory = trusting.following(&listed(&branch, Protection::StartTls)).open();
    let error = directory.login("eva", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Untrusted, "{error}");
    assert_eq!(heard(&branch), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_r28_a_listed_server_that_is_down_is_an_error_and_nothing_is_concluded() {
    let certificates = Certificates::new();
    let (main, mut branch) = pair(&certificates, &certificates, Protection::StartTls);
    let trusting = settings(&main, Protection::StartTls).trusting(&certificates);
    let directory = trusting.following(&listed(&branch, Protection::StartTls)).open();
    let eva = directory.person("eva", PASSWORD).await;
    branch.kill();
    for _ in 0..2 {
        let error = directory.login("eva", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
        let error = directory.look_up(&eva.id, "eva").await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
    }
    branch.restart();
}

/// An answer that is nothing but a reference, with the tag of its operation. The codec reads none, and writes none that
/// others read.
fn referral(seen: &Seen, operation: u8, uri: &str) -> Vec<Do> {
    let uri = [&[0x04, uri.len() as u8][..], uri.as_bytes()].concat();
    let result = [&b"\x0a\x01\x0a\x04\x00\x04\x00"[..], &[0xa3, uri.len() as u8], &uri].concat();
    let operation = [&[0x02, 0x01, seen.request.msgid as u8, operation, result.len() as u8][..], &result].concat();
    vec![Do::Raw([&[0x30, operation.len() as u8][..], &operation].concat())]
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_servers_that_refer_to_each_other_are_left_at_once() {
    for continues in [false, true] {
        // Each of the two knows the other one only when both are up.
        let ports = std::sync::Arc::new(std::sync::Mutex::new(Vec::<DirectoryServer>::new()));
        let script = |own: usize| {
            let ports = ports.clone();
            move |seen: &Seen| {
                if !is_search_for_ana(seen) {
                    return good(seen);
                }
                let to = ports.lock().unwrap()[1 - own].clone();
                if !continues {
                    return referral(seen, 0x65, &uri(&to, "dc=test"));
                }
                let reference = LdapSearchResultReference { uris: vec![uri(&to, "dc=test")] };
                let found = (own == 1).then(|| Do::Answer(ana()));
                let all = [Some(Do::Answer(LdapOp::SearchResultReference(reference))), found];
                all.into_iter().flatten().chain([Do::Answer(done(Code::Success))]).collect()
            }
        };
        let (one, other) = (Scripted::start(script(0)).await, Scripted::start(script(1)).await);
        let both = [one.at(Protection::Loopback), other.at(Protection::Loopback)];
        *ports.lock().unwrap() = both.to_vec();
        let directory = one.settings().following(&both).open();
        match continues {
            // Everything was searched once, so the answer is whole.
            true => assert_eq!(directory.person("ana", PASSWORD).await.id, "e-1"),
            false => {
                let error = directory.login("ana", PASSWORD).await.unwrap_err();
                assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
                assert!(error.detail.contains("refer to each other"), "{error}");
            }
        }
        let searches = |scripted: &Scripted| scripted.count(is_search_for_ana);
        assert_eq!((searches(&one), searches(&other)), (1, 1));
        assert_eq!((one.binds_of_people(), other.binds_of_people()), (0, usize::from(continues)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_references_that_lead_on_and_on_are_left_at_the_third_and_at_the_sixteenth() {
    // Every answer refers to another base of the same server.
    let chain = |several: usize| {
        let own = std::sync::Arc::new(std::sync::Mutex::new(None::<DirectoryServer>));
        let known = own.clone();
        let script = move |seen: &Seen| {
            let Some(search) = crate::script::search_of(seen) else { return good(seen) };
            let Some(to) = known.lock().unwrap().clone() else { return good(seen) };
            let next = |n: usize| {
                let base = format!("ou={n},{}", search.base);
                Do::Answer(LdapOp::SearchResultReference(LdapSearchResultReference { uris: vec![uri(&to, &base)] }))
            };
            (0..several).map(next).chain([Do::Answer(done(Code::Success))]).collect()
        };
        (own, script)
    };
    for (several, says, most) in [(1, "more than 3 times", 4), (20, "more than 16 references", 17)] {
        let (own, script) = chain(several);
        let scripted = Scripted::start(script).await;
        *own.lock().unwrap() = Some(scripted.at(Protection::Loopback));
        let directory = scripted.settings().following(&[scripted.at(Protection::Loopback)]).open();
        let error = directory.login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
        assert!(error.detail.contains(says), "{error}");
        assert!(scripted.searches() <= most, "{}", scripted.searches());
        assert_eq!(scripted.binds_of_people(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_a_bind_that_is_answered_by_a_reference_sends_the_password_nowhere_else() {
    let other = Scripted::start(good).await;
    let to = uri(&other.at(Protection::Loopback), "dc=test");
    let scripted = Scripted::start(move |seen: &Seen| {
        if !crate::script::is_bind_of_person(seen) {
            return good(seen);
        }
        referral(seen, 0x61, &to)
    })
    .await;
    let directory = scripted.settings().following(&[other.at(Protection::Loopback)]).open();
    let error = directory.login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    assert_eq!(other.connections(), 0);
}
