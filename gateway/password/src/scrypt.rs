//! scrypt (RFC 7914), and yescrypt, which is built upon it: `$scrypt$ln=…,r=…,p=…$salt$hash` and `$y$params$salt$hash`.
//!
//! A password for `$y$` ends at its first NUL, and one of more than 511 octets fits nothing, as in libxcrypt.

use std::sync::Arc;

use yescrypt::{Mode, Params};

use super::{Format, NotStored, Stored, c_string, limits, phc, same};

/// The octets of a password that crypt(3) takes.
const LONGEST: usize = 511;

struct Scrypt {
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Format for Scrypt {
    fn cost(&self) -> String {
        format!("scrypt N={},r={},p={}", self.params.n(), self.params.r(), self.params.p())
    }

    fn fits(&self, password: &[u8]) -> bool {
        let mut out = vec![0; self.hash.len()];
        yescrypt::yescrypt(password, &self.salt, &self.params, &mut out).is_ok() && same(&out, &self.hash)
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { params: self.params, salt: vec![0; self.salt.len()], hash: vec![0; self.hash.len()] })
    }
}

/// Checks the cost. N must be a power of two, of which the logarithm is given.
fn affordable(name: &str, n_log2: u32, r: u32, p: u32, t: u32) -> Result<u64, NotStored> {
    let broken = || NotStored::broken(name);
    let n = 1u64.checked_shl(n_log2).filter(|n| *n > 1 && r > 0 && p > 0).ok_or_else(broken)?;
    let memory = n.saturating_mul(128).saturating_mul(r.into());
    let blocks = u64::from(r).saturating_mul(p.into()).saturating_mul(128);
    let passes = memory.saturating_mul(p.into()).saturating_mul(u64::from(t).saturating_add(1));
    if memory > limits::MEMORY || blocks > limits::MEMORY || passes > limits::MEMORY_PASSES {
        let cost = format!("{name} N={n},r={r},p={p}");
        return Err(NotStored::costly(&cost, "256 MiB of memory, and 1 GiB over all passes"));
    }
    Ok(n)
}

/// A hash with its parameters; the logarithm of N is given.
pub(super) fn new(n_log2: u32, r: u32, p: u32, salt: Vec<u8>, hash: Vec<u8>) -> Result<Stored, NotStored> {
    let broken = || NotStored::broken("scrypt");
    let n = affordable("scrypt", n_log2, r, p, 0)?;
    if !(16..=64).contains(&hash.len()) || salt.len() > 128 {
        return Err(broken());
    }
    let params = Params::new(Mode::Classic, n, r, p).map_err(|_| broken())?;
    Ok(Stored::of(Scrypt { params, salt, hash }))
}

/// Reads `$scrypt$ln=…,r=…,p=…$salt$hash`.
pub(super) fn read_phc(text: &str) -> Result<Stored, NotStored> {
    let broken = || NotStored::broken("scrypt");
    let parts: Vec<&str> = text.split('$').skip(2).collect();
    let [parameters, salt, hash] = parts.as_slice() else { return Err(broken()) };
    let number = |name| phc::parameter(parameters, name).and_then(phc::number::<u32>).ok_or_else(broken);
    let (salt, hash) = (phc::base64(salt).ok_or_else(broken)?, phc::base64(hash).ok_or_else(broken)?);
    new(number("ln")?, number("r")?, number("p")?, salt, hash)
}

struct Yescrypt {
    params: Params,
    salt: Vec<u8>,
    hash: String,
}

impl Format for Yescrypt {
    fn cost(&self) -> String {
        format!("yescrypt N={},r={},p={}", self.params.n(), self.params.r(), self.params.p())
    }

    fn fits(&self, password: &[u8]) -> bool {
        let (password, mut out) = (c_string(password), [0; 32]);
        password.len() <= LONGEST
            && yescrypt::yescrypt(password, &self.salt, &self.params, &mut out).is_ok()
            && same(phc::base64_of_crypt(out).as_bytes(), self.hash.as_bytes())
    }

    fn decoy(&self) -> Arc<dyn Format> {
        Arc::new(Self { params: self.params, salt: vec![0; self.salt.len()], hash: ".".repeat(self.hash.len()) })
    }
}

/// Reads `$y$params$salt$hash`.
pub(super) fn read_yescrypt(text: &str) -> Result<Stored, NotStored> {
    let broken = || NotStored::broken("yescrypt");
    let parts: Vec<&str> = text.split('$').skip(2).collect();
    let [parameters, salt, hash] = parts.as_slice() else { return Err(broken()) };
    let parameters = Parameters::read(parameters).ok_or_else(broken)?;
    let salt = decode(salt).filter(|salt| salt.len() <= 64).ok_or_else(broken)?;
    if hash.len() != 43 {
        return Err(broken());
    }
    let Parameters { flavour, n_log2, r, p, t } = parameters;
    let n = affordable("yescrypt", n_log2, r, p, t)?;
    let mode = Mode::try_from(flavour).map_err(|_| broken())?;
    let params = Params::new_with_all_params(mode, n, r, p, t, 0).map_err(|_| broken())?;
    Ok(Stored::of(Yescrypt { params, salt, hash: (*hash).to_owned() }))
}

struct Parameters {
    flavour: u32,
    n_log2: u32,
    r: u32,
    p: u32,
    t: u32,
}

impl Parameters {
    fn read(text: &str) -> Option<Self> {
        let mut digits = text.bytes();
        let (flavour, n_log2, r) = (variable(&mut digits, 0)?, variable(&mut digits, 1)?, variable(&mut digits, 1)?);
        let present = if digits.len() == 0 { 0 } else { variable(&mut digits, 1)? };
        let p = if present & 1 == 0 { 1 } else { variable(&mut digits, 2)? };
        let t = if present & 2 == 0 { 0 } else { variable(&mut digits, 1)? };
        // Neither upgraded hashes nor those with a ROM were ever made by crypt(3).
        (present & !3 == 0 && digits.len() == 0 && n_log2 < 32).then_some(Self { flavour, n_log2, r, p, t })
    }
}

/// Reads a number of yescrypt: the first digit says how many follow.
fn variable(digits: &mut impl Iterator<Item = u8>, least: u32) -> Option<u32> {
    let first = phc::digit_of_crypt(digits.next()?)?;
    let (mut start, mut end, mut more, mut value) = (0u32, 47u32, 0u32, least);
    while first > end {
        value = value.checked_add((end + 1 - start).checked_shl(6 * more)?)?;
        start = end + 1;
        end = start + (62u32.checked_sub(end)?) / 2;
        more += 1;
    }
    value = value.checked_add((first - start).checked_shl(6 * more)?)?;
    for place in (0..more).rev() {
        value = value.checked_add(phc::digit_of_crypt(digits.next()?)? << (6 * place))?;
    }
    Some(value)
}

/// Decodes the base64 of crypt(3).
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for digit in text.bytes() {
        held |= phc::digit_of_crypt(digit)? << bits;
        bits += 6;
        if bits >= 8 {
            out.push(u8::try_from(held & 0xff).ok()?);
            held >>= 8;
            bits -= 8;
        }
    }
    Some(out)
}
