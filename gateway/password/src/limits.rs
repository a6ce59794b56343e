//! The highest costs that are paid for a row. They come from data, so each is bounded: one password must not take a
//! core for longer than about two seconds, nor more than 256 MiB.

/// Memory of one check, in octets.
pub(super) const MEMORY: u64 = 256 << 20;
/// Memory times passes of one check, in octets: argon2, scrypt and yescrypt.
pub(super) const MEMORY_PASSES: u64 = 1 << 30;
/// Iterations of PBKDF2, over all blocks of its output.
pub(super) const PBKDF2_ROUNDS: u64 = 5_000_000;
/// The cost of bcrypt, whose rounds are two to the power of it.
pub(super) const BCRYPT_COST: u32 = 14;
/// Rounds of sha-crypt.
pub(super) const SHA_CRYPT_ROUNDS: u32 = 1_000_000;
/// The binary logarithm of the rounds of phpass.
pub(super) const PHPASS_COST: u32 = 18;
