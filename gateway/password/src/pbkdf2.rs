//! PBKDF2 (RFC 8018 §5.2), by aws-lc.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::pbkdf2::{self, Algorithm, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512};

use super::{Format, NotStored, Stored, limits, phc, same};

/// The digest below PBKDF2.
#[derive(Clone, Copy)]
pub(super) enum Prf {
    Sha1,
    Sha256,
    Sha512,
}

impl Prf {
    fn parts(self) -> (&'static str, Algorithm, usize) {
        match self {
            Self::Sha1 => ("sha1", PBKDF2_HMAC_SHA1, 20),
            Self::Sha256 => ("sha256", PBKDF2_HMAC_SHA256, 32),
            Self::Sha512 => ("sha512", PBKDF2_HMAC_SHA512, 64),
        }
    }
}

pub(super) struct Pbkdf2 {
    prf: Prf,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Format for Pbkdf2 {
    fn cost(&self) -> String {
        format!("pbkdf2-{} rounds={}", self.prf.parts().0, self.rounds)
    }

    fn fits(&self, password: &[u8]) -> bool {
        let mut out = vec![0; self.hash.len()];
        pbkdf2::derive(self.prf.parts().1, self.rounds, &self.salt, password, &mut out);
        same(&out, &self.hash)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { salt: vec![0; self.salt.len()], hash: vec![0; self.hash.len()], ..*self })
    }
}

/// A hash with its parameters.
pub(super) fn new(prf: Prf, rounds: u32, salt: Vec<u8>, hash: Vec<u8>) -> Result<Pbkdf2, NotStored> {
    let broken = || NotStored::broken("pbkdf2");
    let rounds = NonZeroU32::new(rounds).ok_or_else(broken)?;
    if !(16..=64).contains(&hash.len()) {
        return Err(broken());
    }
    let blocks = u64::try_from(hash.len().div_ceil(prf.parts().2)).unwrap_or(u64::MAX);
    let pbkdf2 = Pbkdf2 { prf, rounds, salt, hash };
    if u64::from(rounds.get()).saturating_mul(blocks) > limits::PBKDF2_ROUNDS {
        return Err(NotStored::costly(&pbkdf2.cost(), &format!("{} rounds over all blocks", limits::PBKDF2_ROUNDS)));
    }
    Ok(pbkdf2)
}

/// Reads `$pbkdf2-sha256$i=…,l=…$salt$hash`, and `$pbkdf2-sha256$rounds$salt$hash` of passlib.
pub(super) fn read_phc(text: &str) -> Result<Stored, NotStored> {
    let broken = || NotStored::broken("pbkdf2");
    let parts: Vec<&str> = text.split('$').skip(1).collect();
    let [id, parameters, salt, hash] = parts.as_slice() else { return Err(broken()) };
    let prf = if *id == "pbkdf2-sha512" { Prf::Sha512 } else { Prf::Sha256 };
    let rounds = phc::parameter(parameters, "i").unwrap_or(parameters);
    let rounds = phc::number(rounds).ok_or_else(broken)?;
    let (salt, hash) = (phc::base64(salt).ok_or_else(broken)?, phc::base64(hash).ok_or_else(broken)?);
    let length = phc::parameter(parameters, "l").map_or(Some(hash.len()), phc::number);
    if length != Some(hash.len()) {
        return Err(broken());
    }
    new(prf, rounds, salt, hash).map(Stored::of)
}
