//! The examples of RFC 9421 appendix B, and the property that the base says everything that it covers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use idm_jose::{VerifyingKey, jwk_of_spki};
use idm_types::Algorithm;
use proptest::prelude::*;

use super::*;

const RSA_PSS: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dp\
    G2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtC\
    EcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9\
    lq4aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB";
const P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh\
    71Z50VGGdldkkDXZCnTNnoXQ==";
const ED25519: &str = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";
const SHARED: &str = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
const BODY: &[u8] = b"{\"hello\": \"world\"}";

fn public(spki: &str, algorithm: Algorithm) -> VerifyingKey {
    VerifyingKey::of_public(&jwk_of_spki(&STANDARD.decode(spki).unwrap()).unwrap(), algorithm).unwrap()
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

/// The request of appendix B.2 with one signature.
fn example(input: &str, signature: &str) -> HeaderMap {
    headers(&[
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
        ("signature-input", input),
        ("signature", signature),
    ])
}

fn message(headers: &HeaderMap) -> Message<'_> {
    Message {
        method: "POST",
        https: true,
        authority: "example.com",
        path: "/foo",
        query: Some("param=Value&Pet=dog"),
        headers,
    }
}

fn base(headers: &HeaderMap) -> Result<String, SignatureError> {
    let signatures = Signatures::of(headers)?.unwrap();
    Ok(String::from_utf8(signatures.all()[0].base(message(headers))?).unwrap())
}

#[test]
fn the_examples_of_the_rfc_verify() {
    let rsa = || public(RSA_PSS, Algorithm::PS512);
    let cases = [
        (
            "sig-b21=();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"",
            "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zF\
             ZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKh\
             O4DGezXehhWwE\
             56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9\
             mhho8K3+7EPYT\
             U8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
            rsa(),
        ),
        (
            "sig-b22=(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");created=1618884473;\
             keyid=\"test-key-rsa-pss\";tag=\"header-example\"",
            "sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UC\
             MkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8N\
             V7+4UKkjqpcAo\
             FqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAox\
             k//0RoKUqiYY8\
             Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:",
            rsa(),
        ),
        (
            "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \
             \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
            "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voT\
             p768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzN\
             BXmIkoQoLd7YfW\
             91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2\
             Zbhl5ZJzSRxpJy\
             oEZAFL2FUo5fTIztsDZKEgM4cUA==:",
            rsa(),
        ),
        (
            "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
            VerifyingKey::of_secret(&STANDARD.decode(SHARED).unwrap(), Algorithm::HS256).unwrap(),
        ),
        (
            "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");\
             created=1618884473;keyid=\"test-key-ed25519\"",
            "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
            public(ED25519, Algorithm::EdDSA),
        ),
    ];
    for (input, signature, key) in cases {
        let headers = example(input, signature);
        let signatures = Signatures::of(&headers).unwrap().unwrap();
        let [one] = signatures.all() else { panic!("{input}") };
        let base = one.base(message(&headers)).unwrap();
        assert!(key.verifies(&base, one.value()), "{}", String::from_utf8_lossy(&base));
        assert_eq!(one.parameters().created, Some(1_618_884_473));
        // Another request has another base.
        let other = Message { method: "GET", authority: "example.org", path: "/", query: None, ..message(&headers) };
        assert!(
            input.contains("sig-b21")
                || one.base(other).is_ok_and(|other| !key.verifies(&other, one.value()))
                || one.base(other).is_err()
        );
    }
    assert!(ContentDigest::of(&example("", "")).unwrap().fits(BODY).is_ok());
}

/// The bases of examples whose messages are answers: they show the fixed form of ECDSA.
#[test]
fn the_signature_of_p_256_has_the_fixed_form() {
    let base = "\"@status\": 200\n\"content-type\": application/json\n\"content-digest\": sha-512=:mEWXIS7Ma\
    LRuGgxOBdODa3\
        xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:\n\"content-length\": 23\n\"@sign\
        ature-params\": \
        (\"@status\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test\
        -key-ecc-p256\"";
    let signature = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==";
    assert!(public(P256, Algorithm::ES256).verifies(base.as_bytes(), &STANDARD.decode(signature).unwrap()));
}

/// Appendix B.4: a request that was changed on the way in what is not covered.
#[test]
fn a_change_of_what_is_not_covered_changes_nothing() {
    let signed = [
        ("host", "example.org"),
        ("accept", "application/json"),
        ("accept", "*/*"),
        (
            "signature-input",
            "transform=(\"@method\" \"@path\" \"@authority\" \"accept\");created=1618884473;\
            keyid=\"test-key-ed25519\"",
        ),
        (
            "signature",
            "transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:",
        ),
    ];
    let verifies = |fields: &[(&str, &str)], query: &str, method: &str| {
        let headers = headers(fields);
        let signatures = Signatures::of(&headers).unwrap().unwrap();
        let one = &signatures.all()[0];
        let message = Message {
            method,
            https: true,
            authority: "example.org:443",
            path: "/demo",
            query: Some(query),
            headers: &headers,
        };
        public(ED25519, Algorithm::EdDSA).verifies(&one.base(message).unwrap(), one.value())
    };
    let combined = [("accept", "application/json, */*"), ("accept-language", "en-US,en;q=0.5"), signed[3], signed[4]];
    assert!(verifies(&signed, "name1=Value1&Name2=value2", "GET"));
    assert!(verifies(&combined, "name1=Value1&Name2=value2&param=added", "GET"));
    let reordered = [("accept", "*/*"), ("accept", "application/json"), signed[3], signed[4]];
    assert!(!verifies(&reordered, "name1=Value1&Name2=value2", "GET"));
    assert!(!verifies(&signed, "name1=Value1&Name2=value2", "POST"));
}

#[test]
fn every_component_has_one_value() {
    let of = |components: &str, more: &[(&str, &str)]| {
        let mut all = headers(more);
        all.insert("signature-input", format!("s=({components})").parse().unwrap());
        all.insert("signature", HeaderValue::from_static("s=:AA==:"));
        base(&all).map(|base| base.split_once("\n\"@signature-params\"").map_or(String::new(), |(a, _)| a.to_owned()))
    };
    let given =
        [("x-list", "a, b "), ("x-list", " c"), ("x-dict", "a=1, b=(2 3);x, c"), ("cookie", "a=1"), ("cookie", "b=2")];
    for (components, expected) in [
        ("\"@target-uri\"", "\"@target-uri\": https://example.com/foo?param=Value&Pet=dog"),
        ("\"@scheme\"", "\"@scheme\": https"),
        ("\"x-list\"", "\"x-list\": a, b, c"),
        ("\"x-list\";bs", "\"x-list\";bs: :YSwgYg==:, :Yw==:"),
        ("\"x-dict\";key=\"b\"", "\"x-dict\";key=\"b\": (2 3);x"),
        ("\"x-dict\";key=\"c\"", "\"x-dict\";key=\"c\": ?1"),
        ("\"cookie\"", "\"cookie\": a=1; b=2"),
        ("\"@query-param\";name=\"param\"", "\"@query-param\";name=\"param\": Value"),
        ("\"signature\";key=\"s\"", "\"signature\";key=\"s\": :AA==:"),
    ] {
        assert_eq!(of(components, &given).as_deref(), Ok(expected));
    }
    let unsupported = |text: &str| Err(SignatureError::Unsupported(text.into()));
    for text in [
        "\"@status\"",
        "\"@request-target\"",
        "\"x-list\";tr",
        "\"@method\";req",
        "\"X-List\"",
        "\"x-list\";sf",
        "\"@query-param\"",
    ] {
        assert_eq!(of(text, &given), unsupported(text), "{text}");
    }
    assert_eq!(of("\"x-none\"", &given), Err(SignatureError::Absent("\"x-none\"".into())));
    assert_eq!(of("\"x-list\" \"x-list\"", &given), Err(SignatureError::CoveredTwice("\"x-list\"".into())));
    assert_eq!(of("x-list", &given), Err(SignatureError::Malformed("signature-input")));
    assert!(matches!(of("\"x-name\"", &[("x-name", "\u{e9}")]), Err(SignatureError::NotAscii(_))));
    assert!(of("\"x-name\";bs", &[("x-name", "\u{e9}")]).is_ok());
    assert!(matches!(of("\"x-dict\";key=\"a\"", &[("x-dict", "a=1, a=2")]), Err(SignatureError::Ambiguous(_))));
}

#[test]
fn a_parameter_of_the_query_must_be_there_once() {
    let of = |query: &str, name: &str| {
        let mut all = HeaderMap::new();
        all.insert("signature-input", format!("s=(\"@query-param\";name=\"{name}\")").parse().unwrap());
        all.insert("signature", HeaderValue::from_static("s=:AA==:"));
        let signatures = Signatures::of(&all).unwrap().unwrap();
        let base = signatures.all()[0].base(Message { query: Some(query), ..message(&all) });
        base.ok().map(|base| String::from_utf8(base).unwrap().lines().next().unwrap().to_owned())
    };
    let value = |name: &str, value: &str| Some(format!("\"@query-param\";name=\"{name}\": {value}"));
    assert_eq!(of("var=this%20is%20a%20big%0Avalue&bar=with+plus", "var"), value("var", "this%20is%20a%20big%0Avalue"));
    assert_eq!(of("bar=with+plus%2b", "bar"), value("bar", "with%20plus%2B"));
    assert_eq!(
        of("fa%C3%A7ade%22%3A%20=something", "fa%C3%A7ade%22%3A%20"),
        value("fa%C3%A7ade%22%3A%20", "something")
    );
    assert_eq!(of("a=1&%61=2", "a"), None);
    assert_eq!(of("b=1", "a"), None);
}

#[test]
fn fields_that_can_be_read_in_two_ways_are_no_signatures() {
    let of = |input: &[&str], values: &[&str]| {
        let fields = input.iter().map(|v| ("signature-input", *v)).chain(values.iter().map(|v| ("signature", *v)));
        let all = headers(&fields.collect::<Vec<_>>());
        Signatures::of(&all).map(|found| found.map_or(0, |found| found.all().len()))
    };
    assert_eq!(of(&[], &[]), Ok(0));
    assert_eq!(of(&["a=(), b=()"], &["b=:AA==:", "a=:AA==:"]), Ok(2));
    assert_eq!(of(&["a=()", "a=()"], &["a=:AA==:"]), Err(SignatureError::Repeated("signature-input")));
    assert_eq!(of(&["a=()"], &["a=:AA==:, a=:AB==:"]), Err(SignatureError::Repeated("signature")));
    assert_eq!(of(&["a=()"], &[]), Err(SignatureError::Unpaired("a".into())));
    assert_eq!(of(&[], &["a=:AA==:"]), Err(SignatureError::Unpaired("a".into())));
    assert_eq!(of(&["a=()"], &["a=:AA==:, b=:AA==:"]), Err(SignatureError::Unpaired("b".into())));
    assert_eq!(of(&["a=\"x\""], &["a=:AA==:"]), Err(SignatureError::Malformed("signature-input")));
    assert_eq!(of(&["a=();created=\"1\""], &["a=:AA==:"]), Err(SignatureError::WrongParameter("created")));
    assert_eq!(of(&["a=();created=1.0"], &["a=:AA==:"]), Err(SignatureError::WrongParameter("created")));
    assert_eq!(of(&["a=();keyid=k"], &["a=:AA==:"]), Err(SignatureError::WrongParameter("keyid")));
    // The scheme of the older draft.
    let older = "keyId=\"k\",algorithm=\"hs2019\",headers=\"(request-target)\",signature=\"AA==\"";
    assert_eq!(of(&[], &[older]), Err(SignatureError::Malformed("signature")));
    let nine: Vec<String> = (0..9).map(|n| format!("a{n}=()")).collect();
    assert!(matches!(of(&[&nine.join(", ")], &["a0=:AA==:"]), Err(SignatureError::TooMany { most: 8, .. })));
}

#[test]
fn what_is_covered_is_covered_as_a_whole() {
    let covers = |components: &str, name: &str| {
        let all = headers(&[("signature-input", &format!("s=({components})")), ("signature", "s=:AA==:")]);
        Signatures::of(&all).unwrap().unwrap().all()[0].covers(name)
    };
    assert!(covers("\"@method\"", "@method") && !covers("\"@method\"", "@path"));
    for name in ["@authority", "@path", "@query", "@scheme", "@target-uri"] {
        assert!(covers("\"@target-uri\"", name), "{name}");
    }
    assert!(!covers("\"@target-uri\"", "@method") && !covers("\"@path\"", "@target-uri"));
    assert!(covers("\"content-digest\"", "content-digest") && covers("\"content-digest\";bs", "content-digest"));
    assert!(!covers("\"content-digest\";key=\"sha-256\"", "content-digest"));
    assert!(
        !covers("\"@query-param\";name=\"a\"", "@query")
            && !covers("\"x\";tr", "x")
            && !covers("\"host\"", "@authority")
    );
}

#[test]
fn every_known_digest_must_fit() {
    let fits = |field: &str, body: &[u8]| {
        ContentDigest::of(&headers(&[("content-digest", field)])).map(|digest| digest.fits(body))
    };
    let right = digest_field(BODY);
    assert_eq!(fits(&right, BODY), Ok(Ok(())));
    assert_eq!(fits(&right, b""), Ok(Err("sha-256")));
    assert_eq!(fits(&format!("{right}, md5=:AA==:"), BODY), Ok(Ok(())));
    assert_eq!(fits(&format!("{right}, sha-512=:AA==:"), BODY), Ok(Err("sha-512")));
    assert_eq!(fits("md5=:AA==:", BODY), Err(SignatureError::NoKnownDigest));
    assert_eq!(fits("sha-256=1", BODY), Err(SignatureError::Malformed("content-digest")));
    assert_eq!(fits(&format!("{right}, {right}"), BODY), Err(SignatureError::Repeated("content-digest")));
}

#[test]
fn a_caller_is_asked_for_what_is_wanted() {
    let asked = accept(&["@method", "content-digest"], Some("shop")).unwrap();
    assert_eq!(asked, "sig=(\"@method\" \"content-digest\");created;tag=\"shop\"");
    assert_eq!(accept(&["@method"], Some("\u{e9}")), None);
    assert!(is_component("@path") && is_component("x-order") && is_component("content-digest"));
    assert!(!is_component("X-Order") && !is_component("@status") && !is_component("signature") && !is_component(""));
}

proptest! {
    /// Two requests that differ in a covered part have different bases, and two that do not have the same one.
    #[test]
    fn the_base_says_all_that_is_covered(
        method in prop::sample::select(vec!["GET", "POST"]),
        other_method in prop::sample::select(vec!["GET", "POST"]),
        path in "/[a-z\": ]{0,4}", other_path in "/[a-z\": ]{0,4}",
        query in prop::option::of("[a-z=&\"]{0,4}"), other_query in prop::option::of("[a-z=&\"]{0,4}"),
        lines in prop::collection::vec("[a-z,\": ]{0,4}", 0..3),
        others in prop::collection::vec("[a-z,\": ]{0,4}", 0..3),
    ) {
        let fields = |lines: &[String]| {
            let mut all = headers(&[
                ("signature-input", "s=(\"@method\" \"x-a\" \"@path\" \"@query\")"), ("signature", "s=:AA==:"),
            ]);
            for line in lines {
                all.append("x-a", line.parse().unwrap());
            }
            all
        };
        let (one, two) = (fields(&lines), fields(&others));
        let of = |headers: &HeaderMap, method: &str, path: &str, query: Option<&str>| {
            let message = Message { method, https: true, authority: "a", path, query, headers };
            Signatures::of(headers).unwrap().unwrap().all()[0].base(message)
        };
        let other = of(&two, other_method, &other_path, other_query.as_deref());
        let bases = (of(&one, method, &path, query.as_deref()), other);
        let joined = |lines: &[String]| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(", ");
        let (Ok(base), Ok(other)) = bases else {
            prop_assert!(lines.is_empty() || others.is_empty());
            return Ok(());
        };
        let same = (method, &path, query.unwrap_or_default(), joined(&lines))
            == (other_method, &other_path, other_query.unwrap_or_default(), joined(&others));
        prop_assert_eq!(base == other, same);
        prop_assert_eq!(base.iter().filter(|byte| **byte == b'\n').count(), 4);
    }

    #[test]
    fn no_input_panics(input in any::<Vec<u8>>(), signature in any::<Vec<u8>>(), digest in any::<Vec<u8>>()) {
        fuzz(&input, &signature, &digest);
    }
}
