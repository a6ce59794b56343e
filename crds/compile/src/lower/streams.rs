//! The treatment of open streams when their caller's right ends.

use idm_api::v1alpha1::{CutStreams, OpenStreams};

use super::Notes;
use crate::Cause;

/// The time for which open streams may go on, in milliseconds; 0: they are cut.
pub(crate) fn lower_open_streams(streams: Option<&OpenStreams>, notes: &mut Notes<'_>) -> u64 {
    let path = "spec.openStreams";
    let Some(OpenStreams { cut, drain }) = streams else { return 0 };
    match (cut, drain) {
        (Some(CutStreams {}), None) => 0,
        (None, Some(drain)) => match drain.in_seconds().and_then(|seconds| u64::try_from(seconds).ok()) {
            Some(seconds) if (1..=86_400).contains(&seconds) => seconds * 1000,
            _ => {
                let message = "`drain` must have exactly one of `seconds`, `minutes`, `hours`, and be a day at most";
                notes.fail::<()>(format!("{path}.drain"), Cause::Invalid, message);
                0
            }
        },
        _ => {
            notes.fail::<()>(path, Cause::Invalid, "openStreams must have exactly one of `cut` and `drain`");
            0
        }
    }
}
