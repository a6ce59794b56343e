//! Logins at LDAP directories: OpenLDAP, Samba as a domain controller of Active Directory, and servers of the tests'
//! own that do not do what they should.

mod answers;
mod hostile;
mod openldap;
mod openldap_groups;
mod peer;
mod referrals;
mod samba;
mod script;
mod slapd;
mod world;
