//! A new password, which people choose in the sign-in form when their directory wants one.

use idm_tests::http::encoded;
use idm_tests::slapd::{PASSWORD, uid};
use idm_tests::{Browser, Reply, records};
use serde_json::Value;

use crate::bed::{Bed, WRONG, Way};

const NEW: &str = "canary-new-Pa55word";
/// Too short for the directory.
const SHORT: &str = "canary1";

/// A directory whose `ana` must change her password, with a policy for new ones.
fn bed(login: &str) -> Bed {
    let bed = Bed::new(Way::StartTls, login);
    bed.slapd.change(
        "dn: cn=default,dc=corp,dc=test\nchangetype: modify\nadd: pwdMinLength\npwdMinLength: 12\n-\nadd: \
         pwdCheckQuality\npwdCheckQuality: 2\n-\nadd: pwdAllowUserChange\npwdAllowUserChange: TRUE\n\n",
    );
    bed.slapd.change(&format!("dn: {}\nchangetype: modify\nadd: pwdReset\npwdReset: TRUE\n\n", uid("ana")));
    bed
}

fn state_of(page: &Reply) -> String {
    let found = page.body.split("name=\"state\" value=\"").nth(1).unwrap_or_else(|| panic!("{}", page.body));
    found.split('"').next().unwrap().to_owned()
}

fn send(browser: &mut Browser, site: &str, fields: &[(&str, &str)]) -> Reply {
    let body = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&");
    let headers = [
        ("Accept", "text/html"),
        ("Accept-Language", "en"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", site),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    browser.send("POST", "/_idm/login/corp", &headers, &body)
}

/// Sends the form for a new password.
fn change(browser: &mut Browser, state: &str, old: &str, new: &str, again: &str) -> Reply {
    let fields =
        [("state", state), ("username", "ana"), ("password", old), ("newPassword", new), ("newPasswordAgain", again)];
    send(browser, "same-origin", &fields)
}

#[test]
fn r37_who_must_change_the_password_does_so_in_the_form_and_signs_in_with_the_new_one() {
    let bed = bed("{offerPasswordChange: true}");
    let (mut browser, page) = bed.signed_in("ana", PASSWORD);
    bed.refused(&page, 401, "PasswordMustChange");
    for part in ["autocomplete=\"new-password\"", "id=\"n\"", "<label for=\"r\">", "role=\"alert\"", "value=\"ana\""] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert!(!page.body.contains("<script") && !page.body.contains(PASSWORD), "{}", page.body);
    // Two that differ, and one that is the old one, are asked of nobody.
    let binds = bed.slapd.binds_of_people();
    let page = change(&mut browser, &state_of(&page), PASSWORD, NEW, "something else");
    bed.refused(&page, 400, "NewPasswordRefused");
    let page = change(&mut browser, &state_of(&page), PASSWORD, PASSWORD, PASSWORD);
    bed.refused(&page, 400, "NewPasswordRefused");
    assert_eq!(bed.slapd.binds_of_people(), binds);
    // The directory's own rules.
    let page = change(&mut browser, &state_of(&page), PASSWORD, SHORT, SHORT);
    let record = bed.refused(&page, 400, "NewPasswordRefused");
    assert!(record.to_string().contains("not accepted"), "{record}");
    // The old password counts as a guess, and the directory hears it once.
    let binds = bed.slapd.binds_of_people();
    let page = change(&mut browser, &state_of(&page), WRONG, NEW, NEW);
    bed.refused(&page, 401, "WrongPassword");
    assert_eq!(bed.slapd.binds_of_people() - binds, 1);
    let used = state_of(&page);
    let page = change(&mut browser, &used, PASSWORD, NEW, NEW);
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("role=\"status\"") && !page.body.contains("newPassword"), "{}", page.body);
    // The same form again is of no use to anybody.
    let binds = bed.slapd.binds_of_people();
    bed.refused(&change(&mut browser, &used, PASSWORD, NEW, NEW), 303, "UnknownSignIn");
    assert_eq!(bed.slapd.binds_of_people(), binds);
    let fields = [("state", &*state_of(&page)), ("username", "ana"), ("password", NEW)];
    let answer = send(&mut browser, "same-origin", &fields);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/orders")), "{}", answer.body);
    assert_eq!(browser.go("/orders").status, 200);
    assert_eq!(bed.basic("ana", PASSWORD).status, 401);
    let everything = format!("{}{:?}", bed.gateway.log(), records(bed.gateway.audit.path()));
    for secret in [PASSWORD, NEW, WRONG, SHORT] {
        assert!(!everything.contains(secret), "{secret} is told");
    }
}

#[test]
fn a_password_is_changed_for_nobody_but_the_browser_that_asked_and_the_account_that_wants_it() {
    let bed = bed("{offerPasswordChange: true}");
    let (mut browser, page) = bed.signed_in("ana", PASSWORD);
    let state = state_of(&page);
    let binds = bed.slapd.binds_of_people();
    let fields = [
        ("state", state.as_str()),
        ("username", "ana"),
        ("password", PASSWORD),
        ("newPassword", NEW),
        ("newPasswordAgain", NEW),
    ];
    bed.refused(&send(&mut browser, "cross-site", &fields), 403, "CrossSiteRequest");
    let mut other = Browser::new(bed.gateway.address);
    other.to_provider("/orders");
    bed.refused(&send(&mut other, "same-origin", &fields), 303, "UnknownSignIn");
    assert_eq!(bed.slapd.binds_of_people(), binds, "the directory heard nothing of it");
    // Somebody who may log in changes nothing here.
    let (mut browser, page) = bed.signed_in("bob", WRONG);
    assert!(!page.body.contains("newPassword"), "{}", page.body);
    let state = state_of(&page);
    let fields = [("state", state.as_str()), ("username", "bob"), fields[2], fields[3], fields[4]];
    let page = send(&mut browser, "same-origin", &fields);
    let record = bed.refused(&page, 400, "NewPasswordRefused");
    assert!(record.to_string().contains("does not want its password changed"), "{record}");
    assert_eq!(bed.basic("bob", PASSWORD).status, 200);
}

#[test]
fn wrong_guesses_in_the_form_for_a_new_password_are_bounded_like_others() {
    let bed = bed("{offerPasswordChange: true}");
    let (mut browser, mut page) = bed.signed_in("ana", PASSWORD);
    let before = bed.slapd.binds_of_people();
    let mut reasons: Vec<Value> = Vec::new();
    for n in 0..8 {
        let guess = format!("{WRONG}-{n}");
        page = change(&mut browser, &state_of(&page), &guess, NEW, NEW);
        reasons.push(bed.gateway.record(page.decision())["reason"].clone());
        if page.status == 429 {
            break;
        }
    }
    assert_eq!(reasons.last().and_then(Value::as_str), Some("TooManyAttempts"), "{reasons:?}");
    assert_eq!(bed.slapd.binds_of_people() - before, reasons.len() - 1, "each guess was one bind, and the last none");
}

#[test]
fn without_the_offer_nothing_is_changed_and_the_page_says_where_else() {
    let bed = bed("{}");
    let (mut browser, page) = bed.signed_in("ana", PASSWORD);
    bed.refused(&page, 401, "PasswordMustChange");
    assert!(!page.body.contains("newPassword") && page.body.contains("where your organisation lets you"));
    let page = change(&mut browser, &state_of(&page), PASSWORD, NEW, NEW);
    bed.refused(&page, 400, "MalformedRequest");
    assert_eq!(bed.slapd.binds_of_people(), 1);
}
