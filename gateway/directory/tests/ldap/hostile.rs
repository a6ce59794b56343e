//! Servers that do not do what they should: an error of a type, and no password where none may go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use idm_plan::{GroupStrategy, Protection};
use idm_trust::{AccountState, DirectoryErrorKind, LoginAnswer, LoginRefused};
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapOp, LdapResultCode as Code, LdapSearchRequest, LdapSearchResultReference};

use crate::peer::{Do, Scripted, Seen, ana, bound, done, encoded, entry, extended};
use crate::world::{Certificates, Settings, WRONG, names, refused, server, verified};

const PASSWORD: &str = "canary-Pa55word";

/// What a good server does with one person, `ana`, who is in no group.
fn good(seen: &Seen) -> Vec<Do> {
    match &seen.request.op {
        LdapOp::BindRequest(_) => vec![Do::Answer(bound(Code::Success))],
        LdapOp::SearchRequest(search) if search.base == "dc=test" => {
            vec![Do::Answer(ana()), Do::Answer(done(Code::Success))]
        }
        LdapOp::SearchRequest(_) => vec![Do::Answer(done(Code::Success))],
        LdapOp::ExtendedRequest(_) => vec![Do::Answer(extended(Code::Success)), Do::BeginTls("localhost")],
        LdapOp::UnbindRequest => vec![Do::Close],
        _ => Vec::new(),
    }
}

fn search_of(seen: &Seen) -> Option<&LdapSearchRequest> {
    if let LdapOp::SearchRequest(search) = &seen.request.op { Some(search) } else { None }
}

fn is_search_for_groups(seen: &Seen) -> bool {
    search_of(seen).is_some_and(|search| search.base == "ou=groups,dc=test")
}

fn is_search_for_ana(seen: &Seen) -> bool {
    search_of(seen).is_some_and(|search| search.base == "dc=test")
}

fn is_bind_of_person(seen: &Seen) -> bool {
    matches!(&seen.request.op, LdapOp::BindRequest(bind) if !bind.dn.contains("gateway"))
}

fn groups() -> GroupStrategy {
    GroupStrategy::Search { filter: None, member_attribute: "member".into(), user_attribute: None, nested: false }
}

fn with_groups(scripted: &Scripted) -> Settings {
    scripted.settings().groups(groups(), Some("ou=groups,dc=test"))
}

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
    // Nobody takes connections here, and no more fit into the queue: the kernel drops what asks for one.
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
async fn r15_messages_that_are_none_are_errors_and_nobody_is_bound() {
    let levels = 100_000_usize;
    let level = |inside: usize| [&[0x30, 0x83][..], &(inside as u32 * 5).to_be_bytes()[1..]].concat();
    let nested: Vec<u8> = (0..levels).rev().flat_map(level).collect();
    for (what, octets) in [
        ("a length of 2^32-1", b"\x30\x84\xff\xff\xff\xff".to_vec()),
        ("a length of 2^64-1", [&[0x30, 0x88][..], &[0xff; 8]].concat()),
        ("100,000 levels", nested),
        ("an operation that does not exist", b"\x30\x05\x02\x01\x02\x7e\x00".to_vec()),
        ("a result without a code", b"\x30\x05\x02\x01\x02\x65\x00".to_vec()),
        ("a name that is not UTF-8", b"\x30\x0a\x02\x01\x02\x64\x05\x04\x01\xff\x30\x00".to_vec()),
        ("a request", b"\x30\x05\x02\x01\x02\x42\x00".to_vec()),
        ("an indefinite length", b"\x30\x80\x02\x01\x02".to_vec()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
    ] {
        let script = move |seen: &Seen| {
            if is_search_for_ana(seen) { vec![Do::Raw(octets.clone())] } else { good(seen) }
        };
        let scripted = Scripted::start(script).await;
        let began = Instant::now();
        let error = scripted.settings().open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{what}: {error}");
        assert!(began.elapsed() < Duration::from_secs(1), "{what}: {:?}", began.elapsed());
        assert_eq!(scripted.binds_of_people(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_the_entries_of_one_login_have_a_limit_in_octets() {
    let scripted = Scripted::start(|seen: &Seen| {
        if !is_search_for_groups(seen) {
            return good(seen);
        }
        let long = vec![b'x'; 1 << 20];
        (0..40).map(|n| Do::Answer(entry(&format!("cn=g{n},ou=groups,dc=test"), &[("cn", &[&long])]))).collect()
    })
    .await;
    let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    assert!(error.detail.contains("16 MiB"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r28_references_are_counted_and_never_followed() {
    let other = Scripted::start(good).await;
    let uri = format!("ldap://127.0.0.1:{}/dc=test", other.at(Protection::Loopback).port);
    let (known, ends) = (uri.clone(), uri.clone());
    let scripted = Scripted::start(move |seen: &Seen| {
        if !is_search_for_ana(seen) {
            return good(seen);
        }
        let reference = LdapOp::SearchResultReference(LdapSearchResultReference { uris: vec![known.clone()] });
        let references = (0..3).map(|_| Do::Answer(reference.clone()));
        references.chain([Do::Answer(ana()), Do::Answer(done(Code::Success))]).collect()
    })
    .await;
    let (answer, steps) = scripted.settings().open().steps_of("ana", None, PASSWORD).await;
    assert_eq!(verified(answer).id, "e-1");
    assert!(steps.iter().any(|step| step.contains("1 entries, 3 references ignored")), "{steps:?}");
    // A referral as the whole answer, of a search and of a bind (RFC 4511 §4.1.10), also to the server itself.
    for of_bind in [false, true] {
        let uri = ends.clone();
        let scripted = Scripted::start(move |seen: &Seen| {
            let referral = |operation: u8| {
                let uri = [&[0x04, uri.len() as u8][..], uri.as_bytes()].concat();
                let result = [&b"\x0a\x01\x0a\x04\x00\x04\x00"[..], &[0xa3, uri.len() as u8], &uri].concat();
                let id = seen.request.msgid as u8;
                let operation = [&[0x02, 0x01, id, operation, result.len() as u8][..], &result].concat();
                vec![Do::Raw([&[0x30, operation.len() as u8][..], &operation].concat())]
            };
            match of_bind {
                true if is_bind_of_person(seen) => referral(0x61),
                false if is_search_for_ana(seen) => referral(0x65),
                _ => good(seen),
            }
        })
        .await;
        let error = scripted.settings().open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_entries_before_a_code_that_is_no_success_do_not_count() {
    for (code, kind) in [
        (Code::TimeLimitExceeded, DirectoryErrorKind::Unavailable),
        (Code::SizeLimitExceeded, DirectoryErrorKind::Unusable),
        (Code::AdminLimitExceeded, DirectoryErrorKind::Unusable),
        (Code::OperationsError, DirectoryErrorKind::RefusesUs),
        (Code::InsufficentAccessRights, DirectoryErrorKind::RefusesUs),
        (Code::StrongerAuthRequired, DirectoryErrorKind::RefusesUs),
        (Code::Busy, DirectoryErrorKind::Unavailable),
        (Code::Other, DirectoryErrorKind::Unusable),
        (Code::UnavailableCriticalExtension, DirectoryErrorKind::Unusable),
    ] {
        let (of_people, of_groups) = (code.clone(), code.clone());
        let people = move |seen: &Seen| {
            if is_search_for_ana(seen) {
                vec![Do::Answer(ana()), Do::Answer(done(of_people.clone()))]
            } else {
                good(seen)
            }
        };
        let group = || entry("cn=g,ou=groups,dc=test", &[("cn", &[b"g"])]);
        let groups = move |seen: &Seen| {
            if is_search_for_groups(seen) {
                vec![Do::Answer(group()), Do::Answer(done(of_groups.clone()))]
            } else {
                good(seen)
            }
        };
        let (people, groups) = (Scripted::start(people).await, Scripted::start(groups).await);
        for (scripted, binds) in [(&people, 0), (&groups, 1)] {
            let error = with_groups(scripted).open().login("ana", PASSWORD).await.unwrap_err();
            assert_eq!(error.kind, kind, "{code:?}: {error}");
            assert_eq!(scripted.binds_of_people(), binds);
        }
    }
    let two = |seen: &Seen| {
        if !is_search_for_ana(seen) {
            return good(seen);
        }
        vec![Do::Answer(ana()), Do::Answer(ana()), Do::Answer(done(Code::SizeLimitExceeded))]
    };
    let scripted = Scripted::start(two).await;
    let ambiguous = Ok(LoginAnswer::Refused(LoginRefused::Ambiguous));
    assert_eq!(scripted.settings().open().login("ana", PASSWORD).await, ambiguous);
    // A server that does not keep to the limit is not listened to for long.
    let many = |seen: &Seen| {
        if is_search_for_ana(seen) { (0..50).map(|_| Do::Answer(ana())).collect() } else { good(seen) }
    };
    let scripted = Scripted::start(many).await;
    assert_eq!(scripted.settings().open().login("ana", PASSWORD).await, ambiguous);
    assert_eq!(scripted.binds_of_people(), 0);
}

/// The numbers of the groups of a page, and the cookie of the next one, by the cookie before.
type Page = fn(&[u8]) -> (Vec<usize>, &'static [u8]);

/// A server that gives groups in pages.
fn paging(page: Page) -> impl Fn(&Seen) -> Vec<Do> + Send + Sync {
    move |seen| {
        let root = entry("", &[("supportedControl", &[b"1.2.840.113556.1.4.319"])]);
        match search_of(seen) {
            Some(search) if search.base.is_empty() => vec![Do::Answer(root), Do::Answer(done(Code::Success))],
            Some(search) if search.base == "ou=groups,dc=test" => {
                let [LdapControl::SimplePagedResults { cookie, .. }] = seen.request.ctrl.as_slice() else {
                    panic!("a search in pages");
                };
                let (entries, cookie) = page(cookie);
                let group = |n| entry(&format!("cn=g{n},ou=groups,dc=test"), &[("cn", &[format!("g{n}").as_bytes()])]);
                let control = LdapControl::SimplePagedResults { size: 0, cookie: cookie.to_vec() };
                let done = Do::AnswerWith(done(Code::Success), vec![control]);
                entries.into_iter().map(|n| Do::Answer(group(n))).chain([done]).collect()
            }
            _ => good(seen),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_server_that_repeats_a_page_is_left_and_one_that_only_repeats_its_cookie_is_not() {
    let scripted = Scripted::start(paging(|_| (vec![1, 2], b"again"))).await;
    let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("RFC 2696"), "{error}");
    let scripted = Scripted::start(paging(|_| (vec![], b"again"))).await;
    assert!(with_groups(&scripted).open().login("ana", PASSWORD).await.is_err());
    // 389 Directory Server has one cookie for all pages of a search.
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let scripted = Scripted::start(paging(|_| match PAGE.fetch_add(1, Ordering::SeqCst) {
        page @ 0..2 => (vec![page], b"0"),
        page => (vec![page], b""),
    }))
    .await;
    assert_eq!(names(&with_groups(&scripted).open().person("ana", PASSWORD).await), ["g0", "g1", "g2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_a_page_that_is_lost_fails_the_login() {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let pages = paging(|_| (vec![PAGE.fetch_add(1, Ordering::SeqCst)], b"more"));
    let scripted = Scripted::start(move |seen: &Seen| {
        let lost = is_search_for_groups(seen) && PAGE.load(Ordering::SeqCst) == 2;
        if lost { vec![Do::Reset] } else { pages(seen) }
    })
    .await;
    let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
    assert_eq!(PAGE.load(Ordering::SeqCst), 2, "the search does not begin anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_a_server_that_dies_before_the_groups_is_an_error_and_not_no_groups() {
    let scripted =
        Scripted::start(|seen: &Seen| if is_search_for_groups(seen) { vec![Do::Reset] } else { good(seen) }).await;
    let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, DirectoryErrorKind::Unavailable, "{error}");
    assert_eq!((scripted.count(is_search_for_groups), scripted.binds_of_people()), (2, 1));
}

/// The range of values that answers a question for one.
type Range = fn(&str) -> Option<(&'static str, &'static [&'static [u8]])>;

/// A server that gives values of `memberOf` in ranges.
fn ranges(next: Range) -> impl Fn(&Seen) -> Vec<Do> {
    move |seen| {
        let Some(search) = search_of(seen) else { return good(seen) };
        let success = Do::Answer(done(Code::Success));
        if search.base == "dc=test" {
            // Windows sends the plain attribute without values, and the first range.
            let attributes: &[(&str, &[&[u8]])] = &[
                ("uid", &[b"ana"]),
                ("entryUUID", &[b"e-1"]),
                ("memberOf", &[]),
                ("memberOf;range=0-1", &[b"cn=a,dc=test", b"cn=b,dc=test"]),
            ];
            return vec![Do::Answer(entry("uid=ana,dc=test", attributes)), success];
        }
        if search.base == "uid=ana,dc=test" {
            let found = next(&search.attrs[0]).map(|found| Do::Answer(entry("uid=ana,dc=test", &[found])));
            return found.into_iter().chain([success]).collect();
        }
        let name = search.base.strip_prefix("cn=").and_then(|name| name.strip_suffix(",dc=test"));
        let group = |name: &str| entry(&search.base, &[("cn", &[name.as_bytes()])]);
        name.map(|name| Do::Answer(group(name))).into_iter().chain([success]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r32_ranges_of_values_are_followed_to_their_end_or_it_is_an_error() {
    let member_of = GroupStrategy::MemberOf { nested: false };
    let settings = |scripted: &Scripted| scripted.settings().groups(member_of.clone(), Some("dc=test"));
    let scripted = Scripted::start(ranges(|asked| match asked {
        "memberOf;range=2-*" => Some(("memberOf;range=2-3", &[b"cn=c,dc=test", b"cn=d,dc=test"])),
        "memberOf;range=4-*" => Some(("memberOf;range=4-*", &[b"cn=e,dc=test"])),
        other => panic!("{other}"),
    }))
    .await;
    let open = settings(&scripted).open();
    // The base of people is the base of groups here, and the names of groups are asked for there, too.
    assert_eq!(names(&open.person("ana", PASSWORD).await), ["a", "b", "c", "d", "e"]);
    for broken in [
        ranges(|_| None),
        ranges(|_| Some(("memberOf", &[b"cn=c,dc=test"]))),
        ranges(|_| Some(("memberOf;range=0-1", &[b"cn=a,dc=test"]))),
    ] {
        let scripted = Scripted::start(broken).await;
        let error = settings(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
        assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("`memberOf`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r36_more_than_5000_groups_refuse_and_5000_do_not() {
    for (count, fits) in [(5_000, true), (5_001, false)] {
        let scripted = Scripted::start(move |seen: &Seen| {
            if !is_search_for_groups(seen) {
                return good(seen);
            }
            let group = |n| entry(&format!("cn=g{n},ou=groups,dc=test"), &[("cn", &[b"g"]), ("entryUUID", &[b"u"])]);
            let octets = (0..count).flat_map(|n| encoded(seen.request.msgid, group(n), Vec::new())).collect();
            vec![Do::Raw(octets), Do::Answer(done(Code::Success))]
        })
        .await;
        let answer = with_groups(&scripted).within(10_000).open().login("ana", PASSWORD).await;
        if fits {
            assert_eq!(verified(answer).groups.len(), 5_000);
        } else {
            assert_eq!(answer.unwrap_err().kind, DirectoryErrorKind::TooManyGroups);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r34_a_group_without_the_attribute_of_its_name_is_told() {
    let scripted = Scripted::start(|seen: &Seen| {
        if !is_search_for_groups(seen) {
            return good(seen);
        }
        vec![Do::Answer(entry("ou=g,ou=groups,dc=test", &[])), Do::Answer(done(Code::Success))]
    })
    .await;
    let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("ou=g,ou=groups"), "{error}");
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
