//! Secrets that do not exist yet and that the operator can make.

use idm_types::ApiKey;

use crate::World;

/// One Secret that a Credential names and that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// The Credential.
    pub credential: String,
    /// The name of the Secret.
    pub secret: String,
    /// The key in it.
    pub field: String,
    /// Whether the value is a password: the random bits alone, without prefix and checksum.
    bare: bool,
}

impl Supply {
    /// The value to write, derived from a new key.
    pub fn value(&self, key: &ApiKey) -> String {
        if self.bare { key.body() } else { key.reveal() }.to_owned()
    }
}

/// The Secrets that can be made for Credentials whose Secret does not exist yet.
pub fn missing_secrets(world: &World) -> Vec<Supply> {
    let missing = world.credentials.iter().filter_map(|credential| {
        let reference = credential.spec.secret_ref.as_ref()?;
        let (usual, bare) = match (&credential.spec.password, &credential.spec.oauth_client) {
            (Some(_), _) => ("password", true),
            (None, Some(_)) => ("clientSecret", false),
            (None, None) => ("key", false),
        };
        let field = reference.key.clone().unwrap_or_else(|| usual.into());
        (!world.has_secret(&reference.name)).then(|| Supply {
            credential: credential.meta.name.clone(),
            secret: reference.name.clone(),
            field,
            bare,
        })
    });
    missing.collect()
}
