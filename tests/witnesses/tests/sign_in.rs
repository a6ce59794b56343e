//! The gateway as a relying party of an OpenID provider that is made of `openidconnect`: metadata, keys, the check of
//! the code verifier and ID tokens with `nonce`, `at_hash` and `c_hash` are that library's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use idm_tests::http::{Asked, Said, encoded, parameters, serve};
use idm_tests::{Browser, Gateway, Upstream, open_to};
use openidconnect::core::{
    CoreIdToken, CoreIdTokenClaims, CoreJsonWebKeySet, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType,
    CoreRsaPrivateSigningKey, CoreSubjectIdentifierType,
};
use openidconnect::{
    AccessToken, Audience, AuthUrl, AuthorizationCode, EmptyAdditionalClaims, EmptyAdditionalProviderMetadata,
    EndUserEmail, IssuerUrl, JsonWebKeyId, JsonWebKeySetUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    PrivateSigningKey, ResponseTypes, StandardClaims, SubjectIdentifier, TokenUrl,
};
use serde_json::json;

fn rsa_key() -> CoreRsaPrivateSigningKey {
    let made = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().expect("openssl runs");
    let pem = String::from_utf8(made.stdout).unwrap();
    CoreRsaPrivateSigningKey::from_pem(&pem, Some(JsonWebKeyId::new("rsa-1".into()))).unwrap()
}

/// A lie of the provider.
#[derive(Clone, Copy, Default, PartialEq)]
enum Lie {
    #[default]
    None,
    /// The ID token belongs to another sign-in.
    Nonce,
    /// It is for another client.
    Audience,
    /// It is over.
    Expired,
    /// Another key signed it.
    Key,
    /// It came with another access token.
    AccessToken,
}

struct Provider {
    key: CoreRsaPrivateSigningKey,
    other_key: CoreRsaPrivateSigningKey,
    /// The request that each code was given for.
    codes: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    lie: Mutex<Lie>,
    address: OnceLock<SocketAddr>,
}

impl Provider {
    fn start() -> Arc<Self> {
        let provider = Arc::new(Self {
            key: rsa_key(),
            other_key: rsa_key(),
            codes: Mutex::default(),
            lie: Mutex::default(),
            address: OnceLock::new(),
        });
        let shared = provider.clone();
        provider.address.set(serve(move |asked| shared.answer(&asked))).expect("once");
        provider
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address.wait())
    }

    fn issuer(&self) -> IssuerUrl {
        IssuerUrl::new(self.url("")).unwrap()
    }

    /// The address to which a browser goes back when the person has signed in.
    fn sign_in(&self, url: &str) -> String {
        let asked = parameters(url.split_once('?').expect("a query").1);
        let mut codes = self.codes.lock().unwrap();
        let code = format!("code-{}", codes.len());
        let back = format!("{}?code={code}&state={}", asked["redirect_uri"], encoded(&asked["state"]));
        codes.insert(code, asked);
        back
    }

    fn answer(&self, asked: &Asked) -> Said {
        let said = |status, body: String| (status, vec![("Content-Type".into(), "application/json".into())], body);
        match asked.path.as_str() {
            "/.well-known/openid-configuration" => said(200, self.metadata()),
            "/keys" => {
                let keys = CoreJsonWebKeySet::new(vec![self.key.as_verification_key()]);
                said(200, serde_json::to_string(&keys).unwrap())
            }
            "/token" => match self.token(asked) {
                Some(answer) => said(200, answer),
                None => said(400, json!({"error": "invalid_grant"}).to_string()),
            },
            _ => said(404, "{}".into()),
        }
    }

    fn metadata(&self) -> String {
        let metadata = CoreProviderMetadata::new(
            self.issuer(),
            AuthUrl::new(self.url("/authorize")).unwrap(),
            JsonWebKeySetUrl::new(self.url("/keys")).unwrap(),
            vec![ResponseTypes::new(vec![CoreResponseType::Code])],
            vec![CoreSubjectIdentifierType::Public],
            vec![CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256],
            EmptyAdditionalProviderMetadata {},
        );
        let metadata = metadata.set_token_endpoint(Some(TokenUrl::new(self.url("/token")).unwrap()));
        serde_json::to_string(&metadata).unwrap()
    }

    fn token(&self, asked: &Asked) -> Option<String> {
        let code = asked.parameters.get("code")?;
        let granted = self.codes.lock().unwrap().get(code)?.clone();
        let verifier = PkceCodeVerifier::new(asked.parameters.get("code_verifier")?.clone());
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        if challenge.as_str() != granted["code_challenge"]
            || asked.parameters.get("redirect_uri") != granted.get("redirect_uri")
        {
            return None;
        }
        let lie = *self.lie.lock().unwrap();
        let of = |wanted: Lie, lied: &str, truth: &str| if lie == wanted { lied.to_owned() } else { truth.to_owned() };
        let now = idm_tests::now() as i64;
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).unwrap();
        let person = StandardClaims::new(SubjectIdentifier::new("ana".into()))
            .set_email(Some(EndUserEmail::new("ana@shop.example".into())));
        let audience = Audience::new(of(Lie::Audience, "another", "shop"));
        let expires = at(if lie == Lie::Expired { now - 600 } else { now + 300 });
        let claims = CoreIdTokenClaims::new(
            self.issuer(),
            vec![audience],
            expires,
            at(now - 5),
            person,
            EmptyAdditionalClaims {},
        )
        .set_nonce(Some(Nonce::new(of(Lie::Nonce, "another", &granted["nonce"]))));
        let access = AccessToken::new("access".into());
        let vouched = AccessToken::new(of(Lie::AccessToken, "another", "access"));
        let key = if lie == Lie::Key { &self.other_key } else { &self.key };
        let code = AuthorizationCode::new(code.clone());
        let algorithm = CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256;
        let id_token = CoreIdToken::new(claims, key, algorithm, Some(&vouched), Some(&code)).unwrap();
        let answer = json!({
            "access_token": access.secret(), "token_type": "Bearer", "expires_in": 300,
            "id_token": id_token.to_string(),
        });
        Some(answer.to_string())
    }
}

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
    provider: Arc<Provider>,
}

fn bed() -> Bed {
    let (upstream, provider) = (Upstream::new(), Provider::start());
    let method = "    - name: staff\n      signIn: {federationRefs: [{name: idp}]}\n";
    let federation = format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp}}\nspec:\n  oidc:\n    \
         issuer: {}\n    client: {{clientId: shop, authentication: {{clientSecretBasic: {{name: shop-client}}}}}}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: shop-client}}\nstringData: {{clientSecret: sesame}}\n",
        provider.issuer().as_str()
    );
    let yaml = format!("{}{federation}", open_to(&upstream, method));
    let gateway = Gateway::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]);
    Bed { gateway, upstream, provider }
}

impl Bed {
    /// A new browser signs in on the way to a page: the browser, and the answer to what it brought back.
    fn sign_in(&self) -> (Browser, idm_tests::Reply) {
        let mut browser = Browser::new(self.gateway.address);
        let there = browser.to_provider("/orders");
        assert!(there.starts_with(&self.provider.url("/authorize?")), "{there}");
        let back = self.provider.sign_in(&there);
        let path = back.strip_prefix(&format!("http://{}", browser.host)).expect("it leads back").to_owned();
        let reply = browser.go(&path);
        (browser, reply)
    }
}

#[test]
fn a_person_signs_in_at_a_provider_made_of_openidconnect() {
    let bed = bed();
    let (mut browser, back) = bed.sign_in();
    assert_eq!((back.status, back.header("location")), (303, Some("/orders")), "{back:?}");
    assert_eq!(browser.go("/orders").status, 200);
    assert!(bed.upstream.received().to_ascii_lowercase().contains("x-authenticated-userid: ana\r\n"));
}

#[test]
fn what_the_provider_gets_wrong_signs_nobody_in() {
    let bed = bed();
    for (lie, what) in [
        (Lie::Nonce, "nonce"),
        (Lie::Audience, "audience"),
        (Lie::Expired, "expired"),
        (Lie::Key, "signature"),
        (Lie::AccessToken, "at_hash"),
    ] {
        *bed.provider.lie.lock().unwrap() = lie;
        let (mut browser, back) = bed.sign_in();
        let record = bed.gateway.record(back.decision());
        assert_eq!(record["reason"], "UntrustedSignIn", "{what}: {record}");
        assert!(record["detail"].as_str().is_some_and(|detail| detail.contains(what)), "{what}: {record}");
        assert_eq!(browser.go("/orders").status, 303, "{what}: nobody is signed in");
        assert_eq!(bed.upstream.received(), "", "{what}");
    }
}
