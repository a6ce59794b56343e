use http::HeaderMap;

use super::*;

fn check(access: &Access, method: &str, path: &str, address: &str, now: Timestamp) -> Result<(), Reason> {
    let headers = HeaderMap::new();
    let view = RequestView {
        headers: &headers,
        query: None,
        method,
        host: "h",
        authority: "",
        secure: false,
        path,
        target: path,
        forwarded: Default::default(),
        address: address.parse().unwrap(),
        body: None,
        certificate: None,
    };
    let armed = ArmedAccess::arm(access).unwrap();
    armed.check(Use::Request(view), "orders", &|| "Credential c".into(), now).map_err(|refusal| refusal.reason)
}

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-27T12:00:00Z").unwrap()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn what_is_beneath_a_path_is_covered_however_it_is_spelled() {
    let only = Access { paths: list(&["/orders", "/a/"]), ..Access::default() };
    for path in ["/orders", "/orders/", "/orders/7", "/a", "/a/b"] {
        assert_eq!(check(&only, "GET", path, "192.0.2.1", now()), Ok(()), "{path}");
    }
    for path in ["/", "/orders2", "/order", "/ab", "/b//orders"] {
        assert_eq!(check(&only, "GET", path, "192.0.2.1", now()), Err(Reason::OutsidePaths), "{path}");
    }
    let except = Access { except_paths: list(&["/orders/admin"]), ..Access::default() };
    assert_eq!(check(&except, "GET", "/orders/administrators", "192.0.2.1", now()), Ok(()));
    for path in ["/orders/admin", "/orders/admin/x", "/orders%2Fadmin", "/orders//admin", "//orders/admin/"] {
        assert_eq!(check(&except, "GET", path, "192.0.2.1", now()), Err(Reason::OutsidePaths), "{path}");
    }
}

#[test]
fn methods_policies_and_addresses() {
    let only = Access { methods: list(&["GET"]), ..Access::default() };
    assert_eq!(check(&only, "GET", "/", "192.0.2.1", now()), Ok(()));
    assert_eq!(check(&only, "get", "/", "192.0.2.1", now()), Err(Reason::OutsideMethods));
    let except = Access { except_methods: list(&["DELETE"]), ..Access::default() };
    assert_eq!(check(&except, "DELETE", "/", "192.0.2.1", now()), Err(Reason::OutsideMethods));
    for (policies, except, allowed) in
        [(Some(&["orders"][..]), &[][..], true), (Some(&["other"]), &[], false), (None, &["orders"], false)]
    {
        let access = Access { policies: policies.map(list), except_policies: list(except), ..Access::default() };
        let expected = if allowed { Ok(()) } else { Err(Reason::CredentialNotAllowedHere) };
        assert_eq!(check(&access, "GET", "/", "192.0.2.1", now()), expected);
    }
}

#[test]
fn r87_addresses_are_compared_as_numbers() {
    let networks = |of: &[&str]| of.iter().map(|text| Network::parse(text).unwrap()).collect::<Vec<_>>();
    let office = Access {
        addresses: networks(&["192.0.2.0/24", "2001:db8::/32"]),
        except_addresses: networks(&["192.0.2.66"]),
        ..Access::default()
    };
    for (address, allowed) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("192.0.2.66", false),
        ("::ffff:192.0.2.66", false),
        ("192.0.3.1", false),
        ("2001:db8:1::7", true),
        ("2001:db9::1", false),
        ("::", false),
    ] {
        let expected = if allowed { Ok(()) } else { Err(Reason::OutsideAddresses) };
        assert_eq!(check(&office, "GET", "/", address, now()), expected, "{address}");
    }
}

#[test]
fn r86_outside_the_hours_the_next_ones_are_told() {
    let mut days = [false; 7];
    days[4] = true;
    let hours = Hours { days, from: 22 * 60, to: 6 * 60, zone: "Europe/Istanbul".into() };
    let night = Access { hours: vec![hours], ..Access::default() };
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let check = |text: &str| {
        let armed = ArmedAccess::arm(&night).unwrap();
        armed.check_hours(&|| "Credential c".into(), at(text)).map_err(|refusal| (refusal.reason, refusal.retry_after))
    };
    // A Friday; the zone is three hours ahead.
    assert_eq!(check("2026-11-27T18:59:00Z"), Err((Reason::OutsideHours, Some(60))));
    assert_eq!(check("2026-11-27T19:00:00Z"), Ok(()));
    assert_eq!(check("2026-11-28T02:59:59Z"), Ok(()));
    assert_eq!(check("2026-11-28T03:00:00Z"), Err((Reason::OutsideHours, Some(6 * 86_400 + 16 * 3600))));
}
