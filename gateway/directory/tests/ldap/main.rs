//! Logins at LDAP directories: OpenLDAP, Samba as a domain controller of Active Directory, and servers of the tests'
//! own that do not do what they should.

mod hostile;
mod openldap;
mod peer;
mod samba;
mod slapd;
mod world;
