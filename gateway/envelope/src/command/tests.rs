use super::*;
use crate::{Envelope, Place, SealError};

const PLACE: Place<'static> = Place { namespace: "shop", object: "idm-gateway", field: "bundle" };

/// A key management service as a script: it wraps by putting something in front. `instead` is run before it answers.
fn script(dir: &std::path::Path, instead: &str) -> KeyCommand {
    let path = dir.join("kms");
    let text = format!(
        r#"
read -r question
value=$(printf %s "$question" | /bin/sed -n 's/.*"\(plaintext\|ciphertext\)":"\([^"]*\)".*/\2/p')
{instead}
case "$question" in
*'"operation":"wrap"'*) printf '{{"ciphertext":"kmsk%s"}}' "$value" ;;
*'"operation":"unwrap"'*) printf '{{"keyId":"kms/1","plaintext":"%s"}}' "${{value#kmsk}}" ;;
esac
"#
    );
    std::fs::write(&path, text).unwrap();
    let words = ["/bin/sh".to_owned(), path.to_str().unwrap().to_owned()];
    KeyCommand::new(&words, Some("kms/1".into())).unwrap()
}

#[tokio::test]
async fn a_command_wraps_and_unwraps() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = Envelope::new(script(dir.path(), "")).seal(&PLACE, b"hunter2").await.unwrap();
    let command = script(dir.path(), "");
    let opened = Envelope::new(KeyCommand { primary: None, ..command }).open(&PLACE, &sealed).await.unwrap();
    assert_eq!(opened.reveal(), b"hunter2");
}

#[tokio::test]
async fn a_command_that_misbehaves_seals_and_opens_nothing_and_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let good = Envelope::new(script(dir.path(), "")).seal(&PLACE, b"hunter2").await.unwrap();
    let value = STANDARD.encode([7; 32]);
    for (instead, wanted) in [
        ("exit 1", "ended with exit status: 1"),
        (r#"printf 'key: %s' "$value" >&2; exit 3"#, "ended with exit status: 3"),
        (r#"printf 'key: %s' "$value"; exit 0"#, "one JSON object"),
        (r#"printf '{"plaintext":7,"ciphertext":7,"key":"%s"}' "$value"; exit 0"#, "one JSON object"),
        ("printf '{}'; exit 0", "is not the data key"),
        (r#"printf '{"plaintext":"!","ciphertext":"!"}'; exit 0"#, "is not the data key"),
        (r#"printf '{"keyId":"kms/2","plaintext":"AA==","ciphertext":"AA=="}'; exit 0"#, "is not the data key"),
        (r#"printf '{"plaintext":"AA==","ciphertext":"AA=="}'; exit 0"#, "is not the data key"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx || exit 0; done", "64 KiB"),
    ] {
        let envelope = Envelope::new(script(dir.path(), instead));
        let (sealed, opened) = (envelope.seal(&PLACE, b"x").await, envelope.open(&PLACE, &good).await);
        for error in [sealed.unwrap_err(), opened.unwrap_err()] {
            let text = format!("{error} {error:?}");
            assert!(text.contains(wanted) && text.contains("kms/1"), "{instead}: {text}");
            assert!(!text.contains("key: ") && !text.contains("xxxx"), "{text}");
        }
    }
    // A data key of the right length that is not the one that was wrapped.
    let other = format!("printf '{{\"plaintext\":\"{value}\",\"ciphertext\":\"{value}\"}}'; exit 0");
    let envelope = Envelope::new(script(dir.path(), &other));
    let sealed = envelope.seal(&PLACE, b"x").await.unwrap_err();
    assert!(matches!(sealed, SealError::Key { source: KeyError::WrongAnswer(_), .. }), "{sealed}");
    assert!(matches!(envelope.open(&PLACE, &good).await.unwrap_err(), SealError::Wrong { .. }));
}

#[tokio::test]
async fn a_command_that_hangs_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let instead = format!("echo $$ > {}; exec /bin/sleep 600", pid.display());
    let command = script(dir.path(), &instead).with_deadline(Duration::from_millis(300));
    let error = Envelope::new(command).seal(&PLACE, b"x").await.unwrap_err().to_string();
    assert!(error.contains("no answer within 300 ms"), "{error}");
    let process = format!("/proc/{}/cmdline", std::fs::read_to_string(pid).unwrap_or_default().trim());
    let is_alive = || std::fs::read_to_string(&process).is_ok_and(|line| line.contains("sleep"));
    let began = std::time::Instant::now();
    while is_alive() {
        assert!(began.elapsed() < Duration::from_secs(10), "it lives on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_has_no_environment_and_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let envelope = Envelope::new(script(dir.path(), "[ -z \"$HOME$CARGO$CARGO_PKG_NAME\" ] || exit 9"));
    envelope.seal(&PLACE, b"x").await.unwrap();
    let gone = KeyCommand::new(&["/no/such/program".to_owned()], Some("k".into())).unwrap();
    let error = Envelope::new(gone).seal(&PLACE, b"x").await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program cannot be started"), "{error}");
    assert!(KeyCommand::new(&["kms".to_owned()], None).is_err());
}
