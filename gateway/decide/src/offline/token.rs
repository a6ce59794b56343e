//! Tokens examined by a policy, without a request.

use std::net::Ipv4Addr;

use http::HeaderMap;
use idm_authn::TokenChecks;
use idm_plan::ObjectKey;
use idm_request::RequestView;
use idm_types::Timestamp;

use super::Hypotheses;
use crate::EngineError;

impl Hypotheses {
    /// Examines a token by a policy; `None` where the policy is not in force. Nothing is remembered of the token, and
    /// no outside server is asked.
    ///
    /// # Errors
    /// The bundle cannot be armed.
    pub fn examine(&self, policy: &ObjectKey, token: &str, now: Timestamp) -> Result<Option<TokenChecks>, EngineError> {
        let offline = self.arm(None)?;
        let armed = offline.engine().armed_policies().find(|armed| armed.plan().key == *policy);
        let headers = HeaderMap::new();
        let view = RequestView {
            headers: &headers,
            query: None,
            method: "GET",
            host: "",
            authority: "",
            secure: true,
            path: "/",
            target: "/",
            forwarded: Default::default(),
            address: Ipv4Addr::LOCALHOST.into(),
            body: None,
            certificate: None,
        };
        let table = offline.armed().credentials().of(&policy.namespace);
        Ok(armed.map(|armed| armed.examine(token, view, table, now)))
    }
}
