//! Policies: any text is compiled or refused, and what is compiled travels as a bundle.
#![no_main]

use idm_compile::{Settings, compile, yaml::read_files};
use idm_plan::Bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let files = [("all.yaml".to_owned(), text.to_owned())];
    if let Ok((world, origins)) = read_files(&files, Settings::default()) {
        let compiled = compile(&world, None);
        compiled.report.findings().iter().for_each(|finding| drop(origins.locate(finding)));
        let bundle = compiled.seal(1);
        assert!(Bundle::unpack(&bundle.pack().expect("it is small")).is_ok_and(|back| back == bundle));
    }
    let _ = Bundle::unpack(text.as_bytes());
});
