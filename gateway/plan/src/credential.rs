use std::collections::BTreeMap;
use std::sync::Arc;

use idm_types::{Algorithm, RoleName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Access, EndedKey, Keys, Labelled, Labels, Limit, OauthClient, ObjectKey, SecretHandle, Secrets, UsagePlan,
};

/// The callers that are known by a Credential. They change more often than policies and routes, so they are not part of
/// the plan: a gateway replaces them without arming the plan anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// All of them, ordered by name.
    pub all: Vec<Arc<Credential>>,
    /// The secrets that only Credentials refer to.
    pub secrets: Secrets,
    /// The tiers of callers, ordered by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage_plans: Vec<UsagePlan>,
    /// Keys that are refused for good, ordered by hash.
    pub ended: Vec<EndedKey>,
}

/// A caller known by a Credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The Credential object.
    pub key: ObjectKey,
    /// The labels of the object, by which methods select.
    pub labels: Labels,
    /// The proof that the caller must present.
    pub proof: Proof,
    /// The user or application that it was handed to.
    pub owner: Option<String>,
    /// Roles it carries.
    pub roles: Vec<RoleName>,
    /// Attributes it carries.
    pub attributes: Vec<(String, String)>,
    /// Where, how and when it may be used; `None`: everywhere and always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<Access>>,
    /// Its own limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// The Credential is refused from this time on.
    pub expires: Option<Timestamp>,
    /// The Credential is refused while this is set.
    pub suspended: bool,
}

impl Credential {
    /// A Credential that proves itself so, has no labels, roles, attributes or owner, and is good everywhere and
    /// always.
    pub fn new(key: ObjectKey, proof: Proof) -> Self {
        Self {
            key,
            labels: Labels::default(),
            proof,
            owner: None,
            roles: vec![],
            attributes: vec![],
            access: None,
            limits: vec![],
            expires: None,
            suspended: false,
        }
    }
}

impl Credential {
    /// The policies with which alone it may be used; `None`: all.
    pub fn only_policies(&self) -> Option<&Vec<String>> {
        self.access.as_ref()?.policies.as_ref()
    }
}

/// The Credentials that a method accepts. It is compared with the Credentials in force, so they come and go without
/// another plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// The labels that a Credential must have; none: every Credential of the namespace is accepted.
    pub labels: BTreeMap<String, String>,
}

impl Selector {
    /// Accepts every Credential of the namespace.
    pub const ANY: Self = Self { labels: BTreeMap::new() };

    /// Whether a Credential with these labels has all of its own.
    pub fn accepts(&self, labels: &impl Labelled) -> bool {
        self.labels.iter().all(|(name, value)| labels.label(name) == Some(value.as_str()))
    }
}

/// The proof of a Credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Proof {
    /// An API key.
    ApiKey {
        /// Its keys: one, or two while the newer replaces the older.
        keys: Keys,
        /// They need not have our own form.
        any_form: bool,
    },
    /// A user name with a password.
    Password {
        /// The user name.
        username: String,
        /// The argon2id hash in PHC form.
        phc: String,
    },
    /// An OAuth client of the namespace's token services.
    Client(Box<OauthClient>),
    /// Keys with which the caller signs its requests (RFC 9421).
    Signature {
        /// The keys. Never empty.
        keys: Vec<CallerKey>,
    },
    /// Secrets with which the caller signs its JWTs.
    HmacJwt {
        /// The `iss` that its tokens must have; `None`: the id of a key, where the token has the `kid` of none.
        issuer: Option<String>,
        /// The keys. Never empty, and all of them secrets.
        keys: Vec<CallerKey>,
    },
    /// A person whom a federation vouches for.
    Person {
        /// The value that the sign-in method compares.
        user: String,
        /// The Federation's uid; `None`: any Federation.
        federation: Option<String>,
    },
}

impl Proof {
    /// The keys by which the caller's messages are verified; none for other proofs.
    pub fn caller_keys(&self) -> &[CallerKey] {
        match self {
            Proof::Signature { keys } | Proof::HmacJwt { issuer: _, keys } => keys,
            Proof::ApiKey { .. } | Proof::Password { .. } | Proof::Client(_) | Proof::Person { .. } => &[],
        }
    }
}

/// A key of a caller, bound to one algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerKey {
    /// The name by which the caller's messages select it.
    pub id: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: KeyMaterial,
    /// The key is refused from this time on; `None`: it ends with its Credential.
    pub expires: Option<Timestamp>,
}

/// What a key of a caller is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeyMaterial {
    /// A public key, as the text of a JWK.
    Public(String),
    /// A secret that the caller has too: one of [`Credentials::secrets`].
    Secret(SecretHandle),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let map: BTreeMap<String, String> = all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        // In both forms they are the same labels.
        let small = Labels::from(map.clone());
        assert!(
            map.iter().all(|(name, value)| small.label(name) == Some(value.as_str())) && small.label("none").is_none()
        );
        assert_eq!(BTreeMap::from(small), map);
        map
    }

    #[test]
    fn a_selector_accepts_what_has_all_its_labels() {
        let only = Selector { labels: labels(&[("team", "a"), ("tier", "gold")]) };
        assert!(only.accepts(&labels(&[("more", ""), ("team", "a"), ("tier", "gold")])));
        for other in [&[][..], &[("team", "a")], &[("team", "a"), ("tier", "iron")], &[("team", "gold"), ("tier", "a")]]
        {
            assert!(!only.accepts(&labels(other)), "{other:?}");
        }
        assert!(Selector::ANY.accepts(&labels(&[])) && Selector::ANY.accepts(&labels(&[("team", "a")])));
    }
}
