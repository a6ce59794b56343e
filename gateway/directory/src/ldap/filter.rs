//! Filters as they are sent. Values are octets, so nothing is escaped and nothing can be injected.

use std::fmt::Write as _;

use idm_plan::LdapFilter;
use ldap3_lber::common::TagClass;
use ldap3_lber::structure::{PL, StructureTag};

/// A filter (RFC 4511 §4.5.1.7).
#[derive(Clone, Debug)]
pub(super) enum Filter {
    /// One that the Federation says.
    Of(LdapFilter),
    /// All of them.
    And(Vec<Filter>),
    /// One of them.
    Or(Vec<Filter>),
    /// The attribute has the value.
    Equal(String, Vec<u8>),
    /// The rule says that the attribute matches the value.
    Rule(&'static str, String, Vec<u8>),
}

/// An assertion that is true for every entry.
pub(super) fn any_entry() -> Filter {
    Filter::Of(LdapFilter::Present("objectClass".into()))
}

impl Filter {
    /// One of several, of which there is at least one.
    pub(super) fn one_of(mut filters: Vec<Filter>) -> Filter {
        if filters.len() == 1 { filters.remove(0) } else { Self::Or(filters) }
    }

    /// This filter, and that of the Federation where there is one.
    pub(super) fn under(self, condition: Option<&LdapFilter>) -> Filter {
        match condition {
            Some(condition) => Self::And(vec![Self::Of(condition.clone()), self]),
            None => self,
        }
    }

    /// The filter as it is sent.
    pub(super) fn tag(&self) -> StructureTag {
        match self {
            Self::Of(filter) => tag_of(filter),
            Self::And(all) => context(0, PL::C(all.iter().map(Self::tag).collect())),
            Self::Or(some) => context(1, PL::C(some.iter().map(Self::tag).collect())),
            Self::Equal(attribute, value) => assertion(3, attribute, value),
            Self::Rule(rule, attribute, value) => extensible(Some(rule), Some(attribute), value, false),
        }
    }

    /// The text of it (RFC 4515), for people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        let mut list = |operator: char, filters: &[Filter]| {
            out.push('(');
            out.push(operator);
            filters.iter().for_each(|filter| filter.write(out));
            out.push(')');
        };
        match self {
            Self::Of(filter) => write_of(filter, out),
            Self::And(all) => list('&', all),
            Self::Or(some) => list('|', some),
            Self::Equal(attribute, value) => write_item(out, attribute, "=", value),
            Self::Rule(rule, attribute, value) => write_item(out, &format!("{attribute}:{rule}:"), "=", value),
        }
    }
}

fn context(id: u64, payload: PL) -> StructureTag {
    StructureTag { class: TagClass::Context, id, payload }
}

fn octets(value: &[u8]) -> StructureTag {
    StructureTag { class: TagClass::Universal, id: 4, payload: PL::P(value.to_vec()) }
}

fn assertion(id: u64, attribute: &str, value: &[u8]) -> StructureTag {
    context(id, PL::C(vec![octets(attribute.as_bytes()), octets(value)]))
}

fn extensible(rule: Option<&str>, attribute: Option<&str>, value: &[u8], of_name: bool) -> StructureTag {
    let text = |id: u64, text: &[u8]| context(id, PL::P(text.to_vec()));
    let mut parts: Vec<StructureTag> = rule.iter().map(|rule| text(1, rule.as_bytes())).collect();
    parts.extend(attribute.iter().map(|attribute| text(2, attribute.as_bytes())));
    parts.push(text(3, value));
    if of_name {
        parts.push(text(4, &[0xff]));
    }
    context(9, PL::C(parts))
}

fn tag_of(filter: &LdapFilter) -> StructureTag {
    let value = |id, attribute: &String, value: &String| assertion(id, attribute, value.as_bytes());
    match filter {
        LdapFilter::And(all) => context(0, PL::C(all.iter().map(tag_of).collect())),
        LdapFilter::Or(some) => context(1, PL::C(some.iter().map(tag_of).collect())),
        LdapFilter::Not(filter) => context(2, PL::C(vec![tag_of(filter)])),
        LdapFilter::Equal(attribute, equal) => value(3, attribute, equal),
        LdapFilter::Substrings { attribute, initial, any, last } => {
            let part = |id, text: &String| context(id, PL::P(text.as_bytes().to_vec()));
            let mut parts: Vec<StructureTag> = initial.iter().map(|text| part(0, text)).collect();
            parts.extend(any.iter().map(|text| part(1, text)));
            parts.extend(last.iter().map(|text| part(2, text)));
            let parts = StructureTag { class: TagClass::Universal, id: 16, payload: PL::C(parts) };
            context(4, PL::C(vec![octets(attribute.as_bytes()), parts]))
        }
        LdapFilter::AtLeast(attribute, least) => value(5, attribute, least),
        LdapFilter::AtMost(attribute, most) => value(6, attribute, most),
        LdapFilter::Present(attribute) => context(7, PL::P(attribute.as_bytes().to_vec())),
        LdapFilter::Approximate(attribute, similar) => value(8, attribute, similar),
        LdapFilter::Rule { rule, attribute, value, of_name } => {
            extensible(rule.as_deref(), attribute.as_deref(), value.as_bytes(), *of_name)
        }
    }
}

fn write_of(filter: &LdapFilter, out: &mut String) {
    let mut list = |operator: char, filters: &[LdapFilter]| {
        out.push('(');
        out.push(operator);
        filters.iter().for_each(|filter| write_of(filter, out));
        out.push(')');
    };
    match filter {
        LdapFilter::And(all) => list('&', all),
        LdapFilter::Or(some) => list('|', some),
        LdapFilter::Not(filter) => list('!', std::slice::from_ref(filter.as_ref())),
        LdapFilter::Equal(attribute, value) => write_item(out, attribute, "=", value.as_bytes()),
        LdapFilter::Substrings { attribute, initial, any, last } => {
            let _ = write!(out, "({attribute}=");
            escape(initial.as_deref().unwrap_or_default().as_bytes(), out);
            for part in any {
                out.push('*');
                escape(part.as_bytes(), out);
            }
            out.push('*');
            escape(last.as_deref().unwrap_or_default().as_bytes(), out);
            out.push(')');
        }
        LdapFilter::AtLeast(attribute, value) => write_item(out, attribute, ">=", value.as_bytes()),
        LdapFilter::AtMost(attribute, value) => write_item(out, attribute, "<=", value.as_bytes()),
        LdapFilter::Present(attribute) => {
            let _ = write!(out, "({attribute}=*)");
        }
        LdapFilter::Approximate(attribute, value) => write_item(out, attribute, "~=", value.as_bytes()),
        LdapFilter::Rule { rule, attribute, value, of_name } => {
            let mut left = attribute.clone().unwrap_or_default();
            left.push_str(if *of_name { ":dn" } else { "" });
            if let Some(rule) = rule {
                let _ = write!(left, ":{rule}");
            }
            write_item(out, &left, ":=", value.as_bytes());
        }
    }
}

fn write_item(out: &mut String, attribute: &str, operator: &str, value: &[u8]) {
    let _ = write!(out, "({attribute}{operator}");
    escape(value, out);
    out.push(')');
}

/// RFC 4515 §3; control characters are escaped as well, because people read it on terminals.
fn escape(value: &[u8], out: &mut String) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            if matches!(character, '*' | '(' | ')' | '\\') || character.is_control() {
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| {
                    let _ = write!(out, "\\{octet:02x}");
                });
            } else {
                out.push(character);
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(out, "\\{octet:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use ldap3_proto::proto::{LdapFilter as Theirs, LdapMatchingRuleAssertion, LdapSubstringFilter};
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Filter {
        Filter::Of(LdapFilter::parse(text).unwrap())
    }

    #[test]
    fn the_text_of_a_filter_is_what_it_was_read_from() {
        for text in [
            "(&(objectClass=person)(!(sn=x)))",
            "(|(o=univ*of*mich*)(o=*x)(o=a*))",
            "(cn=\\28\\29\\2a\\5c)",
            "(n>=3)",
            "(n<=3)",
            "(n~=3)",
            "(cn=*)",
            "(userAccountControl:1.2.840.113556.1.4.803:=2)",
            "(:dn:2.4.6.8.10:=Dino)",
            "(ou:dn:=Dino)",
        ] {
            assert_eq!(of(text).text(), text);
        }
        assert_eq!(Filter::Equal("objectGUID".into(), vec![0xff, b'a', 0, 10]).text(), "(objectGUID=\\ffa\\00\\0a)");
        assert_eq!(Filter::Rule("1.2.3", "member".into(), b"cn=a".to_vec()).text(), "(member:1.2.3:=cn=a)");
        assert_eq!(of("(a=b)").under(LdapFilter::parse("(c=d)").ok().as_ref()).text(), "(&(c=d)(a=b))");
    }

    #[test]
    fn the_codec_reads_what_is_sent_as_the_same_filter() {
        let text = |text: &str| text.to_owned();
        let substrings =
            LdapSubstringFilter { initial: Some(text("a")), any: vec![text("b")], final_: Some(text("c")) };
        let rule = |matching_rule, type_, dn_attributes| LdapMatchingRuleAssertion {
            matching_rule,
            type_,
            match_value: text("v"),
            dn_attributes,
        };
        for (sent, read) in [
            ("(a=b)", Theirs::Equality(text("a"), text("b"))),
            ("(a=*)", Theirs::Present(text("a"))),
            ("(a>=b)", Theirs::GreaterOrEqual(text("a"), text("b"))),
            ("(a<=b)", Theirs::LessOrEqual(text("a"), text("b"))),
            ("(a~=b)", Theirs::Approx(text("a"), text("b"))),
            ("(o=a*b*c)", Theirs::Substring(text("o"), substrings)),
            ("(!(a=*))", Theirs::Not(Box::new(Theirs::Present(text("a"))))),
            ("(&(a=*)(b=*))", Theirs::And(vec![Theirs::Present(text("a")), Theirs::Present(text("b"))])),
            ("(|(a=*)(b=*))", Theirs::Or(vec![Theirs::Present(text("a")), Theirs::Present(text("b"))])),
            ("(a:1.2:=v)", Theirs::Extensible(rule(Some(text("1.2")), Some(text("a")), false))),
            ("(:dn:1.2:=v)", Theirs::Extensible(rule(Some(text("1.2")), None, true))),
        ] {
            assert_eq!(Theirs::try_from(of(sent).tag()).ok(), Some(read), "{sent}");
        }
    }

    proptest! {
        #[test]
        fn r17_every_value_arrives_as_equality_with_exactly_it(value: String, octets: Vec<u8>) {
            let sent = Filter::Equal("uid".into(), value.clone().into_bytes()).tag();
            prop_assert_eq!(Theirs::try_from(sent).ok(), Some(Theirs::Equality("uid".into(), value.clone())));
            // The text of it is one assertion, too, and reads as the same value.
            let text = Filter::Equal("uid".into(), value.clone().into_bytes()).text();
            prop_assert_eq!(LdapFilter::parse(&text), Ok(LdapFilter::Equal("uid".into(), value)));
            let PL::C(parts) = Filter::Equal("uid".into(), octets.clone()).tag().payload else { panic!() };
            prop_assert_eq!(&parts[1].payload, &PL::P(octets));
        }
    }
}
