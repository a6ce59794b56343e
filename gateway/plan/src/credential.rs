use idm_types::{RoleName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{OauthClient, ObjectKey, Secrets};

/// The callers that are known by a Credential. They change more often than policies and routes, so they are not part of
/// the plan: a gateway replaces them without arming the plan anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// All of them, ordered by name.
    pub all: Vec<Credential>,
    /// The secrets that only Credentials refer to.
    pub secrets: Secrets,
}

/// A caller known by a Credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The Credential object.
    pub key: ObjectKey,
    /// The proof that the caller must present.
    pub proof: Proof,
    /// The user or application that it was handed to.
    pub owner: Option<String>,
    /// Roles it carries.
    pub roles: Vec<RoleName>,
    /// Attributes it carries.
    pub attributes: Vec<(String, String)>,
    /// The policies it may be used with; `None`: all of the namespace.
    pub policies: Option<Vec<String>>,
    /// The Credential is refused from this time on.
    pub expires: Option<Timestamp>,
    /// The Credential is refused while this is set.
    pub suspended: bool,
}

/// The kind of proof that belongs to a Credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Proof {
    /// An API key.
    ApiKey {
        /// SHA-256 of the whole key, in lower-case hexadecimal.
        sha256: String,
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
    /// A person whom a federation vouches for.
    Person {
        /// The value that the sign-in method compares.
        user: String,
        /// The Federation's uid; `None`: any Federation.
        federation: Option<String>,
    },
}
