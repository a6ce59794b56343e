//! `$1$`, `$5$` and `$6$` of crypt(3): md5-crypt and sha-crypt.
//!
//! The password ends at its first NUL, and one of more than 511 octets fits nothing, as in libxcrypt.

use std::sync::Arc;

use aws_lc_rs::digest::{Algorithm, Context, SHA256, SHA512};
use idm_plan::LegacyFormat;
use md5::{Digest, Md5};

use super::{Format, NotStored, Stored, c_string, limits, phc, same};

/// The octets of a password that are taken.
const LONGEST: usize = 511;
/// Rounds of sha-crypt that are not written down.
const ROUNDS: u32 = 5000;

struct ShaCrypt {
    algorithm: &'static Algorithm,
    rounds: u32,
    salt: String,
    hash: String,
}

impl Format for ShaCrypt {
    fn cost(&self) -> String {
        let name = if self.algorithm == &SHA256 { "sha256-crypt" } else { "sha512-crypt" };
        format!("{name} rounds={}", self.rounds)
    }

    fn fits(&self, password: &[u8]) -> bool {
        let password = c_string(password);
        password.len() <= LONGEST && same(self.hashed(password).as_bytes(), self.hash.as_bytes())
    }

    fn decoy(&self) -> Arc<dyn Format> {
        let (salt, hash) = (".".repeat(self.salt.len()), ".".repeat(self.hash.len()));
        Arc::new(Self { salt, hash, ..*self })
    }
}

impl ShaCrypt {
    fn digest(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut context = Context::new(self.algorithm);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().to_vec()
    }

    fn hashed(&self, password: &[u8]) -> String {
        let salt = self.salt.as_bytes();
        let alternate = self.digest(&[password, salt, password]);
        let mut parts = vec![password, salt];
        let stretched = repeated(&alternate, password.len());
        parts.push(&stretched);
        let mut length = password.len();
        while length > 0 {
            parts.push(if length & 1 == 1 { &alternate } else { password });
            length >>= 1;
        }
        let mut hash = self.digest(&parts);
        let of_password = repeated(&self.digest(&vec![password; password.len()]), password.len());
        let times = 16 + usize::from(hash.first().copied().unwrap_or_default());
        let of_salt = repeated(&self.digest(&vec![salt; times]), salt.len());
        for round in 0..self.rounds {
            let odd = round & 1 == 1;
            let mut parts: [&[u8]; 4] = [&[]; 4];
            parts[0] = if odd { &of_password } else { &hash };
            parts[1] = if round % 3 != 0 { &of_salt } else { &[] };
            parts[2] = if round % 7 != 0 { &of_password } else { &[] };
            parts[3] = if odd { &hash } else { &of_password };
            hash = self.digest(&parts);
        }
        written(&hash)
    }
}

/// The octets over and over again, up to a length.
fn repeated(octets: &[u8], length: usize) -> Vec<u8> {
    octets.iter().copied().cycle().take(length).collect()
}

/// The order in which sha-crypt writes the octets of its hash.
fn written(hash: &[u8]) -> String {
    let third = hash.len() / 3;
    let at = |index: usize| hash.get(index).copied().unwrap_or_default();
    let mut octets = Vec::with_capacity(hash.len());
    for group in 0..third {
        let mut three = [at(group), at(group + third), at(group + 2 * third)];
        // SHA-512 turns its groups to the left and SHA-256 to the right.
        if hash.len() == 64 {
            three.rotate_left(group % 3)
        } else {
            three.rotate_right(group % 3)
        }
        three.reverse();
        octets.extend(three);
    }
    octets.extend(if hash.len() == 64 { vec![at(63)] } else { vec![at(30), at(31)] });
    phc::base64_of_crypt(octets)
}

/// Reads `$5$…` and `$6$…`.
pub(super) fn read_sha(text: &str) -> Result<Stored, NotStored> {
    let broken = || NotStored::broken("sha-crypt");
    let parts: Vec<&str> = text.split('$').skip(1).collect();
    let (id, rounds, salt, hash) = match parts.as_slice() {
        [id, rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").and_then(phc::number::<u32>).ok_or_else(broken)?;
            (*id, rounds, *salt, *hash)
        }
        [id, salt, hash] => (*id, ROUNDS, *salt, *hash),
        _ => return Err(broken()),
    };
    let (algorithm, length) = if id == "5" { (&SHA256, 43) } else { (&SHA512, 86) };
    let sha = ShaCrypt { algorithm, rounds, salt: salt.into(), hash: hash.into() };
    if salt.len() > 16 || hash.len() != length || rounds < 1000 {
        return Err(broken());
    }
    if rounds > limits::SHA_CRYPT_ROUNDS {
        return Err(NotStored::costly(&sha.cost(), &format!("rounds={}", limits::SHA_CRYPT_ROUNDS)));
    }
    Ok(Stored::of(sha))
}

struct Md5Crypt {
    salt: String,
    hash: String,
}

impl Format for Md5Crypt {
    fn cost(&self) -> String {
        "md5-crypt".into()
    }

    fn fits(&self, password: &[u8]) -> bool {
        let password = c_string(password);
        password.len() <= LONGEST && same(md5_crypt(password, self.salt.as_bytes()).as_bytes(), self.hash.as_bytes())
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { salt: ".".repeat(self.salt.len()), hash: ".".repeat(self.hash.len()) })
    }
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Md5::new();
    parts.iter().for_each(|part| context.update(part));
    context.finalize().into()
}

fn md5_crypt(password: &[u8], salt: &[u8]) -> String {
    let alternate = repeated(&md5(&[password, salt, password]), password.len());
    let mut parts: Vec<&[u8]> = vec![password, b"$1$", salt, &alternate];
    let first = password.get(..1).unwrap_or_default();
    let mut length = password.len();
    while length > 0 {
        parts.push(if length & 1 == 1 { &[0] } else { first });
        length >>= 1;
    }
    let mut hash = md5(&parts);
    for round in 0..1000 {
        let odd = round & 1 == 1;
        hash = md5(&[
            if odd { password } else { &hash },
            if round % 3 != 0 { salt } else { &[] },
            if round % 7 != 0 { password } else { &[] },
            if odd { &hash } else { password },
        ]);
    }
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15] = hash;
    phc::base64_of_crypt([b12, b6, b0, b13, b7, b1, b14, b8, b2, b15, b9, b3, b5, b10, b4, b11])
}

/// Reads `$1$…`.
pub(super) fn read_md5(text: &str) -> Result<Stored, NotStored> {
    match text.split('$').skip(2).collect::<Vec<_>>().as_slice() {
        [salt, hash] if salt.len() <= 8 && hash.len() == 22 => {
            let (salt, hash) = ((*salt).to_owned(), (*hash).to_owned());
            Ok(Stored::legacy(Md5Crypt { salt, hash }, LegacyFormat::Md5Crypt))
        }
        _ => Err(NotStored::broken("md5-crypt")),
    }
}
