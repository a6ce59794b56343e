//! Answers of language models: any bytes in any pieces give a usage, and the pieces do not matter.
#![no_main]

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use idm_transform::{Call, Meter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (bool, u8, Vec<u8>)| {
    let (streamed, size, bytes) = data;
    let kind = if streamed { "text/event-stream" } else { "application/json" };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let usage = |size: usize| {
        let mut meter = Meter::new(200, &headers, Call { request_bytes: 10, estimates: true });
        bytes.chunks(size.max(1)).for_each(|part| meter.see(part));
        meter.usage()
    };
    assert_eq!(usage(bytes.len()), usage(usize::from(size)));
});
