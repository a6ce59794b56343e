//! A first look at an LDAP server.

use std::sync::Arc;
use std::time::Instant;

use idm_plan::{DirectoryServer, Secrets};
use idm_trust::{DirectoryError, DirectoryErrorKind, ShownCertificates, Steps};
use ldap3_proto::proto::{LdapResultCode, LdapSearchScope};

use super::connection::Connection;
use super::entry::Entry;
use super::filter::Filter;
use super::message::{PASSWORD_MODIFY, Search};
use super::person::IDS;
use super::reader::Reader;
use super::referrals::Referrals;
use super::root::Root;
use super::servers::{OwnBind, Servers};
use crate::Reach;
use crate::probe::{LdapFacts, LdapGroupFacts, LdapQuestion};

/// Attributes of the root DSE that tell what a server is.
const OF_ROOT: [&str; 7] = [
    "supportedControl",
    "supportedCapabilities",
    "namingContexts",
    "defaultNamingContext",
    "supportedExtension",
    "vendorName",
    "structuralObjectClass",
];
/// The people that a search without a name brings, at most.
const SOME: i32 = 5;

/// Begins TLS to see the certificate, and says nothing else.
pub(crate) async fn read_certificate(
    server: &DirectoryServer,
    shown: &ShownCertificates,
    reach: &Reach,
    deadline: Instant,
) {
    if let Ok(config) = shown.config() {
        // It always ends as an error: the certificate is all that is wanted.
        let _ = Connection::open(0, server, &Arc::new(config), reach, deadline).await;
    }
}

/// Connects, binds, reads the root DSE and searches.
pub(crate) async fn probe(
    question: &LdapQuestion,
    reach: Reach,
    steps: &Steps,
    deadline: Instant,
) -> Result<LdapFacts, DirectoryError> {
    let LdapQuestion { server, bind, base, username } = question;
    let unusable = |why: String| DirectoryError::new(DirectoryErrorKind::Unusable, why);
    let tls = Arc::new(idm_trust::client_config(server.tls.as_ref(), &Secrets::default()).map_err(unusable)?);
    let own = match bind {
        Some((name, password)) => OwnBind::Simple { name: name.clone(), password: password.clone() },
        None => OwnBind::Anonymous,
    };
    let own = Some(Arc::new(own));
    let referrals = Referrals::new(&[], tls.clone(), reach.clone(), own.clone());
    let servers = Servers::new(std::slice::from_ref(&server.at), tls, reach, own).map_err(unusable)?;
    let mut reader = Reader::of_gateway(&servers, &referrals, steps, deadline);
    let mut facts = root(&mut reader).await?;
    facts.base = match (base, facts.contexts.first()) {
        (Some(base), _) => base.clone(),
        (None, Some(context)) => context.clone(),
        (None, None) => {
            return Err(reader.unusable("the server does not say which trees it has; give the base of people"));
        }
    };
    let person = people(&mut reader, &mut facts, username.as_deref()).await?;
    if let Some(person) = person {
        facts.id_attribute = IDS.into_iter().find(|id| !person.values(id).is_empty()).map(str::to_owned);
        facts.groups = groups(&mut reader, &facts, &person).await?;
    }
    reader.finish().await;
    Ok(facts)
}

/// Reads the root DSE.
async fn root(reader: &mut Reader<'_>) -> Result<LdapFacts, DirectoryError> {
    let search = Search { attributes: OF_ROOT.map(str::to_owned).to_vec(), ..Root::search() };
    let mut answered = reader.search(&search, false).await?;
    if answered.code != LdapResultCode::Success {
        return Err(reader.refused(&search, &answered));
    }
    let Some(entry) = answered.entries.pop() else { return Ok(LdapFacts::default()) };
    let texts = |attribute: &str| -> Vec<String> {
        entry.values(attribute).iter().filter_map(|value| String::from_utf8(value.clone()).ok()).collect()
    };
    let Root { pages, active_directory, .. } = Root::read(Some(&entry));
    let mut contexts = texts("defaultNamingContext");
    contexts.extend(texts("namingContexts"));
    contexts.dedup();
    let is_openldap = texts("structuralObjectClass").iter().any(|class| class.starts_with("OpenLDAP"));
    let product = match texts("vendorName").into_iter().next() {
        _ if active_directory => "Active Directory".to_owned(),
        Some(vendor) => vendor.chars().take(60).collect(),
        None if is_openldap => "OpenLDAP".to_owned(),
        None => "a server that does not say what it is".to_owned(),
    };
    let changes_passwords = texts("supportedExtension").iter().any(|name| name == PASSWORD_MODIFY);
    Ok(LdapFacts { active_directory, product, contexts, pages, changes_passwords, ..LdapFacts::default() })
}

/// Searches for people. Returns the entry of the one who was looked for.
async fn people(
    reader: &mut Reader<'_>,
    facts: &mut LdapFacts,
    username: Option<&str>,
) -> Result<Option<Entry>, DirectoryError> {
    let usual: &[&str] =
        if facts.active_directory { &["sAMAccountName", "userPrincipalName", "mail"] } else { &["uid", "mail", "cn"] };
    let equal = |attribute: &str, value: &str| Filter::Equal(attribute.to_owned(), value.as_bytes().to_vec());
    let filter = match username {
        Some(name) => Filter::one_of(usual.iter().map(|attribute| equal(attribute, name)).collect()),
        None => Filter::one_of(["user", "inetOrgPerson", "posixAccount"].map(|of| equal("objectClass", of)).to_vec()),
    };
    let mut attributes: Vec<String> = usual.iter().map(|attribute| (*attribute).to_owned()).collect();
    attributes.extend(IDS.map(str::to_owned));
    attributes.extend(["memberOf", "uid"].map(str::to_owned));
    attributes.dedup();
    let base = facts.base.clone();
    let (scope, most) = (LdapSearchScope::Subtree, 100);
    let search = Search { base: &base, scope, filter, attributes, size_limit: SOME, most };
    let mut answered = reader.search(&search, false).await?;
    match answered.code {
        LdapResultCode::Success | LdapResultCode::SizeLimitExceeded => {}
        _ => return Err(reader.refused(&search, &answered)),
    }
    facts.people = answered.entries.len();
    let (Some(name), [_]) = (username, answered.entries.as_slice()) else { return Ok(None) };
    let Some(entry) = answered.entries.pop() else { return Ok(None) };
    let has =
        |attribute: &&&str| entry.values(attribute).iter().any(|value| value.eq_ignore_ascii_case(name.as_bytes()));
    facts.login_attributes = usual.iter().filter(has).map(|attribute| (*attribute).to_owned()).collect();
    Ok(Some(entry))
}

/// Finds out how the groups of a person are found.
async fn groups(
    reader: &mut Reader<'_>,
    facts: &LdapFacts,
    person: &Entry,
) -> Result<Option<LdapGroupFacts>, DirectoryError> {
    if facts.active_directory {
        return Ok(Some(LdapGroupFacts::TokenGroups));
    }
    if !person.values("memberOf").is_empty() {
        return Ok(Some(LdapGroupFacts::MemberOf));
    }
    let uid = person.values("uid").first().cloned().unwrap_or_default();
    let ways = [("member", person.dn.clone().into_bytes()), ("uniqueMember", person.dn.clone().into_bytes())];
    let ways = ways.into_iter().chain(Some(("memberUid", uid)).filter(|(_, uid)| !uid.is_empty()));
    let filter = Filter::one_of(ways.clone().map(|(name, value)| Filter::Equal(name.to_owned(), value)).collect());
    let attributes = ["objectClass", "member", "uniqueMember", "memberUid"].map(str::to_owned).to_vec();
    // Groups are beside people, so the whole tree is searched.
    let tree = facts.contexts.first().unwrap_or(&facts.base).clone();
    let (scope, most) = (LdapSearchScope::Subtree, 100);
    let search = Search { base: &tree, scope, filter, attributes, size_limit: SOME, most };
    let answered = reader.search(&search, false).await?;
    let Some(group) = answered.entries.first() else { return Ok(None) };
    let named = ways.into_iter().find(|(name, value)| group.values(name).contains(value)).map(|(name, _)| name);
    let Some(member_attribute) = named else { return Ok(None) };
    let class = ["groupOfNames", "groupOfUniqueNames", "posixGroup"]
        .into_iter()
        .find(|class| group.values("objectClass").iter().any(|value| value.eq_ignore_ascii_case(class.as_bytes())));
    let base = parent(&group.dn).unwrap_or(&facts.base).to_owned();
    Ok(Some(LdapGroupFacts::Search {
        base,
        class: class.unwrap_or("top").to_owned(),
        member_attribute: member_attribute.to_owned(),
        user_attribute: (member_attribute == "memberUid").then(|| "uid".to_owned()),
    }))
}

/// The name of the entry above.
fn parent(dn: &str) -> Option<&str> {
    let mut escaped = false;
    let comma = dn.char_indices().find(|(_, character)| {
        let found = !escaped && *character == ',';
        escaped = !escaped && *character == '\\';
        found
    });
    comma.and_then(|(at, _)| dn.get(at + 1..)).map(str::trim).filter(|dn| !dn.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_above_is_behind_the_first_comma_that_is_not_escaped() {
        assert_eq!(parent("cn=a,ou=b,dc=c"), Some("ou=b,dc=c"));
        assert_eq!(parent(r"cn=a\, inc, ou=b"), Some("ou=b"));
        assert_eq!(parent("dc=c"), None);
    }
}
