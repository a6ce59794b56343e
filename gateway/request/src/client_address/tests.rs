use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const SENDER: &str = "10.0.0.1";

fn trusted() -> Vec<Network> {
    ["10.0.0.0/8", "fd00::/8"].iter().map(|text| Network::parse(text).unwrap()).collect()
}

fn told(lines: &[(&'static str, &str)]) -> Result<Client, &'static str> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    client(SENDER.parse().unwrap(), &headers, &trusted())
}

fn address(lines: &[(&'static str, &str)]) -> String {
    told(lines).unwrap().address.to_string()
}

#[test]
fn the_list_is_read_from_the_right_past_trusted_proxies() {
    for (list, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1,203.0.113.7 , 10.1.2.3,\t10.9.9.9", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443, fd00::1", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("10.0.0.5, 10.0.0.6", "10.0.0.5"),
        // No address, so the last trusted proxy counts, and nothing to the left does.
        ("203.0.113.7, unknown", SENDER),
        ("203.0.113.7, _hidden, 10.0.0.9", "10.0.0.9"),
        ("203.0.113.7,", SENDER),
        ("203.0.113.7, 203.0.113", SENDER),
        ("203.0.113.7, 203.0.113.8:x", SENDER),
        ("203.0.113.7, [2001:db8::7", SENDER),
        ("203.0.113.7, [203.0.113.8]", SENDER),
        ("", SENDER),
    ] {
        assert_eq!(address(&[("x-forwarded-for", list)]), expected, "{list}");
    }
    let lines =
        [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "10.0.0.2")];
    assert_eq!(address(&lines), "203.0.113.7");
    assert_eq!(address(&[]), SENDER);
}

#[test]
fn forwarded_is_read_by_its_grammar_or_refused() {
    for (line, expected) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"[2001:db8::7]:4711\";proto=https;by=_x, for=10.0.0.2", "2001:db8::7"),
        ("for=198.51.100.1, for=\"203.0.113.7:80\"", "203.0.113.7"),
        ("for=\"20\\3.0.113.7\"", "203.0.113.7"),
        ("for=\"a,for=203.0.113.7\"", SENDER),
        ("for=203.0.113.7, for=unknown", SENDER),
        ("for=203.0.113.7, proto=https", SENDER),
    ] {
        assert_eq!(address(&[("forwarded", line)]), expected, "{line}");
    }
    for line in ["", "for", "for=", "for=a b", "for=\"a", "for=a,,for=b", "for=a;for=b", "=a", "for=a;", "for=[::1]"] {
        assert!(told(&[("forwarded", line)]).is_err(), "{line}");
    }
    // A client's open quote cannot swallow what its proxy added.
    assert!(told(&[("forwarded", "for=\"198.51.100.1, for=203.0.113.7")]).is_err());
}

#[test]
fn two_headers_must_agree() {
    let both = |one, other| told(&[("x-forwarded-for", one), ("forwarded", other)]);
    assert_eq!(both("203.0.113.7", "for=203.0.113.7").unwrap().address.to_string(), "203.0.113.7");
    assert!(both("203.0.113.7", "for=198.51.100.1").is_err());
}

#[test]
fn the_scheme_is_that_of_the_nearest_proxy() {
    let https = |lines: &[(&'static str, &str)]| told(lines).map(|client| client.https);
    assert_eq!(https(&[]), Ok(None));
    assert_eq!(https(&[("x-forwarded-proto", "HTTPS")]), Ok(Some(true)));
    assert_eq!(https(&[("x-forwarded-proto", "https, http")]), Ok(Some(false)));
    assert_eq!(https(&[("forwarded", "for=203.0.113.7;proto=https")]), Ok(Some(true)));
    // Beside X-Forwarded-For it may be the client's own.
    assert_eq!(https(&[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4;proto=https")]), Ok(None));
    assert!(https(&[("x-forwarded-proto", "wss")]).is_err());
}

#[test]
fn a_thousand_proxies_cost_no_more_than_those_that_are_passed() {
    let list = format!("203.0.113.7, {}", vec!["10.0.0.2"; 1000].join(", "));
    assert_eq!(address(&[("x-forwarded-for", &list)]), "10.0.0.2");
}

proptest! {
    #[test]
    fn what_the_client_wrote_changes_nothing(own in "[ -~]{0,80}") {
        let list = format!("{own}, 203.0.113.7, 10.3.3.3");
        prop_assert_eq!(address(&[("x-forwarded-for", &list)]), "203.0.113.7");
        // In `Forwarded` it may spoil the whole, and then the request is refused.
        let told = told(&[("forwarded", &format!("{own}, for=203.0.113.7"))]);
        prop_assert!(told.is_err() || told.unwrap().address.to_string() == "203.0.113.7");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(one in proptest::collection::vec(32..=255u8, 0..200)) {
        let Ok(value) = HeaderValue::from_bytes(&one) else { return Ok(()) };
        for name in ["x-forwarded-for", "forwarded", "x-forwarded-proto"] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.clone())]);
            let _ = client(SENDER.parse().unwrap(), &headers, &trusted());
        }
    }
}
