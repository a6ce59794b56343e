//! The text format as Prometheus' own checker reads it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use idm_metrics::{Exposition, Format, Histogram, Sums};

/// The objections of `promtool check metrics` to a text; empty where it has no objection.
fn objections(text: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn promtool_reads_label_values_with_every_character() {
    let mut out = Exposition::new(Format::Prometheus);
    let mut family = out.counter("idm_odd_total", "Labels as odd as \\\\ and \\n.");
    let odd: String = (1..=0x2ff).filter_map(char::from_u32).collect();
    let labels = ["", "\\", "\"", "\n", "\\n", "a\"} 1\nidm_forged 1", "é\u{202e}\u{1f600}", &odd, "ends with \\"];
    labels.iter().for_each(|label| family.sample(&[("first", label), ("second", label)], 1));
    let (histogram, mut sums) = (Histogram::default(), Sums::default());
    histogram.observe(Duration::from_millis(3), None);
    histogram.add_to(&mut sums);
    let mut family = out.histogram("idm_odd_seconds", "A histogram.");
    labels.iter().for_each(|label| family.sums(&[("label", label)], &sums));
    let text = out.finish();
    assert_eq!(text.lines().filter(|line| line.starts_with("idm_forged")).count(), 0, "{text}");
    assert_eq!(objections(&text), "");
}

#[test]
fn promtool_objects_to_what_is_wrong() {
    assert!(objections("# TYPE idm_a counter\nidm_a 1\n").contains("no help text"));
    assert!(objections("idm_a{x=\"\"\"} 1\n").contains("expected"));
}
