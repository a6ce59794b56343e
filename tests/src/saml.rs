use std::path::Path;
use std::process::Command;

use crate::http::encoded;
use crate::now;

/// A SAML identity provider made of openssl and xmlsec1: none of our code signs or encrypts here.
pub struct SamlIdp {
    dir: tempfile::TempDir,
}

/// Its entity id.
pub const IDP: &str = "https://idp.example/metadata";
/// The address of its single sign-on service.
pub const SSO: &str = "https://idp.example/sso";
/// The address of its single logout service.
pub const SLO: &str = "https://idp.example/slo";

/// The content of a response. Change it before it is signed.
#[derive(Clone, Debug)]
pub struct Says {
    /// The subject's name.
    pub name: String,
    /// The request that it answers.
    pub in_response_to: Option<String>,
    /// The recipient.
    pub consumer: String,
    /// The audience.
    pub audience: String,
    /// The issuer.
    pub issuer: String,
    /// Seconds from now until it begins and ends.
    pub window: (i64, i64),
    /// The name of the assertion.
    pub id: String,
    /// The provider's name of its session.
    pub session: String,
    /// The authentication context.
    pub context: String,
    /// Further XML inside the assertion's conditions.
    pub conditions: String,
    /// The status.
    pub status: String,
}

impl Says {
    /// A valid answer to a request.
    pub fn to(request: &str, consumer: &str, audience: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self {
            name: "ana".into(),
            in_response_to: Some(request.into()),
            consumer: consumer.into(),
            audience: audience.into(),
            issuer: IDP.into(),
            window: (-5, 120),
            id: format!("_assertion-{count}"),
            session: format!("session-{count}"),
            context: "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport".into(),
            conditions: String::new(),
            status: "urn:oasis:names:tc:SAML:2.0:status:Success".into(),
        }
    }

    fn request(&self) -> String {
        self.in_response_to.as_ref().map(|id| format!(" InResponseTo=\"{id}\"")).unwrap_or_default()
    }
}

fn time(seconds: i64) -> String {
    idm_types::Timestamp::from_seconds(now().saturating_add_signed(seconds)).rfc3339()
}

/// A signature template.
pub fn signature_template(id: &str) -> String {
    format!(
        "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
            <ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>\
            <ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256\"/>\
            <ds:Reference URI=\"#{id}\"><ds:Transforms><ds:Transform \
            Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>\
            <ds:Transform Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/></ds:Transforms>\
            <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"/><ds:DigestValue/></ds:Reference>\
            </ds:SignedInfo><ds:SignatureValue/><ds:KeyInfo><ds:X509Data/></ds:KeyInfo></ds:Signature>"
    )
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap_or_else(|error| panic!("{program} is installed: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Default for SamlIdp {
    fn default() -> Self {
        Self::new()
    }
}

impl SamlIdp {
    /// A provider with an RSA key.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let idp = Self { dir };
        idp.new_key("idp");
        idp.new_key("attacker");
        // In the form that cert-manager writes: PKCS#1.
        idp.new_key("sp");
        run("openssl", &["rsa", "-traditional", "-in", "sp.key", "-out", "sp.traditional"], idp.dir.path());
        std::fs::rename(idp.dir.path().join("sp.traditional"), idp.dir.path().join("sp.key")).expect("done");
        idp
    }

    /// Makes a key and a certificate of this name.
    pub fn new_key(&self, name: &str) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &certificate,
                "-days",
                "30",
                "-subj",
                &format!("/CN={name}"),
            ],
            self.dir.path(),
        );
    }

    /// Makes a key on a curve (`P-256`) and a certificate of this name.
    pub fn new_ec_key(&self, name: &str, curve: &str) {
        let (key, certificate, curve) =
            (format!("{name}.key"), format!("{name}.crt"), format!("ec_paramgen_curve:{curve}"));
        let kind = ["-newkey", "ec", "-pkeyopt", &curve];
        let files = ["-nodes", "-keyout", &key, "-out", &certificate, "-days", "30", "-subj", &format!("/CN={name}")];
        run("openssl", &[&["req", "-x509"], &kind[..], &files[..]].concat(), self.dir.path());
    }

    /// The content of one of its files.
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(file)).expect("read")
    }

    /// Its metadata, with the certificates of these names.
    pub fn metadata(&self, keys: &[&str]) -> String {
        let certificate = |name: &&str| {
            let base64: String =
                self.read(&format!("{name}.crt")).lines().filter(|line| !line.starts_with("-----")).collect();
            format!(
                "<KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data>\
                    <ds:X509Certificate>{base64}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>"
            )
        };
        let redirect = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
        let post = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
        format!(
            "<EntityDescriptor xmlns=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
                xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" entityID=\"{IDP}\"><IDPSSODescriptor \
                protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">{}<SingleLogoutService \
                Binding=\"{redirect}\" Location=\"{SLO}\"/><SingleSignOnService Binding=\"{redirect}\" \
                Location=\"{SSO}\"/><SingleSignOnService Binding=\"{post}\" \
                Location=\"{SSO}\"/></IDPSSODescriptor></EntityDescriptor>",
            keys.iter().map(certificate).collect::<String>()
        )
    }

    /// A Federation for it, as YAML, with further members of `saml`.
    pub fn federation(&self, more: &str) -> String {
        let sp = crate::secret("sp", &[("tls.crt", self.read("sp.crt")), ("tls.key", self.read("sp.key"))]);
        format!(
            "---\napiVersion: identity-manager.io/v1alpha1\nkind: Federation\nmetadata: {{name: idp, uid: \
                uid-idp}}\nspec:\n  saml:\n    entityId: {IDP}\n    metadata: {{inline: '{}'}}\n{more}{sp}",
            self.metadata(&["idp"])
        )
    }

    /// An assertion, not signed; `signature` is inserted at the place of its signature.
    pub fn assertion(&self, says: &Says, signature: &str) -> String {
        let Says { name, consumer, audience, issuer, window, id, session, context, conditions, .. } = says;
        let (request, now, from, until) = (says.request(), time(0), time(window.0), time(window.1));
        format!(
            "<saml:Assertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" \
                xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" \
                xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" ID=\"{id}\" Version=\"2.0\" \
                IssueInstant=\"{now}\"><saml:Issuer>{issuer}</saml:Issuer>{signature}<saml:Subject>\
                <saml:NameID Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">{name}</saml:NameID>\
                <saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\">\
                <saml:SubjectConfirmationData{request} NotOnOrAfter=\"{until}\" Recipient=\"{consumer}\"/>\
                </saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore=\"{from}\" \
                NotOnOrAfter=\"{until}\"><saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience>\
                </saml:AudienceRestriction>{conditions}</saml:Conditions><saml:AuthnStatement AuthnInstant=\"{now}\" \
                SessionIndex=\"{session}\"><saml:AuthnContext>\
                <saml:AuthnContextClassRef>{context}</saml:AuthnContextClassRef></saml:AuthnContext>\
                </saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name=\"groups\">\
                <saml:AttributeValue xsi:type=\"xs:string\">order-reader</saml:AttributeValue>\
                <saml:AttributeValue xsi:type=\"xs:string\">staff</saml:AttributeValue></saml:Attribute>\
                <saml:Attribute Name=\"email\"><saml:AttributeValue \
                xsi:type=\"xs:string\">{name}@shop.example</saml:AttributeValue></saml:Attribute>\
                </saml:AttributeStatement></saml:Assertion>"
        )
    }

    /// A response around an element; `signature` is inserted at the place of its own signature.
    pub fn response(&self, says: &Says, inside: &str, signature: &str) -> String {
        let Says { consumer, issuer, id, status, .. } = says;
        let (request, now) = (says.request(), time(0));
        format!(
            "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" ID=\"_response{id}\" \
                Version=\"2.0\" IssueInstant=\"{now}\" Destination=\"{consumer}\"{request}>\
                <saml:Issuer xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">{issuer}</saml:Issuer>{signature}<\
                samlp:Status><samlp:StatusCode Value=\"{status}\"/></samlp:Status>{inside}</samlp:Response>"
        )
    }

    /// Fills in the one signature template of a document, with the key of this name.
    pub fn sign(&self, document: &str, key: &str) -> String {
        std::fs::write(self.dir.path().join("in.xml"), document).expect("written");
        let pair = format!("{key}.key,{key}.crt");
        let of = |name: &str, namespace: &str| format!("urn:oasis:names:tc:SAML:2.0:{namespace}:{name}");
        let names = [of("Response", "protocol"), of("Assertion", "assertion"), of("LogoutRequest", "protocol")];
        let mut arguments = vec!["--sign", "--privkey-pem", &pair];
        for name in &names {
            arguments.extend(["--id-attr:ID", name]);
        }
        arguments.push("in.xml");
        let signed = run("xmlsec1", &arguments, self.dir.path());
        signed.trim_start_matches("<?xml version=\"1.0\"?>").trim().to_owned()
    }

    /// A response with a signed assertion.
    pub fn signed_assertion(&self, says: &Says) -> String {
        self.sign(&self.response(says, &self.assertion(says, &signature_template(&says.id)), ""), "idp")
    }

    /// A signed response with an assertion that has no signature of its own.
    pub fn signed_response(&self, says: &Says) -> String {
        self.sign(
            &self.response(says, &self.assertion(says, ""), &signature_template(&format!("_response{}", says.id))),
            "idp",
        )
    }

    /// An assertion, encrypted for the service with this content algorithm and key transport.
    pub fn encrypt(&self, assertion: &str, content: &str, session_key: &str, transport: &str) -> String {
        let template = format!(
            "<xenc:EncryptedData xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\" \
                Type=\"http://www.w3.org/2001/04/xmlenc#Element\"><xenc:EncryptionMethod Algorithm=\"{content}\"/>\
                <ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><xenc:EncryptedKey>\
                <xenc:EncryptionMethod Algorithm=\"{transport}\"/><ds:KeyInfo><ds:X509Data/></ds:KeyInfo>\
                <xenc:CipherData><xenc:CipherValue/></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo>\
                <xenc:CipherData><xenc:CipherValue/></xenc:CipherData></xenc:EncryptedData>"
        );
        std::fs::write(self.dir.path().join("template.xml"), template).expect("written");
        std::fs::write(self.dir.path().join("plain.xml"), assertion).expect("written");
        let data = run(
            "xmlsec1",
            &[
                "--encrypt",
                "--pubkey-cert-pem",
                "sp.crt",
                "--session-key",
                session_key,
                "--xml-data",
                "plain.xml",
                "template.xml",
            ],
            self.dir.path(),
        );
        format!(
            "<saml:EncryptedAssertion \
                xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">{}</saml:EncryptedAssertion>",
            data.trim_start_matches("<?xml version=\"1.0\"?>").trim()
        )
    }

    /// Whether xmlsec1 verifies the signature of one of our documents with the key of this name.
    pub fn verifies(&self, document: &str, element: &str, key: &str) -> bool {
        std::fs::write(self.dir.path().join("ours.xml"), document).expect("written");
        let arguments = ["--verify", "--pubkey-cert-pem", &format!("{key}.crt"), "--id-attr:ID", element, "ours.xml"];
        Command::new("xmlsec1")
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .expect("xmlsec1 is installed")
            .status
            .success()
    }

    /// Whether openssl verifies the signature of the text with the key of this name.
    pub fn signed_text(&self, text: &str, signature: &[u8], key: &str) -> bool {
        std::fs::write(self.dir.path().join("text"), text).expect("written");
        std::fs::write(self.dir.path().join("signature"), signature).expect("written");
        let public = run("openssl", &["x509", "-in", &format!("{key}.crt"), "-noout", "-pubkey"], self.dir.path());
        std::fs::write(self.dir.path().join("public"), public).expect("written");
        let arguments = ["dgst", "-sha256", "-verify", "public", "-signature", "signature", "text"];
        Command::new("openssl")
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .expect("openssl is installed")
            .status
            .success()
    }

    /// A query with a message of the provider, signed with the key of this name.
    pub fn signed_query(&self, field: &str, message: &str, relay_state: &str, key: &str) -> String {
        std::fs::write(self.dir.path().join("message"), message).expect("written");
        let code = "import sys,zlib,base64;d=zlib.compressobj(9,zlib.DEFLATED,-15);b=open('message','rb').read();pri\
            nt(base64.b64encode(d.compress(b)+d.flush()).decode())";
        let deflated = run("python3", &["-c", code], self.dir.path());
        let query = format!(
            "{field}={}&RelayState={}&SigAlg={}",
            encoded(deflated.trim()),
            encoded(relay_state),
            encoded("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256")
        );
        std::fs::write(self.dir.path().join("text"), &query).expect("written");
        let signature =
            run("sh", &["-c", &format!("openssl dgst -sha256 -sign {key}.key text | base64 -w0")], self.dir.path());
        format!("{query}&Signature={}", encoded(signature.trim()))
    }

    /// A request to end sessions, with a signature template where it is to be posted.
    pub fn logout_request(&self, id: &str, to: &str, name: &str, sessions: &[&str], signature: &str) -> String {
        let sessions: String =
            sessions.iter().map(|session| format!("<samlp:SessionIndex>{session}</samlp:SessionIndex>")).collect();
        format!(
            "<samlp:LogoutRequest xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
                xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{id}\" Version=\"2.0\" IssueInstant=\"{}\" \
                Destination=\"{to}\"><saml:Issuer>{IDP}</saml:Issuer>{signature}<saml:NameID \
                Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:persistent\">{name}</saml:NameID>{sessions}</saml\
                p:LogoutRequest>",
            time(0)
        )
    }

    /// The text of a message in a query of ours.
    pub fn inflated(&self, value: &str) -> String {
        std::fs::write(self.dir.path().join("value"), value).expect("written");
        run(
            "python3",
            &["-c", "import zlib,base64;print(zlib.decompress(base64.b64decode(open('value').read()),-15).decode())"],
            self.dir.path(),
        )
        .trim()
        .to_owned()
    }
}
