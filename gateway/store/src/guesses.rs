//! Guesses at passwords that all gateways count together, so that many let no more of them through than one.
//!
//! A guess is noted before it is checked: entries have the number of guesses under way, and what may come of those
//! counts. A gateway that ends before it told how a guess ended leaves a wrong one.

use std::sync::Arc;

use crate::shared::Shared;
use crate::{Key, Kind, Store, StoreError};

/// How guesses are delayed; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct GuessRules {
    /// Wrong guesses without a delay.
    pub free: u32,
    /// The delay after the first one that is not free; it doubles with each further one.
    pub first_delay_ms: u64,
    /// The longest delay.
    pub last_delay_ms: u64,
    /// Failures are forgotten after this time without another one.
    pub forget_ms: u64,
    /// The time for which a proven password makes an address known for its user.
    pub known_ms: u64,
    /// Guesses of one address that are under way at once.
    pub at_once: u32,
    /// The time after which a guess whose end nobody told counts as wrong.
    pub patience_ms: u64,
}

/// The entries of a guess: its user, the account, its address, and the account at the address.
#[derive(Clone, Copy, Debug)]
pub struct GuessKeys {
    /// Of the user: the same for every spelling that may be the name of one account.
    pub user: Key,
    /// Of the account, whose owner takes back failures with it alone.
    pub account: Key,
    /// Of the address.
    pub address: Key,
    /// Of the account at this address.
    pub known: Key,
}

/// Whether a guess may be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessTurn {
    /// It is under way from now on, and its end must be told.
    Now {
        /// Whether this user proved a password from this address lately: guesses at other addresses do not matter.
        known: bool,
    },
    /// Not before this time has passed.
    Later {
        /// Milliseconds.
        ms: u64,
    },
    /// As many guesses are under way as may be: those must end first.
    Busy,
}

/// How a guess ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessEnd {
    /// The password was right, and its user was let in.
    Right,
    /// It was wrong.
    Wrong,
    /// There was no answer, or none about the password.
    Unanswered,
}

/// One script for all of it. Entries are hashes: `c` failures, `u` the end of the delay, `l` the last failure, `p`
/// guesses under way, and `e` the time from which those count as wrong. Every time is the server's.
const GUESS: &str = r"
local op, free, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local forget, known_for, at_once, patience = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function fail(f, at)
  if at - math.max(f.l, f.u) > forget then f.c = 0 end
  f.c = f.c + 1
  f.l = at
  if f.c >= free then f.u = at + math.min(first * 2 ^ math.min(f.c - free, 20), last) end
end
local function read(key)
  local found, f = redis.call('HMGET', key, 'c', 'u', 'l', 'p', 'e'), {}
  for i, name in ipairs({'c', 'u', 'l', 'p', 'e'}) do f[name] = tonumber(found[i] or 0) end
  while f.p > 0 and now >= f.e do f.p = f.p - 1 fail(f, f.e) end
  return f
end
local function write(key, f, ms)
  local text = function(number) return string.format('%.0f', number) end
  redis.call('HSET', key, 'c', text(f.c), 'u', text(f.u), 'l', text(f.l), 'p', text(f.p), 'e', text(f.e))
  redis.call('PEXPIRE', key, text(ms))
end
local function keep(key, f) write(key, f, math.max(f.u - now, 0) + forget + patience) end
local function begun(f) f.p = f.p + 1 f.e = now + patience end
local function ended(f) f.p = math.max(f.p - 1, 0) end
local left = redis.call('PTTL', KEYS[3])
if op == 'begin' then
  if left > 0 then
    local k = read(KEYS[3])
    if now < k.u then return {2, k.u - now} end
    if k.c >= free and k.p > 0 then return {3, 0} end
    begun(k)
    write(KEYS[3], k, left)
    return {1, 0}
  end
  local u, a = read(KEYS[1]), read(KEYS[2])
  local wait = math.max(u.u, a.u) - now
  if wait > 0 then return {2, wait} end
  if u.p > 0 and u.c + u.p >= free or a.p > 0 and (a.c >= free or a.p >= at_once) then return {3, 0} end
  begun(u)
  begun(a)
  keep(KEYS[1], u)
  keep(KEYS[2], a)
  return {0, 0}
end
local was_known = ARGV[9] == '1'
if was_known then
  if left <= 0 and op ~= 'right' then return {0, 0} end
  local k = read(KEYS[3])
  ended(k)
  if op == 'wrong' then fail(k, now) end
  if op == 'right' then k.c = 0 k.u = 0 left = known_for end
  write(KEYS[3], k, left)
  return {0, 0}
end
local u, a = read(KEYS[1]), read(KEYS[2])
ended(u)
ended(a)
if op == 'wrong' then
  fail(u, now)
  fail(a, now)
  redis.call('INCR', KEYS[4])
  redis.call('PEXPIRE', KEYS[4], string.format('%.0f', forget + patience))
end
if op == 'right' then
  local own = tonumber(redis.call('GET', KEYS[4]) or 0)
  a.c = math.max(a.c - own, 0)
  if a.c < free then a.u = 0 end
  u.c = math.max(u.c - own, 0)
  if u.c < free then u.u = 0 end
  if u.p == 0 and u.c == 0 then redis.call('DEL', KEYS[1]) else keep(KEYS[1], u) end
  redis.call('DEL', KEYS[4])
  keep(KEYS[2], a)
  write(KEYS[3], {c = 0, u = 0, l = 0, p = 0, e = 0}, known_for)
  return {0, 0}
end
keep(KEYS[1], u)
keep(KEYS[2], a)
return {0, 0}";

fn command(prefix: impl Fn(&Key) -> String, op: &str, keys: &GuessKeys, rules: &GuessRules) -> redis::Cmd {
    let GuessKeys { user, account, address, known } = keys;
    let GuessRules { free, first_delay_ms, last_delay_ms, forget_ms, known_ms, at_once, patience_ms } = rules;
    let mut command = redis::cmd("EVAL");
    command.arg(GUESS).arg(4).arg(prefix(user)).arg(prefix(address)).arg(prefix(known));
    command.arg(prefix(account)).arg(op);
    command.arg(free).arg(first_delay_ms).arg(last_delay_ms).arg(forget_ms).arg(known_ms).arg(at_once).arg(patience_ms);
    command
}

impl Shared {
    async fn begin_guess(self: Arc<Self>, keys: GuessKeys, rules: GuessRules) -> Result<GuessTurn, StoreError> {
        let command = command(|key| self.name(key), "begin", &keys, &rules);
        match self.ask::<(u8, u64)>(command).await? {
            (0, _) => Ok(GuessTurn::Now { known: false }),
            (1, _) => Ok(GuessTurn::Now { known: true }),
            (2, ms) => Ok(GuessTurn::Later { ms }),
            _ => Ok(GuessTurn::Busy),
        }
    }

    async fn end_guess(
        self: Arc<Self>,
        keys: GuessKeys,
        rules: GuessRules,
        known: bool,
        end: GuessEnd,
    ) -> Result<(), StoreError> {
        let op = match end {
            GuessEnd::Right => "right",
            GuessEnd::Wrong => "wrong",
            GuessEnd::Unanswered => "unanswered",
        };
        let mut command = command(|key| self.name(key), op, &keys, &rules);
        command.arg(u8::from(known));
        self.ask::<(u8, u64)>(command).await.map(drop)
    }
}

impl Store {
    /// Begins a guess at a password, in the count of all gateways. `None`: this process keeps all by itself, and its
    /// users count for themselves.
    pub async fn begin_guess(&self, keys: &GuessKeys, rules: &GuessRules) -> Result<Option<GuessTurn>, StoreError> {
        match &self.kind {
            Kind::InProcess(_) => Ok(None),
            Kind::Shared(shared) => shared.clone().begin_guess(*keys, *rules).await.map(Some),
        }
    }

    /// Tells in the background how a guess ended that was begun with this answer. Nobody waits for it: until it is
    /// told, the guess is under way, and it counts as wrong if that never happens.
    pub fn end_guess_soon(&self, keys: &GuessKeys, rules: &GuessRules, known: bool, end: GuessEnd) {
        if let Kind::Shared(shared) = &self.kind {
            let (shared, keys, rules) = (shared.clone(), *keys, *rules);
            let runtime = shared.runtime().clone();
            runtime.spawn(async move {
                for attempt in 0..3u32 {
                    match shared.clone().end_guess(keys, rules, known, end).await {
                        Ok(()) => return,
                        Err(_) => tokio::time::sleep(shared.time_limit() * 2u32.pow(attempt)).await,
                    }
                }
                tracing::warn!("the store could not be told how a login ended; it counts as a wrong guess");
            });
        }
    }
}
