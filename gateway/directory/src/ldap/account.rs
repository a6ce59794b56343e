//! The state of an account, from binds and attributes.

use std::time::SystemTime;

use idm_trust::AccountState::{self, Disabled, Expired, Locked, MustChangePassword, PasswordExpired, Restricted};
use idm_trust::{DirectoryError, DirectoryErrorKind, LoginRefused};
use ldap3_proto::proto::LdapResultCode as Code;

use super::entry::Entry;
use super::message::{Outcome, PasswordPolicy};
use super::reader::WANTS_TLS;

/// The attributes that [`state`] reads.
pub(super) const ATTRIBUTES: [&str; 8] = [
    "userAccountControl",
    "msDS-User-Account-Control-Computed",
    "accountExpires",
    "lockoutTime",
    "pwdLastSet",
    "nsAccountLock",
    "pwdAccountLockedTime",
    "pwdReset",
];

/// Bits of `userAccountControl` and of its computed part (MS-ADTS §2.2.16).
const ACCOUNT_DISABLE: i64 = 0x2;
const LOCKOUT: i64 = 0x10;
const DONT_EXPIRE_PASSWORD: i64 = 0x1_0000;
const PASSWORD_IS_EXPIRED: i64 = 0x80_0000;
/// `accountExpires` of an account that never does, besides 0.
const NEVER: i64 = i64::MAX;
/// `pwdAccountLockedTime` of an account that only an administrator unlocks.
const FOR_GOOD: &[u8] = b"000001010000Z";
/// Seconds between 1601, from which Active Directory counts, and 1970.
const FROM_1601: u64 = 11_644_473_600;

/// The occasion on which an entry is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// It was read before a bind that has succeeded since: the server itself has judged what a bind changes or ends.
    Bound,
    /// The entry was looked up, without a bind.
    LookedUp,
}

/// The state in which an account may not be used.
pub(super) fn state(entry: &Entry, now: SystemTime, moment: Moment) -> Option<AccountState> {
    let control = entry.number("userAccountControl").unwrap_or(0);
    let computed = entry.number("msDS-User-Account-Control-Computed");
    if (control | computed.unwrap_or(0)) & ACCOUNT_DISABLE != 0 || entry.is_true("nsAccountLock") {
        return Some(Disabled);
    }
    if is_locked(entry, computed, moment) {
        return Some(Locked);
    }
    if has_expired(entry.number("accountExpires"), now) {
        return Some(Expired);
    }
    let never_set = entry.number("pwdLastSet") == Some(0) && control & DONT_EXPIRE_PASSWORD == 0;
    if entry.is_true("pwdReset") || (never_set && moment == Moment::LookedUp) {
        return Some(MustChangePassword);
    }
    (computed.unwrap_or(0) & PASSWORD_IS_EXPIRED != 0 && moment == Moment::LookedUp).then_some(PasswordExpired)
}

fn is_locked(entry: &Entry, computed: Option<i64>, moment: Moment) -> bool {
    let locked_time = entry.values("pwdAccountLockedTime").first();
    if locked_time.is_some_and(|time| time == FOR_GOOD) {
        return true;
    }
    // A lock that ends by itself leaves these behind until the next bind that succeeds.
    moment == Moment::LookedUp
        && (locked_time.is_some()
            || match computed {
                Some(computed) => computed & LOCKOUT != 0,
                None => entry.number("lockoutTime").is_some_and(|time| time > 0),
            })
}

/// `accountExpires` counts 100 nanoseconds since 1601.
fn has_expired(expires: Option<i64>, now: SystemTime) -> bool {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() + FROM_1601;
    expires.is_some_and(|expires| expires > 0 && expires != NEVER && expires as u64 / 10_000_000 <= now)
}

/// Judges the answer to the bind of a person: `None`: the password is right.
pub(super) fn of_bind(
    label: &str,
    outcome: &Outcome,
    policy: PasswordPolicy,
) -> Result<Option<LoginRefused>, DirectoryError> {
    let Outcome { code, diagnostic, referral: _ } = outcome;
    let error = |kind, what: &str| {
        let code_number = code.clone() as i64;
        Err(DirectoryError::new(kind, format!("{label}: {what} (code {code_number} {code:?}) {diagnostic}")))
    };
    let refused = match code {
        // The control can refuse what the code allows, and never allows what the code refuses.
        Code::Success => return Ok(of_policy(policy).map(LoginRefused::Account)),
        Code::InvalidCredentials => match (of_policy(policy), sub_code(diagnostic).and_then(of_sub_code)) {
            (Some(state), _) | (None, Some(state)) => LoginRefused::Account(state),
            (None, None) => LoginRefused::WrongPassword,
        },
        // An entry without a password, or one that has gone since it was found.
        Code::InappropriateAuthentication | Code::NoSuchObject => LoginRefused::WrongPassword,
        // 389 Directory Server answers so for too many wrong passwords, and for an account that is not active.
        Code::ConstraintViolation => LoginRefused::Account(Locked),
        Code::UnwillingToPerform if diagnostic.to_ascii_lowercase().contains("inactivated") => {
            LoginRefused::Account(Disabled)
        }
        Code::UnwillingToPerform | Code::InsufficentAccessRights => LoginRefused::Account(Restricted),
        Code::StrongerAuthRequired | Code::ConfidentialityRequired => {
            return error(DirectoryErrorKind::RefusesUs, WANTS_TLS);
        }
        Code::Busy | Code::Unavailable => {
            return error(DirectoryErrorKind::Unavailable, "the server cannot check a password now");
        }
        _ => return error(DirectoryErrorKind::Unusable, "the server does not check the password of the person"),
    };
    Ok(Some(refused))
}

/// Judges the answer to the change of a password whose owner has proved it: `None`: it is changed.
pub(super) fn of_change(label: &str, outcome: &Outcome) -> Result<Option<LoginRefused>, DirectoryError> {
    let Outcome { code, diagnostic, referral: _ } = outcome;
    let said =
        || format!("{label}: the new password is not accepted (code {} {code:?}) {diagnostic}", code.clone() as i64);
    let error = |kind, what: &str| {
        let code_number = code.clone() as i64;
        Err(DirectoryError::new(kind, format!("{label}: {what} (code {code_number} {code:?}) {diagnostic}")))
    };
    match code {
        Code::Success => Ok(None),
        // ERROR_INVALID_PASSWORD: it was changed at the same moment.
        Code::ConstraintViolation if diagnostic.to_ascii_lowercase().starts_with("00000056:") => {
            Ok(Some(LoginRefused::WrongPassword))
        }
        Code::InvalidCredentials => Ok(Some(LoginRefused::WrongPassword)),
        Code::ConstraintViolation | Code::UnwillingToPerform => Ok(Some(LoginRefused::NewPassword(said()))),
        Code::InsufficentAccessRights | Code::ConfidentialityRequired | Code::StrongerAuthRequired => {
            error(DirectoryErrorKind::RefusesUs, "people may not change their own passwords; give them that right")
        }
        Code::Busy | Code::Unavailable => {
            error(DirectoryErrorKind::Unavailable, "the server cannot change a password now")
        }
        _ => error(DirectoryErrorKind::Unusable, "the server does not change the password"),
    }
}

/// The objection of the password policy control to an account (draft-behera-ldap-password-policy-10 §6.2).
fn of_policy(policy: PasswordPolicy) -> Option<AccountState> {
    match policy {
        PasswordPolicy { error: Some(1), .. } => Some(Locked),
        PasswordPolicy { error: Some(2), .. } => Some(MustChangePassword),
        PasswordPolicy { error: Some(0), .. }
        | PasswordPolicy { grace_left: Some(_), .. }
        | PasswordPolicy { expired: true, .. } => Some(PasswordExpired),
        PasswordPolicy { error: _, grace_left: None, expired: false } => None,
    }
}

/// The code of Windows in a diagnostic of Active Directory: `… AcceptSecurityContext error, data 52e, v4563`.
fn sub_code(diagnostic: &str) -> Option<u32> {
    let (_, rest) = diagnostic.split_once(", data ")?;
    let end = rest.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(rest.len());
    u32::from_str_radix(rest.get(..end)?, 16).ok()
}

/// The state of the account by the code of Windows; `None`: the name or the password is wrong.
fn of_sub_code(code: u32) -> Option<AccountState> {
    match code {
        // Hours, workstation, an empty password where one is wanted, kinds of logon, and restrictions of other kinds.
        0x530 | 0x531 | 0x52f | 0x534 | 0x568 | 0x569 => Some(Restricted),
        0x532 => Some(PasswordExpired),
        0x533 => Some(Disabled),
        0x701 => Some(Expired),
        0x773 => Some(MustChangePassword),
        0x775 => Some(Locked),
        _ => None,
    }
}

/// Judges the answer to the bind of the gateway itself.
pub(super) fn own_bind(label: &str, name: &str, outcome: &Outcome) -> Result<(), DirectoryError> {
    use DirectoryErrorKind::{RefusesUs, Unavailable, Unusable};
    let Outcome { code, diagnostic, referral: _ } = outcome;
    let (kind, what) = match code {
        Code::Success => return Ok(()),
        Code::InvalidCredentials => {
            let why = match sub_code(diagnostic).and_then(of_sub_code) {
                Some(Disabled) => "its account is disabled",
                Some(Locked) => "its account is locked",
                Some(Expired) => "its account has expired",
                Some(PasswordExpired) => "its password has expired",
                Some(MustChangePassword) => "its password must be changed first",
                Some(Restricted) => "its account may not log in now, or not from here",
                None => "its name or password is wrong",
            };
            (RefusesUs, format!("the server refuses the gateway's bind as `{name}`: {why}"))
        }
        Code::StrongerAuthRequired | Code::ConfidentialityRequired => (RefusesUs, WANTS_TLS.to_owned()),
        Code::Busy | Code::Unavailable => (Unavailable, "the server does not take the gateway's bind now".to_owned()),
        Code::InvalidDNSyntax => (RefusesUs, format!("`{name}`, as which the gateway binds, is no name there")),
        Code::InappropriateAuthentication
        | Code::AuthMethodNotSupported
        | Code::UnwillingToPerform
        | Code::NoSuchObject
        | Code::ConstraintViolation
        | Code::InsufficentAccessRights => (RefusesUs, format!("the server refuses the gateway's bind as `{name}`")),
        _ => (Unusable, format!("the gateway's bind as `{name}` is not answered as it should be")),
    };
    Err(DirectoryError::new(kind, format!("{label}: {what} (code {} {code:?}) {diagnostic}", code.clone() as i64)))
}

#[cfg(test)]
mod tests;
