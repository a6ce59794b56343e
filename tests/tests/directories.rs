//! People of a directory at every door: Basic, the password grant and the sign-in form. The directory is a service that
//! answers as a test tells it; real directories are in the tests of `idm-directory`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idm_tests::http::{Asked, Said, encoded, serve};
use idm_tests::{Browser, Gateway, InProcess, Reply, Serves, Upstream, eventually, now, open_to, raw, raw_on, secret};
use idm_types::{Algorithm, ApiKey, Timestamp};
use serde_json::{Value, json};

/// A person of the service.
#[derive(Clone)]
struct Person {
    id: &'static str,
    password: &'static str,
    groups: Vec<&'static str>,
}

/// The service, as a test sees it.
#[derive(Clone, Default)]
struct Service {
    people: Arc<Mutex<BTreeMap<String, Person>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Every question is answered 500.
    is_broken: Arc<Mutex<bool>>,
    delay: Arc<Mutex<Duration>>,
}

impl Service {
    fn new() -> Self {
        let service = Self::default();
        service.put("ana", Person { id: "p-1", password: "correct horse", groups: vec!["staff"] });
        service.put("bob", Person { id: "p-2", password: "battery staple", groups: vec![] });
        service
    }

    fn put(&self, name: &str, person: Person) {
        self.people.lock().unwrap().insert(name.to_owned(), person);
    }

    fn remove(&self, name: &str) {
        self.people.lock().unwrap().remove(name);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }

    fn answer(&self, asked: &Asked) -> Said {
        std::thread::sleep(*self.delay.lock().unwrap());
        if *self.is_broken.lock().unwrap() {
            return (500, vec![], String::new());
        }
        let people = self.people.lock().unwrap();
        let found = match asked.path.strip_prefix("/people/") {
            Some(id) => {
                self.asked.lock().unwrap().push(format!("look up {id}"));
                people.iter().find(|(_, person)| person.id == id)
            }
            None => {
                let login: Value = serde_json::from_str(&asked.body).unwrap();
                let name = login["login"].as_str().unwrap();
                self.asked.lock().unwrap().push(name.to_owned());
                // As some directories do, it takes names without regard to case.
                let found = people.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.filter(|(_, person)| login["word"] == person.password)
            }
        };
        match found {
            Some((name, Person { id, groups, .. })) => {
                (200, vec![], json!({"id": id, "login": name, "groups": groups, "mail": "m@x"}).to_string())
            }
            None => (401, vec![], String::new()),
        }
    }

    /// The Federation, with these settings of logins and further members.
    fn federation(&self, name: &str, login: &str, more: &str) -> String {
        let service = self.clone();
        let address = serve(move |asked| service.answer(&asked));
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: {name}}}\n\
                spec:\n  rest:\n    \
             verify: {{url: 'http://{address}/login', json: {{login: '{{username}}', word: '{{password}}'}}}}\n    \
             lookUp: {{url: 'http://{address}/people/{{id}}'}}\n    retries: 0\n    answer: {{success: 'token.status \
             == \
             200', id: token.body.id, username: token.body.login, groups: token.body.groups, claims: [{{name: mail, \
             value: \
             token.body.mail}}]}}\n  roleMappings: [{{group: staff, roles: [order-reader]}}]\n  login: {login}\n{more}"
        )
    }
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    service: Service,
}

const ARGUMENTS: &[&str] = &["--danger-insecure-issuers"];
const BASIC: &str =
    "    - {name: people, basic: {realm: shop, validators: [{credentials: {}}, {federationRef: {name: corp}}]}}\n";
const CREDENTIAL: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: robot}
spec: {password: {}, secretRef: {name: robot}}
---
apiVersion: v1
kind: Secret
metadata: {name: robot}
stringData: {password: 'robot password'}
";

fn yaml(upstream: &Upstream, method: &str, service: &Service, login: &str) -> String {
    format!("{}{CREDENTIAL}{}", open_to(upstream, method), service.federation("corp", login, ""))
}

fn bed_with<G: Serves>(method: &str, login: &str) -> Bed<G> {
    let (upstream, service) = (Upstream::new(), Service::new());
    let yaml = yaml(&upstream, method, &service, login);
    Bed { gateway: G::start_with(&[("all.yaml", &yaml)], ARGUMENTS), upstream, service }
}

fn bed() -> Bed {
    bed_with(BASIC, "{}")
}

impl<G: Serves> Bed<G> {
    fn basic(&self, pair: &str) -> Reply {
        let credential = STANDARD.encode(pair);
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credential}\r\n\r\n");
        raw(self.gateway.address(), text.as_bytes())
    }

    /// The same from another address of this machine.
    fn basic_from(&self, pair: &str, own: Ipv4Addr) -> Reply {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
        socket.connect(&self.gateway.address().into()).unwrap();
        let mut stream: TcpStream = socket.into();
        let credential = STANDARD.encode(pair);
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credential}\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        raw_on(&mut stream)
    }

    /// A refusal: its reason is on its one record, and the upstream heard nothing.
    fn refused(&self, reply: &Reply, status: u16, reason: &str) -> Value {
        let record = self.gateway.record(reply.decision());
        assert_eq!((reply.status, record["reason"].as_str()), (status, Some(reason)), "{record}");
        assert_eq!(self.upstream.received(), "");
        record
    }
}

#[test]
fn a_person_of_a_directory_is_let_in_with_the_roles_of_their_groups() {
    let bed: Bed<Gateway> = bed_with(BASIC, "{}");
    assert_eq!(bed.basic("ana:correct horse").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana\r\n")
            && seen.contains("x-authenticated-userroles: order-reader\r\n")
            && !seen.contains("authorization"),
        "{seen}"
    );
    let record = eventually("the record", || {
        let records = bed.gateway.records();
        records.into_iter().find(|record| record["outcome"] == "Permitted").ok_or_else(|| "none yet".into())
    });
    assert_eq!(record["identity"]["id"], "federation:default/corp#p-1", "{record}");
    assert!(!bed.gateway.log().contains("correct horse"), "no password in the log");
}

#[test]
fn r43_a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let bed = bed();
    let timed = |pair: &str| {
        let began = Instant::now();
        let reply = bed.basic(pair);
        (bed.refused(&reply, 401, "WrongPassword"), reply, began.elapsed())
    };
    let ((known, one, first), (unknown, other, second)) = (timed("ana:wrong"), timed("nobody:wrong"));
    let told = |reply: &Reply| reply.body.replace(reply.decision(), "ID");
    assert_eq!(told(&one), told(&other));
    assert_ne!(known["detail"], unknown["detail"], "the audit tells them apart");
    for elapsed in [first, second] {
        assert!(elapsed >= Duration::from_millis(450), "{elapsed:?}");
    }
}

#[test]
fn the_first_source_that_knows_the_name_decides() {
    let bed = bed();
    assert_eq!(bed.basic("robot:robot password").status, 200);
    bed.upstream.forget();
    bed.refused(&bed.basic("robot:wrong"), 401, "WrongPassword");
    assert_eq!(bed.service.asked(), Vec::<String>::new(), "a wrong password of a Credential is not tried elsewhere");
    assert_eq!(bed.basic("bob:battery staple").status, 200);
    assert_eq!(bed.service.asked(), ["bob"]);
}

#[test]
fn r01_no_empty_password_reaches_the_directory() {
    let bed = bed();
    for empty in ["ana:", "ana:\0", "ana:\0x"] {
        bed.refused(&bed.basic(empty), 401, "MalformedCredential");
    }
    assert_eq!(bed.service.asked(), Vec::<String>::new());
}

#[test]
fn r06_after_a_few_wrong_guesses_the_directory_is_left_alone() {
    let bed: Bed = bed_with(BASIC, "{domains: [CORP], suffixes: [corp.test]}");
    for name in ["ana", "ANA", "CORP\\ana", "ana@corp.test", "corp\\Ana"] {
        bed.refused(&bed.basic(&format!("{name}:wrong")), 401, "WrongPassword");
    }
    bed.service.forget();
    let late = bed.basic("ana:wrong");
    bed.refused(&late, 429, "TooManyAttempts");
    assert!(late.header("retry-after").is_some());
    bed.refused(&bed.basic("CORP\\ANA:correct horse"), 429, "TooManyAttempts");
    assert_eq!(bed.service.asked(), Vec::<String>::new());
}

#[test]
fn r20_every_spelling_of_a_name_is_one_person() {
    let bed: Bed = bed_with(BASIC, "{domains: [CORP], suffixes: [corp.test]}");
    for name in ["ana", "ANA", "corp\\ana", "CORP\\Ana"] {
        bed.upstream.forget();
        assert_eq!(bed.basic(&format!("{name}:correct horse")).status, 200, "{name}");
        assert!(bed.upstream.received().to_ascii_lowercase().contains("x-authenticated-userid: ana\r\n"), "{name}");
    }
    let ids: Vec<Value> = bed.gateway.records().iter().map(|record| record["identity"]["id"].clone()).collect();
    assert_eq!(ids, vec!["federation:default/corp#p-1"; 4]);
}

#[test]
fn r21_a_realm_leads_to_its_directory_and_to_no_other() {
    let (upstream, corp, lab) = (Upstream::new(), Service::new(), Service::new());
    let method = "    - {name: people, basic: {realm: shop, validators: [{federationRef: {name: corp}}, \
        {federationRef: {name: lab}}]}}\n";
    let federations = corp.federation("corp", "{domains: [CORP]}", "") + &lab.federation("lab", "{domains: [LAB]}", "");
    lab.put("ana", Person { id: "l-1", password: "lab password", groups: vec![] });
    let yaml = format!("{}{federations}", open_to(&upstream, method));
    let bed: Bed = Bed { gateway: InProcess::start_with(&[("all.yaml", &yaml)], ARGUMENTS), upstream, service: corp };
    bed.refused(&bed.basic("LAB\\ana:correct horse"), 401, "WrongPassword");
    assert_eq!((bed.service.asked(), lab.asked()), (vec![], vec!["ana".to_owned()]));
    assert_eq!(bed.basic("LAB\\ana:lab password").status, 200);
    bed.upstream.forget();
    lab.forget();
    // Without a realm the sources are asked in order; the service cannot tell a wrong password from an unknown name.
    bed.refused(&bed.basic("ana:lab password"), 401, "WrongPassword");
    assert_eq!((bed.service.asked().len(), lab.asked().len()), (1, 0));
    bed.refused(&bed.basic("ELSE\\ana:correct horse"), 401, "WrongPassword");
}

#[test]
fn r09_an_outage_is_no_verdict_about_anybody() {
    let bed: Bed = bed_with(BASIC, "{cacheSeconds: 60}");
    *bed.service.is_broken.lock().unwrap() = true;
    let record = bed.refused(&bed.basic("ana:correct horse"), 503, "DirectoryUnusable");
    assert!(record["detail"].as_str().is_some_and(|detail| detail.contains("500")), "{record}");
    *bed.service.is_broken.lock().unwrap() = false;
    assert_eq!(bed.basic("ana:correct horse").status, 200, "nothing of it was kept");
}

#[test]
fn r40_a_verified_password_is_kept_only_where_the_federation_says_so() {
    let asks: Bed = bed_with(BASIC, "{}");
    let keeps: Bed = bed_with(BASIC, "{cacheSeconds: 60}");
    for bed in [&asks, &keeps] {
        for _ in 0..3 {
            assert_eq!(bed.basic("ana:correct horse").status, 200);
        }
    }
    assert_eq!((asks.service.asked().len(), keeps.service.asked().len()), (3, 1));
    // r41: another password is another question.
    keeps.upstream.forget();
    keeps.refused(&keeps.basic("ana:wrong"), 401, "WrongPassword");
    keeps.upstream.forget();
    let suspended = keeps.gateway.read("all.yaml").replace("  login:", "  suspend: true\n  login:");
    keeps.gateway.write("all.yaml", &suspended);
    keeps.refused(&keeps.basic("ana:correct horse"), 403, "FederationSuspended");
}

#[test]
fn equal_logins_at_the_same_time_are_one_question() {
    let bed: Bed<Gateway> = bed_with(BASIC, "{}");
    *bed.service.delay.lock().unwrap() = Duration::from_millis(300);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..8).map(|_| scope.spawn(|| bed.basic("ana:correct horse").status)).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 8]);
    assert!(bed.service.asked().len() < 4, "{:?}", bed.service.asked());
}

const CLIENT: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: app}
spec: {oauthClient: {clientSecret: {}, grants: [RefreshToken, DangerPassword]}, secretRef: {name: app}}
";

/// A token service whose users are people of the directory, and a route that takes its tokens.
fn token_bed() -> Bed {
    let (upstream, service) = (Upstream::new(), Service::new());
    let method = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n";
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
    let rest = "  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders], grants: [RefreshToken, \
                DangerPassword], validators: [{federationRef: {name: corp}}]}\n";
    let yaml = format!(
        "{}{rest}{CLIENT}{}{}{}",
        open_to(&upstream, method),
        secret("app", &[("clientSecret", ApiKey::from_random([7; 32]).reveal().to_owned())]),
        secret("idm-signing-keys", &[("p.json", keys)]),
        service.federation("corp", "{}", "")
    );
    Bed { gateway: InProcess::start_with(&[("all.yaml", &yaml)], ARGUMENTS), upstream, service }
}

impl Bed {
    fn token(&self, form: &str) -> Reply {
        let client = STANDARD.encode(format!("app:{}", ApiKey::from_random([7; 32]).reveal()));
        let text = format!(
            "POST /oauth/token HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Basic {client}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        raw(self.gateway.address(), text.as_bytes())
    }

    fn with_token(&self, token: &str) -> Reply {
        let text = format!("GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        raw(self.gateway.address(), text.as_bytes())
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn r42_tokens_of_people_end_with_them() {
    let bed = token_bed();
    let wrong = bed.token("grant_type=password&username=ana&password=wrong");
    bed.refused(&wrong, 400, "InvalidGrant");
    let got = bed.token("grant_type=password&username=ana&password=correct+horse");
    assert_eq!(got.status, 200, "{}", got.body);
    let tokens: Value = serde_json::from_str(&got.body).unwrap();
    let token = tokens["access_token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!(
        (said["sub"].as_str(), said["idp"].as_str(), said["preferred_username"].as_str(), &said["roles"]),
        (Some("federation:default/corp#p-1"), Some("federation:default/corp"), Some("ana"), &json!(["order-reader"])),
        "{said}"
    );
    assert_eq!(bed.with_token(token).status, 200);
    bed.upstream.forget();
    // Renamed and in no group any more: the same person, without the role.
    bed.service.remove("ana");
    bed.service.put("ana.new", Person { id: "p-1", password: "x", groups: vec![] });
    let refresh = format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().unwrap());
    let renewed: Value = serde_json::from_str(&bed.token(&refresh).body).unwrap();
    let said = claims(renewed["access_token"].as_str().unwrap_or_else(|| panic!("{renewed}")));
    assert_eq!(
        (said["sub"].as_str(), said["preferred_username"].as_str()),
        (Some("federation:default/corp#p-1"), Some("ana.new")),
        "{said}"
    );
    assert_eq!(said["roles"], Value::Null, "{said}");
    // An outage refuses for now, and the refresh token still works afterwards.
    let refresh = format!("grant_type=refresh_token&refresh_token={}", renewed["refresh_token"].as_str().unwrap());
    *bed.service.is_broken.lock().unwrap() = true;
    bed.refused(&bed.token(&refresh), 503, "DirectoryUnusable");
    *bed.service.is_broken.lock().unwrap() = false;
    let renewed: Value = serde_json::from_str(&bed.token(&refresh).body).unwrap();
    let refresh = format!("grant_type=refresh_token&refresh_token={}", renewed["refresh_token"].as_str().unwrap());
    bed.service.remove("ana.new");
    bed.refused(&bed.token(&refresh), 400, "InvalidGrant");
    // Suspended: no token of its people is taken, although it has not expired.
    let suspended = bed.gateway.read("all.yaml").replace("  login:", "  suspend: true\n  login:");
    bed.gateway.write("all.yaml", &suspended);
    bed.refused(&bed.with_token(token), 401, "TokenRevoked");
}

const SIGN_IN: &str = "    - name: staff\n      signIn: {federationRefs: [{name: corp}]}\n";

impl<G: Serves> Bed<G> {
    /// The browser at the form, with the form's `state`.
    fn at_form(&self) -> (Browser, String) {
        let mut browser = Browser::new(self.gateway.address());
        let form = browser.to_provider("/orders");
        let shown = browser.go(&form);
        let text = &shown.body;
        assert!(
            shown.status == 200
                && text.contains("autocomplete=\"current-password\"")
                && text.contains("<label for=\"u\">")
                && !text.contains("<script"),
            "{text}"
        );
        let state = text.split("name=\"state\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (browser, state)
    }

    fn send_form(&self, browser: &mut Browser, state: &str, pair: [&str; 2], from: &str) -> Reply {
        let fields = [("state", state), ("username", pair[0]), ("password", pair[1])];
        let body = fields.map(|(name, value)| format!("{name}={}", encoded(value))).join("&");
        let headers = [
            ("Accept", "text/html"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Site", from),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        browser.send("POST", "/_idm/login/corp", &headers, &body)
    }
}

#[test]
fn people_sign_in_with_the_form_of_a_directory() {
    let bed: Bed<Gateway> = bed_with(SIGN_IN, "{}");
    let (mut browser, state) = bed.at_form();
    let wrong = bed.send_form(&mut browser, &state, ["ana", "wrong"], "same-origin");
    bed.refused(&wrong, 401, "WrongPassword");
    let text = &wrong.body;
    assert!(text.contains("role=\"alert\"") && text.contains("value=\"ana\"") && !text.contains("wrong\""), "{text}");
    let right = bed.send_form(&mut browser, &state, ["ana", "correct horse"], "same-origin");
    assert_eq!((right.status, right.header("location")), (303, Some("/orders")), "{}", right.body);
    assert_eq!(browser.go("/orders").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(
        seen.contains("x-authenticated-userid: ana\r\n")
            && seen.contains("x-authenticated-userroles: order-reader\r\n"),
        "{seen}"
    );
    bed.upstream.forget();
    // The form works once.
    let again = bed.send_form(&mut browser, &state, ["ana", "correct horse"], "same-origin");
    assert_eq!(again.header("location"), Some("/_idm?to=%2Forders"));
    bed.refused(&again, 303, "UnknownSignIn");
    assert!(!bed.gateway.log().contains("correct horse"), "no password in the log");
}

#[test]
fn the_form_is_taken_from_its_own_page_and_browser_alone() {
    let bed: Bed = bed_with(SIGN_IN, "{}");
    let (mut browser, state) = bed.at_form();
    let right = ["ana", "correct horse"];
    bed.refused(&bed.send_form(&mut browser, &state, right, "cross-site"), 403, "CrossSiteRequest");
    let mut other = Browser::new(bed.gateway.address());
    bed.refused(&bed.send_form(&mut other, &state, right, "same-origin"), 303, "UnknownSignIn");
    let (mut third, _) = bed.at_form();
    bed.refused(&bed.send_form(&mut third, &state, right, "same-origin"), 303, "UnknownSignIn");
    bed.refused(&bed.send_form(&mut third, "", right, "same-origin"), 400, "UnknownSignIn");
    assert_eq!(bed.service.asked(), Vec::<String>::new(), "no password was tried");
    let planted = "\"><script>alert(1)</script>";
    let shown = bed.send_form(&mut browser, &state, [planted, "x"], "same-origin").body;
    assert!(!shown.contains("<script>") && shown.contains("&lt;script&gt;"), "{shown}");
}

#[test]
fn r42_a_session_ends_when_its_person_is_gone() {
    let bed: Bed = bed_with(SIGN_IN, "{recheckSeconds: 1}");
    let (mut browser, state) = bed.at_form();
    bed.send_form(&mut browser, &state, ["ana", "correct horse"], "same-origin");
    assert_eq!(browser.go("/orders").status, 200);
    eventually("the person is looked up again", || {
        assert_eq!(browser.go("/orders").status, 200);
        bed.service.asked().contains(&"look up p-1".to_owned()).then_some(()).ok_or_else(|| "not yet".into())
    });
    bed.service.remove("ana");
    let over = eventually("the session ends", || {
        let reply = browser.go("/orders");
        (reply.status != 200).then_some(reply).ok_or_else(|| "not yet".into())
    });
    bed.upstream.forget();
    bed.refused(&over, 303, "SessionEnded");
}

#[test]
fn r42_sessions_wait_for_a_directory_that_is_away_unless_told_otherwise() {
    let denies: Bed = bed_with(SIGN_IN, "{recheckSeconds: 1}");
    let keeps: Bed = bed_with(SIGN_IN, "{recheckSeconds: 1, onOutage: KeepSessions}");
    let signed_in = |bed: &Bed| {
        let (mut browser, state) = bed.at_form();
        bed.send_form(&mut browser, &state, ["ana", "correct horse"], "same-origin");
        assert_eq!(browser.go("/orders").status, 200);
        *bed.service.is_broken.lock().unwrap() = true;
        browser
    };
    let (mut denied, mut kept) = (signed_in(&denies), signed_in(&keeps));
    let refused = eventually("the session is refused", || {
        let reply = denied.go("/orders");
        (reply.status != 200).then_some(reply).ok_or_else(|| "not yet".into())
    });
    denies.upstream.forget();
    denies.refused(&refused, 503, "DirectoryUnavailable");
    assert_eq!(kept.go("/orders").status, 200);
    *denies.service.is_broken.lock().unwrap() = false;
    eventually("the session goes on", || {
        (denied.go("/orders").status == 200).then_some(()).ok_or_else(|| "not yet".into())
    });
}

/// The caller who must wait learns nothing about the directory, and an outage is no guess.
#[test]
fn r06_r09_while_a_directory_is_away_who_must_wait_gets_429_and_others_503() {
    let bed: Bed<Gateway> = bed_with(BASIC, "{}");
    for _ in 0..5 {
        bed.refused(&bed.basic("ana:wrong"), 401, "WrongPassword");
    }
    *bed.service.is_broken.lock().unwrap() = true;
    bed.service.forget();
    let waits = bed.basic("ana:correct horse");
    bed.refused(&waits, 429, "TooManyAttempts");
    assert!(waits.header("retry-after").is_some());
    // Somebody else, from elsewhere: the address waits, too.
    let bob = || bed.basic_from("bob:battery staple", Ipv4Addr::new(127, 7, 7, 7));
    bed.refused(&bob(), 503, "DirectoryUnusable");
    for _ in 0..8 {
        // The circuit opens meanwhile.
        assert_eq!(bob().status, 503);
    }
    assert!(!bed.service.asked().contains(&"ana".to_owned()), "who must wait is not asked about");
    *bed.service.is_broken.lock().unwrap() = false;
    eventually("the directory is asked again", || (bob().status == 200).then_some(()).ok_or_else(|| "not yet".into()));
    bed.upstream.forget();
    // The delay of before the outage holds after it.
    let later = bed.basic("ana:correct horse");
    assert!(matches!(later.status, 429 | 200), "{later:?}");
}

/// If nobody can be looked up, a session holds what was true at the sign-in until something here ends it.
#[test]
fn r42_without_a_look_up_sessions_hold_until_they_are_ended_here() {
    let (upstream, service) = (Upstream::new(), Service::new());
    let whole = yaml(&upstream, SIGN_IN, &service, "{}");
    let look_up = whole.split_inclusive('\n').find(|line| line.trim_start().starts_with("lookUp:")).unwrap().to_owned();
    let yaml = whole.replace(&look_up, "");
    let bed: Bed = Bed { gateway: InProcess::start_with(&[("all.yaml", &yaml)], ARGUMENTS), upstream, service };
    let (mut browser, state) = bed.at_form();
    bed.send_form(&mut browser, &state, ["ana", "correct horse"], "same-origin");
    bed.service.remove("ana");
    bed.service.forget();
    for _ in 0..3 {
        assert_eq!(browser.go("/orders").status, 200);
    }
    assert_eq!(bed.service.asked(), Vec::<String>::new(), "nobody is asked about her");
    // A new sign-in is refused, and the Federation ends the session.
    let (mut other, state) = bed.at_form();
    bed.upstream.forget();
    bed.refused(&bed.send_form(&mut other, &state, ["ana", "correct horse"], "same-origin"), 401, "WrongPassword");
    bed.gateway.write("all.yaml", &yaml.replace("  login: {}\n", "  login: {}\n  suspend: true\n"));
    let over = eventually("the session ends", || {
        let reply = browser.go("/orders");
        (reply.status != 200).then_some(reply).ok_or_else(|| "not yet".into())
    });
    bed.upstream.forget();
    let record = bed.gateway.record(over.decision());
    assert_ne!(record["outcome"], "Permitted", "{record}");
}

#[test]
fn r41_right_and_wrong_passwords_in_turn_never_change_each_others_verdict() {
    let bed: Bed = bed_with(BASIC, "{cacheSeconds: 60}");
    for _ in 0..3 {
        assert_eq!(bed.basic("ana:correct horse").status, 200);
        bed.upstream.forget();
        bed.refused(&bed.basic("ana:wrong"), 401, "WrongPassword");
    }
    // The right one is kept, and each wrong one is asked about.
    assert_eq!(bed.service.asked().len(), 1 + 3);
}
