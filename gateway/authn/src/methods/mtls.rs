//! Client certificates: checked by the handshake against all authorities of the gateway, and here once more
//! against those of the policy.

use std::net::IpAddr;

use idm_plan::{MtlsMethod, Source};
use idm_request::{ClientCertificate, Identity, Presented, RequestView};
use idm_trust::CertificateCheck;
use idm_types::{Reason, Refusal};
use rustls::pki_types::CertificateDer;

use crate::CredentialTable;
use crate::judged::Unjudged;
use crate::method::{
    Attempt, Caching, Challenged, Method, MethodContext, NewVerdict, Proven, Recheck, Verifying, at_once,
};

pub(crate) struct ArmedMtls(CertificateCheck);

impl Method for ArmedMtls {
    fn kind(&self) -> &'static str {
        "mtls"
    }

    /// The certificate is not sent in the request, but proven by the connection it came on.
    fn sources(&self) -> &[Source] {
        &[]
    }

    fn find<'r>(&self, view: RequestView<'r>) -> Result<Option<Presented<'r>>, Reason> {
        Ok(view.certificate.map(|certificate| Presented { value: certificate.thumbprint, source: 0 }))
    }

    fn verify<'a>(&'a self, context: MethodContext<'a>, _: &'a str) -> Verifying<'a> {
        at_once(match context.view.certificate {
            Some(certificate) => self.attempt(context, certificate),
            None => Attempt::NotMine(context.denied(Reason::NoCredentials, "")),
        })
    }

    fn judge(&self, context: MethodContext<'_>, _: &str) -> Result<Attempt, Unjudged> {
        let certificate = context.view.certificate.ok_or(Unjudged::CertificateNotAsked)?;
        Ok(self.attempt(context, certificate))
    }

    /// A verdict is all there is.
    fn judge_again(&self, _: MethodContext<'_>, _: Proven<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn caching(&self) -> Caching {
        Caching::ByCredential
    }

    fn epoch(&self, _: &Identity, _: &CredentialTable) -> u64 {
        0
    }

    /// A verdict ends with the certificate, and revocation lists are part of the policy.
    fn recheck<'a>(&'a self, _: MethodContext<'a>, _: Proven<'a>) -> Recheck<'a> {
        Recheck::Done(Ok(()))
    }

    fn challenge(&self, _: &Challenged<'_>) -> Vec<String> {
        Vec::new()
    }

    fn believes_proxy(&self, address: IpAddr) -> bool {
        self.plan().trusted_proxies.iter().any(|network| network.contains(address))
    }
}

impl ArmedMtls {
    pub(crate) fn new(plan: &MtlsMethod) -> Result<Self, String> {
        CertificateCheck::new(plan).map(Self)
    }

    fn plan(&self) -> &MtlsMethod {
        self.0.plan()
    }

    pub(crate) fn attempt(&self, context: MethodContext<'_>, certificate: ClientCertificate<'_>) -> Attempt {
        if let Err(refusal) = self.0.check_chain(certificate.chain, context.now) {
            let refusal = refusal.by_method(context.name);
            // Another method of the policy may know its authority.
            let not_mine = refusal.reason == Reason::UntrustedCertificate;
            return if not_mine { Attempt::NotMine(refusal) } else { Attempt::Rejected(refusal) };
        }
        let Some(own) = certificate.chain.first() else {
            return Attempt::NotMine(context.denied(Reason::UntrustedCertificate, "there is no certificate"));
        };
        match self.identity(context, own) {
            Ok((identity, until)) => Attempt::Verified(NewVerdict { identity: identity.into(), until, epoch: 0 }),
            Err(refusal) => Attempt::Rejected(refusal.by_method(context.name)),
        }
    }

    fn identity(&self, context: MethodContext<'_>, der: &CertificateDer<'_>) -> Result<(Identity, u64), Refusal> {
        let accepted = self.0.read(der)?;
        let kind = self.plan().identity;
        let Some(username) = accepted.only_name(kind) else {
            let why = format!("the certificate must have exactly one {kind:?} name to be a user");
            return Err(Refusal::new(Reason::CertificateNotAllowed, why));
        };
        let issuer = format!("x509:{}", accepted.issuer());
        let mut roles: Vec<String> = context.grants.of_user(&issuer, username, &[]).cloned().collect();
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
            ..Identity::nobody(context.name, context.kind)
        };
        identity.headers = context.headers(&identity)?;
        Ok((identity, expires.0))
    }
}
