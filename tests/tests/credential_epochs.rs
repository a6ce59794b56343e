//! A Credential that changes is refused at once, however often it was accepted before, and nobody else notices.

use std::io::Write;
use std::net::TcpStream;

use idm_tests::{Gateway, Reply, Upstream, eventually, now, open_to, raw_on};
use idm_types::{ApiKey, Timestamp};
use serde_json::json;

fn key(number: u8) -> String {
    ApiKey::from_random([number; 32]).reveal().to_owned()
}

/// A file with a Credential of this name and key, and further lines of its spec.
fn credential(name: &str, key: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: {key}}}\n---\n\
         apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
         spec:\n  apiKey: {{}}\n  secretRef: {{name: {name}}}\n{more}"
    )
}

/// A gateway for callers with keys and with tokens that their issuer is asked about, who come on one connection: one
/// core serves all of them.
struct Bed {
    gateway: Gateway,
    upstream: Upstream,
    issuer: Upstream,
    connection: TcpStream,
    generation: u64,
}

impl Bed {
    fn start(credentials: &[(String, String)]) -> Self {
        let (upstream, issuer) = (Upstream::new(), Self::issuer());
        let policy = Self::policy(&upstream, &issuer, "");
        let files = credentials.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let files: Vec<_> = files.chain([("policy.yaml", policy.as_str())]).collect();
        let gateway = Gateway::start_in(&files, &["--danger-insecure-issuers"], &[("IDM_LOG", "info")]);
        let connection = TcpStream::connect(gateway.address).unwrap();
        Self { gateway, upstream, issuer, connection, generation: 1 }
    }

    /// An issuer that calls every token active.
    fn issuer() -> Upstream {
        let said = json!({"active": true, "iss": "https://idp", "sub": "ana", "aud": "orders", "exp": now() + 600});
        let said = said.to_string();
        Upstream::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()))
    }

    fn policy(upstream: &Upstream, issuer: &Upstream, more: &str) -> String {
        let methods = format!(
            "    - name: machines\n      apiKey: {{sources: [{{header: {{name: X-Api-Key}}}}]}}\n    - name: opaque\n\
             \x20     introspection: {{issuer: 'https://idp', endpoint: 'http://{}/introspect', clientId: c, \
             clientSecretRef: {{name: idp}}, cacheSeconds: 300}}\n{more}",
            issuer.address
        );
        let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: idp}\nstringData: {clientSecret: s}\n";
        format!("{}{secret}", open_to(upstream, &methods))
    }

    /// The number of questions that the issuer got.
    fn asked(&self) -> usize {
        self.issuer.received().matches("POST /introspect ").count()
    }

    fn send(&mut self, header: &str) -> Reply {
        write!(self.connection, "GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n").unwrap();
        raw_on(&mut self.connection)
    }

    fn with_key(&mut self, key: &str) -> Reply {
        self.send(&format!("X-Api-Key: {key}"))
    }

    fn with_token(&mut self) -> u16 {
        self.send("Authorization: Bearer opaque").status
    }

    /// Writes a file and waits until it is in force.
    fn change(&mut self, name: &str, text: &str) {
        self.gateway.write(name, text);
        self.generation += 1;
        let wanted = format!("configuration in force generation={}", self.generation);
        eventually("the change is in force", || {
            let log = self.gateway.log();
            if log.lines().any(|line| line.ends_with(&wanted)) { Ok(()) } else { Err(log) }
        });
    }

    /// The next request is refused, with one record, and the upstream hears nothing of it.
    fn refused(&mut self, key: &str, status: u16, reason: &str) {
        self.upstream.forget();
        let reply = self.with_key(key);
        assert_eq!(reply.status, status, "{reason}");
        assert_eq!(self.gateway.record(reply.decision())["reason"], reason);
        assert_eq!(self.upstream.received(), "", "{reason}");
    }

    /// Of the requests with this kind of credential, whether each was answered by a kept verdict.
    fn cached(&self, kind: &str, count: usize) -> Vec<bool> {
        eventually("the records", || {
            let records = self.gateway.records();
            let passed = records.iter().map(|record| &record["identity"]).filter(|who| who["kind"] == kind);
            let cached: Vec<_> = passed.filter_map(|who| who["cached"].as_bool()).collect();
            if cached.len() == count { Ok(cached) } else { Err(format!("{cached:?}")) }
        })
    }
}

#[test]
fn one_of_200_keys_changes_and_every_other_caller_stays_known() {
    let name = |number: u8| format!("k{number}");
    let files = (0..200).map(|number| (format!("{}.yaml", name(number)), credential(&name(number), &key(number), "")));
    let mut bed = Bed::start(&files.collect::<Vec<_>>());
    assert_eq!((bed.with_token(), bed.with_token(), bed.asked()), (200, 200, 1));
    for number in [7, 8, 7, 8] {
        assert_eq!(bed.with_key(&key(number)).status, 200);
    }
    assert_eq!(bed.cached("apiKey", 4), [false, false, true, true]);

    bed.change("k7.yaml", &credential("k7", &key(201), ""));
    bed.refused(&key(7), 401, "UnknownApiKey");
    assert_eq!((bed.with_token(), bed.asked()), (200, 1), "the issuer is not asked again");
    assert_eq!(bed.with_key(&key(8)).status, 200);
    assert_eq!(bed.with_key(&key(201)).status, 200);
    assert_eq!(bed.cached("apiKey", 6)[4..], [true, false]);

    // Another policy: the engine is another one, and this policy the same.
    let other = "apiVersion: v1\nkind: Service\n\
                 metadata: {name: other, annotations: {identity-manager.io/hostnames: other.example}}\n\
                 spec: {type: ExternalName, externalName: 127.0.0.1, ports: [{name: http, port: 80}]}\n---\n\
                 apiVersion: identity-manager.io/v1alpha1\nkind: IdentityPolicy\nmetadata: {name: a}\n\
                 spec:\n  targetRefs: [{group: '', kind: Service, name: other}]\n\
                 \x20 authentication: {methods: [{name: everyone, anonymous: {}}]}\n";
    bed.change("other.yaml", other);
    assert_eq!((bed.with_token(), bed.asked()), (200, 1));
    assert_eq!(bed.with_key(&key(8)).status, 200);
    assert_eq!(bed.cached("apiKey", 7)[6..], [true]);

    // The policy itself, and then a secret that it names.
    let policy = Bed::policy(&bed.upstream, &bed.issuer, "  disclosure: Detailed\n");
    bed.change("policy.yaml", &policy);
    assert_eq!((bed.with_token(), bed.with_token(), bed.asked()), (200, 200, 2));
    bed.change("policy.yaml", &policy.replace("clientSecret: s", "clientSecret: another"));
    assert_eq!((bed.with_token(), bed.with_token(), bed.asked()), (200, 200, 3));
    assert_eq!(bed.cached("introspection", 8), [false, true, true, true, false, true, false, true]);
}

#[test]
fn what_is_asked_for_every_request_is_asked_although_the_verdict_is_kept() {
    for (more, status, reason) in [
        ("  suspend: true\n", 401, "CredentialSuspended"),
        ("  expireTime: '2020-01-01T00:00:00Z'\n", 401, "CredentialExpired"),
        ("  access: {policies: [another]}\n", 403, "CredentialNotAllowedHere"),
    ] {
        let files = [("k.yaml".to_owned(), credential("k", &key(1), ""))];
        let mut bed = Bed::start(&files);
        assert_eq!([bed.with_key(&key(1)).status, bed.with_key(&key(1)).status], [200, 200]);
        assert_eq!(bed.cached("apiKey", 2), [false, true], "it is kept");
        bed.change("k.yaml", &credential("k", &key(1), more));
        for _ in 0..2 {
            bed.refused(&key(1), status, reason);
        }
        bed.change("k.yaml", &credential("k", &key(1), ""));
        assert_eq!(bed.with_key(&key(1)).status, 200, "and it is good again");
    }
}

#[test]
fn a_credential_ends_at_its_time_although_the_verdict_is_kept() {
    let soon = Timestamp::from_seconds(now() + 5).rfc3339();
    let mut bed = Bed::start(&[("k.yaml".to_owned(), credential("k", &key(1), &format!("  expireTime: '{soon}'\n")))]);
    assert_eq!([bed.with_key(&key(1)).status, bed.with_key(&key(1)).status], [200, 200]);
    assert_eq!(bed.cached("apiKey", 2), [false, true]);
    eventually("it ends", || match bed.with_key(&key(1)).status {
        200 => Err("not yet".into()),
        status => Ok(assert_eq!(status, 401)),
    });
    bed.refused(&key(1), 401, "CredentialExpired");
}

#[test]
fn a_credential_that_is_removed_is_refused_and_its_key_can_be_given_to_another() {
    let files =
        [("k.yaml".to_owned(), credential("k", &key(1), "")), ("l.yaml".to_owned(), credential("l", &key(2), ""))];
    let mut bed = Bed::start(&files);
    assert_eq!([bed.with_key(&key(1)).status, bed.with_key(&key(1)).status], [200, 200]);
    // The folder's file stays: an empty one is none.
    bed.change("k.yaml", "# nothing\n");
    bed.refused(&key(1), 401, "UnknownApiKey");
    bed.change("k.yaml", &credential("again", &key(1), ""));
    assert_eq!(bed.with_key(&key(1)).status, 200);
    assert_eq!(bed.cached("apiKey", 3), [false, true, false], "it is another Credential");
}

/// The same policy; its API keys are those of Credentials with this label.
fn of_tier(policy: &str, tier: &str) -> String {
    policy.replace(
        "apiKey: {sources:",
        &format!("apiKey: {{credentialSelector: {{matchLabels: {{tier: {tier}}}}}, sources:"),
    )
}

fn labelled(name: &str, number: u8, tier: &str) -> String {
    let metadata = format!("kind: Credential\nmetadata: {{name: {name}");
    credential(name, &key(number), "").replace(&metadata, &format!("{metadata}, labels: {{tier: {tier}}}"))
}

#[test]
fn a_credential_joins_and_leaves_a_selection_at_once_and_nobody_else_notices() {
    let files = [("a", 1), ("b", 2)].map(|(name, number)| (format!("{name}.yaml"), labelled(name, number, "gold")));
    let mut bed = Bed::start(&files);
    bed.change("policy.yaml", &of_tier(&Bed::policy(&bed.upstream, &bed.issuer, ""), "gold"));
    assert_eq!((bed.with_token(), bed.with_token(), bed.asked()), (200, 200, 1));
    for number in [1, 2, 1, 2] {
        assert_eq!(bed.with_key(&key(number)).status, 200);
    }

    bed.change("c.yaml", &labelled("c", 3, "gold"));
    assert_eq!(bed.with_key(&key(3)).status, 200, "a new one is accepted");
    bed.change("a.yaml", &labelled("a", 1, "iron"));
    bed.refused(&key(1), 401, "UnknownApiKey");
    bed.change("a.yaml", &labelled("a", 1, "gold"));
    assert_eq!(bed.with_key(&key(1)).status, 200, "and is accepted again");
    bed.change("c.yaml", "# nothing\n");
    bed.refused(&key(3), 401, "UnknownApiKey");

    assert_eq!((bed.with_token(), bed.asked()), (200, 1), "the issuer is not asked again");
    assert_eq!(bed.with_key(&key(2)).status, 200);
    assert_eq!(bed.cached("apiKey", 7), [false, false, true, true, false, false, true], "the verdict on b stands");
}
