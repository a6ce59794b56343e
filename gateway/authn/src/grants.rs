use std::collections::HashMap;
use std::sync::Arc;

use idm_plan::{Grant, Subject};

/// RoleBindings in the form in which they are looked up.
#[derive(Debug, Default)]
pub struct Grants {
    users: HashMap<String, Vec<(Option<String>, String)>>,
    groups: HashMap<String, Vec<(Option<String>, String)>>,
    credentials: HashMap<String, Vec<String>>,
}

impl Grants {
    /// Arms the plan's grants, those of each namespace for its own policies.
    pub fn by_namespace(grants: &[Grant]) -> HashMap<String, Arc<Self>> {
        let mut grouped: HashMap<&str, Vec<&Grant>> = HashMap::new();
        for grant in grants {
            grouped.entry(&grant.key.namespace).or_default().push(grant);
        }
        let armed = grouped.into_iter().map(|(namespace, grants)| (namespace.to_owned(), Arc::new(Self::new(&grants))));
        armed.collect()
    }

    fn new(grants: &[&Grant]) -> Self {
        let mut out = Self::default();
        for Grant { key: _, role, subjects } in grants {
            for subject in subjects {
                let role = role.to_string();
                match subject {
                    Subject::User { name, issuer } => {
                        out.users.entry(name.clone()).or_default().push((issuer.clone(), role))
                    }
                    Subject::Group { name, issuer } => {
                        out.groups.entry(name.clone()).or_default().push((issuer.clone(), role))
                    }
                    Subject::Credential { name } => out.credentials.entry(name.clone()).or_default().push(role),
                }
            }
        }
        out
    }

    /// Roles of a person whom `issuer` authenticated. Never used for API keys: a Credential that has the name of a user
    /// is not that user.
    pub(crate) fn of_user<'g>(
        &'g self,
        issuer: &'g str,
        username: &str,
        groups: &'g [String],
    ) -> impl Iterator<Item = &'g String> {
        let users = self.users.get(username).into_iter().flatten();
        let groups = groups.iter().filter_map(|group| self.groups.get(group)).flatten();
        users
            .chain(groups)
            .filter(move |(wanted, _)| wanted.as_deref().is_none_or(|wanted| wanted == issuer))
            .map(|(_, role)| role)
    }

    pub(crate) fn of_credential(&self, name: &str) -> impl Iterator<Item = &String> {
        self.credentials.get(name).into_iter().flatten()
    }
}
