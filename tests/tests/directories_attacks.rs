//! Attacks on people of directories. The directory is a service that equates names as loosely as directories do, and
//! says of people what a test tells it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use idm_tests::http::{Asked, Said, encoded, serve};
use idm_tests::{Browser, Gateway, InProcess, Reply, Serves, Upstream, eventually, now, open_to, raw, secret};
use idm_types::{Algorithm, ApiKey, Timestamp};
use serde_json::{Value, json};

/// A person of the service: what it says of them, and their password.
#[derive(Clone)]
struct Person {
    said: Value,
    password: &'static str,
}

fn person(name: &str, id: &str, password: &'static str) -> Person {
    Person { said: json!({"id": id, "login": name, "groups": []}), password }
}

/// The service, as a test sees it.
#[derive(Clone, Default)]
struct Service {
    people: Arc<Mutex<Vec<Person>>>,
    asked: Arc<Mutex<Vec<String>>>,
    delay: Arc<Mutex<Duration>>,
    /// It takes every name for that of the first person.
    is_loose: Arc<Mutex<bool>>,
}

impl Service {
    fn of(people: &[Person]) -> Self {
        Self { people: Arc::new(Mutex::new(people.to_vec())), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn answer(&self, asked: &Asked) -> Said {
        let people = self.people.lock().unwrap().clone();
        let found = match asked.path.strip_prefix("/people/") {
            Some(id) => people.iter().find(|person| person.said["id"] == id),
            None => {
                let login: Value = serde_json::from_str(&asked.body).unwrap();
                let name = login["login"].as_str().unwrap();
                self.asked.lock().unwrap().push(name.to_owned());
                std::thread::sleep(*self.delay.lock().unwrap());
                let is_loose = *self.is_loose.lock().unwrap();
                let found = people.iter().find(|person| is_loose || person.said["login"] == name);
                found.filter(|person| login["word"] == person.password)
            }
        };
        match found {
            Some(person) => (200, vec![], person.said.to_string()),
            None => (401, vec![], String::new()),
        }
    }

    /// The Federation, with these settings of logins and further members of its metadata.
    fn federation(&self, name: &str, login: &str, metadata: &str) -> String {
        let service = self.clone();
        let address = serve(move |asked| service.answer(&asked));
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: {name}{metadata}}}\n\
                spec:\n  \
             rest:\n    verify: {{url: 'http://{address}/login', json: {{login: '{{username}}', word: \
             '{{password}}'}}}}\n    \
             lookUp: {{url: 'http://{address}/people/{{id}}'}}\n    answer: {{success: 'token.status == 200', id: \
             token.body.id, username: token.body.login, groups: token.body.groups}}\n  login: {login}\n"
        )
    }
}

const ARGUMENTS: &[&str] = &["--danger-insecure-issuers"];
/// Each request says from where it comes.
const PROXIED: &[&str] = &["--danger-insecure-issuers", "--trusted-proxies", "127.0.0.0/8"];
const BASIC: &str =
    "    - {name: people, basic: {realm: shop, validators: [{credentials: {}}, {federationRef: {name: corp}}]}}\n";
const SIGN_IN: &str = "    - name: staff\n      signIn: {federationRefs: [{name: corp}]}\n";

fn credential(name: &str) -> String {
    format!(
        "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: {name}}}\n\
            spec: {{password: \
         {{}}, secretRef: {{name: {name}}}}}\n{}",
        secret(name, &[("password", "the password of the Credential".into())])
    )
}

struct Bed<G = InProcess> {
    gateway: G,
    upstream: Upstream,
    service: Service,
}

impl<G: Serves> Bed<G> {
    fn start(method: &str, service: Service, login: &str, more: &str, arguments: &[&str]) -> Self {
        let upstream = Upstream::new();
        let yaml = format!("{}{}{more}", open_to(&upstream, method), service.federation("corp", login, ""));
        Self { gateway: G::start_with(&[("all.yaml", &yaml)], arguments), upstream, service }
    }

    fn request(pair: &str, from: u8) -> String {
        let credential = STANDARD.encode(pair);
        format!(
            "GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.{from}.7\r\nAuthorization: Basic {credential}\r\n\r\n"
        )
    }

    /// A request with a user name and a password from the address of this number.
    fn basic(&self, pair: &str, from: u8) -> Reply {
        raw(self.gateway.address(), Self::request(pair, from).as_bytes())
    }

    fn reason(&self, reply: &Reply) -> String {
        self.gateway.record(reply.decision())["reason"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn r20_a_spelling_that_the_directory_takes_for_the_same_name_is_no_further_guess() {
    let service = Service::of(&[person("susan", "p-1", "correct horse")]);
    *service.is_loose.lock().unwrap() = true;
    let bed: Bed<Gateway> = Bed::start(BASIC, service, "{suffixes: [corp.test]}", "", PROXIED);
    let spellings = [
        "susan",
        "SUSAN",
        "ſuſan",
        "susan ",
        "s\u{200b}usan",
        "ｓｕｓａｎ",
        "susan@corp.test",
        "ANY\\susan",
        "OTHER\\susan",
        "súsan",
        "su\u{300}san",
        "susan\u{a0}",
    ];
    let mut refused = Vec::new();
    for (from, spelling) in spellings.into_iter().enumerate() {
        let reply = bed.basic(&format!("{spelling}:wrong {from}"), from as u8);
        refused.push(bed.reason(&reply));
    }
    let (checked, waiting) = refused.split_at(5);
    assert_eq!(checked, ["WrongPassword"; 5]);
    assert_eq!(waiting, vec!["TooManyAttempts"; spellings.len() - 5]);
    assert_eq!(bed.service.asked(), 5, "the directory was asked no more often");
}

#[test]
fn the_owner_of_a_name_that_looks_alike_takes_no_guess_at_another_account_back() {
    let people = [person("ana", "p-1", "correct horse"), person("Ana", "p-2", "of mallory")];
    let more = credential("änä");
    let bed: Bed<Gateway> = Bed::start(BASIC, Service::of(&people), "{}", &more, PROXIED);
    for from in 0..5 {
        assert_eq!(bed.reason(&bed.basic(&format!("ana:guess {from}"), from)), "WrongPassword");
        assert_eq!(bed.basic("Ana:of mallory", 99).status, 200);
        assert_eq!(bed.basic("änä:the password of the Credential", 98).status, 200);
    }
    assert_eq!(bed.reason(&bed.basic("ana:guess 6", 50)), "TooManyAttempts");
    assert_eq!(bed.reason(&bed.basic("ana:guess 7", 99)), "TooManyAttempts", "nor where the other account is known");
}

#[test]
fn r06_a_guess_counts_although_its_caller_leaves() {
    let service = Service::of(&[person("ana", "p-1", "correct horse")]);
    let bed: Bed<Gateway> = Bed::start(BASIC, service, "{}", "", PROXIED);
    *bed.service.delay.lock().unwrap() = Duration::from_millis(200);
    for guess in 1..=5 {
        // Few guesses at one password are under way at the same time: the next one waits for an answer.
        eventually("the directory is asked", || {
            let before = bed.service.asked();
            let mut stream = TcpStream::connect(bed.gateway.address()).unwrap();
            stream.write_all(Bed::<Gateway>::request(&format!("ana:guess {guess}"), guess).as_bytes()).unwrap();
            // The caller leaves when the directory is asked, and not after a time in which it may or may not be.
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let is_answered = loop {
                let is_answered = stream.read(&mut [0; 16]).is_ok();
                if is_answered || bed.service.asked() > before {
                    break is_answered;
                }
            };
            (!is_answered).then_some(()).ok_or_else(|| "it was answered before".into())
        });
    }
    // The last answer may be on its way.
    eventually("the guesses are counted", || {
        let reason = bed.reason(&bed.basic("ana:guess 6", 50));
        (reason == "TooManyAttempts").then_some(()).ok_or(reason)
    });
    assert!(bed.service.asked() <= 8, "{}", bed.service.asked());
}

#[test]
fn a_person_with_the_name_of_a_credential_is_not_taken_for_it() {
    let people = [person("robot", "p-1", "of the person"), person("ana", "p-2", "correct horse")];
    let service = Service::of(&people);
    let bed: Bed = Bed::start(BASIC, service, "{domains: [CORP]}", &credential("robot"), ARGUMENTS);
    assert_eq!(bed.basic("robot:the password of the Credential", 0).status, 200);
    assert_eq!(bed.basic("CORP\\ana:correct horse", 0).status, 200);
    bed.upstream.forget();
    let reply = bed.basic("CORP\\robot:of the person", 0);
    assert_eq!((reply.status, bed.reason(&reply).as_str()), (401, "AmbiguousUser"));
    assert_eq!(bed.upstream.received(), "");
}

#[test]
fn a_hostile_directory_names_nobody_and_adds_no_header() {
    let named =
        |login: Value, id: Value| Person { said: json!({"id": id, "login": login, "groups": []}), password: "x" };
    let long = "x".repeat(600);
    for said in [
        named(json!("ana\r\nX-Role: admin"), json!("p-1")),
        named(json!("ana"), json!("p\u{0}1")),
        named(json!("ana"), json!("")),
        named(json!("ana"), json!(long)),
        named(json!("ana"), json!(" p-1")),
        named(json!("ana"), json!(1.5)),
        named(json!(["ana"]), json!("p-1")),
        named(json!(""), json!("p-1")),
    ] {
        let service = Service::of(std::slice::from_ref(&said));
        *service.is_loose.lock().unwrap() = true;
        let bed: Bed = Bed::start(BASIC, service, "{}", "", ARGUMENTS);
        let reply = bed.basic("ana:x", 0);
        assert_eq!((reply.status, bed.reason(&reply).as_str()), (503, "DirectoryUnusable"), "{}", said.said);
        assert_eq!(bed.upstream.received(), "");
    }
    let groups = json!(["staff,admin", "100%", "a b"]);
    let said =
        Person { said: json!({"id": "p-1", "login": "ana", "groups": groups, "roles": ["admin"]}), password: "x" };
    let method = format!(
        "{BASIC}  upstream: {{headers: [{{name: X-Groups, value: token.groups}}, {{name: X-Sub, value: token.sub}}]}}\n"
    );
    let bed: Bed = Bed::start(&method, Service::of(&[said]), "{}", "", ARGUMENTS);
    assert_eq!(bed.basic("ana:x", 0).status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(seen.contains("x-groups: staff%2cadmin,100%25,a b\r\n") && seen.contains("x-sub: p-1\r\n"), "{seen}");
    assert!(!seen.contains("admin\r\n"), "{seen}");
}

const CLIENT: &str = "---
apiVersion: identity-manager.io/v1alpha1
kind: Credential
metadata: {name: app}
spec:
  oauthClient: {clientSecret: {}, grants: [RefreshToken, DangerPassword, ClientCredentials]}
  secretRef: {name: app}
";

/// A token service whose users are Credentials and people of two directories, and a route that takes its tokens.
fn token_bed(corp: Service, lab: &Service, more: &str) -> Bed {
    let method = "    - {name: tokens, jwt: {issuers: [{tokenServiceRef: {name: p}, audiences: [orders]}]}}\n  \
                  tokenService: {issuer: 'https://shop.example/oauth', audiences: [orders], grants: [RefreshToken, \
                  DangerPassword, ClientCredentials], validators: [{credentials: {}}, {federationRef: {name: corp}}, \
                  {federationRef: {name: lab}}]}\n";
    let keys = idm_compile::new_signing_keys(Algorithm::ES256, Timestamp::from_seconds(now() - 10)).unwrap();
    let more = format!(
        "{CLIENT}{}{}{}{more}",
        secret("app", &[("clientSecret", ApiKey::from_random([7; 32]).reveal().to_owned())]),
        secret("idm-signing-keys", &[("p.json", keys)]),
        lab.federation("lab", "{domains: [LAB]}", "")
    );
    Bed::start(method, corp, "{domains: [CORP]}", &more, ARGUMENTS)
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

    /// The tokens of a user.
    fn tokens_of(&self, username: &str, password: &str) -> Value {
        let form = format!("grant_type=password&username={}&password={}", encoded(username), encoded(password));
        let reply = self.token(&form);
        assert_eq!(reply.status, 200, "{username}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }
}

/// The subject of an access token.
fn subject(tokens: &Value) -> String {
    let payload = tokens["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

#[test]
fn no_two_users_of_a_token_service_have_one_subject() {
    let lab = Service::of(&[person("ana", "1", "of lab"), person("ann", "robot", "of ann")]);
    let corp = Service::of(&[person("bob", "1", "of corp"), person("bea", "app", "of bea")]);
    let bed = token_bed(corp, &lab, &credential("robot"));
    let mut subjects = vec![
        subject(&bed.tokens_of("robot", "the password of the Credential")),
        subject(&bed.tokens_of("LAB\\ann", "of ann")),
        subject(&bed.tokens_of("LAB\\ana", "of lab")),
        subject(&bed.tokens_of("CORP\\bob", "of corp")),
        subject(&bed.tokens_of("CORP\\bea", "of bea")),
        subject(&serde_json::from_str(&bed.token("grant_type=client_credentials").body).unwrap()),
    ];
    assert_eq!((subjects[0].as_str(), subjects[5].as_str()), ("robot", "app"));
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 6, "{subjects:?}");
}

#[test]
fn a_refresh_token_is_no_token_of_another_directory_under_the_same_name() {
    let (lab, corp) = (Service::of(&[]), Service::of(&[person("ana", "7", "correct horse")]));
    let bed = token_bed(corp, &lab, "");
    let tokens = bed.tokens_of("ana", "correct horse");
    let refresh = format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().unwrap());
    // The Federation is removed, and another one gets its name, in which somebody else has the id.
    let other = Service::of(&[person("mallory", "7", "x")]).federation("corp", "{}", ", uid: another");
    let files = bed.gateway.read("all.yaml");
    let begin = files.find("---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation").unwrap();
    let end = begin + 4 + files[begin + 4..].find("---\n").unwrap();
    bed.gateway.write("all.yaml", &format!("{}{other}{}", &files[..begin], &files[end..]));
    let reply = bed.token(&refresh);
    assert_eq!((reply.status, bed.reason(&reply).as_str()), (400, "InvalidGrant"), "{}", reply.body);
}

/// Signs in at the form; the browser, and the form's answer.
fn sign_in(bed: &Bed, pair: [&str; 2]) -> (Browser, Reply) {
    let mut browser = Browser::new(bed.gateway.address());
    let form = browser.to_provider("/orders");
    let shown = browser.go(&form).body;
    let state = shown.split("name=\"state\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let fields = [("state", state.as_str()), ("username", pair[0]), ("password", pair[1])];
    let body = fields.map(|(name, value)| format!("{name}={}", encoded(value))).join("&");
    let headers = [
        ("Accept", "text/html"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let reply = browser.send("POST", "/_idm/login/corp", &headers, &body);
    (browser, reply)
}

#[test]
fn a_session_has_all_groups_of_its_person() {
    let groups: Vec<String> = (0..1200).map(|number| format!("g{number}")).collect();
    let said = Person { said: json!({"id": "p-1", "login": "ana", "groups": groups}), password: "correct horse" };
    let binding = "---\napiVersion: identity-manager.io/v1alpha1\nkind: RoleBinding\nmetadata: {name: b}\nspec: {role: \
                   blocked, subjects: [{group: g1199, issuer: 'federation:default/corp'}], scope: {project: {}}}\n";
    let bed: Bed = Bed::start(SIGN_IN, Service::of(&[said]), "{}", binding, ARGUMENTS);
    let (mut browser, reply) = sign_in(&bed, ["ana", "correct horse"]);
    assert_eq!(reply.status, 303, "{}", reply.body);
    assert_eq!(browser.go("/orders").status, 200);
    let seen = bed.upstream.received().to_ascii_lowercase();
    assert!(seen.contains("x-authenticated-userroles: blocked\r\n"), "{seen}");
}

#[test]
fn no_password_is_logged_at_any_level_by_anybody() {
    const CANARY: &str = "canary-4711-Kanarie";
    let people = [person("ana", "p-1", CANARY)];
    let basic: Bed = Bed::start(BASIC, Service::of(&people), "{cacheSeconds: 60}", "", ARGUMENTS);
    assert_eq!(basic.basic(&format!("ana:{CANARY}"), 0).status, 200);
    assert_eq!(basic.basic(&format!("ana:{CANARY} and more"), 0).status, 401);
    let form: Bed = Bed::start(SIGN_IN, Service::of(&people), "{}", "", ARGUMENTS);
    assert_eq!(sign_in(&form, ["ana", CANARY]).1.status, 303);
    let again = sign_in(&form, ["ana", &format!("{CANARY} and more")]).1;
    assert!(again.status == 401 && !again.body.contains(CANARY), "{}", again.body);
    let tokens = token_bed(Service::of(&people), &Service::of(&[]), "");
    tokens.tokens_of("ana", CANARY);
    for bed in [&basic, &form, &tokens] {
        let (log, records) = (bed.gateway.log(), Value::from(bed.gateway.records()).to_string());
        let encoded = STANDARD.encode(format!("ana:{CANARY}"));
        for said in [log, records] {
            let leak = said.lines().find(|line| line.contains(CANARY) || line.contains(&encoded));
            assert_eq!(leak, None);
        }
    }
}
