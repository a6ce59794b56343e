//! Token standards against their real issuers, and HTTPS with client certificates, on a real cluster.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use idm_e2e::{Bed, Space, eventually, keycloak_service, refused};
use idm_jose::{SigningKey, to_base64url};
use idm_types::Algorithm;
use serde_json::json;

const REALM: &str = "http://keycloak.idp.svc:8180/realms/shop";

async fn space(name: &str, objects: &str) -> Result<Space> {
    keycloak_service()?;
    let space = Space::new(name)?;
    space.apply(objects)?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    space.wait_ready("identitypolicy", "orders")?;
    Ok(space)
}

fn policy(methods: &str) -> String {
    format!(
        "apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {{name: orders}}\nspec:\n  \
            targetRefs: [{{group: '', kind: Service, name: echo}}]\n  authentication:\n    methods:\n{methods}"
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A DPoP proof; `token` when it goes with one.
fn proof(key: &SigningKey, method: &str, uri: &str, token: Option<&str>) -> Result<String> {
    let mut claims = json!({
        "jti": format!("{:x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), uri)),
        "htm": method, "htu": uri, "iat": now(),
    });
    if let Some(token) = token {
        claims["ath"] = to_base64url(&<sha2::Sha256 as sha2::Digest>::digest(token.as_bytes())).into();
    }
    let jwk = key.public().context("a public key")?.reveal();
    Ok(key.sign_with_header(&json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}), &claims)?)
}

#[tokio::test]
async fn keycloak_is_asked_about_tokens_and_its_bound_tokens_need_their_key() -> Result<()> {
    let bed = Bed::new()?;
    let methods = format!(
        "    - {{name: asked, introspection: {{issuer: '{REALM}', endpoint: \
            '{REALM}/protocol/openid-connect/token/introspect', clientId: orders, clientSecretRef: {{name: idp}}, \
            audiences: [orders], cacheSeconds: 0}}}}\n    identity: {{username: token.username}}\n"
    );
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: orders-secret}\n---\n";
    let space = space("e2e-standards", &format!("{secret}{}", policy(&methods))).await?;
    let token = bed.token("writer").await?;
    let bearer = format!("Bearer {token}");
    let answer = eventually("the token is accepted", async || {
        let answer = space.send("GET", "/asked", &[("authorization", &bearer)]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    })
    .await?;
    ensure!(answer.body["headers"]["x-authenticated-userid"] == "service-account-writer", "{answer:?}");

    // Revoked at Keycloak: refused here at once, for nothing is kept with `cacheSeconds: 0`.
    bed.revoke("writer", &token).await?;
    let before = space.seen_upstream("/asked")?;
    let answer = space.send("GET", "/asked", &[("authorization", &bearer)]).await?;
    ensure!(bed.record(&refused(&answer, 401)?).await?["reason"] == "TokenInactive", "{answer:?}");
    ensure!(space.seen_upstream("/asked")? == before, "a refused request reached the upstream");

    // Bound tokens, checked without asking.
    let methods = format!(
        "    - {{name: bound, jwt: {{issuers: [{{issuer: '{REALM}', audiences: [orders], keys: {{discovery: \
            {{}}}}}}], confirmation: {{dpop: Required}}}}}}\n    identity: {{username: token.preferred_username}}\n"
    );
    space.apply(&policy(&methods))?;
    space.wait_ready("identitypolicy", "orders")?;
    let (key, thief) = (SigningKey::generate(Algorithm::ES256, "k")?, SigningKey::generate(Algorithm::ES256, "t")?);
    let token = bed.bound_token("writer", &proof(&key, "POST", &bed.token_endpoint(), None)?).await?;
    let scheme = format!("DPoP {token}");
    let target = format!("http://{}/bound", space.gateway()?);
    let good = eventually("the bound token is accepted", async || {
        let proof = proof(&key, "GET", &target, Some(&token))?;
        let answer = space.send("GET", "/bound", &[("authorization", &scheme), ("dpop", &proof)]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    })
    .await?;
    ensure!(good.body["headers"]["dpop"].is_null() && good.body["headers"]["authorization"].is_null(), "{good:?}");
    let before = space.seen_upstream("/bound")?;
    for (scheme, proof, reason) in [
        (&scheme, proof(&thief, "GET", &target, Some(&token))?, "InvalidProof"),
        (&scheme, proof(&key, "POST", &target, Some(&token))?, "InvalidProof"),
        (&format!("Bearer {token}"), proof(&key, "GET", &target, Some(&token))?, "TokenNotBound"),
        (&format!("Bearer {}", bed.token("writer").await?), proof(&key, "GET", &target, None)?, "TokenNotBound"),
    ] {
        let answer = space.send("GET", "/bound", &[("authorization", scheme), ("dpop", &proof)]).await?;
        let record = bed.record(&refused(&answer, 401)?).await?;
        ensure!(record["reason"] == reason, "{reason}: {record}");
    }
    ensure!(space.seen_upstream("/bound")? == before, "a refused request reached the upstream");
    space.delete()
}

#[tokio::test]
async fn keycloak_gives_the_upstream_a_narrower_token_in_exchange() -> Result<()> {
    let bed = Bed::new()?;
    let methods = format!(
        "    - {{name: people, jwt: {{issuers: [{{issuer: '{REALM}', audiences: [orders], \
         keys: {{discovery: {{}}}}}}]}}}}\n"
    );
    let exchange = |audience: &str| {
        format!(
            "  upstream: {{tokenExchange: {{endpoint: '{REALM}/protocol/openid-connect/token', clientId: orders, \
                clientSecretRef: {{name: idp}}, audience: {audience}}}}}\n"
        )
    };
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: orders-secret}\n---\n";
    let space = space("e2e-exchange", &format!("{secret}{}{}", policy(&methods), exchange("billing"))).await?;
    let token = bed.token("writer").await?;
    let bearer = format!("Bearer {token}");
    let answer = eventually("the token is exchanged", async || {
        let answer = space.send("GET", "/exchanged", &[("authorization", &bearer)]).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer)
    })
    .await?;
    let given = answer.body["headers"]["authorization"]
        .as_str()
        .and_then(|text| text.strip_prefix("Bearer "))
        .context("the upstream's own token")?;
    let claims = idm_jose::base64url(given.split('.').nth(1).context("a JWT")?).context("base64url")?;
    let claims: serde_json::Value = serde_json::from_slice(&claims)?;
    ensure!(
        given != token
            && claims["aud"] == "billing"
            && claims["azp"] == "orders"
            && claims["preferred_username"] == "service-account-writer",
        "{claims}"
    );

    space.apply(&format!("{}{}", policy(&methods), exchange("payroll")))?;
    let refusal = eventually("the new policy is in force", async || {
        let answer = space.send("GET", "/other", &[("authorization", &bearer)]).await?;
        ensure!(answer.status == 403, "{answer:?}");
        Ok(answer)
    })
    .await?;
    space.wait_ready("identitypolicy", "orders")?;
    let before = space.seen_upstream("/other")?;
    ensure!(bed.record(&refused(&refusal, 403)?).await?["reason"] == "TokenExchangeRefused", "{refusal:?}");
    ensure!(
        refused(&space.send("GET", "/other", &[("authorization", &bearer)]).await?, 403).is_ok()
            && space.seen_upstream("/other")? == before,
        "something went on"
    );
    space.delete()
}

fn openssl(dir: &Path, arguments: &str) -> Result<()> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output()?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn https_with_client_certificates_is_served_and_a_new_authority_is_in_force_at_once() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("idm-e2e-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["servers", "devices", "others"] {
        openssl(&dir, &format!("req -x509 {ec} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"))?;
    }
    for (name, ca, alternative, usage) in [
        ("api.example", "servers", "DNS:api.example", "serverAuth"),
        ("device", "devices", "URI:spiffe://shop/7", "clientAuth"),
    ] {
        openssl(
            &dir,
            &format!(
                "req {ec} -keyout {name}.key -out {name}.csr -subj /CN={name} -addext subjectAltName={alternative} \
                 -addext extendedKeyUsage={usage}"
            ),
        )?;
        openssl(
            &dir,
            &format!(
                "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days 2 -copy_extensions copy \
                 -out {name}.crt"
            ),
        )?;
    }
    let path = |file: &str| dir.join(file).to_string_lossy().into_owned();
    let bundle = |space: &Space, ca: &str| -> Result<()> {
        let yaml = space.kubectl(&[
            "create",
            "secret",
            "generic",
            "ca",
            &format!("--from-file=ca.crt={}", path(&format!("{ca}.crt"))),
            "--dry-run=client",
            "-o",
            "yaml",
        ])?;
        space.apply(&yaml).map(drop)
    };
    let gateway = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\n\
        spec: {gatewayClassName: idm, listeners: [{name: https, port: 443, protocol: HTTPS, hostname: api.example, \
        tls: {certificateRefs: [{name: server}]}}]}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
        metadata: {name: api}\nspec: {parentRefs: [{name: edge}], hostnames: [api.example], rules: [{backendRefs: \
        [{name: echo, port: 80}]}]}\n";
    let methods = "    - {name: devices, mtls: {trustBundleRef: {name: ca}, identity: URI}}\n";
    let policy = policy(methods).replace(
        "{group: '', kind: Service, name: echo}",
        "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: api}",
    );
    let space = Space::new("e2e-tls")?;
    space.kubectl(&[
        "create",
        "secret",
        "tls",
        "server",
        &format!("--cert={}", path("api.example.crt")),
        &format!("--key={}", path("api.example.key")),
    ])?;
    bundle(&space, "devices")?;
    space.apply(&format!("{policy}{gateway}"))?;
    space.kubectl(&["rollout", "status", "deployment/echo", "--timeout=90s"])?;
    space.wait_ready("identitypolicy", "orders")?;

    let identity = reqwest::Identity::from_pem(
        &[std::fs::read(path("device.crt"))?, std::fs::read(path("device.key"))?].concat(),
    )?;
    let client = |with: bool| -> Result<reqwest::Client> {
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().pool_max_idle_per_host(0);
        let builder = builder
            .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(path("servers.crt"))?)?])
            .resolve("api.example", (space.gateway()?, 443).into());
        Ok(if with { builder.identity(identity.clone()).build()? } else { builder.build()? })
    };
    let get = async |with: bool| -> Result<(u16, serde_json::Value)> {
        let answer = client(with)?.get("https://api.example/tls").send().await?;
        Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?).unwrap_or_default()))
    };
    let body = eventually("the device is let in", async || {
        let (status, body) = get(true).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(body)
    })
    .await?;
    let headers = &body["headers"];
    ensure!(
        headers["x-authenticated-userid"] == "spiffe://shop/7" && headers["x-forwarded-proto"] == "https",
        "{body}"
    );
    ensure!(get(false).await?.0 == 401, "without a certificate there is no caller");
    // The route was attached to the HTTPS listener alone: nothing listens in the clear.
    ensure!(
        space.object("service", "idm-gateway-edge")?["spec"]["ports"].as_array().is_some_and(|ports| ports.len() == 1),
        "only HTTPS is exposed"
    );

    bundle(&space, "others")?;
    eventually("the old authority is gone", async || Ok(ensure!(get(true).await.is_err(), "still let in"))).await?;
    std::fs::remove_dir_all(&dir)?;
    space.delete()
}
