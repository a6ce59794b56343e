//! Answers of servers that are no messages, not whole, too many, or about other servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use idm_plan::{GroupStrategy, Protection};
use idm_trust::{DirectoryErrorKind, LoginAnswer, LoginRefused};
use ldap3_proto::control::LdapControl;
use ldap3_proto::proto::{LdapOp, LdapResultCode as Code, LdapSearchResultReference};

use crate::peer::{Do, Scripted, Seen, ana, done, encoded, entry};
use crate::script::{
    PASSWORD, good, is_bind_of_person, is_search_for_ana, is_search_for_groups, search_of, with_groups,
};
use crate::world::{names, verified};

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
async fn r15_the_entries_of_one_login_have_a_limit_in_memory() {
    // A few long values, and many empty ones, which take more memory than they are long.
    for (length, values) in [(1 << 20, 1), (0, 50_000)] {
        let scripted = Scripted::start(move |seen: &Seen| {
            if !is_search_for_groups(seen) {
                return good(seen);
            }
            let value = vec![b'x'; length];
            let values: Vec<&[u8]> = vec![&value; values];
            (0..40).map(|n| Do::Answer(entry(&format!("cn=g{n},ou=groups,dc=test"), &[("cn", &values)]))).collect()
        })
        .await;
        let error = with_groups(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{error}");
        assert!(error.detail.contains("16 MiB"), "{error}");
    }
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
        ranges(|_| Some(("memberOf;range=3-*", &[b"cn=d,dc=test"]))),
    ] {
        let scripted = Scripted::start(broken).await;
        let error = settings(&scripted).open().login("ana", PASSWORD).await.unwrap_err();
        assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("`memberOf`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r22_one_group_in_two_spellings_is_one_group() {
    let scripted = Scripted::start(|seen: &Seen| {
        if !is_search_for_groups(seen) {
            return good(seen);
        }
        let spellings = [
            "cn=Staff\\, all,ou=groups,dc=test",
            "CN=staff\\2C ALL, OU=Groups ,DC=test",
            "cn=staff\\, al,ou=groups,dc=test",
        ];
        let groups = spellings.map(|dn| Do::Answer(entry(dn, &[("cn", &[b"Staff"])])));
        groups.into_iter().chain([Do::Answer(done(Code::Success))]).collect()
    })
    .await;
    assert_eq!(with_groups(&scripted).open().person("ana", PASSWORD).await.groups.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn r36_more_than_5000_groups_refuse_and_5000_do_not() {
    for (count, fits) in [(5_000, true), (5_001, false)] {
        let scripted = Scripted::start(move |seen: &Seen| {
            if !is_search_for_groups(seen) {
                return good(seen);
            }
            // As long as names and ids of Active Directory are.
            let long = [b'x'; 64];
            let attributes: &[(&str, &[&[u8]])] =
                &[("cn", &[&long]), ("entryUUID", &[&long]), ("nsUniqueId", &[&long])];
            let group = |n| entry(&format!("cn=g{n},ou=groups,dc=test"), attributes);
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
