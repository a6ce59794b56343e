//! Portable hashes of phpass: `$P$` (`$H$` in phpBB) with a digit of cost, eight characters of salt and 22 of hash.

use std::sync::Arc;

use idm_plan::LegacyFormat;
use md5::{Digest, Md5};

use super::{Format, NotStored, Stored, limits, phc, same};

struct Phpass {
    rounds_log2: u32,
    salt: String,
    hash: String,
}

impl Format for Phpass {
    fn cost(&self) -> String {
        format!("phpass cost {}", self.rounds_log2)
    }

    fn fits(&self, password: &[u8]) -> bool {
        let mut hash: [u8; 16] = Md5::new().chain_update(&self.salt).chain_update(password).finalize().into();
        for _ in 0..1u32 << self.rounds_log2.min(limits::PHPASS_COST) {
            hash = Md5::new().chain_update(hash).chain_update(password).finalize().into();
        }
        same(phc::base64_of_crypt(hash).as_bytes(), self.hash.as_bytes())
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { salt: ".".repeat(self.salt.len()), hash: ".".repeat(self.hash.len()), ..*self })
    }
}

/// Reads `$P$…` and `$H$…`.
pub(super) fn read(text: &str) -> Result<Stored, NotStored> {
    let read = || {
        let rest = text.get(3..)?;
        let rounds_log2 = phc::digit_of_crypt(*rest.as_bytes().first()?)?;
        let (salt, hash) = (rest.get(1..9)?, rest.get(9..)?);
        (hash.len() == 22).then(|| Phpass { rounds_log2, salt: salt.into(), hash: hash.into() })
    };
    let phpass = read().ok_or_else(|| NotStored::broken("phpass"))?;
    if phpass.rounds_log2 > limits::PHPASS_COST {
        return Err(NotStored::costly(&phpass.cost(), &format!("cost {}", limits::PHPASS_COST)));
    }
    Ok(Stored::legacy(phpass, LegacyFormat::Phpass))
}
