//! The SQL that is understood, as a syntax tree. Anything else is an error that says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use googleapis_tonic_google_spanner_v1::google::spanner::v1::TypeCode;
use prost_types::Value;
use prost_types::value::Kind;

use super::lex::{Cursor, Token};
use super::value;
use crate::status::Status;

#[derive(Debug)]
pub(super) enum Statement {
    Select(Select),
    Insert(Insert),
    Update { table: String, set: Vec<(String, Expr)>, filter: Vec<Condition> },
    Delete { table: String, filter: Vec<Condition> },
}

impl Statement {
    pub(super) fn is_dml(&self) -> bool {
        !matches!(self, Statement::Select(_))
    }
}

#[derive(Debug)]
pub(super) struct Select {
    pub(super) items: Items,
    pub(super) table: Option<String>,
    pub(super) filter: Vec<Condition>,
    /// Column and whether descending.
    pub(super) order: Vec<(String, bool)>,
    pub(super) limit: Option<Expr>,
}

#[derive(Debug)]
pub(super) enum Items {
    All,
    Count {
        name: String,
    },
    /// Expressions and the names of their columns.
    List(Vec<(Expr, String)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnConflict {
    Fail,
    Update,
    Ignore,
}

#[derive(Debug)]
pub(super) struct Insert {
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Expr>>,
    pub(super) on_conflict: OnConflict,
}

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Value, TypeCode),
    Param(String),
    Column(String),
    CommitTimestamp,
    Add(Box<Expr>, Box<Expr>),
    Subtract(Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    IsNull,
    IsNotNull,
    /// `IN (a, b)` and `IN UNNEST(@list)`, the latter as one parameter.
    In,
    InUnnest,
}

/// One of the conditions of a WHERE, all of which must hold.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) column: String,
    pub(super) compare: Compare,
    pub(super) with: Vec<Expr>,
}

pub(super) fn parse(sql: &str) -> Result<Statement, Status> {
    let mut c = Cursor::new(sql, "SQL")?;
    let statement = if c.keyword("SELECT") {
        Statement::Select(select(&mut c)?)
    } else if c.keyword("INSERT") {
        Statement::Insert(insert(&mut c)?)
    } else if c.keyword("UPDATE") {
        update(&mut c)?
    } else if c.keyword("DELETE") {
        c.keyword("FROM");
        let table = c.name()?;
        c.need_keyword("WHERE")?;
        Statement::Delete { table, filter: filter(&mut c)? }
    } else {
        return Err(c.unsupported("only SELECT, INSERT, UPDATE and DELETE"));
    };
    c.end()?;
    Ok(statement)
}

fn select(c: &mut Cursor<'_>) -> Result<Select, Status> {
    let items = items(c)?;
    let table = if c.keyword("FROM") { Some(c.name()?) } else { None };
    let mut select = Select { items, table, filter: Vec::new(), order: Vec::new(), limit: None };
    if select.table.is_none() {
        return Ok(select);
    }
    if c.keyword("WHERE") {
        select.filter = filter(c)?;
    }
    if c.keywords(&["ORDER", "BY"]) {
        loop {
            let column = c.name()?;
            let descending = c.keyword("DESC");
            if !descending {
                c.keyword("ASC");
            }
            select.order.push((column, descending));
            if !c.symbol(",") {
                break;
            }
        }
    }
    if c.keyword("LIMIT") {
        select.limit = Some(expr(c)?);
    }
    Ok(select)
}

fn items(c: &mut Cursor<'_>) -> Result<Items, Status> {
    if c.symbol("*") {
        return Ok(Items::All);
    }
    if c.keyword("COUNT") {
        c.need_symbol("(")?;
        c.need_symbol("*")?;
        c.need_symbol(")")?;
        return Ok(Items::Count { name: alias(c)?.unwrap_or_default() });
    }
    let mut list = Vec::new();
    loop {
        let expr = expr(c)?;
        let own = if let Expr::Column(name) = &expr { name.clone() } else { String::new() };
        let name = alias(c)?.unwrap_or(own);
        list.push((expr, name));
        if !c.symbol(",") {
            return Ok(Items::List(list));
        }
    }
}

fn alias(c: &mut Cursor<'_>) -> Result<Option<String>, Status> {
    if c.keyword("AS") { c.name().map(Some) } else { Ok(None) }
}

fn insert(c: &mut Cursor<'_>) -> Result<Insert, Status> {
    let on_conflict = if c.keywords(&["OR", "UPDATE"]) {
        OnConflict::Update
    } else if c.keywords(&["OR", "IGNORE"]) {
        OnConflict::Ignore
    } else {
        OnConflict::Fail
    };
    c.keyword("INTO");
    let table = c.name()?;
    let columns = c.names()?;
    c.need_keyword("VALUES")?;
    let mut rows = Vec::new();
    loop {
        c.need_symbol("(")?;
        let mut row = vec![expr(c)?];
        while c.symbol(",") {
            row.push(expr(c)?);
        }
        c.need_symbol(")")?;
        if row.len() != columns.len() {
            return Err(c.unsupported("a row has another number of values than there are columns"));
        }
        rows.push(row);
        if !c.symbol(",") {
            return Ok(Insert { table, columns, rows, on_conflict });
        }
    }
}

fn update(c: &mut Cursor<'_>) -> Result<Statement, Status> {
    let table = c.name()?;
    c.need_keyword("SET")?;
    let mut set = Vec::new();
    loop {
        let column = c.name()?;
        c.need_symbol("=")?;
        set.push((column, expr(c)?));
        if !c.symbol(",") {
            break;
        }
    }
    c.need_keyword("WHERE")?;
    Ok(Statement::Update { table, set, filter: filter(c)? })
}

fn filter(c: &mut Cursor<'_>) -> Result<Vec<Condition>, Status> {
    let mut out = Vec::new();
    loop {
        if !c.keyword("TRUE") && !constant_truth(c) {
            out.push(condition(c)?);
        }
        if !c.keyword("AND") {
            return Ok(out);
        }
    }
}

/// `1 = 1`
fn constant_truth(c: &mut Cursor<'_>) -> bool {
    if c.peek() != Some(&Token::Int(1)) {
        return false;
    }
    c.next();
    c.symbol("=") && c.next() == Some(Token::Int(1))
}

fn condition(c: &mut Cursor<'_>) -> Result<Condition, Status> {
    let column = c.name()?;
    let (compare, with) = if c.keywords(&["IS", "NOT", "NULL"]) {
        (Compare::IsNotNull, Vec::new())
    } else if c.keywords(&["IS", "NULL"]) {
        (Compare::IsNull, Vec::new())
    } else if c.keywords(&["IN", "UNNEST"]) {
        c.need_symbol("(")?;
        let list = vec![expr(c)?];
        c.need_symbol(")")?;
        (Compare::InUnnest, list)
    } else if c.keyword("IN") {
        c.need_symbol("(")?;
        let mut list = vec![expr(c)?];
        while c.symbol(",") {
            list.push(expr(c)?);
        }
        c.need_symbol(")")?;
        (Compare::In, list)
    } else {
        let compare = match c.next() {
            Some(Token::Symbol("=")) => Compare::Equal,
            Some(Token::Symbol("!=" | "<>")) => Compare::NotEqual,
            Some(Token::Symbol("<")) => Compare::Less,
            Some(Token::Symbol("<=")) => Compare::LessOrEqual,
            Some(Token::Symbol(">")) => Compare::Greater,
            Some(Token::Symbol(">=")) => Compare::GreaterOrEqual,
            _ => {
                return Err(c.unsupported("a condition must be a column, a comparison and a value"));
            }
        };
        (compare, vec![expr(c)?])
    };
    Ok(Condition { column, compare, with })
}

fn expr(c: &mut Cursor<'_>) -> Result<Expr, Status> {
    let mut left = term(c)?;
    loop {
        if c.symbol("+") {
            left = Expr::Add(Box::new(left), Box::new(term(c)?));
        } else if c.symbol("-") {
            left = Expr::Subtract(Box::new(left), Box::new(term(c)?));
        } else {
            return Ok(left);
        }
    }
}

fn term(c: &mut Cursor<'_>) -> Result<Expr, Status> {
    let literal = |value, code| Ok(Expr::Literal(value, code));
    let number = |n| Value { kind: Some(Kind::NumberValue(n)) };
    let boolean = |b| Value { kind: Some(Kind::BoolValue(b)) };
    match c.next() {
        Some(Token::Int(n)) => literal(value::int(n), TypeCode::Int64),
        Some(Token::Float(n)) => literal(number(n), TypeCode::Float64),
        Some(Token::Symbol("-")) => match c.next() {
            Some(Token::Int(n)) => literal(value::int(-n), TypeCode::Int64),
            Some(Token::Float(n)) => literal(number(-n), TypeCode::Float64),
            _ => Err(c.unsupported("expected a number after the sign")),
        },
        Some(Token::Text(text)) => literal(value::text(text), TypeCode::String),
        Some(Token::Bytes(bytes)) => literal(value::text(STANDARD.encode(bytes)), TypeCode::Bytes),
        Some(Token::Param(name)) => Ok(Expr::Param(name)),
        Some(Token::Word { text, quoted: false }) if text.eq_ignore_ascii_case("TRUE") => literal(boolean(true), TypeCode::Bool),
        Some(Token::Word { text, quoted: false }) if text.eq_ignore_ascii_case("FALSE") => literal(boolean(false), TypeCode::Bool),
        Some(Token::Word { text, quoted: false }) if text.eq_ignore_ascii_case("NULL") => literal(value::null(), TypeCode::Int64),
        Some(Token::Word { text, quoted: false }) if text.eq_ignore_ascii_case("PENDING_COMMIT_TIMESTAMP") => {
            c.need_symbol("(")?;
            c.need_symbol(")")?;
            Ok(Expr::CommitTimestamp)
        }
        Some(Token::Word { text, .. }) => Ok(Expr::Column(text)),
        _ => Err(c.unsupported("expected a value")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::status::Code;

    #[test]
    fn the_subset_is_understood() {
        for sql in [
            "SELECT 1",
            "select 1 AS x, 'a', @p;",
            "SELECT * FROM T",
            "SELECT COUNT(*) AS n FROM T WHERE A = 1",
            "SELECT a, B FROM `T` WHERE A >= @p AND b IS NOT NULL AND c IN (1, 2) ORDER BY a DESC LIMIT @n",
            "SELECT a FROM T WHERE a IN UNNEST(@list)",
            "INSERT INTO T (a, b) VALUES (1, 'x'), (@p, NULL)",
            "INSERT OR UPDATE T (a) VALUES (-5)",
            "UPDATE T SET a = a + @p, b = PENDING_COMMIT_TIMESTAMP() WHERE k = 1",
            "DELETE FROM T WHERE true",
            "DELETE T WHERE 1 = 1 AND a < 3.5",
        ] {
            parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "",
            "SELECT",
            "SELECT a FROM T, U",
            "SELECT a FROM T JOIN U",
            "SELECT a FROM T WHERE a = 1 OR a = 2",
            "SELECT SUM(a) FROM T",
            "SELECT a FROM T GROUP BY a",
            "INSERT INTO T (a) VALUES (1, 2)",
            "UPDATE T SET a = 1",
            "DELETE FROM T",
            "INSERT INTO T (a) VALUES (1) THEN RETURN a",
            "WITH x AS (SELECT 1) SELECT * FROM x",
        ] {
            let status = parse(sql).unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument, "{sql}");
            assert!(status.message.starts_with("sim: unsupported SQL"), "{}", status.message);
        }
    }
}
