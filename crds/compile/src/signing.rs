//! The signing keys of token services: their format in a Secret, and the time when a new one is due.

use idm_api::v1alpha1::{IdentityPolicySpec, SigningSettings};
use idm_jose::{Jwk, SigningKey, parse_strict};
use idm_types::{Algorithm, Timestamp};
use serde_json::{Value, json};

use crate::Object;

/// The Secret with the keys that the operator makes: one for each namespace, with a key for each policy.
pub const SIGNING_SECRET: &str = "idm-signing-keys";
/// The key of a Secret that a policy names.
const FIELD: &str = "keys.json";
/// The longest lifetime of an access token: a key that no longer signs stays published for this time.
pub(crate) const MAX_LIFETIME_SECONDS: u64 = 86_400;
/// The tolerance for clocks that differ.
const SLACK_SECONDS: u64 = 300;
const MAX_KEYS: usize = 16;

/// A private key with its times (the `iat`, `nbf` and `exp` of OpenID Federation §8.7.2, in seconds).
#[derive(Clone, Debug)]
pub(crate) struct TimedKey {
    pub(crate) jwk: Jwk,
    pub(crate) algorithm: Algorithm,
    pub(crate) made: u64,
    pub(crate) signs_from: u64,
    pub(crate) published_until: Option<u64>,
}

/// The place of a policy's signing keys: the Secret and its key. `None` without a token service.
pub fn signing_secret(policy: &Object<IdentityPolicySpec>) -> Option<(String, String)> {
    Some(match settings(policy)?.secret_ref {
        Some(reference) => (reference.name, reference.key.unwrap_or_else(|| FIELD.into())),
        None => (SIGNING_SECRET.into(), format!("{}.json", policy.meta.name)),
    })
}

fn settings(policy: &Object<IdentityPolicySpec>) -> Option<SigningSettings> {
    policy.spec.token_service.as_ref().map(|service| service.signing.clone().unwrap_or_default())
}

/// Reads the Secret's text. The error must not show the text.
pub(crate) fn read(text: &[u8]) -> Result<Vec<TimedKey>, String> {
    let set = parse_strict(text).map_err(|_| "must be a JWK set in JSON")?;
    let keys = set["keys"].as_array().ok_or("must be a JWK set: an object with a `keys` list")?;
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(format!("must hold between 1 and {MAX_KEYS} keys"));
    }
    let mut read: Vec<TimedKey> = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let jwk = Jwk::parse(key.to_string().as_bytes()).map_err(|error| format!("has a broken key {i}: {error}"))?;
        let algorithm = jwk.text("alg").and_then(Algorithm::from_name).filter(|algorithm| !algorithm.is_symmetric());
        let algorithm = algorithm.ok_or_else(|| format!("must name an asymmetric `alg` in key {i}"))?;
        let kid =
            jwk.kid().map(str::to_owned).or_else(|| jwk.thumbprint()).ok_or_else(|| format!("has a broken key {i}"))?;
        let jwk = jwk.named(&kid);
        SigningKey::from_jwk(&jwk, algorithm).map_err(|error| format!("has a key {i} that cannot sign: {error}"))?;
        if read.iter().any(|other| other.jwk.kid() == Some(&kid)) {
            return Err(format!("must use the kid `{kid}` once"));
        }
        let time = |name: &str| {
            key.get(name)
                .map(|value| value.as_u64().ok_or_else(|| format!("must have `{name}` of key {i} as a number")))
                .transpose()
        };
        let made = time("iat")?.unwrap_or(0);
        read.push(TimedKey {
            made,
            signs_from: time("nbf")?.unwrap_or(made),
            published_until: time("exp")?,
            jwk,
            algorithm,
        });
    }
    read.sort_by_key(|key| (key.signs_from, key.made));
    Ok(read)
}

fn write(keys: &[TimedKey]) -> String {
    let keys: Vec<Value> = keys
        .iter()
        .map(|key| {
            let mut value = key.jwk.reveal();
            value["iat"] = key.made.into();
            value["nbf"] = key.signs_from.into();
            if let Some(until) = key.published_until {
                value["exp"] = until.into();
            }
            value
        })
        .collect();
    json!({"keys": keys}).to_string()
}

/// One new key that signs from `now` on, as the text of a Secret. `None` for symmetric algorithms, and where the
/// system gives no random bits.
pub fn new_signing_keys(algorithm: Algorithm, now: Timestamp) -> Option<String> {
    (!algorithm.is_symmetric()).then(|| new_key(algorithm, now.seconds(), 0).map(|key| write(&[key])))?
}

fn new_key(algorithm: Algorithm, now: u64, ahead: u64) -> Option<TimedKey> {
    let made = SigningKey::generate(algorithm, "new").ok()?;
    let jwk = Jwk::parse(made.reveal_jwk().as_bytes()).ok()?;
    let kid = jwk.thumbprint()?;
    Some(TimedKey { jwk: jwk.named(&kid), algorithm, made: now, signs_from: now + ahead, published_until: None })
}

/// The content that the Secret of a policy's signing keys should have from `now` on; `None` when it is up to date.
///
/// A new key is published before it signs, and an old one stays published until all its tokens have expired. A key is
/// due when there is none, when the newest is too old or of another algorithm, and when the policy's annotation has a
/// time after the newest was made. A text that cannot be read is left unchanged: it may be a user's only copy.
pub fn rotated(policy: &Object<IdentityPolicySpec>, current: Option<&[u8]>, now: Timestamp) -> Option<String> {
    let SigningSettings { algorithm, secret_ref: _, rotate_every_days, publish_ahead_seconds } = settings(policy)?;
    let algorithm = algorithm.unwrap_or(Algorithm::ES256);
    let now = now.seconds();
    let mut keys = match current {
        None => Vec::new(),
        Some(text) => read(text).ok()?,
    };
    let newest = keys.iter().max_by_key(|key| key.made).map(|key| (key.made, key.algorithm));
    let asked = policy.meta.rotate.as_deref().and_then(Timestamp::parse_rfc3339).map(Timestamp::seconds);
    let age = u64::try_from(rotate_every_days.unwrap_or(30)).unwrap_or(30).max(1) * 86_400;
    let due = newest.is_none_or(|(made, of)| {
        of != algorithm || now >= made + age || asked.is_some_and(|asked| made < asked && asked <= now)
    });
    let before = keys.len();
    keys.retain(|key| key.published_until.is_none_or(|until| now < until));
    if due {
        let ahead =
            if newest.is_none() { 0 } else { u64::try_from(publish_ahead_seconds.unwrap_or(300)).unwrap_or(300) };
        let new = new_key(algorithm, now, ahead)?;
        for key in &mut keys {
            key.published_until = key.published_until.or(Some(now + ahead + MAX_LIFETIME_SECONDS + SLACK_SECONDS));
        }
        keys.push(new);
    }
    (due || keys.len() != before).then(|| write(&keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Meta;

    fn policy(signing: &str, rotate: Option<&str>) -> Object<IdentityPolicySpec> {
        let yaml = format!(
            "{{targetRefs: [], authentication: {{methods: []}}, tokenService: {{issuer: 'https://a', audiences: [a], \
             signing: {signing}}}}}"
        );
        let meta = Meta { name: "p".into(), rotate: rotate.map(str::to_owned), ..Meta::default() };
        Object { meta, spec: serde_yaml_ng::from_str(&yaml).unwrap() }
    }

    fn kids(text: &str) -> Vec<(u64, Option<u64>)> {
        read(text.as_bytes()).unwrap().iter().map(|key| (key.signs_from, key.published_until)).collect()
    }

    #[test]
    fn the_first_key_signs_at_once_and_the_next_is_published_first() {
        let day = 86_400;
        let usual = policy("{}", None);
        let first = rotated(&usual, None, Timestamp::from_seconds(1000)).unwrap();
        assert_eq!(kids(&first), [(1000, None)]);
        assert_eq!(rotated(&usual, Some(first.as_bytes()), Timestamp::from_seconds(1000 + 30 * day - 1)), None);
        let due = 1000 + 30 * day;
        let second = rotated(&usual, Some(first.as_bytes()), Timestamp::from_seconds(due)).unwrap();
        assert_eq!(kids(&second), [(1000, Some(due + 300 + day + 300)), (due + 300, None)]);
        let gone = rotated(&usual, Some(second.as_bytes()), Timestamp::from_seconds(due + 300 + day + 300)).unwrap();
        assert_eq!(kids(&gone), [(due + 300, None)]);
    }

    #[test]
    fn the_annotation_and_another_algorithm_make_a_new_key_once() {
        let first =
            rotated(&policy("{}", None), None, Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap()).unwrap();
        let asked = policy("{publishAheadSeconds: 0}", Some("2026-01-02T00:00:00Z"));
        assert_eq!(
            rotated(&asked, Some(first.as_bytes()), Timestamp::parse_rfc3339("2026-01-01T12:00:00Z").unwrap()),
            None,
            "not before its time"
        );
        let now = Timestamp::parse_rfc3339("2026-01-02T00:00:01Z").unwrap();
        let second = rotated(&asked, Some(first.as_bytes()), now).unwrap();
        assert_eq!(kids(&second)[1], (now.seconds(), None));
        assert_eq!(rotated(&asked, Some(second.as_bytes()), now), None);
        let rsa = rotated(&policy("{algorithm: RS256}", None), Some(second.as_bytes()), now).unwrap();
        assert_eq!(read(rsa.as_bytes()).unwrap().last().unwrap().algorithm, Algorithm::RS256);
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for broken in
            ["", "{}", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\", \"alg\": \"HS256\"}]}"]
        {
            assert_eq!(rotated(&policy("{}", None), Some(broken.as_bytes()), Timestamp(0)), None);
            assert!(read(broken.as_bytes()).is_err());
        }
    }
}
