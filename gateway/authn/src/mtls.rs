//! Client certificates: checked by the handshake against all authorities of the gateway, and here once more
//! against those of the policy.

use idm_plan::MtlsMethod;
use idm_request::{ClientCertificate, Identity};
use idm_trust::CertificateCheck;
use idm_types::{Reason, Refusal};
use rustls::pki_types::CertificateDer;

use crate::chain::{Attempt, Fresh};
use crate::credential::Through;

pub(crate) struct ArmedMtls(CertificateCheck);

impl ArmedMtls {
    pub(crate) fn new(plan: &MtlsMethod) -> Result<Self, String> {
        CertificateCheck::new(plan).map(Self)
    }

    pub(crate) fn plan(&self) -> &MtlsMethod {
        self.0.plan()
    }

    pub(crate) fn attempt(&self, through: Through<'_>, certificate: ClientCertificate<'_>) -> Attempt {
        if let Err(refusal) = self.0.check_chain(certificate.chain, through.now) {
            let refusal = refusal.by_method(through.name);
            // Another method of the policy may know its authority.
            let not_mine = refusal.reason == Reason::UntrustedCertificate;
            return if not_mine { Attempt::NotMine(refusal) } else { Attempt::Rejected(refusal) };
        }
        let Some(own) = certificate.chain.first() else {
            return Attempt::NotMine(through.denied(Reason::UntrustedCertificate, "there is no certificate"));
        };
        match self.identity(through, own) {
            Ok((identity, until)) => Attempt::Verified(Fresh { identity: identity.into(), until, epoch: 0 }),
            Err(refusal) => Attempt::Rejected(refusal.by_method(through.name)),
        }
    }

    fn identity(&self, through: Through<'_>, der: &CertificateDer<'_>) -> Result<(Identity, u64), Refusal> {
        let accepted = self.0.read(der)?;
        let kind = self.plan().identity;
        let Some(username) = accepted.only_name(kind) else {
            let why = format!("the certificate must have exactly one {kind:?} name to be a user");
            return Err(Refusal::new(Reason::CertificateNotAllowed, why));
        };
        let issuer = format!("x509:{}", accepted.issuer());
        let mut roles: Vec<String> = through.grants.of_user(&issuer, username, &[]).cloned().collect();
        roles.sort();
        roles.dedup();
        let expires = accepted.not_after();
        let mut identity = Identity {
            id: format!("{issuer}#{username}"),
            username: username.to_owned(),
            issuer: Some(issuer),
            roles,
            attributes: vec![("subject".into(), accepted.subject())],
            expires: Some(expires),
            ..Identity::nobody(through.name, through.kind)
        };
        identity.headers = through.headers(&identity)?;
        Ok((identity, expires.0))
    }
}
