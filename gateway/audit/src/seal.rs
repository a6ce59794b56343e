//! Records about the chain itself: where it begins, goes on and ends.

use idm_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::SCHEMA;
use crate::chain::ChainHead;

/// Why a seal was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    /// A chain begins.
    Begun,
    /// Another process goes on with it.
    Opened,
    /// It goes on in this segment.
    Rotated,
    /// The oldest segments are being removed.
    Dropped,
    /// The process ends as it should.
    Closed,
}

/// The facts of a seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) why: Why,
    /// The segment that it is in.
    pub(crate) segment: u64,
    /// The oldest segment that is kept.
    pub(crate) kept_from: u64,
    /// Bytes of a half-written line that were cut off when the folder was opened.
    #[serde(default)]
    pub(crate) cut: u64,
    /// The hash of the line before.
    pub(crate) before: String,
    /// Whether the hashes need a key.
    pub(crate) keyed: bool,
}

impl Seal {
    /// A line like those of records; its id is made of its place.
    pub(crate) fn line(&self, time: Timestamp, head: &ChainHead) -> Vec<u8> {
        let id = format!("{}-{}", head.id, head.n + 1);
        let line = Line { kind: "Seal".into(), time: time.rfc3339(), id, schema: SCHEMA, seal: self.clone() };
        let mut out = Vec::new();
        // Writing plain data into memory cannot fail.
        if serde_json::to_writer(&mut out, &line).is_ok() {
            out.push(b'\n');
        }
        out
    }

    /// Reads it back from what the hash of its line covers.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        // The cheap test first: most lines are records.
        if !body.starts_with(BEGIN.as_bytes()) {
            return None;
        }
        serde_json::from_slice::<Line>(&[body, b"}"].concat()).ok().map(|line| line.seal)
    }
}

const BEGIN: &str = "{\"kind\":\"Seal\",";

#[derive(Serialize, Deserialize)]
struct Line {
    kind: String,
    #[serde(rename = "@timestamp")]
    time: String,
    id: String,
    schema: u32,
    seal: Seal,
}

/// Whether a line of a segment is a seal, and no record that somebody asks for.
pub(crate) fn is_seal(line: &str) -> bool {
    line.starts_with(BEGIN)
}
