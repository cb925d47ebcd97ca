//! Expressions and conditions over parameters and rows.

use std::collections::HashMap;

use googleapis_tonic_google_spanner_v1::google::spanner::v1::{Type, TypeCode, struct_type::Field};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::invalid;
use super::query::field;
use super::sql::{Compare, Condition, Expr, Items};
use super::table::{Row, Span, Table};
use super::value::{self, simple};
use crate::status::Status;

/// A statement's parameters.
#[derive(Clone, Copy)]
pub(super) struct Params<'a> {
    pub(super) values: Option<&'a Struct>,
    pub(super) types: &'a HashMap<String, Type>,
}

impl Params<'_> {
    fn get(&self, name: &str) -> Result<(Value, Option<Type>), Status> {
        let named = |(other, _): &(&String, &Value)| other.eq_ignore_ascii_case(name);
        let value = self.values.and_then(|s| s.fields.iter().find(named)).map(|(_, value)| value.clone());
        let value = value.ok_or_else(|| invalid(format!("No parameter found for binding: {name}")))?;
        let ty = self.types.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, ty)| ty.clone());
        if let Some(ty) = &ty
            && !value::fits(&value, ty)
        {
            return Err(invalid(format!("Invalid value for bind parameter {name}.")));
        }
        Ok((value, ty))
    }
}

/// What an untyped parameter is taken for.
fn inferred(value: &Value) -> Type {
    match &value.kind {
        Some(Kind::BoolValue(_)) => simple(TypeCode::Bool),
        Some(Kind::NumberValue(_)) => simple(TypeCode::Float64),
        Some(Kind::StringValue(_)) => simple(TypeCode::String),
        Some(Kind::ListValue(list)) => {
            let element = list.values.first().map_or_else(|| simple(TypeCode::Int64), inferred);
            Type { array_element_type: Some(Box::new(element)), ..simple(TypeCode::Array) }
        }
        _ => simple(TypeCode::Int64),
    }
}

/// The value of an expression and its type, if it has one of its own.
pub(super) fn eval(expr: &Expr, row: Option<(&Table, &[Value])>, params: &Params<'_>) -> Result<(Value, Option<Type>), Status> {
    match expr {
        Expr::Literal(literal, code) => Ok((literal.clone(), Some(simple(*code)))),
        Expr::Param(name) => params.get(name),
        Expr::CommitTimestamp => Ok((value::text("spanner.commit_timestamp()"), Some(simple(TypeCode::Timestamp)))),
        Expr::Column(name) => {
            let (table, row) = row.ok_or_else(|| invalid(format!("Unrecognized name: {name}")))?;
            let at = table.column(name).map_err(|_| invalid(format!("Unrecognized name: {name}")))?;
            Ok((row[at].clone(), Some(table.columns[at].ty.clone())))
        }
        Expr::Add(a, b) => sum(eval(a, row, params)?, eval(b, row, params)?, 1),
        Expr::Subtract(a, b) => sum(eval(a, row, params)?, eval(b, row, params)?, -1),
    }
}

fn sum(a: (Value, Option<Type>), b: (Value, Option<Type>), sign: i64) -> Result<(Value, Option<Type>), Status> {
    let ty = a.1.or(b.1);
    if value::is_null(&a.0) || value::is_null(&b.0) {
        return Ok((value::null(), ty));
    }
    if let (Some(x), Some(y)) = (value::as_int(&a.0), value::as_int(&b.0)) {
        let sum = y.checked_mul(sign).and_then(|y| x.checked_add(y));
        let sum = sum.ok_or_else(|| Status::new(crate::Code::OutOfRange, format!("int64 overflow: {x} + {sign} * {y}")))?;
        return Ok((value::int(sum), ty));
    }
    #[allow(clippy::cast_precision_loss)]
    let number = |v: &Value| match v.kind {
        Some(Kind::NumberValue(n)) => Some(n),
        _ => value::as_int(v).map(|n| n as f64),
    };
    match (number(&a.0), number(&b.0)) {
        #[allow(clippy::cast_precision_loss)]
        (Some(x), Some(y)) => {
            let sum = Value { kind: Some(Kind::NumberValue(x + sign as f64 * y)) };
            Ok((sum, Some(simple(TypeCode::Float64))))
        }
        _ => Err(invalid("sim: unsupported SQL: + and - need numbers")),
    }
}

/// The value of an expression for a column: coerced to its type and checked.
pub(super) fn eval_for(expr: &Expr, table: &Table, column: usize, row: Option<&[Value]>, params: &Params<'_>) -> Result<Value, Status> {
    let (value, _) = eval(expr, row.map(|row| (table, row)), params)?;
    let column = &table.columns[column];
    let value = value::coerce(value, &column.ty);
    if !value::fits(&value, &column.ty) {
        let code = TypeCode::try_from(column.ty.code).map_or("?", |code| code.as_str_name());
        return Err(invalid(format!("Value of column {} has a type other than {code}.", column.name)));
    }
    Ok(value)
}

pub(super) fn limit(expr: &Expr, params: &Params<'_>) -> Result<usize, Status> {
    let (value, _) = eval(expr, None, params)?;
    let limit = value::as_int(&value).and_then(|n| usize::try_from(n).ok());
    limit.ok_or_else(|| invalid("LIMIT expects a non-negative INT64"))
}

/// A WHERE with its values worked out, and the part of the table that it can hold for.
pub(super) struct Filter {
    conditions: Vec<(usize, Type, Compare, Vec<Value>)>,
    pub(super) span: Span,
}

impl Filter {
    pub(super) fn new(table: &Table, conditions: &[Condition], params: &Params<'_>) -> Result<Self, Status> {
        let mut out = Vec::with_capacity(conditions.len());
        for condition in conditions {
            let at = table.column(&condition.column).map_err(|_| invalid(format!("Unrecognized name: {}", condition.column)))?;
            let ty = table.columns[at].ty.clone();
            let values = if condition.compare == Compare::InUnnest {
                list(&condition.with, params)?.into_iter().map(|v| value::coerce(v, &ty)).collect()
            } else {
                let values = condition.with.iter().map(|expr| eval_for(expr, table, at, None, params));
                values.collect::<Result<Vec<_>, _>>()?
            };
            if values.iter().any(|v| !value::fits(v, &ty)) {
                return Err(invalid(format!("A value compared with {} has another type.", condition.column)));
            }
            out.push((at, ty, condition.compare, values));
        }
        let point = table.key.iter().map(|(column, descending)| {
            let equal = |(at, _, compare, _): &&(usize, Type, Compare, Vec<Value>)| at == column && *compare == Compare::Equal;
            let (_, ty, _, values) = out.iter().find(equal)?;
            Some(value::key_part(values.first()?, ty, *descending))
        });
        let span = point.collect::<Option<Vec<_>>>().map_or_else(Span::all, Span::Point);
        Ok(Filter { conditions: out, span })
    }

    pub(super) fn holds(&self, row: &[Value]) -> bool {
        self.conditions.iter().all(|(at, ty, compare, values)| {
            let own = &row[*at];
            let is = |test: fn(std::cmp::Ordering) -> bool| values.iter().any(|v| value::compare(own, v, ty).is_some_and(test));
            match compare {
                Compare::IsNull => value::is_null(own),
                Compare::IsNotNull => !value::is_null(own),
                Compare::Equal | Compare::In | Compare::InUnnest => is(std::cmp::Ordering::is_eq),
                Compare::NotEqual => is(std::cmp::Ordering::is_ne),
                Compare::Less => is(std::cmp::Ordering::is_lt),
                Compare::LessOrEqual => is(std::cmp::Ordering::is_le),
                Compare::Greater => is(std::cmp::Ordering::is_gt),
                Compare::GreaterOrEqual => is(std::cmp::Ordering::is_ge),
            }
        })
    }
}

fn list(with: &[Expr], params: &Params<'_>) -> Result<Vec<Value>, Status> {
    let not_a_list = || invalid("Values referenced in UNNEST must be arrays.");
    let (value, _) = eval(with.first().ok_or_else(not_a_list)?, None, params)?;
    match value.kind {
        Some(Kind::ListValue(list)) => Ok(list.values),
        None | Some(Kind::NullValue(_)) => Ok(Vec::new()),
        _ => Err(not_a_list()),
    }
}

/// The one row of a SELECT without FROM.
pub(super) fn constants(items: &Items, params: &Params<'_>) -> Result<(Vec<Field>, Row), Status> {
    let items = match items {
        Items::All => return Err(invalid("SELECT * must have a FROM clause")),
        Items::Count { name } => {
            return Ok((vec![field(name, &simple(TypeCode::Int64))], vec![value::int(1)].into()));
        }
        Items::List(items) => items,
    };
    let mut fields = Vec::with_capacity(items.len());
    let mut row = Vec::with_capacity(items.len());
    for (expr, name) in items {
        let (value, ty) = eval(expr, None, params)?;
        fields.push(field(name, &ty.unwrap_or_else(|| inferred(&value))));
        row.push(value);
    }
    Ok((fields, row.into()))
}

type Projection = (Vec<usize>, Vec<Field>);

/// Columns and their fields, when a SELECT lists nothing else: then rows need not be copied.
pub(super) fn plain_columns(table: &Table, items: &[(Expr, String)]) -> Result<Option<Projection>, Status> {
    let (mut projection, mut fields) = (Vec::new(), Vec::new());
    for (expr, name) in items {
        let Expr::Column(column) = expr else {
            return Ok(None);
        };
        let at = table.column(column).map_err(|_| invalid(format!("Unrecognized name: {column}")))?;
        projection.push(at);
        fields.push(field(name, &table.columns[at].ty));
    }
    Ok(Some((projection, fields)))
}

/// The rows of a SELECT that computes something.
pub(super) fn computed(
    table: &Table,
    items: &[(Expr, String)],
    rows: &[Row],
    params: &Params<'_>,
) -> Result<(Vec<Field>, Vec<Row>), Status> {
    // With no row to look at, a row of NULLs gives the types.
    let nulls: Row = vec![value::null(); table.columns.len()].into();
    let mut fields = Vec::with_capacity(items.len());
    for (expr, name) in items {
        let (value, ty) = eval(expr, Some((table, rows.first().unwrap_or(&nulls))), params)?;
        fields.push(field(name, &ty.unwrap_or_else(|| inferred(&value))));
    }
    let value = |(expr, _): &(Expr, String), row: &Row| eval(expr, Some((table, row)), params).map(|(v, _)| v);
    let compute = |row: &Row| items.iter().map(|item| value(item, row)).collect::<Result<Vec<_>, _>>().map(Row::from);
    Ok((fields, rows.iter().map(compute).collect::<Result<_, _>>()?))
}
