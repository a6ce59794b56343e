//! The format of a sealed value:
//!
//! ```text
//! "\0idm-sealed" | version 1 | length, key id | length, wrapped data key | nonce | ciphertext | tag
//! ```
//!
//! Everything before the nonce, and the place of the value, are authenticated with it.

use idm_types::Redacted;

use crate::DataKey;

const MAGIC: &[u8] = b"\0idm-sealed";
const VERSION: u8 = 1;
/// The most characters of the id of a key: those of the clouds have fewer.
const MAX_KEY_ID: usize = 200;
/// The most bytes of a wrapped data key.
const MAX_WRAPPED: usize = 4096;

/// The place of a value: it opens there and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The namespace of the object.
    pub namespace: &'a str,
    /// The name of the object.
    pub object: &'a str,
    /// The field of the object.
    pub field: &'a str,
}

/// A sealed value, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    key_id: String,
    wrapped: Vec<u8>,
    /// Nonce, ciphertext and tag.
    encrypted: Vec<u8>,
}

/// Whether these bytes are a sealed value of some version.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether a text can be the id of a key: printable ASCII without spaces, of 1 to 200 characters.
pub(crate) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Sealed {
    /// Seals a value under a data key, which is wrapped by the key of this id. `None`: the id or what is wrapped has no
    /// room in the format.
    pub(crate) fn seal(
        key: &DataKey,
        key_id: &str,
        wrapped: &[u8],
        place: &Place<'_>,
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        if !is_key_id(key_id) || wrapped.is_empty() || wrapped.len() > MAX_WRAPPED {
            return None;
        }
        let mut bytes = head(key_id, wrapped);
        let encrypted = key.encrypt(&belongs_to(&bytes, place), plain)?;
        bytes.extend_from_slice(&encrypted);
        Some(bytes)
    }

    /// Reads a sealed value; `None` for bytes that are none of this version.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (&version, rest) = rest.split_first()?;
        if version != VERSION {
            return None;
        }
        let (&length, rest) = rest.split_first()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(length))?;
        let key_id = std::str::from_utf8(key_id).ok().filter(|id| is_key_id(id))?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (wrapped, encrypted) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let is_wrapped = (1..=MAX_WRAPPED).contains(&wrapped.len());
        is_wrapped.then(|| Self { key_id: key_id.to_owned(), wrapped: wrapped.to_vec(), encrypted: encrypted.to_vec() })
    }

    /// The id of the key that wrapped its data key. Nothing has shown yet that it is true.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The wrapped data key.
    pub(crate) fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// Opens it with its data key; `None`: it was changed, or belongs to another place or key.
    pub(crate) fn open(&self, key: &DataKey, place: &Place<'_>) -> Option<Redacted<Vec<u8>>> {
        key.decrypt(&belongs_to(&head(&self.key_id, &self.wrapped), place), &self.encrypted)
    }
}

/// Everything before the nonce. The lengths were checked.
fn head(key_id: &str, wrapped: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[VERSION, key_id.len() as u8]);
    bytes.extend_from_slice(key_id.as_bytes());
    bytes.extend_from_slice(&(wrapped.len() as u16).to_be_bytes());
    bytes.extend_from_slice(wrapped);
    bytes
}

fn belongs_to(head: &[u8], place: &Place<'_>) -> Vec<u8> {
    let Place { namespace, object, field } = place;
    let mut all = Vec::new();
    for part in [head, namespace.as_bytes(), object.as_bytes(), field.as_bytes()] {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place { namespace: "shop", object: "idm-gateway", field: "bundle" };

    fn sealed(key: &DataKey, plain: &[u8]) -> Vec<u8> {
        Sealed::seal(key, "k1", b"wrapped", &PLACE, plain).unwrap()
    }

    #[test]
    fn a_value_names_its_key_and_opens_in_its_own_place_only() {
        let key = DataKey::random().unwrap();
        let bytes = sealed(&key, b"hunter2");
        let read = Sealed::parse(&bytes).unwrap();
        assert!(is_sealed(&bytes) && !is_sealed(b"hunter2"));
        assert_eq!((read.key_id(), read.wrapped()), ("k1", &b"wrapped"[..]));
        assert_eq!(read.open(&key, &PLACE).unwrap().reveal(), b"hunter2");
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
        for place in [
            Place { namespace: "other", ..PLACE },
            Place { object: "idm-gateway-2", ..PLACE },
            Place { field: "store-password", ..PLACE },
            Place { namespace: "shopi", object: "dm-gateway", ..PLACE },
        ] {
            assert!(read.open(&key, &place).is_none(), "{place:?}");
        }
    }

    #[test]
    fn what_has_no_room_in_the_format_is_not_sealed() {
        let key = DataKey::random().unwrap();
        let seal = |id: &str, wrapped: &[u8]| Sealed::seal(&key, id, wrapped, &PLACE, b"");
        for id in ["", "a b", "a\n", "\u{e9}", &"k".repeat(201)] {
            assert!(seal(id, b"w").is_none(), "{id}");
        }
        assert!(seal("k", b"").is_none() && seal("k", &[0; 4097]).is_none());
        let longest = "k".repeat(200);
        assert_eq!(Sealed::parse(&seal(&longest, &[0; 4096]).unwrap()).unwrap().key_id(), longest);
    }

    proptest! {
        #[test]
        fn any_changed_byte_and_any_cut_is_refused(plain: Vec<u8>, at: prop::sample::Index, by in 1u8..) {
            let key = DataKey::random().unwrap();
            let good = sealed(&key, &plain);
            let mut changed = good.clone();
            let at = at.index(good.len());
            changed[at] ^= by;
            let opened = |bytes: &[u8]| Sealed::parse(bytes).and_then(|sealed| sealed.open(&key, &PLACE));
            prop_assert!(opened(&changed).is_none(), "byte {at}");
            prop_assert!(opened(&good[..at]).is_none(), "the first {at} bytes");
            let opened = opened(&good).unwrap();
            prop_assert_eq!(opened.reveal(), &plain);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_back(tail: Vec<u8>) {
            let bytes = [MAGIC, &[VERSION], &tail].concat();
            if let Some(sealed) = Sealed::parse(&bytes) {
                let again = [head(&sealed.key_id, &sealed.wrapped), sealed.encrypted].concat();
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
