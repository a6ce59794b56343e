//! Changes of passwords that accounts want before they can be used. The directory itself checks the old password, by
//! the same single bind as at a login.

use std::time::Instant;

use idm_plan::{LdapLookup, Protection, escape_dn_value};
use idm_trust::{AccountState, DirectoryError, DirectoryErrorKind, Login, LoginAnswer, LoginRefused, Password};
use ldap3_proto::proto::LdapResultCode;

use super::account;
use super::connection::Connection;
use super::entry::Entry;
use super::message::{NewPassword, Outcome};
use super::reader::Reader;
use super::servers::Servers;
use super::{Ldap, Moment, People};

impl Ldap {
    /// Checks the old password, and replaces it if the account wants that.
    pub(super) async fn replace(
        &self,
        login: &Login,
        new: &Password,
        deadline: Instant,
    ) -> Result<LoginAnswer, DirectoryError> {
        match &self.plan.lookup {
            LdapLookup::Search { bind: _, base, filter, login_attributes } => {
                let people = People { base, filter: filter.as_ref(), login_attributes };
                let mut reader = Reader::of_gateway(&self.servers, &self.referrals, &login.steps, deadline);
                let entry = match self.find(&mut reader, people, login).await? {
                    Ok(entry) => entry,
                    Err(answer) => return Ok(answer),
                };
                let home = reader.goes_home(&entry)?;
                let active_directory = reader.root().await?.active_directory;
                reader.finish().await;
                let servers = home.as_deref().unwrap_or(&self.servers);
                self.bind_then_change(servers, &entry.dn, Some((&entry, active_directory)), login, new, deadline).await
            }
            LdapLookup::Template { before, after, .. } => {
                let name = login.bare.as_ref().unwrap_or(&login.username);
                let name = format!("{before}{}{after}", escape_dn_value(name));
                self.bind_then_change(&self.servers, &name, None, login, new, deadline).await
            }
        }
    }

    /// Binds as the person, once, and changes the password if the answer says that it must be changed. `known` is the
    /// entry, and whether the server is an Active Directory, where the gateway has searched.
    async fn bind_then_change(
        &self,
        servers: &Servers,
        dn: &str,
        known: Option<(&Entry, bool)>,
        login: &Login,
        new: &Password,
        deadline: Instant,
    ) -> Result<LoginAnswer, DirectoryError> {
        let change = NewPassword { dn, old: &login.password, new };
        let (mut connection, outcome, policy) = servers.bind_as(dn, &login.password, &login.steps, deadline).await?;
        let refused = account::of_bind(&connection.label, &outcome, policy)?;
        let state = known.and_then(|(entry, _)| account::state(entry, std::time::SystemTime::now(), Moment::Bound));
        let wants_change = |refused: &LoginRefused| {
            matches!(refused, LoginRefused::Account(AccountState::PasswordExpired | AccountState::MustChangePassword))
        };
        match refused.or(state.map(LoginRefused::Account)) {
            Some(refused) if wants_change(&refused) => {}
            Some(refused) => return closed(connection, LoginAnswer::Refused(refused)).await,
            None => {
                let why = format!("{}: the account does not want its password changed", connection.label);
                return closed(connection, LoginAnswer::Refused(LoginRefused::NewPassword(why))).await;
            }
        }
        match known {
            // Active Directory refuses the bind itself, so the gateway's own connection carries the change. The old
            // value in it proves the old password once more.
            Some((_, true)) => {
                connection.close().await;
                self.by_unicode_pwd(servers, change, login, deadline).await
            }
            _ if outcome.code == LdapResultCode::Success => {
                let changed = connection.change_password(change, false, deadline).await;
                let (outcome, _) = changed.map_err(|fault| connection.error(&fault))?;
                note(login, &connection, dn, &outcome);
                let refused = account::of_change(&connection.label, &outcome);
                connection.close().await;
                refused.map(answer)
            }
            // The connection is bound as no person, and the server lets no person in any more.
            _ => {
                let why = format!("{}: the password has expired, and there is no grace login left", connection.label);
                closed(connection, LoginAnswer::Refused(LoginRefused::NewPassword(why))).await
            }
        }
    }

    async fn by_unicode_pwd(
        &self,
        servers: &Servers,
        change: NewPassword<'_>,
        login: &Login,
        deadline: Instant,
    ) -> Result<LoginAnswer, DirectoryError> {
        let (mut connection, _) = servers.lease(&login.steps, deadline).await?;
        if servers.list().iter().any(|server| server.protection == Protection::Loopback) {
            let why = format!("{}: Active Directory changes passwords over TLS alone", connection.label);
            return Err(DirectoryError::new(DirectoryErrorKind::Unusable, why));
        }
        let changed = connection.change_password(change, true, deadline).await;
        let (outcome, _) = changed.map_err(|fault| {
            servers.forget_idle(connection.server);
            connection.error(&fault)
        })?;
        note(login, &connection, change.dn, &outcome);
        let refused = account::of_change(&connection.label, &outcome)?;
        servers.give_back(connection);
        Ok(answer(refused))
    }
}

fn answer(refused: Option<LoginRefused>) -> LoginAnswer {
    refused.map_or(LoginAnswer::Changed, LoginAnswer::Refused)
}

async fn closed(connection: Connection, answer: LoginAnswer) -> Result<LoginAnswer, DirectoryError> {
    connection.close().await;
    Ok(answer)
}

fn note(login: &Login, connection: &Connection, dn: &str, outcome: &Outcome) {
    let Outcome { code, diagnostic, referral: _ } = outcome;
    let code_number = code.clone() as i64;
    login.steps.note(|| {
        format!("{}: change of the password of `{dn}`: code {code_number} ({code:?}) {diagnostic}", connection.label)
    });
}
