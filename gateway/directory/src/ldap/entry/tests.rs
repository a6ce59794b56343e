use ldap3_proto::proto::LdapPartialAttribute;
use proptest::prelude::*;

use super::*;

fn entry(attributes: &[(&str, &[&[u8]])]) -> Entry {
    let attribute = |(name, values): &(&str, &[&[u8]])| LdapPartialAttribute {
        atype: (*name).to_owned(),
        vals: values.iter().map(|value| value.to_vec()).collect(),
    };
    LdapSearchResultEntry { dn: "cn=a".into(), attributes: attributes.iter().map(attribute).collect() }.into()
}

#[test]
fn r25_guids_are_read_in_microsofts_byte_order() {
    // MS-DTYP §2.3.4: the first three parts are numbers, which are stored little-endian.
    let octets = [0xbb, 0x32, 0x3d, 0x3a, 0xd7, 0xb4, 0xdf, 0x45, 0xa1, 0x0f, 0xa0, 0xac, 0xe6, 0x11, 0x53, 0xf9];
    assert_eq!(guid(&octets).as_deref(), Some("3a3d32bb-b4d7-45df-a10f-a0ace61153f9"));
    assert_eq!(guid_octets("3A3D32BB-b4d7-45df-a10f-a0ace61153f9").as_deref(), Some(&octets[..]));
    // Octets that happen to be text come out the same way.
    assert_eq!(guid(b"abcdefghijklmnop").as_deref(), Some("64636261-6665-6867-696a-6b6c6d6e6f70"));
    for wrong in [&octets[..15], b"", b"abcdefghijklmnopq"] {
        assert_eq!(guid(wrong), None);
    }
    for wrong in [
        "",
        "3a3d32bb-b4d7-45df-a10f-a0ace61153f",
        "3a3d32bbb4d745dfa10fa0ace61153f9",
        "+a3d32bb-b4d7-45df-a10f-a0ace61153f9",
    ] {
        assert_eq!(guid_octets(wrong), None, "{wrong}");
    }
}

#[test]
fn r25_security_identifiers_are_read() {
    let domain_users = [
        1, 5, 0, 0, 0, 0, 0, 5, 0x15, 0, 0, 0, 0x62, 0xdf, 0x06, 0x3e, 0x8f, 0xa7, 0xe4, 0x08, 0xd6, 0x8c, 0x89, 0x2f,
        1, 2, 0, 0,
    ];
    assert_eq!(sid(&domain_users).as_deref(), Some("S-1-5-21-1040637794-149202831-797543638-513"));
    assert_eq!(sid(&[1, 0, 0, 0, 0, 0, 0, 1]).as_deref(), Some("S-1-1"));
    assert_eq!(sid(&[1, 1, 1, 0, 0, 0, 0, 0, 7, 0, 0, 0]).as_deref(), Some("S-1-0x010000000000-7"));
    for wrong in [&domain_users[..27], &[2, 0, 0, 0, 0, 0, 0, 1], b"S-1-5-32", b""] {
        assert_eq!(sid(wrong), None);
    }
}

#[test]
fn r25_a_value_of_another_syntax_is_an_error_that_names_the_attribute_alone() {
    for syntax in [LdapSyntax::Text, LdapSyntax::Guid, LdapSyntax::Sid] {
        let error = read("jpegPhoto", syntax, b"\xff\xd8canary").unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable);
        assert!(error.detail.contains("`jpegPhoto`") && !error.detail.contains("canary"), "{}", error.detail);
    }
    assert_eq!(read("jpegPhoto", LdapSyntax::Base64, b"\xff\xd8").unwrap(), "/9g=");
    assert_eq!(read("cn", LdapSyntax::Text, "Müller".as_bytes()).unwrap(), "Müller");
}

#[test]
fn r32_ranges_are_told_from_attributes() {
    let mut found =
        entry(&[("memberOf", &[]), ("MemberOf;Range=0-1499", &[b"cn=x"]), ("member;range=0-1", &[b"cn=y"])]);
    assert_eq!(
        found.take_range("memberof"),
        Some(Range { start: 0, next: Some(1500), values: vec![b"cn=x".to_vec()] })
    );
    assert_eq!(found.take_range("memberOf"), None);
    assert_eq!(
        entry(&[("memberOf;range=1500-*", &[])]).take_range("memberOf"),
        Some(Range { start: 1500, next: None, values: vec![] })
    );
    for name in ["memberOf;range=1", "memberOf;range=0-x", "memberOf;lang-de", "memberOfX;range=0-*", "member"] {
        assert_eq!(entry(&[(name, &[])]).take_range("memberOf"), None, "{name}");
    }
}

#[test]
fn attributes_are_found_by_name_without_regard_to_case() {
    let mut found = entry(&[
        ("UID", &[b"ana", b"a"]),
        ("uidNumber", &[b" 12 "]),
        ("pwdReset", &[b"TRUE"]),
        ("cn;lang-de", &[b"x"]),
    ]);
    assert_eq!(found.text("uid").unwrap(), Some("ana"));
    assert_eq!((found.number("UIDNUMBER"), found.number("uid")), (Some(12), None));
    assert!(found.is_true("pwdreset") && !found.is_true("uid"));
    assert!(found.values("cn").is_empty() && found.text("cn").unwrap().is_none());
    found.set("uid", vec![b"b".to_vec()]);
    assert_eq!(found.values("uid"), [b"b"]);
}

proptest! {
    #[test]
    fn a_guid_is_the_same_after_both_ways(octets: [u8; 16]) {
        prop_assert_eq!(guid_octets(&guid(&octets).unwrap()), Some(octets.to_vec()));
    }

    #[test]
    fn reading_never_panics(octets: Vec<u8>, name: String) {
        let _ = (guid(&octets), sid(&octets), guid_octets(&name), range(&name, "memberOf"));
    }
}
