//! Passwords of an OpenID provider's people, which a policy takes itself and the provider checks.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_compile::yaml::read_files;
use idm_compile::{Settings, compile};
use idm_jose::SigningKey;
use idm_tests::{Gateway, InProcess, PASSWORD_OF_ALL, Provider, Reply, Script, Serves, Upstream, open_to, raw};
use idm_types::Algorithm;
use serde_json::{Value, json};

const BASIC: &str = "    - {name: people, basic: {realm: shop, validators: [{federationRef: {name: kc}}]}}\n";
const GRANT: &str = "      dangerPasswordGrant: true\n";
const WRONG: &str = "canary-wrong-guess";

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    provider: Provider,
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::ES256, "k1").unwrap()
}

fn bed<G: Serves>() -> Bed<G> {
    let (upstream, provider) = (Upstream::new(), Provider::new(key()));
    let mappings = "  roleMappings: [{claim: roles, value: order-reader, roles: [reader]}]\n";
    let federation = provider.federation("kc", &format!("{GRANT}{mappings}")).replace("rs256", "");
    let federation = federation.replace("    client:", "    algorithms: [ES256]\n    client:");
    let yaml = format!("{}{federation}", open_to(&upstream, BASIC));
    Bed { gateway: G::start_with(&[("all.yaml", &yaml)], &["--danger-insecure-issuers"]), upstream, provider }
}

impl<G: Serves> Bed<G> {
    fn basic(&self, username: &str, password: &str) -> Reply {
        let pair = STANDARD.encode(format!("{username}:{password}"));
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {pair}\r\n\r\n");
        raw(self.gateway.address(), text.as_bytes())
    }

    /// A refusal: its reason is on its one record, and the upstream heard nothing.
    fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }

    fn guesses(&self) -> usize {
        self.provider.asked("/token").len()
    }
}

/// A change of what the provider answers.
type Change = fn(&mut Script);
type Attack = dyn Fn(&mut Script);

#[test]
fn a_person_whose_password_the_provider_takes_is_the_one_who_signs_in_there() {
    let bed: Bed<Gateway> = bed();
    let reply = bed.basic("ana", PASSWORD_OF_ALL);
    assert_eq!(reply.status, 200, "{}", bed.gateway.log());
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(seen.contains("x-authenticated-userid: ana\r\n"), "{seen}");
    assert!(seen.contains("x-authenticated-userroles: reader\r\n"), "{seen}");
    let asked = bed.provider.asked("/token");
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    let of = |name: &str| asked.parameters.get(name).map(String::as_str);
    assert_eq!((of("grant_type"), of("username")), (Some("password"), Some("ana")));
    assert!(of("scope").unwrap().split(' ').any(|scope| scope == "openid"), "{asked:?}");
    assert!(asked.headers["authorization"].starts_with("Basic "), "the gateway proves itself as at a sign-in");
    let records = idm_tests::eventually("the record", || {
        let records = bed.gateway.records();
        let found = records.iter().find(|record| record["outcome"] == "Permitted").cloned();
        found.ok_or_else(|| "none yet".into())
    });
    assert_eq!(records["identity"]["id"], format!("{}#ana", bed.provider.issuer()), "{records}");
    bed.upstream.forget();
    bed.refused(&bed.basic("ana", WRONG), 401, "WrongPassword");
    let everything = format!("{}{:?}", bed.gateway.log(), bed.gateway.records());
    assert!(!everything.contains(PASSWORD_OF_ALL) && !everything.contains(WRONG), "no password is told");
}

#[test]
fn r06_r09_a_wrong_password_is_401_and_counted_and_a_provider_that_is_away_is_503_and_not() {
    let bed: Bed = bed();
    let outages: [(&str, Change); 3] = [
        ("down", |script| script.down = true),
        ("busy", |script| script.token_status = 503),
        ("asked too often", |script| script.token_status = 429),
    ];
    for (what, outage) in outages {
        bed.provider.script(outage);
        for _ in 0..3 {
            let reply = bed.basic("ana", PASSWORD_OF_ALL);
            let record = bed.gateway.record(reply.decision());
            assert_eq!(reply.status, 503, "{what}: {record}");
        }
        bed.provider.behave();
    }
    let wait = || bed.basic("ana", PASSWORD_OF_ALL).status == 200;
    idm_tests::eventually("the circuit closes", || if wait() { Ok(()) } else { Err("not yet".into()) });
    bed.upstream.forget();
    // Outages counted for nothing. Guesses do, and the provider hears each one once.
    let before = bed.guesses();
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(bed.basic("ana", WRONG).status);
    }
    let wrong = answers.iter().filter(|status| **status == 401).count();
    assert!(wrong >= 3 && answers.last() == Some(&429), "{answers:?}");
    assert_eq!(bed.guesses() - before, wrong, "one guess is one question");
    bed.refused(&bed.basic("ana", PASSWORD_OF_ALL), 429, "TooManyAttempts");
    // The ways of Keycloak and of Auth0 to say the same.
    for status in [401, 403] {
        bed.provider.script(|script| script.token_status = status);
        bed.refused(&bed.basic(&format!("bob{status}"), WRONG), 401, "WrongPassword");
    }
}

/// A caller who learned here that a second factor is missing would know that the password is right.
#[test]
fn a_right_password_that_is_not_enough_is_refused_like_a_wrong_one_and_our_own_faults_are_503() {
    let bed: Bed = bed();
    for (error, status, reason) in [
        ("mfa_required", 401, "AccountRestricted"),
        ("interaction_required", 401, "AccountRestricted"),
        ("invalid_client", 503, "DirectoryRefusesGateway"),
        ("unauthorized_client", 503, "DirectoryRefusesGateway"),
        ("unsupported_grant_type", 503, "DirectoryRefusesGateway"),
    ] {
        bed.provider.script(|script| (script.token_status, script.token_error) = (400, error));
        let reply = bed.basic(&format!("eva-{error}"), PASSWORD_OF_ALL);
        bed.refused(&reply, status, reason);
        assert!(!reply.body.contains("Restricted"), "{}", reply.body);
    }
}

#[test]
fn a_client_that_may_not_do_this_is_an_error_of_the_gateway_and_nobodys_guess() {
    let bed: Bed = bed();
    for _ in 0..6 {
        bed.provider.script(|script| script.answer = json!({"id_token": null}));
        bed.refused(&bed.basic("ana", PASSWORD_OF_ALL), 503, "DirectoryUntrusted");
    }
    bed.provider.behave();
    assert_eq!(bed.basic("ana", PASSWORD_OF_ALL).status, 200);
}

#[test]
fn the_id_token_is_verified_as_after_a_sign_in() {
    let bed: Bed = bed();
    let claims = |claims: Value| move |script: &mut Script| script.claims = claims.clone();
    let other = Arc::new(key());
    let signer = move |script: &mut Script| script.signer = Some(other.clone());
    let attacks: Vec<(&str, Box<Attack>)> = vec![
        ("another key", Box::new(signer)),
        ("another audience", Box::new(claims(json!({"aud": "other"})))),
        ("another issuer", Box::new(claims(json!({"iss": "https://other.example"})))),
        ("ended", Box::new(claims(json!({"exp": 1_000_000})))),
        ("another party", Box::new(claims(json!({"azp": "other"})))),
        ("no subject", Box::new(claims(json!({"sub": null})))),
        ("another hash", Box::new(claims(json!({"at_hash": "AAAA"})))),
        ("no signature", Box::new(|script| script.mangle = |token| token.rsplit_once('.').unwrap().0.to_owned() + ".")),
        ("another person", Box::new(|script| script.userinfo = json!({"sub": "mallory"}))),
    ];
    for (what, attack) in attacks {
        bed.provider.script(|script| attack(script));
        let reply = bed.basic("ana", PASSWORD_OF_ALL);
        let record = bed.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (503, Some("DirectoryUntrusted")), "{what}: {record}");
        assert_eq!(bed.upstream.received(), "", "{what}");
        bed.provider.behave();
    }
    assert_eq!(bed.basic("ana", PASSWORD_OF_ALL).status, 200);
}

/// Those of a folder with a store that its gateways share.
fn settings() -> Settings {
    Settings { remembers_together: true, ..Settings::of_a_folder(false) }
}

/// The findings about a Federation and a policy.
fn findings(more: &str, policy: &str) -> Vec<String> {
    let provider = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {name: kc}\n\
        spec:\n  oidc:\n    \
                    issuer: https://kc.example\n    client: {clientId: shop";
    let upstream = Upstream::new();
    let yaml = format!("{}{provider}{more}}}\n", open_to(&upstream, policy));
    let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings()).unwrap();
    compile(&world, None).report.findings().iter().map(ToString::to_string).collect()
}

#[test]
fn passwords_are_taken_only_where_the_federation_says_so_and_it_is_told_to_be_dangerous() {
    let refused = findings("", BASIC).join("\n");
    assert!(refused.contains("`oidc.client.dangerPasswordGrant` is true"), "{refused}");
    let allowed = findings(", dangerPasswordGrant: true", BASIC).join("\n");
    assert!(allowed.contains("no second factor is asked for"), "{allowed}");
    assert!(!allowed.contains("check no passwords"), "{allowed}");
    let service = "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders], grants: [RefreshToken, \
                   DangerPassword], validators: [{federationRef: {name: kc}}]}\n";
    let refreshed = findings(", dangerPasswordGrant: true", &format!("{BASIC}{service}")).join("\n");
    assert!(refreshed.contains("must be able to look people up again"), "{refreshed}");
}

#[test]
fn digest_takes_a_database_with_hashes_for_its_realm_and_algorithm_and_nothing_else() {
    let federation = |digest: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: members}}\nspec:\n  \
             database:\n    product: PostgreSQL\n    host: db.example\n    database: shop\n    user: gateway\n    \
             passwordRef: {{name: db}}\n    query: SELECT username, password, ha1, enabled FROM people WHERE \
             username = \
             :username\n{digest}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: db}}\n\
             stringData: {{password: x}}\n"
        )
    };
    let method = |more: &str| {
        format!(
            "    - {{name: people, digest: {{realm: shop, validators: [{{federationRef: {{name: \
                members}}}}]{more}}}}}\n"
        )
    };
    let upstream = Upstream::new();
    let errors = |digest: &str, more: &str| -> Vec<String> {
        let yaml = open_to(&upstream, &method(more)) + &federation(digest);
        let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings()).unwrap();
        compile(&world, None).report.errors().map(ToString::to_string).collect()
    };
    assert_eq!(errors("    digest: {realm: shop}\n", ""), Vec::<String>::new());
    for (digest, more, part) in [
        ("", "", "must be a `database` with `digest`"),
        ("    digest: {realm: other}\n", "", "are for the realm 'other'"),
        ("    digest: {realm: shop, algorithm: MD5}\n", "", "`algorithms` must be [MD5] alone"),
        ("    digest: {realm: shop}\n", ", algorithms: [SHA-256, MD5]", "`algorithms` must be [SHA-256] alone"),
    ] {
        let found = errors(digest, more).join("\n");
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn r24_another_attribute_for_user_names_is_refused_while_memberships_name_people_by_the_old_one() {
    let federation = |more: &str| {
        format!(
            "apiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: corp}}\nspec:\n  ldap:\n    \
             servers: ['ldaps://ldap.example']\n    bind: {{anonymous: {{}}}}\n    users: {{base: 'dc=corp', \
             loginAttributes: [uid, mail]{more}}}\n  provisioning: {{role: member}}\n"
        )
    };
    let member = |named_by: &str| {
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {{name: member-1, labels: \
             {{identity-manager.io/provisioned-by: corp, identity-manager.io/named-by: {named_by}}}}}\nspec: {{role: \
             member, subjects: [{{user: ana, issuer: 'federation:default/corp'}}], scope: {{project: {{}}}}}}\n"
        )
    };
    let errors = |yaml: String| -> Vec<String> {
        let (world, _) = read_files(&[("all.yaml".into(), yaml)], settings()).unwrap();
        compile(&world, None).report.errors().map(ToString::to_string).collect()
    };
    assert_eq!(errors(federation("") + &member("uid.mail")), Vec::<String>::new());
    assert_eq!(errors(federation(", idAttribute: entryUUID") + &member("uid.mail")), Vec::<String>::new());
    assert_eq!(errors(federation(", usernameAttribute: cn")), Vec::<String>::new(), "nobody is named yet");
    let found = errors(federation(", usernameAttribute: cn") + &member("uid.mail"));
    let [found] = found.as_slice() else { panic!("{found:?}") };
    let command = "kubectl delete rolebindings.identity-manager.io -l identity-manager.io/provisioned-by=corp";
    assert!(found.contains("usernameAttribute") && found.contains(command), "{found}");
}
