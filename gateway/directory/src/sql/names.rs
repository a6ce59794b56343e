//! Comparison of user names. Databases compare more loosely than people expect: without accents, without case, without
//! blanks at the end. So what a database has found is compared again.

use crate::fold::fold;

/// Whether the name in the database is the one that was typed.
pub(super) fn same(stored: &str, typed: &str, ignores_case: bool) -> bool {
    if ignores_case { fold(stored) == fold(typed) } else { stored == typed }
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
}
