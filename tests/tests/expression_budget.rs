//! An expression of a policy costs a bounded time, whatever a caller sends: over it, the request is refused by name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use idm_tests::{Gateway, InProcess, Reply, Serves, Upstream, open_to, raw};

fn bed<G: Serves>(rest: &str) -> (G, Upstream) {
    let upstream = Upstream::new();
    let yaml = format!("{}{rest}", open_to(&upstream, "    - {name: everyone, anonymous: {}}\n"));
    (G::start_with(&[("all.yaml", &yaml)], &[]), upstream)
}

const NESTED: &str = "  authorization:\n    rules:\n    - name: nested\n      \
                      when: \"!request.parameters.exists(a, request.parameters.exists(b, a + b == 'zz'))\"\n";

fn parameters(count: usize) -> String {
    (0..count).map(|at| format!("p{at}=1")).collect::<Vec<_>>().join("&")
}

fn get(gateway: &impl Serves, target: &str, headers: &str) -> Reply {
    raw(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes())
}

fn assert_refused(gateway: &impl Serves, upstream: &Upstream, reply: &Reply) {
    assert_eq!(reply.status, 403);
    assert_eq!(gateway.record(reply.decision())["reason"], "ExpressionTooCostly");
    assert_eq!(upstream.received(), "", "not a byte went to the upstream");
    let ours = |record: &&serde_json::Value| record.to_string().contains(reply.decision());
    assert_eq!(gateway.records().iter().filter(ours).count(), 1, "one record");
}

/// Twice the work of a whole budget in an unoptimized build; without a budget these requests took minutes of one.
const BOUND: Duration = Duration::from_secs(2);

#[test]
fn a07_nested_loops_over_what_a_caller_sends_are_cut_off() {
    let (gateway, upstream) = bed::<Gateway>(NESTED);
    for count in [700, 4_000] {
        upstream.forget();
        let begun = Instant::now();
        let reply = get(&gateway, &format!("/?{}", parameters(count)), "");
        let took = begun.elapsed();
        assert_refused(&gateway, &upstream, &reply);
        assert!(took < BOUND, "{count} parameters took {took:?}");
        // A caller that sends little is served.
        assert_eq!(get(&gateway, "/?a=1&b=2", "").status, 200);
    }
}

/// Sixteen connections, more than there are cores here, ask for what costs most while another caller is served.
#[test]
fn a07_a_valid_caller_is_served_beside_costly_ones() {
    let (gateway, _upstream) = bed::<Gateway>(NESTED);
    let costly = format!("/?{}", parameters(4_000));
    let is_done = AtomicBool::new(false);
    let begun = std::sync::Barrier::new(17);
    let (served, refused) = std::thread::scope(|scope| {
        let costly_ones: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    begun.wait();
                    let mut statuses = Vec::new();
                    while statuses.len() < 200 && (statuses.is_empty() || !is_done.load(Ordering::Relaxed)) {
                        statuses.push(get(&gateway, &costly, "").status);
                    }
                    statuses
                })
            })
            .collect();
        begun.wait();
        let served: Vec<_> = (0..20)
            .map(|_| {
                let begun = Instant::now();
                (get(&gateway, "/?a=1&b=2", "").status, begun.elapsed())
            })
            .collect();
        is_done.store(true, Ordering::Relaxed);
        let refused: Vec<_> = costly_ones.into_iter().flat_map(|one| one.join().expect("it ends")).collect();
        (served, refused)
    });
    assert!(served.iter().all(|(status, _)| *status == 200), "{served:?}");
    let longest = served.iter().map(|(_, took)| *took).max();
    // Each waits for the one budget of each costly request before it, and never for minutes.
    assert!(longest < Some(2 * BOUND), "{served:?}");
    assert!(refused.len() >= 16 && refused.iter().all(|status| *status == 403), "{refused:?}");
}

#[test]
fn a07_what_is_sent_in_headers_is_cut_off_too() {
    let (gateway, upstream) = bed::<InProcess>(
        "  authorization:\n    rules:\n    - name: nested\n      \
                                   when: \"request.headers['x-many'].split(',').all(a, \
                                   request.headers['x-many'].split(',').exists(b, a == b))\"\n",
    );
    assert_eq!(get(&gateway, "/", "X-Many: a,b,c\r\n").status, 200);
    upstream.forget();
    let reply = get(&gateway, "/", &format!("X-Many: {}\r\n", "a,".repeat(2_500)));
    assert_refused(&gateway, &upstream, &reply);
}

#[test]
fn a07_twenty_conditions_have_one_budget() {
    let rules: String = (0..20)
        .map(|at| format!("    - name: r{at}\n      when: \"request.parameters.all(p, p.startsWith('p'))\"\n"))
        .collect();
    let (gateway, upstream) = bed::<InProcess>(&format!("  authorization:\n    rules:\n{rules}"));
    assert_eq!(get(&gateway, "/?p=1&pp=2", "").status, 200);
    upstream.forget();
    let begun = Instant::now();
    let reply = get(&gateway, &format!("/?{}", parameters(8_000)), "");
    let took = begun.elapsed();
    assert_refused(&gateway, &upstream, &reply);
    assert!(took < BOUND, "it took {took:?}");
}

#[test]
fn a07_a_header_for_the_upstream_that_costs_too_much_refuses() {
    let (gateway, upstream) = bed::<InProcess>(
        "  upstream:\n    headers:\n    - {name: X-Many, value: \"request.parameters.map(a, \
             request.parameters.map(b, a + b).join()).join()\"}\n",
    );
    assert_eq!(get(&gateway, "/?a=1", "").status, 200);
    upstream.forget();
    let reply = get(&gateway, &format!("/?{}", parameters(700)), "");
    assert_refused(&gateway, &upstream, &reply);
}
