//! Equality of user names without regard to case, never by the process' locale.

/// A text under Unicode's simple case folding, in which each character stays one character: `ẞ` and `ß` are the same,
/// `ß` and `ss` are not, and `I`, `İ` and `ı` are `i`, `İ` and `ı`.
pub(crate) fn fold(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// The capital's small letter: so characters with the same capital meet, such as `σ` and `ς`.
fn fold_char(c: char) -> char {
    // The capital of the dotless i is that of the dotted one, which is another letter.
    if c == 'ı' {
        return c;
    }
    let capital = only(c.to_uppercase()).unwrap_or(c);
    only(capital.to_lowercase()).or_else(|| only(c.to_lowercase())).unwrap_or(c)
}

fn only(mut characters: impl Iterator<Item = char>) -> Option<char> {
    characters.next().filter(|_| characters.next().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_folded_name_stays_as_it_is(name: String) {
            prop_assert_eq!(fold(&fold(&name)), fold(&name));
        }
    }

    #[test]
    fn r26_names_differ_in_case_alone_or_not_at_all() {
        for (one, other) in [
            ("ANA", "ana"),
            ("ÄÖÜ", "äöü"),
            ("ΣΑΣ", "σας"),
            ("ΣΑΣ", "σασ"),
            ("STRAẞE", "straße"),
            ("ЖАННА", "жанна"),
            ("\u{212a}arl", "karl"),
            ("Ǆ", "ǅ"),
            ("É", "é"),
            ("ſ", "S"),
            ("ᾼ", "ᾳ"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        for (one, other) in [
            ("I", "ı"),
            ("İ", "i"),
            ("İ", "I"),
            ("straße", "strasse"),
            ("ﬁ", "fi"),
            ("á", "a"),
            ("a\u{301}", "á"),
            ("ana ", "ana"),
        ] {
            assert_ne!(fold(one), fold(other), "{one} {other}");
        }
    }
}
