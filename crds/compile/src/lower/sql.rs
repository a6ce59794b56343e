//! SQL statements with named placeholders, which become parameters in the product's own notation. The text is read as
//! far as is needed to tell a placeholder from a part of a literal, and is not changed otherwise.

use idm_plan::{DatabaseProduct, Parameter, Statement};

/// A placeholder as it is written, without the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placeholder {
    pub(crate) name: &'static str,
    parameter: Parameter,
}

impl Placeholder {
    pub(crate) const USERNAME: Self = Self { name: "username", parameter: Parameter::Username };
    pub(crate) const ID: Self = Self { name: "id", parameter: Parameter::Id };
    pub(crate) const NEW_HASH: Self = Self { name: "newHash", parameter: Parameter::NewHash };
    pub(crate) const OLD_HASH: Self = Self { name: "oldHash", parameter: Parameter::OldHash };
}

/// Reads a statement. The error says what is wrong with it.
pub(crate) fn statement(product: DatabaseProduct, text: &str, known: &[Placeholder]) -> Result<Statement, String> {
    let mut reader = Reader { product, known, rest: text, read: String::new(), parameters: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step()?;
    }
    Ok(Statement { text: reader.read.trim().to_owned(), parameters: reader.parameters })
}

struct Reader<'t> {
    product: DatabaseProduct,
    known: &'t [Placeholder],
    rest: &'t str,
    read: String,
    parameters: Vec<Parameter>,
}

impl Reader<'_> {
    /// Reads one token: a literal, a comment, a placeholder or a character.
    fn step(&mut self) -> Result<(), String> {
        let rest = self.rest;
        match self.quoted() {
            Some(0) => return Err("a quote or a comment must be closed".into()),
            Some(length) => return self.literal(length),
            None => {}
        }
        if rest.starts_with("::") {
            self.take(2);
        } else if let Some(name) = rest.strip_prefix(':') {
            let end = name.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(name.len());
            self.placeholder(&name[..end])?;
        } else if let Some(behind) = rest.strip_prefix(';') {
            if !behind.trim().is_empty() {
                return Err("it must be one statement: there is text behind `;`".into());
            }
            self.rest = "";
        } else if self.is_parameter() {
            return Err("parameters must be written by name, such as `:username`".into());
        } else {
            self.take(rest.chars().next().map_or(0, char::len_utf8));
        }
        Ok(())
    }

    /// The length of the literal or comment that begins here; 0 if it has no end.
    fn quoted(&self) -> Option<usize> {
        let rest = self.rest;
        let until = |start: usize, end: &str| rest[start..].find(end).map_or(0, |at| start + at + end.len());
        let is_postgres = self.product == DatabaseProduct::PostgreSql;
        if rest.starts_with("--") || (!is_postgres && rest.starts_with('#')) {
            return Some(rest.find('\n').map_or(rest.len(), |at| at + 1));
        }
        if rest.starts_with("/*") {
            return Some(until(2, "*/"));
        }
        if is_postgres && rest.starts_with('$') {
            let tag = rest[1..].find('$').map(|at| &rest[..at + 2]);
            let tag = tag.filter(|tag| tag[1..tag.len() - 1].chars().all(|c| c.is_ascii_alphabetic() || c == '_'));
            return tag.map(|tag| until(tag.len(), tag));
        }
        let quote = rest.chars().next().filter(|first| matches!(first, '\'' | '"' | '`'))?;
        // A backslash escapes in MySQL, and in PostgreSQL after `E`: a doubled quote is two literals, which is the same
        // here.
        let escapes = !is_postgres || self.read.ends_with(['E', 'e']);
        let mut characters = rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == '\\' && escapes && quote != '`' {
                characters.next();
            } else if character == quote {
                return Some(at + quote.len_utf8());
            }
        }
        Some(0)
    }

    /// A literal or comment, in which nothing may look like a placeholder.
    fn literal(&mut self, length: usize) -> Result<(), String> {
        let text = &self.rest[..length];
        for name in ["username", "id", "newHash", "oldHash"] {
            if text.contains(&format!(":{name}")) {
                return Err(format!("`:{name}` must not stand in quotes or in a comment: a parameter needs no quotes"));
            }
        }
        self.take(length);
        Ok(())
    }

    fn placeholder(&mut self, name: &str) -> Result<(), String> {
        let Some(known) = self.known.iter().find(|known| known.name == name) else {
            let names: Vec<String> = self.known.iter().map(|known| format!("`:{}`", known.name)).collect();
            return Err(format!("`:{name}` is not known here: the parameters are {}", names.join(", ")));
        };
        self.rest = &self.rest[1 + name.len()..];
        match self.product {
            DatabaseProduct::PostgreSql => {
                let position = self.parameters.iter().position(|parameter| *parameter == known.parameter);
                let position = position.unwrap_or_else(|| {
                    self.parameters.push(known.parameter);
                    self.parameters.len() - 1
                });
                self.read.push_str(&format!("${}", position + 1));
            }
            DatabaseProduct::MySql => {
                self.parameters.push(known.parameter);
                self.read.push('?');
            }
        }
        Ok(())
    }

    /// Whether a parameter in the product's own notation stands here.
    fn is_parameter(&self) -> bool {
        match self.product {
            DatabaseProduct::PostgreSql => {
                let mut characters = self.rest.chars();
                characters.next() == Some('$') && characters.next().is_some_and(|digit| digit.is_ascii_digit())
            }
            DatabaseProduct::MySql => self.rest.starts_with('?'),
        }
    }

    fn take(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length);
        self.read.push_str(taken);
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(product: DatabaseProduct, text: &str) -> Result<(String, Vec<Parameter>), String> {
        let known = [Placeholder::USERNAME, Placeholder::ID];
        statement(product, text, &known).map(|Statement { text, parameters }| (text, parameters))
    }

    #[test]
    fn r46_placeholders_become_parameters_and_nothing_else_changes() {
        use DatabaseProduct::{MySql, PostgreSql};
        use Parameter::{Id, Username};
        for (product, text, made, parameters) in [
            (
                PostgreSql,
                "SELECT a::text FROM p WHERE n = :username",
                "SELECT a::text FROM p WHERE n = $1",
                vec![Username],
            ),
            (PostgreSql, "SELECT :username, :id, :username;", "SELECT $1, $2, $1", vec![Username, Id]),
            (MySql, "SELECT :username, :id, :username", "SELECT ?, ?, ?", vec![Username, Id, Username]),
            (PostgreSql, "SELECT ':x' || \":y\" -- :z\n, :id", "SELECT ':x' || \":y\" -- :z\n, $1", vec![Id]),
            (PostgreSql, "SELECT $a$ :q ' $a$, 'it''s', :id", "SELECT $a$ :q ' $a$, 'it''s', $1", vec![Id]),
            (MySql, "SELECT 'a\\':b', `c:d`, :id # x", "SELECT 'a\\':b', `c:d`, ? # x", vec![Id]),
            (PostgreSql, "SELECT E'a\\':b', '\\', :id /* :z */", "SELECT E'a\\':b', '\\', $1 /* :z */", vec![Id]),
        ] {
            assert_eq!(read(product, text), Ok((made.to_owned(), parameters)), "{text}");
        }
    }

    #[test]
    fn r46_a_placeholder_in_quotes_and_a_second_statement_are_refused() {
        for (text, why) in [
            ("SELECT 1 WHERE n = ':username'", "quotes"),
            ("SELECT 1 -- :id", "comment"),
            ("SELECT :user", "not known"),
            ("SELECT 1; DROP TABLE p", "one statement"),
            ("SELECT $1", "by name"),
            ("SELECT 'a", "closed"),
            ("SELECT /* a", "closed"),
        ] {
            assert!(read(DatabaseProduct::PostgreSql, text).unwrap_err().contains(why), "{text}");
        }
        assert!(read(DatabaseProduct::MySql, "SELECT ?").unwrap_err().contains("by name"));
    }
}
