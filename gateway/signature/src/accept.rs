//! `Accept-Signature` (RFC 9421 §5.1).

use sfv::{DictSerializer, StringRef, key_ref};

/// The value that asks for a signature over these components: with the time at which it is made, a nonce, and the tag.
/// `None` where a name or the tag is no text of a structured field.
pub fn accept(components: &[&str], tag: Option<&str>) -> Option<String> {
    let mut field = DictSerializer::new();
    let mut list = field.inner_list(key_ref("sig"));
    for name in components {
        list.bare_item(StringRef::from_str(name).ok()?);
    }
    let parameters = list.finish().parameter(key_ref("created"), true);
    if let Some(tag) = tag {
        let _ = parameters.parameter(key_ref("tag"), StringRef::from_str(tag).ok()?);
    }
    field.finish()
}
