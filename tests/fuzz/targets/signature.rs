//! The fields of signed requests: `Signature-Input`, `Signature` and `Content-Digest`, each on a line of the input.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    idm_signature::fuzz(line(), line(), line());
});
