//! The endpoints of a provider (OpenID Connect Discovery §3, RFC 8414).

use idm_trust::OutboundRequest;
use idm_types::Refusal;
use std::sync::Arc;
use std::time::Duration;

use idm_jose::parse_document;
use idm_plan::ProviderEndpoints;
use serde_json::{Map, Value};
use url::Url;

use super::Provider;

/// The age at which a document is fetched again.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// The endpoints and properties of a provider.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) authorization: String,
    pub(super) token: String,
    pub(super) userinfo: Option<String>,
    pub(super) end_session: Option<String>,
    pub(super) pushed: Option<String>,
    /// The provider adds `iss` to its responses (RFC 9207): then a response without it is not accepted.
    pub(super) names_itself: bool,
}

impl Provider {
    /// The endpoints; a document that cannot be read again stays in force. Read once, however many need it.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, Refusal> {
        self.metadata.get(FRESH, self.read()).await
    }

    async fn read(&self) -> Result<Metadata, Refusal> {
        let document = match &self.oidc.discovery {
            None => Map::new(),
            Some(url) => {
                let text = self.http.ask(OutboundRequest::document(url)).await.map_err(super::no_answer)?;
                let Ok(Value::Object(document)) = parse_document(&text) else {
                    return Err(super::unavailable(format!("{url} is not a JSON object that names each member once")));
                };
                // Discovery §4.3: a document that names another issuer would lead its clients there.
                if document.get("issuer").and_then(Value::as_str) != Some(&self.oidc.issuer) {
                    return Err(super::untrusted(format!("{url} does not speak of the issuer `{}`", self.oidc.issuer)));
                }
                document
            }
        };
        self.endpoints(&document)
    }

    fn endpoints(&self, document: &Map<String, Value>) -> Result<Metadata, Refusal> {
        let ProviderEndpoints { authorization, token, userinfo, end_session, pushed_authorization } =
            &self.oidc.endpoints;
        let find = |written: &Option<String>, name: &str| -> Result<Option<String>, Refusal> {
            let Some(found) = written.clone().or_else(|| document.get(name).and_then(Value::as_str).map(str::to_owned))
            else {
                return Ok(None);
            };
            // Browsers are sent there: nothing but a web address.
            let is_web = Url::parse(&found)
                .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.fragment().is_none());
            if !is_web {
                return Err(super::untrusted(format!("`{name}` of the provider is not a web address")));
            }
            // Codes, tokens and people's passwords travel there: the rules are those of every URL.
            self.http.check(&found).map_err(|why| super::untrusted(format!("`{name}` of the provider: {why}")))?;
            Ok(Some(found))
        };
        let missing = |name: &str| super::unavailable(format!("the provider names no `{name}`"));
        Ok(Metadata {
            authorization: find(authorization, "authorization_endpoint")?
                .ok_or_else(|| missing("authorization_endpoint"))?,
            token: find(token, "token_endpoint")?.ok_or_else(|| missing("token_endpoint"))?,
            userinfo: find(userinfo, "userinfo_endpoint")?.filter(|_| self.oidc.userinfo),
            end_session: find(end_session, "end_session_endpoint")?,
            pushed: find(pushed_authorization, "pushed_authorization_request_endpoint")?,
            names_itself: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
        })
    }
}
