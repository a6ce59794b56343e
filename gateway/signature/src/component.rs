//! The components of a request that a signature can cover, and their values (RFC 9421 §2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{byte_serialize, parse};
use sfv::{BareItem, Dictionary, FieldType, Item, ItemSerializer, ListEntry};

use crate::fields::{Flaw, combined, dictionary, read_dictionary, values};
use crate::{Message, SignatureError};

/// Fields that are dictionaries, so that they have one strict serialization (`sf`).
const DICTIONARIES: [&str; 5] =
    ["content-digest", "repr-digest", "want-content-digest", "want-repr-digest", "priority"];
/// The derived components that a request has in every version of HTTP. `@request-target` differs between versions.
const DERIVED: [&str; 6] = ["@method", "@authority", "@scheme", "@target-uri", "@path", "@query"];

/// Whether a policy can demand a component of this name: a derived one, or a field in lower case that signatures cover
/// as a whole.
pub fn is_component(name: &str) -> bool {
    DERIVED.contains(&name) || is_field(name) && !matches!(name, "signature" | "signature-input")
}

fn is_field(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == name)
}

/// One covered component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    /// Its name.
    pub(crate) name: String,
    /// Its name with parameters, as the base has it.
    pub(crate) identifier: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A derived component without parameters.
    Derived,
    /// One parameter of the query, by its encoded name.
    QueryParameter(String),
    /// A whole field.
    Field,
    /// A field as a list of its lines in base64 (`bs`).
    Encoded,
    /// A field in its strict serialization (`sf`).
    Strict(&'static str),
    /// One member of a field that is a dictionary (`key`).
    Member(String),
    /// None that a request has. A signature of another party may cover it, and is of no use here.
    Unsupported,
}

impl Component {
    /// Reads an item of the list of covered components; `None` where it is not the name of one.
    pub(crate) fn of(item: &Item) -> Option<Self> {
        let name = item.bare_item.as_string()?.as_str().to_owned();
        let identifier = ItemSerializer::new().bare_item(&item.bare_item).parameters(&item.params).finish();
        let mut parameters = item.params.iter().map(|(key, value)| (key.as_str(), value));
        let kind = match (parameters.next(), parameters.next()) {
            (parameter, None) => Kind::of(&name, parameter),
            // Each parameter alone has one meaning; combinations are for responses and trailers.
            (_, Some(_)) => None,
        };
        Some(Self { name, identifier, kind: kind.unwrap_or(Kind::Unsupported) })
    }

    /// Whether it is the whole component of its name: a part of a field or another serialization is not.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.kind, Kind::Derived | Kind::Field | Kind::Encoded | Kind::Strict(_))
    }

    /// Its value in a request.
    pub(crate) fn value(&self, message: Message<'_>) -> Result<Vec<u8>, SignatureError> {
        let absent = || SignatureError::Absent(self.identifier.clone());
        let value = match &self.kind {
            Kind::Derived => self.derived(message).into_bytes(),
            Kind::QueryParameter(name) => self.query_parameter(message, name)?.into_bytes(),
            Kind::Field => combined(message.headers, &self.name).ok_or_else(absent)?,
            Kind::Encoded => {
                let lines = values(message.headers, &self.name);
                if lines.is_empty() {
                    return Err(absent());
                }
                let lines: Vec<String> = lines.iter().map(|line| format!(":{}:", STANDARD.encode(line))).collect();
                lines.join(", ").into_bytes()
            }
            Kind::Strict(name) => {
                let strict: Dictionary = dictionary(message.headers, name)?.ok_or_else(absent)?;
                strict.serialize().ok_or_else(absent)?.into_bytes()
            }
            Kind::Member(key) => self.member(message, key)?.into_bytes(),
            Kind::Unsupported => return Err(SignatureError::Unsupported(self.identifier.clone())),
        };
        // A visible byte, a space or a tab: no line of the base can be made of the value of another.
        if value.iter().all(|byte| matches!(byte, 0x20..=0x7e | b'\t')) {
            Ok(value)
        } else {
            Err(SignatureError::NotAscii(self.identifier.clone()))
        }
    }

    fn derived(&self, message: Message<'_>) -> String {
        match self.name.as_str() {
            "@method" => message.method.to_owned(),
            "@authority" => message.normal_authority().to_owned(),
            "@scheme" => message.scheme().to_owned(),
            "@path" => message.path.to_owned(),
            "@query" => message.marked_query(),
            // `@target-uri`; no other name is read.
            _ => {
                let query = message.query.map(|query| format!("?{query}")).unwrap_or_default();
                format!("{}://{}{}{query}", message.scheme(), message.normal_authority(), message.path)
            }
        }
    }

    /// RFC 9421 §2.2.8: both name and value are decoded and encoded again, so that they have one spelling.
    fn query_parameter(&self, message: Message<'_>, name: &str) -> Result<String, SignatureError> {
        let again = |text: &str| byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20");
        let query = message.query.unwrap_or_default();
        let mut found = parse(query.as_bytes()).filter(|(key, _)| again(key) == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(again(&value)),
            (None, _) => Err(SignatureError::Absent(self.identifier.clone())),
            (Some(_), Some(_)) => Err(SignatureError::Ambiguous(self.identifier.clone())),
        }
    }

    fn member(&self, message: Message<'_>, key: &str) -> Result<String, SignatureError> {
        let absent = || SignatureError::Absent(self.identifier.clone());
        let text = combined(message.headers, &self.name).ok_or_else(absent)?;
        let whole = read_dictionary(&text).map_err(|flaw| match flaw {
            Flaw::Malformed => SignatureError::Unsupported(self.identifier.clone()),
            Flaw::Repeated => SignatureError::Ambiguous(self.identifier.clone()),
        })?;
        match whole.get(key).ok_or_else(absent)? {
            ListEntry::Item(item) => Ok(item.serialize()),
            list @ ListEntry::InnerList(_) => vec![list.clone()].serialize().ok_or_else(absent),
        }
    }
}

impl Kind {
    fn of(name: &str, parameter: Option<(&str, &BareItem)>) -> Option<Self> {
        let text = |value: &BareItem| value.as_string().map(|text| text.as_str().to_owned());
        match (name.starts_with('@'), parameter) {
            (true, None) => DERIVED.contains(&name).then_some(Kind::Derived),
            (true, Some(("name", value))) if name == "@query-param" => text(value).map(Kind::QueryParameter),
            (true, Some(_)) => None,
            (false, _) if !is_field(name) => None,
            (false, None) => Some(Kind::Field),
            (false, Some(("bs", BareItem::Boolean(true)))) => Some(Kind::Encoded),
            (false, Some(("sf", BareItem::Boolean(true)))) => {
                DICTIONARIES.into_iter().find(|known| *known == name).map(Kind::Strict)
            }
            (false, Some(("key", value))) => text(value).map(Kind::Member),
            (false, Some(_)) => None,
        }
    }
}
