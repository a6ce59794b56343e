//! The signatures of a message: `Signature-Input` and `Signature` (RFC 9421 §4).

use std::collections::HashSet;

use http::HeaderMap;
use sfv::{BareItem, FieldType, InnerList, ListEntry};

use crate::component::Component;
use crate::fields::dictionary;
use crate::{Message, SignatureError};

/// The signatures of one message that are read at most.
const MOST_SIGNATURES: usize = 8;
/// The components that one signature may cover.
const MOST_COMPONENTS: usize = 64;
/// The field with what was signed.
const INPUT: &str = "signature-input";
/// The field with the signatures.
const VALUES: &str = "signature";

/// The signatures of a message, in the order in which `Signature-Input` names them.
#[derive(Clone, Debug)]
pub struct Signatures {
    all: Vec<Signature>,
}

/// One signature, which is not verified.
#[derive(Clone, Debug)]
pub struct Signature {
    label: String,
    components: Vec<Component>,
    parameters: Parameters,
    /// The list of components with its parameters, in its strict serialization.
    list: String,
    value: Vec<u8>,
}

/// The parameters of a signature (RFC 9421 §2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The time of the signature, in seconds.
    pub created: Option<i64>,
    /// The time from which on it is void, in seconds.
    pub expires: Option<i64>,
    /// A value that is used once.
    pub nonce: Option<String>,
    /// The algorithm, as the registry of RFC 9421 names it.
    pub algorithm: Option<String>,
    /// The name of the key.
    pub keyid: Option<String>,
    /// The application that the signature is for.
    pub tag: Option<String>,
}

impl Signatures {
    /// Reads the signatures of a message; `None` where it has neither field. A message of which a part cannot be read
    /// has no signatures at all, so that two readers cannot disagree about which one counts.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, SignatureError> {
        let (input, mut values) = (dictionary(headers, INPUT)?, dictionary(headers, VALUES)?.unwrap_or_default());
        let input = match input {
            Some(input) => input,
            None if values.is_empty() => return Ok(None),
            None => sfv::Dictionary::new(),
        };
        if input.len() > MOST_SIGNATURES {
            return Err(SignatureError::TooMany { most: MOST_SIGNATURES, what: "signatures" });
        }
        let mut all = Vec::with_capacity(input.len());
        for (label, entry) in input {
            let label = label.as_str().to_owned();
            let ListEntry::InnerList(list) = entry else { return Err(SignatureError::Malformed(INPUT)) };
            let value = match values.shift_remove(label.as_str()) {
                Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence().map(<[u8]>::to_vec),
                Some(ListEntry::InnerList(_)) => None,
                None => return Err(SignatureError::Unpaired(label)),
            };
            let value = value.ok_or(SignatureError::Malformed(VALUES))?;
            all.push(Signature::read(label, list, value)?);
        }
        match values.into_iter().next() {
            Some((label, _)) => Err(SignatureError::Unpaired(label.as_str().to_owned())),
            None => Ok(Some(Self { all })),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Signature] {
        &self.all
    }
}

impl Signature {
    fn read(label: String, list: InnerList, value: Vec<u8>) -> Result<Self, SignatureError> {
        if list.items.len() > MOST_COMPONENTS {
            return Err(SignatureError::TooMany { most: MOST_COMPONENTS, what: "components" });
        }
        let components: Option<Vec<_>> = list.items.iter().map(Component::of).collect();
        let components = components.ok_or(SignatureError::Malformed(INPUT))?;
        let mut seen = HashSet::with_capacity(components.len());
        if let Some(twice) = components.iter().find(|component| !seen.insert(component.identifier.as_str())) {
            return Err(SignatureError::CoveredTwice(twice.identifier.clone()));
        }
        let parameters = Parameters::of(&list)?;
        let list = vec![ListEntry::InnerList(list)].serialize().ok_or(SignatureError::Malformed(INPUT))?;
        Ok(Self { label, components, parameters, list, value })
    }

    /// Its name in the message.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The signature itself.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Whether it covers the component of this name as a whole. The target URI holds scheme, authority, path and query.
    pub fn covers(&self, name: &str) -> bool {
        let has = |name: &str| self.components.iter().any(|component| component.name == name && component.is_whole());
        has(name) || matches!(name, "@scheme" | "@authority" | "@path" | "@query") && has("@target-uri")
    }

    /// The bytes that were signed (RFC 9421 §2.5).
    pub fn base(&self, message: Message<'_>) -> Result<Vec<u8>, SignatureError> {
        let mut base = Vec::with_capacity(512);
        for component in &self.components {
            base.extend_from_slice(component.identifier.as_bytes());
            base.extend_from_slice(b": ");
            base.extend_from_slice(&component.value(message)?);
            base.push(b'\n');
        }
        base.extend_from_slice(b"\"@signature-params\": ");
        base.extend_from_slice(self.list.as_bytes());
        Ok(base)
    }
}

impl Parameters {
    fn of(list: &InnerList) -> Result<Self, SignatureError> {
        let number = |name: &'static str| match list.params.get(name) {
            None => Ok(None),
            Some(BareItem::Integer(number)) => Ok(Some(i64::from(*number))),
            Some(_) => Err(SignatureError::WrongParameter(name)),
        };
        let text = |name: &'static str| match list.params.get(name) {
            None => Ok(None),
            Some(BareItem::String(text)) => Ok(Some(text.as_str().to_owned())),
            Some(_) => Err(SignatureError::WrongParameter(name)),
        };
        Ok(Self {
            created: number("created")?,
            expires: number("expires")?,
            nonce: text("nonce")?,
            algorithm: text("alg")?,
            keyid: text("keyid")?,
            tag: text("tag")?,
        })
    }
}
