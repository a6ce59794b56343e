//! The keys of a Credential over any order of events: what may work works, and nothing else.

mod bed;

use std::sync::LazyLock;

use bed::{API_KEY, Bed, policy};
use bytes::Bytes;
use http::Request;
use idm_compile::Register;
use idm_decide::{Decided, Offline, Peer};
use idm_plan::Proof;
use idm_types::{ApiKey, Reason, Timestamp};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;
const START: u64 = 1_800_000_000_000;

fn key(n: usize) -> String {
    ApiKey::from_random([n as u8; 32]).reveal().to_owned()
}

/// The hash of a key, as it is compiled.
fn hash(n: usize) -> String {
    static ALL: LazyLock<Vec<String>> = LazyLock::new(|| {
        let of = |n| match &Bed::compiled(&Life::yaml(&Register::default(), n, None)).credentials.all[0].proof {
            Proof::ApiKey { keys, .. } => keys.current.as_ref().expect("it has one").sha256.clone(),
            other => panic!("{other:?}"),
        };
        (0..16).map(of).collect()
    });
    ALL[n].clone()
}

#[derive(Clone, Debug)]
enum Event {
    /// A new key is asked for, with this overlap in hours; the process may die before the Secret has it.
    Rotate { overlap: u64, dies: bool },
    /// A rotation that was begun is finished.
    GoOn,
    /// The key that was made as the n-th is revoked.
    Revoke(usize),
    /// Somebody puts the n-th key back into the Secret.
    Restore(usize),
    /// Hours pass.
    Pass(u64),
    /// The Credential expires in so many hours from now, or never.
    Expire(Option<u64>),
    /// Operator and gateway start anew.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..30, any::<bool>()).prop_map(|(overlap, dies)| Event::Rotate { overlap, dies }),
        2 => Just(Event::GoOn),
        2 => (0usize..6).prop_map(Event::Revoke),
        2 => (0usize..6).prop_map(Event::Restore),
        4 => (1u64..20).prop_map(Event::Pass),
        1 => proptest::option::of(1u64..40).prop_map(Event::Expire),
        1 => Just(Event::Restart),
    ]
}

/// The knowledge of one key without looking into any code that is tested.
#[derive(Clone, Default)]
struct Fate {
    /// It must be refused from this time on.
    dead_from: Option<u64>,
    revoked: bool,
}

struct Life {
    now: u64,
    expires: Option<u64>,
    /// The key that the Secret holds.
    held: usize,
    made: Vec<Fate>,
    register: Register,
    requests: u32,
    gateway: Offline,
}

impl Life {
    fn begin() -> Self {
        let gateway = Self::arm(&Register::default(), 0, None);
        let (held, made) = (0, vec![Fate::default()]);
        Self { now: START, expires: None, held, made, register: Register::default(), requests: 0, gateway }
    }

    fn yaml(register: &Register, held: usize, expires: Option<u64>) -> String {
        let expires = expires.map_or_else(String::new, |at| format!(", expireTime: '{}'", Timestamp(at).rfc3339()));
        format!(
            "{}apiVersion: identity-manager.io/v1alpha1\nkind: Credential\nmetadata: {{name: robot}}\n\
             spec: {{apiKey: {{}}, secretRef: {{name: robot}}, owner: {{user: ana}}{expires}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: robot}}\nstringData: {{key: {}}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: idm-credential-keys}}\n\
             stringData: {{register.json: '{}'}}\n",
            policy("up", API_KEY, ""),
            key(held),
            register.text()
        )
    }

    fn arm(register: &Register, held: usize, expires: Option<u64>) -> Offline {
        Offline::arm(&Bed::compiled(&Self::yaml(register, held, expires)).seal(1), "test").expect("it is armed")
    }

    fn put_in_force(&mut self) {
        let bundle = Bed::compiled(&Self::yaml(&self.register, self.held, self.expires));
        let generation = self.gateway.armed().version().0 + 1;
        self.gateway.swap(&bundle.seal(generation)).expect("it is armed");
    }

    fn die(&mut self, n: usize, at: u64, revoked: bool) {
        let fate = &mut self.made[n];
        fate.dead_from = Some(fate.dead_from.map_or(at, |known| known.min(at)));
        fate.revoked |= revoked;
    }

    fn apply(&mut self, event: Event) {
        let (now, natural) = (Timestamp(self.now), self.expires.map(Timestamp));
        match event {
            Event::Rotate { overlap, dies } => {
                self.requests += 1;
                let request = self.requests.to_string();
                let old = self.held;
                let is_dead = self.made[old].dead_from.is_some_and(|at| at <= self.now);
                let began = self.register.begin("robot", &hash(old), Some(&request), overlap * HOUR, now, natural);
                if began.expect("there is room") && !is_dead {
                    let end = (self.now + overlap * HOUR).min(self.expires.unwrap_or(u64::MAX));
                    self.die(old, end, overlap == 0);
                }
                if !dies {
                    self.apply(Event::GoOn);
                }
            }
            Event::GoOn => {
                let pending = self.register.record("robot").and_then(|record| record.pending.clone());
                let Some(pending) = pending else { return };
                if pending.replaces == hash(self.held) {
                    self.made.push(Fate::default());
                    self.held = self.made.len() - 1;
                }
                self.register.finish("robot", &hash(self.held), now);
            }
            Event::Revoke(n) if n < self.made.len() => {
                self.register.revoke("robot", &hash(n), now, natural).expect("there is room");
                self.die(n, self.now, true);
            }
            Event::Restore(n) if n < self.made.len() => self.held = n,
            Event::Revoke(_) | Event::Restore(_) => {}
            Event::Pass(hours) => self.now += hours * HOUR,
            Event::Expire(hours) => self.expires = hours.map(|hours| self.now + hours * HOUR),
            Event::Restart => {
                self.register = Register::parse(self.register.text().as_bytes()).expect("it reads back");
                self.gateway = Self::arm(&self.register, self.held, self.expires);
            }
        }
        let expires = self.expires.map(Timestamp);
        self.register.tidy(Timestamp(self.now), |name| (name == "robot").then_some(expires));
    }

    async fn ask(&self, n: usize, at: u64) -> Result<(String, Option<String>), Reason> {
        let request = Request::builder().uri("/").header("host", "up").header("x-api-key", key(n));
        let request = request.body(Bytes::new()).expect("a request");
        let peer = Peer::plain(std::net::Ipv4Addr::LOCALHOST.into());
        let decision = self.gateway.decide(&peer, request, Timestamp(at)).await;
        match decision.outcome {
            Ok(Decided::Forward { .. }) => {
                let (who, _) = decision.trace.identity.expect("somebody passed");
                assert_eq!(who.owner.as_deref(), Some("user:ana"));
                Ok((who.id.clone(), who.kid.clone()))
            }
            Ok(Decided::Answer(_)) => panic!("the gateway answers itself"),
            Err(refusal) => Err(refusal.reason),
        }
    }

    /// Asks with every key, now and at any later time, while operator and store are dead.
    async fn check(&self) {
        for later in [0, 1, 7, 29, 31, 50] {
            let at = self.now + later * HOUR;
            let is_expired = self.expires.is_some_and(|expires| at >= expires);
            let mut working = 0;
            for (n, fate) in self.made.iter().enumerate() {
                let is_dead = fate.dead_from.is_some_and(|from| at >= from);
                match self.ask(n, at).await {
                    Ok((id, kid)) => {
                        assert!(!is_dead && !is_expired, "key {n} works after its end");
                        assert_eq!((id.as_str(), kid.as_deref()), ("credential:default/robot", hash(n).get(..12)));
                        working += 1;
                    }
                    Err(reason) => {
                        let never_ended = fate.dead_from.is_none() && n == self.held;
                        assert!(is_expired || !never_ended, "key {n} is refused for {reason}");
                        if fate.revoked && is_dead {
                            assert_eq!(reason, Reason::KeyRevoked, "key {n}");
                        } else if is_dead && !is_expired {
                            assert_eq!(reason, Reason::KeyRotatedOut, "key {n}");
                        }
                    }
                }
            }
            assert!(working <= 2, "{working} keys work");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn r56_no_order_of_events_lets_a_key_outlive_its_end(events in proptest::collection::vec(event(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut life = Life::begin();
            for event in events {
                life.apply(event);
                life.put_in_force();
                life.check().await;
            }
        });
    }
}

#[tokio::test]
async fn r62_both_keys_are_one_caller_and_the_old_one_ends_without_anybody_s_help() {
    let mut life = Life::begin();
    life.apply(Event::Expire(Some(100)));
    life.apply(Event::Rotate { overlap: 24, dies: false });
    life.put_in_force();
    let (old, new) = (life.ask(0, START).await.unwrap(), life.ask(1, START).await.unwrap());
    assert_eq!(old.0, new.0);
    assert_ne!(old.1, new.1, "the record tells which");
    // The verdicts about both are kept by now; nothing else is put in force.
    assert!(life.ask(0, START + 24 * HOUR - 1).await.is_ok());
    assert_eq!(life.ask(0, START + 24 * HOUR).await, Err(Reason::KeyRotatedOut));
    assert!(life.ask(1, START + 24 * HOUR).await.is_ok());
    assert_eq!(
        life.ask(1, START + 100 * HOUR).await,
        Err(Reason::CredentialExpired),
        "the new one inherits the expiry"
    );
}
