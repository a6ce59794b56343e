//! Messages that others signed, and that others attacked: each has its verdict in
//! `vectors.txt`, so that a change of any is seen. `IDM_UPDATE=1` writes the file anew, for review.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::key::{VerifyingKey, from_base64};
use crate::signature::{is_signed, verified};
use crate::xml::{ASSERTION, DSIG, PROTOCOL, is, parse, text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn message(path: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    if text.trim_start().starts_with('<') {
        return text;
    }
    let decoded = |text: &str| {
        let joined: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        STANDARD.decode(joined).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok()
    };
    let once = decoded(&text).unwrap_or(text);
    if once.trim_start().starts_with('<') { once } else { decoded(&once).unwrap_or(once) }
}

/// The verdict on each signed response and assertion in a message, by these keys and by those that it brings.
fn verdict(message: &str, known: &[VerifyingKey]) -> String {
    let document = match parse(message) {
        Ok(document) => document,
        Err(error) => return error.to_string(),
    };
    let brought = || {
        let certificates = document.descendants().filter(|node| is(*node, DSIG, "X509Certificate"));
        certificates
            .filter_map(|node| VerifyingKey::from_certificate(&from_base64(&text(node).ok()?).ok()?).ok())
            .collect::<Vec<_>>()
    };
    let keys = [known, &brought()].concat();
    let signed =
        document.descendants().filter(|node| is(*node, PROTOCOL, "Response") || is(*node, ASSERTION, "Assertion"));
    let verdicts: Vec<String> = signed
        .map(|node| {
            let said = match (is_signed(node), verified(node, &keys)) {
                (false, _) => "unsigned".to_owned(),
                (true, Ok(_)) => "holds".to_owned(),
                (true, Err(error)) => error.to_string(),
            };
            format!("{} {said}", node.tag_name().name())
        })
        .collect();
    verdicts.join("; ")
}

#[test]
fn every_message_of_the_field_has_its_verdict() {
    let root = folder();
    let certificates = [
        "saml-node/test/static/cert.pem",
        "saml-node/test/static/acme_tools_com.cert",
        "saml-ruby/test/certificates/ruby-saml.crt",
    ];
    let known: Vec<VerifyingKey> = certificates
        .iter()
        .flat_map(|name| VerifyingKey::from_pem(&std::fs::read_to_string(root.join(name)).unwrap()).unwrap_or_default())
        .collect();
    let mut found = String::new();
    for dir in ["saml-node/test/static", "saml-ruby/test/responses"] {
        let mut all = Vec::new();
        files(&root.join(dir), &mut all);
        all.retain(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.contains("response") || path.to_string_lossy().contains("invalids") || name.ends_with(".xml")
        });
        all.sort();
        for path in all {
            let said = verdict(&message(&path), &known);
            if said.is_empty() {
                continue;
            }
            writeln!(found, "{}: {said}", path.strip_prefix(&root).unwrap().display()).unwrap();
        }
    }
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vectors.txt");
    if std::env::var_os("IDM_UPDATE").is_some() {
        std::fs::write(&expected, &found).unwrap();
    }
    let reviewed = std::fs::read_to_string(&expected).unwrap_or_default();
    let differ: Vec<_> = found.lines().filter(|line| !reviewed.lines().any(|known| known == *line)).collect();
    assert!(differ.is_empty() && found == reviewed, "verdicts that are not in vectors.txt: {differ:#?}");
}

/// The digests that others made of their exclusive canonical forms, with and without prefixes that are kept.
#[test]
fn the_example_of_exclusive_canonicalization_has_its_digests() {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    let root = folder();
    let text =
        std::fs::read_to_string(root.join("xmldsig-xmlsec/tests/merlin-exc-c14n-one/exc-signature.xml")).unwrap();
    // The document has a comment in what is signed, which canonical form leaves out, and which our reader of messages
    // refuses.
    let document = roxmltree::Document::parse(&text).unwrap();
    let signed = document.descendants().find(|node| node.attribute("Id") == Some("to-be-signed")).unwrap();
    let mut checked = 0;
    for reference in document.descendants().filter(|node| is(*node, DSIG, "Reference")) {
        let transform = reference.descendants().find(|node| is(*node, DSIG, "Transform")).unwrap();
        if transform.attribute("Algorithm") != Some(crate::xml::EXC_C14N) {
            continue;
        }
        let list = transform.descendants().find_map(|node| node.attribute("PrefixList")).unwrap_or_default();
        let prefixes: Vec<&str> = list.split_ascii_whitespace().collect();
        let form = crate::c14n::canonical(signed, None, &prefixes).unwrap();
        let wanted = reference.descendants().find(|node| is(*node, DSIG, "DigestValue")).unwrap();
        assert_eq!(
            digest(&SHA1_FOR_LEGACY_USE_ONLY, form.as_bytes()).as_ref(),
            from_base64(&text_of(wanted)).unwrap(),
            "{prefixes:?}: {form}"
        );
        checked += 1;
    }
    assert_eq!(checked, 2);
}

fn text_of(node: roxmltree::Node<'_, '_>) -> String {
    text(node).unwrap()
}

/// Everything that others wrote to try XML signatures and encryption: read or refused, and never more than that; what
/// has a canonical form keeps it when it is read again.
#[test]
fn no_document_of_the_field_does_more_than_be_refused() {
    let root = folder();
    let mut all = Vec::new();
    files(&root.join("xmldsig-xmlsec/tests"), &mut all);
    all.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    let mut read = 0;
    for path in &all {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        crate::fuzz(&text);
        let Ok(document) = parse(&text) else { continue };
        read += 1;
        for signature in document.descendants().filter(|node| is(*node, DSIG, "Signature")) {
            let holder = signature.parent().unwrap_or(signature);
            // None of them is an enveloped signature of a SAML element: none holds.
            assert!(verified(holder, &[]).is_err(), "{}", path.display());
        }
    }
    assert!(all.len() > 300 && read > 200, "{read} of {}", all.len());
}
