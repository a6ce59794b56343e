//! The groups of a person: whole, or an error.

use std::collections::{BTreeMap, HashSet};

use idm_plan::{DistinguishedName, GroupStrategy, LdapFilter, LdapGroups};
use idm_trust::{DirectoryError, DirectoryErrorKind, Group};
use ldap3_proto::proto::LdapSearchScope;

use super::entry::{Entry, text};
use super::filter::Filter;
use super::message::Search;
use super::person::{group_id_attributes, group_ids};
use super::reader::{Reader, too_many_groups};

/// The groups that a person may be in.
const MAX_GROUPS: usize = 5_000;
/// The names or identifiers that one query asks for.
const BATCH: usize = 100;
/// The dropped groups that a log of steps names.
const SHOWN: usize = 5;
/// Active Directory's rule that follows membership (MS-ADTS §3.1.1.3.4.4.3).
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// Reads the groups of a person.
pub(super) async fn read(
    reader: &mut Reader<'_>,
    plan: &LdapGroups,
    person: &mut Entry,
) -> Result<Vec<Group>, DirectoryError> {
    let LdapGroups { strategy, base, name_attribute } = plan;
    let below = match base {
        Some(base) => base.text().to_owned(),
        None => reader.root().await?.context_of(&person.name()?).ok_or_else(|| {
            reader.unusable("the server does not say which tree the person is in; set the base of groups")
        })?,
    };
    let (groups, seen, dropped) = (Vec::new(), HashSet::new(), BTreeMap::new());
    let mut kept = Kept { base: base.as_ref(), name_attribute, below, groups, seen, dropped };
    match strategy {
        GroupStrategy::TokenGroups => token_groups(reader, &mut kept, person).await?,
        GroupStrategy::MemberOf { nested } => member_of(reader, &mut kept, person, *nested).await?,
        GroupStrategy::InChain => in_chain(reader, &mut kept, person).await?,
        GroupStrategy::Search { filter, member_attribute, user_attribute, nested } => {
            let members = match user_attribute {
                None => vec![person.dn.clone().into_bytes()],
                Some(attribute) => person.values(attribute).to_vec(),
            };
            if members.is_empty() {
                let attribute = user_attribute.as_deref().unwrap_or("dn");
                return Err(reader.unusable(&format!(
                    "the person's entry has no `{attribute}`, by which groups name their members"
                )));
            }
            named_by_groups(reader, &mut kept, filter.as_ref(), member_attribute, members, *nested).await?;
        }
    }
    reader.steps.note(|| {
        let dropped: String = kept.dropped.iter().map(|(why, dropped)| dropped.told(why)).collect();
        format!("groups: {} found{dropped}", kept.groups.len())
    });
    Ok(kept.groups)
}

/// The groups until now, each once.
struct Kept<'a> {
    base: Option<&'a DistinguishedName>,
    name_attribute: &'a str,
    /// The entry below which is searched.
    below: String,
    groups: Vec<Group>,
    seen: HashSet<DistinguishedName>,
    dropped: BTreeMap<&'static str, Dropped>,
}

/// Groups that do not count, for one reason.
#[derive(Default)]
struct Dropped {
    count: usize,
    /// The first of them that have names.
    names: Vec<String>,
}

impl Dropped {
    fn told(&self, why: &str) -> String {
        let Self { count, names } = self;
        let more = if *count > names.len() && !names.is_empty() { " and others" } else { "" };
        let names = names.iter().map(|name| format!(" `{name}`")).collect::<Vec<_>>().join(",");
        format!("; dropped {count}, {why}{}{names}{more}", if names.is_empty() { "" } else { ":" })
    }
}

impl Kept<'_> {
    fn drop(&mut self, why: &'static str, count: usize) {
        if count > 0 {
            self.dropped.entry(why).or_default().count += count;
        }
    }

    fn drop_one(&mut self, why: &'static str, name: &str) {
        let dropped = self.dropped.entry(why).or_default();
        dropped.count += 1;
        if dropped.names.len() < SHOWN {
            dropped.names.push(name.to_owned());
        }
    }

    /// Whether the name is one of a group that counts and was not seen before.
    fn is_new(&mut self, name: DistinguishedName) -> Result<bool, DirectoryError> {
        if self.seen.contains(&name) {
            return Ok(false);
        }
        let counts = self.base.is_none_or(|base| name.is_within(base));
        if !counts {
            self.drop_one("outside the base of groups", name.text());
        }
        self.seen.insert(name);
        if self.seen.len() > MAX_GROUPS { Err(too_many_groups()) } else { Ok(counts) }
    }

    /// Takes a group whose name [`Kept::is_new`].
    fn push(&mut self, entry: &Entry) -> Result<(), DirectoryError> {
        let attribute = self.name_attribute;
        let Some(name) = entry.text(attribute)? else {
            let detail = format!("the group `{}` has no `{attribute}`, which is wanted as its name", entry.dn);
            return Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail));
        };
        self.groups.push(Group { name: name.to_owned(), ids: group_ids(entry)?, dn: Some(entry.name()?) });
        Ok(())
    }

    /// Takes those entries that are new; their names.
    fn take(&mut self, entries: &[Entry]) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let mut new = Vec::new();
        for entry in entries {
            if self.is_new(entry.name()?)? {
                self.push(entry)?;
                new.push(entry.dn.clone().into_bytes());
            }
        }
        Ok(new)
    }

    /// A search for groups.
    fn search(&self, filter: Filter) -> Search<'_> {
        let mut attributes = group_id_attributes();
        attributes.push(self.name_attribute.to_owned());
        let (base, scope, most) = (self.below.as_str(), LdapSearchScope::Subtree, MAX_GROUPS);
        Search { base, scope, filter, attributes, size_limit: 0, most }
    }
}

/// A filter for entries of which an attribute has one of the values.
fn any_of(attribute: &str, values: &[Vec<u8>]) -> Filter {
    Filter::one_of(values.iter().map(|value| Filter::Equal(attribute.to_owned(), value.clone())).collect())
}

/// Active Directory's own expansion: security identifiers of nested and primary groups, resolved in batches.
async fn token_groups(reader: &mut Reader<'_>, kept: &mut Kept<'_>, person: &Entry) -> Result<(), DirectoryError> {
    let read = reader.read(&person.dn, vec!["tokenGroups".into()]).await?;
    let sids = read.map(|read| read.values("tokenGroups").to_vec()).unwrap_or_default();
    if sids.is_empty() {
        let detail = "the person's entry has no `tokenGroups`; use this strategy with Active Directory alone";
        return Err(reader.unusable(detail));
    }
    for batch in sids.chunks(BATCH) {
        let found = reader.all(&kept.search(any_of("objectSid", batch))).await?;
        let missing = batch.len().saturating_sub(found.len());
        kept.drop("not below the base of groups, or not to be seen", missing);
        kept.take(&found)?;
    }
    Ok(())
}

/// The person's primary group, which Active Directory names in no `member` and no `memberOf`: its identifier is the
/// person's with another last part.
async fn primary_group(
    reader: &mut Reader<'_>,
    kept: &mut Kept<'_>,
    person: &Entry,
) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let number = person.number("primaryGroupID").and_then(|number| u32::try_from(number).ok());
    let (Some(number), Some(sid)) = (number, person.values("objectSid").first()) else { return Ok(Vec::new()) };
    let domain = sid.get(..sid.len().saturating_sub(4)).unwrap_or_default();
    let sid = [domain, &number.to_le_bytes()].concat();
    let found = reader.all(&kept.search(any_of("objectSid", &[sid]))).await?;
    if found.is_empty() {
        kept.drop("the primary group is not below the base of groups, or not to be seen", 1);
    }
    kept.take(&found)
}

/// The groups that `memberOf` of the person names, and those that it names of these.
async fn member_of(
    reader: &mut Reader<'_>,
    kept: &mut Kept<'_>,
    person: &mut Entry,
    nested: bool,
) -> Result<(), DirectoryError> {
    reader.complete(person, "memberOf").await?;
    let mut named = person.values("memberOf").to_vec();
    if nested {
        // The groups of the primary group are the person's as well.
        for primary in primary_group(reader, kept, person).await? {
            let primary = text("memberOf", &primary)?.to_owned();
            if let Some(mut entry) = reader.read(&primary, vec!["memberOf".into()]).await? {
                reader.complete(&mut entry, "memberOf").await?;
                named.extend_from_slice(entry.values("memberOf"));
            }
        }
    } else {
        primary_group(reader, kept, person).await?;
    }
    while !named.is_empty() {
        let mut level = Vec::new();
        for name in named.drain(..) {
            let read = DistinguishedName::parse(text("memberOf", &name)?);
            let read = read.ok_or_else(|| reader.unusable("a value of `memberOf` is no distinguished name"))?;
            if kept.is_new(read)? {
                level.push(name);
            }
        }
        for batch in level.chunks(BATCH) {
            for mut entry in by_names(reader, kept, batch, nested).await? {
                kept.push(&entry)?;
                if nested {
                    reader.complete(&mut entry, "memberOf").await?;
                    named.extend_from_slice(entry.values("memberOf"));
                }
            }
        }
    }
    Ok(())
}

/// The entries with these names. Those that one query does not bring are read one by one: some servers cannot be asked
/// for names.
async fn by_names(
    reader: &mut Reader<'_>,
    kept: &mut Kept<'_>,
    names: &[Vec<u8>],
    nested: bool,
) -> Result<Vec<Entry>, DirectoryError> {
    let attribute = reader.root().await?.name_attribute();
    let mut search = kept.search(any_of(attribute, names));
    if nested {
        search.attributes.push("memberOf".into());
    }
    let attributes = search.attributes.clone();
    let mut found = reader.all(&search).await?;
    let mut missing: HashSet<DistinguishedName> = HashSet::new();
    for name in names {
        missing.extend(DistinguishedName::parse(text("memberOf", name)?));
    }
    // A server that finds what it was not asked for is not believed.
    found.retain(|entry| DistinguishedName::parse(&entry.dn).is_some_and(|name| missing.remove(&name)));
    for name in names {
        let name = text("memberOf", name)?;
        if DistinguishedName::parse(name).is_some_and(|name| missing.contains(&name)) {
            match reader.read(name, attributes.clone()).await? {
                Some(entry) => found.push(entry),
                None => kept.drop_one("not on this server, or not to be seen", name),
            }
        }
    }
    Ok(found)
}

/// Active Directory follows membership itself; the primary group, which it does not see, is followed as well.
async fn in_chain(reader: &mut Reader<'_>, kept: &mut Kept<'_>, person: &Entry) -> Result<(), DirectoryError> {
    let mut members = primary_group(reader, kept, person).await?;
    members.push(person.dn.clone().into_bytes());
    let rule = |member: Vec<u8>| Filter::Rule(IN_CHAIN, "member".into(), member);
    let filter = Filter::one_of(members.into_iter().map(rule).collect());
    let found = reader.all(&kept.search(filter)).await?;
    kept.take(&found)?;
    Ok(())
}

/// Groups that name the person, and groups that name these.
async fn named_by_groups(
    reader: &mut Reader<'_>,
    kept: &mut Kept<'_>,
    condition: Option<&LdapFilter>,
    member_attribute: &str,
    mut members: Vec<Vec<u8>>,
    nested: bool,
) -> Result<(), DirectoryError> {
    while !members.is_empty() {
        let mut new = Vec::new();
        for batch in members.chunks(BATCH) {
            let search = kept.search(any_of(member_attribute, batch).under(condition));
            let found = reader.all(&search).await?;
            new.extend(kept.take(&found)?);
        }
        members = if nested { new } else { Vec::new() };
    }
    Ok(())
}
