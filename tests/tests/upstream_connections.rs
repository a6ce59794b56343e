//! Connections to upstreams: one that was closed while it was idle, many streams at once, and large heads of answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use idm_tests::{ANONYMOUS, Gateway, Upstream, open_to, open_to_address, raw, raw_on};

/// Reads one head; empty at the connection's end.
fn head(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        text.push(char::from(byte[0]));
    }
    text
}

/// An upstream that answers the first request of each connection and, when the next one comes, closes the connection
/// without a word, as one does whose time for idle connections has just ended. It tells of the requests it has read.
fn forgetful() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let tell: Sender<String> = tell.clone();
            std::thread::spawn(move || {
                let _ = tell.send(head(&mut stream));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                let _ = tell.send(head(&mut stream));
            });
        }
    });
    (port, told)
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_a_reader_nothing_and_repeats_no_write() {
    let (port, told) = forgetful();
    let gateway = Gateway::start(&[("all.yaml", &open_to_address(([127, 0, 0, 1], port).into(), ANONYMOUS))]);
    let mut caller = TcpStream::connect(gateway.address).expect("it listens");
    let mut ask = |request: &str| {
        caller.write_all(request.as_bytes()).expect("sent");
        raw_on(&mut caller)
    };
    assert_eq!(ask("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    let again = ask("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(again.status, 200, "{again:?}");
    let write = ask("POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(write.status, 502, "{write:?}");
    assert_eq!(gateway.record(write.decision())["reason"], "UpstreamFailed");
    let seen: Vec<String> = std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(1)).ok()).collect();
    let lines: Vec<_> = seen.iter().filter_map(|head| head.lines().next()).collect();
    let count = |line: &str| lines.iter().filter(|seen| seen.starts_with(line)).count();
    assert_eq!((count("GET /1 "), count("GET /2 "), count("POST /3 ")), (1, 2, 1), "{lines:?}");
    let records = gateway.records();
    assert_eq!(records.iter().filter(|record| record["request"]["path"] == "/2").count(), 1, "{records:#?}");
}

#[test]
fn an_answer_may_have_as_many_headers_as_applications_send() {
    let fields = |count: usize| (0..count).map(|n| format!("X-Field-{n}: {}\r\n", "v".repeat(100))).collect::<String>();
    for (count, status) in [(220, 200), (300, 502)] {
        let upstream = Upstream::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", fields(count)));
        let gateway = Gateway::start(&[("all.yaml", &open_to(&upstream, ANONYMOUS))]);
        let reply = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(reply.status, status, "{count}: {reply:?}");
        if status == 200 {
            assert_eq!(reply.header("x-field-219"), Some("v".repeat(100).as_str()));
        } else {
            assert_eq!(gateway.record(reply.decision())["reason"], "UpstreamFailed");
        }
    }
}

#[test]
fn more_streams_than_a_connection_may_have_get_another_connection() {
    const CALLERS: usize = 260;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("it starts");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (arrived, arrivals) = channel();
    let answer = std::sync::Arc::new(tokio::sync::Notify::new());
    runtime.spawn({
        let answer = answer.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (arrived, answer) = (arrived.clone(), answer.clone());
                tokio::spawn(async move {
                    let builder = h2::server::Builder::new().max_concurrent_streams(100).handshake(stream).await;
                    let mut connection: h2::server::Connection<_, bytes::Bytes> = builder.expect("HTTP/2");
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let answered = answer.clone();
                        let _ = arrived.send(());
                        tokio::spawn(async move {
                            answered.notified().await;
                            let response = http::Response::builder().status(204).body(()).expect("a response");
                            let _ = respond.send_response(response, true);
                        });
                    }
                });
            }
        }
    });
    let yaml = open_to_address(([127, 0, 0, 1], port).into(), ANONYMOUS).replacen(
        "name: http, port:",
        "name: h2c, appProtocol: kubernetes.io/h2c, port:",
        1,
    );
    let gateway = Gateway::start(&[("all.yaml", &yaml)]);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let address = gateway.address;
            std::thread::spawn(move || raw(address, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status)
        })
        .collect();
    // All are with the upstream at once, none of them was answered.
    for number in 0..CALLERS {
        let arrived = arrivals.recv_timeout(Duration::from_secs(20));
        assert!(arrived.is_ok(), "request {number} waits for an answer to another one");
    }
    // A waiter that is not there yet finds its permit in the loop.
    let ended = || callers.iter().all(|caller| caller.is_finished());
    while !ended() {
        answer.notify_waiters();
        std::thread::yield_now();
    }
    let statuses: Vec<u16> = callers.into_iter().map(|caller| caller.join().expect("it ran")).collect();
    let refused = || gateway.records().into_iter().find(|record| record["status"] != 204);
    assert!(statuses.iter().all(|status| *status == 204), "{statuses:?}; the first other record: {:?}", refused());
    assert!(arrivals.try_recv().is_err(), "a request came twice");
}
