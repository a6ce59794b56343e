//! Tokens of clients and users end with their Credential, at the gateway and at introspection.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, eventually, now, open_to, raw, secret};
use idm_types::{Algorithm, Timestamp};
use serde_json::Value;

const SECRET: &str = "idm_00000000000000000000000000000000000000000003RBGQh";

/// The Credentials, each with a line of its own to be changed; `None`: it is gone.
fn credentials(client: Option<&str>, user: Option<&str>) -> String {
    let head = |name: &str| {
        format!("---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\nspec:\n")
    };
    let oauth = |scope: &str| {
        format!(
            "  oauthClient: {{clientSecret: {{}}, \
             grants: [ClientCredentials, RefreshToken, DangerPassword]{scope}}}\n  secretRef: {{name: s}}\n"
        )
    };
    let mut out = format!("{}{}", head("upstream"), oauth(", introspects: All"));
    if let Some(more) = client {
        out += &format!("{}{}{more}", head("reports"), oauth(""));
    }
    if let Some(more) = user {
        out += &format!("{}  password: {{}}\n  secretRef: {{name: ana-password}}\n{more}", head("ana"));
    }
    let secrets = [
        secret("s", &[("clientSecret", SECRET.to_owned())]),
        secret("ana-password", &[("password", "correct horse".into())]),
    ];
    out + &secrets.concat()
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
}

impl<G: Serves> Bed<G> {
    fn start() -> Self {
        let upstream = Upstream::new();
        let methods = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
        let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
        let service = "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders], \
                       grants: [ClientCredentials, RefreshToken, DangerPassword]}\n";
        let policy =
            format!("{}{service}{}", open_to(&upstream, methods), secret("idm-signing-keys", &[("p.json", keys)]));
        let credentials = credentials(Some(""), Some(""));
        let gateway = G::start_with(&[("all.yaml", &policy), ("credentials.yaml", &credentials)], &[]);
        Self { gateway, upstream }
    }

    fn post(&self, client: &str, path: &str, body: &str) -> Value {
        let basic = STANDARD.encode(format!("{client}:{SECRET}"));
        let head = format!(
            "POST /oauth/{path} HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = raw(self.gateway.address(), format!("{head}{body}").as_bytes());
        serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
    }

    fn text(value: &Value, name: &str) -> String {
        value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
    }

    fn of_client(&self) -> String {
        Self::text(&self.post("reports", "token", "grant_type=client_credentials"), "access_token")
    }

    /// An access and a refresh token of the user.
    fn of_user(&self) -> (String, String) {
        let got = self.post("reports", "token", "grant_type=password&username=ana&password=correct%20horse");
        (Self::text(&got, "access_token"), Self::text(&got, "refresh_token"))
    }

    fn call(&self, token: &str) -> Reply {
        let head = format!("GET /orders HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(self.gateway.address(), head.as_bytes())
    }

    fn is_active(&self, token: &str) -> bool {
        self.post("upstream", "introspect", &format!("token={token}"))["active"] == true
    }

    /// Puts these Credentials in force, and waits until this token is refused for this reason.
    fn change(&self, client: Option<&str>, user: Option<&str>, token: &str, reason: &str) {
        self.gateway.write("credentials.yaml", &credentials(client, user));
        let reply = eventually("the change", || {
            let reply = self.call(token);
            if reply.status == 200 { Err(self.gateway.log()) } else { Ok(reply) }
        });
        assert_eq!(self.gateway.record(reply.decision())["reason"], reason);
        let before = self.upstream.received();
        let again = self.call(token);
        assert_eq!(self.gateway.record(again.decision())["reason"], reason, "also from the second time on");
        assert_eq!(self.upstream.received(), before, "nothing went on");
    }
}

const SUSPENDED: Option<&str> = Some("  suspend: true\n");
const ELSEWHERE: Option<&str> = Some("  access: {policies: [another]}\n");

#[test]
fn a23_a_users_tokens_end_with_the_users_credential() {
    for (user, reason) in
        [(SUSPENDED, "CredentialSuspended"), (None, "TokenRevoked"), (ELSEWHERE, "CredentialNotAllowedHere")]
    {
        let bed = Bed::<InProcess>::start();
        let (client, (access, refresh)) = (bed.of_client(), bed.of_user());
        for token in [&client, &access] {
            assert_eq!(bed.call(token).status, 200);
            assert!(bed.is_active(token));
        }
        assert!(bed.is_active(&refresh));
        bed.change(Some(""), user, &access, reason);
        assert!(!bed.is_active(&access) && !bed.is_active(&refresh), "{reason}");
        let again = bed.post("reports", "token", &format!("grant_type=refresh_token&refresh_token={refresh}"));
        assert_eq!(again["error"], "invalid_grant");
        assert_eq!(bed.call(&client).status, 200, "the client's own token goes on");
        assert!(bed.is_active(&client));
    }
}

#[test]
fn a23_a_clients_tokens_end_with_the_clients_credential() {
    for (client, reason) in
        [(SUSPENDED, "CredentialSuspended"), (None, "TokenRevoked"), (ELSEWHERE, "CredentialNotAllowedHere")]
    {
        let bed = Bed::<InProcess>::start();
        let (own, (access, refresh)) = (bed.of_client(), bed.of_user());
        assert_eq!((bed.call(&own).status, bed.call(&access).status), (200, 200));
        bed.change(client, Some(""), &own, reason);
        let reply = bed.call(&access);
        assert_eq!(bed.gateway.record(reply.decision())["reason"], reason, "what it got for the user ends too");
        assert!(!bed.is_active(&own) && !bed.is_active(&access) && !bed.is_active(&refresh), "{reason}");
    }
}

#[test]
fn a23_a_token_ends_when_its_users_credential_expires() {
    let bed = Bed::<Gateway>::start();
    let (access, _) = bed.of_user();
    assert_eq!(bed.call(&access).status, 200);
    let past = Timestamp::from_seconds(now() - 1).rfc3339();
    bed.change(Some(""), Some(&format!("  expireTime: '{past}'\n")), &access, "CredentialExpired");
    assert!(!bed.is_active(&access));
}
