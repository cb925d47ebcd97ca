//! What DML statements and mutations do to rows: pure functions from what a transaction sees to what it writes.

use std::collections::BTreeMap;

use googleapis_tonic_google_spanner_v1::google::spanner::v1::{KeySet, mutation::Write};
use prost_types::Value;
use prost_types::value::Kind;

use super::eval::{self, Filter, Params};
use super::sql::{Insert, OnConflict, Statement};
use super::table::{Key, Overlay, Row, Span, Table, View};
use super::value;
use super::{failed_precondition, invalid};
use crate::status::{Code, Status};

/// What a statement is going to write.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) writes: BTreeMap<Key, Option<Row>>,
    pub(super) read: Vec<Span>,
    pub(super) count: i64,
}

pub(super) fn table_of(statement: &Statement) -> Result<&str, Status> {
    match statement {
        Statement::Insert(insert) => Ok(&insert.table),
        Statement::Update { table, .. } | Statement::Delete { table, .. } => Ok(table),
        Statement::Select(_) => Err(invalid("sim: unsupported SQL: a query where DML is expected")),
    }
}

pub(super) fn plan(view: &View<'_>, statement: &Statement, params: &Params<'_>) -> Result<Plan, Status> {
    match statement {
        Statement::Insert(insert) => plan_insert(view, insert, params),
        Statement::Update { set, filter, .. } => {
            let filter = Filter::new(view.table, filter, params)?;
            let columns = columns(view.table, set.iter().map(|(name, _)| name))?;
            if let Some(at) = columns.iter().find(|at| view.table.key.iter().any(|(key, _)| key == *at)) {
                let name = &view.table.columns[*at].name;
                return Err(invalid(format!("Cannot UPDATE value on key column {name}.")));
            }
            plan_over(view, &filter, |row| {
                let mut new = row.to_vec();
                for ((_, expr), at) in set.iter().zip(&columns) {
                    new[*at] = eval::eval_for(expr, view.table, *at, Some(row), params)?;
                }
                check_row(view.table, &new)?;
                Ok(Some(new.into()))
            })
        }
        Statement::Delete { filter, .. } => plan_over(view, &Filter::new(view.table, filter, params)?, |_| Ok(None)),
        Statement::Select(_) => table_of(statement).map(|_| Plan::default()),
    }
}

/// Changes each row that the filter holds for.
fn plan_over(view: &View<'_>, filter: &Filter, change: impl Fn(&[Value]) -> Result<Option<Row>, Status>) -> Result<Plan, Status> {
    let mut plan = Plan { read: vec![filter.span.clone()], ..Plan::default() };
    for (key, row) in view.scan(&filter.span, usize::MAX) {
        if filter.holds(&row) {
            plan.writes.insert(key, change(&row)?);
            plan.count += 1;
        }
    }
    Ok(plan)
}

fn plan_insert(view: &View<'_>, insert: &Insert, params: &Params<'_>) -> Result<Plan, Status> {
    let table = view.table;
    let columns = columns(table, insert.columns.iter())?;
    let mut plan = Plan::default();
    for exprs in &insert.rows {
        let mut values = Vec::with_capacity(columns.len());
        for (expr, at) in exprs.iter().zip(&columns) {
            values.push(eval::eval_for(expr, table, *at, None, params)?);
        }
        let mut new = fill(table, &columns, &values, None);
        let key = table.key_of(&new);
        plan.read.push(Span::Point(key.clone()));
        let old = match plan.writes.get(&key) {
            Some(written) => written.as_ref(),
            None => view.get(&key),
        };
        match (old, insert.on_conflict) {
            (None, _) => {}
            (Some(_), OnConflict::Ignore) => continue,
            (Some(old), OnConflict::Update) => new = fill(table, &columns, &values, Some(old)),
            (Some(_), OnConflict::Fail) => return Err(already_exists(table, &new)),
        }
        check_row(table, &new)?;
        plan.writes.insert(key, Some(new.into()));
        plan.count += 1;
    }
    Ok(plan)
}

fn columns<'a>(table: &Table, names: impl Iterator<Item = &'a String>) -> Result<Vec<usize>, Status> {
    let mut out = Vec::new();
    for name in names {
        let at = table.column(name)?;
        if out.contains(&at) {
            return Err(invalid(format!("Multiple values for column {name}")));
        }
        out.push(at);
    }
    Ok(out)
}

/// A whole row from some columns; the others come from `old` or are NULL.
fn fill(table: &Table, columns: &[usize], values: &[Value], old: Option<&Row>) -> Vec<Value> {
    let mut row = old.map_or_else(|| vec![value::null(); table.columns.len()], |old| old.to_vec());
    for (at, value) in columns.iter().zip(values) {
        row[*at] = value.clone();
    }
    row
}

fn check_row(table: &Table, row: &[Value]) -> Result<(), Status> {
    for (value, column) in row.iter().zip(&table.columns) {
        if column.not_null && value::is_null(value) {
            let text = format!("{} must not be NULL in table {}.", column.name, table.name);
            return Err(failed_precondition(text));
        }
        if value::is_commit_timestamp(value) && !column.allows_commit_timestamp && column.ty.code == 4 {
            let text = format!(
                "Cannot write commit timestamp because the allow_commit_timestamp column option is not set to true for \
                 column {}.",
                column.name
            );
            return Err(failed_precondition(text));
        }
    }
    Ok(())
}

fn shown_key(table: &Table, row: &[Value]) -> String {
    let part = |(at, _): &(usize, bool)| match &row[*at].kind {
        Some(Kind::StringValue(s)) => s.clone(),
        Some(Kind::NumberValue(n)) => n.to_string(),
        Some(Kind::BoolValue(b)) => b.to_string(),
        _ => "NULL".into(),
    };
    format!("[{}]", table.key.iter().map(part).collect::<Vec<_>>().join(","))
}

fn already_exists(table: &Table, row: &[Value]) -> Status {
    Status::new(Code::AlreadyExists, format!("Row {} in table {} already exists", shown_key(table, row), table.name))
}

/// The kinds of mutation that write rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteKind {
    Insert,
    Update,
    InsertOrUpdate,
    Replace,
}

/// Applies a mutation to what the transaction has written to the table so far. Returns the number of values written.
pub(super) fn write(table: &Table, at: u64, overlay: &mut Overlay, kind: WriteKind, write: &Write) -> Result<i64, Status> {
    let columns = columns(table, write.columns.iter())?;
    if let Some((missing, _)) = table.key.iter().find(|(key, _)| !columns.contains(key)) {
        let column = &table.columns[*missing].name;
        return Err(failed_precondition(format!("Key column {column} of table {} must be specified.", table.name)));
    }
    let mut count = 0;
    for list in &write.values {
        if list.values.len() != columns.len() {
            return Err(invalid("Mutation has mismatched number of columns and values."));
        }
        for (value, at) in list.values.iter().zip(&columns) {
            let column = &table.columns[*at];
            if !value::fits(value, &column.ty) {
                let text = format!("Invalid value for column {} in table {}.", column.name, table.name);
                return Err(failed_precondition(text));
            }
        }
        let mut new = fill(table, &columns, &list.values, None);
        let key = table.key_of(&new);
        let old = View { table, at, overlay: Some(overlay) }.get(&key).cloned();
        match (kind, &old) {
            (WriteKind::Insert, Some(_)) => return Err(already_exists(table, &new)),
            (WriteKind::Update, None) => {
                let key = shown_key(table, &new);
                let text = format!("Row {key} in table {} is missing. Row cannot be updated.", table.name);
                return Err(Status::new(Code::NotFound, text));
            }
            (WriteKind::Update | WriteKind::InsertOrUpdate, Some(old)) => {
                new = fill(table, &columns, &list.values, Some(old));
            }
            _ => {}
        }
        check_row(table, &new)?;
        overlay.insert(key, Some(new.into()));
        count += i64::try_from(columns.len()).unwrap_or(0);
    }
    Ok(count)
}

/// Applies a delete mutation; rows that do not exist are fine.
pub(super) fn delete(table: &Table, at: u64, overlay: &mut Overlay, keys: &KeySet) -> Result<i64, Status> {
    let mut count = 0;
    for span in table.spans(keys)? {
        for (key, _) in (View { table, at, overlay: Some(overlay) }).scan(&span, usize::MAX) {
            overlay.insert(key, None);
            count += 1;
        }
    }
    Ok(count)
}
