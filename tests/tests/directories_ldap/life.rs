//! People of whom something changes in the directory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use idm_tests::slapd::{PASSWORD, PEOPLE, SUFFIX, uid};
use idm_tests::{Browser, Reply, eventually};
use serde_json::Value;

use crate::bed::{Bed, Way};

fn claims(tokens: &Value) -> Value {
    let payload = tokens["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
}

/// The refusal with which a session ends.
fn end_of_session(browser: &mut Browser) -> Reply {
    eventually("the session ends", || {
        let reply = browser.fetch("/orders");
        (reply.status != 200).then_some(reply).ok_or_else(|| "not yet".into())
    })
}

#[test]
fn r23_a_person_who_is_renamed_and_moved_stays_the_same_one() {
    let bed = Bed::new(Way::Loopback, "{recheckSeconds: 1}");
    assert_eq!(bed.basic("ana", PASSWORD).status, 200);
    let before = bed.permitted(0)["identity"]["id"].clone();
    let tokens = bed.tokens("ana", PASSWORD);
    let sub = claims(&tokens)["sub"].clone();
    assert_eq!(before, sub);
    let (mut browser, answer) = bed.signed_in("ana", PASSWORD);
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(browser.fetch("/orders").status, 200);
    bed.slapd.change(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: uid=ana.stone\ndeleteoldrdn: 1\nnewsuperior: ou=people,{SUFFIX}\n\n",
        uid("ana")
    ));
    bed.slapd.change(&format!("dn: ou=moved,{PEOPLE}\nobjectClass: organizationalUnit\n\n"));
    bed.slapd.change(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: uid=ana.stone\ndeleteoldrdn: 1\nnewsuperior: ou=moved,{PEOPLE}\n\n",
        uid("ana.stone")
    ));
    bed.upstream.forget();
    bed.refused(&bed.basic("ana", PASSWORD), 401, "WrongPassword");
    let from = bed.gateway.records().len();
    assert_eq!(bed.basic("ana.stone", PASSWORD).status, 200);
    assert_eq!(bed.permitted(from)["identity"]["id"], before);
    let heard = bed.heard();
    assert!(heard.contains("x-authenticated-userid: ana.stone\r\n") && heard.contains("order-reader"), "{heard}");
    // Tokens and the session follow, with the new name and the groups that have followed, too.
    let renewed = json(&bed.refresh(&tokens));
    let said = claims(&renewed);
    assert_eq!((&said["sub"], &said["preferred_username"]), (&sub, &"ana.stone".into()), "{said}");
    eventually("the session has the new name", || {
        assert_eq!(browser.fetch("/orders").status, 200);
        let heard = bed.heard();
        heard.contains("x-authenticated-userid: ana.stone\r\n").then_some(()).ok_or(heard)
    });
}

#[test]
fn r42_a_person_who_is_locked_by_a_policy_loses_session_and_refresh_token() {
    let bed = Bed::new(Way::Loopback, "{recheckSeconds: 1}");
    let (mut browser, _) = bed.signed_in("ana", PASSWORD);
    assert_eq!(browser.fetch("/orders").status, 200);
    let tokens = bed.tokens("ana", PASSWORD);
    let lock = "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    bed.slapd.change(&format!("dn: {}\n{lock}\n\n", uid("ana")));
    let over = end_of_session(&mut browser);
    bed.upstream.forget();
    bed.refused(&over, 401, "SessionEnded");
    assert!(bed.gateway.log().contains("AccountLocked"), "the log has the cause");
    let refused = bed.refresh(&tokens);
    assert_eq!(json(&refused)["error"], "invalid_grant");
    let record = bed.refused(&refused, 400, "InvalidGrant");
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("AccountLocked")), "{record}");
    bed.refused(&bed.basic("ana", PASSWORD), 401, "AccountLocked");
    // It is this person's end alone.
    assert_eq!(bed.basic("bob", PASSWORD).status, 200);
}

#[test]
fn r42_a_person_who_is_removed_loses_session_and_refresh_token() {
    let bed = Bed::new(Way::Loopback, "{recheckSeconds: 1}");
    let (mut browser, _) = bed.signed_in("ana", PASSWORD);
    assert_eq!(browser.fetch("/orders").status, 200);
    let tokens = bed.tokens("ana", PASSWORD);
    bed.slapd.change(&format!("dn: {}\nchangetype: delete\n\n", uid("ana")));
    // Another person with the same name is another one.
    bed.slapd.change(&idm_tests::slapd::person("ana", "Another Ana"));
    let over = end_of_session(&mut browser);
    bed.upstream.forget();
    bed.refused(&over, 401, "SessionEnded");
    let refused = bed.refresh(&tokens);
    bed.refused(&refused, 400, "InvalidGrant");
    assert_ne!(claims(&bed.tokens("ana", PASSWORD))["sub"], claims(&tokens)["sub"]);
}

#[test]
fn r40_a_changed_password_and_a_lost_group_count_from_the_next_request() {
    let bed = Bed::new(Way::Loopback, "{}");
    assert_eq!(bed.basic("ana", PASSWORD).status, 200);
    assert!(bed.heard().contains("order-reader"));
    bed.slapd.change(&format!("dn: cn=Orders,ou=groups,{SUFFIX}\nchangetype: delete\n\n"));
    assert_eq!(bed.basic("ana", PASSWORD).status, 200);
    let heard = bed.heard();
    assert!(!heard.contains("order-reader") && heard.contains("order-writer"), "{heard}");
    bed.slapd.change(&format!(
        "dn: {}\nchangetype: modify\nreplace: userPassword\nuserPassword: canary-new\n\n",
        uid("ana")
    ));
    bed.refused(&bed.basic("ana", PASSWORD), 401, "WrongPassword");
    // The policy of this server wants a password that an administrator set to be changed.
    let again = bed.basic("ana", "canary-new");
    assert!(again.status == 200 || bed.gateway.record(again.decision())["reason"] == "PasswordMustChange", "{again:?}");
}
