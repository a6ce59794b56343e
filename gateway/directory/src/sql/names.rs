//! Comparison of user names. Databases compare more loosely than people expect: without accents, without case, without
//! blanks at the end. So what a database has found is compared again.

/// Whether the name in the database is the one that was typed.
pub(super) fn same(stored: &str, typed: &str, ignores_case: bool) -> bool {
    if ignores_case { stored.chars().map(fold).eq(typed.chars().map(fold)) } else { stored == typed }
}

/// Unicode's simple case folding (`CaseFolding.txt`, statuses C and S), up to which of two equivalent characters stands
/// for both: no character becomes two, and no locale counts.
fn fold(c: char) -> char {
    match c {
        // Its uppercase is `I`, whose lowercase is `i`; it is equivalent to neither.
        'ı' => c,
        _ => {
            let upper = only(c.to_uppercase(), c);
            only(upper.to_lowercase(), upper)
        }
    }
}

/// The character that a mapping has made, if it is one alone.
fn only(mut mapped: impl Iterator<Item = char>, otherwise: char) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r47_other_spellings_are_other_names_unless_case_alone_differs() {
        for typed in ["admin ", " admin", "ádmin", "admın", "admin\u{301}", "admi", "adminn", "admin\0", "ａdmin", ""]
        {
            assert!(!same("admin", typed, false) && !same("admin", typed, true), "{typed:?}");
        }
        assert!(same("admin", "admin", false) && !same("admin", "ADMIN", false) && same("admin", "ADMIN", true));
    }

    #[test]
    fn folding_is_simple_and_knows_no_locale() {
        for (left, right) in
            [("É", "é"), ("Σ", "ς"), ("σ", "ς"), ("ẞ", "ß"), ("K", "k"), ("ſ", "S"), ("Ǆ", "ǅ"), ("ᾼ", "ᾳ")]
        {
            assert!(same(left, right, true), "{left} {right}");
        }
        for (left, right) in [("İ", "i"), ("İ", "I"), ("ı", "i"), ("ı", "I"), ("ß", "ss"), ("ﬁ", "fi"), ("é", "e")]
        {
            assert!(!same(left, right, true), "{left} {right}");
        }
    }
}
