//! Octets of an LDAP server: none panic, recurse without end or take much memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| idm_directory::fuzz_ldap(octets));
