//! Stored passwords: which format one is in, what it costs, and whether a password fits it.
//!
//! In: the text of a database's column, or of a Secret. Out: [`Stored`], whose check takes as long as its format wants,
//! within the limits of `limits.rs`. Pure, and never shows a hash.
//!
//! The formats are a closed list, told apart by their prefixes. A text without one of them is the password itself, if
//! it does not look like a hash. Passwords are compared as the octets of their UTF-8, without normalisation, as the
//! programs that made the hashes did. This crate never does IO, and never shows a password. Start at [`Stored::read`].
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod argon2id;
mod bcrypt;
mod crypt;
mod digest;
mod django;
mod ldap;
mod limits;
mod pbkdf2;
mod phc;
mod phpass;
mod scrypt;
mod spring;

use std::fmt;
use std::sync::Arc;

use idm_plan::LegacyFormat;

pub use argon2id::new_hash;

/// The octets that a password may have; a longer one fits nothing.
const LONGEST_PASSWORD: usize = 4096;
/// The octets that a stored password may have.
const LONGEST_STORED: usize = 1024;

/// A format with its parameters, salt and hash.
trait Format: Send + Sync {
    /// The format and its cost, for people.
    fn cost(&self) -> String;

    /// Whether a password fits. Takes the time that the format costs.
    fn fits(&self, password: &[u8]) -> bool;

    /// The same cost for a person who does not exist: no salt and no hash of anybody.
    fn decoy(&self) -> Arc<dyn Format>;
}

/// A stored password.
#[derive(Clone)]
pub struct Stored {
    format: Arc<dyn Format>,
    legacy: Option<LegacyFormat>,
    current: bool,
}

/// A stored password that cannot be checked. Shows nothing of it but the format and its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// There is none: no password fits this person.
    None,
    /// The format is unknown or broken, or costs too much.
    Unreadable(String),
}

impl NotStored {
    fn broken(format: &str) -> Self {
        Self::Unreadable(format!("a stored password begins like {format} and is not well-formed"))
    }

    fn costly(cost: &str, limit: &str) -> Self {
        Self::Unreadable(format!("a stored password in the format {cost} costs too much: the limit is {limit}"))
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("there is no stored password"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stored").field(&self.format.cost()).finish()
    }
}

impl Stored {
    fn of(format: impl Format + 'static) -> Self {
        Self { format: Arc::new(format), legacy: None, current: false }
    }

    fn legacy(format: impl Format + 'static, legacy: LegacyFormat) -> Self {
        Self { legacy: Some(legacy), ..Self::of(format) }
    }

    /// Reads a stored password.
    pub fn read(text: &str) -> Result<Self, NotStored> {
        if text.len() > LONGEST_STORED {
            return Err(NotStored::Unreadable(format!("a stored password is longer than {LONGEST_STORED} octets")));
        }
        // Unusable passwords of shadow(5) and of Django begin in these ways.
        if text.is_empty() || text.starts_with(['!', '*']) {
            return Err(NotStored::None);
        }
        if let Some(rest) = text.strip_prefix('{') {
            let (scheme, rest) = rest.split_once('}').ok_or_else(|| NotStored::broken("{scheme}"))?;
            return spring::read(scheme, rest).unwrap_or_else(|| ldap::read(scheme, rest));
        }
        if text.starts_with('$') {
            return Self::read_modular(text);
        }
        if let Some(read) = text.split_once('$').and_then(|(algorithm, rest)| django::read(algorithm, rest)) {
            return read;
        }
        digest::plain_text(text)
    }

    /// Reads `$id$…`: PHC strings and the formats of crypt(3).
    fn read_modular(text: &str) -> Result<Self, NotStored> {
        let id = text.split('$').nth(1).unwrap_or_default();
        match id {
            "argon2id" | "argon2i" | "argon2d" => argon2id::read(text),
            "scrypt" => scrypt::read_phc(text),
            "pbkdf2-sha256" | "pbkdf2-sha512" => pbkdf2::read_phc(text),
            "2a" | "2b" | "2x" | "2y" => bcrypt::read(text, false),
            "1" => crypt::read_md5(text),
            "5" | "6" => crypt::read_sha(text),
            "y" => scrypt::read_yescrypt(text),
            "P" | "H" => phpass::read(text),
            _ => Err(NotStored::Unreadable("a stored password is in no format that is known".into())),
        }
    }

    /// The format, if it is accepted only where the Federation says so.
    pub fn legacy_format(&self) -> Option<LegacyFormat> {
        self.legacy
    }

    /// Whether a new hash would be no better.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// The format and its cost, for people.
    pub fn cost(&self) -> String {
        self.format.cost()
    }

    /// Whether a password fits. Takes the time that the format costs, and must not run where others wait.
    pub fn fits(&self, password: &str) -> bool {
        password.len() <= LONGEST_PASSWORD && self.format.fits(password.as_bytes())
    }

    /// The same cost without anybody's salt and hash.
    pub fn decoy(&self) -> Self {
        Self { format: self.format.decoy(), legacy: self.legacy, current: self.current }
    }

    /// The cost of the hashes that are made here.
    pub fn usual() -> Self {
        argon2id::usual()
    }
}

/// Whether two hashes are the same, in constant time for the same length.
fn same(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

/// The text before the first NUL: crypt(3) takes strings of C.
fn c_string(password: &[u8]) -> &[u8] {
    password.split(|octet| *octet == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
