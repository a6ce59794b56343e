use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idm_jose::SigningKey;
use serde_json::{Map, Value, json};

use crate::http::{Asked, Said, encoded, serve};
use crate::now;

/// The behaviour of a provider. Patches change members; `null` removes one.
#[derive(Clone)]
pub struct Script {
    /// The subject who signs in.
    pub subject: String,
    /// Changes the claims of id tokens.
    pub claims: Value,
    /// Changes the answer of the userinfo endpoint.
    pub userinfo: Value,
    /// Changes the configuration document.
    pub metadata: Value,
    /// Changes the answer of the token endpoint.
    pub answer: Value,
    /// Changes the parameters of the redirect back to the gateway.
    pub back: Value,
    /// Signs with this key instead of the published one.
    pub signer: Option<Arc<SigningKey>>,
    /// Changes the signed token.
    pub mangle: fn(String) -> String,
    /// Serves this instead of its keys.
    pub jwks: Option<String>,
    /// The status of the token endpoint.
    pub token_status: u16,
    /// The error that it answers with another status than 200.
    pub token_error: &'static str,
    /// The delay of the token endpoint.
    pub delay: Duration,
    /// The lifetime of access tokens, in seconds.
    pub lifetime: u64,
    /// Every endpoint answers 500.
    pub down: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            subject: "ana".into(),
            claims: json!({}),
            userinfo: json!({}),
            metadata: json!({}),
            answer: json!({}),
            back: json!({}),
            signer: None,
            mangle: |token| token,
            jwks: None,
            token_status: 200,
            token_error: "invalid_grant",
            delay: Duration::ZERO,
            lifetime: 300,
            down: false,
        }
    }
}

struct Grant {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

#[derive(Default)]
struct Inside {
    script: Script,
    grants: BTreeMap<String, Grant>,
    refresh: Vec<String>,
    pushed: BTreeMap<String, BTreeMap<String, String>>,
    asked: Vec<Asked>,
    count: u64,
}

/// An OpenID provider that follows the specification, or its [`Script`]. Its client is `shop` with the secret
/// `planted-client-secret`.
#[derive(Clone)]
pub struct Provider {
    /// The address that it listens on.
    pub address: SocketAddr,
    key: Arc<SigningKey>,
    inside: Arc<Mutex<Inside>>,
}

/// The secret of its client.
pub const CLIENT_SECRET: &str = "planted-client-secret-4711";

/// The password of whoever [`Script::subject`] names.
pub const PASSWORD_OF_ALL: &str = "canary-provider-password";

fn patch(target: &mut Value, change: &Value) {
    for (name, value) in change.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(target.as_object_mut().expect("an object").remove(name)),
            value => target[name] = value.clone(),
        }
    }
}

impl Provider {
    /// A provider that follows the specification, and signs with this key.
    pub fn new(key: SigningKey) -> Self {
        let (key, inside) = (Arc::new(key), Arc::new(Mutex::new(Inside::default())));
        let (shared, signer) = (inside.clone(), key.clone());
        let here = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
        let known = here.clone();
        let address = serve(move |asked| {
            let address = *known.wait();
            answer(address, &signer, &shared, asked)
        });
        here.set(address).expect("once");
        Self { address, key, inside }
    }

    /// The exact `iss`.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Changes its behaviour.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.inside.lock().expect("no panic inside").script);
    }

    /// Restores the correct behaviour.
    pub fn behave(&self) {
        self.script(|script| *script = Script::default());
    }

    /// The requests that arrived at this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.inside.lock().expect("no panic inside").asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// A Federation for it, as YAML, with further members of `oidc.client`.
    pub fn federation(&self, name: &str, more: &str) -> String {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\n\
                metadata: {{name: {name}, uid: uid-{name}}}\nspec:\n  oidc:\n    issuer: {}\n    client:\n      \
                clientId: shop\n      authentication: {{clientSecretBasic: {{name: {name}-client}}}}\n{more}---\n\
                apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-client}}\n\
                stringData: {{clientSecret: {CLIENT_SECRET}}}\n",
            self.issuer()
        )
    }

    /// Signs the person in at `url`, and returns the address that the browser is redirected to.
    pub fn sign_in(&self, url: &str) -> String {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let mut inside = self.inside.lock().expect("no panic inside");
        let mut parameters = crate::http::parameters(query);
        if let Some(reference) = parameters.get("request_uri") {
            parameters = inside.pushed.remove(reference).expect("a request is pushed first, and used once");
        }
        let of = |name: &str| parameters.get(name).cloned().unwrap_or_default();
        assert_eq!((of("response_type"), of("code_challenge_method")), ("code".into(), "S256".into()), "{url}");
        assert!(of("scope").split(' ').any(|scope| scope == "openid"), "{url}");
        inside.count += 1;
        let code = format!("planted-code-{}", inside.count);
        let grant = Grant { nonce: of("nonce"), challenge: of("code_challenge"), redirect_uri: of("redirect_uri") };
        inside.grants.insert(code.clone(), grant);
        let mut back = json!({"code": code, "state": of("state"), "iss": self.issuer()});
        patch(&mut back, &inside.script.back.clone());
        let pairs: Vec<String> = back
            .as_object()
            .expect("an object")
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value.as_str().unwrap_or_default())))
            .collect();
        format!("{}?{}", of("redirect_uri"), pairs.join("&"))
    }

    /// A logout token with these changes to its claims.
    pub fn logout_token(&self, change: &Value) -> String {
        let mut inside = self.inside.lock().expect("no panic inside");
        inside.count += 1;
        let mut claims = json!({
            "iss": self.issuer(), "aud": "shop", "iat": now(), "exp": now() + 120,
            "jti": format!("logout-{}", inside.count),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        patch(&mut claims, change);
        self.key.sign(&claims).expect("signed")
    }
}

fn answer(address: SocketAddr, key: &SigningKey, inside: &Mutex<Inside>, asked: Asked) -> Said {
    let script = {
        let mut inside = inside.lock().expect("no panic inside");
        inside.asked.push(asked.clone());
        inside.script.clone()
    };
    let json = |status: u16, body: &Value| {
        (status, vec![("Content-Type".to_owned(), "application/json".to_owned())], body.to_string())
    };
    if script.down {
        return json(500, &json!({}));
    }
    let issuer = format!("http://{address}");
    match asked.path.as_str() {
        "/.well-known/openid-configuration" => {
            let mut metadata = json!({
                "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "userinfo_endpoint": format!("{issuer}/userinfo"), "jwks_uri": format!("{issuer}/keys"),
                "end_session_endpoint": format!("{issuer}/end"),
                "authorization_response_iss_parameter_supported": true,
            });
            patch(&mut metadata, &script.metadata);
            json(200, &metadata)
        }
        "/keys" => (200, vec![], script.jwks.unwrap_or_else(|| key.jwks().to_string())),
        "/userinfo" => {
            let mut members = json!({"sub": script.subject, "email": format!("{}@shop.example", script.subject),
                "email_verified": true});
            patch(&mut members, &script.userinfo);
            if asked.headers.get("authorization").is_none_or(|value| !value.starts_with("Bearer planted-access-")) {
                return json(401, &json!({}));
            }
            json(200, &members)
        }
        "/par" => {
            let mut inside = inside.lock().expect("no panic inside");
            inside.count += 1;
            let reference = format!("urn:ietf:params:oauth:request_uri:{}", inside.count);
            inside.pushed.insert(reference.clone(), asked.parameters);
            json(201, &json!({"request_uri": reference, "expires_in": 60}))
        }
        "/token" => {
            std::thread::sleep(script.delay);
            token(&issuer, key, inside, &script, &asked)
        }
        _ => json(404, &json!({})),
    }
}

fn token(issuer: &str, key: &SigningKey, inside: &Mutex<Inside>, script: &Script, asked: &Asked) -> Said {
    let json = |status: u16, body: &Value| {
        (status, vec![("Content-Type".to_owned(), "application/json".to_owned())], body.to_string())
    };
    let refused = |error: &str| json(400, &json!({"error": error}));
    if script.token_status != 200 {
        return json(script.token_status, &json!({"error": script.token_error}));
    }
    let of = |name: &str| asked.parameters.get(name).map(String::as_str).unwrap_or_default();
    let mut inside = inside.lock().expect("no panic inside");
    let nonce = match of("grant_type") {
        "authorization_code" => {
            let Some(Grant { nonce, challenge, redirect_uri }) = inside.grants.remove(of("code")) else {
                return refused("invalid_grant");
            };
            if redirect_uri != of("redirect_uri") || challenge != idm_jose::to_base64url(&sha256(of("code_verifier"))) {
                return refused("invalid_grant");
            }
            Some(nonce)
        }
        "refresh_token" => {
            let Some(position) = inside.refresh.iter().position(|known| known == of("refresh_token")) else {
                return refused("invalid_grant");
            };
            inside.refresh.remove(position);
            None
        }
        "password" => {
            if (of("username"), of("password")) != (script.subject.as_str(), PASSWORD_OF_ALL) {
                return refused("invalid_grant");
            }
            None
        }
        _ => return refused("unsupported_grant_type"),
    };
    inside.count += 1;
    let (access, refresh) = (format!("planted-access-{}", inside.count), format!("planted-refresh-{}", inside.count));
    inside.refresh.push(refresh.clone());
    let mut claims = Map::from_iter([
        ("iss".to_owned(), issuer.into()),
        ("aud".to_owned(), "shop".into()),
        ("sub".to_owned(), script.subject.as_str().into()),
        ("iat".to_owned(), now().into()),
        ("exp".to_owned(), (now() + 300).into()),
        ("auth_time".to_owned(), now().into()),
        ("sid".to_owned(), format!("sid-of-{}", script.subject).into()),
        ("roles".to_owned(), json!(["order-reader"])),
    ]);
    claims.extend(nonce.map(|nonce| ("nonce".to_owned(), nonce.into())));
    let mut claims = Value::Object(claims);
    patch(&mut claims, &script.claims);
    let signed = script.signer.as_deref().unwrap_or(key).sign(&claims).expect("signed");
    let mut answer = json!({
        "access_token": access, "token_type": "Bearer", "expires_in": script.lifetime, "refresh_token": refresh,
        "id_token": (script.mangle)(signed),
    });
    patch(&mut answer, &script.answer);
    json(200, &answer)
}

fn sha256(text: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).to_vec()
}
