//! The grants: the tokens that each client may get.

use std::rc::Rc;

use idm_authn::KnownClient;
use idm_plan::TokenGrant;
use idm_request::Identity;
use idm_types::{Reason, Refusal};
use serde_json::{Map, Value};

use crate::form::Form;
use crate::mint::Token;
use crate::refresh::{Family, FamilyUser};
use crate::{Answered, Ask, Issued, Refused, TokenIssuer};

impl TokenIssuer {
    /// RFC 6749 §3.2.
    pub(crate) async fn token(&self, form: &Form, client: &KnownClient<'_>, ask: Ask<'_>) -> Result<Answered, Refused> {
        let named = form.wanted("grant_type")?.reveal();
        let grant = TokenGrant::from_name(named).filter(|grant| self.plan.grants.contains(grant));
        let grant = grant.ok_or_else(|| {
            Refused::new(Reason::UnsupportedGrant, format!("`{}`", named.chars().take(128).collect::<String>()))
        })?;
        if !client.plan.grants.contains(&grant) {
            return Err(Refused::new(
                Reason::GrantNotAllowed,
                format!("client `{}`, grant `{}`", client.plan.client_id, grant.name()),
            ));
        }
        let dpop = self.clients.proof_key(ask.for_clients()).await?;
        if grant == TokenGrant::RefreshToken {
            return self.refresh(form, client, dpop, ask).await;
        }
        let scopes = self.scopes(form, &client.plan.scopes)?;
        let audiences = self.audiences(form, client, None)?;
        let subject = match grant {
            TokenGrant::Password => self.user(form, ask).await?,
            _ => client.who.identity().clone(),
        };
        let begins = grant == TokenGrant::Password
            && self.plan.grants.contains(&TokenGrant::RefreshToken)
            && client.plan.grants.contains(&TokenGrant::RefreshToken);
        let refresh = if begins {
            let user = FamilyUser::of(&subject);
            Some(self.begin(Family::new(client, user, &scopes, &audiences, dpop.clone()), ask).await?)
        } else {
            None
        };
        let (family, refresh) = refresh.map_or((None, None), |(family, token)| (Some(family), Some(token)));
        self.issue(grant, Granted { client, subject, scopes, audiences, dpop, family, refresh }, ask)
    }

    async fn user(&self, form: &Form, ask: Ask<'_>) -> Result<Rc<Identity>, Refused> {
        let username = form.wanted("username")?.reveal().clone();
        let password = form.wanted("password")?.clone();
        let user = self.clients.user(ask.for_clients(), &username, password).await;
        user.map(|user| user.identity().clone()).map_err(|denied| of_user(denied.into()))
    }

    /// The requested scopes, if the client may have them; all of its scopes when none is requested (RFC 6749 §3.3).
    pub(crate) fn scopes(&self, form: &Form, allowed: &[String]) -> Result<Vec<String>, Refused> {
        let Some(asked) = form.text("scope") else { return Ok(allowed.to_vec()) };
        let mut scopes: Vec<String> = Vec::new();
        for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
            if !allowed.iter().any(|known| known == scope) {
                return Err(Refused::new(
                    Reason::ScopeNotAllowed,
                    format!("`{}`", scope.chars().take(128).collect::<String>()),
                ));
            }
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        Ok(scopes)
    }

    /// The requested audiences, if the client may have them; all of its audiences when none is requested (RFC 8707 §2).
    pub(crate) fn audiences(
        &self,
        form: &Form,
        client: &KnownClient<'_>,
        granted: Option<&[String]>,
    ) -> Result<Vec<String>, Refused> {
        let of_client = client.plan.audiences.as_ref();
        let may = |audience: &&String| {
            of_client.is_none_or(|own| own.contains(audience))
                && granted.is_none_or(|granted| granted.contains(audience))
        };
        let allowed: Vec<String> = self.plan.audiences.iter().filter(may).cloned().collect();
        if let Some(wrong) = form.audiences.iter().find(|asked| !allowed.contains(asked)) {
            return Err(Refused::new(
                Reason::AudienceNotAllowed,
                format!("`{}`", wrong.chars().take(128).collect::<String>()),
            ));
        }
        let audiences = if form.audiences.is_empty() { allowed } else { form.audiences.clone() };
        if audiences.is_empty() {
            return Err(Refused::new(Reason::AudienceNotAllowed, "service and client have no audience in common"));
        }
        Ok(audiences)
    }

    /// The answer of RFC 6749 §5.1.
    pub(crate) fn issue(&self, grant: TokenGrant, granted: Granted<'_>, ask: Ask<'_>) -> Result<Answered, Refused> {
        let Granted { client, subject, scopes, audiences, dpop, family, refresh } = granted;
        let lifetime_seconds = client.plan.lifetime_seconds.unwrap_or(self.plan.lifetime_seconds);
        let certificate = client.certificate.as_deref();
        let token = Token {
            client: &client.plan.client_id,
            subject: &subject,
            scopes: &scopes,
            audiences: &audiences,
            lifetime_seconds,
            dpop: dpop.as_deref(),
            certificate,
            family: family.as_deref(),
        };
        let (token, id) = self.mint(token, ask)?;
        let members: [(&str, Option<Value>); 5] = [
            ("access_token", Some(token.into())),
            ("token_type", Some(if dpop.is_some() { "DPoP" } else { "Bearer" }.into())),
            ("expires_in", Some(lifetime_seconds.into())),
            ("scope", Some(scopes.join(" ").into())),
            ("refresh_token", refresh.map(Value::from)),
        ];
        let body: Map<String, Value> =
            members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let issued =
            Issued { grant: grant.name(), subject: subject.username.clone(), id, scopes, audiences, lifetime_seconds };
        Ok(Answered { body: Some(body.into()), issued: Some(issued), ..Answered::default() })
    }
}

/// The result of a grant: client, subject, scopes and audiences to issue for.
pub(crate) struct Granted<'g> {
    pub(crate) client: &'g KnownClient<'g>,
    pub(crate) subject: Rc<Identity>,
    pub(crate) scopes: Vec<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) dpop: Option<String>,
    pub(crate) family: Option<String>,
    pub(crate) refresh: Option<String>,
}

/// A user who is refused makes the grant invalid; a check that could not be performed does not.
pub(crate) fn of_user(refused: Refused) -> Refused {
    match refused.refusal.reason {
        Reason::TooManyAttempts | Reason::CredentialBlocked => refused,
        reason if reason.status() >= 500 => refused,
        reason => {
            let detail = format!("{reason}: {}", refused.refusal.detail);
            Refused { refusal: Refusal { reason: Reason::InvalidGrant, detail, ..refused.refusal }, ..refused }
        }
    }
}
