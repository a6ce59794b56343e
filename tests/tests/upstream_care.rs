//! Retries, ejections and places of upstreams that fail: what is sent again, what is not sent at all, and the reasons.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use idm_tests::{ANONYMOUS, Gateway, Reply, eventually, open_to_address, raw, raw_on};

/// An upstream that answers the requests one after the other as the list says, and afterwards with 200; it keeps the
/// lines of all requests. `""` closes the connection without a word, `hang` never answers.
struct Bad {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Bad {
    fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(Mutex::new(answers.iter().rev().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
        let (seen, gate) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<(Mutex<bool>, Condvar)>::default());
        let (kept, closed) = (seen.clone(), gate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, kept, closed) = (answers.clone(), kept.clone(), closed.clone());
                std::thread::spawn(move || serve(stream, &answers, &kept, &closed));
            }
        });
        Self { address, seen, gate }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic inside").clone()
    }

    /// Lets requests that hang go.
    fn open(&self) {
        *self.gate.0.lock().expect("no panic inside") = true;
        self.gate.1.notify_all();
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &Mutex<Vec<String>>,
    seen: &Mutex<Vec<String>>,
    gate: &(Mutex<bool>, Condvar),
) -> Option<()> {
    let (mut head, mut byte) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(char::from(byte[0]));
    }
    seen.lock().expect("no panic inside").push(head.lines().next().unwrap_or_default().to_owned());
    let answer = answers.lock().expect("no panic inside").pop();
    match answer.as_deref() {
        Some("") => return None,
        Some("hang") => {
            let open = gate.0.lock().expect("no panic inside");
            drop(gate.1.wait_while(open, |open| !*open).expect("no panic inside"));
        }
        Some(status) => {
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return stream.write_all(answer.as_bytes()).ok();
        }
        None => {}
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").ok()
}

struct Bed {
    gateway: Gateway,
    admin: SocketAddr,
    /// One connection is on one core, whose state of the upstream is the one that counts.
    caller: Mutex<TcpStream>,
}

impl Bed {
    /// A policy with these members of `upstream`.
    fn start(upstream: &Bad, care: &str) -> Self {
        let admin = idm_tests::free_address();
        let yaml = format!("{}\n  upstream: {{{care}}}\n", open_to_address(upstream.address, ANONYMOUS).trim_end());
        let gateway = Gateway::start_with(&[("all.yaml", &yaml)], &["--admin", &admin.to_string()]);
        let caller = Mutex::new(TcpStream::connect(gateway.address).expect("it listens"));
        Self { gateway, admin, caller }
    }

    fn send(&self, method: &str, more: &str) -> Reply {
        let mut caller = self.caller.lock().expect("no panic inside");
        caller.write_all(format!("{method} /x HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes()).expect("sent");
        raw_on(&mut caller)
    }

    /// Successes reach the disk a moment after their answers.
    fn wait_for_records(&self, count: usize) {
        eventually("the records", || match self.gateway.records().len() {
            found if found == count => Ok(()),
            found => Err(found.to_string()),
        });
    }

    fn reason(&self, reply: &Reply) -> String {
        self.gateway.record(reply.decision())["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn counted(&self, name: &str) -> u64 {
        let metrics = raw(self.admin, b"GET /-/metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    }
}

#[test]
fn what_is_safe_is_sent_again_and_what_is_not_is_not() {
    let upstream = Bad::answering(&["503", "", "503", "503", "503", "404", ""]);
    let bed = Bed::start(&upstream, "retry: {attempts: 2}");
    // 503, no answer, 503: the last answer is the caller's.
    assert_eq!(bed.send("GET", "").status, 503);
    assert_eq!(upstream.seen().len(), 3);
    // The second attempt of these finds 503 and 503 and then 404, which is an answer.
    assert_eq!(bed.send("DELETE", "").status, 404);
    assert_eq!(upstream.seen().len(), 6);
    // A POST may have had an effect.
    let post = bed.send("POST", "Content-Length: 0\r\n");
    assert_eq!((post.status, bed.reason(&post)), (502, "UpstreamFailed".into()));
    assert_eq!(upstream.seen().len(), 7);
    assert_eq!(bed.send("GET", "").status, 200);
    assert_eq!(bed.counted("idm_upstream_retries_total"), 4);
    bed.wait_for_records(4);
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_for_the_next() {
    let upstream = Bad::answering(&["hang"]);
    let bed = Bed::start(&upstream, "retry: {perTryMilliseconds: 100}");
    assert_eq!(bed.send("GET", "").status, 200);
    assert_eq!(upstream.seen(), ["GET /x HTTP/1.1"; 2]);
    upstream.open();
}

#[test]
fn retries_are_a_share_of_the_requests() {
    let upstream = Bad::answering(&["503"; 60]);
    let bed = Bed::start(&upstream, "retry: {attempts: 1, budgetPercent: 1}");
    for _ in 0..20 {
        assert_eq!(bed.send("GET", "").status, 503);
    }
    // Ten are saved up, and a hundredth is earned by each request.
    assert_eq!((upstream.seen().len(), bed.counted("idm_upstream_retries_total")), (30, 10));
}

#[test]
fn an_upstream_that_fails_is_left_alone_for_a_while() {
    let upstream = Bad::answering(&["502", "", "503"]);
    let bed = Bed::start(&upstream, "ejection: {failures: 3, firstSeconds: 1, longestSeconds: 1, maxPercent: 100}");
    let statuses: Vec<u16> = (0..3).map(|_| bed.send("GET", "").status).collect();
    assert_eq!(statuses, [502, 502, 503]);
    let refused = bed.send("GET", "");
    assert_eq!((refused.status, bed.reason(&refused)), (503, "UpstreamEjected".into()));
    assert_eq!((upstream.seen().len(), bed.counted("idm_upstream_ejections_total")), (3, 1));
    eventually("it is asked again after its pause", || match bed.send("GET", "").status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    // A Service of one address is never left alone where only a half of the addresses may be.
    let upstream = Bad::answering(&["503"; 4]);
    let bed = Bed::start(&upstream, "ejection: {failures: 1}");
    let statuses: Vec<u16> = (0..5).map(|_| bed.send("GET", "").status).collect();
    assert_eq!(statuses, [503, 503, 503, 503, 200]);
}

#[test]
fn a_full_upstream_gets_no_more_and_who_may_wait_waits() {
    // Each core has one place, and one for waiting.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let upstream = Bad::answering(&vec!["hang"; 2 * cores]);
    let bed = Bed::start(&upstream, "capacity: {requests: 1, waiting: 1}");
    let get = || raw(bed.gateway.address, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..2 * cores + 2).map(|_| scope.spawn(get)).collect();
        // Whichever cores they are for, two find no place at all.
        eventually("two are refused", || match bed.gateway.records().len() {
            0 | 1 => Err("not yet".to_owned()),
            _ => Ok(()),
        });
        assert!(upstream.seen().len() <= cores, "{:?}", upstream.seen());
        upstream.open();
        sent.into_iter().map(|sent| sent.join().expect("an answer")).collect()
    });
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert!(served.len() >= 2 && served.len() <= 2 * cores, "{replies:?}");
    for reply in refused {
        assert_eq!((reply.status, bed.reason(reply)), (503, "UpstreamBusy".into()));
    }
    assert_eq!(upstream.seen().len(), served.len());
    bed.wait_for_records(replies.len());
}
