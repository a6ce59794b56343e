//! The root DSE of a server (RFC 4512 §5.1).

use idm_plan::DistinguishedName;
use ldap3_proto::proto::LdapSearchScope;

use super::entry::Entry;
use super::filter::any_entry;
use super::message::{PAGED_RESULTS, Search};

/// A capability that every domain controller names (MS-ADTS §3.1.1.3.4.3.1), and the one of AD LDS.
const ACTIVE_DIRECTORY: [&[u8]; 2] = [b"1.2.840.113556.1.4.800", b"1.2.840.113556.1.4.1851"];

/// The features of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Root {
    /// It gives results in pages.
    pub(super) pages: bool,
    /// It is an Active Directory.
    pub(super) active_directory: bool,
    /// The entries at the top of its trees.
    contexts: Vec<String>,
}

impl Root {
    /// The question.
    pub(super) fn search() -> Search<'static> {
        Search {
            base: "",
            scope: LdapSearchScope::Base,
            filter: any_entry(),
            attributes: ["supportedControl", "supportedCapabilities", "namingContexts"].map(str::to_owned).to_vec(),
            size_limit: 0,
            most: 1,
        }
    }

    /// The answer; nothing is known of a server that hides its root.
    pub(super) fn read(entry: Option<&Entry>) -> Self {
        let Some(entry) = entry else { return Self::default() };
        let names = |attribute: &str| entry.values(attribute).iter();
        Self {
            pages: names("supportedControl").any(|control| control == PAGED_RESULTS.as_bytes()),
            active_directory: names("supportedCapabilities").any(|it| ACTIVE_DIRECTORY.contains(&it.as_slice())),
            contexts: names("namingContexts").filter_map(|name| String::from_utf8(name.clone()).ok()).collect(),
        }
    }

    /// The top of the tree that an entry is in.
    pub(super) fn context_of(&self, entry: &DistinguishedName) -> Option<String> {
        let holds = |context: &&String| DistinguishedName::parse(context).is_some_and(|name| entry.is_within(&name));
        self.contexts.iter().filter(holds).max_by_key(|context| context.len()).cloned()
    }

    /// The attribute by which an entry is found by its name.
    pub(super) fn name_attribute(&self) -> &'static str {
        if self.active_directory { "distinguishedName" } else { "entryDN" }
    }
}

#[cfg(test)]
mod tests {
    use ldap3_proto::proto::{LdapPartialAttribute, LdapSearchResultEntry};

    use super::*;

    #[test]
    fn the_root_says_what_a_server_can_do_and_where_its_trees_are() {
        let attribute = |name: &str, values: &[&str]| LdapPartialAttribute {
            atype: name.into(),
            vals: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
        };
        let entry = Entry::from(LdapSearchResultEntry {
            dn: String::new(),
            attributes: vec![
                attribute("supportedControl", &["1.2.3", PAGED_RESULTS]),
                attribute("supportedCapabilities", &["1.2.840.113556.1.4.800"]),
                attribute(
                    "namingContexts",
                    &["DC=corp,DC=test", "CN=Configuration,DC=corp,DC=test", "DC=x", "no name"],
                ),
            ],
        });
        let root = Root::read(Some(&entry));
        assert!(root.pages && root.active_directory && root.name_attribute() == "distinguishedName");
        let context = |name: &str| root.context_of(&DistinguishedName::parse(name).unwrap());
        assert_eq!(context("cn=a,dc=CORP,dc=test").as_deref(), Some("DC=corp,DC=test"));
        assert_eq!(
            context("cn=a,cn=configuration,dc=corp,dc=test").as_deref(),
            Some("CN=Configuration,DC=corp,DC=test")
        );
        assert_eq!(context("cn=a,dc=y"), None);
        let hidden = Root::read(None);
        assert!(!hidden.pages && hidden.name_attribute() == "entryDN");
    }
}
