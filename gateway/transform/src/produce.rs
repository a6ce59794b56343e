//! Makes signed and encrypted objects.

use std::collections::HashMap;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use idm_expr::{EvaluationError, Expression};
use idm_jose::{EncryptionKey, Jwk, SigningKey, system_entropy, to_base64url};
use idm_plan::{
    CertificateHeaders, Destination, Encrypt, EncryptionKeyRef, KeyChoice, MadeClaims, Produce, Secrets, Sign,
    SignedForm, SigningKeyRef,
};
use idm_request::Facts;
use idm_types::{Reason, Refusal};
use serde_json::{Map, Value};

use crate::content::ArmedPlace;
use crate::{Content, keys, refusal};

pub(crate) struct ArmedProduce {
    from: Option<ArmedPlace>,
    sign: Option<ArmedSign>,
    encrypt: Option<(Encrypt, EncryptionKey)>,
    to: Destination,
}

struct ArmedSign {
    plan: Sign,
    key: ArmedChoice,
    claims: Option<ArmedClaims>,
}

enum ArmedChoice {
    One(Box<ArmedKey>),
    By(Box<Expression>, HashMap<String, ArmedKey>),
}

/// A key with the header that always goes with it.
struct ArmedKey {
    key: SigningKey,
    header: Map<String, Value>,
}

struct ArmedClaims {
    plan: MadeClaims,
    subject: Option<Expression>,
    custom: Vec<(String, Expression)>,
}

impl ArmedProduce {
    pub(crate) fn arm(step: &Produce, secrets: &Secrets) -> Result<Self, String> {
        let Produce { message: _, from, sign, encrypt, to } = step;
        let encrypt = match encrypt {
            None => None,
            Some(plan) => {
                let jwk = match &plan.key {
                    EncryptionKeyRef::Public(text) => Jwk::parse(text.as_bytes()).map_err(|error| error.to_string())?,
                    EncryptionKeyRef::Secret(handle) => keys::private(secrets, handle)?,
                };
                Some((plan.clone(), EncryptionKey::from_jwk(&jwk, plan.algorithm).map_err(|error| error.to_string())?))
            }
        };
        let sign = sign.as_ref().map(|plan| ArmedSign::arm(plan, secrets)).transpose()?;
        Ok(Self { from: from.as_ref().map(ArmedPlace::arm).transpose()?, sign, encrypt, to: to.clone() })
    }

    pub(crate) fn run(&self, step: &str, content: &mut Content<'_>, facts: &Facts<'_>) -> Result<(), Refusal> {
        let failed = |why: &str| refusal(step, Reason::ObjectNotMade, why);
        let mut bytes = match &self.from {
            Some(place) => {
                let read = place.read(content, facts).map_err(|error| not_made(step, &error))?;
                read.ok_or_else(|| failed("there is nothing to sign or encrypt"))?
            }
            None => Bytes::new(),
        };
        let mut is_jwt = false;
        if let Some(sign) = &self.sign {
            bytes = sign.run(step, &bytes, facts)?.into();
            is_jwt = sign.claims.is_some();
        }
        if let Some((plan, key)) = &self.encrypt {
            let cty = plan.cty.as_deref().or(is_jwt.then_some("JWT"));
            let header = cty.map(|cty| ("cty".to_owned(), Value::from(cty))).into_iter().collect();
            let sealed = key
                .encrypt(plan.encryption, header, &bytes, &mut system_entropy)
                .map_err(|_| failed("it cannot be encrypted"))?;
            bytes = if plan.json { sealed.flattened().to_string() } else { sealed.compact() }.into();
        }
        if content.put(&self.to, &bytes) { Ok(()) } else { Err(failed("the object is too large for a header")) }
    }
}

impl ArmedSign {
    fn arm(plan: &Sign, secrets: &Secrets) -> Result<Self, String> {
        let arm = |reference: &SigningKeyRef| ArmedKey::arm(reference, plan, secrets);
        let key = match &plan.key {
            KeyChoice::One(reference) => ArmedChoice::One(Box::new(arm(reference)?)),
            KeyChoice::By { value, keys } => {
                let keys = keys
                    .iter()
                    .map(|(value, reference)| Ok((value.clone(), arm(reference)?)))
                    .collect::<Result<_, String>>()?;
                ArmedChoice::By(Box::new(Expression::arm(value)?), keys)
            }
        };
        let claims = plan.claims.as_ref().map(|claims| {
            let custom = claims
                .custom
                .iter()
                .map(|(name, expr)| Ok((name.clone(), Expression::arm(expr)?)))
                .collect::<Result<_, String>>()?;
            Ok::<_, String>(ArmedClaims {
                subject: claims.subject.as_ref().map(Expression::arm).transpose()?,
                custom,
                plan: claims.clone(),
            })
        });
        Ok(Self { plan: plan.clone(), key, claims: claims.transpose()? })
    }

    fn run(&self, step: &str, payload: &[u8], facts: &Facts<'_>) -> Result<String, Refusal> {
        let failed = |why: &str| refusal(step, Reason::ObjectNotMade, why);
        let ArmedKey { key, header } = match &self.key {
            ArmedChoice::One(key) => &**key,
            ArmedChoice::By(value, keys) => {
                let value = EvaluationError::absent(value.value(facts)).map_err(|error| not_made(step, &error))?;
                let value = value.and_then(|value| value.as_str().map(str::to_owned));
                value.and_then(|value| keys.get(&value)).ok_or_else(|| failed("no key is meant for this value"))?
            }
        };
        let payload = match &self.claims {
            Some(claims) => claims.run(step, payload, facts)?,
            None => payload.to_vec(),
        };
        let signed = key.sign_payload(header, &payload).map_err(|_| failed("it cannot be signed"))?;
        Ok(match self.plan.form {
            SignedForm::Compact => signed.compact(),
            SignedForm::Detached => signed.detached(),
            SignedForm::Json => signed.flattened().to_string(),
        })
    }
}

/// An expression without a value gives no object.
fn not_made(step: &str, error: &EvaluationError) -> Refusal {
    refusal(step, error.reason(Reason::ObjectNotMade), error)
}

impl ArmedKey {
    fn arm(reference: &SigningKeyRef, plan: &Sign, secrets: &Secrets) -> Result<Self, String> {
        let key = SigningKey::from_jwk(&keys::private(secrets, &reference.key)?, plan.algorithm)
            .map_err(|error| error.to_string())?;
        let mut header = key.header();
        for (name, value) in
            [("typ", plan.typ.as_deref().or(plan.claims.is_some().then_some("JWT"))), ("cty", plan.cty.as_deref())]
        {
            if let Some(value) = value {
                header.insert(name.into(), value.into());
            }
        }
        let CertificateHeaders { x5t, x5t_s256, x5c } = plan.certificate;
        let own = reference.chain.first().and_then(|text| STANDARD.decode(text).ok());
        let thumbprint = |algorithm| own.as_ref().map(|der| to_base64url(digest::digest(algorithm, der).as_ref()));
        for (wanted, name, value) in [
            (x5t, "x5t", thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY).map(Value::from)),
            (x5t_s256, "x5t#S256", thumbprint(&digest::SHA256).map(Value::from)),
            (x5c, "x5c", Some(Value::from(reference.chain.clone())).filter(|_| own.is_some())),
        ] {
            if wanted {
                header.insert(name.into(), value.ok_or("the key has no certificate")?);
            }
        }
        Ok(Self { key, header })
    }
}

impl ArmedClaims {
    /// The payload's members, overwritten by the claims: a value that a caller sent cannot replace the gateway's.
    fn run(&self, step: &str, payload: &[u8], facts: &Facts<'_>) -> Result<Vec<u8>, Refusal> {
        let failed = |why: &str| refusal(step, Reason::ObjectNotMade, why);
        let mut claims = match payload {
            [] => Map::new(),
            some => match idm_jose::parse_strict(some) {
                Ok(Value::Object(members)) => members,
                _ => return Err(failed("claims can only be added to a JSON object")),
            },
        };
        let MadeClaims { issuer, audiences, expires_after, expires_from_now, issued_at_offset, id, .. } = &self.plan;
        let now = facts.now.ok_or_else(|| failed("there is no time"))?.seconds();
        let issued = now.saturating_add_signed(*issued_at_offset);
        claims.insert("iat".into(), issued.into());
        if let Some(after) = expires_after {
            let from = if *expires_from_now { now } else { issued };
            claims.insert("exp".into(), from.saturating_add(*after).into());
        }
        if let Some(issuer) = issuer {
            claims.insert("iss".into(), issuer.as_str().into());
        }
        match audiences.as_slice() {
            [] => {}
            [one] => drop(claims.insert("aud".into(), one.as_str().into())),
            several => drop(claims.insert("aud".into(), several.into())),
        }
        if *id {
            let mut random = [0; 16];
            system_entropy(&mut random).map_err(|_| failed("there are no random bits"))?;
            claims.insert("jti".into(), to_base64url(&random).into());
        }
        if let Some(subject) = &self.subject {
            claims.insert("sub".into(), subject.value(facts).map_err(|error| not_made(step, &error))?);
        }
        for (name, expression) in &self.custom {
            match expression.value(facts) {
                Ok(value) => drop(claims.insert(name.clone(), value)),
                Err(EvaluationError::Missing(_)) => {}
                Err(error) => return Err(not_made(step, &error)),
            }
        }
        Ok(Value::Object(claims).to_string().into_bytes())
    }
}
