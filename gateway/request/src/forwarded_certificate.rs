//! `X-Forwarded-Client-Cert`, as Envoy writes it: elements separated by `,`, pairs by `;`, values that may be quoted.
//!
//! Only the last element counts. Envoy writes this header in two modes that describe its own client: `SANITIZE_SET`
//! leaves one element, and `APPEND_FORWARD` puts its own behind those of the request; both remove the header if the
//! client has no certificate. The elements before the last one come from the proxy's client. A header that does not
//! follow the grammar is refused as a whole: a value that one side reads as quoted and the other does not could move
//! the boundary between elements.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Longer headers are refused; a chain in PEM with escapes takes a few KiB.
const MAX_BYTES: usize = 16 * 1024;

/// The certificate that the proxy which sent these header lines saw; `None` without a line. The error describes the
/// fault of the header, and contains nothing of its value.
pub fn forwarded_certificate<'h>(
    mut lines: impl Iterator<Item = &'h [u8]>,
) -> Result<Option<CertificateDer<'static>>, &'static str> {
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err("there is more than one line, and the proxy's own cannot be told apart");
    }
    let own = own_element(line)?;
    let pem = own.cert.ok_or("the proxy's element has no `Cert`")?;
    let pem =
        std::str::from_utf8(pem).ok().and_then(idm_types::percent_decoded).ok_or("`Cert` is not percent-encoded")?;
    let mut all = CertificateDer::pem_slice_iter(&pem);
    let (Some(Ok(certificate)), None) = (all.next(), all.next()) else {
        return Err("`Cert` is not one certificate in PEM");
    };
    match own.hash {
        Some(hash) if !is_hash_of(hash, &certificate) => Err("`Hash` is not that of `Cert`"),
        _ => Ok(Some(certificate)),
    }
}

fn is_hash_of(hex: &[u8], certificate: &CertificateDer<'_>) -> bool {
    let given = std::str::from_utf8(hex).ok().and_then(idm_types::unhex::<32>);
    given.is_some_and(|given| given == digest(&SHA256, certificate).as_ref())
}

/// The parts of an element that are used, as they are in the header, without the quotes.
#[derive(Clone, Copy, Default)]
struct Element<'h> {
    hash: Option<&'h [u8]>,
    cert: Option<&'h [u8]>,
    chain: bool,
    subject: bool,
}

impl<'h> Element<'h> {
    /// Notes a pair. `By`, `URI` and `DNS` may occur several times, because a certificate may have several names.
    fn note(&mut self, key: &[u8], value: &'h [u8]) -> Result<(), &'static str> {
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        let twice = if is("Hash") {
            self.hash.replace(value).is_some()
        } else if is("Cert") {
            self.cert.replace(value).is_some()
        } else if is("Chain") {
            std::mem::replace(&mut self.chain, true)
        } else if is("Subject") {
            std::mem::replace(&mut self.subject, true)
        } else if is("By") || is("URI") || is("DNS") {
            false
        } else {
            return Err("it has a key that is not By, Hash, Cert, Chain, Subject, URI or DNS");
        };
        if twice { Err("an element has a key twice") } else { Ok(()) }
    }
}

/// Reads every element and returns the last one.
fn own_element(header: &[u8]) -> Result<Element<'_>, &'static str> {
    if header.len() > MAX_BYTES {
        return Err("it is longer than 16 KiB");
    }
    let mut element = Element::default();
    let mut rest = header.trim_ascii();
    loop {
        let equals = rest.iter().position(|byte| *byte == b'=').ok_or("a pair has no `=`")?;
        let (key, after) = rest.split_at(equals);
        let (value, after) = value(after.get(1..).unwrap_or_default())?;
        element.note(key, value)?;
        rest = match after.split_first() {
            None => return Ok(element),
            Some((b';', more)) => more,
            Some((b',', more)) => {
                element = Element::default();
                // Recipients that combine field lines put a space after the comma (RFC 9110 §5.3).
                more.trim_ascii_start()
            }
            Some(_) => return Err("something follows the end of a quoted value"),
        };
    }
}

/// Takes one value off the front, and returns the rest.
fn value(text: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| b",;".contains(byte)).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        let is_bare = !value.iter().any(|byte| matches!(byte, b'"' | b'\\' | b' ' | b'\t'));
        return if is_bare {
            Ok((value, after))
        } else {
            Err("a value that is not quoted has quotes or spaces inside")
        };
    };
    let mut escaped = false;
    for (position, byte) in quoted.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (value, after) = quoted.split_at(position);
                return Ok((value, after.get(1..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    Err("a quoted value does not end")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Arbitrary bytes replace a certificate: this code reads no further than PEM.
    fn der(name: u8) -> CertificateDer<'static> {
        CertificateDer::from(vec![name; 40])
    }

    fn escaped(certificate: &CertificateDer<'_>) -> String {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        pem.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") })
            .collect()
    }

    fn hash(certificate: &CertificateDer<'_>) -> String {
        digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(line: &str) -> Result<Option<CertificateDer<'static>>, &'static str> {
        forwarded_certificate([line.as_bytes()].into_iter())
    }

    #[test]
    fn a_separator_inside_quotes_separates_nothing() {
        let (mallory, alice) = (der(1), der(2));
        for attack in [
            format!("Subject=\"CN=m;Cert={}\";Cert=\"{}\"", escaped(&alice), escaped(&mallory)),
            format!("Cert=\"{}\";URI=\"x,Cert={}\"", escaped(&mallory), escaped(&alice)),
            format!("Cert=\"{}\";Subject=\"a\\\";Cert={}\"", escaped(&mallory), escaped(&alice)),
            format!("Cert={},By=spiffe://a;cERT={}", escaped(&alice), escaped(&mallory)),
            format!("Cert={}, Cert={}", escaped(&alice), escaped(&mallory)),
        ] {
            assert_eq!(read(&attack), Ok(Some(mallory.clone())), "{attack}");
        }
    }

    #[test]
    fn what_is_not_written_by_the_grammar_is_refused() {
        let (one, two) = (escaped(&der(1)), escaped(&der(2)));
        for (line, problem) in [
            (String::new(), "no `=`"),
            (format!("Cert={one};"), "no `=`"),
            (format!("Cert={one},"), "no `=`"),
            (format!("Cert={one};Cert={two}"), "twice"),
            (format!("Cert={one};cert={one}"), "twice"),
            (format!("Hash=a;Hash=b;Cert={one}"), "twice"),
            (format!("Cert={one};Other=1"), "a key that is not"),
            (format!("Cert={one}; Cert={two}"), "a key that is not"),
            (format!("Cert=\"{one}"), "does not end"),
            (format!("Cert=\"{one}\\\""), "does not end"),
            (format!("Cert=\"{one}\"x"), "follows the end"),
            (format!("Subject=\"x,Cert=\"{one}\""), "follows the end"),
            (format!("Cert=x\"{one}\""), "quotes or spaces"),
            (format!("Cert={}", hash(&der(1))), "not one certificate"),
            (format!("Cert={one}{two}"), "not one certificate"),
            ("Cert=%zz".into(), "percent-encoded"),
            (format!("Cert={one},Hash=00"), "no `Cert`"),
            (format!("Hash={};Cert={one}", hash(&der(2))), "`Hash` is not"),
            (format!("Hash=x;Cert={one}"), "`Hash` is not"),
            (format!("Cert={}", "a".repeat(MAX_BYTES)), "longer"),
        ] {
            assert!(read(&line).unwrap_err().contains(problem), "{line}: {:?}", read(&line));
        }
        let line = format!("Cert={one}");
        let twice = forwarded_certificate([line.as_bytes(), line.as_bytes()].into_iter());
        assert!(twice.unwrap_err().contains("more than one line"));
        assert_eq!(forwarded_certificate(std::iter::empty()), Ok(None));
        assert_eq!(read(&format!("Hash={};Cert={one}", hash(&der(1)).to_uppercase())), Ok(Some(der(1))));
    }

    /// An element as Envoy writes it.
    fn written(subject: &str, uris: &[String], certificate: &CertificateDer<'_>) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let uris: String = uris.iter().map(|uri| format!(";URI={}", quoted(uri))).collect();
        format!("Hash={};Cert=\"{}\";Subject={}{uris}", hash(certificate), escaped(certificate), quoted(subject))
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read_back(
            subject in "[ -~]{0,60}", uris in prop::collection::vec("[ -~]{0,30}", 0..4),
            before in prop::option::of("[ -~]{0,60}"), name in 1_u8..9,
        ) {
            let own = written(&subject, &uris, &der(name));
            let before = before.map(|subject| format!("{},", written(&subject, &[], &der(9)))).unwrap_or_default();
            prop_assert_eq!(read(&format!("{before}{own}")), Ok(Some(der(name))));
        }

        /// No text that a client puts before the element of the proxy changes the certificate.
        #[test]
        fn what_stands_before_the_proxys_element_never_wins(
            before in "(Subject|Cert|URI|By|=|;|,|\"|\\\\|a| ){0,12}", subject in "[ -~]{0,20}",
        ) {
            let forged = format!("{before}Cert={}", escaped(&der(9)));
            let own = written(&subject, &[], &der(1));
            for line in [format!("{before},{own}"), format!("{forged},{own}"), format!("{before}{forged},{own}")] {
                if let Ok(found) = read(&line) {
                    prop_assert_eq!(found, Some(der(1)));
                }
            }
        }

        /// A changed byte gives the same certificate or a refusal: the element also contains the hash.
        #[test]
        fn no_change_gives_another_certificate(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f) {
            let mut line = written("CN=a,O=\"b\"", &["spiffe://a/b;c".to_owned()], &der(1)).into_bytes();
            let at = at.index(line.len());
            line[at] = byte;
            if let Ok(found) = forwarded_certificate([line.as_slice()].into_iter()) {
                prop_assert_eq!(found, Some(der(1)));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = forwarded_certificate([bytes.as_slice()].into_iter());
        }
    }
}
