//! The token service of a running gateway and `openidconnect` as its client: every grant, keys, introspection and
//! revocation. Access tokens are verified by `jsonwebtoken` with the keys that the service publishes.

use std::net::SocketAddr;

use idm_jose::SigningKey;
use idm_tests::{Gateway, Upstream, open_to, raw, secret};
use idm_types::{Algorithm, ApiKey};
use openidconnect::core::{
    CoreClient, CoreErrorResponseType, CoreJsonWebKeySet, CoreProviderMetadata, CoreRequestTokenError,
    CoreRevocableToken, CoreTokenType,
};
use openidconnect::http::{Response, header};
use openidconnect::{
    AccessToken, AuthType, ClientId, ClientSecret, DiscoveryError, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IntrospectionUrl, IssuerUrl, JsonWebKey, JsonWebKeySetUrl, OAuth2TokenResponse,
    ResourceOwnerPassword, ResourceOwnerUsername, RevocationUrl, Scope, TokenIntrospectionResponse, TokenUrl,
};
use serde_json::Value;

const ISSUER: &str = "https://shop.example/oauth";

fn client_secret() -> String {
    ApiKey::from_random([7; 32]).reveal().to_owned()
}

struct Bed {
    gateway: Gateway,
    _upstream: Upstream,
}

/// A service that signs with this algorithm, a client with a secret and a user with a password.
fn bed(algorithm: Algorithm) -> Bed {
    let upstream = Upstream::new();
    let key = SigningKey::generate(algorithm, "first").unwrap();
    let keys = format!("{{\"keys\": [{}]}}", key.reveal_jwk());
    let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
    let service = format!(
        "  tokenService: {{issuer: '{ISSUER}', audiences: [orders], grants: [ClientCredentials, RefreshToken, \
         DangerPassword]}}\n"
    );
    let credentials = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: reports}\n\
         spec:\n  roles: [order-reader]\n  oauthClient: {clientSecret: {}, scopes: [orders.read, orders.write], \
         grants: [ClientCredentials, RefreshToken, DangerPassword]}\n  secretRef: {name: reports-secret}\n\
         ---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: ana}\n\
         spec: {password: {}, roles: [order-writer], secretRef: {name: ana-password}}\n";
    let secrets = [
        secret("idm-signing-keys", &[("p.json", keys)]),
        secret("reports-secret", &[("clientSecret", client_secret())]),
        secret("ana-password", &[("password", "correct horse".into())]),
    ];
    let yaml = [&open_to(&upstream, methods), service.as_str(), credentials, &secrets.concat()].concat();
    Bed { gateway: Gateway::start(&[("all.yaml", &yaml)]), _upstream: upstream }
}

/// The client's HTTP: every host is the gateway, which listens without TLS here.
fn http(address: SocketAddr) -> impl Fn(HttpRequest) -> Result<HttpResponse, std::io::Error> {
    move |request| {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let host = request.uri().host().unwrap_or_default();
        let (length, method) = (request.body().len(), request.method());
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n");
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("it is ASCII")));
        }
        text.push_str("\r\n");
        let reply = raw(address, &[text.as_bytes(), request.body()].concat());
        let content = reply.header("content-type").unwrap_or_default();
        let response = Response::builder().status(reply.status).header(header::CONTENT_TYPE, content);
        response.body(reply.body.into_bytes()).map_err(std::io::Error::other)
    }
}

type Client = CoreClient<EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet, EndpointSet>;

impl Bed {
    fn http(&self) -> impl Fn(HttpRequest) -> Result<HttpResponse, std::io::Error> {
        http(self.gateway.address)
    }

    fn document(&self) -> Value {
        let reply = raw(
            self.gateway.address,
            b"GET /.well-known/oauth-authorization-server/oauth HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        );
        serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
    }

    fn keys(&self) -> CoreJsonWebKeySet {
        let url = self.document()["jwks_uri"].as_str().unwrap().to_owned();
        CoreJsonWebKeySet::fetch(&JsonWebKeySetUrl::new(url).unwrap(), &self.http()).unwrap()
    }

    /// A client of the endpoints that the service's metadata names.
    fn client(&self, secret: &str) -> Client {
        let document = self.document();
        let url = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("{name}: {document}")).to_owned();
        CoreClient::new(ClientId::new("reports".into()), IssuerUrl::new(url("issuer")).unwrap(), self.keys())
            .set_client_secret(ClientSecret::new(secret.into()))
            .set_introspection_url(IntrospectionUrl::new(url("introspection_endpoint")).unwrap())
            .set_revocation_url(RevocationUrl::new(url("revocation_endpoint")).unwrap())
            .set_token_uri(TokenUrl::new(url("token_endpoint")).unwrap())
    }

    /// The claims of an access token, if `jsonwebtoken` finds it good.
    fn claims(&self, token: &AccessToken, algorithm: jsonwebtoken::Algorithm) -> Value {
        let keys: jsonwebtoken::jwk::JwkSet = serde_json::to_value(self.keys())
            .and_then(serde_json::from_value)
            .expect("both libraries read the same keys");
        let kid = jsonwebtoken::decode_header(token.secret()).unwrap().kid.expect("a token names its key");
        let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&kid).expect("it is published")).unwrap();
        let mut validation = jsonwebtoken::Validation::new(algorithm);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&["orders"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        jsonwebtoken::decode::<Value>(token.secret(), &key, &validation).unwrap().claims
    }

    fn is_taken(&self, token: &AccessToken) -> bool {
        let token = token.secret();
        let head = format!("GET /orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(self.gateway.address, head.as_bytes()).status == 200
    }
}

/// The error code of RFC 6749 §5.2 in an answer.
fn error<T: std::fmt::Debug>(answer: Result<T, CoreRequestTokenError<std::io::Error>>) -> CoreErrorResponseType {
    match answer.expect_err("it is refused") {
        CoreRequestTokenError::ServerResponse(response) => response.error().clone(),
        other => panic!("not an answer of RFC 6749 §5.2: {other:?}"),
    }
}

#[test]
fn a_client_gets_a_token_however_it_shows_its_secret() {
    for (algorithm, theirs) in [
        (Algorithm::RS256, jsonwebtoken::Algorithm::RS256),
        (Algorithm::ES256, jsonwebtoken::Algorithm::ES256),
        (Algorithm::EdDSA, jsonwebtoken::Algorithm::EdDSA),
    ] {
        let bed = bed(algorithm);
        for way in [AuthType::BasicAuth, AuthType::RequestBody] {
            let client = bed.client(&client_secret()).set_auth_type(way);
            let wanted = client.exchange_client_credentials().add_scope(Scope::new("orders.read".into()));
            let answer = wanted.request(&bed.http()).unwrap();
            assert_eq!(answer.token_type(), &CoreTokenType::Bearer);
            assert!(answer.refresh_token().is_none(), "a client that acts for itself asks again");
            assert_eq!(answer.scopes(), Some(&vec![Scope::new("orders.read".into())]));
            let claims = bed.claims(answer.access_token(), theirs);
            assert_eq!((&claims["sub"], &claims["scope"]), (&"reports".into(), &"orders.read".into()), "{claims}");
            assert!(bed.is_taken(answer.access_token()), "the policy takes what its service issued");
        }
    }
}

#[test]
fn what_is_refused_is_an_error_of_the_standard() {
    let bed = bed(Algorithm::ES256);
    let client = bed.client(&client_secret());
    let wanted = client.exchange_client_credentials().add_scope(Scope::new("admin".into()));
    assert_eq!(error(wanted.request(&bed.http())), CoreErrorResponseType::InvalidScope);
    let stranger = bed.client("wrong");
    let wanted = stranger.exchange_client_credentials();
    assert_eq!(error(wanted.request(&bed.http())), CoreErrorResponseType::InvalidClient);
    let (user, password) = (ResourceOwnerUsername::new("ana".into()), ResourceOwnerPassword::new("wrong".into()));
    assert_eq!(
        error(client.exchange_password(&user, &password).request(&bed.http())),
        CoreErrorResponseType::InvalidGrant
    );
}

#[test]
fn a_users_tokens_are_refreshed_introspected_and_revoked() {
    let bed = bed(Algorithm::ES256);
    let (client, http) = (bed.client(&client_secret()), bed.http());
    let user = ResourceOwnerUsername::new("ana".into());
    let first =
        client.exchange_password(&user, &ResourceOwnerPassword::new("correct horse".into())).request(&http).unwrap();
    let claims = bed.claims(first.access_token(), jsonwebtoken::Algorithm::ES256);
    assert_eq!((&claims["sub"], &claims["client_id"]), (&"ana".into(), &"reports".into()), "{claims}");
    let second = client.exchange_refresh_token(first.refresh_token().unwrap()).request(&http).unwrap();
    assert_ne!(second.refresh_token().unwrap().secret(), first.refresh_token().unwrap().secret());

    let told = client.introspect(second.access_token()).request(&http).unwrap();
    assert_eq!((told.active(), told.sub()), (true, Some("ana")), "{told:?}");
    assert_eq!((told.iss(), told.client_id().map(|id| id.as_str())), (Some(ISSUER), Some("reports")), "{told:?}");
    assert_eq!(told.aud().map(Vec::as_slice), Some(["orders".to_owned()].as_slice()));
    assert!(told.exp() > told.iat(), "{told:?}");
    assert!(bed.is_taken(second.access_token()));

    let token = CoreRevocableToken::from(second.access_token().clone());
    client.revoke_token(token).unwrap().request(&http).unwrap();
    assert!(!client.introspect(second.access_token()).request(&http).unwrap().active());
    assert!(!bed.is_taken(second.access_token()));

    // A refresh token that comes again has been stolen, and ends what its sign-in gave.
    let again = client.exchange_refresh_token(first.refresh_token().unwrap()).request(&http);
    assert_eq!(error(again), CoreErrorResponseType::InvalidGrant);
    let after = client.exchange_refresh_token(second.refresh_token().unwrap()).request(&http);
    assert_eq!(error(after), CoreErrorResponseType::InvalidGrant);
}

#[test]
fn published_keys_are_read_and_verify_by_themselves() {
    let bed = bed(Algorithm::ES256);
    let client = bed.client(&client_secret());
    let answer = client.exchange_client_credentials().request(&bed.http()).unwrap();
    let keys = bed.keys();
    let [key] = keys.keys().as_slice() else { panic!("{keys:?}") };
    assert_eq!(key.key_id().map(|kid| kid.as_str()), Some("first"));
    let (signed, signature) = answer.access_token().secret().rsplit_once('.').unwrap();
    let mut signature = idm_jose::base64url(signature).unwrap();
    let algorithm = openidconnect::core::CoreJwsSigningAlgorithm::EcdsaP256Sha256;
    key.verify_signature(&algorithm, signed.as_bytes(), &signature).unwrap();
    signature[40] ^= 1;
    key.verify_signature(&algorithm, signed.as_bytes(), &signature).unwrap_err();
}

/// The service signs nobody in, so its metadata (RFC 8414) has no `authorization_endpoint`, which an OpenID provider
/// must have. A client that looks for one is told apart, and not led astray.
#[test]
fn a_token_service_is_not_taken_for_an_openid_provider() {
    let bed = bed(Algorithm::ES256);
    let found = CoreProviderMetadata::discover(&IssuerUrl::new(ISSUER.into()).unwrap(), &bed.http());
    let error = found.expect_err("it is none");
    assert!(matches!(&error, DiscoveryError::Parse(why) if why.to_string().contains("authorization_endpoint")));
}
