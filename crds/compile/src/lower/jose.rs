use std::collections::BTreeSet;

use idm_api::v1alpha1 as wire;
use idm_jose::{DecryptionKeys, EncryptionKey, Jwk, KeySet, SigningKey, private_key};
use idm_plan::{
    CertificateHeaders, Consume, Decrypt, Destination, Encrypt, EncryptionKeyRef, ExpectedClaims, JoseStep,
    JoseStepKind, KeyChoice, MadeClaims, Message, Place, Produce, SecretHandle, Secrets, Sign, SignedForm,
    SigningKeyRef, Variable, VerificationKeys, Verify,
};
use idm_types::Skew;

use super::Notes;
use super::keys::{lower_keys, secret_text};
use super::mtls::lower_trusted;
use super::policy::expr;
use super::source::header_name;
use crate::{Cause, Condition, World};

/// The variables that are known when a response is signed: its request is not available any more.
const RESPONSE: &[Variable] =
    &[Variable::Token, Variable::Identity, Variable::Credential, Variable::Env, Variable::Jose, Variable::Now];

struct Lowering<'a, 'r> {
    world: &'a World,
    secrets: &'a mut Secrets,
    notes: &'a mut Notes<'r>,
}

pub(crate) fn lower_steps(
    world: &World,
    steps: Option<&[wire::JoseStep]>,
    secrets: &mut Secrets,
    notes: &mut Notes<'_>,
) -> Vec<JoseStep> {
    let mut lowering = Lowering { world, secrets, notes };
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    for (i, wire::JoseStep { name, consume, produce }) in steps.into_iter().flatten().enumerate() {
        let path = format!("spec.jose[{i}]");
        if !names.insert(name) {
            lowering.notes.fail::<()>(
                format!("{path}.name"),
                Cause::Invalid,
                format!("step name '{name}' must be used once"),
            );
        }
        let kind = match (consume, produce) {
            (Some(consume), None) => lowering.consume(&format!("{path}.consume"), consume).map(JoseStepKind::Consume),
            (None, Some(produce)) => lowering.produce(&format!("{path}.produce"), produce).map(JoseStepKind::Produce),
            _ => {
                lowering.notes.fail(path, Cause::Invalid, "jose step must have exactly one of `consume` and `produce`")
            }
        };
        lowered.extend(kind.map(|kind| JoseStep { name: name.clone(), kind }));
    }
    lowered
}

impl Lowering<'_, '_> {
    fn place(&mut self, path: &str, source: &wire::ContentSource, variables: &[Variable]) -> Option<Place> {
        match source {
            wire::ContentSource { body: Some(wire::WholeBody {}), header: None, value: None } => Some(Place::Body),
            wire::ContentSource { body: None, header: Some(name), value: None } => {
                header_name(&format!("{path}.header"), name, self.notes).map(Place::Header)
            }
            wire::ContentSource { body: None, header: None, value: Some(text) } => {
                expr(&format!("{path}.value"), text, variables, self.notes).map(Place::Value)
            }
            _ => self.notes.fail(path, Cause::Invalid, "set exactly one of `body`, `header`, `value`"),
        }
    }

    fn destination(&mut self, path: &str, to: &wire::ContentDestination) -> Option<Destination> {
        match to {
            wire::ContentDestination { body: Some(wire::NewBody { content_type }), header: None } => {
                if content_type.as_ref().is_some_and(|text| !text.bytes().all(|byte| (0x20..0x7f).contains(&byte))) {
                    return self.notes.fail(
                        format!("{path}.body.contentType"),
                        Cause::Invalid,
                        "contentType must be printable ASCII",
                    );
                }
                Some(Destination::Body { content_type: content_type.clone() })
            }
            wire::ContentDestination { body: None, header: Some(name) } => {
                header_name(&format!("{path}.header"), name, self.notes).map(Destination::Header)
            }
            _ => self.notes.fail(path, Cause::Invalid, "set exactly one of `body` and `header`"),
        }
    }

    /// Takes one key of a Secret into the bundle and returns its text for checks. The text must not get into any
    /// message.
    fn secret(&mut self, path: &str, reference: &wire::KeyReference, usual: &str) -> Option<(SecretHandle, String)> {
        secret_text(self.world, path, reference, usual, self.secrets, self.notes)
    }

    fn consume(&mut self, path: &str, step: &wire::JoseConsume) -> Option<Consume> {
        let wire::JoseConsume { from, serialization, decrypt, verify, to } = step;
        if decrypt.is_none() && verify.is_none() {
            return self.notes.fail(path, Cause::Invalid, "consume must `decrypt`, `verify` or both");
        }
        let from = self.place(&format!("{path}.from"), from, Variable::ALL);
        let decrypt = match decrypt {
            Some(decrypt) => Some(self.decrypt(&format!("{path}.decrypt"), decrypt)?),
            None => None,
        };
        let verify = match verify {
            Some(verify) => Some(self.verify(&format!("{path}.verify"), verify)?),
            None => None,
        };
        let to = match to {
            Some(to) => self.destination(&format!("{path}.to"), to)?,
            None => Destination::Nowhere,
        };
        Some(Consume { from: from?, json: *serialization == Some(wire::Serialization::Json), decrypt, verify, to })
    }

    fn decrypt(&mut self, path: &str, step: &wire::JoseDecrypt) -> Option<Decrypt> {
        let wire::JoseDecrypt { secret_ref, algorithms, encryptions } = step;
        if algorithms.is_empty() || encryptions.is_empty() {
            return self.notes.fail(path, Cause::Invalid, "`algorithms` and `encryptions` must not be empty");
        }
        if algorithms.iter().any(|algorithm| algorithm.is_password_based()) {
            let message = "password-based encryption lets a sender choose how hard the gateway works: use it only \
                where nothing else is possible";
            self.notes.report.push(
                &self.notes.object,
                format!("{path}.algorithms"),
                Condition::Programmed,
                Cause::DangerousOption,
                message,
            );
        }
        let path = format!("{path}.secretRef");
        let (keys, text) = self.secret(&path, secret_ref, "jwks.json")?;
        if let Err(error) = DecryptionKeys::parse(text.as_bytes(), algorithms) {
            return self.notes.fail(path, Cause::InvalidRef, format!("Secret '{}': {error}", secret_ref.name));
        }
        Some(Decrypt { keys, algorithms: algorithms.clone(), encryptions: encryptions.clone() })
    }

    fn verify(&mut self, path: &str, step: &wire::JoseVerify) -> Option<Verify> {
        let wire::JoseVerify { keys, certificates, algorithms, detached_header, claims } = step;
        if algorithms.is_empty() {
            return self.notes.fail(
                format!("{path}.algorithms"),
                Cause::Invalid,
                "at least one algorithm must be given",
            );
        }
        let issuer = claims.as_ref().map(|claims| claims.issuer.as_str());
        if keys.as_ref().is_some_and(|keys| keys.discovery.is_some()) && issuer.is_none() {
            return self.notes.fail(
                format!("{path}.keys.discovery"),
                Cause::Invalid,
                "discovery needs `claims.issuer`",
            );
        }
        let keys_path = format!("{path}.keys");
        let keys = match (keys, certificates) {
            (Some(keys), None) => keys,
            (None, Some(trusted)) => {
                if algorithms.iter().any(|algorithm| algorithm.is_symmetric()) {
                    return self.notes.fail(
                        format!("{path}.algorithms"),
                        Cause::Invalid,
                        "certificates hold asymmetric keys: name no HS algorithm",
                    );
                }
                let trusted = lower_trusted(self.world, &format!("{path}.certificates"), trusted, self.notes)?;
                let keys = VerificationKeys::Certificates(Box::new(trusted));
                return self.verification(path, keys, algorithms, detached_header.as_deref(), claims.as_ref());
            }
            _ => {
                return self.notes.fail(
                    path,
                    Cause::Invalid,
                    "verify must have exactly one of `keys` and `certificates`",
                );
            }
        };
        let keys = match &keys.secret_ref {
            Some(reference) => {
                let path = format!("{keys_path}.secretRef");
                let (handle, text) = self.secret(&path, reference, "jwks.json")?;
                if let Err(error) = KeySet::parse_secret(text.as_bytes(), algorithms) {
                    return self.notes.fail(path, Cause::InvalidRef, format!("Secret '{}': {error}", reference.name));
                }
                VerificationKeys::Secret(handle)
            }
            None => VerificationKeys::Published(lower_keys(
                self.world,
                &keys_path,
                issuer.unwrap_or_default(),
                keys,
                algorithms,
                self.secrets,
                self.notes,
            )?),
        };
        self.verification(path, keys, algorithms, detached_header.as_deref(), claims.as_ref())
    }

    fn verification(
        &mut self,
        path: &str,
        keys: VerificationKeys,
        algorithms: &[idm_types::Algorithm],
        detached_header: Option<&str>,
        claims: Option<&wire::ExpectedClaims>,
    ) -> Option<Verify> {
        let detached = match detached_header {
            Some(name) => Some(header_name(&format!("{path}.detachedHeader"), name, self.notes)?),
            None => None,
        };
        if detached.is_some() && claims.is_some() {
            return self.notes.fail(
                format!("{path}.detachedHeader"),
                Cause::Invalid,
                "a JWT is never detached: remove `detachedHeader` or `claims`",
            );
        }
        let claims = match claims {
            None => None,
            Some(wire::ExpectedClaims { issuer, audiences, types, clock_skew_seconds }) => {
                let seconds = clock_skew_seconds.unwrap_or(30);
                if audiences.is_empty() || !(0..=300).contains(&seconds) {
                    return self.notes.fail(
                        format!("{path}.claims"),
                        Cause::Invalid,
                        "`audiences` must not be empty and `clockSkewSeconds` between 0 and 300",
                    );
                }
                let types = types
                    .iter()
                    .flatten()
                    .map(|typ| typ.to_ascii_lowercase().trim_start_matches("application/").to_owned())
                    .collect();
                Some(ExpectedClaims {
                    issuer: issuer.clone(),
                    audiences: audiences.clone(),
                    types,
                    skew: Skew::from_seconds(seconds as u64),
                })
            }
        };
        Some(Verify { keys, algorithms: algorithms.to_vec(), detached, claims })
    }

    fn produce(&mut self, path: &str, step: &wire::JoseProduce) -> Option<Produce> {
        let wire::JoseProduce { message, from, sign, encrypt, to } = step;
        let (message, variables) = match message {
            None | Some(wire::JoseMessage::Request) => (Message::Request, Variable::ALL),
            Some(wire::JoseMessage::Response) => (Message::Response, RESPONSE),
        };
        if sign.is_none() && encrypt.is_none()
            || from.is_none() && sign.as_ref().is_none_or(|sign| sign.claims.is_none())
        {
            return self.notes.fail(
                path,
                Cause::Invalid,
                "produce must `sign`, `encrypt` or both, and needs `from` unless `sign.claims` make the payload",
            );
        }
        let from = match from {
            Some(from) => Some(self.place(&format!("{path}.from"), from, variables)?),
            None => None,
        };
        let sign = match sign {
            Some(sign) => Some(self.sign(&format!("{path}.sign"), sign, variables)?),
            None => None,
        };
        let encrypt = match encrypt {
            Some(encrypt) => Some(self.encrypt(&format!("{path}.encrypt"), encrypt)?),
            None => None,
        };
        let to = self.destination(&format!("{path}.to"), to)?;
        Some(Produce { message, from, sign, encrypt, to })
    }

    fn sign(&mut self, path: &str, step: &wire::JoseSign, variables: &[Variable]) -> Option<Sign> {
        let wire::JoseSign { key_ref, key_for, keys, algorithm, form, typ, cty, certificate, claims } = step;
        let certificate = certificate.as_deref().unwrap_or_default();
        let has = |header| certificate.contains(&header);
        let certificate = CertificateHeaders {
            x5t: has(wire::CertificateHeader::X5t),
            x5t_s256: has(wire::CertificateHeader::X5tS256),
            x5c: has(wire::CertificateHeader::X5c),
        };
        let wants_chain = certificate != CertificateHeaders::default();
        let key = match (key_ref, key_for, keys) {
            (Some(reference), None, None) => {
                KeyChoice::One(self.signing_key(&format!("{path}.keyRef"), reference, *algorithm, wants_chain)?)
            }
            (None, Some(text), Some(keys)) => {
                let value = expr(&format!("{path}.keyFor"), text, variables, self.notes)?;
                let mut chosen = Vec::new();
                for (i, wire::ChosenKey { value, key_ref }) in keys.iter().enumerate() {
                    chosen.push((
                        value.clone(),
                        self.signing_key(&format!("{path}.keys[{i}].keyRef"), key_ref, *algorithm, wants_chain)?,
                    ));
                }
                KeyChoice::By { value, keys: chosen }
            }
            _ => return self.notes.fail(path, Cause::Invalid, "sign must have `keyRef`, or `keyFor` with `keys`"),
        };
        let form = match form {
            None | Some(wire::SignedForm::Compact) => SignedForm::Compact,
            Some(wire::SignedForm::Detached) => SignedForm::Detached,
            Some(wire::SignedForm::Json) => SignedForm::Json,
        };
        let claims = match claims {
            Some(claims) => Some(self.claims(&format!("{path}.claims"), claims, variables)?),
            None => None,
        };
        Some(Sign { key, algorithm: *algorithm, form, typ: typ.clone(), cty: cty.clone(), certificate, claims })
    }

    fn claims(&mut self, path: &str, claims: &wire::MadeClaims, variables: &[Variable]) -> Option<MadeClaims> {
        let wire::MadeClaims {
            issuer,
            audiences,
            subject,
            expire_after_seconds,
            expire_from_now,
            issued_at_offset_seconds,
            id,
            custom,
        } = claims;
        let subject = match subject {
            Some(text) => Some(expr(&format!("{path}.subject"), text, variables, self.notes)?),
            None => None,
        };
        let mut lowered = Vec::new();
        for (i, wire::CustomClaim { name, value }) in custom.iter().flatten().enumerate() {
            if ["iss", "aud", "sub", "exp", "nbf", "iat", "jti"].contains(&name.as_str()) {
                return self.notes.fail(
                    format!("{path}.custom[{i}].name"),
                    Cause::Invalid,
                    "a custom claim must not have the name of a registered one",
                );
            }
            lowered.push((name.clone(), expr(&format!("{path}.custom[{i}].value"), value, variables, self.notes)?));
        }
        let expires_after = expire_after_seconds.map(|seconds| seconds.clamp(1, 31_536_000) as u64);
        Some(MadeClaims {
            issuer: issuer.clone(),
            audiences: audiences.clone().unwrap_or_default(),
            subject,
            expires_after,
            expires_from_now: expire_from_now.unwrap_or(false),
            issued_at_offset: issued_at_offset_seconds.unwrap_or(0).clamp(-3600, 3600),
            id: id.unwrap_or(false),
            custom: lowered,
        })
    }

    fn signing_key(
        &mut self,
        path: &str,
        reference: &wire::KeyReference,
        algorithm: idm_types::Algorithm,
        wants_chain: bool,
    ) -> Option<SigningKeyRef> {
        let (key, text) = self.secret(path, reference, "key")?;
        let usable =
            private_key(&text).map(|jwk| SigningKey::from_jwk(&jwk, algorithm).map_err(|error| error.to_string()));
        match usable {
            None => {
                return self.notes.fail(
                    path,
                    Cause::InvalidRef,
                    format!("Secret '{}' must hold one private key, as JWK or in PEM", reference.name),
                );
            }
            Some(Err(error)) => {
                return self.notes.fail(path, Cause::InvalidRef, format!("Secret '{}': {error}", reference.name));
            }
            Some(Ok(_)) => {}
        }
        let chain = if wants_chain { self.chain(path, reference)? } else { Vec::new() };
        Some(SigningKeyRef { key, chain })
    }

    /// The certificates of `tls.crt` in base64 of DER: they are public, so they are part of the plan.
    fn chain(&mut self, path: &str, reference: &wire::KeyReference) -> Option<Vec<String>> {
        let text = self
            .world
            .secrets
            .get(&reference.name)
            .and_then(|secret| secret.get("tls.crt"))
            .and_then(|value| std::str::from_utf8(value.reveal()).ok());
        let blocks = text.into_iter().flat_map(|text| text.split("-----BEGIN CERTIFICATE-----").skip(1));
        let chain: Vec<String> = blocks
            .filter_map(|block| Some(block.split("-----END").next()?.split_whitespace().collect::<String>()))
            .filter(|block| !block.is_empty())
            .collect();
        if chain.is_empty() {
            return self.notes.fail(
                path,
                Cause::InvalidRef,
                format!("Secret '{}' must hold the certificate in PEM under `tls.crt`", reference.name),
            );
        }
        Some(chain)
    }

    fn encrypt(&mut self, path: &str, step: &wire::JoseEncrypt) -> Option<Encrypt> {
        let wire::JoseEncrypt { jwk, key_ref, algorithm, encryption, cty, serialization } = step;
        let (key, jwk, path) = match (jwk, key_ref) {
            (Some(text), None) => {
                (EncryptionKeyRef::Public(text.clone()), Jwk::parse(text.as_bytes()).ok(), format!("{path}.jwk"))
            }
            (None, Some(reference)) => {
                let path = format!("{path}.keyRef");
                let (handle, text) = self.secret(&path, reference, "key")?;
                (EncryptionKeyRef::Secret(handle), private_key(&text), path)
            }
            _ => return self.notes.fail(path, Cause::Invalid, "encrypt must have exactly one of `jwk` and `keyRef`"),
        };
        let Some(jwk) = jwk else {
            return self.notes.fail(path, Cause::InvalidRef, "there must be a JWK, or one private key in PEM");
        };
        if matches!(key, EncryptionKeyRef::Public(_)) && jwk.is_secret() {
            return self.notes.fail(
                path,
                Cause::Invalid,
                "`jwk` must be a public key: a secret one belongs into a Secret, and this one is known now",
            );
        }
        if let Err(error) = EncryptionKey::from_jwk(&jwk, *algorithm) {
            return self.notes.fail(path, Cause::InvalidRef, error.to_string());
        }
        let json = *serialization == Some(wire::Serialization::Json);
        Some(Encrypt { key, algorithm: *algorithm, encryption: *encryption, cty: cty.clone(), json })
    }
}
