//! Formats of Spring Security's `DelegatingPasswordEncoder`: `{id}…`. Its ids are in lower case, LDAP's schemes are
//! written in upper case.

use super::pbkdf2::{self, Prf};
use super::{NotStored, Stored, argon2id, bcrypt, digest, phc, scrypt};

/// Reads what follows `{id}`; `None` for an id that is not Spring's.
pub(super) fn read(id: &str, rest: &str) -> Option<Result<Stored, NotStored>> {
    Some(match id {
        "bcrypt" => bcrypt::read(rest, false),
        "argon2" | "argon2@SpringSecurity_v5_8" => argon2id::read(rest),
        // The rounds are not written down: they are those of the encoder's defaults.
        "pbkdf2" => pbkdf2(rest, Prf::Sha1, 8, 185_000),
        "pbkdf2@SpringSecurity_v5_8" => pbkdf2(rest, Prf::Sha256, 16, 310_000),
        "scrypt" | "scrypt@SpringSecurity_v5_8" => scrypt(rest).unwrap_or_else(|| Err(NotStored::broken("{scrypt}"))),
        "noop" => digest::declared_plain_text(rest),
        _ => return None,
    })
}

fn pbkdf2(rest: &str, prf: Prf, salt: usize, rounds: u32) -> Result<Stored, NotStored> {
    let octets = phc::hex(rest).unwrap_or_default();
    let (salt, hash) = octets.split_at_checked(salt).ok_or_else(|| NotStored::broken("{pbkdf2}"))?;
    pbkdf2::new(prf, rounds, salt.into(), hash.into()).map(Stored::of)
}

/// `$` with the parameters as one hexadecimal number, salt and hash.
fn scrypt(rest: &str) -> Option<Result<Stored, NotStored>> {
    let parts: Vec<&str> = rest.split('$').collect();
    let ["", parameters, salt, hash] = parts.as_slice() else { return None };
    let parameters = u32::from_str_radix(parameters, 16).ok()?;
    let (n_log2, r, p) = (parameters >> 16, parameters >> 8 & 0xff, parameters & 0xff);
    Some(scrypt::new(n_log2, r, p, phc::base64(salt)?, phc::base64(hash)?))
}
