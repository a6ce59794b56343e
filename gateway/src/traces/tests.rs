use std::num::{NonZeroU64, NonZeroU128};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use idm_traces::{Kind, Sink, queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers one request after another with these texts (the last one again and again), and keeps the requests.
async fn collector(answers: &'static [&'static str]) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = TraceOptions::endpoint(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let is_whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                length == Some(body.len())
            };
            while !is_whole(&request) {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let answer = {
                let mut kept = kept.lock().unwrap();
                kept.push(String::from_utf8(request).unwrap());
                answers[(kept.len() - 1).min(answers.len() - 1)]
            };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
        }
    });
    (url, asked)
}

fn options(endpoint: Url) -> TraceOptions {
    TraceOptions {
        endpoint,
        authorization: Some(Redacted::new("Bearer canary".into())),
        ca_pem: None,
        ratio: Ratio::USUAL,
        callers: Callers::Trusted,
        namespace: Some("shop".into()),
    }
}

fn tell(sink: &Sink, count: u64) {
    for id in 1..=count {
        sink.tell(Span {
            trace: NonZeroU128::MIN.into(),
            id: NonZeroU64::new(id).unwrap(),
            parent: None,
            link: None,
            kind: Kind::Server,
            name: "GET".into(),
            began: 1,
            ended: 2,
            attributes: vec![],
            failed: false,
        });
    }
}

/// Sends this many spans to a collector that answers so; returns the numbers of those that it took and refused.
async fn sent(count: u64, url: Url) -> (u64, u64) {
    let (sink, waiting) = queue(4096);
    let (stop, stopped) = watch::channel(false);
    tell(&sink, count);
    let running = tokio::spawn(Exporter::new(&options(url), "idm-0").unwrap().run(waiting, stopped));
    let counts = || (sink.counts().exported.load(Relaxed), sink.counts().failed.load(Relaxed));
    while counts().0 + counts().1 < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(true).unwrap();
    running.await.unwrap();
    counts()
}

const TAKEN: &str = "200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
const AGAIN: &str = "429 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BUSY: &str = "503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const WRONG: &str = "400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const PARTLY: &str =
    "200 OK\r\nContent-Length: 41\r\nConnection: close\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"5\"}} ";

#[tokio::test]
async fn spans_are_sent_together_with_the_authorization() {
    let (url, asked) = collector(&[TAKEN]).await;
    assert_eq!(sent(600, url).await, (600, 0));
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2);
    let head = asked[0].split_once("\r\n\r\n").unwrap().0.to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    for line in ["content-type: application/json", "authorization: bearer canary"] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    let spans = |text: &str| text.matches("\"spanId\"").count();
    assert_eq!((spans(&asked[0]), spans(&asked[1])), (512, 88));
    assert!(asked[0].contains("idm-0") && asked[0].contains("k8s.namespace.name"));
}

#[tokio::test]
async fn what_is_busy_is_asked_again_and_what_is_wrong_is_not() {
    let (url, asked) = collector(&[AGAIN, BUSY, AGAIN, TAKEN]).await;
    assert_eq!(sent(3, url).await, (3, 0));
    assert_eq!(asked.lock().unwrap().len(), 4);
    let (url, asked) = collector(&[BUSY]).await;
    assert_eq!(sent(3, url).await, (0, 3));
    assert_eq!(asked.lock().unwrap().len(), 4);
    let (url, asked) = collector(&[WRONG]).await;
    assert_eq!(sent(3, url).await, (0, 3));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_refused_in_part_is_counted() {
    let (url, _) = collector(&[PARTLY]).await;
    assert_eq!(sent(7, url).await, (2, 5));
}

#[tokio::test]
async fn a_stop_sends_what_waits_and_tries_only_once() {
    let (url, asked) = collector(&[TAKEN]).await;
    let run = async |url: Url| {
        let (sink, waiting) = queue(16);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Exporter::new(&options(url), "idm-0").unwrap().run(waiting, stopped));
        tell(&sink, 4);
        stop.send(true).unwrap();
        running.await.unwrap();
        (sink.counts().exported.load(Relaxed), sink.counts().failed.load(Relaxed))
    };
    let start = Instant::now();
    assert_eq!(run(url).await, (4, 0));
    assert!(start.elapsed() < LINGER, "it did not wait for more");
    assert_eq!(asked.lock().unwrap().len(), 1);
    let (url, asked) = collector(&["503 X\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]).await;
    assert_eq!(run(url).await, (0, 4));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn a_pause_is_as_long_as_the_collector_asks_or_doubles() {
    let asked = |seconds| ExportError::Status { status: 503, pause: Some(Duration::from_secs(seconds)) };
    let own = ExportError::Status { status: 503, pause: None };
    for (error, attempt, least) in
        [(&asked(7), 0, 7_000), (&asked(4000), 0, 30_000), (&own, 0, 500), (&own, 1, 1000), (&own, 2, 2000)]
    {
        let pause = pause(error, attempt).as_millis() as u64;
        assert!((least..=least * 3 / 2).contains(&pause), "{least}: {pause}");
    }
}

#[test]
fn a_collector_is_named_by_its_url() {
    for (text, url) in [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector.example/", "https://collector.example/v1/traces"),
        ("https://collector.example/in/traces?tenant=a", "https://collector.example/in/traces?tenant=a"),
    ] {
        assert_eq!(TraceOptions::endpoint(text).unwrap().as_str(), url);
    }
    for (text, problem) in [
        ("collector:4318", "give a URL such as"),
        ("grpc://collector:4317", "give a URL such as"),
        ("http://collector#a", "give a URL such as"),
        ("http://ana:secret@collector:4318", "authorization file"),
    ] {
        let error = TraceOptions::endpoint(text).unwrap_err();
        assert!(error.contains(problem) && !error.contains("secret"), "{text}: {error}");
    }
}

#[test]
fn an_authorization_that_is_no_header_is_an_error_without_it() {
    let url = TraceOptions::endpoint("http://collector").unwrap();
    let options = TraceOptions { authorization: Some(Redacted::new("canary\nx".into())), ..options(url) };
    let error = Exporter::new(&options, "idm-0").err().unwrap();
    assert!(!format!("{error} {error:?} {options:?}").contains("canary"), "{error}");
}
