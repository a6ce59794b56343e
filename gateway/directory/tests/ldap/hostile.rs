//! Servers that do not do what they should: an error of a type, and no password where none may go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use idm_plan::Protection;
use idm_trust::{AccountState, DirectoryErrorKind};
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapOp, LdapResultCode as Code};

use crate::peer::{Do, Scripted, Seen, ana, bound, done, encoded, entry, extended};
use crate::script::{
    PASSWORD, good, groups, is_bind_of_person, is_search_for_ana, is_search_for_groups, search_of, with_groups,
};
use crate::world::{Certificates, Settings, WRONG, refused, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_lets_ana_in() {
    let scripted = Scripted::start(good).await;
    assert_eq!(scripted.settings().open().person("ana", PASSWORD).await.id, "e-1");
    assert_eq!((scripted.connections(), scripted.binds(), scripted.searches()), (2, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_no_bind_is_sent_where_starttls_does_not_come_to_its_end() {
    let certificates = Certificates::new();
    type Answers = fn(&Seen) -> Vec<Do>;
    let garbage: Answers = |_| vec![Do::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())];
    let another: Answers = |_| vec![Do::Answer(bound(Code::Success))];
    let refuses: Answers = |_| vec![Do::Answer(extended(Code::ProtocolError))];
    let wrong_name: Answers = |_| vec![Do::Answer(extended(Code::Success)), Do::BeginTls("other.test")];
    // Sent with the answer, by somebody in between who wants it to count for what is encrypted.
    let injected: Answers = |seen| {
        let answer = encoded(seen.request.msgid, extended(Code::Success), Vec::new());
        vec![Do::Raw([answer, encoded(2, bound(Code::Success), Vec::new())].concat()), Do::BeginTls("localhost")]
    };
    let plain: Answers = |seen| match seen.request.op {
        LdapOp::ExtendedRequest(_) => vec![Do::Answer(extended(Code::Success))],
        _ => vec![Do::Answer(bound(Code::Success))],
    };
    for (what, answers, kind) in [
        ("refuses it", refuses, DirectoryErrorKind::Untrusted),
        ("answers garbage", garbage, DirectoryErrorKind::Untrusted),
        ("answers something else", another, DirectoryErrorKind::Untrusted),
        ("has the certificate of another", wrong_name, DirectoryErrorKind::Untrusted),
        ("sends more before TLS", injected, DirectoryErrorKind::Untrusted),
        ("goes on in clear", plain, DirectoryErrorKind::Unavailable),
    ] {
        let scripted = Scripted::with(Some(&certificates), Vec::new(), answers).await;
        let mut settings = scripted.settings().trusting(&certificates).within(700);
        settings.plan.servers = vec![scripted.at(Protection::StartTls)];
        let error = settings.open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, kind, "a server that {what}: {error}");
        assert_eq!(scripted.binds(), 0, "a server that {what}");
        assert_eq!(scripted.count(|seen| !matches!(seen.request.op, LdapOp::ExtendedRequest(_))), 0);
    }
    let scripted = Scripted::with(Some(&certificates), Vec::new(), good).await;
    let mut settings = scripted.settings().trusting(&certificates);
    settings.plan.servers = vec![scripted.at(Protection::StartTls)];
    assert_eq!(settings.open().person("ana", PASSWORD).await.id, "e-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_server_that_cannot_prove_its_name_is_passed_over_for_one_that_can() {
    let certificates = Certificates::new();
    let false_one = Scripted::with(Some(&certificates), Vec::new(), |seen: &Seen| match seen.request.op {
        LdapOp::ExtendedRequest(_) => vec![Do::Answer(extended(Code::Success)), Do::BeginTls("other.test")],
        _ => vec![Do::Answer(bound(Code::Success))],
    })
    .await;
    let true_one = Scripted::with(Some(&certificates), Vec::new(), good).await;
    let mut settings = true_one.settings().trusting(&certificates);
    settings.plan.servers = vec![false_one.at(Protection::StartTls), true_one.at(Protection::StartTls)];
    assert_eq!(settings.open().person("ana", PASSWORD).await.id, "e-1");
    assert_eq!((false_one.binds(), true_one.binds_of_people()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_answers_no_bind_lets_nobody_in() {
    // The server answers binds before they are sent, with each id that may come.
    let greeting: Vec<u8> = (1..4).flat_map(|id| encoded(id, bound(Code::Success), Vec::new())).collect();
    let scripted = Scripted::with(None, greeting, |_: &Seen| Vec::new()).await;
    let error = scripted.settings().within(500).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    assert_eq!(scripted.binds_of_people(), 0);

    // The answers that the person's bind could take for its own come with the answer to something else.
    let scripted = Scripted::start(|seen: &Seen| {
        if is_bind_of_person(seen) {
            return vec![Do::As(seen.request.msgid + 1, bound(Code::Success)), Do::As(77, bound(Code::Success))];
        }
        good(seen)
    })
    .await;
    let error = scripted.settings().within(400).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "answers to other messages are dropped: {error}");

    // An answer of another kind is none.
    for other in [done(Code::Success), extended(Code::Success), ana()] {
        let scripted =
            Scripted::start(
                move |seen: &Seen| {
                    if is_bind_of_person(seen) { vec![Do::Answer(other.clone())] } else { good(seen) }
                },
            )
            .await;
        let error = scripted.settings().within(400).open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_a_bind_that_was_sent_is_never_sent_again() {
    type Ends = fn() -> Vec<Do>;
    let reset: Ends = || vec![Do::Reset];
    let close: Ends = || vec![Do::Close];
    let silence: Ends = Vec::new;
    let notice: Ends = || vec![Do::As(0, extended(Code::Unavailable))];
    let busy: Ends = || vec![Do::Answer(bound(Code::Busy))];
    for ends in [reset, close, silence, notice, busy] {
        let script = move |seen: &Seen| if is_bind_of_person(seen) { ends() } else { good(seen) };
        let (first, second) = (Scripted::start(script).await, Scripted::start(good).await);
        let settings = first.settings().and_servers([second.at(Protection::Loopback)]).within(500);
        let error = settings.open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
        assert_eq!(first.binds_of_people() + second.binds_of_people(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_server_that_is_silent_costs_the_first_login_a_second_and_others_nothing() {
    // No process takes connections here, and no more fit into the queue: the kernel drops what asks for one.
    let hole = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    hole.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    // This one accepts, and says nothing.
    let mute = Scripted::start(|_: &Seen| Vec::new()).await;
    let good_one = Scripted::start(good).await;
    for silent in [server("127.0.0.1", address.port(), Protection::Loopback), mute.at(Protection::Loopback)] {
        let mut settings = good_one.settings();
        settings.plan.servers = vec![silent, good_one.at(Protection::Loopback)];
        let directory = settings.open();
        let began = Instant::now();
        assert_eq!(directory.person("ana", PASSWORD).await.id, "e-1");
        assert!(began.elapsed() < Duration::from_millis(1_600), "{:?}", began.elapsed());
        let began = Instant::now();
        for _ in 0..5 {
            assert_eq!(directory.person("ana", PASSWORD).await.id, "e-1");
        }
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    }
    assert_eq!(mute.binds_of_people(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_server_that_stalls_or_drips_is_left_at_the_deadline_and_told_so() {
    let stalls = Scripted::start(|seen: &Seen| if is_search_for_ana(seen) { Vec::new() } else { good(seen) }).await;
    let drips = Scripted::start(|seen: &Seen| {
        if !is_search_for_groups(seen) {
            return good(seen);
        }
        let group = |n: usize| entry(&format!("cn=g{n},ou=groups,dc=test"), &[("cn", &[b"g"])]);
        (0..100).flat_map(|n| [Do::Answer(group(n)), Do::Wait(Duration::from_millis(100))]).collect()
    })
    .await;
    for scripted in [stalls, drips] {
        let directory = with_groups(&scripted).within(1_000).open();
        let began = Instant::now();
        let error = directory.login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
        let took = began.elapsed();
        assert!((900..1_400).contains(&took.as_millis()), "{took:?}");
        let connections = scripted.connections();
        assert!(directory.login("ana", PASSWORD).await.is_err());
        assert!(scripted.connections() > connections, "the connection is not used again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_a_search_that_nobody_waits_for_is_abandoned() {
    let scripted = Scripted::start(|seen: &Seen| if is_search_for_ana(seen) { Vec::new() } else { good(seen) }).await;
    assert!(scripted.settings().within(300).open().login("ana", PASSWORD).await.is_err());
    let abandoned = || scripted.count(|seen| matches!(seen.request.op, LdapOp::AbandonRequest(2)));
    let start = Instant::now();
    while abandoned() == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "the search is abandoned");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_late_answer_is_not_taken_for_that_of_another_login() {
    let script = |seen: &Seen| {
        if !is_search_for_ana(seen) {
            return good(seen);
        }
        let other = entry("uid=bob,dc=test", &[("uid", &[b"bob"]), ("entryUUID", &[b"e-2"])]);
        let found = if format!("{:?}", search_of(seen)).contains("\"bob\"") { other } else { ana() };
        let late = if seen.connection == 0 { 400 } else { 0 };
        vec![Do::Wait(Duration::from_millis(late)), Do::Answer(found), Do::Answer(done(Code::Success))]
    };
    let scripted = Scripted::start(script).await;
    let directory = scripted.settings().within(300).open();
    assert_eq!(directory.login("ana", PASSWORD).await.unwrap_err().kind, DirectoryErrorKind::Unavailable);
    assert_eq!(directory.person("bob", PASSWORD).await.id, "e-2");
}

/// Ends the first `times` searches for a person in some way.
fn ending(times: usize, end: fn() -> Vec<Do>) -> impl Fn(&Seen) -> Vec<Do> + Send + Sync {
    let count = AtomicUsize::new(0);
    move |seen| {
        let ends = is_search_for_ana(seen) && count.fetch_add(1, Ordering::SeqCst) < times;
        if ends { end() } else { good(seen) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_r16_a_search_is_asked_again_once_if_nothing_was_answered() {
    type Ends = fn() -> Vec<Do>;
    let reset: Ends = || vec![Do::Reset];
    let close: Ends = || vec![Do::Close];
    let notice: Ends = || vec![Do::As(0, extended(Code::Unavailable))];
    for end in [reset, close, notice] {
        let scripted = Scripted::start(ending(1, end)).await;
        assert_eq!(scripted.settings().open().person("ana", PASSWORD).await.id, "e-1");
        assert_eq!((scripted.searches(), scripted.binds_of_people()), (2, 1));
        let scripted = Scripted::start(ending(2, end)).await;
        let error = scripted.settings().open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
        assert_eq!((scripted.searches(), scripted.binds_of_people()), (2, 0));
    }
    let scripted = Scripted::start(ending(1, || vec![Do::Answer(ana()), Do::Reset])).await;
    let error = scripted.settings().open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
    assert_eq!((scripted.searches(), scripted.binds_of_people()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_an_entry_without_a_name_is_not_bound_as() {
    let scripted = Scripted::start(|seen: &Seen| {
        if !is_search_for_ana(seen) {
            return good(seen);
        }
        let nameless = entry(" ", &[("uid", &[b"ana"]), ("entryUUID", &[b"e"])]);
        vec![Do::Answer(nameless), Do::Answer(done(Code::Success))]
    })
    .await;
    let error = scripted.settings().open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    assert_eq!(scripted.binds_of_people(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r37_r39_what_an_answer_to_a_bind_says_of_the_account_is_told() {
    let policy = |value: &[u8]| LdapControl::Unknown {
        oid: "1.3.6.1.4.1.42.2.27.8.5.1".into(),
        criticality: false,
        value: Some(value.to_vec()),
    };
    for (code, control, answer) in [
        (Code::Success, policy(b"\x30\x03\x81\x01\x01"), refused(AccountState::Locked)),
        (Code::Success, policy(b"\x30\x05\xa0\x03\x81\x01\x00"), refused(AccountState::PasswordExpired)),
        (Code::InvalidCredentials, policy(b"\x30\x00"), WRONG),
        (Code::InvalidCredentials, policy(b"\x30\x05\xa0\x03\x80\x01\x3c"), WRONG),
        (Code::InvalidCredentials, policy(b"\x30\x03\x81\x01\x02"), refused(AccountState::MustChangePassword)),
    ] {
        let script = move |seen: &Seen| {
            if is_bind_of_person(seen) {
                vec![Do::AnswerWith(bound(code.clone()), vec![control.clone()])]
            } else {
                good(seen)
            }
        };
        let scripted = Scripted::start(script).await;
        assert_eq!(scripted.settings().open().login("ana", PASSWORD).await, Ok(answer));
        let asked = |seen: &Seen| seen.request.ctrl == [LdapControl::PasswordPolicyRequest { criticality: false }];
        assert_eq!(scripted.count(|seen| is_bind_of_person(seen) && asked(seen)), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_r18_people_of_a_template_are_read_on_their_own_connection_alone() {
    let template = |scripted: &Scripted| {
        Settings::template(scripted.at(Protection::Loopback), "uid=", ",dc=test", "uid")
            .groups(groups(), Some("ou=groups,dc=test"))
    };
    let script = |seen: &Seen| match &seen.request.op {
        LdapOp::SearchRequest(search) if search.base == "uid=ana,dc=test" => {
            vec![Do::Answer(ana()), Do::Answer(done(Code::Success))]
        }
        _ => good(seen),
    };
    let scripted = Scripted::start(script).await;
    assert_eq!(template(&scripted).open().person("ana", PASSWORD).await.id, "e-1");
    assert_eq!((scripted.connections(), scripted.binds()), (1, 1));
    // A connection that ends after the bind is no reason for a second one.
    let scripted =
        Scripted::start(move |seen: &Seen| if search_of(seen).is_some() { vec![Do::Reset] } else { good(seen) }).await;
    let error = template(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
    assert_eq!((scripted.connections(), scripted.binds()), (1, 1));
    // A person who may not read the own entry.
    let scripted = Scripted::start(good).await;
    let error = template(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("own entry"), "{error}");
}
