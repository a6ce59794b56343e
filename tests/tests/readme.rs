//! The README's demo block, line by line: what it says happens, happens.

use std::path::Path;
use std::process::Command;

use idm_tests::{Demo, idm};

#[test]
fn the_readmes_lines_do_what_they_say() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    assert!(
        readme.contains("```sh\ncargo build --profile demo -p idm && target/demo/idm demo\n```")
            && readme.contains("```sh\n./test\n```"),
        "the two commands"
    );
    let block = readme.split("```sh demo\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the demo block");
    let state = tempfile::tempdir().unwrap();
    let demo = Demo::start(state.path());
    let address = demo.address.to_string();
    let mut decision = String::new();
    let mut problems = Vec::new();
    for line in block.lines() {
        let (command, expected) = line.split_once("# => ").expect("each line says what it shows");
        let command = command
            .replace("127.0.0.1:8000", &address)
            .replace("target/demo/idm", idm().to_str().unwrap())
            .replace("DECISION-ID", &decision);
        let output = Command::new("sh").args(["-c", &command]).env("IDM_STATE_DIR", state.path()).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(id) = shown.lines().find_map(|line| line.strip_prefix("x-decision-id: ")) {
            decision = id.trim().to_owned();
        }
        if !shown.contains(expected.trim()) {
            problems.push(format!("{line}\nshowed: {shown}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_readmes_policy_test_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let line = readme.split("```sh policy-test\n").nth(1).and_then(|rest| rest.lines().next()).expect("the block");
    let (command, expected) = line.split_once("# => ").expect("the line says what it shows");
    let state = tempfile::tempdir().unwrap();
    let command = command.replace("target/demo/idm", idm().to_str().unwrap());
    let output = Command::new("sh")
        .args(["-c", &command])
        .current_dir(&root)
        .env("IDM_STATE_DIR", state.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.contains(expected.trim()), "{shown}");
}
