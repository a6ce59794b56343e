//! Paths that not every server reads alike: refused, or taken by the policy of their rule and no other. `f21` and `f22`
//! are the numbers of reports from users of such systems.

use idm_tests::{Gateway, Reply, Upstream, eventually, policy_of, raw, route_to};

const OPEN: &str = "{name: everyone, anonymous: {}}";
const KEYS: &str = "{name: machines, apiKey: {}}";

struct Bed {
    gateway: Gateway,
    upstream: Upstream,
}

impl Bed {
    /// One rule for each of these prefixes with a policy of its own, which has these methods and members.
    fn new(rules: &[(&str, &str, &str)]) -> Self {
        let upstream = Upstream::new();
        let gateway = Gateway::start(&[("all.yaml", &world(&upstream, rules))]);
        Self { gateway, upstream }
    }

    fn get(&self, path: &str) -> Reply {
        self.upstream.forget();
        raw(self.gateway.address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }

    /// Taken, forwarded as `forwarded` and recorded as `recorded`.
    fn taken(&self, path: &str, forwarded: &str, recorded: &str) {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let received = self.upstream.received();
        assert!(received.starts_with(&format!("GET {forwarded} HTTP/1.1\r\n")), "{path}: {received}");
        eventually("the record", || {
            let records = self.gateway.records();
            let found = records.iter().any(|record| record["request"]["path"] == recorded && record["status"] == 200);
            if found { Ok(()) } else { Err(format!("{records:?}")) }
        });
    }

    /// Refused as ambiguous, with one record that says why, and nothing sent on.
    fn refused(&self, path: &str, why: &str) {
        let reply = self.get(path);
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
        let record = self.gateway.record(reply.decision());
        assert_eq!(record["reason"], "AmbiguousPath", "{path}: {record}");
        assert!(record["detail"].as_str().unwrap().contains(why), "{path}: {record}");
        assert_eq!(self.upstream.received(), "", "{path}");
    }
}

fn world(upstream: &Upstream, rules: &[(&str, &str, &str)]) -> String {
    let rule = |(i, (prefix, ..)): (usize, &(&str, &str, &str))| {
        format!("  - {{name: r{i}, matches: [{{path: {{type: PathPrefix, value: '{prefix}'}}}}], UP}}\n")
    };
    let policy = |(i, (_, method, more)): (usize, &(&str, &str, &str))| {
        policy_of(&format!("p{i}"), Some(&format!("r{i}")), method, more)
    };
    let of_rules = rules.iter().enumerate().map(rule).collect::<String>();
    route_to(upstream, &of_rules) + &rules.iter().enumerate().map(policy).collect::<String>()
}

const ALL: &str =
    "  paths: {allow: [EncodedSlash, EncodedPercent, EncodedQuestionMark, EncodedHash, Parameters, EmptySegments]}\n";

#[test]
fn f21_a_policy_takes_encoded_slashes_and_every_other_refuses_them_by_name() {
    let bed = Bed::new(&[("/npm", OPEN, "  paths: {allow: [EncodedSlash]}\n"), ("/", OPEN, "")]);
    bed.taken("/npm/@scope%2fname", "/npm/@scope%2Fname", "/npm/@scope%2Fname");
    bed.taken("/npm/@scope%2Fname/-/x.tgz?a=%2F", "/npm/@scope%2Fname/-/x.tgz?a=%2F", "/npm/@scope%2Fname/-/x.tgz");
    let named = "`/` in an escape (`%2F`), which is taken only with `paths.allow: [EncodedSlash]`";
    bed.refused("/api/v4/projects/a%2Fb", named);
    // A slash that is escaped ends no segment of a prefix.
    bed.refused("/npm%2Fx", named);
    for path in ["/npm/..%2Fx", "/npm/%2e%2e%2Fx", "/npm/x%2F..", "/npm/x%2f.%2fy", "/npm/..%2f..%2fadmin"] {
        bed.refused(path, if path.contains("%2e") { "`.` in an escape" } else { "`.` or `..`" });
    }
    for path in ["/npm/%2Fx", "/npm/x%2F%2Fy", "/npm/x%2F/y"] {
        bed.refused(path, "empty segment");
    }
    bed.refused("/npm/a%252Fb", "`%` in an escape (`%25`), which is taken only with `paths.allow: [EncodedPercent]`");
    bed.refused("/npm/a;x", "`;` with parameters, which is taken only with `paths.allow: [Parameters]`");
    bed.refused("/npm//x", "empty segments (`//`), which is taken only with `paths.allow: [EmptySegments]`");
    bed.refused("/npm/a%5cb", "`\\` in an escape");
}

#[test]
fn f21_a_spelling_never_reaches_what_another_rule_protects() {
    let bed = Bed::new(&[("/", OPEN, ALL), ("/admin", KEYS, ""), ("/shop/staff", KEYS, ALL)]);
    for path in [
        "/%61dmin%2Fusers",
        "/admin%2Fusers",
        "/admin%252Fusers",
        "/admin%252fusers",
        "/admin%3Fx",
        "/admin%23x",
        "/shop%2Fstaff",
        "/shop%2Fstaff%2Fx",
        "/shop%252Fstaff",
        "/shop/staff%3F",
        "/shop%2Fstaff%3Fx",
    ] {
        bed.refused(path, "which is of another rule");
    }
    // Under the rule itself the policy does not take the form, or asks for its credential.
    bed.refused("/admin/a%2Fb", "which is taken only with");
    for path in ["//admin", "/admin;x", "/shop//staff", "/shop/staff;x=1", "/shop/staff/a%2Fb"] {
        let reply = bed.get(path);
        if reply.status == 400 {
            bed.refused(path, "which is taken only with");
        } else {
            let record = bed.gateway.record(reply.decision());
            assert_eq!((reply.status, &record["reason"]), (401, &"NoCredentials".into()), "{path}: {record}");
        }
        assert_eq!(bed.upstream.received(), "", "{path}");
    }
    for path in ["/shop;x/staff", "/x;/admin", "/..;/admin", "/x/..;x"] {
        bed.refused(path, if path.contains("..") { "`..`" } else { "`;` before its last segment" });
    }
    bed.refused("/%2561dmin", "an escape inside an escape");
    bed.taken("/shop%2Fother", "/shop%2Fother", "/shop%2Fother");
}

#[test]
fn f22_parameters_percent_signs_and_empty_segments_have_one_form() {
    let bed = Bed::new(&[("/", OPEN, ALL)]);
    // Sessions are credentials: they are not recorded.
    bed.taken("/shop/list;jsessionid=1A.node!2?q=1", "/shop/list;jsessionid=1A.node!2?q=1", "/shop/list");
    bed.taken("//shop///list//", "/shop/list/", "/shop/list/");
    bed.taken("/100%25", "/100%25", "/100%25");
    bed.taken("/a%252Fb", "/a%252Fb", "/a%252Fb");
    bed.taken("/wiki/What%3f", "/wiki/What%3F", "/wiki/What%3F");
    bed.taken("/notes/C%23", "/notes/C%23", "/notes/C%23");
    bed.refused("/a;x=%2F", "escapes in the parameters");
    bed.refused("/a%3bx", "`;` in an escape");
    bed.refused("/a%00", "control character");
    assert!(!bed.gateway.records().iter().any(|record| record.to_string().contains("jsessionid")));
}

#[test]
fn f22_characters_that_separate_nothing_are_escaped_without_a_setting() {
    let bed = Bed::new(&[("/", OPEN, "")]);
    bed.taken("/d/{a}", "/d/%7Ba%7D", "/d/%7Ba%7D");
    bed.taken("/x/a|b^c\"", "/x/a%7Cb%5Ec%22", "/x/a%7Cb%5Ec%22");
    bed.taken("/x/a%7cb", "/x/a%7Cb", "/x/a%7Cb");
    // The head is refused before it is a request: without a decision id, but on record, with what is wrong.
    for target in ["/x<y", "/x>y", "/x`y", "/x?q=<a>", "/x?q=\"a\""] {
        let malformed = || {
            let records = bed.gateway.records().into_iter();
            records.filter(|record| record["reason"] == "MalformedRequest").collect::<Vec<_>>()
        };
        let before = malformed().len();
        assert_eq!(bed.get(target).status, 400, "{target}");
        let record = eventually("one record", || {
            let records = malformed();
            if records.len() == before + 1 { Ok(records.last().unwrap().clone()) } else { Err(format!("{records:?}")) }
        });
        assert!(record["detail"].as_str().unwrap().contains("must be escaped in a target"), "{target}: {record}");
        assert_eq!(bed.upstream.received(), "", "{target}");
    }
}

#[test]
fn f21_own_endpoints_take_plain_paths_only() {
    let service = format!("{ALL}  tokenService: {{issuer: 'https://a/oauth', audiences: [orders]}}\n");
    let upstream = Upstream::new();
    let keys = idm_compile::new_signing_keys(
        idm_types::Algorithm::ES256,
        idm_types::Timestamp::from_seconds(idm_tests::now() - 10),
    );
    let secret = idm_tests::secret("idm-signing-keys", &[("p0.json", keys.unwrap())]);
    let yaml = format!("{}{secret}", world(&upstream, &[("/", OPEN, &service)]));
    let bed = Bed { gateway: Gateway::start(&[("all.yaml", &yaml)]), upstream };
    for path in ["/oauth//token", "/oauth/token;x", "//oauth/.well-known/jwks.json"] {
        bed.refused(path, "which is taken only with");
    }
    for path in ["/oauth%2Ftoken", "/oauth/token%3Fx", "/oauth%252Ftoken"] {
        bed.refused(path, "which is of another rule");
    }
    assert_eq!(bed.get("/oauth/.well-known/jwks.json").status, 200);
}

#[test]
fn f21_conditions_over_the_path_beside_escapes_are_a_finding() {
    let upstream = Upstream::new();
    let rule = "  authorization: {rules: [{name: staff, when: 'request.path.startsWith(\"/admin/\")', require: {roles: \
                {any: [staff]}}}, {name: rest, when: '!request.path.startsWith(\"/admin/\")'}]}\n";
    for (paths, found) in [("EncodedSlash", true), ("Parameters, EmptySegments", false)] {
        let more = format!("{rule}  paths: {{allow: [{paths}]}}\n");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("all.yaml"), world(&upstream, &[("/", KEYS, &more)])).unwrap();
        let lint = std::process::Command::new(idm_tests::idm()).arg("lint").arg(dir.path()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&lint.stdout), String::from_utf8_lossy(&lint.stderr));
        assert_eq!(said.contains("an upstream that decodes before it splits"), found, "{paths}: {said}");
        assert!(lint.status.success(), "{said}");
    }
}
