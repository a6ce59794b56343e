//! The gateway's own account in a database.

use idm_types::Redacted;

/// User, password and database.
pub(super) struct Account {
    pub(super) user: String,
    pub(super) password: Redacted<String>,
    pub(super) database: String,
}
