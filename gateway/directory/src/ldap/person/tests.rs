use idm_trust::{Password, Steps};
use idm_types::Redacted;
use ldap3_proto::proto::{LdapPartialAttribute, LdapSearchResultEntry};

use super::*;

fn entry(attributes: &[(&str, &[&[u8]])]) -> Entry {
    let attribute = |(name, values): &(&str, &[&[u8]])| LdapPartialAttribute {
        atype: (*name).to_owned(),
        vals: values.iter().map(|value| value.to_vec()).collect(),
    };
    LdapSearchResultEntry { dn: "cn=a".into(), attributes: attributes.iter().map(attribute).collect() }.into()
}

fn login(username: &str, bare: Option<&str>) -> Login {
    let password = Password::new(Redacted::new("x".to_owned())).unwrap();
    let bare = bare.map(str::to_owned);
    Login { username: username.into(), bare, password, caller: None, steps: Steps::default() }
}

fn person(id_attribute: Option<&str>) -> LdapPerson {
    LdapPerson { id_attribute: id_attribute.map(str::to_owned), username_attribute: None, attributes: Vec::new() }
}

#[test]
fn r21_each_login_attribute_is_asked_for_the_name_with_and_without_its_realm() {
    let attributes = ["uid".to_owned(), "mail".to_owned()];
    assert_eq!(by_name(&attributes[..1], &login("ana", None)).text(), "(uid=ana)");
    let both = by_name(&attributes, &login("ana@corp", Some("ana"))).text();
    assert_eq!(both, "(|(uid=ana@corp)(mail=ana@corp)(uid=ana)(mail=ana))");
}

#[test]
fn r27_what_the_server_takes_for_equal_is_compared_again() {
    let found = entry(&[("UID", &[b"jdoe"]), ("mail", &[b"\xff", b"J.Doe@Corp.test"])]);
    let attributes = ["uid".to_owned(), "mail".to_owned()];
    let has = |name: &str, bare: Option<&str>| has_login(&found, &attributes, &login(name, bare));
    assert!(has("JDoe", None) && has("jdoe@corp", Some("jdoe")) && has("j.doe@corp.test", None));
    for other in ["jdoe ", "jdo\u{e9}", "*", "jdoe\0", ""] {
        assert!(!has(other, None), "{other:?}");
    }
}

#[test]
fn r23_r25_an_id_is_what_the_entry_has_or_what_the_federation_names() {
    let guid = [0xbb, 0x32, 0x3d, 0x3a, 0xd7, 0xb4, 0xdf, 0x45, 0xa1, 0x0f, 0xa0, 0xac, 0xe6, 0x11, 0x53, 0xf9];
    let windows = entry(&[("objectGUID", &[&guid]), ("uid", &[b"a", b"b"]), ("mail", &[b"\xff"])]);
    assert_eq!(id(&person(None), &windows).unwrap(), "3a3d32bb-b4d7-45df-a10f-a0ace61153f9");
    assert_eq!(id(&person(None), &entry(&[("entryUUID", &[b"e-1"]), ("nsUniqueId", &[b"n"])])).unwrap(), "e-1");
    for (attribute, named) in [("uid", "several"), ("mail", "`mail`"), ("employeeNumber", "`employeeNumber`")] {
        let error = id(&person(Some(attribute)), &windows).unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable);
        assert!(error.detail.contains(named), "{}", error.detail);
    }
    assert!(id(&person(None), &entry(&[])).unwrap_err().detail.contains("`entryUUID`"));

    let text = |attribute, id| by_id(&person(attribute), id).map(|filter| filter.text()).unwrap_or_default();
    assert_eq!(text(Some("entryUUID"), "e-1"), "(entryUUID=e-1)");
    assert_eq!(
        text(None, "3a3d32bb-b4d7-45df-a10f-a0ace61153f9"),
        "(|(objectGUID=\\bb2=:״\\dfE\\a1\\0f\\a0\\ac\\e6\\11S\\f9)\
         (entryUUID=3a3d32bb-b4d7-45df-a10f-a0ace61153f9)\
         (nsUniqueId=3a3d32bb-b4d7-45df-a10f-a0ace61153f9)\
         (ipaUniqueID=3a3d32bb-b4d7-45df-a10f-a0ace61153f9))"
    );
    assert_eq!(text(None, "x"), "(|(entryUUID=x)(nsUniqueId=x)(ipaUniqueID=x))");
    assert_eq!(text(Some("objectGUID"), "x"), "");
}

#[test]
fn r20_a_username_is_the_attribute_for_it_or_the_first_login_attribute_whatever_was_typed() {
    let found = entry(&[("uid", &[b"Ana", b"admin"]), ("mail", &[b"admin"]), ("cn", &[b""])]);
    let plan = |attribute: &str| LdapPerson { username_attribute: Some(attribute.into()), ..person(None) };
    let attributes = ["uid".to_owned(), "mail".to_owned()];
    let of = |plan: &LdapPerson, entry: &Entry| username(plan, &attributes, entry);
    assert_eq!(of(&person(None), &found).unwrap(), "Ana");
    assert_eq!(of(&plan("MAIL"), &found).unwrap(), "admin");
    assert!(of(&plan("cn"), &found).is_err() && of(&plan("sn"), &found).is_err());
    assert_eq!(of(&person(None), &entry(&[("mail", &[b"a@x"])])).unwrap(), "a@x");
    let error = of(&person(None), &entry(&[])).unwrap_err();
    assert!(error.detail.contains("`uid`, `mail`"), "{}", error.detail);
}
