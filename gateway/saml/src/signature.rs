//! Enveloped XML signatures, verified so that what was signed is all that is read.

use aws_lc_rs::digest::digest;
use roxmltree::Node;

use crate::SamlError;
use crate::c14n::canonical;
use crate::key::{Algorithm, OwnKey, VerifyingKey, from_base64, hash, to_base64};
use crate::xml::{DSIG, EXC_C14N, attribute, children, is, parse, text, wanted};

const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

/// Whether an element carries a signature of its own.
pub(crate) fn is_signed(element: Node<'_, '_>) -> bool {
    children(element, DSIG, "Signature").next().is_some()
}

/// The canonical form of an element whose own signature one of the keys made, without that signature. Whoever wants to
/// know what was signed reads this text and no other.
pub(crate) fn verified(element: Node<'_, '_>, keys: &[VerifyingKey]) -> Result<String, SamlError> {
    let mut signatures = children(element, DSIG, "Signature");
    let signature = match (signatures.next(), signatures.next()) {
        (Some(one), None) => one,
        (None, _) => return Err(SamlError::NotSigned),
        _ => return Err(SamlError::Signature("there are several signatures")),
    };
    // Nothing but what is understood: an `Object` could hold the element that was signed, and this one another.
    if signature.children().any(|child| {
        child.is_element() && !["SignedInfo", "SignatureValue", "KeyInfo"].iter().any(|name| is(child, DSIG, name))
    }) {
        return Err(SamlError::Signature("it holds something that is not understood"));
    }
    let info = wanted(signature, DSIG, "SignedInfo")?;
    let method = wanted(info, DSIG, "CanonicalizationMethod")?;
    let info_prefixes = exclusive(method)?;
    let algorithm =
        Algorithm::from_uri(attribute(wanted(info, DSIG, "SignatureMethod")?, "Algorithm").unwrap_or_default())?;
    let reference =
        wanted(info, DSIG, "Reference").map_err(|_| SamlError::Signature("it has not exactly one reference"))?;
    // It must speak of the very element that it stands in, and nothing else may bear that name.
    let id =
        attribute(element, "ID").filter(|id| !id.is_empty()).ok_or(SamlError::Signature("the element has no `ID`"))?;
    if attribute(reference, "URI").and_then(|uri| uri.strip_prefix('#')) != Some(id) {
        return Err(SamlError::Signature("it signs another element than the one it stands in"));
    }
    let named = element
        .document()
        .descendants()
        .flat_map(|node| node.attributes())
        .filter(|attribute| attribute.name().eq_ignore_ascii_case("id") && attribute.value() == id);
    if named.count() != 1 {
        return Err(SamlError::Signature("two elements have the same `ID`"));
    }
    let transforms = wanted(reference, DSIG, "Transforms")?;
    let transforms: Vec<Node<'_, '_>> = transforms.children().filter(Node::is_element).collect();
    let prefixes = match transforms.as_slice() {
        [first, second] if attribute(*first, "Algorithm") == Some(ENVELOPED) => exclusive(*second)?,
        _ => {
            return Err(SamlError::Signature(
                "its transforms are not those of an enveloped signature and exclusive canonicalization",
            ));
        }
    };
    let hash = hash(attribute(wanted(reference, DSIG, "DigestMethod")?, "Algorithm").unwrap_or_default())?;
    // The signature first: what is not signed by a known key is not worth a look.
    let signed_info = canonical(info, None, &info_prefixes)?;
    let value = from_base64(&text(wanted(signature, DSIG, "SignatureValue")?)?)?;
    if !keys.iter().any(|key| key.verifies(algorithm, signed_info.as_bytes(), &value)) {
        return Err(SamlError::UnknownSigner);
    }
    let signed = canonical(element, Some(signature.id()), &prefixes)?;
    let expected = from_base64(&text(wanted(reference, DSIG, "DigestValue")?)?)?;
    if digest(hash, signed.as_bytes()).as_ref() != expected {
        return Err(SamlError::Signature("the element was changed after it was signed"));
    }
    Ok(signed)
}

/// The prefixes of an exclusive canonicalization; every other method is refused by its name.
fn exclusive<'a>(method: Node<'a, '_>) -> Result<Vec<&'a str>, SamlError> {
    let named = attribute(method, "Algorithm").unwrap_or_default();
    if named != EXC_C14N {
        return Err(SamlError::algorithm(named));
    }
    let mut prefixes = Vec::new();
    for child in method.children().filter(Node::is_element) {
        if !is(child, EXC_C14N, "InclusiveNamespaces") {
            return Err(SamlError::Signature("a canonicalization has a parameter that is not understood"));
        }
        prefixes.extend(attribute(child, "PrefixList").unwrap_or_default().split_ascii_whitespace());
    }
    Ok(prefixes)
}

/// Signs a message of our own. `message` must be one element with an `ID` and an `Issuer` as its first child, after
/// which the signature is put.
pub(crate) fn signed(message: &str, id: &str, key: &OwnKey) -> Result<String, SamlError> {
    let canonical_form = canonical(parse(message)?.root_element(), None, &[])?;
    let digest = to_base64(digest(&aws_lc_rs::digest::SHA256, canonical_form.as_bytes()).as_ref());
    let info = format!(
        "<ds:SignedInfo xmlns:ds=\"{DSIG}\"><ds:CanonicalizationMethod \
            Algorithm=\"{EXC_C14N}\"></ds:CanonicalizationMethod><ds:SignatureMethod \
            Algorithm=\"{}\"></ds:SignatureMethod>\
         <ds:Reference URI=\"#{id}\"><ds:Transforms><ds:Transform \
         Algorithm=\"{ENVELOPED}\"></ds:Transform><ds:Transform \
         Algorithm=\"{EXC_C14N}\"></ds:Transform></ds:Transforms>\
         <ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\"></ds:DigestMethod>\
         <ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>",
        key.algorithm().uri()
    );
    let value = to_base64(&key.sign(info.as_bytes())?);
    let signature = format!(
        "<ds:Signature xmlns:ds=\"{DSIG}\">{info}<ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo>\
            <ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>",
        key.certificate()
    );
    let (before, after) = canonical_form.split_once("</saml:Issuer>").ok_or(SamlError::Missing("Issuer"))?;
    Ok(format!("{before}</saml:Issuer>{signature}{after}"))
}
