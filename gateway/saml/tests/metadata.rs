//! Metadata as the library reads it outside of its own tests, which take weak keys for the sake of old vectors.

use idm_saml::IdentityProvider;
use idm_types::Timestamp;

/// Of no one: its key was thrown away.
const CERTIFICATE: &str = "MIIBcjCCARmgAwIBAgIUJb7UXOEUEgHkWVwsmAn1L3SnbO4wCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwDaWRwMCAXD\
    TI2MTEyNjEy\
    MzI1MloYDzIxMjYxMTAyMTIzMjUyWjAOMQwwCgYDVQQDDANpZHAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATVFJUKQMgz6van\
    cyHaZBDZTH7U+zHVlVYhiywAn35Bq/PjmjOZJh8h/4PO50fCJdPvXcOqlDIHnVZsPWCZq8VGo1MwUTAdBgNVHQ4EFgQUnwFTf5/l\
    64O+m2mtAsGMXw7VdsAwHwYDVR0jBBgwFoAUnwFTf5/l64O+m2mtAsGMXw7VdsAwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\
    AgNHADBEAiAab1aTPAnSfvSBTn5w8OmjVh1e9Qd440F9YL9tNB9ZNQIgTKlymV2mx119xa8mZ8MP8P1V74bDS5B6Pvnbnc7tuZo=";
/// Of no one, with 1024 bits.
const WEAK: &str = "MIIB+jCCAWOgAwIBAgIUX6IK1WlU0/6T9qTtF+GqmtvuwnAwDQYJKoZIhvcNAQELBQAwDjEMMAoGA1UEAwwDaWRwMCAXDTI2\
    MTEyNjIxMTkxOV\
    oYDzIxMjYxMTAyMjExOTE5WjAOMQwwCgYDVQQDDANpZHAwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAMUjmWWL2aDD3g6B8gP1jBtTOy8S\
    5mhSsj1EWQGEpmTzsfE1jeir2Px0cmaw4vdTOOjtcVbYVQB2LruGuB3LQPjFj0xoXe3mOrmgysKVXM/aHvsXoqdjsQ+23T/sXE2WkqgVipoN5+\
    41+q1C3zJaWyQGAEnEu2yGLtKfs+D7A8p3AgMBAAGjUzBRMB0GA1UdDgQWBBS8RkJ1SwYS+q2YxNXXZK/DDPJx2DAfBgNVHSMEGDAWgBS8RkJ1\
    SwYS+q2YxNXXZK/DDPJx2DAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4GBAIOstvWCgWYYz5ilMffutn9gMGKe7Ibo42VeFf6rsm\
    gBIua3XDC8aw8bbDLzUzYx+3cKW0mIyrbhkpmBJWwF/UeH7Zb0JdNSYcHvfQCTw6UjaCF3P3S7rr8CssIV3aMWrkGO9UHblTCwzWrmwOTHkXuT\
    +88nQ+n+8KyaaDIvfwMa";

#[test]
fn f24_a_certificate_of_1024_bits_beside_a_good_one_is_left_out_and_named() {
    let read = |certificates: &[&str]| {
        let descriptors: String = certificates
            .iter()
            .map(|one| {
                format!(
                    "<KeyDescriptor><KeyInfo \
                        xmlns='http://www.w3.org/2000/09/xmldsig#'><X509Data><X509Certificate>{one}\
                     </X509Certificate></X509Data></KeyInfo></KeyDescriptor>"
                )
            })
            .collect();
        let document = format!(
            "<EntityDescriptor xmlns='urn:oasis:names:tc:SAML:2.0:metadata' entityID='x'><IDPSSODescriptor \
             protocolSupportEnumeration='urn:oasis:names:tc:SAML:2.0:protocol'>{descriptors}<SingleSignOnService \
             Binding='urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect' Location='https://idp/'/></IDPSSODescriptor>\
             </EntityDescriptor>"
        );
        IdentityProvider::read(&document, "x", Timestamp(0))
    };
    let found = read(&[WEAK, CERTIFICATE]).unwrap();
    assert_eq!((found.keys.len(), found.left_out.len()), (1, 1));
    assert!(found.left_out[0].contains("certificate 1: ") && found.left_out[0].contains("2048 bits"));
    assert!(read(&[WEAK]).unwrap_err().to_string().contains("2048 bits"));
}
