use idm_types::Redacted;
use ldap3_proto::proto::{LdapBindResponse, LdapExtendedResponse, LdapPartialAttribute};

use super::*;
use crate::ldap::filter::any_entry;

fn encoded(op: LdapOp, controls: Vec<LdapControl>) -> Vec<u8> {
    let mut octets = BytesMut::new();
    write::encode_into(&mut octets, LdapMsg::new_with_ctrls(7, op, controls).into()).unwrap();
    octets.to_vec()
}

fn result(code: LdapResultCode) -> LdapResult {
    LdapResult { code, matcheddn: String::new(), message: "said\n\0".into(), referral: Vec::new() }
}

fn control(name: &str, value: &[u8]) -> LdapControl {
    LdapControl::Unknown { oid: name.into(), criticality: false, value: Some(value.to_vec()) }
}

#[test]
fn requests_are_read_by_the_codec_of_servers() {
    let read = |request: Request<'_>| {
        let encoded = request.encode(300).unwrap();
        let (rest, tag) = Parser::new(64).parse(encoded.octets()).unwrap();
        assert!(rest.is_empty());
        LdapMsg::try_from(tag).unwrap()
    };
    let LdapMsg { msgid: 300, op: LdapOp::ExtendedRequest(extended), .. } = read(Request::StartTls) else { panic!() };
    assert_eq!((extended.name.as_str(), extended.value), (START_TLS, None));
    let password = Password::new(Redacted::new("pä\0ss".to_owned())).unwrap();
    let bind = read(Request::Bind { name: "cn=a", password: Some(&password), policy: true });
    assert_eq!(bind.ctrl, [LdapControl::PasswordPolicyRequest { criticality: false }]);
    let LdapOp::BindRequest(LdapBindRequest { version: 3, dn, cred: LdapBindCred::Simple(sent) }) = bind.op else {
        panic!()
    };
    assert_eq!((dn.as_str(), sent.as_str()), ("cn=a", "pä\0ss"));
    let search = Search {
        base: "dc=x",
        scope: LdapSearchScope::Subtree,
        filter: any_entry(),
        attributes: vec!["cn".into()],
        size_limit: 2,
        most: 2,
    };
    let sent = read(Request::Search { search: &search, cookie: Some(b"next".to_vec()), seconds: 3 });
    assert_eq!(sent.ctrl, [LdapControl::SimplePagedResults { size: PAGE, cookie: b"next".to_vec() }]);
    let LdapOp::SearchRequest(sent) = sent.op else { panic!() };
    assert_eq!(sent.filter, LdapFilter::Present("objectClass".into()));
    assert_eq!((sent.base.as_str(), sent.sizelimit, sent.timelimit, sent.attrs), ("dc=x", 2, 3, vec!["cn".to_owned()]));
    assert_eq!(read(Request::Abandon(299)).op, LdapOp::AbandonRequest(299));
    assert_eq!(read(Request::Unbind).op, LdapOp::UnbindRequest);
}

#[test]
fn answers_of_servers_are_read() {
    let bind = LdapBindResponse { res: result(LdapResultCode::InvalidCredentials), saslcreds: None };
    let message = decode(&encoded(LdapOp::BindResponse(bind), Vec::new())).unwrap();
    let Answer::Bind(outcome) = message.answer else { panic!() };
    assert_eq!(
        (message.id, outcome.code, outcome.diagnostic.as_str()),
        (7, LdapResultCode::InvalidCredentials, "said")
    );

    let attributes = vec![LdapPartialAttribute { atype: "objectGUID".into(), vals: vec![vec![0xff, 0]] }];
    let entry = LdapSearchResultEntry { dn: "cn=a".into(), attributes };
    let message = decode(&encoded(LdapOp::SearchResultEntry(entry.clone()), Vec::new())).unwrap();
    assert!(matches!(message.answer, Answer::Entry(read) if read == entry));

    let paged = LdapControl::SimplePagedResults { size: 0, cookie: b"c".to_vec() };
    let message = decode(&encoded(LdapOp::SearchResultDone(result(LdapResultCode::Success)), vec![paged])).unwrap();
    assert_eq!(message.cookie.as_deref(), Some(&b"c"[..]));

    let extended = LdapExtendedResponse { res: result(LdapResultCode::Success), name: None, value: None };
    assert!(matches!(
        decode(&encoded(LdapOp::ExtendedResponse(extended), Vec::new())).unwrap().answer,
        Answer::Extended(Outcome { code: LdapResultCode::Success, .. })
    ));
    // An intermediate response, whatever is in it.
    assert!(matches!(decode(b"\x30\x05\x02\x01\x01\x79\x00").unwrap().answer, Answer::Intermediate));
    // A reference (RFC 4511 §4.5.3).
    assert!(matches!(
        decode(b"\x30\x0a\x02\x01\x01\x73\x05\x04\x03ref").unwrap().answer,
        Answer::Reference(uris) if uris == ["ref"]
    ));
}

#[test]
fn r39_the_password_policy_control_is_read_as_the_server_means_it() {
    let read = |value: &[u8]| {
        let bind = LdapBindResponse { res: result(LdapResultCode::Success), saslcreds: None };
        let control = control("1.3.6.1.4.1.42.2.27.8.5.1", value);
        decode(&encoded(LdapOp::BindResponse(bind), vec![control])).map(|message| message.policy)
    };
    let policy = |error, grace_left| Ok(PasswordPolicy { error, grace_left, expired: false });
    assert_eq!(read(b"\x30\x00"), policy(None, None));
    assert_eq!(read(b"\x30\x03\x81\x01\x02"), policy(Some(2), None));
    assert_eq!(read(b"\x30\x05\xa0\x03\x80\x01\x3c"), policy(None, None));
    // Zero logins left is not the same as nothing said about them.
    assert_eq!(read(b"\x30\x05\xa0\x03\x81\x01\x00"), policy(None, Some(0)));
    assert_eq!(read(b"\x30\x09\xa0\x04\x81\x02\x01\x00\x81\x01\x00"), policy(Some(0), Some(256)));
    for broken in [&b""[..], b"\x30\x03\x81\x02\x02", b"\x04\x00", b"\x30\x02\x82\x00", b"\x30\x02\xa0\x00"] {
        assert!(read(broken).is_err(), "{broken:?}");
    }
    let bind = LdapBindResponse { res: result(LdapResultCode::Success), saslcreds: None };
    let netscape = vec![control("2.16.840.1.113730.3.4.4", b"0"), control("1.2.3.4", b"\xff")];
    assert!(decode(&encoded(LdapOp::BindResponse(bind), netscape)).unwrap().policy.expired);
}

#[test]
fn r15_what_no_server_says_is_an_error_of_a_type() {
    let done =
        |result: &[u8]| [&[0x30, result.len() as u8 + 5, 2, 1, 1, 0x65, result.len() as u8][..], result].concat();
    assert!(decode(&done(b"\x0a\x01\x00\x04\x00\x04\x00")).is_ok());
    for (message, why) in [
        (&b"\x30\x05\x02\x01\x01\x7e\x00"[..], "an operation that does not exist"),
        (b"\x30\x05\x02\x01\x01\x44\x00", "an entry that is no sequence"),
        (b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", "a request"),
        (b"\x30\x05\x02\x01\x01\x65\x00", "a result without a code"),
        (&done(b"\x04\x00\x04\x00"), "a result without a code, but with text"),
        (&done(b"\x0a\x01\x63\x04\x00\x04\x00"), "a code that does not exist"),
        (&done(b"\x0a\x01\x00\x04\x01\xff\x04\x00"), "a name that is not UTF-8"),
        (b"\x30\x0a\x02\x01\x01\x64\x05\x04\x01\xff\x30\x00", "an entry whose name is not UTF-8"),
        (b"\x30\x05\x02\x01\xff\x65\x00", "a negative id"),
        (b"\x30\x03\x02\x01\x01", "no operation"),
        (b"\x30\x00", "nothing"),
    ] {
        assert!(decode(message).is_err(), "{why}");
    }
    // An id of five octets is not taken for another one.
    assert!(decode(b"\x30\x10\x02\x05\x01\x00\x00\x00\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00").is_err());
}

#[test]
fn octets_that_were_sent_are_wiped() {
    let password = Password::new(Redacted::new("canary-password".to_owned())).unwrap();
    let mut encoded = Request::Bind { name: "cn=a", password: Some(&password), policy: false }.encode(1).unwrap();
    assert!(encoded.octets().windows(15).any(|octets| octets == b"canary-password"));
    // Dropping it does the same.
    encoded.0.as_mut().zeroize();
    assert!(!encoded.octets().iter().any(|octet| *octet != 0));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

    #[test]
    fn r15_no_octets_panic(
        changes in proptest::collection::vec((0_usize..400, proptest::prelude::any::<u8>()), 0..4),
        cut in 0_usize..400,
        noise: Vec<u8>,
    ) {
        let attributes = vec![
            LdapPartialAttribute { atype: "objectGUID".into(), vals: vec![vec![7; 16]] },
            LdapPartialAttribute { atype: "memberOf;range=0-1".into(), vals: vec![b"cn=a,dc=x".to_vec()] },
        ];
        let entry = LdapSearchResultEntry { dn: "cn=a,dc=x".into(), attributes };
        let bind = LdapBindResponse { res: result(LdapResultCode::InvalidCredentials), saslcreds: None };
        let policy = control("1.3.6.1.4.1.42.2.27.8.5.1", b"\x30\x09\xa0\x04\x81\x02\x01\x00\x81\x01\x00");
        let paged = LdapControl::SimplePagedResults { size: 0, cookie: b"c".to_vec() };
        let mut octets = [
            encoded(LdapOp::SearchResultEntry(entry), Vec::new()),
            encoded(LdapOp::BindResponse(bind), vec![policy]),
            encoded(LdapOp::SearchResultDone(result(LdapResultCode::Success)), vec![paged]),
        ].concat();
        crate::fuzz_ldap(&octets);
        for (position, value) in changes {
            let length = octets.len();
            octets[position % length] = value;
        }
        crate::fuzz_ldap(&octets);
        octets.truncate(cut);
        octets.extend(&noise);
        crate::fuzz_ldap(&octets);
        crate::fuzz_ldap(&noise);
    }
}
