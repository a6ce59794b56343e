//! A secret that was replaced is gone from the memory of the process, not only from what is in force.

use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_compile::{Settings, compile, yaml::read_files};
use idm_tests::{Gateway, Pod, Upstream, eventually, now, open_to, raw};
use serde_json::json;

/// The number of times that each of these is in the memory of a process that can be written to.
fn found(process: u32, wanted: &[String]) -> Vec<usize> {
    const PART: u64 = 64 << 10;
    const OVERLAP: u64 = 128;
    let nothing = [0; (PART + OVERLAP) as usize];
    let mut buffer = nothing;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut counts = vec![0; wanted.len()];
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        // Each part begins with the end of the one before, in case a text lies across.
        for at in (from..to).step_by(PART as usize) {
            let begin = at.saturating_sub(OVERLAP).max(from);
            let bytes = &mut buffer[..((at + PART).min(to) - begin) as usize];
            // A mapping may have gone meanwhile, and some cannot be read. Most of it was never used.
            let read = memory.seek(SeekFrom::Start(begin)).and_then(|_| memory.read_exact(bytes));
            if read.is_ok() && *bytes != nothing[..bytes.len()] {
                for (count, text) in counts.iter_mut().zip(wanted) {
                    *count += memchr::memmem::find_iter(bytes, text).count();
                }
            }
        }
    }
    counts
}

/// A secret, and how it looks on its way.
fn forms(secret: &str) -> Vec<String> {
    vec![secret.to_owned(), STANDARD.encode(secret), STANDARD.encode(format!("client:{secret}"))]
}

fn gone(process: u32, secret: &str) {
    eventually("the replaced secret is gone", || {
        let counts = found(process, &forms(secret));
        if counts.iter().sum::<usize>() == 0 { Ok(()) } else { Err(format!("found {counts:?} times")) }
    });
}

fn secrets(client: &str, password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: idp}}\nstringData: {{clientSecret: '{client}'}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: bob}}\nstringData: {{password: '{password}'}}\n"
    )
}

fn policy(upstream: &Upstream, idp: SocketAddr) -> String {
    let methods = format!(
        "    - name: opaque\n      introspection: {{issuer: 'https://idp', endpoint: 'http://{idp}/introspect', \
         clientId: client, clientSecretRef: {{name: idp}}}}\n    - {{name: people, basic: {{realm: shop}}}}\n"
    );
    let bob = "---\napiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {name: bob}\n\
               spec: {password: {username: bob}, secretRef: {name: bob}}\n";
    format!("{}{bob}", open_to(upstream, &methods))
}

#[test]
fn a_secret_of_a_folder_that_was_replaced_is_gone() {
    let body =
        json!({"active": true, "iss": "https://idp", "sub": "ana", "aud": "orders", "exp": now() + 600}).to_string();
    let idp = Upstream::answering(&format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let upstream = Upstream::new();
    let policy = policy(&upstream, idp.address);
    let [old, new] = ["planted-client-secret-1", "planted-client-secret-2"];
    let [password, changed] = ["planted-password-of-bob-1", "planted-password-of-bob-2"];
    let gateway = Gateway::start_in(
        &[("policy.yaml", &policy), ("secrets.yaml", &secrets(old, password))],
        &["--danger-insecure-issuers"],
        &[("IDM_LOG", "info")],
    );
    let ask = |token: &str| {
        raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes())
    };
    // It is used, too, and found where it is in force: the search can find something.
    assert_eq!(ask("first").status, 200);
    assert!(idp.received().contains(&STANDARD.encode(format!("client:{old}"))));
    assert!(found(gateway.process(), &forms(old))[0] > 0);
    gateway.write("secrets.yaml", &secrets(new, changed));
    eventually("the new secret is used", || {
        ask(&format!("second-{}", idp.received().len()));
        if idp.received().contains(&STANDARD.encode(format!("client:{new}"))) { Ok(()) } else { Err("not yet".into()) }
    });
    gone(gateway.process(), old);
    gone(gateway.process(), password);
}

#[test]
fn a_secret_of_a_bundle_that_was_replaced_is_gone() {
    let upstream = Upstream::new();
    let policy = policy(&upstream, upstream.address);
    let [old, new] = ["planted-client-secret-3", "planted-client-secret-4"];
    let pack = |client: &str, generation: u64| {
        let files = [("all.yaml".to_owned(), format!("{policy}---\n{}", secrets(client, "a-password-of-bob")))];
        let (world, _) = read_files(&files, Settings::of_a_folder(true)).unwrap();
        let compiled = compile(&world, None);
        compiled.seal(generation).pack().unwrap()
    };
    let pod = Pod::start("shop", &pack(old, 1));
    assert!(found(pod.process(), &forms(old))[0] > 0);
    pod.replace(&pack(new, 2), 2);
    gone(pod.process(), old);
    assert!(found(pod.process(), &forms(new))[0] > 0);
}
