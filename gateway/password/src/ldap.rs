//! Values of LDAP's `userPassword` (RFC 2307 §5.3): `{SCHEME}…`.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use idm_plan::LegacyFormat;

use super::digest::{Digested, Order};
use super::{NotStored, Stored, argon2id, phc};

/// Reads what follows `{SCHEME}`.
pub(super) fn read(scheme: &str, rest: &str) -> Result<Stored, NotStored> {
    let (name, algorithm, salted) = match scheme.to_ascii_uppercase().as_str() {
        "SHA" => ("{SHA}", &SHA1_FOR_LEGACY_USE_ONLY, false),
        "SSHA" => ("{SSHA}", &SHA1_FOR_LEGACY_USE_ONLY, true),
        "SHA256" => ("{SHA256}", &SHA256, false),
        "SSHA256" => ("{SSHA256}", &SHA256, true),
        "SHA384" => ("{SHA384}", &SHA384, false),
        "SSHA384" => ("{SSHA384}", &SHA384, true),
        "SHA512" => ("{SHA512}", &SHA512, false),
        "SSHA512" => ("{SSHA512}", &SHA512, true),
        "CRYPT" if rest.starts_with('$') => return Stored::read_modular(rest),
        "ARGON2" => return argon2id::read(rest),
        _ => return Err(NotStored::Unreadable("a stored password is in a {scheme} that is not known".into())),
    };
    let octets = phc::base64(rest).unwrap_or_default();
    match octets.split_at_checked(algorithm.output_len()) {
        Some((hash, salt)) if salted != salt.is_empty() => {
            let (hash, salt) = (hash.to_vec(), salt.to_vec());
            let digested = Digested { name, algorithm, order: Order::PasswordThenSalt, salt, hash };
            Ok(Stored::legacy(digested, LegacyFormat::LdapSha))
        }
        _ => Err(NotStored::broken(name)),
    }
}
