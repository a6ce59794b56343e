//! Takes out of a streamed answer the event with the usage for which only the gateway asked.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// The largest event that is looked at: one with the usage has a few hundred bytes.
const MAX_EVENT: usize = 16 << 10;

/// Passes the events of a stream on, each as soon as it is complete, except the one with the usage.
#[derive(Default)]
pub struct HiddenUsage {
    /// The beginning of an event.
    kept: BytesMut,
    /// The event that comes is too large to be the one, and its beginning was passed on.
    passing: bool,
    /// The line ends at the end of what was seen.
    line_ends: LineEnds,
}

/// The line ends before the next byte: an event ends with an empty line (HTML §9.2.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LineEnds {
    #[default]
    None,
    /// One, which was a carriage return: a line feed belongs to it.
    OneCr,
    One,
}

impl HiddenUsage {
    /// The bytes that go on, now that this part has arrived.
    pub fn pass(&mut self, part: &Bytes) -> Bytes {
        let mut out = BytesMut::new();
        let mut begin = 0;
        for (position, &byte) in part.iter().enumerate() {
            if !self.ends_event(byte) {
                continue;
            }
            let end = position + 1;
            self.kept.extend_from_slice(part.get(begin..end).unwrap_or_default());
            begin = end;
            let event = self.kept.split();
            if std::mem::take(&mut self.passing) || !is_usage(&event) {
                out.unsplit(event);
            }
        }
        self.kept.extend_from_slice(part.get(begin..).unwrap_or_default());
        if self.passing || self.kept.len() > MAX_EVENT {
            self.passing = true;
            out.unsplit(self.kept.split());
        }
        out.freeze()
    }

    /// The rest, at the end of the stream.
    pub fn rest(&mut self) -> Bytes {
        self.kept.split().freeze()
    }

    /// Whether this byte ends an event. A line feed behind the carriage return that ended one stays with the next.
    fn ends_event(&mut self, byte: u8) -> bool {
        let (next, ends) = match (self.line_ends, byte) {
            (LineEnds::OneCr, b'\n') => (LineEnds::One, false),
            (LineEnds::None, b'\n') => (LineEnds::One, false),
            (LineEnds::None, b'\r') => (LineEnds::OneCr, false),
            (LineEnds::One, b'\n') | (LineEnds::OneCr | LineEnds::One, b'\r') => (LineEnds::None, true),
            _ => (LineEnds::None, false),
        };
        self.line_ends = next;
        ends
    }
}

/// Whether an event is the one that tells the usage and nothing else: `{"choices":[],"usage":{…}}`.
fn is_usage(event: &[u8]) -> bool {
    let mut lines = event.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(data) = line.strip_prefix(b"data:") else { return false };
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return false };
    value.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty)
        && value.get("usage").is_some_and(Value::is_object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}";

    fn passed(stream: &str, cuts: &[usize]) -> String {
        let (mut filter, mut out, mut begin) = (HiddenUsage::default(), Vec::new(), 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        for cut in cuts {
            out.extend(filter.pass(&Bytes::copy_from_slice(&stream.as_bytes()[begin..cut])));
            begin = cut;
        }
        out.extend(filter.rest());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn only_the_event_with_the_usage_is_left_out() {
        let (first, done) = ("data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n", "data: [DONE]\n\n");
        assert_eq!(passed(&format!("{first}{USAGE}\n\n{done}"), &[]), format!("{first}{done}"));
        for other in [
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[],\"usage\":null}\n\n",
            ": keep-alive\n\n",
            "event: x\ndata: {\"choices\":[],\"usage\":{}}\n\n",
            "data: not JSON\n\n",
            "data: {\"choices\":[{\"text\":\"\\n\\ndata: \"}]}\n\n",
            "no end",
        ] {
            assert_eq!(passed(&format!("{first}{other}"), &[]), format!("{first}{other}"));
        }
        let large = format!("data: {{\"choices\":[],\"usage\":{{}},\"x\":\"{}\"}}\n\n", "y".repeat(MAX_EVENT));
        assert_eq!(passed(&large, &[9, MAX_EVENT + 20]), large);
    }

    proptest! {
        /// However the stream is cut, the same goes on.
        #[test]
        fn the_cuts_of_a_stream_change_nothing(
            events in proptest::collection::vec(0..4_usize, 0..8),
            end in prop_oneof![Just("\n\n"), Just("\r\n\r\n"), Just("\r\r")],
            cuts in proptest::collection::vec(any::<usize>(), 0..12),
        ) {
            let texts = [USAGE, "data: {\"choices\":[{}]}", ": x", "data: [DONE]"];
            let stream: String = events.iter().map(|event| format!("{}{end}", texts[*event])).collect();
            let expected: String =
                events.iter().filter(|event| **event != 0).map(|event| format!("{}{end}", texts[*event])).collect();
            let squeezed = |text: &str| text.replace(['\r', '\n'], "");
            prop_assert_eq!(squeezed(&passed(&stream, &cuts)), squeezed(&expected));
        }
    }
}
