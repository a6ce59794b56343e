//! Counts a realtime connection to a language model: the usage that its events tell, in the text frames of a WebSocket.
//!
//! Nothing of the connection is kept: each byte is looked at once, with a fixed amount of memory.

use crate::Usage;
use crate::meter::{Reader, Told};
use crate::websocket::{Frames, Part};

/// Reads what a provider sends on a realtime connection.
#[derive(Default)]
pub struct RealtimeMeter {
    frames: Frames,
    reader: Reader,
    told: Told,
    model: Option<String>,
    /// Events with a piece of an answer whose usage was not told yet.
    untold: u64,
}

/// A frame that cannot be read, because it has an extension that was not agreed on: what passes then is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncounted;

impl RealtimeMeter {
    /// Reads bytes up to the end of the first event that tells a usage: their number, and the usage. The end of such an
    /// event is the end of a frame.
    pub fn see(&mut self, bytes: &[u8]) -> Result<(usize, Option<Usage>), Uncounted> {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            if rest.is_empty() && !self.frames.ends_text() {
                return Ok((passed, None));
            }
            match self.frames.next(rest).map_err(|_| Uncounted)? {
                Part::Other(length) => passed += length,
                Part::Text(part, mask) => {
                    for (position, byte) in part.iter().enumerate() {
                        let byte = mask.map_or(*byte, |mask| mask.unmasked(position, *byte));
                        self.reader.see(byte, &mut self.told);
                    }
                    passed += part.len();
                }
                Part::TextEnds => {
                    if let Some(usage) = self.event_ended() {
                        return Ok((passed, Some(usage)));
                    }
                }
            }
        }
    }

    /// Whether the bytes so far end with a complete frame.
    pub fn ends_frame(&self) -> bool {
        self.frames.ends_frame()
    }

    /// The estimated usage of an answer that had begun, at the end of the connection: one token for each of its events.
    pub fn rest(&mut self) -> Option<Usage> {
        let completion = std::mem::take(&mut self.untold);
        let model = self.model.clone();
        (completion > 0).then(|| Usage { model, completion, estimated: true, ..Usage::default() })
    }

    fn event_ended(&mut self) -> Option<Usage> {
        self.reader.restart();
        let told = std::mem::take(&mut self.told);
        self.untold += u64::from(told.has_delta());
        if let Some(model) = told.model() {
            self.model = Some(model.to_owned());
        }
        let usage = told.told_usage()?;
        self.untold = 0;
        Some(Usage { model: self.model.clone(), ..usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::tests::frame;

    const CREATED: &str = r#"{"type":"session.created","session":{"model":"gpt-realtime","tools":[]}}"#;
    const DELTA: &str = r#"{"type":"response.output_audio.delta","event_id":"e","delta":"UklGRg=="}"#;
    const DONE: &str = r#"{"type":"response.done","response":{"id":"r","status":"completed","output":[{"content":
        [{"transcript":"\"usage\":{\"input_tokens\":9000}"}]}],"usage":{"total_tokens":253,"input_tokens":132,
        "output_tokens":121,"input_token_details":{"text_tokens":119,"audio_tokens":13,"cached_tokens":64,
        "cached_tokens_details":{"text_tokens":64}},"output_token_details":{"text_tokens":30}}}}"#;
    const TRANSCRIBED: &str = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"hi",
        "usage":{"type":"tokens","total_tokens":22,"input_tokens":13,"output_tokens":9}}"#;

    /// The usages that are told, and the bytes that had passed with each.
    fn seen(stream: &[u8], size: usize) -> (Vec<(usize, Usage)>, Option<Usage>) {
        let (mut meter, mut all, mut passed) = (RealtimeMeter::default(), Vec::new(), 0);
        for mut piece in stream.chunks(size) {
            while !piece.is_empty() {
                let (length, usage) = meter.see(piece).unwrap();
                (passed, piece) = (passed + length, &piece[length..]);
                if let Some(usage) = usage {
                    assert!(meter.ends_frame());
                    all.push((passed, usage));
                }
            }
        }
        assert_eq!(passed, stream.len());
        (all, meter.rest())
    }

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage { model: Some("gpt-realtime".into()), prompt, cached, completion, ..Usage::default() }
    }

    #[test]
    fn each_answer_is_counted_where_its_event_ends() {
        let begin: Vec<u8> = [CREATED, DELTA, DONE].map(|text| frame(0x81, text.as_bytes(), None)).concat();
        let (first, rest) = TRANSCRIBED.as_bytes().split_at(40);
        let more = [frame(0x01, first, None), frame(0x89, b"p", None), frame(0x80, rest, None)].concat();
        let stream = [&begin[..], &more, &frame(0x81, DELTA.as_bytes(), None)].concat();
        let expected = vec![(begin.len(), usage(132, 64, 121)), (begin.len() + more.len(), usage(13, 0, 9))];
        let untold = Usage { estimated: true, ..usage(0, 0, 1) };
        for size in [1, 5, 64, stream.len()] {
            assert_eq!(seen(&stream, size), (expected.clone(), Some(untold.clone())), "pieces of {size}");
        }
    }

    #[test]
    fn a_large_event_is_read_without_keeping_it() {
        let mut meter = RealtimeMeter::default();
        let large = DELTA.replace("UklGRg==", &"A".repeat(1 << 20));
        assert_eq!(meter.see(&frame(0x81, large.as_bytes(), None)).unwrap().1, None);
        assert!(meter.reader.kept_bytes() < 1024);
        assert_eq!(meter.rest().map(|usage| usage.completion), Some(1));
        assert_eq!(meter.see(&frame(0xc1, b"x", None)), Err(Uncounted));
    }
}
