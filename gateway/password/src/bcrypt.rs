//! bcrypt: `$2b$cost$` with 22 characters of salt and 31 of hash.
//!
//! As in the original programs, 72 octets of the password count, with the NUL that ends it where there is room, and
//! nothing after a NUL counts. `$2a$`, `$2b$` and `$2y$` differ in how faults of old programs were handled, and are
//! the same for passwords in UTF-8 that are shorter than 256 octets: longer ones were cut by `$2a$` of OpenBSD before
//! 5.5 in a way of its own, which is not done here (nor by libxcrypt, PHP or Spring). `$2x$` marks hashes of a fault in
//! old versions of crypt_blowfish, which took octets for signed numbers.

use std::sync::Arc;

use blowfish::Blowfish;

use super::{Format, NotStored, Stored, c_string, digest, limits, phc, same};

struct Bcrypt {
    rounds_log2: u32,
    salt: [u8; 16],
    hash: [u8; 23],
    signed: bool,
    /// The password is the hexadecimal SHA-256 of the password, as Django's `bcrypt_sha256` has it.
    digested: bool,
}

impl Format for Bcrypt {
    fn cost(&self) -> String {
        format!("bcrypt cost {}", self.rounds_log2)
    }

    fn fits(&self, password: &[u8]) -> bool {
        let digested = self.digested.then(|| digest::sha256_hex(password).into_bytes());
        let key = key(digested.as_deref().unwrap_or(password), self.signed);
        same(&hash(&key, &self.salt, self.rounds_log2), &self.hash)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { salt: [0; 16], hash: [0; 23], ..*self })
    }
}

/// Reads `$2b$…`.
pub(super) fn read(text: &str, digested: bool) -> Result<Stored, NotStored> {
    let read = || {
        let (variant, cost, rest) = match text.split('$').collect::<Vec<_>>().as_slice() {
            ["", variant @ ("2a" | "2b" | "2x" | "2y"), cost, rest] => (*variant, *cost, *rest),
            _ => return None,
        };
        let (salt, hash) = rest.split_at_checked(22)?;
        let cost = cost.parse::<u32>().ok().filter(|_| cost.len() == 2)?;
        let salt = phc::base64_of_bcrypt(salt)?.try_into().ok()?;
        let hash = phc::base64_of_bcrypt(hash)?.try_into().ok()?;
        Some(Bcrypt { rounds_log2: cost, salt, hash, signed: variant == "2x", digested }).filter(|_| cost >= 4)
    };
    let bcrypt = read().ok_or_else(|| NotStored::broken("bcrypt"))?;
    if bcrypt.rounds_log2 > limits::BCRYPT_COST {
        return Err(NotStored::costly(&bcrypt.cost(), &format!("cost {}", limits::BCRYPT_COST)));
    }
    Ok(Stored::of(bcrypt))
}

/// The 72 octets of the key: the password with its NUL over and over again.
fn key(password: &[u8], signed: bool) -> Vec<u8> {
    let octets = c_string(password).iter().copied().chain([0]);
    let octets: Vec<u8> = octets.cycle().take(72).collect();
    if !signed {
        return octets;
    }
    // The fault: an octet with the highest bit overwrites what is left of it in its word of 32 bits.
    let extended = |octet: &u8| if *octet < 0x80 { u32::from(*octet) } else { 0xffff_ff00 | u32::from(*octet) };
    let word = |four: &[u8]| four.iter().fold(0u32, |word, octet| word << 8 | extended(octet));
    octets.chunks_exact(4).flat_map(|four| word(four).to_be_bytes()).collect()
}

fn hash(key: &[u8], salt: &[u8; 16], rounds_log2: u32) -> [u8; 23] {
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(salt, key);
    for _ in 0..1u32 << rounds_log2.min(limits::BCRYPT_COST) {
        state.bc_expand_key(key);
        state.bc_expand_key(salt);
    }
    let mut out = Vec::with_capacity(24);
    for pair in b"OrpheanBeholderScryDoubt".chunks_exact(8) {
        let word = |four: &[u8]| four.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet));
        let (left, right) = pair.split_at(4);
        let mut block = [word(left), word(right)];
        for _ in 0..64 {
            block = state.bc_encrypt(block);
        }
        out.extend(block.iter().flat_map(|word| word.to_be_bytes()));
    }
    let mut short = [0; 23];
    short.iter_mut().zip(out).for_each(|(to, from)| *to = from);
    short
}
