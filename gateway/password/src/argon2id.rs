//! Argon2 (RFC 9106) in PHC strings: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, and the hashes that are made here.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Format, NotStored, Stored, limits, phc, same};

/// Memory in KiB, passes and lanes of new hashes, as OWASP recommends for argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// The octets of a new salt and of a new hash.
const SALT: usize = 16;
const HASH: usize = 32;

struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Format for Argon2Hash {
    fn cost(&self) -> String {
        cost(self.algorithm, self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
    }

    fn fits(&self, password: &[u8]) -> bool {
        let mut out = vec![0; self.hash.len()];
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        argon2.hash_password_into(password, &self.salt, &mut out).is_ok() && same(&out, &self.hash)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        let (salt, hash) = (vec![0; self.salt.len()], vec![0; self.hash.len()]);
        Arc::new(Self { params: self.params.clone(), salt, hash, ..*self })
    }
}

fn cost(algorithm: Algorithm, memory: u32, passes: u32, lanes: u32) -> String {
    format!("{} m={memory},t={passes},p={lanes}", algorithm.as_str())
}

/// Reads `$argon2id$…`. A string without `v` is of version 0x10, which had none.
pub(super) fn read(text: &str) -> Result<Stored, NotStored> {
    let parts: Vec<&str> = text.split('$').skip(1).collect();
    let (algorithm, version, parameters, salt, hash) = match parts.as_slice() {
        [algorithm, version, parameters, salt, hash] => (*algorithm, *version, *parameters, *salt, *hash),
        [algorithm, parameters, salt, hash] => (*algorithm, "v=16", *parameters, *salt, *hash),
        _ => return Err(NotStored::broken("argon2")),
    };
    let read = || {
        let number = |name| phc::parameter(parameters, name).and_then(phc::number::<u32>);
        let version = match version {
            "v=19" => Version::V0x13,
            "v=16" => Version::V0x10,
            _ => return None,
        };
        let algorithm = Algorithm::new(algorithm).ok()?;
        let cost = (number("m")?, number("t")?, number("p")?);
        // A secret key or associated data would be needed as well.
        let others = parameters.split(',').count() != 3;
        let (salt, hash) = (phc::base64(salt)?, phc::base64(hash)?);
        (!others && (8..=64).contains(&salt.len()) && (16..=64).contains(&hash.len()))
            .then_some((algorithm, version, cost, salt, hash))
    };
    let Some((algorithm, version, (memory, passes, lanes), salt, hash)) = read() else {
        return Err(NotStored::broken("argon2"));
    };
    let octets = u64::from(memory) << 10;
    if octets > limits::MEMORY || octets.saturating_mul(passes.into()) > limits::MEMORY_PASSES {
        let cost = cost(algorithm, memory, passes, lanes);
        return Err(NotStored::costly(&cost, "m=262144 and m·t=1048576"));
    }
    let params = Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_| NotStored::broken("argon2"))?;
    let (our_memory, our_passes, _) = COST;
    let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
    let current = matches!((algorithm, version), (Algorithm::Argon2id, Version::V0x13))
        && work(memory, passes) >= work(our_memory, our_passes);
    Ok(Stored { current, ..Stored::of(Argon2Hash { algorithm, version, params, salt, hash }) })
}

fn params() -> Option<Params> {
    let (memory, passes, lanes) = COST;
    Params::new(memory, passes, lanes, Some(HASH)).ok()
}

/// The cost of [`new_hash`], with nobody's hash.
pub(super) fn usual() -> Stored {
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let params = params().unwrap_or_default();
    Stored {
        current: true,
        ..Stored::of(Argon2Hash { algorithm, version, params, salt: vec![0; SALT], hash: vec![0; HASH] })
    }
}

/// A new hash of a password. `None` where the system gives no random octets, or the password is far too long.
pub fn new_hash(password: &str) -> Option<String> {
    let (mut salt, mut hash) = ([0; SALT], [0; HASH]);
    SystemRandom::new().fill(&mut salt).ok()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params()?);
    argon2.hash_password_into(password.as_bytes(), &salt, &mut hash).ok()?;
    let ((memory, passes, lanes), salt, hash) = (COST, STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Some(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}"))
}
