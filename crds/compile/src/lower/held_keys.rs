//! API keys: those of a Secret, the one before it, and the ends of both.

use idm_api::v1alpha1::{ApiKeyCredential, CredentialSpec, KeyReference, SuppliedKeys};
use idm_plan::{EndCause, EndedKey, Key, KeyEnd, Keys, ObjectKey, RetiringKey, key_id};
use idm_types::Timestamp;

use super::password::NO_SECRET;
use super::{Notes, secret};
use crate::key_secrets::key_in;
use crate::{Cause, Condition, Object, World};

/// The least number of random bits of a key that nobody can find by guessing.
const MIN_ENTROPY_BITS: i64 = 128;

/// A key that a Secret holds.
struct Held {
    sha256: String,
    /// The end that the Secret itself gives it.
    until: Option<Timestamp>,
}

/// The keys of a Credential, and those of them that are refused for good.
pub(crate) fn lower_keys(
    world: &World,
    object: &Object<CredentialSpec>,
    api_key: &ApiKeyCredential,
    notes: &mut Notes<'_>,
) -> Option<(Keys, Vec<EndedKey>)> {
    let CredentialSpec { secret_ref, rotation, .. } = &object.spec;
    if rotation.is_some() && api_key.sha256.is_some() {
        let message = "keys that others made are replaced where they are made: leave `rotation` out";
        return notes.fail("spec.rotation", Cause::Invalid, message);
    }
    super::rotation::check(object, notes)?;
    let Some(reference) = secret_ref else {
        return notes.fail("spec.secretRef", Cause::Invalid, NO_SECRET);
    };
    let held = match &api_key.sha256 {
        None => held_key(world, reference, notes)?,
        Some(supplied) => held_hashes(world, reference, supplied, notes)?,
    };
    let (keys, ended) = settle(world, object, &held);
    if keys.current.is_none() && keys.retiring.is_none() {
        let message = "every key of it is revoked: `idm credential rotate` makes a new one";
        let object = notes.object.clone();
        notes.report.push(&object, "spec.secretRef", Condition::ResolvedRefs, Cause::KeysEnded, message);
    }
    Some((keys, ended))
}

/// The hashes of the keys that the Secret of a Credential holds; none where it cannot be read.
pub fn held(world: &World, object: &Object<CredentialSpec>) -> Vec<String> {
    let mut report = crate::Report::default();
    let mut notes = Notes::new(&mut report, crate::ObjectId::new("Credential", &world.namespace, &object.meta.name));
    let CredentialSpec { api_key: Some(api_key), secret_ref: Some(reference), .. } = &object.spec else {
        return vec![];
    };
    let held = match &api_key.sha256 {
        None => held_key(world, reference, &mut notes),
        Some(supplied) => held_hashes(world, reference, supplied, &mut notes),
    };
    held.into_iter().flatten().map(|held| held.sha256).collect()
}

/// Tells which keys work, now or until their end. Without a clock: a key whose end has passed is told apart by the
/// gateway, on each request.
fn settle(world: &World, object: &Object<CredentialSpec>, held: &[Held]) -> (Keys, Vec<EndedKey>) {
    let register = &world.register;
    let revoked = object.spec.revoked_keys.as_deref().unwrap_or_default();
    let end_of = |sha256: &str, until: Option<Timestamp>| {
        let of_spec = revoked.iter().any(|id| id == key_id(sha256));
        let of_spec = of_spec.then_some(KeyEnd { at: Timestamp(0), cause: EndCause::Revoked });
        let of_secret = until.map(|at| KeyEnd { at, cause: EndCause::RotatedOut });
        let ends = [register.end_of(sha256), of_spec, of_secret].into_iter().flatten();
        ends.reduce(|a, b| KeyEnd { at: a.at.min(b.at), cause: a.cause.min(b.cause) })
    };
    let before = register.record(&object.meta.name).and_then(|record| record.retiring.as_ref());
    let before = before.filter(|_| object.spec.api_key.as_ref().is_some_and(|api_key| api_key.sha256.is_none()));
    let before = before.map(|known| (known.sha256.as_str(), None));
    let all = held.iter().map(|held| (held.sha256.as_str(), held.until)).chain(before);
    let mut keys = Keys::default();
    let mut ended: Vec<EndedKey> = Vec::new();
    let mut end = |sha256: &str, end: KeyEnd| {
        let credential = ObjectKey::new(&world.namespace, &object.meta.name);
        ended.push(EndedKey { sha256: sha256.to_owned(), credential, end });
    };
    for (sha256, until) in all {
        if keys.all().any(|(known, _)| known == sha256) {
            continue;
        }
        match end_of(sha256, until) {
            None if keys.current.is_none() => keys.current = Some(Key { sha256: sha256.to_owned() }),
            // Only `held` says which is newer, and it holds one without an end at most.
            None => {}
            Some(over) if over.cause == EndCause::Revoked => end(sha256, over),
            Some(over) => {
                // Two are the most: the one that ends later stays.
                let new = RetiringKey { sha256: sha256.to_owned(), end: over };
                let (stays, goes) = match keys.retiring.take() {
                    Some(other) if other.end.at >= new.end.at => (other, Some(new)),
                    other => (new, other),
                };
                if let Some(goes) = goes {
                    end(&goes.sha256, KeyEnd { at: Timestamp(0), ..goes.end });
                }
                keys.retiring = Some(stays);
            }
        }
    }
    (keys, ended)
}

fn held_key(world: &World, reference: &KeyReference, notes: &mut Notes<'_>) -> Option<Vec<Held>> {
    let field = reference.key.as_deref().unwrap_or("key");
    let key = match key_in(world, &reference.name, field) {
        Ok(key) => key,
        Err((cause, why)) => return notes.fail("spec.secretRef", cause, why),
    };
    // The value itself must not get into the message.
    let Some(key) = key else {
        let message = format!(
            "Secret '{}', key '{field}', must hold an API key made by `idm credential new` (idm_ and a checksum); for \
             keys of another form give their hashes with `apiKey.sha256`",
            reference.name
        );
        return notes.fail("spec.secretRef", Cause::InvalidRef, message);
    };
    Some(vec![Held { sha256: key.sha256(), until: None }])
}

fn held_hashes(
    world: &World,
    reference: &KeyReference,
    supplied: &SuppliedKeys,
    notes: &mut Notes<'_>,
) -> Option<Vec<Held>> {
    let SuppliedKeys { entropy_bits, danger_guessable } = supplied;
    if *danger_guessable == Some(true) {
        let message = "keys with fewer than 128 random bits can be guessed, and found from their hashes";
        let object = notes.object.clone();
        let path = "spec.apiKey.sha256.dangerGuessable";
        notes.report.push(&object, path, Condition::ResolvedRefs, Cause::DangerousOption, message);
    } else if entropy_bits.is_none_or(|bits| bits < MIN_ENTROPY_BITS) {
        let message = "`entropyBits` must be at least 128, or `dangerGuessable` must be true: keys with fewer random \
            bits can be found from their hashes";
        return notes.fail("spec.apiKey.sha256", Cause::Invalid, message);
    }
    let field = reference.key.as_deref().unwrap_or("sha256");
    let value = match secret::value(world, &reference.name, field) {
        Ok(value) => value,
        Err((cause, why)) => return notes.fail("spec.secretRef", cause, why),
    };
    match read_hashes(value.reveal()) {
        Ok(held) => Some(held),
        Err(why) => {
            let message = format!("Secret '{}', key '{field}', {why}", reference.name);
            notes.fail("spec.secretRef", Cause::InvalidRef, message)
        }
    }
}

/// One hash, and one more with its end. The text must not get into the message: somebody may have put a key there.
fn read_hashes(text: &[u8]) -> Result<Vec<Held>, &'static str> {
    const FORM: &str = "must hold the SHA-256 of a key in 64 hexadecimal digits, and may hold a second line `HASH \
                        until 2027-01-01T00:00:00Z` for the key before it";
    let text = std::str::from_utf8(text).map_err(|_| FORM)?;
    let mut held = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_ascii_whitespace();
        let hash = words.next().filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        let until = match (words.next(), words.next(), words.next()) {
            (None, None, None) => None,
            (Some("until"), Some(time), None) => Some(Timestamp::parse_rfc3339(time).ok_or(FORM)?),
            _ => return Err(FORM),
        };
        held.push(Held { sha256: hash.ok_or(FORM)?.to_ascii_lowercase(), until });
    }
    let without_end = held.iter().filter(|held| held.until.is_none()).count();
    if held.is_empty() || held.len() > 2 || without_end > 1 {
        return Err(FORM);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_in_their_form_and_in_no_other() {
        let (a, b) = ("ab".repeat(32), "CD".repeat(32));
        let read = |text: String| {
            let held = read_hashes(text.as_bytes()).ok()?;
            Some(held.into_iter().map(|held| (held.sha256, held.until.map(|t| t.0))).collect::<Vec<_>>())
        };
        assert_eq!(read(format!("{a}\n")), Some(vec![(a.clone(), None)]));
        let both = read(format!("{a}\n\n  {b} until 1970-01-01T00:00:01Z\n"));
        assert_eq!(both, Some(vec![(a.clone(), None), (b.to_lowercase(), Some(1000))]));
        for wrong in [
            String::new(),
            "hunter2".into(),
            a[1..].to_owned(),
            format!("{a}0"),
            format!("{a}\n{b}"),
            format!("{a} until"),
            format!("{a} until tomorrow"),
            format!("{a} after 1970-01-01T00:00:01Z"),
            format!("{a}\n{b} until 1970-01-01T00:00:01Z\n{b} until 1970-01-01T00:00:01Z"),
        ] {
            assert!(read(wrong.clone()).is_none(), "{wrong}");
        }
    }
}
