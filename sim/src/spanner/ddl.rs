//! The DDL that is understood: CREATE, ALTER (ADD COLUMN) and DROP TABLE; indexes, roles and grants are accepted and do
//! nothing.

use googleapis_tonic_google_spanner_v1::google::spanner::v1::{Type, TypeCode};

use super::lex::{Cursor, Token};
use super::table::{Column, Table};
use super::value::simple;
use crate::status::{Code, Status};

#[derive(Debug)]
pub(super) enum Ddl {
    CreateTable {
        table: Table,
        if_not_exists: bool,
    },
    AddColumn {
        table: String,
        column: Column,
    },
    DropTable {
        table: String,
        if_exists: bool,
    },
    /// Kept in the list of statements, without effect.
    Ignored,
}

pub(super) fn parse(sql: &str) -> Result<Ddl, Status> {
    let mut c = Cursor::new(sql, "DDL")?;
    let ddl = if c.keywords(&["CREATE", "TABLE"]) {
        let if_not_exists = c.keywords(&["IF", "NOT", "EXISTS"]);
        Ddl::CreateTable { table: create_table(&mut c)?, if_not_exists }
    } else if c.keywords(&["ALTER", "TABLE"]) {
        let table = c.name()?;
        c.need_keyword("ADD")?;
        c.need_keyword("COLUMN")?;
        c.keywords(&["IF", "NOT", "EXISTS"]);
        let (column, is_key) = column(&mut c)?;
        if is_key || column.not_null {
            return Err(c.unsupported("a new column cannot be a key or NOT NULL"));
        }
        Ddl::AddColumn { table, column }
    } else if c.keywords(&["DROP", "TABLE"]) {
        let if_exists = c.keywords(&["IF", "EXISTS"]);
        Ddl::DropTable { table: c.name()?, if_exists }
    } else if c.keywords(&["CREATE", "INDEX"])
        || c.keywords(&["CREATE", "NULL_FILTERED", "INDEX"])
        || c.keywords(&["DROP", "INDEX"])
        || c.keywords(&["CREATE", "ROLE"])
        || c.keywords(&["DROP", "ROLE"])
        || c.keyword("GRANT")
        || c.keyword("REVOKE")
    {
        return Ok(Ddl::Ignored);
    } else {
        return Err(c.unsupported("only CREATE/DROP TABLE, ALTER TABLE ADD COLUMN, plain indexes and roles"));
    };
    c.end()?;
    Ok(ddl)
}

fn create_table(c: &mut Cursor<'_>) -> Result<Table, Status> {
    let name = c.name()?;
    c.need_symbol("(")?;
    let mut columns: Vec<Column> = Vec::new();
    let mut key = Vec::new();
    while !c.symbol(")") {
        if c.keywords(&["PRIMARY", "KEY"]) {
            key = primary_key(c, &columns)?;
        } else {
            let (column, is_key) = column(c)?;
            if columns.iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
                let text = format!("Duplicate column name {}.{}.", name, column.name);
                return Err(Status::new(Code::InvalidArgument, text));
            }
            if is_key {
                key.push((columns.len(), false));
            }
            columns.push(column);
        }
        if !c.symbol(",") {
            c.need_symbol(")")?;
            break;
        }
    }
    if c.keywords(&["PRIMARY", "KEY"]) {
        key = primary_key(c, &columns)?;
    }
    Ok(Table::new(name, columns, key))
}

fn primary_key(c: &mut Cursor<'_>, columns: &[Column]) -> Result<Vec<(usize, bool)>, Status> {
    let mut key = Vec::new();
    c.need_symbol("(")?;
    while !c.symbol(")") {
        let name = c.name()?;
        let at = columns.iter().position(|column| column.name.eq_ignore_ascii_case(&name));
        let at = at.ok_or_else(|| c.unsupported(&format!("key column {name} is not one of the columns")))?;
        if columns[at].ty.code == TypeCode::Array as i32 || columns[at].ty.code == TypeCode::Json as i32 {
            return Err(c.unsupported(&format!("column {name} cannot be a key")));
        }
        let descending = c.keyword("DESC");
        if !descending {
            c.keyword("ASC");
        }
        key.push((at, descending));
        if !c.symbol(",") {
            c.need_symbol(")")?;
            break;
        }
    }
    Ok(key)
}

/// A column, and whether it is declared as the primary key.
fn column(c: &mut Cursor<'_>) -> Result<(Column, bool), Status> {
    let name = c.name()?;
    let ty = column_type(c)?;
    let mut column = Column { name, ty, not_null: false, allows_commit_timestamp: false };
    let mut is_key = false;
    loop {
        if c.keywords(&["NOT", "NULL"]) {
            column.not_null = true;
        } else if c.keywords(&["PRIMARY", "KEY"]) {
            is_key = true;
        } else if c.keyword("OPTIONS") {
            c.need_symbol("(")?;
            c.need_keyword("allow_commit_timestamp")?;
            c.need_symbol("=")?;
            column.allows_commit_timestamp = c.keyword("true");
            if !column.allows_commit_timestamp && !c.keyword("null") {
                c.need_keyword("false")?;
            }
            c.need_symbol(")")?;
        } else {
            return Ok((column, is_key));
        }
    }
}

fn column_type(c: &mut Cursor<'_>) -> Result<Type, Status> {
    let name = c.name()?.to_ascii_uppercase();
    let code = match name.as_str() {
        "BOOL" => TypeCode::Bool,
        "INT64" => TypeCode::Int64,
        "FLOAT64" => TypeCode::Float64,
        "FLOAT32" => TypeCode::Float32,
        "TIMESTAMP" => TypeCode::Timestamp,
        "DATE" => TypeCode::Date,
        "STRING" => TypeCode::String,
        "BYTES" => TypeCode::Bytes,
        "NUMERIC" => TypeCode::Numeric,
        "JSON" => TypeCode::Json,
        "UUID" => TypeCode::Uuid,
        "ARRAY" => {
            c.need_symbol("<")?;
            let element = column_type(c)?;
            c.need_symbol(">")?;
            return Ok(Type { array_element_type: Some(Box::new(element)), ..simple(TypeCode::Array) });
        }
        _ => return Err(c.unsupported(&format!("column type {name}"))),
    };
    if matches!(code, TypeCode::String | TypeCode::Bytes) {
        c.need_symbol("(")?;
        if !c.keyword("MAX") && !matches!(c.next(), Some(Token::Int(1..))) {
            return Err(c.unsupported("a length must be a number or MAX"));
        }
        c.need_symbol(")")?;
    }
    Ok(simple(code))
}

/// The database's name in CREATE DATABASE.
pub(super) fn database_name(sql: &str) -> Result<String, Status> {
    let mut c = Cursor::new(sql, "DDL")?;
    c.need_keyword("CREATE")?;
    c.need_keyword("DATABASE")?;
    let mut name = c.name()?;
    // Unquoted names may hold hyphens here, which are no part of a word.
    while c.symbol("-") {
        name.push('-');
        match c.next() {
            Some(Token::Word { text, .. }) => name.push_str(&text),
            Some(Token::Int(n)) => name.push_str(&n.to_string()),
            _ => return Err(c.unsupported("expected a name")),
        }
    }
    c.end()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_are_understood() {
        let sql = "CREATE TABLE `Users` (
            Id INT64 NOT NULL, Name STRING(MAX), Tags ARRAY<STRING(20)>,
            At TIMESTAMP OPTIONS (allow_commit_timestamp = true),
        ) PRIMARY KEY (Name DESC, Id)";
        let Ddl::CreateTable { table, .. } = parse(sql).unwrap() else { panic!() };
        assert_eq!((table.name.as_str(), table.columns.len()), ("Users", 4));
        assert_eq!(table.key, [(1, true), (0, false)]);
        assert!(table.columns[0].not_null && table.columns[3].allows_commit_timestamp);
    }

    #[test]
    fn what_would_be_ignored_wrongly_is_refused() {
        for sql in [
            "CREATE TABLE T (A INT64) PRIMARY KEY (B)",
            "CREATE TABLE T (A INT64, a INT64) PRIMARY KEY (A)",
            "CREATE TABLE T (A INT64 DEFAULT (1)) PRIMARY KEY (A)",
            "CREATE TABLE T (A INT64) PRIMARY KEY (A), INTERLEAVE IN PARENT P",
            "CREATE UNIQUE INDEX I ON T (A)",
            "CREATE CHANGE STREAM S FOR ALL",
            "ALTER TABLE T DROP COLUMN A",
        ] {
            assert_eq!(parse(sql).unwrap_err().code, Code::InvalidArgument, "{sql}");
        }
    }

    #[test]
    fn database_names_may_be_quoted_or_have_hyphens() {
        assert_eq!(database_name("CREATE DATABASE `my-db`").unwrap(), "my-db");
        assert_eq!(database_name("create database my-db-1").unwrap(), "my-db-1");
        assert!(database_name("DROP DATABASE x").is_err());
    }
}
