//! The stage: the decision by the policies' plan, and keys to play any caller.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use idm_compile::World;
use idm_decide::{Decided, Decision, Offline, Peer};
use idm_jose::SigningKey;
use idm_plan::{FederationKind, KeySource, MethodKind, Plan, Source};
use idm_types::{Algorithm, Refusal, Timestamp};
use serde_json::json;

use super::table::{Caller, Got, Request, Test, TokenCaller};
use crate::explain::source::Prepared;

pub(crate) struct Stage {
    decisions: Offline,
    key: SigningKey,
    plan: Plan,
    world: World,
}

impl Stage {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let Prepared { world, mut compiled, .. } = Prepared::of_folder(folder)?;
        let key = SigningKey::generate(Algorithm::ES256, "policy-test")?;
        replace_keys(&mut compiled.plan, &key);
        let decisions = Offline::arm(&compiled.seal(1), "policy-test")?;
        Ok(Self { decisions, key, plan: compiled.plan, world })
    }

    /// Decides about the request.
    pub(crate) async fn play(&self, test: &Test) -> anyhow::Result<Got> {
        let Request { method, host, path, headers, body } = &test.request;
        let method: Method = method.parse().with_context(|| format!("'{method}' is not a request method"))?;
        let mut request = http::Request::builder().method(method).uri(path).header("host", host);
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(caller) = &test.caller {
            let (name, value) = self.credential(caller)?;
            request = request.header(name, value);
        }
        let request = request.body(Bytes::from(body.clone())).context("the request cannot be sent")?;
        let peer = Peer::plain(Ipv4Addr::LOCALHOST.into());
        let Decision { trace, outcome } = self.decisions.decide(&peer, request, Timestamp::now()).await;
        let policy = trace.policy.and_then(|position| self.decisions.engine().policy(position));
        let got = Got {
            decision: "Permitted",
            policy: policy.map(|policy| policy.key.name.clone()),
            method: trace.authentication.map(|name| name.to_string()),
            rule: trace.authorization.map(|name| name.to_string()),
            ..Got::default()
        };
        Ok(match outcome {
            Ok(Decided::Forward { head, .. }) => Got { upstream: texts(&head.headers), ..got },
            Ok(Decided::Answer(_)) => got,
            Err(Refusal { reason, detail, .. }) => {
                let decision = if reason.is_denial() { "Denied" } else { "Failed" };
                Got { decision, reason: Some(reason.to_string()), detail, ..got }
            }
        })
    }

    /// The header that makes the request the caller's.
    fn credential(&self, caller: &Caller) -> anyhow::Result<(String, String)> {
        let methods = || self.plan.policies.iter().flat_map(|policy| &policy.methods);
        match (&caller.token, &caller.api_key, &caller.password) {
            (Some(TokenCaller { issuer, claims }), None, None) => {
                let known = methods()
                    .filter_map(|method| if let MethodKind::Jwt(jwt) = &method.kind { Some(jwt) } else { None });
                let found = known
                    .flat_map(|jwt| jwt.issuers.iter().map(move |known| (jwt, known)))
                    .find(|(_, known)| known.issuer == *issuer);
                let now = Timestamp::now().seconds();
                let mut all = json!({"iss": issuer, "sub": "test", "iat": now, "exp": now + 300});
                if let Some((_, known)) = found {
                    let of = [("aud", known.audiences.first()), ("client_id", known.client_ids.first())];
                    for (claim, value) in of.into_iter().filter_map(|(claim, value)| Some((claim, value?))) {
                        all[claim] = json!(value);
                    }
                }
                if let Some(members) = all.as_object_mut() {
                    members.extend(claims.clone());
                }
                let typ = found.and_then(|(_, known)| known.types.first().cloned()).unwrap_or_else(|| "JWT".into());
                let token =
                    self.key.sign_with_header(&json!({"alg": "ES256", "typ": typ, "kid": "policy-test"}), &all)?;
                let sources = found.map(|(jwt, _)| jwt.sources.as_slice()).unwrap_or_default();
                Ok(in_header(sources, &token).unwrap_or_else(|| ("authorization".into(), format!("Bearer {token}"))))
            }
            (None, Some(name), None) => {
                let key = self.secret_of(name, "key")?;
                let sources = methods().filter_map(|method| {
                    if let MethodKind::ApiKey(method) = &method.kind { Some(method.sources.as_slice()) } else { None }
                });
                Ok(sources
                    .filter_map(|sources| in_header(sources, &key))
                    .next()
                    .unwrap_or_else(|| ("x-api-key".into(), key.clone())))
            }
            (None, None, Some(name)) => {
                let credential = self.world.credentials.iter().find(|credential| credential.meta.name == *name);
                let username = credential
                    .and_then(|credential| credential.spec.password.as_ref()?.username.clone())
                    .unwrap_or_else(|| name.clone());
                let pair = format!("{username}:{}", self.secret_of(name, "password")?);
                Ok(("authorization".into(), format!("Basic {}", STANDARD.encode(pair))))
            }
            _ => bail!("`as` must have exactly one of `token`, `apiKey`, `password`"),
        }
    }

    fn secret_of(&self, credential: &str, usual: &str) -> anyhow::Result<String> {
        let credential = self
            .world
            .credentials
            .iter()
            .find(|c| c.meta.name == credential)
            .with_context(|| format!("there is no Credential '{credential}'"))?;
        let reference = credential.spec.secret_ref.as_ref().context("the Credential names no Secret")?;
        let value = self
            .world
            .secrets
            .get(&reference.name)
            .and_then(|secret| secret.get(reference.key.as_deref().unwrap_or(usual)));
        Ok(String::from_utf8(value.context("the Credential's Secret has no such key")?.reveal().clone())?
            .trim_end()
            .to_owned())
    }
}

/// The headers by name, several lines of one name in one text.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts.entry(name.to_string()).and_modify(|text| *text += &format!(", {value}")).or_insert(value.into_owned());
    }
    texts
}

fn in_header(sources: &[Source], value: &str) -> Option<(String, String)> {
    sources.iter().find_map(|source| match source {
        Source::Header { name, scheme: Some(scheme) } => Some((name.clone(), format!("{scheme} {value}"))),
        Source::Header { name, scheme: None } => Some((name.clone(), value.to_owned())),
        Source::Cookie { name } => Some(("cookie".into(), format!("{name}={value}"))),
        Source::Query { .. } => None,
    })
}

/// Issuers are trusted by the test's key alone.
fn replace_keys(plan: &mut Plan, key: &SigningKey) {
    for method in plan.policies.iter_mut().flat_map(|policy| &mut policy.methods) {
        if let MethodKind::Jwt(jwt) = &mut method.kind {
            for issuer in &mut jwt.issuers {
                issuer.keys = KeySource::Inline { jwks: key.jwks().to_string() };
                issuer.algorithms = vec![Algorithm::ES256];
                issuer.issued_here = false;
            }
        }
    }
    // No provider is asked: its keys are made here.
    for federation in &mut plan.federations {
        if let FederationKind::Oidc(provider) = &mut federation.kind {
            provider.keys = KeySource::Inline { jwks: key.jwks().to_string() };
            provider.algorithms = vec![Algorithm::ES256];
        }
    }
}
