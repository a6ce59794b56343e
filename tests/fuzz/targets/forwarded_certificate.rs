//! `X-Forwarded-Client-Cert`: any bytes give a certificate or a refusal, and what a client puts before the proxy's own
//! element never becomes another certificate.
#![no_main]

use idm_request::forwarded_certificate;
use libfuzzer_sys::fuzz_target;

const OWN: &[u8] = b",By=spiffe://a;Cert=\"-----BEGIN%20CERTIFICATE-----%0AAQEB%0A-----END%20CERTIFICATE-----%0A\";\
                     Subject=\"CN=a\"";

fuzz_target!(|bytes: &[u8]| {
    let _ = forwarded_certificate([bytes].into_iter());
    let appended = [bytes, OWN].concat();
    if let Ok(found) = forwarded_certificate([appended.as_slice()].into_iter()) {
        assert_eq!(found.as_deref(), Some([1, 1, 1].as_slice()));
    }
});
