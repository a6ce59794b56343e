//! Groups of OpenLDAP.

use idm_plan::{DistinguishedName, GroupStrategy, LdapFilter, LdapLookup};
use idm_trust::{DirectoryErrorKind, LoginAnswer};

use crate::slapd::{Configures, GROUPS, PASSWORD, SUFFIX, Slapd, group, uid};
use crate::world::{Certificates, names, verified};

pub(crate) fn by_search(member_attribute: &str, user_attribute: Option<&str>, nested: bool) -> GroupStrategy {
    let user_attribute = user_attribute.map(str::to_owned);
    GroupStrategy::Search { filter: None, member_attribute: member_attribute.into(), user_attribute, nested }
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_person_who_is_renamed_and_moved_is_the_same() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let mut settings =
        slapd.settings().filter("(objectClass=inetOrgPerson)").groups(by_search("member", None, false), None);
    if let LdapLookup::Search { base, .. } = &mut settings.plan.lookup {
        *base = SUFFIX.into();
    }
    let directory = settings.open();
    slapd.change(&group(&format!("cn=staff,{GROUPS}"), &[uid("ana")]));
    let before = directory.person("ana", PASSWORD).await;
    assert_eq!(names(&before), ["staff"]);
    slapd.change(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: uid=maria\ndeleteoldrdn: 1\nnewsuperior: ou=other,{SUFFIX}\n\n",
        uid("ana")
    ));
    slapd.change(&format!("dn: cn=staff,{GROUPS}\nchangetype: modrdn\nnewrdn: cn=crew\ndeleteoldrdn: 1\n\n"));
    slapd.change(&format!(
        "dn: cn=crew,{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=maria,ou=other,{SUFFIX}\n\n"
    ));
    let after = directory.person("maria", PASSWORD).await;
    assert_eq!((&after.id, after.username.as_str(), names(&after)), (&before.id, "maria", vec!["crew"]));
    assert_eq!(after.groups[0].ids, before.groups[0].ids);
    let looked_up = verified(directory.look_up(&before.id, "ana").await);
    assert_eq!((looked_up.username.as_str(), &looked_up.groups), ("maria", &after.groups));
    assert_eq!(directory.look_up("00000000-0000-0000-0000-000000000000", "ana").await, Ok(LoginAnswer::Unknown));
    slapd.change(&format!("dn: uid=maria,ou=other,{SUFFIX}\nchangetype: delete\n\n"));
    assert_eq!(directory.look_up(&before.id, "maria").await, Ok(LoginAnswer::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_more_entries_than_the_server_gives_are_an_error_and_pages_bring_all_of_them() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let many: String = (0..1_200).map(|n| group(&format!("cn=g{n},{GROUPS}"), &[uid("ana")])).collect();
    slapd.change(&many);
    let directory = slapd.settings().groups(by_search("member", None, false), Some(GROUPS)).open();
    let (answer, steps) = directory.steps_of("ana", None, PASSWORD).await;
    assert_eq!(verified(answer).groups.len(), 1_200, "{steps:?}");
    assert!(steps.iter().filter(|step| step.contains("500 entries")).count() == 2, "{steps:?}");
    // A base of people that holds more than the server gives to a search without pages.
    let limited = slapd.settings().open();
    slapd.change(&format!("dn: {}\nchangetype: modify\nreplace: mail\nmail: bob@corp.test\n\n", uid("bob")));
    assert!(limited.login("bob", PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_nested_groups_are_found_500_deep_in_a_cycle_and_in_a_diamond_each_once() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, "overlay memberof\nmemberof-refint true");
    let dn = |name: &str| format!("cn={name},{GROUPS}");
    let mut ldif = group(&dn("n0"), &[uid("ana")]);
    for n in 1..500 {
        ldif += &group(&dn(&format!("n{n}")), &[dn(&format!("n{}", n - 1))]);
    }
    // A cycle of three, and a diamond above it.
    ldif += &group(&dn("c0"), &[uid("bob")]);
    ldif += &group(&dn("c1"), &[dn("c0")]);
    ldif += &group(&dn("c2"), &[dn("c1")]);
    ldif += &group(&dn("left"), &[dn("c2")]);
    ldif += &group(&dn("right"), &[dn("c2")]);
    ldif += &group(&dn("top"), &[dn("left"), dn("right")]);
    ldif += &format!("dn: {}\nchangetype: modify\nadd: member\nmember: {}\n\n", dn("c0"), dn("c2"));
    slapd.change(&ldif);
    for strategy in [by_search("member", None, true), GroupStrategy::MemberOf { nested: true }] {
        let settings = slapd.settings().within(20_000).groups(strategy, Some(GROUPS));
        let directory = settings.open();
        let ana = directory.person("ana", PASSWORD).await;
        assert_eq!(ana.groups.len(), 500);
        assert!(ana.groups.iter().any(|group| group.name == "n499"));
        let (bob, steps) = directory.steps_of("bob", None, PASSWORD).await;
        let bob = verified(bob);
        assert_eq!(names(&bob), ["c0", "c1", "c2", "left", "right", "top"], "{steps:?}");
        assert!(bob.groups.iter().all(|group| group.ids.len() == 1 && group.dn.is_some()));
    }
    for strategy in [by_search("member", None, false), GroupStrategy::MemberOf { nested: false }] {
        let directory = slapd.settings().groups(strategy, Some(GROUPS)).open();
        assert_eq!(names(&directory.person("bob", PASSWORD).await), ["c0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r32_a_group_of_20000_members_is_found_without_reading_them() {
    let certificates = Certificates::new();
    let slapd = Slapd::start(&certificates);
    let mut members: Vec<String> = (0..20_000).map(|n| uid(&format!("p{n}"))).collect();
    members.insert(10_000, uid("ana"));
    slapd.change(&group(&format!("cn=everybody,{GROUPS}"), &members));
    let directory = slapd.settings().groups(by_search("member", None, true), Some(GROUPS)).open();
    assert_eq!(names(&directory.person("ana", PASSWORD).await), ["everybody"]);
    assert_eq!(names(&directory.person("bob", PASSWORD).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_r34_members_are_named_by_dn_and_by_user_name_and_groups_of_one_name_are_two() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, "overlay memberof");
    slapd.change(&format!(
        "{}{}dn: cn=unique,{GROUPS}\nobjectClass: groupOfUniqueNames\nuniqueMember: {ana}\n\n\
         dn: cn=posix,{GROUPS}\nobjectClass: posixGroup\ngidNumber: 1\nmemberUid: ana\n\n",
        group(&format!("cn=admins,{GROUPS}"), &[uid("ana")]),
        group(&format!("cn=admins,ou=other,{SUFFIX}"), &[uid("bob")]),
        ana = uid("ana"),
    ));
    let groups = async |strategy, base, who: &str| {
        let person = slapd.settings().groups(strategy, base).open().person(who, PASSWORD).await;
        person.groups.into_iter().map(|group| (group.name, group.dn.unwrap())).collect::<Vec<_>>()
    };
    let named = |name: &str, below: &str| {
        vec![(name.to_owned(), DistinguishedName::parse(&format!("CN={name}, {below}")).unwrap())]
    };
    let unique = by_search("uniqueMember", None, false);
    assert_eq!(groups(unique, Some(GROUPS), "ana").await, named("unique", GROUPS));
    let posix = by_search("memberUid", Some("uid"), false);
    assert_eq!(groups(posix, Some(GROUPS), "ana").await, named("posix", GROUPS));
    let filtered = GroupStrategy::Search {
        filter: LdapFilter::parse("(!(cn=admins))").ok(),
        member_attribute: "member".into(),
        user_attribute: None,
        nested: false,
    };
    assert_eq!(groups(filtered, None, "ana").await, []);
    // The two groups with one short name are told apart, and the base says which of them counts.
    for strategy in [by_search("member", None, false), GroupStrategy::MemberOf { nested: false }] {
        assert_eq!(groups(strategy.clone(), None, "ana").await, named("admins", GROUPS));
        assert_eq!(groups(strategy.clone(), None, "bob").await, named("admins", &format!("ou=other,{SUFFIX}")));
        assert_eq!(groups(strategy, Some(GROUPS), "bob").await, []);
    }
    let error = slapd.settings().groups(by_search("memberUid", Some("employeeNumber"), false), None).open();
    let error = error.login("ana", PASSWORD).await.unwrap_err();
    assert!(error.kind == DirectoryErrorKind::Unusable && error.detail.contains("`employeeNumber`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r35_what_memberof_names_outside_the_base_is_dropped_and_counted() {
    let certificates = Certificates::new();
    let slapd = Slapd::start_with(&certificates, "overlay memberof");
    slapd.change(&group(&format!("cn=staff,{GROUPS}"), &[uid("ana")]));
    slapd.change(&group(&format!("cn=sudo rule,ou=other,{SUFFIX}"), &[uid("ana")]));
    let directory = slapd.settings().groups(GroupStrategy::MemberOf { nested: true }, Some(GROUPS)).open();
    let (answer, steps) = directory.steps_of("ana", None, PASSWORD).await;
    assert_eq!(names(&verified(answer)), ["staff"]);
    assert!(steps.last().unwrap().contains("1 found; dropped 1, outside the base of groups: `"), "{steps:?}");
}
