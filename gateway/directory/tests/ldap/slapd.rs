//! OpenLDAP's server as a directory of this crate.

use idm_plan::{DirectoryServer, Protection};
pub(crate) use idm_tests::slapd::{
    GROUPS, OWN_NAME, OWN_PASSWORD, PASSWORD, PEOPLE, SUFFIX, Slapd, group, person, uid,
};

use crate::world::{Settings, server};

/// Settings for a server of a test.
pub(crate) trait Configures {
    fn at(&self, protection: Protection) -> DirectoryServer;

    /// People by `uid`, over loopback without TLS.
    fn settings(&self) -> Settings;
}

impl Configures for Slapd {
    fn at(&self, protection: Protection) -> DirectoryServer {
        let port = if protection == Protection::Tls { self.tls_port() } else { self.port() };
        server("127.0.0.1", port, protection)
    }

    fn settings(&self) -> Settings {
        Settings::search(self.at(Protection::Loopback), PEOPLE, "uid", OWN_NAME, OWN_PASSWORD)
    }
}
