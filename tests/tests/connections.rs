//! Connections that wait, drip, do not read or are too many: they cost nearly nothing, end in time, and a valid caller
//! beside them is served.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use idm_tests::{ANONYMOUS, Gateway, Upstream, eventually, open_to, raw, raw_on};
use serde_json::Value;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn gateway(upstream: &Upstream, arguments: &[&str]) -> Gateway {
    Gateway::start_with(&[("p.yaml", &open_to(upstream, ANONYMOUS))], arguments)
}

/// Whether the other end closed the connection, within ten seconds; what it sent before does not matter.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut rest = [0; 16384];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Asks once on a connection of its own.
fn is_served(address: SocketAddr) -> bool {
    let reply = raw(address, GET);
    reply.status == 200 && reply.body == "ok"
}

/// A connection from another address of this machine.
fn connect_from(source: [u8; 4], target: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((IpAddr::from(source), 0)).into()).expect("a loopback address");
    socket.connect(&target.into()).expect("it listens");
    socket.into()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A preface and settings that allow this much of each answer.
fn begin_http2(window: u32) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let mut setting = 4u16.to_be_bytes().to_vec();
    setting.extend(window.to_be_bytes());
    bytes.extend(frame(4, 0, 0, &setting));
    bytes
}

/// `GET /` for `a.example` (RFC 7541: static names, and a literal authority).
fn get_http2(stream: u32) -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x01, 9];
    block.extend(b"a.example");
    frame(1, 5, stream, &block)
}

/// The records of refusals for these reasons.
fn refusals(gateway: &Gateway, reason: &str) -> Vec<Value> {
    gateway.records().into_iter().filter(|record| record["reason"] == reason).collect()
}

fn one_refusal(gateway: &Gateway, reason: &str) -> Value {
    eventually("the record", || {
        let mut found = refusals(gateway, reason);
        if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{} records of {reason}", found.len())) }
    })
}

#[test]
fn a12_half_a_preface_costs_nothing_while_it_waits_and_its_socket_is_gone_when_the_caller_is() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let waiting: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).expect("it listens");
            stream.write_all(&PREFACE[..10]).expect("sent");
            stream
        })
        .collect();
    eventually("all are there", || {
        let there = gateway.descriptors();
        if there >= 500 { Ok(()) } else { Err(format!("{there} descriptors")) }
    });
    let (ticks, start) = (gateway.cpu_ticks(), Instant::now());
    let mut asked = 0;
    while start.elapsed() < Duration::from_secs(2) {
        assert!(is_served(gateway.address));
        asked += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    // A tick is 10 ms. Polled every 5 ms, the five hundred alone would take a hundred of them and more.
    let used = gateway.cpu_ticks() - ticks;
    assert!(used < 50, "{used} ticks for {asked} requests beside connections that wait");
    drop(waiting);
    let start = Instant::now();
    eventually("all are gone", || {
        let there = gateway.descriptors();
        if there < 60 { Ok(()) } else { Err(format!("{there} descriptors")) }
    });
    assert!(start.elapsed() < Duration::from_secs(5));
    gateway.stop();
}

#[test]
fn a12_a_preface_in_pieces_is_a_preface_and_what_differs_from_it_is_not() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.set_nodelay(true).expect("set");
    for byte in [begin_http2(65_535), get_http2(1)].concat() {
        stream.write_all(&[byte]).expect("sent");
    }
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut chunk = [0; 4096];
    while !answer.ends_with(b"ok") {
        let n = stream.read(&mut chunk).expect("an answer");
        assert!(n > 0, "closed after {answer:?}");
        answer.extend_from_slice(&chunk[..n]);
    }
    let reply = raw(gateway.address, b"PRI / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert!(reply.status == 200 || reply.status == 405, "a method of its own: {reply:?}");
    gateway.stop();
}

#[test]
fn a21_a_head_that_drips_ends_at_its_deadline_whichever_request_it_is_of() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &["--head-timeout-ms", "600"]);
    let drip = |mut stream: TcpStream, name: &str| {
        let start = Instant::now();
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        loop {
            let _ = stream.write_all(b"x");
            let mut byte = [0; 64];
            match stream.read(&mut byte) {
                Ok(0) => break,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {}
                Err(_) => break,
                Ok(_) => {}
            }
            assert!(start.elapsed() < Duration::from_secs(8), "{name}: still open");
        }
        assert!(start.elapsed() > Duration::from_millis(300), "{name}: closed too early");
    };
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(gateway.address).expect("it listens");
        stream.write_all(bytes).expect("sent");
        stream
    };
    drip(connect(b"GET / HTTP/1.1\r\nX-Long: "), "the first head");
    let mut second = connect(GET);
    assert_eq!(raw_on(&mut second).status, 200);
    second.write_all(b"GET / HTTP/1.1\r\nX-Long: ").expect("sent");
    drip(second, "a later head");
    // A block of headers that goes on for 16 KiB.
    let mut block = begin_http2(65_535);
    block.extend([0, 64, 0, 1, 0, 0, 0, 0, 1, 0x82]);
    drip(connect(&block), "a block of HTTP/2");
    drip(connect(&PREFACE[..3]), "another method");
    assert!(is_served(gateway.address));
    gateway.stop();
}

#[test]
fn a21_an_idle_connection_is_closed_and_one_in_use_is_not() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &["--idle-timeout-ms", "800"]);
    let mut idle = TcpStream::connect(gateway.address).expect("it listens");
    idle.write_all(GET).expect("sent");
    assert_eq!(raw_on(&mut idle).status, 200);
    let mut http2 = TcpStream::connect(gateway.address).expect("it listens");
    http2.write_all(&[begin_http2(65_535), get_http2(1)].concat()).expect("sent");
    let mut used = TcpStream::connect(gateway.address).expect("it listens");
    for _ in 0..12 {
        used.write_all(GET).expect("sent");
        assert_eq!(raw_on(&mut used).status, 200);
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!(is_closed(&mut idle));
    assert!(is_closed(&mut http2), "an HTTP/2 client that does not answer our goodbye");
    gateway.stop();
}

#[test]
fn a21_streams_whose_window_is_closed_end_and_memory_stays_bounded() {
    let body = "x".repeat(100_000);
    let upstream = Upstream::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    // Not at trace level: what is measured is the gateway, not its log.
    let files = [("all.yaml", &*open_to(&upstream, ANONYMOUS))];
    let gateway = Gateway::start_in(&files, &["--write-timeout-ms", "4000"], &[("IDM_LOG", "warn")]);
    for window in [0, 1] {
        let flood: Vec<TcpStream> = (0..20)
            .map(|_| {
                let mut stream = TcpStream::connect(gateway.address).expect("it listens");
                let mut bytes = begin_http2(window);
                (0..30).for_each(|number| bytes.extend(get_http2(2 * number + 1)));
                stream.write_all(&bytes).expect("sent");
                stream
            })
            .collect();
        let start = Instant::now();
        let mut good = 0;
        while start.elapsed() < Duration::from_secs(2) {
            let reply = raw(gateway.address, GET);
            assert_eq!((reply.status, reply.body.len()), (200, body.len()), "window {window}, after {good}");
            good += 1;
        }
        assert!(gateway.memory_kib() < 256 << 10, "{} KiB", gateway.memory_kib());
        // Upstream connections of the answers that were ended are closed with them.
        eventually("the answers end", || {
            let there = gateway.descriptors();
            if there < 300 { Ok(()) } else { Err(format!("{there} descriptors")) }
        });
        drop(flood);
    }
    gateway.stop();
}

#[test]
fn a21_answers_that_are_not_taken_give_way_to_requests_of_the_same_address() {
    let body = "x".repeat(100_000);
    let upstream = Upstream::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let gateway = gateway(&upstream, &["--max-requests-per-address", "60"]);
    let _flood: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).expect("it listens");
            let mut bytes = begin_http2(0);
            (0..20).for_each(|number| bytes.extend(get_http2(2 * number + 1)));
            stream.write_all(&bytes).expect("sent");
            stream
        })
        .collect();
    eventually("the address is full", || {
        let there = upstream.received().matches("GET /").count();
        if there >= 60 { Ok(()) } else { Err(format!("{there} requests")) }
    });
    // The deadline of writes is half a minute: nobody of the address waits for it.
    eventually("one gives way", || {
        let reply = raw(gateway.address, GET);
        if reply.status == 200 { Ok(()) } else { Err(format!("{}", reply.status)) }
    });
    for number in 0..20 {
        assert_eq!(raw(gateway.address, GET).status, 200, "request {number}");
    }
    gateway.stop();
}

#[test]
fn a21_an_answer_that_nobody_reads_ends_its_connection() {
    let body = "x".repeat(30_000_000);
    let upstream = Upstream::answering(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let gateway = gateway(&upstream, &["--write-timeout-ms", "500"]);
    let mut stuck: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(gateway.address).expect("it listens")).collect();
    stuck.iter_mut().for_each(|stream| stream.write_all(GET).expect("sent"));
    eventually("they began", || {
        let there = upstream.received().matches("GET /").count();
        if there == 5 { Ok(()) } else { Err(format!("{there} requests")) }
    });
    eventually("they ended", || {
        let there = gateway.callers();
        if there == 0 { Ok(()) } else { Err(format!("{there} connections")) }
    });
    gateway.stop();
}

#[test]
fn a21_a_full_address_gives_up_its_own_idle_connections_and_no_other_address_loses_one() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &["--max-connections", "120", "--max-connections-per-address", "40"]);
    let mut other = connect_from([127, 0, 0, 2], gateway.address);
    other.write_all(GET).expect("sent");
    assert_eq!(raw_on(&mut other).status, 200);
    let flood: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).expect("it listens");
            let _ = stream.write_all(b"G");
            stream
        })
        .collect();
    let served = (0..50).filter(|_| is_served(gateway.address)).count();
    assert!(served >= 49, "{served} of 50 beside a flood of the same address");
    other.write_all(GET).expect("sent");
    assert_eq!(raw_on(&mut other).status, 200, "the other address keeps its connection");
    drop(flood);
    gateway.stop();
}

#[test]
fn a21_many_addresses_that_fill_the_table_do_not_shut_out_another() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &["--max-connections", "40"]);
    let flood: Vec<TcpStream> = (0..120)
        .map(|number| {
            let mut stream = connect_from([127, 0, 1, 1 + number], gateway.address);
            let _ = stream.write_all(b"G");
            stream
        })
        .collect();
    let refused: Vec<usize> = (0..50).filter(|_| !is_served(gateway.address)).collect();
    assert!(refused.len() <= 1, "beside a full table these of 50 had no answer: {refused:?}");
    drop(flood);
    gateway.stop();
}

/// An upstream that takes requests and answers none; how many bytes of them it has.
fn silent() -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(n) = stream.read(&mut chunk) {
                    if n == 0 {
                        break;
                    }
                    count.fetch_add(
                        chunk[..n].windows(4).filter(|w| w == b"GET ").count(),
                        std::sync::atomic::Ordering::SeqCst,
                    );
                }
            });
        }
    });
    (address, seen)
}

#[test]
fn a21_requests_over_the_limit_of_an_address_are_refused_on_record_and_another_address_is_served() {
    let (address, seen) = silent();
    let at = |count: usize| {
        eventually("the upstream has them", || {
            let there = seen.load(std::sync::atomic::Ordering::SeqCst);
            if there == count { Ok(()) } else { Err(format!("{there} requests")) }
        });
    };
    let unused = Upstream::new();
    let port = |address: SocketAddr| format!("port: {}", address.port());
    let yaml = open_to(&unused, ANONYMOUS).replace(&port(unused.address), &port(address));
    let gateway =
        Gateway::start_with(&[("p.yaml", &yaml)], &["--max-requests", "10", "--max-requests-per-address", "3"]);
    let mut held = Vec::new();
    for count in 1..=3 {
        let mut stream = TcpStream::connect(gateway.address).expect("it listens");
        stream.write_all(GET).expect("sent");
        held.push(stream);
        at(count);
    }
    let refused = raw(gateway.address, GET);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let record = gateway.record(refused.decision());
    assert_eq!(record["reason"], "TooManyRequestsAtOnce");
    assert_eq!((&record["request"]["host"], &record["request"]["path"]), (&"a.example".into(), &"/".into()));
    let mut other = connect_from([127, 0, 0, 2], gateway.address);
    other.write_all(GET).expect("sent");
    at(4);
    // A place is free as soon as its caller has left.
    drop(held);
    let mut again = TcpStream::connect(gateway.address).expect("it listens");
    eventually("the places are free", || {
        let gone = gateway.records().iter().filter(|record| record["reason"] == "ClientGone").count();
        if gone == 3 { Ok(()) } else { Err(format!("{gone} are gone")) }
    });
    again.write_all(GET).expect("sent");
    at(5);
    assert_eq!(refusals(&gateway, "TooManyRequestsAtOnce").len(), 1);
    gateway.stop();
}

#[test]
fn a_head_that_is_too_large_is_on_record_once() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    // The HTTP library answers by itself, without a decision id.
    let many: String = (0..300).map(|number| format!("X-{number}: y\r\n")).collect();
    let reply = raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{many}\r\n").as_bytes());
    assert_eq!((reply.status, reply.header("x-decision-id")), (431, None));
    let record = one_refusal(&gateway, "HeadTooLarge");
    assert_eq!((&record["status"], &record["request"]["source"]), (&431.into(), &"127.0.0.1".into()));
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.records().len(), 1);
    gateway.stop();
}

#[test]
fn a_head_with_too_many_headers_is_answered_with_a_decision() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let many: String = (0..98).map(|number| format!("X-{number}: y\r\n")).collect();
    let reply = raw(gateway.address, format!("GET / HTTP/1.1\r\nHost: a.example\r\n{many}\r\n").as_bytes());
    assert_eq!(reply.status, 431);
    assert!(reply.body.contains(reply.decision()), "{reply:?}");
    let record = gateway.record(reply.decision());
    assert_eq!((&record["reason"], &record["request"]["host"]), (&"HeadTooLarge".into(), &"a.example".into()));
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.records().len(), 1);
    gateway.stop();
}

const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// Kind and flags of the next frame.
fn frame_read(stream: &mut TcpStream) -> (u8, u8) {
    let mut header = [0; 9];
    stream.read_exact(&mut header).expect("a frame");
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
    stream.read_exact(&mut vec![0; length as usize]).expect("its payload");
    (header[3], header[4])
}

/// A head that is larger than a frame goes on in another one (RFC 9113 §6.10), which may come in a packet of its own.
#[test]
fn a_head_of_http2_whose_frames_come_apart_is_served() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.set_nodelay(true).expect("set");
    let block = &get_http2(1)[9..];
    let (begin, rest) = block.split_at(4);
    stream.write_all(&[begin_http2(65_535), frame(1, 1, 1, begin)].concat()).expect("sent");
    // The settings came in the same packet as the begin of the block: both were read.
    while frame_read(&mut stream) != (SETTINGS, ACK) {}
    stream.write_all(&frame(9, 4, 1, rest)).expect("sent");
    eventually("it is served", || {
        let records = gateway.records();
        match records.iter().find(|record| record["outcome"] == "Permitted") {
            Some(_) => Ok(()),
            None => Err(format!("{records:?}")),
        }
    });
    assert!(upstream.received().starts_with("GET / "), "{}", upstream.received());
    assert_eq!(gateway.records().len(), 1);
    gateway.stop();
}

#[test]
fn a_malformed_head_is_on_record_once() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let reply = raw(gateway.address, b"GET / HTTP/9.9\r\nHost: a.example\r\n\r\n");
    assert_eq!(reply.status, 400);
    let record = one_refusal(&gateway, "MalformedRequest");
    assert_eq!((&record["status"], &record["request"]["method"]), (&400.into(), &"-".into()));
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.records().len(), 1);
    gateway.stop();
}

#[test]
fn a_malformed_head_of_http2_is_on_record_once_and_what_is_under_way_is_finished() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    // A stream error: a pseudo header that does not exist. A connection error: an index that does not exist.
    let unknown = [&[0x82, 0x84, 0x86, 0x00, 4][..], b":bad", &[1, b'x']].concat();
    for (number, block) in [unknown, vec![0xff, 0xff, 0xff, 0x0f]].into_iter().enumerate() {
        let mut stream = TcpStream::connect(gateway.address).expect("it listens");
        stream.write_all(&[begin_http2(65_535), frame(1, 5, 1, &block)].concat()).expect("sent");
        assert!(is_closed(&mut stream));
        eventually("the record", || {
            let found = refusals(&gateway, "MalformedRequest").len();
            if found == number + 1 { Ok(()) } else { Err(format!("{found} records")) }
        });
    }
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.records().len(), 2);
    gateway.stop();
}

#[test]
fn a_head_of_http2_that_is_too_large_is_answered_with_a_decision() {
    let upstream = Upstream::new();
    let gateway = gateway(&upstream, &[]);
    let mut block = vec![0x82, 0x84, 0x86, 0x01, 9];
    block.extend(b"a.example");
    for number in 0..200 {
        let name = format!("x-{number:03}");
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.extend([1, b'y']);
    }
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.write_all(&[begin_http2(65_535), frame(1, 5, 1, &block)].concat()).expect("sent");
    let record = one_refusal(&gateway, "HeadTooLarge");
    assert_eq!((&record["status"], &record["request"]["host"]), (&431.into(), &"a.example".into()));
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.records().len(), 1);
    gateway.stop();
}

#[test]
fn the_control_port_has_room_for_a_probe_beside_connections_that_wait() {
    let upstream = Upstream::new();
    let port = idm_tests::free_address();
    let gateway = gateway(&upstream, &["--admin", &port.to_string()]);
    let mut waiting: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = eventually("the port", || TcpStream::connect(port).map_err(|error| error.to_string()));
            let _ = stream.write_all(b"GET /-/live HTTP/1.1\r\nX: ");
            stream
        })
        .collect();
    assert_eq!(raw(port, b"GET /-/live HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    assert!(is_closed(&mut waiting[0]), "the oldest made room");
    let metrics = raw(port, b"GET /-/metrics HTTP/1.1\r\nHost: x\r\n\r\n").body;
    assert!(metrics.contains("idm_connections_closed_total{cause=\"head\"} 0"), "{metrics}");
    gateway.stop();
}
