//! One round of a digest over password and salt, and the password itself.

use std::sync::Arc;

use aws_lc_rs::digest::{Algorithm, Context, SHA256};
use idm_plan::LegacyFormat;

use super::{Format, NotStored, Stored, same};

/// The order of what is digested.
pub(super) enum Order {
    /// As LDAP has it.
    PasswordThenSalt,
    /// As Django has it.
    SaltThenPassword,
}

/// A digest of a password and a salt.
pub(super) struct Digested {
    pub(super) name: &'static str,
    pub(super) algorithm: &'static Algorithm,
    pub(super) order: Order,
    pub(super) salt: Vec<u8>,
    pub(super) hash: Vec<u8>,
}

impl Format for Digested {
    fn cost(&self) -> String {
        self.name.into()
    }

    fn fits(&self, password: &[u8]) -> bool {
        let parts = match self.order {
            Order::PasswordThenSalt => [password, &self.salt],
            Order::SaltThenPassword => [&self.salt, password],
        };
        let mut context = Context::new(self.algorithm);
        parts.iter().for_each(|part| context.update(part));
        same(context.finish().as_ref(), &self.hash)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        let Self { name, algorithm, ref order, ref salt, ref hash } = *self;
        let order = match order {
            Order::PasswordThenSalt => Order::PasswordThenSalt,
            Order::SaltThenPassword => Order::SaltThenPassword,
        };
        Arc::new(Self { name, algorithm, order, salt: vec![0; salt.len()], hash: vec![0; hash.len()] })
    }
}

/// The SHA-256 of octets in hexadecimal digits.
pub(super) fn sha256_hex(octets: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&SHA256, octets);
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

struct PlainText(Vec<u8>);

impl Format for PlainText {
    fn cost(&self) -> String {
        "plain text".into()
    }

    fn fits(&self, password: &[u8]) -> bool {
        same(password, &self.0)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self(vec![0; self.0.len()]))
    }
}

/// The password itself, behind `{noop}`: it may look as it likes.
pub(super) fn declared_plain_text(text: &str) -> Result<Stored, NotStored> {
    if text.is_empty() {
        return Err(NotStored::None);
    }
    Ok(Stored::legacy(PlainText(text.into()), LegacyFormat::PlainText))
}

/// The password itself. A text that looks like a bare digest is refused: whoever has read such a table would hold the
/// passwords of everybody in it.
pub(super) fn plain_text(text: &str) -> Result<Stored, NotStored> {
    let hexadecimal = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    if hexadecimal && matches!(text.len(), 32 | 40 | 56 | 64 | 96 | 128) {
        return Err(NotStored::Unreadable("a stored password looks like a digest without salt".into()));
    }
    declared_plain_text(text)
}
