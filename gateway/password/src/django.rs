//! Formats of Django: `algorithm$…`.

use aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
use idm_plan::LegacyFormat;

use super::digest::{Digested, Order};
use super::pbkdf2::{self, Prf};
use super::{NotStored, Stored, argon2id, bcrypt, phc, scrypt};

/// Reads what follows `algorithm$`; `None` for an algorithm that is not Django's.
pub(super) fn read(algorithm: &str, rest: &str) -> Option<Result<Stored, NotStored>> {
    let parts: Vec<&str> = rest.split('$').collect();
    let broken = || Err(NotStored::broken(&format!("Django's {algorithm}")));
    Some(match (algorithm, parts.as_slice()) {
        ("pbkdf2_sha256", [rounds, salt, hash]) => {
            pbkdf2(Prf::Sha256, rounds, salt, hash).map_or_else(broken, |read| read.map(Stored::of))
        }
        ("pbkdf2_sha1", [rounds, salt, hash]) => pbkdf2(Prf::Sha1, rounds, salt, hash)
            .map_or_else(broken, |read| read.map(|read| Stored::legacy(read, LegacyFormat::DjangoSha1))),
        ("argon2", _) => argon2id::read(&format!("${rest}")),
        ("bcrypt_sha256", _) => bcrypt::read(rest, true),
        ("bcrypt", _) => bcrypt::read(rest, false),
        ("scrypt", [n, salt, r, p, hash]) => scrypt(n, salt, r, p, hash).unwrap_or_else(broken),
        ("sha1", [salt, hash]) => sha1(salt, hash).map_or_else(broken, Ok),
        ("pbkdf2_sha256" | "pbkdf2_sha1" | "scrypt" | "sha1", _) => broken(),
        _ => return None,
    })
}

fn pbkdf2(prf: Prf, rounds: &str, salt: &str, hash: &str) -> Option<Result<pbkdf2::Pbkdf2, NotStored>> {
    Some(pbkdf2::new(prf, phc::number(rounds)?, salt.into(), phc::base64(hash)?))
}

fn scrypt(n: &str, salt: &str, r: &str, p: &str, hash: &str) -> Option<Result<Stored, NotStored>> {
    let n: u64 = phc::number(n).filter(|n: &u64| n.is_power_of_two())?;
    Some(scrypt::new(n.ilog2(), phc::number(r)?, phc::number(p)?, salt.into(), phc::base64(hash)?))
}

fn sha1(salt: &str, hash: &str) -> Option<Stored> {
    let hash = phc::hex(hash).filter(|hash| hash.len() == 20)?;
    let (algorithm, order) = (&SHA1_FOR_LEGACY_USE_ONLY, Order::SaltThenPassword);
    let digested = Digested { name: "Django's sha1", algorithm, order, salt: salt.into(), hash };
    Some(Stored::legacy(digested, LegacyFormat::DjangoSha1))
}
