//! Opens objects that a caller sent: decrypts, verifies, and passes the plain payload on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use idm_jose::{
    Decrypted, DecryptionKeys, Expectations, Jwe, JweError, JweExpectations, Jws, JwsForm, KeySet, Unverified,
    jwk_of_spki, parse_strict,
};
use idm_limit::{Priority, WorkerPool};
use idm_plan::{Consume, Decrypt, Destination, ExpectedClaims, Verify};
use idm_request::Facts;
use idm_trust::{Signers, Trust, thumbprint};
use idm_types::{Reason, Refusal, Timestamp};
use serde_json::{Map, Value, json};

use crate::content::ArmedPlace;
use crate::keys::Verifiers;
use crate::{Content, Workers, keys, refusal};

/// The largest object that is read.
const MAX_BYTES: usize = 1 << 20;
/// The longest `x5c` chain that is accepted.
const MAX_CHAIN: usize = 8;

struct ArmedDecrypt {
    plan: Decrypt,
    keys: DecryptionKeys,
    /// The threads that derive keys from passwords; `None` if no algorithm of the step does so.
    workers: Option<Arc<WorkerPool>>,
}

impl ArmedDecrypt {
    fn open(&self, jwe: &Jwe) -> Result<Decrypted, JweError> {
        let expected = JweExpectations {
            key_management: &self.plan.algorithms,
            content_encryption: &self.plan.encryptions,
            compressed: false,
        };
        jwe.decrypt(&self.keys, &expected)
    }
}

pub(crate) struct ArmedConsume {
    from: ArmedPlace,
    json: bool,
    decrypt: Option<Arc<ArmedDecrypt>>,
    verify: Option<(Verify, Verifiers)>,
    to: Destination,
}

impl ArmedConsume {
    pub(crate) fn arm(step: &Consume, trust: &mut Trust<'_>, workers: Workers<'_>) -> Result<Self, String> {
        let Consume { from, json, decrypt, verify, to } = step;
        let decrypt = match decrypt {
            None => None,
            Some(plan) => {
                let text = trust.secrets.text(&plan.keys)?;
                let keys =
                    DecryptionKeys::parse(text.as_bytes(), &plan.algorithms).map_err(|error| error.to_string())?;
                let derives = plan.algorithms.iter().any(|algorithm| algorithm.name().starts_with("PBES2-"));
                let no_threads = "the system gives no threads for keys that are made of passwords";
                let workers = derives.then(|| workers().ok_or(no_threads)).transpose()?;
                Some(Arc::new(ArmedDecrypt { plan: plan.clone(), keys, workers }))
            }
        };
        let verify = match verify {
            None => None,
            Some(plan) => Some((plan.clone(), keys::verification(&plan.keys, &plan.algorithms, trust)?)),
        };
        Ok(Self { from: ArmedPlace::arm(from)?, json: *json, decrypt, verify, to: to.clone() })
    }

    /// Opens the object and returns its facts for the variable `jose`.
    pub(crate) async fn run(&self, step: &str, content: &mut Content<'_>, facts: &Facts<'_>) -> Result<Value, Refusal> {
        let missing = |what| refusal(step, Reason::MissingObject, what);
        let bytes = self
            .from
            .read(content, facts)
            .map_err(|error| refusal(step, error.reason(Reason::MissingObject), error))?
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| missing("there is nothing where the object should be"))?;
        let mut payload = bytes.to_vec();
        let mut found = Map::new();
        if let Some(decrypt) = &self.decrypt {
            payload = self.decrypted(step, &payload, decrypt, facts, &mut found).await?;
        }
        if let Some((plan, keys)) = &self.verify {
            payload = self.verified(step, payload, plan, keys, content, facts, &mut found).await?;
        }
        if let Ok(claims) = parse_strict(&payload) {
            found.insert("claims".into(), claims);
        }
        let to_body = matches!(self.to, Destination::Body { .. });
        if !content.put(&self.to, &payload) {
            return Err(refusal(step, Reason::MissingObject, "the payload cannot travel where it should go"));
        }
        // The object itself is not forwarded.
        if let (ArmedPlace::Header(name), true) =
            (&self.from, !matches!(&self.to, Destination::Header(to) if self.is_from(to)))
        {
            content.headers.remove(name.as_str());
        }
        if let Some(name) = self.verify.as_ref().and_then(|(plan, _)| plan.detached.as_ref()).filter(|_| to_body) {
            content.headers.remove(name.as_str());
        }
        Ok(Value::Object(found))
    }

    fn is_from(&self, header: &str) -> bool {
        matches!(&self.from, ArmedPlace::Header(name) if name == header)
    }

    fn text<'b>(step: &str, bytes: &'b [u8]) -> Result<&'b str, Refusal> {
        std::str::from_utf8(bytes)
            .map(str::trim)
            .map_err(|_| refusal(step, Reason::MalformedToken, "the object is not text"))
    }

    async fn decrypted(
        &self,
        step: &str,
        bytes: &[u8],
        decrypt: &Arc<ArmedDecrypt>,
        facts: &Facts<'_>,
        found: &mut Map<String, Value>,
    ) -> Result<Vec<u8>, Refusal> {
        let text = Self::text(step, bytes)?;
        let refused = |error: JweError| refusal(step, error.reason(), &error);
        let jwe = if self.json { Jwe::parse_json(text) } else { Jwe::parse(text) }.map_err(refused)?;
        let opened = match decrypt.workers.as_ref().filter(|_| jwe.is_slow()) {
            None => decrypt.open(&jwe),
            Some(workers) => {
                let address = facts.request().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |request| request.address);
                let decrypt = decrypt.clone();
                let busy = || refusal(step, Reason::DecryptionsBusy, "too many are waiting");
                workers.run(address, Priority::InLine, move || decrypt.open(&jwe)).await.ok_or_else(busy)?
            }
        };
        let opened = opened.map_err(refused)?;
        found.insert(
            "encryption".into(),
            json!({"alg": opened.algorithm.name(), "enc": opened.content_encryption.name(), "kid": opened.kid}),
        );
        Ok(opened.payload)
    }

    #[allow(clippy::too_many_arguments)] // each is a different thing, and there is one caller
    async fn verified(
        &self,
        step: &str,
        bytes: Vec<u8>,
        plan: &Verify,
        keys: &Verifiers,
        content: &Content<'_>,
        facts: &Facts<'_>,
        found: &mut Map<String, Value>,
    ) -> Result<Vec<u8>, Refusal> {
        let signature = match &plan.detached {
            None => None,
            Some(name) => Some(
                content
                    .headers
                    .get(name)
                    .cloned()
                    .ok_or_else(|| refusal(step, Reason::MissingObject, "there is no detached signature"))?,
            ),
        };
        let now = facts.now.unwrap_or(Timestamp(0));
        let attempt =
            || self.try_verify(step, &bytes, signature.as_ref().map(http::HeaderValue::as_bytes), plan, keys, now);
        // Noted before the first attempt: keys that arrive after this moment justify a second one.
        let judged = if let Verifiers::Keys(keys) = keys { keys.epoch() } else { 0 };
        let mut outcome = attempt();
        if let (Verifiers::Keys(keys), Err(Refusal { reason: Reason::UnknownKey | Reason::KeysUnavailable, .. })) =
            (keys, &outcome)
        {
            if keys.refetch(judged).await {
                outcome = attempt();
            }
        }
        let (payload, signed_by) = outcome?;
        found.insert("signature".into(), signed_by);
        Ok(payload)
    }

    fn try_verify(
        &self,
        step: &str,
        bytes: &[u8],
        detached: Option<&[u8]>,
        plan: &Verify,
        keys: &Verifiers,
        now: Timestamp,
    ) -> Result<(Vec<u8>, Value), Refusal> {
        let refused = |error: idm_jose::TokenError| refusal(step, error.reason(), &error);
        let set_for = |jws: &Jws<'_>| match keys {
            Verifiers::Keys(keys) => keys.load().ok_or_else(|| refusal(step, Reason::KeysUnavailable, "no keys yet")),
            Verifiers::Certificates(signers) => {
                of_certificate(signers, jws, plan, now).map_err(|refused| refusal(step, refused.reason, refused.detail))
            }
        };
        let object = match detached {
            Some(signature) => Self::text(step, signature)?,
            None => Self::text(step, bytes)?,
        };
        if let Some(ExpectedClaims { issuer, audiences, types, skew }) = &plan.claims {
            let expected =
                Expectations { issuer, audiences, client_ids: &[], algorithms: &plan.algorithms, types, skew: *skew };
            let token = Unverified::parse(object).map_err(refused)?;
            let set = set_for(token.jws())?;
            let verified = token.verify(&set, &expected, now).map_err(refused)?;
            let by = json!({"alg": verified.algorithm().name(), "kid": verified.kid()});
            let payload = Value::Object(verified.into_claims().members().clone()).to_string();
            return Ok((payload.into_bytes(), by));
        }
        let form = JwsForm { detached: detached.map(|_| bytes), max_bytes: MAX_BYTES };
        let all = if self.json {
            Jws::parse_json(object, form)
        } else {
            Jws::parse_compact(object, form).map(|one| vec![one])
        };
        let mut last = refusal(step, Reason::MalformedToken, "there is no signature");
        for jws in all.map_err(refused)? {
            let set = match set_for(&jws) {
                Ok(set) => set,
                Err(problem) => {
                    last = problem;
                    continue;
                }
            };
            match jws.verify(&set, &plan.algorithms) {
                Ok(verified) => {
                    return Ok((verified.payload, json!({"alg": verified.algorithm.name(), "kid": verified.kid})));
                }
                Err(error) => last = refused(error),
            }
        }
        Err(last)
    }
}

/// The key of the certificate in an object (RFC 7515 §4.1.6): trusted only because of its chain and its names.
fn of_certificate(signers: &Signers, jws: &Jws<'_>, plan: &Verify, now: Timestamp) -> Result<Arc<KeySet>, Refusal> {
    let chain = jws
        .x5c()
        .filter(|chain| !chain.is_empty() && chain.len() <= MAX_CHAIN)
        .ok_or_else(|| Refusal::new(Reason::UntrustedCertificate, "the object has no usable `x5c`"))?;
    let chain = chain.iter().map(|text| STANDARD.decode(text)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| Refusal::new(Reason::UntrustedCertificate, "`x5c` is not base64"))?;
    let own = chain.first().map(|der| thumbprint(&der.as_slice().into()));
    if jws.x5t().is_some_and(|x5t| own.as_deref() != Some(x5t)) {
        return Err(Refusal::new(Reason::UntrustedCertificate, "`x5t#S256` speaks of another certificate"));
    }
    let key = signers.key(chain, now)?;
    let unfit = |why: String| Refusal::new(Reason::AlgorithmNotAllowed, why);
    let jwk = jwk_of_spki(&key).map_err(|error| unfit(error.to_string()))?;
    // Whatever key id the signer wrote, the key is that of the certificate.
    let jwk = jws.kid().map_or_else(|| jwk.clone(), |kid| jwk.clone().named(kid));
    KeySet::of_key(&jwk, &plan.algorithms).map(Arc::new).map_err(|error| unfit(error.to_string()))
}
