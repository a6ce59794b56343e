//! The directories of Federations: names with realms, and the identities of their people.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use idm_jose::Claims;
use idm_plan::{DirectorySource, Federation, LdapDirectory, NamedGroup, ObjectKey, Realm, Secrets, is_group_id};
use idm_request::{Identity, OfDirectory};
use idm_trust::{
    Asked, Directory, DirectoryError, DirectoryErrorKind, Group, HashAnswer, HttpClient, Login, LoginAnswer,
    LoginRefused, NameAsked, Outside, Password, Person, Steps, secret_text,
};
use idm_types::{Reason, Redacted, Refusal, Timestamp};
use serde_json::{Map, Value};

use crate::federated::mapped_roles;
use crate::method::MethodContext;
use crate::methods::jwt::{self, Vouched};
use crate::oidc::{PasswordGrant, Provider};
use crate::{NewPerson, Resources};

/// The longest id of a person, in bytes: with the Federation before it, it is the subject of tokens.
const MAX_ID: usize = 160;
/// The longest user name, in bytes.
const MAX_NAME: usize = 512;

/// A directory that is armed.
pub struct ArmedDirectory {
    federation: Federation,
    issuer: String,
    live: Arc<dyn Directory>,
    http: Arc<dyn HttpClient>,
}

/// The part of a user name that a directory is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedName {
    /// The name that may be equal to a login attribute.
    pub(crate) username: String,
    /// The same without its suffix.
    pub(crate) bare: Option<String>,
}

impl ArmedDirectory {
    /// Opens the directory of a Federation. The error shows no secret.
    pub fn open(
        federation: &Federation,
        plan: &idm_plan::Directory,
        outside: &Outside,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let live = outside.directories.open(&federation.key, plan, secrets)?;
        let (issuer, http) = (issuer_of(&federation.key), outside.http.clone());
        Ok(Self { issuer, federation: federation.clone(), live, http })
    }

    pub(crate) fn arm(
        federation: &Federation,
        plan: &idm_plan::Directory,
        resources: &Resources<'_>,
    ) -> Result<Self, String> {
        let trust = &resources.trust;
        let outside = Outside { http: trust.http.clone(), directories: trust.directories.clone() };
        Self::open(federation, plan, &outside, trust.secrets)
    }

    /// An OpenID Connect provider as a source of people whose passwords it checks. Its people are those who sign in
    /// there: their issuer is the provider's, and their claims are its own.
    pub(crate) fn of_provider(provider: &Arc<Provider>) -> Self {
        Self {
            federation: provider.federation().clone(),
            issuer: provider.issuer().to_owned(),
            live: Arc::new(PasswordGrant(provider.clone())),
            http: provider.http().clone(),
        }
    }

    /// The Federation.
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// The issuer of its people: `federation:NAMESPACE/NAME`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    fn plan(&self) -> Option<&idm_plan::Directory> {
        match &self.federation.kind {
            idm_plan::FederationKind::Directory(plan) => Some(plan),
            idm_plan::FederationKind::Oidc(_) | idm_plan::FederationKind::Saml(_) => None,
        }
    }

    /// The time for which a verified password is not checked again, in milliseconds.
    pub(crate) fn cache_ms(&self) -> u64 {
        self.plan().map_or(0, |plan| plan.cache_seconds * 1000)
    }

    /// The time at which a session's person is looked up again; far away where that is not possible.
    pub fn recheck_at(&self, now: Timestamp) -> u64 {
        let recheck = self.plan().and_then(|plan| plan.recheck_ms);
        recheck.map_or(u64::MAX, |recheck| now.0.saturating_add(recheck))
    }

    /// The longest time that a question takes, its wait for a place included.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.plan().map_or(0, |plan| plan.deadline_ms) + 2000)
    }

    /// Whether sessions go on while the directory does not answer.
    pub(crate) fn keeps_sessions(&self) -> bool {
        self.plan().is_some_and(|plan| plan.keeps_sessions)
    }

    /// Whether people may choose a new password in the sign-in form.
    pub fn changes_passwords(&self) -> bool {
        self.plan().is_some_and(|plan| plan.changes_passwords)
    }

    /// Checks a password, and replaces it if the account wants that.
    pub(crate) fn change(&self, login: Login, new: Password) -> Asked<LoginAnswer> {
        self.live.change(login, new)
    }

    /// A secret that every pod has and that no other program knows: the password of the gateway at a database.
    pub(crate) fn shared_secret(&self, secrets: &Secrets) -> Result<Redacted<String>, String> {
        match self.plan().map(|plan| &plan.source) {
            Some(DirectorySource::Database(database)) => secret_text(&database.password, secrets),
            _ => Err(format!("Federation `{}` is not a database", self.federation.key.name)),
        }
    }

    /// The hash of the Digest scheme for a name.
    pub(crate) fn hash(&self, asked: NameAsked) -> Asked<HashAnswer> {
        self.live.hash(asked)
    }

    /// The client, which carries work on when its request has ended.
    pub(crate) fn http(&self) -> &Arc<dyn HttpClient> {
        &self.http
    }

    /// The name to ask for, if the typed one has a realm of this directory.
    pub(crate) fn own(&self, typed: &str) -> Option<TypedName> {
        let realms = self.plan().map(|plan| plan.realms.as_slice()).unwrap_or_default();
        let same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
        if let Some((domain, bare)) = typed.split_once('\\') {
            let is_own = realms.iter().any(|realm| matches!(realm, Realm::Domain(own) if same(own, domain)));
            return (is_own && !bare.is_empty()).then(|| TypedName { username: bare.to_owned(), bare: None });
        }
        let (bare, suffix) = typed.rsplit_once('@')?;
        let is_own = realms.iter().any(|realm| matches!(realm, Realm::Suffix(own) if same(own, suffix)));
        let bare = Some(bare).filter(|bare| !bare.is_empty()).map(str::to_owned);
        is_own.then(|| TypedName { username: typed.to_owned(), bare })
    }

    /// Checks a password.
    pub(crate) fn verify(&self, login: Login) -> Asked<LoginAnswer> {
        usable(self.live.verify(login))
    }

    /// Tries a login out, with a log of its steps: nothing is counted, kept or let in.
    pub async fn try_out(
        &self,
        username: &str,
        password: Password,
        steps: &Steps,
    ) -> Result<LoginAnswer, DirectoryError> {
        let usual = || TypedName { username: username.to_owned(), bare: None };
        let TypedName { username, bare } = self.own(username).unwrap_or_else(usual);
        self.verify(Login { username, bare, password, caller: None, steps: steps.clone() }).await
    }

    /// The roles that the Federation grants for claims of its own about a person.
    pub fn roles(&self, claims: &Map<String, Value>) -> Vec<String> {
        mapped_roles(&self.federation, claims)
    }

    /// Reads a person again who was verified before. The refusal says that the person is gone, or may not be admitted.
    pub(crate) async fn look_up(&self, of: &OfDirectory) -> Result<Person, Refusal> {
        self.check_suspended()?;
        let answer = usable(self.live.look_up(of.id.clone(), of.username.clone())).await.map_err(unanswered)?;
        match answer {
            LoginAnswer::Verified(person) if person.id == of.id => Ok(*person),
            LoginAnswer::Verified(_) | LoginAnswer::Changed | LoginAnswer::Unknown => {
                Err(Refusal::new(Reason::WrongPassword, format!("{} knows `{}` no more", self.issuer, of.id)))
            }
            LoginAnswer::Refused(why) => Err(self.refused(&why, &of.username)),
        }
    }

    /// Refuses while the Federation is suspended.
    pub(crate) fn check_suspended(&self) -> Result<(), Refusal> {
        if self.federation.suspended { Err(Refusal::new(Reason::FederationSuspended, "")) } else { Ok(()) }
    }

    /// The refusal of a login by this directory.
    pub(crate) fn refused(&self, why: &LoginRefused, username: &str) -> Refusal {
        let about = self.about(username);
        Refusal::new(why.reason(), why.detail().map_or(about.clone(), |detail| format!("{about}: {detail}")))
    }

    /// A user of this directory, for the audit.
    pub(crate) fn about(&self, username: &str) -> String {
        format!("user `{}` of {}", bounded(username), self.issuer)
    }

    /// The claims about a person.
    pub fn claims(&self, person: &Person) -> Map<String, Value> {
        let Person { id, username, claims, groups } = person;
        let mut all = claims.clone();
        if self.plan().is_none() {
            // The provider's own claims, which its signature covers.
            return all;
        }
        let names: Vec<Value> = self.group_names(groups).map(Value::from).collect();
        let mapped: Vec<Value> = self.named_groups(groups).map(Value::from).collect();
        let own = [
            ("iss", self.issuer.as_str().into()),
            ("sub", id.as_str().into()),
            ("preferred_username", username.as_str().into()),
            ("groups", Value::Array(names)),
            ("mappedGroups", Value::Array(mapped)),
        ];
        all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        all
    }

    fn ldap(&self) -> Option<&LdapDirectory> {
        match &self.plan()?.source {
            DirectorySource::Ldap(ldap) => Some(ldap),
            DirectorySource::Database(_) | DirectorySource::Rest(_) => None,
        }
    }

    /// The names by which policies and RoleBindings know these groups. Short names are unique below the base of groups
    /// alone: without one, whoever may make a group somewhere could give it the name of another, so there the
    /// distinguished name is the name. Names that no header and no rule can hold are left out: Active Directory has a
    /// line feed in those of objects that conflict.
    fn group_names<'g>(&'g self, groups: &'g [Group]) -> impl Iterator<Item = &'g str> {
        let groups_of_ldap = self.ldap().and_then(|ldap| ldap.groups.as_ref());
        let is_ambiguous = groups_of_ldap.is_some_and(|groups| groups.base.is_none());
        let name = move |group: &'g Group| match &group.dn {
            Some(dn) if is_ambiguous => dn.text(),
            _ => group.name.as_str(),
        };
        groups.iter().map(name).filter(|name| !name.chars().any(char::is_control))
    }

    /// The groups that role mappings name and that are among these.
    fn named_groups<'g>(&'g self, groups: &'g [Group]) -> impl Iterator<Item = &'g str> {
        let named = self.plan().map(|plan| plan.groups.as_slice()).unwrap_or_default();
        let is_among = |named: &&NamedGroup| groups.iter().any(|group| self.is_named(named, group));
        named.iter().filter(is_among).map(|named| named.text.as_str())
    }

    /// Whether a role mapping that names a group means this one.
    fn is_named(&self, named: &NamedGroup, group: &Group) -> bool {
        let is_ldap = self.ldap().is_some();
        match &named.dn {
            Some(dn) => group.dn.as_ref() == Some(dn),
            // A group may have the id of another one for its name.
            None if is_ldap && is_group_id(&named.text) => {
                group.ids.iter().any(|id| id.eq_ignore_ascii_case(&named.text))
            }
            None => group.name == named.text || (is_ldap && group.name.to_lowercase() == named.text.to_lowercase()),
        }
    }

    /// The groups that role mappings name, as they are written there.
    pub fn mapped_groups(&self) -> impl Iterator<Item = &str> {
        self.plan().into_iter().flat_map(|plan| plan.groups.iter().map(|named| named.text.as_str()))
    }

    /// The names by which role mappings mean a group, as they are written there.
    pub fn names_of(&self, group: &Group) -> Vec<&str> {
        let named = self.plan().map(|plan| plan.groups.as_slice()).unwrap_or_default();
        named.iter().filter(|named| self.is_named(named, group)).map(|named| named.text.as_str()).collect()
    }

    /// The identity of a person.
    pub(crate) fn identity(&self, context: MethodContext<'_>, person: &Person) -> Result<Rc<Identity>, Refusal> {
        let claims = self.claims(person);
        let vouched = Vouched {
            issuer: &self.issuer,
            roles: self.roles(&claims),
            username: Some(person.username.clone()),
            groups: self.group_names(&person.groups).map(str::to_owned).collect(),
            ..Vouched::default()
        };
        let identity = jwt::identity_of(context, Claims::new(claims), vouched)
            .map_err(|unusable| context.denied(unusable.reason, unusable.detail))?;
        let directory = OfDirectory {
            federation: self.federation.uid.clone(),
            id: person.id.clone(),
            username: person.username.clone(),
        };
        Ok(Rc::new(Identity { directory: Some(Box::new(directory)), ..identity }))
    }

    /// The person to report, where the Federation provisions.
    pub(crate) fn new_person(&self, who: &Identity) -> Option<NewPerson> {
        self.federation.provisions.as_ref()?;
        Some(NewPerson {
            namespace: self.federation.key.namespace.clone(),
            federation: self.federation.key.name.clone(),
            issuer: self.issuer.clone(),
            username: who.username.clone(),
        })
    }
}

/// The answer of a directory, unless it is about a person whose id or name would be cut off, changed or taken for
/// another one elsewhere: in tokens, headers, records and RoleBindings.
fn usable(asked: Asked<LoginAnswer>) -> Asked<LoginAnswer> {
    let is_usable = |text: &str, longest: usize| {
        !text.is_empty() && text.len() <= longest && text.trim() == text && !text.chars().any(char::is_control)
    };
    Box::pin(async move {
        let answer = asked.await?;
        let LoginAnswer::Verified(person) = &answer else { return Ok(answer) };
        for (what, text, longest) in [("id", &person.id, MAX_ID), ("user name", &person.username, MAX_NAME)] {
            if !is_usable(text, longest) {
                let detail = format!(
                    "the {what} of the person is empty, longer than {longest} bytes, has a control character, or \
                     begins or ends with a space"
                );
                return Err(DirectoryError::new(DirectoryErrorKind::Unusable, detail));
            }
        }
        Ok(answer)
    })
}

/// The issuer of the people of a directory.
pub(crate) fn issuer_of(federation: &ObjectKey) -> String {
    format!("federation:{federation}")
}

/// The refusal of a login about which a directory gave no answer.
pub(crate) fn unanswered(error: DirectoryError) -> Refusal {
    let retry_after = error.retry_after();
    Refusal::new(error.reason(), error.detail).retry_after(retry_after)
}

fn bounded(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(128).collect()
}

#[cfg(test)]
pub(crate) mod tests;
