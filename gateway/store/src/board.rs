//! Boards: short lists that all gateways of a namespace read as a whole, such as the blocks of addresses. Each entry
//! ends by itself, by the clock of the server.

use std::sync::Arc;

use crate::shared::Shared;
use crate::{Key, Kind, Store, StoreError};

/// Removes what has ended, and of a full board the entry that ends first; then adds or replaces the entry.
const POST: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function drop(names) for _, name in ipairs(names) do
  redis.call('ZREM', KEYS[1], name) redis.call('HDEL', KEYS[2], name)
end end
drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now))
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then
  drop(redis.call('ZRANGE', KEYS[1], 0, 0))
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local last = string.format('%.0f', redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
redis.call('PEXPIREAT', KEYS[1], last)
redis.call('PEXPIREAT', KEYS[2], last)
return redis.call('INCR', KEYS[3])";

const TAKE_DOWN: &str = r"
for _, name in ipairs(ARGV) do redis.call('ZREM', KEYS[1], name) redis.call('HDEL', KEYS[2], name) end
return redis.call('INCR', KEYS[3])";

/// The values that have not ended, each with the milliseconds that it has left.
const READ: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, all = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES'), {}
for at = 1, #found, 2 do
  local value = redis.call('HGET', KEYS[2], found[at])
  if value then all[#all + 1] = {value, string.format('%.0f', found[at + 1] - now)} end
end
return all";

/// A board, by its name.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Unique among the boards.
    pub name: &'static str,
    /// The most entries; a further one replaces the one that ends first.
    pub capacity: usize,
}

/// The version of a board that was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoardVersion(Option<Option<i64>>);

impl Shared {
    fn names(&self, board: Board) -> [String; 3] {
        ["ends", "values", "version"].map(|part| self.part(&format!("board:{}:{part}", board.name)))
    }

    fn script(&self, script: &str, board: Board) -> redis::Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(3).arg(&self.names(board));
        command
    }

    async fn read_board(
        self: Arc<Self>,
        board: Board,
        seen: &mut BoardVersion,
    ) -> Result<Option<Vec<(Vec<u8>, u64)>>, StoreError> {
        let [_, _, version] = self.names(board);
        let mut command = redis::cmd("GET");
        command.arg(version);
        let version: Option<i64> = self.clone().ask(command).await?;
        if *seen == BoardVersion(Some(version)) {
            return Ok(None);
        }
        let command = self.script(READ, board);
        let entries: Vec<(Vec<u8>, u64)> = self.ask(command).await?;
        *seen = BoardVersion(Some(version));
        Ok(Some(entries))
    }
}

impl Store {
    /// Puts an entry on a board for a while, in place of one of this key. A store of this process has no boards: nobody
    /// else reads them.
    pub async fn post(&self, board: Board, entry: &Key, value: Vec<u8>, for_ms: u64) -> Result<(), StoreError> {
        let Kind::Shared(shared) = &self.kind else { return Ok(()) };
        let mut command = shared.script(POST, board);
        command.arg(entry.hex()).arg(value).arg(for_ms.max(1)).arg(board.capacity);
        shared.clone().ask::<i64>(command).await.map(drop)
    }

    /// Removes entries of a board.
    pub async fn take_down(&self, board: Board, entries: &[Key]) -> Result<(), StoreError> {
        let Kind::Shared(shared) = &self.kind else { return Ok(()) };
        let mut command = shared.script(TAKE_DOWN, board);
        command.arg(entries.iter().map(Key::hex).collect::<Vec<_>>());
        shared.clone().ask::<i64>(command).await.map(drop)
    }

    /// All entries of a board with the milliseconds that each has left; `None` where the board is as it was `seen`, but
    /// for entries that ended, or where no other gateway shares it.
    pub async fn board(
        &self,
        board: Board,
        seen: &mut BoardVersion,
    ) -> Result<Option<Vec<(Vec<u8>, u64)>>, StoreError> {
        match &self.kind {
            Kind::InProcess(_) => Ok(None),
            Kind::Shared(shared) => shared.clone().read_board(board, seen).await,
        }
    }
}
