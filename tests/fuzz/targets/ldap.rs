//! What an LDAP server sends: no octets panic, recurse without end or take much memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| idm_directory::fuzz_ldap(octets));
