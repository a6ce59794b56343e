//! Revocation (RFC 7009) and introspection (RFC 7662) of tokens that were issued here.

use idm_authn::{KnownClient, is_revoked, token_key};
use idm_jose::Claims;
use idm_request::IssuedTo;
use idm_types::{Reason, Timestamp};
use serde_json::{Value, json};

use crate::form::Form;
use crate::refresh::{Family, split};
use crate::{Answered, Ask, Refused, TokenIssuer};

impl TokenIssuer {
    /// RFC 7009 §2: an unknown token counts as revoked.
    pub(crate) async fn revoke(
        &self,
        form: &Form,
        client: &KnownClient<'_>,
        ask: Ask<'_>,
    ) -> Result<Answered, Refused> {
        let token = form.wanted("token")?.reveal();
        let of_another = || Refused::new(Reason::GrantNotAllowed, "the token was issued to another client");
        if let Some((name, _)) = split(token) {
            if let Some((family, _)) = self.family(name, ask).await? {
                if family.client != client.plan.client_id {
                    return Err(of_another());
                }
                self.end(name, ask).await?;
            }
        } else if let Some(verified) = self.keys.verify_at_any_time(token, &self.plan.issuer, &self.plan.audiences) {
            let claims = verified.claims();
            if claims.text("client_id") != Some(client.plan.client_id.as_str()) {
                return Err(of_another());
            }
            let key = token_key(&self.plan.issuer, claims.text("jti").unwrap_or_default());
            // Beyond its end, for policies that tolerate clocks that differ.
            let until = Timestamp::from_seconds(verified.expires().seconds().saturating_add(600));
            ask.policy.store().revoke(&key, until, ask.now).await?;
        }
        Ok(Answered::default())
    }

    /// Whether client and user of a family are still admitted. A directory that does not answer is an error: nothing
    /// follows from that about the user.
    async fn family_stands(&self, family: &Family, ask: Ask<'_>) -> Result<bool, Refused> {
        let user = match self.user_again(&family.user, ask).await {
            Ok(user) => user,
            Err(refusal) if refusal.reason.status() >= 500 => return Err(refusal.into()),
            Err(_) => return Ok(false),
        };
        let who = user.identity();
        let (subject, directory) = match &who.directory {
            Some(person) => (person.id.clone(), who.issuer.clone()),
            None => (who.username.clone(), None),
        };
        let to = IssuedTo { client: family.client.clone(), subject, directory };
        Ok(ask.policy.issued_token_stands(&to, ask.credentials, ask.now))
    }

    /// RFC 7662 §2. About a token that the client may not introspect, it learns only that it is not active.
    pub(crate) async fn introspect(
        &self,
        form: &Form,
        client: &KnownClient<'_>,
        ask: Ask<'_>,
    ) -> Result<Answered, Refused> {
        let token = form.wanted("token")?.reveal();
        // The Credential of the client or of the user may have ended since the token was issued.
        let stands = |claims: &Claims| {
            let (client, subject) = (claims.text("client_id"), claims.text("sub"));
            client.zip(subject).is_some_and(|(client, subject)| {
                let directory = claims.text("idp").map(str::to_owned);
                let to = IssuedTo { client: client.to_owned(), subject: subject.to_owned(), directory };
                ask.policy.issued_token_stands(&to, ask.credentials, ask.now)
            })
        };
        let own = |id: Option<&str>| client.plan.introspects_all || id == Some(client.plan.client_id.as_str());
        let body = if let Some((name, _)) = split(token) {
            let family =
                self.family(name, ask).await?.map(|(family, _)| family).filter(|family| own(Some(&family.client)));
            let family = match family {
                Some(family) if self.family_stands(&family, ask).await? => Some(family),
                _ => None,
            };
            family.map(|family| {
                json!({"active": true, "client_id": family.client, "scope": family.scopes.join(" "),
                "exp": family.until / 1000, "iss": self.plan.issuer})
            })
        } else {
            match self.keys.verify(token, &self.plan.issuer, &self.plan.audiences, ask.now) {
                Some(verified)
                    if own(verified.claims().text("client_id"))
                        && stands(verified.claims())
                        && !self.is_over(verified.claims().text("jti"), ask)? =>
                {
                    let mut members = verified.into_claims().members().clone();
                    let bound = members.get("cnf").is_some_and(|cnf| cnf.get("jkt").is_some());
                    members.insert("active".into(), true.into());
                    members.insert("token_type".into(), if bound { "DPoP" } else { "Bearer" }.into());
                    Some(Value::Object(members))
                }
                _ => None,
            }
        };
        Ok(Answered { body: Some(body.unwrap_or_else(|| json!({"active": false}))), ..Answered::default() })
    }

    fn is_over(&self, jti: Option<&str>, ask: Ask<'_>) -> Result<bool, Refused> {
        let Some(jti) = jti else { return Ok(true) };
        let revoked = is_revoked(ask.policy.store(), &self.plan.issuer, jti, ask.now);
        revoked.map_err(|stale| Refused::new(Reason::StoreUnavailable, stale.to_string()))
    }
}
