//! The token service: clients of every kind, grants, refusals by reason, rotation, revocation, and what gateways share.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idm_jose::SigningKey;
use idm_tests::{
    Authority, Gateway, HTTPS_LISTENER, InProcess, Redis, Reply, Serves, Upstream, eventually, now, open_to, raw,
    secret,
};
use idm_types::{Algorithm, Timestamp};
use serde_json::{Value, json};

const ISSUER: &str = "https://shop.example/oauth";
/// Well formed, so it is hashed once and not slowly.
const SECRET: &str = "idm_00000000000000000000000000000000000000000003RBGQh";

/// A well-formed client secret: 256 bits that only these tests use.
fn strong(seed: u8) -> String {
    idm_types::ApiKey::from_random([seed; 32]).reveal().to_owned()
}

fn client(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\nspec:\n  \
            roles: [order-reader]\n  attributes: [{{name: tenant, value: acme}}]\n{rest}"
    )
}

fn with_secret(name: &str, oauth: &str, value: &str) -> String {
    let text = format!("  oauthClient: {{clientSecret: {{}}{oauth}}}\n  secretRef: {{name: {name}-secret}}\n");
    format!("{}{}", client(name, &text), secret(&format!("{name}-secret"), &[("clientSecret", value.to_owned())]))
}

fn signing_keys(algorithm: Algorithm) -> String {
    idm_compile::new_signing_keys(algorithm, Timestamp::from_seconds(now() - 10)).unwrap()
}

/// A policy with a service, whose tokens it takes itself.
fn policy(upstream: &Upstream, service: &str, keys: &str) -> String {
    let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
    let rest = format!("  tokenService: {{issuer: '{ISSUER}', audiences: [orders, billing]{service}}}\n");
    format!("{}{rest}{}", open_to(upstream, methods), secret("idm-signing-keys", &[("p.json", keys.to_owned())]))
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

const USERS: &str = ", grants: [ClientCredentials, RefreshToken, DangerPassword]";

fn all_clients() -> String {
    let user = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: ana}\nspec: \
        {password: {}, roles: [order-writer], secretRef: {name: ana-password}}\n";
    [
        with_secret(
            "reports",
            ", scopes: [orders.read, orders.write], grants: [ClientCredentials, RefreshToken, DangerPassword]",
            &strong(1),
        ),
        with_secret("weak", ", scopes: [orders.read]", "a secret that people chose"),
        with_secret("other", ", grants: [RefreshToken, DangerPassword], accessTokenLifetime: {minutes: 2}", &strong(2)),
        with_secret("upstream", ", introspects: All", &strong(3)),
        format!("{user}{}", secret("ana-password", &[("password", "correct horse".into())])),
    ]
    .concat()
}

fn bed(service: &str) -> Bed {
    bed_with(service, &all_clients(), &[])
}

fn bed_with<G: Serves>(service: &str, more: &str, arguments: &[&str]) -> Bed<G> {
    let upstream = Upstream::new();
    let gateway = G::start_with(
        &[("all.yaml", &format!("{}{more}", policy(&upstream, service, &signing_keys(Algorithm::ES256))))],
        arguments,
    );
    Bed { gateway, upstream }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()))
        .collect::<Vec<_>>()
        .join("&")
}

fn post(address: SocketAddr, path: &str, headers: &str, pairs: &[(&str, &str)]) -> Reply {
    let body = encoded(pairs);
    let head = format!(
        "POST /oauth/{path} HTTP/1.1\r\nHost: shop.example\r\nContent-Type: \
            application/x-www-form-urlencoded\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    raw(address, format!("{head}{body}").as_bytes())
}

fn basic(id: &str, secret: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{id}:{secret}")))
}

fn read(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

impl<G: Serves> Bed<G> {
    fn token(&self, headers: &str, pairs: &[(&str, &str)]) -> Reply {
        post(self.gateway.address(), "token", headers, pairs)
    }

    fn reports(&self, pairs: &[(&str, &str)]) -> Reply {
        self.token(&basic("reports", &strong(1)), pairs)
    }

    fn access(&self, reply: &Reply) -> String {
        assert_eq!(reply.status, 200, "{reply:?}");
        read(reply)["access_token"].as_str().unwrap().to_owned()
    }

    fn call(&self, token: &str) -> Reply {
        call(self.gateway.address(), token)
    }

    /// Asserts a refusal of the service: what the client is told, what the record says, and that nothing went on.
    fn refused(&self, reply: &Reply, status: u16, error: &str, reason: &str) {
        assert_eq!((reply.status, read(reply)["error"].as_str()), (status, Some(error)), "{reply:?}");
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], reason, "{record}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(self.upstream.received(), "");
    }
}

fn call(address: SocketAddr, token: &str) -> Reply {
    raw(
        address,
        format!("GET /orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
    )
}

const CLIENT: (&str, &str) = ("grant_type", "client_credentials");

#[test]
fn a_client_gets_a_token_that_the_policy_takes() {
    let bed: Bed<Gateway> = bed_with(
        ", accessToken: {lifetime: {minutes: 1}, claims: [{name: tenant, value: identity.attributes.tenant}, {name: \
            from, value: source.address}, {name: none, value: identity.attributes.none}]}",
        &all_clients(),
        &[],
    );
    let reply = bed.reports(&[CLIENT, ("scope", "orders.read"), ("audience", "orders")]);
    let answer = read(&reply);
    assert_eq!(
        (reply.header("cache-control"), reply.header("content-type")),
        (Some("no-store"), Some("application/json"))
    );
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"], &answer["scope"]),
        (&json!("Bearer"), &json!(60), &json!("orders.read"))
    );
    let token = bed.access(&reply);
    let said = claims(&token);
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("sub", json!("reports")),
        ("client_id", json!("reports")),
        ("aud", json!("orders")),
        ("scope", json!("orders.read")),
        ("roles", json!(["order-reader"])),
        ("tenant", json!("acme")),
        ("from", json!("127.0.0.1")),
    ] {
        assert_eq!(said[name], value, "{name}");
    }
    assert!(said.get("none").is_none() && said["exp"].as_u64().unwrap() - said["iat"].as_u64().unwrap() == 60);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("ES256")));
    assert_eq!(bed.call(&token).status, 200);
    assert!(bed.upstream.received().to_ascii_lowercase().contains("x-authenticated-userid: reports"));
    let issued = eventually("the record", || {
        bed.gateway.records().into_iter().find(|record| record["issued"].is_object()).ok_or_else(|| "none".to_owned())
    });
    assert_eq!(
        (&issued["issued"]["grant"], &issued["issued"]["token"], &issued["identity"]["credential"]),
        (&json!("client_credentials"), &said["jti"], &json!("reports"))
    );
    // A secret that people chose works too, in the form this time.
    let weak = bed.token("", &[CLIENT, ("client_id", "weak"), ("client_secret", "a secret that people chose")]);
    assert_eq!(bed.call(&bed.access(&weak)).status, 200);
    let log = bed.gateway.log();
    for secret in [&strong(1), "a secret that people chose", token.as_str()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[test]
fn what_a_client_may_not_have_is_refused_for_the_right_reason() {
    let bed = bed(", grants: [ClientCredentials]");
    let (id, good) = (("client_id", "reports"), strong(1));
    let proof = ("client_secret", good.as_str());
    for (headers, pairs, status, error, reason) in [
        ("", vec![CLIENT], 401, "invalid_client", "InvalidClient"),
        ("", vec![CLIENT, id], 401, "invalid_client", "InvalidClient"),
        ("", vec![CLIENT, id, ("client_secret", SECRET)], 401, "invalid_client", "InvalidClient"),
        ("", vec![CLIENT, ("client_id", "nobody"), proof], 401, "invalid_client", "InvalidClient"),
        (
            "",
            vec![CLIENT, ("client_id", "ana"), ("client_secret", "correct horse")],
            401,
            "invalid_client",
            "InvalidClient",
        ),
        ("", vec![CLIENT, proof], 400, "invalid_request", "MalformedTokenRequest"),
        ("Authorization: Bearer x\r\n", vec![CLIENT, id, proof], 401, "invalid_client", "InvalidClient"),
        (&basic("reports", &good), vec![CLIENT, id, proof], 400, "invalid_request", "MalformedTokenRequest"),
        (
            &basic("reports", &good),
            vec![CLIENT, ("client_id", "weak")],
            400,
            "invalid_request",
            "MalformedTokenRequest",
        ),
        ("", vec![id, proof], 400, "invalid_request", "MalformedTokenRequest"),
        ("", vec![CLIENT, CLIENT, id, proof], 400, "invalid_request", "MalformedTokenRequest"),
        (
            "",
            vec![("grant_type", "password"), id, proof, ("username", "ana"), ("password", "correct horse")],
            400,
            "unsupported_grant_type",
            "UnsupportedGrant",
        ),
        ("", vec![("grant_type", "implicit"), id, proof], 400, "unsupported_grant_type", "UnsupportedGrant"),
        (
            "",
            vec![CLIENT, ("client_id", "other"), ("client_secret", &strong(2))],
            400,
            "unauthorized_client",
            "GrantNotAllowed",
        ),
        ("", vec![CLIENT, id, proof, ("scope", "orders.read admin")], 400, "invalid_scope", "ScopeNotAllowed"),
        ("", vec![CLIENT, id, proof, ("resource", "payroll")], 400, "invalid_target", "AudienceNotAllowed"),
    ] {
        bed.refused(&bed.token(headers, &pairs), status, error, reason);
    }
    let get = raw(bed.gateway.address, b"GET /oauth/token HTTP/1.1\r\nHost: a\r\n\r\n");
    bed.refused(&get, 400, "invalid_request", "MalformedTokenRequest");
    let body = encoded(&[CLIENT, id, proof]);
    for (target, media) in [
        ("token?x=1", "application/x-www-form-urlencoded"),
        ("token", "application/json"),
        ("token", "text/plain; application/x-www-form-urlencoded"),
    ] {
        let request = format!(
            "POST /oauth/{target} HTTP/1.1\r\nHost: a\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        bed.refused(&raw(bed.gateway.address, request.as_bytes()), 400, "invalid_request", "MalformedTokenRequest");
    }
    // Without a store that is shared there would be nothing to see; in one process there is.
    assert_eq!(bed.token("", &[CLIENT, id, proof]).status, 200);
}

#[test]
fn a_refresh_token_works_once_and_its_reuse_ends_everything_of_its_sign_in() {
    let bed = bed(USERS);
    let sign_in =
        |password: &str| bed.reports(&[("grant_type", "password"), ("username", "ana"), ("password", password)]);
    bed.refused(&sign_in("wrong"), 400, "invalid_grant", "InvalidGrant");
    let first = read(&sign_in("correct horse"));
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert_eq!(claims(&text(&first, "access_token"))["sub"], "ana");
    assert_eq!(claims(&text(&first, "access_token"))["client_id"], "reports");
    let refresh = |token: &str| bed.reports(&[("grant_type", "refresh_token"), ("refresh_token", token)]);
    let second = read(&refresh(&text(&first, "refresh_token")));
    let narrower = bed.reports(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", &text(&second, "refresh_token")),
        ("scope", "orders.read"),
    ]);
    assert_eq!(read(&narrower)["scope"], "orders.read");
    let third = read(&narrower);
    assert_ne!(text(&first, "refresh_token"), text(&second, "refresh_token"));
    // Another client cannot use it, and does no harm by trying.
    let stolen = bed.token(
        &basic("other", &strong(2)),
        &[("grant_type", "refresh_token"), ("refresh_token", &text(&third, "refresh_token"))],
    );
    bed.refused(&stolen, 400, "invalid_grant", "InvalidGrant");
    assert_eq!(bed.call(&text(&third, "access_token")).status, 200);
    let _ = bed.upstream.received();
    let received = bed.upstream.received().len();
    // The first one again: someone has it who should not.
    let reused = refresh(&text(&first, "refresh_token"));
    assert_eq!(bed.gateway.record(reused.decision())["reason"], "RefreshTokenReused");
    let after = refresh(&text(&third, "refresh_token"));
    assert_eq!(bed.gateway.record(after.decision())["reason"], "InvalidGrant");
    for answer in [&first, &second, &third] {
        let reply = bed.call(&text(answer, "access_token"));
        assert_eq!(bed.gateway.record(reply.decision())["reason"], "TokenRevoked");
    }
    assert_eq!(bed.upstream.received().len(), received, "nothing more went on");
    let log = bed.gateway.log();
    assert!(
        !log.contains("correct horse")
            && !log.contains(&text(&third, "refresh_token"))
            && !log.contains(&text(&third, "access_token"))
    );
}

#[test]
fn refresh_ends_with_its_count_its_time_and_its_user() {
    let sign_in =
        |bed: &Bed| bed.reports(&[("grant_type", "password"), ("username", "ana"), ("password", "correct horse")]);
    let refresh = |bed: &Bed, answer: &Reply| {
        bed.reports(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", read(answer)["refresh_token"].as_str().unwrap()),
        ])
    };

    let counted = bed(&format!("{USERS}, refreshToken: {{maxUses: 1}}"));
    let once = refresh(&counted, &sign_in(&counted));
    assert_eq!(once.status, 200);
    counted.refused(&refresh(&counted, &once), 400, "invalid_grant", "InvalidGrant");

    let timed = bed(&format!("{USERS}, refreshToken: {{lifetime: {{seconds: 1}}}}"));
    let late = sign_in(&timed);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    timed.refused(&refresh(&timed, &late), 400, "invalid_grant", "InvalidGrant");

    let bed = bed(USERS);
    let before = sign_in(&bed);
    let text = bed.gateway.read("all.yaml");
    bed.gateway
        .write("all.yaml", &text.replace("spec: {password: {}, roles", "spec: {suspend: true, password: {}, roles"));
    eventually("the change", || match sign_in(&bed).status {
        400 => Ok(()),
        status => Err(status.to_string()),
    });
    let reply = refresh(&bed, &before);
    bed.refused(&reply, 400, "invalid_grant", "InvalidGrant");
    assert!(bed.gateway.record(reply.decision())["detail"].as_str().unwrap().starts_with("CredentialSuspended"));
}

#[test]
fn a_revoked_token_is_refused_and_only_its_own_client_revokes_and_asks() {
    let bed = bed("");
    let token = bed.access(&bed.reports(&[CLIENT]));
    let ask = |id: &str, seed: u8, path: &str| {
        post(bed.gateway.address, path, &basic(id, &strong(seed)), &[("token", &token)])
    };
    assert_eq!(read(&ask("reports", 1, "introspect"))["active"], true);
    assert_eq!(read(&ask("upstream", 3, "introspect"))["scope"], "orders.read orders.write");
    assert_eq!(read(&ask("other", 2, "introspect")), json!({"active": false}), "not its business");
    bed.refused(&ask("other", 2, "revoke"), 400, "unauthorized_client", "GrantNotAllowed");
    bed.refused(&ask("reports", 9, "introspect"), 401, "invalid_client", "InvalidClient");
    assert_eq!(bed.call(&token).status, 200);
    let revoked = ask("reports", 1, "revoke");
    assert_eq!((revoked.status, revoked.body.as_str()), (200, ""));
    let reply = bed.call(&token);
    assert_eq!((reply.status, &bed.gateway.record(reply.decision())["reason"]), (401, &json!("TokenRevoked")));
    assert_eq!(read(&ask("reports", 1, "introspect")), json!({"active": false}));
    // RFC 7009 §2.2: what is unknown counts as revoked.
    assert_eq!(
        post(bed.gateway.address, "revoke", &basic("reports", &strong(1)), &[("token", "nonsense")]).status,
        200
    );
    let other = bed.access(&bed.reports(&[CLIENT]));
    assert_eq!(bed.call(&other).status, 200, "others live on");
}

#[test]
fn a_new_key_is_published_before_it_signs_and_an_old_one_until_its_tokens_ended() {
    let upstream = Upstream::new();
    let key = |algorithm, kid: &str, from: u64, until: Option<u64>| {
        let mut jwk: Value = serde_json::from_str(SigningKey::generate(algorithm, kid).unwrap().reveal_jwk()).unwrap();
        jwk["nbf"] = from.into();
        if let Some(until) = until {
            jwk["exp"] = until.into();
        }
        jwk
    };
    let keys = json!({"keys": [
        key(Algorithm::RS256, "gone", now() - 900, Some(now() - 1)),
        key(Algorithm::RS256, "old", now() - 600, Some(now() + 600)),
        key(Algorithm::EdDSA, "current", now() - 60, None),
        key(Algorithm::ES256, "next", now() + 600, None),
    ]});
    let gateway =
        InProcess::start(&[("all.yaml", &format!("{}{}", policy(&upstream, "", &keys.to_string()), all_clients()))]);
    let bed = Bed { gateway, upstream };
    let published =
        raw(bed.gateway.address, b"GET /oauth/.well-known/jwks.json HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert_eq!(published.header("cache-control"), Some("public, max-age=60"));
    let kids: Vec<String> = read(&published)["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kids, ["old", "current", "next"]);
    for secret in ["\"d\"", "\"p\"", "\"nbf\""] {
        assert!(!published.body.contains(secret));
    }
    let token = bed.access(&bed.reports(&[CLIENT]));
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!((&header["kid"], &header["alg"]), (&json!("current"), &json!("EdDSA")));
    assert_eq!(bed.call(&token).status, 200);
    for path in ["/.well-known/oauth-authorization-server/oauth", "/oauth/.well-known/openid-configuration"] {
        let metadata =
            read(&raw(bed.gateway.address, format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n").as_bytes()));
        assert_eq!(
            (&metadata["issuer"], &metadata["token_endpoint"]),
            (&json!(ISSUER), &json!(format!("{ISSUER}/token")))
        );
        assert_eq!(metadata["jwks_uri"], format!("{ISSUER}/.well-known/jwks.json"));
    }
}

#[test]
fn an_assertion_is_good_once_for_this_issuer_and_of_the_clients_own_key() {
    let key = SigningKey::generate(Algorithm::ES256, "robot-1").unwrap();
    let stranger = SigningKey::generate(Algorithm::ES256, "robot-1").unwrap();
    let robot = client("robot", &format!("  oauthClient: {{privateKeyJwt: {{keys: {{inline: '{}'}}}}}}\n", key.jwks()));
    let bed: Bed = bed_with("", &format!("{robot}{}", all_clients()), &[]);
    let assertion = |key: &SigningKey, change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "iss": "robot", "sub": "robot", "aud": ISSUER, "jti": format!("{:?}", std::time::Instant::now()),
            "iat": now(), "exp": now() + 60,
        });
        change(&mut claims);
        key.sign(&claims).unwrap()
    };
    let send = |text: &str| {
        bed.token(
            "",
            &[
                CLIENT,
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", text),
            ],
        )
    };
    let good = assertion(&key, &|_| {});
    assert_eq!(claims(&bed.access(&send(&good)))["sub"], "robot");
    bed.refused(&send(&good), 401, "invalid_client", "InvalidClient");
    let changes: [&dyn Fn(&mut Value); 8] = [
        &|claims| claims["aud"] = json!(format!("{ISSUER}/token")),
        &|claims| claims["aud"] = json!([ISSUER, "https://other.example"]),
        &|claims| claims["iss"] = json!("reports"),
        &|claims| claims["sub"] = json!("reports"),
        &|claims| claims["exp"] = json!(now() - 120),
        &|claims| claims["exp"] = json!(now() + 86_400),
        &|claims| drop(claims.as_object_mut().unwrap().remove("jti")),
        &|claims| drop(claims.as_object_mut().unwrap().remove("exp")),
    ];
    for change in changes {
        bed.refused(&send(&assertion(&key, change)), 401, "invalid_client", "InvalidClient");
    }
    bed.refused(&send(&assertion(&stranger, &|_| {})), 401, "invalid_client", "InvalidClient");
    bed.refused(&send("nonsense"), 401, "invalid_client", "InvalidClient");
    let of_type = bed.token("", &[CLIENT, ("client_assertion_type", "other"), ("client_assertion", &good)]);
    bed.refused(&of_type, 400, "invalid_request", "MalformedTokenRequest");
    let other = bed.token(
        "",
        &[
            CLIENT,
            ("client_id", "reports"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion(&key, &|_| {})),
        ],
    );
    bed.refused(&other, 401, "invalid_client", "InvalidClient");
}

#[test]
fn a_client_with_a_certificate_gets_tokens_that_are_worth_nothing_without_it() {
    let (servers, people) = (Authority::new("servers"), Authority::new("clients"));
    const LATER: &str = "20400101000000Z";
    servers.issue("shop.example", "DNS:shop.example", "serverAuth", LATER);
    people.issue("robot", "DNS:robot.clients", "clientAuth", LATER);
    people.issue("stranger", "DNS:stranger.clients", "clientAuth", LATER);
    let others = Authority::new("others");
    others.issue("robot", "DNS:robot.clients", "clientAuth", LATER);
    let robot = client(
        "robot",
        "  oauthClient: {tlsClientAuth: {trustBundleRef: {name: clients}, names: [{name: DNS, is: robot.clients}]}}\n",
    );
    let server = secret(
        "server",
        &[("tls.crt", servers.read("shop.example.crt")), ("tls.key", servers.read("shop.example.key"))],
    );
    let authority = |of: &Authority| secret("clients", &[("ca.crt", of.read("ca.crt"))]);
    let more = format!("{robot}{HTTPS_LISTENER}{server}{}", all_clients());
    let upstream = Upstream::new();
    let all = format!("{}{more}", policy(&upstream, "", &signing_keys(Algorithm::ES256)));
    let files = [("all.yaml", all.as_str()), ("authority.yaml", &authority(&people))];
    let bed = Bed { gateway: Gateway::start_with(&files, &["--listen-tls", "127.0.0.1:0"]), upstream };
    let port = bed.gateway.tls.unwrap().port();
    let curl_of = |people: &Authority, name: Option<&str>, path: &str, more: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--cacert",
            &servers.path("ca.crt"),
            "--connect-to",
            &format!("shop.example:443:127.0.0.1:{port}"),
            "-w",
            "\n%{http_code}",
        ]);
        if let Some(name) = name {
            command.args([
                "--cert",
                &people.path(&format!("{name}.crt")),
                "--key",
                &people.path(&format!("{name}.key")),
            ]);
        }
        let output = command.args(more).arg(format!("https://shop.example{path}")).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        Ok((status.to_owned(), body.to_owned()))
    };
    let curl = |name: Option<&str>, path: &str, more: &[&str]| curl_of(&people, name, path, more).expect("an answer");
    let form = ["-d", "grant_type=client_credentials&client_id=robot"];
    let (status, body) = curl(Some("robot"), "/oauth/token", &form);
    assert_eq!(status, "200", "{body}");
    let token = serde_json::from_str::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned();
    assert!(claims(&token)["cnf"]["x5t#S256"].is_string());
    for name in [Some("stranger"), None] {
        let (status, body) = curl(name, "/oauth/token", &form);
        assert!(status == "401" && body.contains("invalid_client"), "{name:?}: {status} {body}");
    }
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(curl(Some("robot"), "/orders", &["-H", &bearer]).0, "200");
    let received = bed.upstream.received().len();
    assert_eq!(curl(Some("stranger"), "/orders", &["-H", &bearer]).0, "401");
    assert_eq!(curl(None, "/orders", &["-H", &bearer]).0, "401");
    let reply = bed.call(&token);
    assert_eq!(bed.gateway.record(reply.decision())["reason"], "TokenNotBound");
    assert_eq!(bed.upstream.received().len(), received);
    // The authority is a part of the Credential: handshakes follow it, although the plan stays what it is.
    bed.gateway.write("authority.yaml", &authority(&others));
    idm_tests::eventually("the other authority is believed", || {
        match curl_of(&others, Some("robot"), "/oauth/token", &form) {
            Ok((status, _)) if status == "200" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let of_the_one_before = curl_of(&people, Some("robot"), "/oauth/token", &form);
    assert!(of_the_one_before.is_err(), "{of_the_one_before:?}");
}

/// Two gateways with the same configuration and one Redis.
fn two(redis: &Redis) -> (Bed<Gateway>, Bed<Gateway>, tempfile::NamedTempFile) {
    let (upstream, second) = (Upstream::new(), Upstream::new());
    let keys = signing_keys(Algorithm::ES256);
    let password = redis.password_file();
    let url = redis.url();
    let arguments = ["--store", &url, "--store-password-file", password.path().to_str().unwrap()];
    let start = |upstream: &Upstream| {
        Gateway::start_with(
            &[("all.yaml", &format!("{}{}", policy(upstream, USERS, &keys), all_clients()))],
            &arguments,
        )
    };
    let (first, other) = (start(&upstream), start(&second));
    (Bed { gateway: first, upstream }, Bed { gateway: other, upstream: second }, password)
}

#[test]
fn what_one_gateway_issues_another_refreshes_and_what_one_revokes_all_refuse() {
    let redis = Redis::start();
    let (one, two, _password) = two(&redis);
    let mut answer =
        read(&one.reports(&[("grant_type", "password"), ("username", "ana"), ("password", "correct horse")]));
    let mut tokens = vec![answer["access_token"].as_str().unwrap().to_owned()];
    let first = answer["refresh_token"].as_str().unwrap().to_owned();
    for bed in [&two, &one, &two] {
        let reply = bed
            .reports(&[("grant_type", "refresh_token"), ("refresh_token", answer["refresh_token"].as_str().unwrap())]);
        answer = read(&reply);
        tokens.push(bed.access(&reply));
    }
    for (bed, token) in [&one, &two].into_iter().flat_map(|bed| tokens.iter().map(move |token| (bed, token))) {
        assert_eq!(bed.call(token).status, 200);
    }
    let reused = one.reports(&[("grant_type", "refresh_token"), ("refresh_token", &first)]);
    assert_eq!(one.gateway.record(reused.decision())["reason"], "RefreshTokenReused");
    let start = std::time::Instant::now();
    for token in &tokens {
        eventually("refused by the other gateway", || match two.call(token).status {
            401 => Ok(()),
            status => Err(status.to_string()),
        });
    }
    // A fifth of a second where nothing else runs; the bound leaves room for a busy machine.
    assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());
    // The content of the store is of no use to a reader.
    let keys = redis.cli(&["KEYS", "*"]);
    assert!(!keys.is_empty() && keys.lines().all(|key| key.starts_with("idm:standalone:")), "{keys}");
    let all: String = keys.lines().map(|key| redis.cli(&["GET", key])).collect();
    for secret in [first.split('.').nth(1).unwrap(), "correct horse", &tokens[0]] {
        assert!(!all.contains(secret) && !keys.contains(secret) && !one.gateway.log().contains(secret));
    }
    assert!(!one.gateway.log().contains("canary-store-password"));
}

#[test]
fn a_refresh_that_two_gateways_get_at_once_is_given_once() {
    let redis = Redis::start();
    let (one, two, _password) = two(&redis);
    for _ in 0..5 {
        let answer =
            read(&one.reports(&[("grant_type", "password"), ("username", "ana"), ("password", "correct horse")]));
        let token = answer["refresh_token"].as_str().unwrap().to_owned();
        let outcomes: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = [one.gateway.address, two.gateway.address, one.gateway.address, two.gateway.address]
                .into_iter()
                .map(|address| {
                    let token = &token;
                    scope.spawn(move || {
                        post(
                            address,
                            "token",
                            &basic("reports", &strong(1)),
                            &[("grant_type", "refresh_token"), ("refresh_token", token)],
                        )
                        .status
                    })
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|status| **status == 200).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|status| [200, 400].contains(status)), "{outcomes:?}");
    }
}

#[test]
fn without_the_store_nothing_passes_that_would_need_it_and_all_is_well_when_it_is_back() {
    let mut redis = Redis::start();
    let (one, _two, _password) = two(&redis);
    let sign_in = || one.reports(&[("grant_type", "password"), ("username", "ana"), ("password", "correct horse")]);
    let answer = sign_in();
    let (token, address) = (one.access(&answer), redis.address);
    let refresh = || {
        one.reports(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", read(&answer)["refresh_token"].as_str().unwrap()),
        ])
    };
    // A store that hangs is no better than one that is gone; neither takes long to be told.
    redis.pause(true);
    let start = std::time::Instant::now();
    let reply = refresh();
    assert!(start.elapsed().as_millis() < 2500, "{:?}", start.elapsed());
    one.refused(&reply, 503, "temporarily_unavailable", "StoreUnavailable");
    redis.pause(false);
    redis.kill();
    one.refused(&sign_in(), 503, "temporarily_unavailable", "StoreUnavailable");
    let revoke = post(one.gateway.address, "revoke", &basic("reports", &strong(1)), &[("token", &token)]);
    one.refused(&revoke, 503, "temporarily_unavailable", "StoreUnavailable");
    // A short outage does not stop those who hold a good token.
    assert_eq!(one.call(&token).status, 200);
    let _back = Redis::start_at(address).expect("its port is free again");
    eventually("the store is back", || match sign_in().status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
}

#[test]
fn a_store_over_tls_is_believed_only_with_a_good_certificate() {
    let (servers, others) = (Authority::new("servers"), Authority::new("others"));
    servers.issue("localhost", "DNS:localhost", "serverAuth", "20400101000000Z");
    let redis = Redis::start_tls(&servers);
    let password = redis.password_file();
    let url = format!("rediss://localhost:{}", redis.address.port());
    let sign_in = |more: &[&str]| {
        let arguments =
            [&["--store", &url, "--store-password-file", password.path().to_str().unwrap()][..], more].concat();
        let bed: Bed<Gateway> = bed_with(USERS, &all_clients(), &arguments);
        let reply = bed.reports(&[("grant_type", "password"), ("username", "ana"), ("password", "correct horse")]);
        if reply.status != 200 {
            bed.refused(&reply, 503, "temporarily_unavailable", "StoreUnavailable");
        }
        reply.status
    };
    assert_eq!(sign_in(&["--store-ca-file", &servers.path("ca.crt")]), 200);
    assert_eq!(sign_in(&["--store-ca-file", &others.path("ca.crt")]), 503);
    assert_eq!(sign_in(&[]), 503);
}

/// A client library of another language, which nobody here wrote.
#[test]
fn a_stock_oauth_client_uses_the_service() {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let output = Command::new(interop.join("prepare")).output().unwrap();
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = SigningKey::generate(Algorithm::ES256, "robot-1").unwrap();
    let robot = client(
        "robot",
        &format!("  oauthClient: {{privateKeyJwt: {{keys: {{inline: '{}'}}}}, scopes: [orders.read]}}\n", key.jwks()),
    );
    let bed: Bed<Gateway> = bed_with(USERS, &format!("{robot}{}", all_clients()), &[]);
    let address = bed.gateway.address.to_string();
    let output = Command::new("node")
        .arg(interop.join("oauth.mjs"))
        .args([&libraries, ISSUER, &address])
        .env("CLIENT_SECRET", strong(1))
        .env("PRIVATE_KEY", key.reveal_jwk())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.trim().ends_with("done"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_cannot_be_a_service_or_a_client_is_said_before_it_is_served() {
    use idm_compile::{Settings, compile, yaml::read_files};
    let upstream = Upstream::new();
    let findings = |service: &str, more: &str, settings: Settings| {
        let text = format!("{}{more}", policy(&upstream, service, &signing_keys(Algorithm::ES256)));
        let (world, _) = read_files(&[("all.yaml".into(), text)], settings).unwrap();
        compile(&world, None).report.findings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let folder = Settings::of_a_folder(false);
    let alone = Settings { remembers_together: false, ..folder };
    assert!(findings(USERS, "", folder).contains("DangerPassword lets clients see the passwords"));
    assert!(findings(USERS, "", alone).contains("RefreshToken needs a store that all gateway pods share"));
    assert!(
        findings(", grants: [RefreshToken]", "", folder).contains("RefreshToken needs a grant with a user beside it")
    );
    assert!(findings(", accessToken: {lifetime: {hours: 25}}", "", folder).contains("between 1 second and 24 hours"));
    assert!(findings(", accessToken: {lifetime: {hours: 1, minutes: 1}}", "", folder).contains("exactly one of"));
    assert!(
        findings(", accessToken: {claims: [{name: sub, value: identity.id}]}", "", folder)
            .contains("the claim 'sub' must not be replaced")
    );
    assert!(
        findings(", accessToken: {claims: [{name: x, value: token.sub}]}", "", folder)
            .contains("spec.tokenService.accessToken.claims[0].value")
    );
    assert!(findings(", signing: {algorithm: HS256}", "", folder).contains("must be an asymmetric one"));
    assert!(findings(", signing: {secretRef: {name: none}}", "", folder).contains("idm token keys --secret none"));
    let clash = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: b}\n\
        spec: {password: {username: reports}, secretRef: {name: b}}\n---\napiVersion: v1\nkind: Secret\n\
        metadata: {name: b}\nstringData: {password: x}\n";
    assert!(
        findings("", &format!("{}{clash}", with_secret("reports", "", &strong(1))), folder)
            .contains("same user name or client id")
    );
    assert!(findings("", &with_secret("a", "", "short"), folder).contains("must hold a client secret of 16 to 1024"));
    assert!(
        findings(
            "",
            &client("a", "  oauthClient: {privateKeyJwt: {keys: {inline: '{}'}, algorithms: [HS256]}}\n"),
            folder
        )
        .contains("asymmetric")
    );
    assert!(
        findings("", &client("a", "  oauthClient: {tlsClientAuth: {trustBundleRef: {name: t}, names: []}}\n"), folder)
            .contains("at least one name")
    );
    assert!(
        findings("", &client("a", "  oauthClient: {clientSecret: {}}\n"), folder).contains("`secretRef` must be set")
    );
    assert!(
        findings(
            "",
            &client("a", "  oauthClient: {clientSecret: {}, privateKeyJwt: {keys: {inline: '{}'}}}\n"),
            folder
        )
        .contains("exactly one of")
    );
    assert_eq!(findings("", &all_clients(), alone), "");
}
