//! The stage: a gateway with the policies' plan, an echo behind it, and keys to play any caller.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_audit::Follower;
use idm_compile::{Settings, World, compile, missing_secrets, rotated, signing_secret, yaml};
use idm_gateway::source::dir::DirError;
use idm_gateway::{AuditOptions, Gateway, GatewayOptions};
use idm_jose::SigningKey;
use idm_plan::{Backend, BackendProtocol, Bundle, FederationKind, Handler, KeySource, MethodKind, Plan, Source};
use idm_types::{Algorithm, Redacted, Timestamp};
use serde_json::{Value, json};

use super::table::{Caller, Got, Test, TokenCaller};
use crate::{echo, listen, state};

pub(crate) struct Stage {
    gateway: std::sync::Arc<Gateway>,
    audit: std::path::PathBuf,
    key: SigningKey,
    plan: Plan,
    world: World,
    client: reqwest::Client,
}

impl Stage {
    pub(crate) async fn new(folder: &Path) -> anyhow::Result<Self> {
        let files = super::read(folder)?;
        let settings = Settings::of_a_folder(false);
        let (mut world, origins) = yaml::read_files(&files, settings).map_err(DirError::Files)?;
        supply_secrets(&mut world)?;
        let compiled = compile(&world, None);
        let errors: Vec<_> = compiled.report.errors().map(|finding| origins.locate(finding)).collect();
        if !errors.is_empty() {
            return Err(DirError::Files(errors).into());
        }
        let upstream = listen::serve(([127, 0, 0, 1], 0).into(), echo::answer).await?;
        let key = SigningKey::generate(Algorithm::ES256, "policy-test")?;
        let mut plan = compiled.plan;
        replace(&mut plan, &key, upstream);
        let audit = std::env::temp_dir().join(format!(
            "idm-policy-test-{}-{:x}",
            std::process::id(),
            idm_gateway::random_seed()
        ));
        let records = AuditOptions::in_folder(audit.clone(), 256 << 20);
        let listen = ([127, 0, 0, 1], 0).into();
        let options = GatewayOptions { cores: 1, ..GatewayOptions::new("policy-test", listen, records) };
        let gateway = Gateway::start(&options)?;
        gateway.apply(&Bundle::seal(plan.clone(), compiled.secrets, 1)).await?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { gateway, audit, key, plan, world, client })
    }

    pub(crate) async fn stop(&self) {
        self.gateway.stop().await;
        let _ = std::fs::remove_dir_all(&self.audit);
    }

    /// Sends the request and waits for its record.
    pub(crate) async fn play(&self, test: &Test) -> anyhow::Result<Got> {
        let mut follower = Follower::at_end(&self.audit)?;
        let url = format!("http://{}{}", self.gateway.address(), test.request.path);
        let method = test
            .request
            .method
            .parse()
            .with_context(|| format!("'{}' is not a request method", test.request.method))?;
        let mut request =
            self.client.request(method, url).header("host", &test.request.host).body(test.request.body.clone());
        for (name, value) in &test.request.headers {
            request = request.header(name, value);
        }
        if let Some(caller) = &test.caller {
            let (name, value) = self.credential(caller)?;
            request = request.header(name, value);
        }
        let answer = request.send().await?;
        let body: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        let started = Instant::now();
        let record = loop {
            if let Some(line) = follower.next_lines(1)?.into_iter().next() {
                break serde_json::from_str::<Value>(&line)?;
            }
            if started.elapsed() > Duration::from_secs(5) {
                bail!("the gateway wrote no record");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let upstream =
            body.get("headers").and_then(Value::as_object).cloned().filter(|_| record["outcome"] == "Permitted");
        Ok(Got { record, upstream })
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
                    all["aud"] = json!(known.audiences.first());
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

fn in_header(sources: &[Source], value: &str) -> Option<(String, String)> {
    sources.iter().find_map(|source| match source {
        Source::Header { name, scheme: Some(scheme) } => Some((name.clone(), format!("{scheme} {value}"))),
        Source::Header { name, scheme: None } => Some((name.clone(), value.to_owned())),
        Source::Cookie { name } => Some(("cookie".into(), format!("{name}={value}"))),
        Source::Query { .. } => None,
    })
}

/// Keys and passwords are not kept beside policies: those that are missing are made up.
fn supply_secrets(world: &mut World) -> anyhow::Result<()> {
    for missing in missing_secrets(world) {
        let value = Redacted::new(missing.value(&state::new_api_key()?).into_bytes());
        world.secrets.insert(missing.secret.clone(), BTreeMap::from([(missing.field.clone(), value)]));
    }
    for (policy, (name, field)) in
        world.policies.clone().iter().filter_map(|policy| Some((policy, signing_secret(policy)?)))
    {
        if world.secrets.contains_key(&name) {
            continue;
        }
        let keys = rotated(policy, None, Timestamp::now()).context("no signing key can be made")?;
        world.secrets.insert(name, BTreeMap::from([(field, Redacted::new(keys.into_bytes()))]));
    }
    Ok(())
}

/// Issuers are trusted by the test's key alone, and every backend is the echo.
fn replace(plan: &mut Plan, key: &SigningKey, upstream: std::net::SocketAddr) {
    for method in plan.policies.iter_mut().flat_map(|policy| &mut policy.methods) {
        if let MethodKind::Jwt(jwt) = &mut method.kind {
            for issuer in &mut jwt.issuers {
                issuer.keys = KeySource::Inline { jwks: key.jwks().to_string() };
                issuer.algorithms = vec![Algorithm::ES256];
                issuer.issued_here = false;
            }
        }
    }
    // Nobody signs in here, and nothing is asked of a provider.
    for federation in &mut plan.federations {
        if let FederationKind::Oidc(provider) = &mut federation.kind {
            provider.keys = KeySource::Inline { jwks: key.jwks().to_string() };
            provider.algorithms = vec![Algorithm::ES256];
        }
    }
    for rule in &mut plan.rules {
        if let Handler::Enforce { backends, .. } = &mut rule.handler {
            *backends = vec![Backend {
                host: upstream.ip().to_string(),
                port: upstream.port(),
                protocol: BackendProtocol::Http1,
                weight: 1,
                local: true,
            }];
        }
    }
}
