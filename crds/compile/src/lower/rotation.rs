//! The replacement of keys: its settings, and what is due.

use idm_api::v1alpha1::{CredentialSpec, Lifetime, Rotation};
use idm_types::Timestamp;

use super::Notes;
use crate::{Cause, KeyRecord, Object, parse_span};

const DEFAULT_OVERLAP_MS: u64 = 24 * 3_600_000;
/// A key that is replaced more often cannot be distributed.
const MIN_EVERY_MS: u64 = 3_600_000;

/// A new key that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The request; `None` for the schedule.
    pub request: Option<String>,
    /// The time for which the old key works.
    pub overlap_ms: u64,
}

/// Checks the settings of a Credential.
pub(crate) fn check(object: &Object<CredentialSpec>, notes: &mut Notes<'_>) -> Option<()> {
    let Some(Rotation { every, overlap }) = &object.spec.rotation else { return Some(()) };
    let milliseconds = |path: &str, span: &Option<Lifetime>, notes: &mut Notes<'_>| match span {
        None => Some(None),
        Some(span) => match span.in_seconds().and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) if (1..=366 * 86_400).contains(&seconds) => Some(Some(seconds * 1000)),
            _ => {
                notes.fail(path, Cause::Invalid, "give exactly one of `seconds`, `minutes`, `hours`, of a year at most")
            }
        },
    };
    let every = milliseconds("spec.rotation.every", every, notes)?;
    let overlap = milliseconds("spec.rotation.overlap", overlap, notes)?.unwrap_or(DEFAULT_OVERLAP_MS);
    match every {
        Some(every) if every < MIN_EVERY_MS => {
            notes.fail("spec.rotation.every", Cause::Invalid, "a key must be replaced every hour at most")
        }
        Some(every) if overlap >= every => {
            let message = "the overlap (24 hours unless given) must be shorter than `every`: two keys are the most";
            notes.fail("spec.rotation.overlap", Cause::Invalid, message)
        }
        _ => Some(()),
    }
}

/// The new key that a Credential is due at this time: because somebody asked for it, or because of its schedule. The
/// error says which annotation cannot be read.
pub fn due(
    object: &Object<CredentialSpec>,
    record: Option<&KeyRecord>,
    now: Timestamp,
) -> Result<Option<Due>, &'static str> {
    let span = |span: Option<&Lifetime>| Some(u64::try_from(span?.in_seconds()?).ok()?.saturating_mul(1000));
    let settings = object.spec.rotation.as_ref();
    let usual = span(settings.and_then(|settings| settings.overlap.as_ref())).unwrap_or(DEFAULT_OVERLAP_MS);
    let requests = record.map(|record| record.requests.as_slice()).unwrap_or_default();
    if let Some(text) = &object.meta.rotate {
        let (request, overlap_ms) = read_request(text).ok_or(
            "the annotation identity-manager.io/rotate must be an id of 1 to 64 characters, and may have `overlap=24h` \
             behind it; nothing is replaced",
        )?;
        if !requests.iter().any(|known| known == request) {
            return Ok(Some(Due { request: Some(request.to_owned()), overlap_ms: overlap_ms.unwrap_or(usual) }));
        }
    }
    let every = span(settings.and_then(|settings| settings.every.as_ref()));
    let since = record.and_then(|record| record.current.as_ref()).map(|known| known.since);
    let is_old = every.zip(since).is_some_and(|(every, since)| now.0 >= since.0.saturating_add(every));
    Ok(is_old.then_some(Due { request: None, overlap_ms: usual }))
}

/// The id of a request, and the overlap that it asks for.
fn read_request(text: &str) -> Option<(&str, Option<u64>)> {
    let mut words = text.split_ascii_whitespace();
    let request = words.next().filter(|request| request.len() <= 64)?;
    let overlap = match words.next() {
        None => None,
        Some(word) => Some(parse_span(word.strip_prefix("overlap=")?)?),
    };
    words.next().is_none().then_some((request, overlap))
}
