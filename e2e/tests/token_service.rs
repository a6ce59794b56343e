//! The token service on a real cluster: keys and secrets that the operator makes, pods that share a Redis, rotation.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_e2e::{Bed, Space, eventually, refused};
use serde_json::Value;

const OBJECTS: &str = "
apiVersion: identity-manager.io/v1alpha1
kind: IdentityPolicy
metadata: {name: orders}
spec:
  targetRefs: [{group: '', kind: Service, name: echo}]
  authentication:
    methods:
    - {name: own, jwt: {issuers: [{tokenServiceRef: {name: orders}, audiences: [orders]}], clockSkewSeconds: 0}}
  tokenService:
    issuer: https://shop.example/oauth
    audiences: [orders]
    grants: [ClientCredentials, RefreshToken, DangerPassword]
    signing: {algorithm: ES256, publishAheadSeconds: 5}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: reports}
spec:
  oauthClient: {clientSecret: {}, scopes: [orders.read], grants: [ClientCredentials, RefreshToken, DangerPassword]}
  secretRef: {name: reports-client}
---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: ana}
spec: {password: {}, roles: [order-reader], secretRef: {name: ana-password}}
";

struct Shop {
    space: Space,
    secret: String,
    password: String,
}

impl Shop {
    async fn new(name: &str) -> Result<Self> {
        let space = Space::new(name)?;
        space.apply(OBJECTS)?;
        space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
        space.wait_ready("identitypolicy", "orders")?;
        let value = |secret: &str, key: &str| -> Result<String> {
            let encoded = space.object("secret", secret)?["data"][key].as_str().context("no such key")?.to_owned();
            Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
        };
        let (secret, password) = (value("reports-client", "clientSecret")?, value("ana-password", "password")?);
        let shop = Self { space, secret, password };
        eventually("both pods issue tokens", async || {
            ensure!(
                shop.space.object("deployment", "idm-gateway")?["status"]["readyReplicas"] == 2,
                "not both are ready"
            );
            for _ in 0..10 {
                shop.token("grant_type=client_credentials").await?;
            }
            Ok(())
        })
        .await?;
        Ok(shop)
    }

    async fn form(&self, path: &str, form: &str) -> Result<idm_e2e::Answer> {
        self.space.send_form(path, ("reports", &self.secret), form).await
    }

    async fn token(&self, form: &str) -> Result<Value> {
        let answer = self.form("/oauth/token", form).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.body)
    }

    async fn call(&self, token: &str) -> Result<idm_e2e::Answer> {
        self.space.send("GET", "/orders", &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// Every pod behind the Service answers like this, as far as twenty connections tell.
    async fn all(&self, token: &str, status: u16) -> Result<()> {
        for _ in 0..20 {
            let answer = self.call(token).await?;
            ensure!(answer.status == status, "{answer:?}");
        }
        Ok(())
    }

    async fn kids(&self) -> Result<Vec<String>> {
        let keys = self.space.send("GET", "/oauth/.well-known/jwks.json", &[]).await?.body;
        Ok(keys["keys"]
            .as_array()
            .context("no keys")?
            .iter()
            .filter_map(|key| Some(key["kid"].as_str()?.to_owned()))
            .collect())
    }
}

fn text(answer: &Value, name: &str) -> Result<String> {
    Ok(answer[name].as_str().with_context(|| format!("no {name}: {answer}"))?.to_owned())
}

fn kid(token: &str) -> Result<String> {
    let header = idm_jose::base64url(token.split('.').next().unwrap_or_default()).context("a header")?;
    text(&serde_json::from_slice(&header)?, "kid")
}

#[tokio::test]
async fn pods_share_refresh_tokens_and_revocations() -> Result<()> {
    let (bed, shop) = (Bed::new()?, Shop::new("e2e-issue").await?);
    let token = text(&shop.token("grant_type=client_credentials&scope=orders.read").await?, "access_token")?;
    shop.all(&token, 200).await?;
    let revoked = Instant::now();
    ensure!(shop.form("/oauth/revoke", &format!("token={token}")).await?.status == 200, "not revoked");
    eventually("the token is refused by every pod", async || shop.all(&token, 401).await).await?;
    println!("a revoked token was refused by every pod {} ms after the request", revoked.elapsed().as_millis());
    let before = shop.space.seen_upstream("/orders")?;
    let answer = shop.call(&token).await?;
    ensure!(bed.record(&refused(&answer, 401)?).await?["reason"] == "TokenRevoked", "{answer:?}");
    ensure!(shop.space.seen_upstream("/orders")? == before, "a refused request reached the upstream");

    // A chain of refreshes over both pods; the reuse of its first link ends all of it.
    let mut answer = shop.token(&format!("grant_type=password&username=ana&password={}", shop.password)).await?;
    let first = text(&answer, "refresh_token")?;
    for _ in 0..8 {
        answer =
            shop.token(&format!("grant_type=refresh_token&refresh_token={}", text(&answer, "refresh_token")?)).await?;
    }
    let last = text(&answer, "access_token")?;
    shop.all(&last, 200).await?;
    let reused = shop.form("/oauth/token", &format!("grant_type=refresh_token&refresh_token={first}")).await?;
    let record = bed.record(&refused(&reused, 400)?).await?;
    ensure!(record["reason"] == "RefreshTokenReused" && reused.body["error"] == "invalid_grant", "{record}");
    eventually("its access tokens are refused", async || shop.all(&last, 401).await).await?;
    let records = bed.records(serde_json::json!({"term": {"issued.grant": "refresh_token"}})).await?;
    ensure!(records.iter().any(|record| record["issued"]["subject"] == "ana"), "issued tokens are on record");
    shop.space.delete()
}

#[tokio::test]
async fn keys_are_replaced_without_a_refused_token() -> Result<()> {
    let shop = Shop::new("e2e-rotate").await?;
    let before = shop.kids().await?;
    ensure!(before.len() == 1, "{before:?}");
    let old = text(&shop.token("grant_type=client_credentials").await?, "access_token")?;
    let now =
        String::from_utf8(std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output()?.stdout)?;
    shop.space.kubectl(&[
        "annotate",
        "identitypolicy",
        "orders",
        &format!("identity-manager.io/rotate={}", now.trim()),
    ])?;
    let both = eventually("the new key is published", async || {
        let kids = shop.kids().await?;
        ensure!(kids.len() == 2, "{kids:?}");
        Ok(kids)
    })
    .await?;
    let new = both.iter().find(|kid| !before.contains(kid)).context("a new key")?.clone();
    // Tokens of both keys, all the way through the change, on whichever pod.
    let mut signed_by_old = 0;
    let start = Instant::now();
    loop {
        let token = text(&shop.token("grant_type=client_credentials").await?, "access_token")?;
        for token in [&token, &old] {
            let answer = shop.call(token).await?;
            ensure!(answer.status == 200, "a good token was refused: {answer:?}");
        }
        if kid(&token)? == new {
            break;
        }
        signed_by_old += 1;
        ensure!(start.elapsed() < Duration::from_secs(60), "the new key does not sign");
    }
    ensure!(signed_by_old > 0, "the new key signed before it was published everywhere");
    let status = shop.space.object("identitypolicy", "orders")?;
    let told = status["status"]["signingKeys"].as_array().context("the keys are in the status")?;
    ensure!(told.len() == 2 && told[1]["kid"] == new.as_str() && told[0]["publishedUntil"].is_string(), "{told:?}");
    // A reader of policies does not read keys.
    let secret = shop.space.object("secret", "idm-signing-keys")?;
    ensure!(secret["metadata"]["ownerReferences"][0]["name"] == "orders", "{}", secret["metadata"]);
    let status = shop.space.kubectl(&["get", "identitypolicy,credential,event", "-o", "yaml"])?;
    for planted in [&shop.secret, &shop.password, &old] {
        ensure!(!status.contains(planted.as_str()), "a secret is in status or events");
    }
    shop.space.delete()
}
