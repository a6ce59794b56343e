use std::time::Duration;

use ldap3_proto::proto::{LdapPartialAttribute, LdapSearchResultEntry};

use super::*;

/// 2026-01-01T00:00:00Z.
const NOW: u64 = 1_767_225_600;

fn entry(attributes: &[(&str, &str)]) -> Entry {
    let attribute = |(name, value): &(&str, &str)| LdapPartialAttribute {
        atype: (*name).to_owned(),
        vals: vec![value.as_bytes().to_vec()],
    };
    LdapSearchResultEntry { dn: "cn=a".into(), attributes: attributes.iter().map(attribute).collect() }.into()
}

#[test]
fn r38_the_state_of_an_account_is_read_from_its_attributes() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let filetime = |seconds: u64| ((seconds + FROM_1601) * 10_000_000).to_string();
    let (past, future) = (filetime(NOW - 1), filetime(NOW + 1));
    let computed = "msDS-User-Account-Control-Computed";
    // Attributes, the state when somebody is looked up, and the state after a bind that succeeded.
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<AccountState>, Option<AccountState>);
    let rows: &[Row<'_>] = &[
        (&[], None, None),
        (&[("userAccountControl", "512"), ("accountExpires", "9223372036854775807"), ("lockoutTime", "0")], None, None),
        (&[("userAccountControl", "514")], Some(Disabled), Some(Disabled)),
        // Disabled, and the password must be changed: the first of them counts.
        (&[("userAccountControl", "514"), ("pwdLastSet", "0")], Some(Disabled), Some(Disabled)),
        (&[("userAccountControl", "514"), (computed, "16")], Some(Disabled), Some(Disabled)),
        (&[("userAccountControl", "512"), (computed, "16")], Some(Locked), None),
        (&[("userAccountControl", "512"), (computed, "8388608")], Some(PasswordExpired), None),
        (&[("userAccountControl", "512"), (computed, "8388608"), ("pwdLastSet", "0")], Some(MustChangePassword), None),
        (&[("userAccountControl", "66048"), (computed, "0"), ("pwdLastSet", "0")], None, None),
        // Once locked, and free again, as the computed attribute knows.
        (&[(computed, "0"), ("lockoutTime", "133000000000000000")], None, None),
        (&[("lockoutTime", "133000000000000000")], Some(Locked), None),
        (&[("accountExpires", "0")], None, None),
        (&[("accountExpires", &past)], Some(Expired), Some(Expired)),
        (&[("accountExpires", &future)], None, None),
        (&[("accountExpires", &past), ("pwdLastSet", "0")], Some(Expired), Some(Expired)),
        (&[("nsAccountLock", "TRUE")], Some(Disabled), Some(Disabled)),
        (&[("nsAccountLock", "false")], None, None),
        (&[("pwdAccountLockedTime", "000001010000Z")], Some(Locked), Some(Locked)),
        (&[("pwdAccountLockedTime", "20251231235900Z")], Some(Locked), None),
        (&[("pwdReset", "TRUE")], Some(MustChangePassword), Some(MustChangePassword)),
        (&[("pwdReset", "FALSE")], None, None),
    ];
    for (attributes, looked_up, bound) in rows {
        let entry = entry(attributes);
        assert_eq!(state(&entry, now, Moment::LookedUp), *looked_up, "looked up: {attributes:?}");
        assert_eq!(state(&entry, now, Moment::Bound), *bound, "bound: {attributes:?}");
    }
}

fn outcome(code: Code, diagnostic: &str) -> Outcome {
    Outcome { code, diagnostic: diagnostic.into(), referral: Vec::new() }
}

#[test]
fn r37_each_code_of_active_directory_gives_its_reason() {
    for (data, refused) in [
        ("525", LoginRefused::WrongPassword),
        ("52e", LoginRefused::WrongPassword),
        ("530", LoginRefused::Account(Restricted)),
        ("531", LoginRefused::Account(Restricted)),
        ("532", LoginRefused::Account(PasswordExpired)),
        ("533", LoginRefused::Account(Disabled)),
        ("701", LoginRefused::Account(Expired)),
        ("773", LoginRefused::Account(MustChangePassword)),
        ("775", LoginRefused::Account(Locked)),
        ("57", LoginRefused::WrongPassword),
    ] {
        // As Windows writes it.
        let said =
            format!("80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {data}, v4563");
        let judged = of_bind("dc1:636", &outcome(Code::InvalidCredentials, &said), PasswordPolicy::default());
        assert_eq!(judged, Ok(Some(refused)), "{data}");
    }
    for odd in ["", "data", ", data ", ", data zz", ", data 99999999999"] {
        let judged = of_bind("dc1:636", &outcome(Code::InvalidCredentials, odd), PasswordPolicy::default());
        assert_eq!(judged, Ok(Some(LoginRefused::WrongPassword)), "{odd}");
    }
}

#[test]
fn r39_a_control_never_turns_a_refusal_into_success() {
    let policies = [
        (PasswordPolicy::default(), None),
        (PasswordPolicy { error: Some(1), ..Default::default() }, Some(Locked)),
        (PasswordPolicy { error: Some(2), ..Default::default() }, Some(MustChangePassword)),
        (PasswordPolicy { error: Some(0), ..Default::default() }, Some(PasswordExpired)),
        (PasswordPolicy { grace_left: Some(0), ..Default::default() }, Some(PasswordExpired)),
        (PasswordPolicy { expired: true, ..Default::default() }, Some(PasswordExpired)),
        (PasswordPolicy { error: Some(5), ..Default::default() }, None),
    ];
    for (policy, state) in policies {
        let judge = |code| of_bind("x", &outcome(code, ""), policy);
        assert_eq!(judge(Code::Success), Ok(state.map(LoginRefused::Account)), "{policy:?}");
        let refused = state.map_or(LoginRefused::WrongPassword, LoginRefused::Account);
        assert_eq!(judge(Code::InvalidCredentials), Ok(Some(refused)), "{policy:?}");
        for code in [Code::UnwillingToPerform, Code::ConstraintViolation, Code::Busy, Code::Other, Code::Referral] {
            assert_ne!(judge(code.clone()), Ok(None), "{code:?} {policy:?}");
        }
    }
}

#[test]
fn other_codes_of_a_bind_refuse_or_are_errors_and_nothing_but_success_succeeds() {
    let judge = |code, said: &str| of_bind("x", &outcome(code, said), PasswordPolicy::default());
    assert_eq!(judge(Code::NoSuchObject, ""), Ok(Some(LoginRefused::WrongPassword)));
    assert_eq!(judge(Code::InappropriateAuthentication, ""), Ok(Some(LoginRefused::WrongPassword)));
    assert_eq!(
        judge(Code::ConstraintViolation, "Exceed password retry limit"),
        Ok(Some(LoginRefused::Account(Locked)))
    );
    let inactive = "Account inactivated. Contact system administrator.";
    assert_eq!(judge(Code::UnwillingToPerform, inactive), Ok(Some(LoginRefused::Account(Disabled))));
    assert_eq!(judge(Code::UnwillingToPerform, ""), Ok(Some(LoginRefused::Account(Restricted))));
    for (code, kind) in [
        (Code::Busy, DirectoryErrorKind::Unavailable),
        (Code::Other, DirectoryErrorKind::Unusable),
        (Code::Referral, DirectoryErrorKind::Unusable),
        (Code::SaslBindInProgress, DirectoryErrorKind::Unusable),
        (Code::StrongerAuthRequired, DirectoryErrorKind::RefusesUs),
    ] {
        assert_eq!(judge(code.clone(), "").unwrap_err().kind, kind, "{code:?}");
    }
}

#[test]
fn r05_r10_a_bind_of_the_gateway_that_is_refused_says_what_to_do() {
    let own = |code, said: &str| own_bind("dc1:389", "cn=svc", &outcome(code, said)).unwrap_err();
    let tls = own(Code::StrongerAuthRequired, "BindSimple: Transport encryption required.");
    assert_eq!(tls.kind, DirectoryErrorKind::RefusesUs);
    assert!(tls.detail.contains("`ldaps://`") && tls.detail.contains("`startTls`"), "{}", tls.detail);
    for (data, why) in [("532", "password has expired"), ("775", "is locked"), ("52e", "name or password is wrong")] {
        let error = own(Code::InvalidCredentials, &format!("80090308: AcceptSecurityContext error, data {data}, v1"));
        assert_eq!(error.kind, DirectoryErrorKind::RefusesUs);
        assert!(error.detail.contains(why) && error.detail.contains(data), "{}", error.detail);
    }
    assert_eq!(own(Code::Busy, "").kind, DirectoryErrorKind::Unavailable);
    assert_eq!(own(Code::Other, "").kind, DirectoryErrorKind::Unusable);
    assert_eq!(own_bind("x", "y", &outcome(Code::Success, "")), Ok(()));
}
