//! The names by which wrong guesses at passwords are counted.

use idm_limit::User;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::directory::{ArmedDirectory, TypedName};

/// The user whose password is guessed. Namespaces have users of their own.
#[derive(Debug)]
pub(crate) struct GuessedUser {
    name: String,
    account: String,
}

impl GuessedUser {
    /// A user whose password is that of a Credential.
    pub(crate) fn of_credential(namespace: &str, username: &str) -> Self {
        let name = format!("{namespace}/{}", folded(username));
        Self { name, account: format!("{namespace}/{username}") }
    }

    /// A client of a token service: guesses at its secret never lock a user out.
    pub(crate) fn of_client(namespace: &str, id: &str) -> Self {
        let name = format!("{namespace} client {id}");
        Self { account: name.clone(), name }
    }

    /// A user of a directory.
    pub(crate) fn of_directory(directory: &ArmedDirectory, typed: &TypedName) -> Self {
        let account = format!("{} {}", directory.issuer(), typed.username);
        Self { account, ..Self::unknown(&directory.federation().key.namespace, typed) }
    }

    /// A user whom no source of people knows, and whose failures nobody takes back.
    pub(crate) fn unknown(namespace: &str, typed: &TypedName) -> Self {
        let name = format!("{namespace}/{}", folded(typed.bare.as_ref().unwrap_or(&typed.username)));
        Self { account: format!("unknown {name}"), name }
    }

    /// The name, which has no white space unless it is a client's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl<'a> From<&'a GuessedUser> for User<'a> {
    fn from(GuessedUser { name, account }: &'a GuessedUser) -> Self {
        Self { name, account }
    }
}

/// A form of a user name that is equal for all spellings that a directory may take for the same name: directories
/// ignore case, accents, widths and compatibility forms of characters, characters without a width, spaces, and perhaps
/// a domain before a backslash. It may be equal for the names of several people, and identifies nobody.
fn folded(name: &str) -> String {
    let name = name.rsplit('\\').next().unwrap_or(name);
    let capitals = name.chars().flat_map(char::to_uppercase);
    let letters = capitals.nfkd().filter(|c| !is_ignored(*c)).flat_map(char::to_lowercase);
    let mut folded = String::with_capacity(name.len());
    letters.for_each(|letter| push_base(letter, &mut folded));
    folded
}

fn is_ignored(c: char) -> bool {
    // Unicode's Default_Ignorable_Code_Point, which contains the characters without a width.
    let is_default_ignorable = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    c.is_whitespace() || c.is_control() || is_combining_mark(c) || is_default_ignorable
}

/// Appends the letters that databases compare in place of one that Unicode does not decompose.
fn push_base(letter: char, out: &mut String) {
    match letter {
        'ø' => out.push('o'),
        'ł' => out.push('l'),
        'đ' | 'ð' => out.push('d'),
        'ħ' => out.push('h'),
        'ŧ' => out.push('t'),
        'ß' => out.push_str("ss"),
        'æ' => out.push_str("ae"),
        'œ' => out.push_str("oe"),
        'þ' => out.push_str("th"),
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_every_spelling_that_a_directory_takes_for_a_name_is_counted_as_one() {
        let spellings = [
            ("susan", "SUSAN"),
            ("susan", "ſuſan"),
            ("susan", "ｓｕｓａｎ"),
            ("susan", " su\u{200b}s\u{ad}an\u{feff}"),
            ("susan", "su\u{a0}san\t"),
            ("susan", "CORP\\susan"),
            ("susan", "a\\b\\susan"),
            ("susan", "ⓢusan"),
            ("karl", "\u{212a}arl"),
            ("müller", "mu\u{308}ller"),
            ("müller", "MULLER"),
            ("straße", "STRASSE"),
            ("straße", "STRAẞE"),
            ("νίκος", "ΝΙΚΟΣ"),
            ("ilker", "İLKER"),
            ("ilker", "ılker"),
            ("søren", "SOREN"),
            ("łukasz", "lukasz"),
            ("ﬁona", "fiona"),
            ("kind", "KIND\u{301}\u{fe0f}"),
        ];
        for (one, other) in spellings {
            assert_eq!(folded(one), folded(other), "{one} {other:?}");
            assert_eq!(folded(&folded(other)), folded(other), "{other:?}");
        }
        for (one, other) in [("ana", "anna"), ("ana", "ana@corp.test"), ("ana.b", "anab"), ("жанна", "анна")] {
            assert_ne!(folded(one), folded(other), "{one} {other}");
        }
    }

    #[test]
    fn each_account_of_a_name_is_an_account_of_its_own() {
        let [one, other] = ["ana", "Ana"].map(|name| GuessedUser::of_credential("shop", name));
        assert_eq!(one.name, other.name);
        assert_ne!(one.account, other.account);
        assert_ne!(one.name, GuessedUser::of_credential("other", "ana").name);
        assert_ne!(one.name, GuessedUser::of_client("shop", "ana").name);
    }
}
