//! People: how their entries are found, and what is read of them.

use idm_plan::{GroupStrategy, LdapAttribute, LdapDirectory, LdapFilter, LdapLookup, LdapPerson, LdapSyntax};
use idm_trust::{DirectoryError, DirectoryErrorKind, Login};
use ldap3_proto::proto::{LdapResultCode, LdapSearchScope};
use serde_json::{Map, Value};

use super::account;
use super::entry::{Entry, guid_octets, read};
use super::filter::Filter;
use super::message::Search;
use super::reader::Reader;
use crate::fold::fold;

/// Attributes that never change, in the order in which they are looked for.
pub(super) const IDS: [&str; 4] = ["objectGUID", "entryUUID", "nsUniqueId", "ipaUniqueID"];

/// The entries that match a name.
pub(super) enum Match {
    Nobody,
    Several,
    One(Entry),
}

/// The attributes of a person that are asked for, each once.
pub(super) fn attributes(plan: &LdapDirectory) -> Vec<String> {
    let LdapDirectory { servers: _, tls: _, referrals: _, lookup, person, groups } = plan;
    let LdapPerson { id_attribute, username_attribute, attributes } = person;
    let mut wanted: Vec<&str> = match lookup {
        LdapLookup::Search { login_attributes, .. } => login_attributes.iter().map(String::as_str).collect(),
        LdapLookup::Template { login_attribute, .. } => vec![login_attribute],
    };
    match id_attribute {
        Some(id) => wanted.push(id),
        None => wanted.extend(IDS),
    }
    wanted.extend(username_attribute.as_deref());
    wanted.extend(attributes.iter().map(|attribute| attribute.attribute.as_str()));
    wanted.extend(account::ATTRIBUTES);
    match groups.as_ref().map(|groups| &groups.strategy) {
        None | Some(GroupStrategy::TokenGroups) => {}
        Some(GroupStrategy::MemberOf { .. }) => wanted.extend(["memberOf", "objectSid", "primaryGroupID"]),
        Some(GroupStrategy::InChain) => wanted.extend(["objectSid", "primaryGroupID"]),
        Some(GroupStrategy::Search { user_attribute, .. }) => wanted.extend(user_attribute.as_deref()),
    }
    let mut each: Vec<String> = Vec::with_capacity(wanted.len());
    for name in wanted {
        if !each.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            each.push(name.to_owned());
        }
    }
    each
}

/// The condition that one of the attributes is the name that was typed, whole or without its realm.
pub(super) fn by_name(login_attributes: &[String], login: &Login) -> Filter {
    let names = [Some(login.username.as_str()), login.bare.as_deref()];
    let equal = |name: &str| -> Vec<Filter> {
        let equal = |attribute: &String| Filter::Equal(attribute.clone(), name.as_bytes().to_vec());
        login_attributes.iter().map(equal).collect()
    };
    Filter::one_of(names.into_iter().flatten().flat_map(equal).collect())
}

/// The condition that an entry has the id. Where the attribute is not known, each of the usual ones is asked for.
/// `None`: no entry can have it.
pub(super) fn by_id(plan: &LdapPerson, id: &str) -> Option<Filter> {
    let attributes: Vec<&str> = match &plan.id_attribute {
        Some(attribute) => vec![attribute],
        None => IDS.to_vec(),
    };
    let equal = |attribute: &&str| {
        let octets = match id_syntax(attribute) {
            LdapSyntax::Guid => guid_octets(id)?,
            _ => id.as_bytes().to_vec(),
        };
        Some(Filter::Equal((*attribute).to_owned(), octets))
    };
    let equal: Vec<Filter> = attributes.iter().filter_map(equal).collect();
    (!equal.is_empty()).then(|| Filter::one_of(equal))
}

/// Searches for one person below the base of people.
pub(super) async fn find(
    reader: &mut Reader<'_>,
    base: &str,
    condition: Option<&LdapFilter>,
    wanted: Filter,
    attributes: Vec<String>,
) -> Result<Match, DirectoryError> {
    let (scope, filter) = (LdapSearchScope::Subtree, wanted.under(condition));
    let search = Search { base, scope, filter, attributes, size_limit: 2, most: 2 };
    let mut answered = reader.search(&search, false).await?;
    let full = answered.too_many || answered.code == LdapResultCode::SizeLimitExceeded;
    match (answered.entries.len(), &answered.code) {
        (2.., _) if full => Ok(Match::Several),
        (2.., LdapResultCode::Success) => Ok(Match::Several),
        (_, LdapResultCode::Success) => Ok(answered.entries.pop().map_or(Match::Nobody, Match::One)),
        _ => Err(reader.refused(&search, &answered)),
    }
}

/// Whether a login attribute has the name that was typed. The server's own comparison is looser: it may ignore spaces
/// and accents, and what it finds then is somebody else.
pub(super) fn has_login(entry: &Entry, login_attributes: &[String], login: &Login) -> bool {
    let names: Vec<String> =
        [Some(login.username.as_str()), login.bare.as_deref()].into_iter().flatten().map(fold).collect();
    let values = login_attributes.iter().flat_map(|attribute| entry.values(attribute));
    values.filter_map(|value| std::str::from_utf8(value).ok()).any(|text| names.contains(&fold(text)))
}

/// The user name: the attribute for it, or else the first login attribute that the entry has. It never depends on what
/// was typed: a person has one user name, and cannot take another one by an attribute that people may change, such as
/// their mail address.
pub(super) fn username(
    plan: &LdapPerson,
    login_attributes: &[String],
    entry: &Entry,
) -> Result<String, DirectoryError> {
    let attributes = plan.username_attribute.as_ref().map_or(login_attributes, std::slice::from_ref);
    for attribute in attributes {
        if let Some(name) = entry.text(attribute)?.filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
    }
    Err(missing(&attributes.join("`, `"), "a user name"))
}

/// The id.
pub(super) fn id(plan: &LdapPerson, entry: &Entry) -> Result<String, DirectoryError> {
    let found = match &plan.id_attribute {
        Some(attribute) => Some(attribute.as_str()),
        None => IDS.into_iter().find(|attribute| !entry.values(attribute).is_empty()),
    };
    let Some(attribute) = found else { return Err(missing(&IDS.join("`, `"), "an id")) };
    match entry.values(attribute) {
        [value] if !value.is_empty() => read(attribute, id_syntax(attribute), value),
        [_, _, ..] => {
            let detail = format!("the attribute `{attribute}` has several values, so it is no id; name another one");
            Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail))
        }
        _ => Err(missing(attribute, "an id")),
    }
}

/// How the octets of an id are read.
fn id_syntax(attribute: &str) -> LdapSyntax {
    match attribute.to_ascii_lowercase().as_str() {
        "objectguid" | "ms-ds-consistencyguid" => LdapSyntax::Guid,
        "objectsid" => LdapSyntax::Sid,
        _ => LdapSyntax::Text,
    }
}

fn missing(attribute: &str, what: &str) -> DirectoryError {
    let detail = format!(
        "the person's entry has no `{attribute}`, which is wanted as {what}; name another attribute, or give the \
         gateway's account the right to read it"
    );
    DirectoryError::new(DirectoryErrorKind::Unusable, detail)
}

/// The ids of a group that it keeps when it is renamed, and its security identifier.
pub(super) fn group_ids(entry: &Entry) -> Result<Vec<String>, DirectoryError> {
    let mut ids = Vec::new();
    for attribute in IDS.into_iter().chain(["objectSid"]) {
        if let Some(value) = entry.values(attribute).first() {
            ids.push(read(attribute, id_syntax(attribute), value)?);
        }
    }
    Ok(ids)
}

/// The attributes that [`group_ids`] reads.
pub(super) fn group_id_attributes() -> Vec<String> {
    IDS.into_iter().chain(["objectSid"]).map(str::to_owned).collect()
}

/// The claims, with the distinguished name among them.
pub(super) async fn claims(
    reader: &mut Reader<'_>,
    attributes: &[LdapAttribute],
    entry: &mut Entry,
) -> Result<Map<String, Value>, DirectoryError> {
    let mut claims = Map::new();
    claims.insert("dn".into(), Value::String(entry.dn.clone()));
    for LdapAttribute { claim, attribute, syntax, all } in attributes {
        reader.complete(entry, attribute).await?;
        let values = entry.values(attribute);
        let value = |octets: &Vec<u8>| read(attribute, *syntax, octets).map(Value::String);
        if *all && !values.is_empty() {
            claims.insert(claim.clone(), Value::Array(values.iter().map(value).collect::<Result<_, _>>()?));
        } else if let Some(first) = values.first() {
            claims.insert(claim.clone(), value(first)?);
        }
    }
    Ok(claims)
}

#[cfg(test)]
mod tests;
