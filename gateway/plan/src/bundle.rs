use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Credentials, Plan, Secrets, ShardRef};

/// The newest format that this gateway reads. It refuses a newer one and keeps what it has.
pub const FORMAT: u32 = WITH_SHARDS;
/// The first format whose Credentials are in shards.
pub const WITH_SHARDS: u32 = 8;
/// The format of a bundle that carries all its Credentials itself, which older gateways read too.
const WITHOUT_SHARDS: u32 = 7;

/// A larger bundle does not fit into a Kubernetes Secret (1 MiB, other fields included).
const MAX_PACKED: usize = 1_000_000;
/// The room that a new plan leaves for what changes while it is in force.
const RESERVED: usize = 100_000;
const MAX_UNPACKED: u64 = 256 << 20;

/// The data that the operator hands to a gateway: a plan, its secrets and the Credentials, with one digest over all of
/// them and the generation at which they were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// See [`FORMAT`].
    pub format: u32,
    /// Counts the changes of this namespace's plan; shown in status and by `/-/bundle`.
    pub generation: u64,
    /// SHA-256 of plan, secrets, Credentials and index as JSON, in hexadecimal.
    pub digest: String,
    /// The plan.
    pub plan: Plan,
    /// The secrets that the plan refers to.
    pub secrets: Secrets,
    /// The Credentials that callers may use; with an index, those of the shards come to them.
    pub credentials: Credentials,
    /// The index: the shards by number; none where the bundle carries all Credentials itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardRef>,
}

/// Why a bundle could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The packed bundle does not fit a Secret.
    #[error("the policies and routes are {0} bytes packed, and a Secret has room for 900,000: split the namespace")]
    TooLarge(usize),
    /// The bundle was written by a newer operator.
    #[error("the bundle has format {found} and this gateway reads up to {FORMAT}: upgrade the gateway")]
    NewerFormat {
        /// The format found.
        found: u32,
    },
    /// The digest does not match the plan.
    #[error("the bundle's digest does not match its plan: it was damaged or edited by hand")]
    DigestMismatch,
    /// The bytes are not a bundle.
    #[error("not a bundle")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Bundle {
    /// Seals a plan, its secrets and the Credentials as the given generation.
    pub fn seal(plan: Plan, secrets: Secrets, credentials: Credentials, generation: u64) -> Self {
        Self::with_index(plan, secrets, credentials, vec![], generation)
    }

    /// The same, with the index of the shards that hold the Credentials. `common` belongs to no single one of them.
    pub fn with_index(
        plan: Plan,
        secrets: Secrets,
        common: Credentials,
        shards: Vec<ShardRef>,
        generation: u64,
    ) -> Self {
        let format = if shards.is_empty() { WITHOUT_SHARDS } else { WITH_SHARDS };
        let mut bundle = Self { format, generation, digest: String::new(), plan, secrets, credentials: common, shards };
        bundle.digest = idm_types::hex(&bundle.own_digest());
        bundle
    }

    fn own_digest(&self) -> [u8; 32] {
        let Self { format: _, generation: _, digest: _, plan, secrets, credentials, shards } = self;
        match shards.is_empty() {
            true => digest_of(&(plan, secrets, credentials)),
            false => digest_of(&(plan, secrets, credentials, shards)),
        }
    }

    /// SHA-256 of plan and secrets: bundles that have the same one differ in their Credentials at most.
    pub fn plan_digest(&self) -> [u8; 32] {
        digest_of(&(&self.plan, &self.secrets))
    }

    /// The bundle as compressed bytes for a Secret or a file. A plan that leaves no room for changes of Credentials is
    /// refused.
    pub fn pack(&self) -> Result<Vec<u8>, BundleError> {
        self.pack_within(MAX_PACKED.saturating_sub(RESERVED))
    }

    /// The same for a plan that is in force already: the room that it left is used.
    pub fn pack_with_reserve(&self) -> Result<Vec<u8>, BundleError> {
        self.pack_within(MAX_PACKED)
    }

    fn pack_within(&self, most: usize) -> Result<Vec<u8>, BundleError> {
        let json = serde_json::to_vec(self).map_err(|e| BundleError::Unreadable(e.into()))?;
        let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::default());
        gzip.write_all(&json).map_err(|e| BundleError::Unreadable(e.into()))?;
        let packed = gzip.finish().map_err(|e| BundleError::Unreadable(e.into()))?;
        if packed.len() > most { Err(BundleError::TooLarge(packed.len())) } else { Ok(packed) }
    }

    /// Reads the bytes that [`Self::pack`] wrote; refuses bytes that are damaged, newer or unknown.
    pub fn unpack(packed: &[u8]) -> Result<Self, BundleError> {
        let mut json = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(packed).take(MAX_UNPACKED);
        gzip.read_to_end(&mut json).map_err(|e| BundleError::Unreadable(e.into()))?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(&json).map_err(|e| BundleError::Unreadable(e.into()))?;
        if format > FORMAT {
            return Err(BundleError::NewerFormat { found: format });
        }
        let bundle: Self = serde_json::from_slice(&json).map_err(|e| BundleError::Unreadable(e.into()))?;
        if idm_types::hex(&bundle.own_digest()) != bundle.digest {
            return Err(BundleError::DigestMismatch);
        }
        Ok(bundle)
    }
}

/// The digest of plain data. The data has string keys only, so writing it as JSON cannot fail. If it did, the digest of
/// an empty text would equal the digest of no valid bundle.
fn digest_of(data: &impl Serialize) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(data).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use idm_types::Redacted;

    use super::*;
    use crate::{Credential, ObjectKey, Proof, SecretHandle};

    #[test]
    fn a_bundle_reads_back() {
        let plan = Plan { namespace: "shop".into(), ..Plan::default() };
        let bundle = Bundle::seal(plan, Secrets::default(), Credentials::default(), 7);
        assert_eq!(Bundle::unpack(&bundle.pack().unwrap()).unwrap(), bundle);
    }

    #[test]
    fn a_damaged_newer_or_unknown_bundle_is_refused() {
        let good = Bundle::seal(Plan::default(), Secrets::default(), Credentials::default(), 1);
        let edited = Bundle { plan: Plan { namespace: "other".into(), ..Plan::default() }, ..good.clone() };
        assert!(matches!(Bundle::unpack(&edited.pack().unwrap()), Err(BundleError::DigestMismatch)));
        let edited = Bundle { credentials: robot(), ..good.clone() };
        assert!(matches!(Bundle::unpack(&edited.pack().unwrap()), Err(BundleError::DigestMismatch)));
        let newer = Bundle { format: FORMAT + 1, ..good.clone() };
        assert!(matches!(Bundle::unpack(&newer.pack().unwrap()), Err(BundleError::NewerFormat { .. })));
        assert!(matches!(Bundle::unpack(b"garbage"), Err(BundleError::Unreadable(_))));

        let mut value = serde_json::to_value(&good).unwrap();
        value["plan"]["fromTheFuture"] = true.into();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&serde_json::to_vec(&value).unwrap()).unwrap();
        assert!(matches!(Bundle::unpack(&gzip.finish().unwrap()), Err(BundleError::Unreadable(_))));
    }

    fn robot() -> Credentials {
        let key = ObjectKey::new("shop", "robot");
        let proof = Proof::ApiKey { keys: crate::Keys::one("00".repeat(32)), any_form: false };
        let robot = Credential::new(key, proof);
        Credentials { all: vec![robot.into()], ..Credentials::default() }
    }

    #[test]
    fn credentials_change_the_digest_and_not_that_of_the_plan() {
        let sealed = |secrets: &Secrets, credentials| Bundle::seal(Plan::default(), secrets.clone(), credentials, 1);
        let none = Secrets::default();
        let (without, with) = (sealed(&none, Credentials::default()), sealed(&none, robot()));
        assert_eq!(without.plan_digest(), with.plan_digest());
        assert_ne!(without.digest, with.digest);
        let mut secrets = Secrets::default();
        secrets.put(SecretHandle::of_secret("a", "key"), Redacted::new(b"1".to_vec()));
        let of_credentials = sealed(&none, Credentials { secrets: secrets.clone(), ..robot() });
        assert_eq!(of_credentials.plan_digest(), with.plan_digest());
        assert_ne!(of_credentials.digest, with.digest);
        assert_ne!(sealed(&secrets, robot()).plan_digest(), with.plan_digest());
    }
}
