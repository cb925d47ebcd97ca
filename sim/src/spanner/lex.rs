//! Tokens of SQL and DDL, and a cursor over them.

use crate::status::{Code, Status};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or keyword; quoted names are never keywords.
    Word {
        text: String,
        quoted: bool,
    },
    Param(String),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
}

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: &[&str] = &["<=", ">=", "<>", "!=", "||", "(", ")", ",", "*", "=", "<", ">", "+", "-", ".", ";", "@", "{", "}"];

/// Splits a statement into tokens; `Err` holds what is not understood.
fn tokens(sql: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, len) = match first {
            '-' if rest.starts_with("--") => {
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
                continue;
            }
            '#' => {
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
                continue;
            }
            '/' if rest.starts_with("/*") => {
                rest = rest.split_once("*/").ok_or("a comment without end")?.1.trim_start();
                continue;
            }
            '\'' | '"' => quoted(rest, first).map(|(text, len)| (Token::Text(text), len))?,
            'b' | 'B' if rest[1..].starts_with(['\'', '"']) => {
                let quote = if rest[1..].starts_with('\'') { '\'' } else { '"' };
                quoted(&rest[1..], quote).map(|(text, len)| (Token::Bytes(text.into_bytes()), len + 1))?
            }
            '`' => quoted(rest, '`').map(|(text, len)| (Token::Word { text, quoted: true }, len))?,
            '@' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                let name = word(&rest[1..]);
                (Token::Param(name.into()), name.len() + 1)
            }
            c if c.is_alphabetic() || c == '_' => {
                let text = word(rest);
                (Token::Word { text: text.into(), quoted: false }, text.len())
            }
            c if c.is_ascii_digit() => number(rest)?,
            _ => {
                let symbol = SYMBOLS.iter().find(|s| rest.starts_with(**s));
                let symbol = symbol.ok_or_else(|| format!("the character {first:?}"))?;
                (Token::Symbol(symbol), symbol.len())
            }
        };
        out.push(token);
        rest = rest[len..].trim_start();
    }
    Ok(out)
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let mut end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    if text[end..].starts_with(['e', 'E']) {
        let exponent = &text[end + 1..];
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let digits = exponent[sign..].bytes().take_while(u8::is_ascii_digit).count();
        end += 1 + sign + digits;
    }
    let number = &text[..end];
    if let Ok(n) = number.parse() {
        return Ok((Token::Int(n), end));
    }
    number.parse().map(|n| (Token::Float(n), end)).map_err(|_| format!("the number {number}"))
}

/// The text between two quotes, and the length with them.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((out, at + 1)),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('\\' | '\'' | '"' | '`'))) => out.push(c),
                _ => return Err("an escape in a literal".into()),
            },
            c => out.push(c),
        }
    }
    Err("a literal without end".into())
}

/// Reads tokens one after the other; its errors name the statement.
pub(super) struct Cursor<'a> {
    sql: &'a str,
    what: &'static str,
    tokens: Vec<Token>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// `what` is "SQL" or "DDL".
    pub(super) fn new(sql: &'a str, what: &'static str) -> Result<Self, Status> {
        let mut cursor = Cursor { sql, what, tokens: Vec::new(), at: 0 };
        cursor.tokens = tokens(sql).map_err(|e| cursor.unsupported(&e))?;
        Ok(cursor)
    }

    pub(super) fn unsupported(&self, why: &str) -> Status {
        let mut sql: String = self.sql.chars().take(200).collect();
        if sql.len() < self.sql.len() {
            sql.push('…');
        }
        Status::new(Code::InvalidArgument, format!("sim: unsupported {} ({why}): {sql}", self.what))
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Takes a keyword if it is the next token.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let is = self.is_keyword(keyword);
        self.at += usize::from(is);
        is
    }

    pub(super) fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Some(Token::Word { text, quoted: false }) if text.eq_ignore_ascii_case(keyword))
    }

    /// Takes several keywords if they are the next tokens.
    pub(super) fn keywords(&mut self, keywords: &[&str]) -> bool {
        let start = self.at;
        let all = keywords.iter().all(|k| self.keyword(k));
        if !all {
            self.at = start;
        }
        all
    }

    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol);
        self.at += usize::from(is);
        is
    }

    pub(super) fn need_keyword(&mut self, keyword: &str) -> Result<(), Status> {
        if self.keyword(keyword) { Ok(()) } else { Err(self.unsupported(&format!("expected {keyword}"))) }
    }

    pub(super) fn need_symbol(&mut self, symbol: &str) -> Result<(), Status> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.unsupported(&format!("expected {symbol:?}"))) }
    }

    pub(super) fn name(&mut self) -> Result<String, Status> {
        match self.next() {
            Some(Token::Word { text, .. }) => Ok(text),
            _ => Err(self.unsupported("expected a name")),
        }
    }

    /// `(name, ...)`
    pub(super) fn names(&mut self) -> Result<Vec<String>, Status> {
        self.need_symbol("(")?;
        let mut out = vec![self.name()?];
        while self.symbol(",") {
            out.push(self.name()?);
        }
        self.need_symbol(")")?;
        Ok(out)
    }

    /// Checks that nothing follows but semicolons.
    pub(super) fn end(&mut self) -> Result<(), Status> {
        while self.symbol(";") {}
        if self.peek().is_some() { Err(self.unsupported("something follows the end")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn statements_split_into_tokens() {
        let tokens = tokens("SELECT `a`, 'it\\'s' /* x */ FROM t -- end\n WHERE b<=@p AND c = 1.5e3").unwrap();
        assert_eq!(tokens.len(), 14);
        assert_eq!(tokens[3], Token::Text("it's".into()));
        assert_eq!(tokens[8], Token::Symbol("<="));
        assert_eq!(tokens[9], Token::Param("p".into()));
        assert_eq!(tokens[13], Token::Float(1500.0));
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_not_a_panic() {
        for sql in ["'open", "/* open", "a ? b", "b", "@", "1e", "99999999999999999999999", "'\\q'", "é€"] {
            let _ = tokens(sql);
        }
        assert!(tokens("SELECT ?").is_err());
        assert!(tokens("'open").is_err());
    }
}
