use idm_plan::{
    Directory as Plan, DistinguishedName, FederationKind, GroupStrategy, LdapBind, LdapGroups, LdapLookup, LdapPerson,
    NamedGroup,
};
use idm_trust::{Answer, Directories, NoAnswer, NoDirectories, OutboundRequest, Work};
use idm_types::Skew;

use super::*;

pub(crate) struct NoHttp;

impl HttpClient for NoHttp {
    fn ask(&self, _: OutboundRequest) -> Answer {
        Box::pin(std::future::ready(Err(NoAnswer::Failed("nothing is asked here".into()))))
    }

    fn check(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn reached_by(&self, _: &idm_plan::OutgoingTls, _: &Secrets) -> Result<Arc<dyn HttpClient>, String> {
        Ok(Arc::new(Self))
    }

    fn carry_on(&self, _: Work) {}
}

/// An LDAP directory with this base of groups, whose role mappings name these groups.
fn directory(base: Option<&str>, named: &[&str]) -> ArmedDirectory {
    let dn = |text: &str| DistinguishedName::parse(text).filter(|_| text.contains('='));
    let groups = LdapGroups {
        strategy: GroupStrategy::MemberOf { nested: false },
        base: base.and_then(dn),
        name_attribute: "cn".into(),
    };
    let lookup = LdapLookup::Search {
        bind: LdapBind::Anonymous,
        base: "dc=test".into(),
        filter: None,
        login_attributes: vec!["uid".into()],
    };
    let person = LdapPerson { id_attribute: None, username_attribute: None, attributes: vec![] };
    let ldap =
        LdapDirectory { servers: vec![], tls: None, referrals: Vec::new(), lookup, person, groups: Some(groups) };
    let groups = named.iter().map(|text| NamedGroup { text: (*text).into(), dn: dn(text) }).collect();
    opened(DirectorySource::Ldap(Box::new(ldap)), groups, Arc::new(NoDirectories))
}

/// The directory `corp` of this source, whose role mappings name these groups.
pub(crate) fn opened(
    source: DirectorySource,
    groups: Vec<NamedGroup>,
    directories: Arc<dyn Directories>,
) -> ArmedDirectory {
    let plan = Plan {
        source,
        realms: vec![],
        cache_seconds: 0,
        recheck_ms: None,
        keeps_sessions: false,
        changes_passwords: false,
        deadline_ms: 1000,
        concurrency: 1,
        groups,
    };
    let federation = Federation {
        key: ObjectKey::new("shop", "corp"),
        uid: "u".into(),
        title: "corp".into(),
        kind: FederationKind::Directory(Box::new(plan.clone())),
        role_mappings: vec![],
        provisions: None,
        ended: vec![],
        suspended: false,
        skew: Skew::from_seconds(0),
    };
    let outside = Outside { http: Arc::new(NoHttp), directories };
    ArmedDirectory::open(&federation, &plan, &outside, &Secrets::default()).unwrap()
}

const ADMINS: &str = "S-1-5-21-1-2-3-512";

fn group(name: &str, id: &str, dn: &str) -> Group {
    Group { name: name.into(), ids: vec![id.into()], dn: DistinguishedName::parse(dn) }
}

fn person(groups: Vec<Group>) -> Person {
    Person { id: "p-1".into(), username: "ana".into(), claims: Map::new(), groups }
}

#[test]
fn r34_a_group_with_the_id_of_another_one_for_its_name_is_not_taken_for_it() {
    let uuid = "5c29a5a4-7f3f-4b5e-9d52-f9b5f4e4c0de";
    let directory = directory(None, &[ADMINS, uuid]);
    let planted = vec![
        group(ADMINS, "S-1-5-21-1-2-3-7777", "cn=S-1-5-21-1-2-3-512,ou=mallory,dc=test"),
        group(uuid, "11111111-7f3f-4b5e-9d52-f9b5f4e4c0de", "cn=x,ou=mallory,dc=test"),
    ];
    assert_eq!(directory.claims(&person(planted))["mappedGroups"], Value::Array(vec![]));
    let own = vec![group("Domain Admins", &ADMINS.to_lowercase(), "cn=Domain Admins,cn=users,dc=test")];
    assert_eq!(directory.claims(&person(own))["mappedGroups"], Value::from(vec![ADMINS]));
}

#[test]
fn r34_short_names_of_groups_count_below_a_base_alone() {
    let groups = vec![
        group("admins", "S-1-5-1", "cn=admins,ou=groups,dc=test"),
        group("admins", "S-1-5-2", "cn=admins,ou=mallory,dc=test"),
    ];
    let known = directory(Some("ou=groups,dc=test"), &[]).claims(&person(groups.clone()));
    assert_eq!(known["groups"], Value::from(vec!["admins", "admins"]));
    let everywhere = directory(None, &[]).claims(&person(groups));
    assert_eq!(everywhere["groups"], Value::from(vec!["cn=admins,ou=groups,dc=test", "cn=admins,ou=mallory,dc=test"]));
}

#[test]
fn names_that_no_rule_can_hold_are_left_out_and_found_by_id_all_the_same() {
    let directory = directory(Some("dc=test"), &[ADMINS]);
    let conflicting = "staff\nCNF:5c29a5a4-7f3f-4b5e-9d52-f9b5f4e4c0de";
    let claims = directory.claims(&person(vec![group(conflicting, ADMINS, "cn=staff,dc=test")]));
    assert_eq!((&claims["groups"], &claims["mappedGroups"]), (&Value::Array(vec![]), &Value::from(vec![ADMINS])));
}

#[tokio::test]
async fn a_person_whose_id_or_name_would_be_changed_elsewhere_is_an_error() {
    let answered = |id: &str, username: &str| {
        let person = Person { id: id.into(), username: username.into(), ..person(vec![]) };
        usable(Box::pin(std::future::ready(Ok(LoginAnswer::Verified(Box::new(person))))))
    };
    assert!(answered("p-1", "Ana Müller").await.is_ok());
    let long = "x".repeat(513);
    for (id, username) in [
        ("", "ana"),
        ("p\n", "ana"),
        (" p", "ana"),
        (&long[..161], "ana"),
        ("p", ""),
        ("p", "a\0"),
        ("p", &long),
        ("p", "a "),
    ] {
        let error = answered(id, username).await.unwrap_err();
        assert_eq!(error.kind, DirectoryErrorKind::Unusable, "{id:?} {username:?}");
    }
    let unknown = usable(Box::pin(std::future::ready(Ok(LoginAnswer::Unknown))));
    assert_eq!(unknown.await, Ok(LoginAnswer::Unknown));
}
