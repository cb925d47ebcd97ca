//! A table: columns, primary key, and rows with their older versions, so that reads at a past time work.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use googleapis_tonic_google_spanner_v1::google::spanner::v1::{KeyRange, KeySet, Type, key_range};
use prost_types::{ListValue, Value};

use super::value::{self, KeyPart};
use crate::status::{Code, Status};

/// Versions kept of a row; older ones go, however young they are.
const VERSIONS: usize = 32;

pub(super) type Key = Vec<KeyPart>;
pub(super) type Row = Arc<Vec<Value>>;
/// What a transaction wrote to one table; `None` is a deleted row.
pub(super) type Overlay = BTreeMap<Key, Option<Row>>;

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) not_null: bool,
    pub(super) allows_commit_timestamp: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Index of each key column, and whether it is descending.
    pub(super) key: Vec<(usize, bool)>,
    rows: BTreeMap<Key, Vec<Version>>,
    /// Time of the newest write, so that most checks for conflicts need not look at rows.
    newest: u64,
}

#[derive(Clone, Debug)]
struct Version {
    at: u64,
    row: Option<Row>,
}

/// Part of a table's rows, by key.
#[derive(Clone, Debug)]
pub(super) enum Span {
    Point(Key),
    Range(Bound<Key>, Bound<Key>),
}

impl Span {
    pub(super) fn all() -> Self {
        Span::Range(Bound::Unbounded, Bound::Unbounded)
    }
}

/// A table as one transaction sees it.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) table: &'a Table,
    /// The newest version seen.
    pub(super) at: u64,
    pub(super) overlay: Option<&'a Overlay>,
}

impl Table {
    pub(super) fn new(name: String, columns: Vec<Column>, key: Vec<(usize, bool)>) -> Self {
        Table { name, columns, key, rows: BTreeMap::new(), newest: 0 }
    }

    pub(super) fn column(&self, name: &str) -> Result<usize, Status> {
        self.columns
            .iter()
            .position(|c| c.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| Status::new(Code::NotFound, format!("Column not found in table {}: {name}", self.name)))
    }

    /// Adds a column; existing rows, old versions too, get NULL.
    pub(super) fn add_column(&mut self, column: Column) {
        self.columns.push(column);
        for version in self.rows.values_mut().flatten() {
            if let Some(row) = &mut version.row {
                Arc::make_mut(row).push(value::null());
            }
        }
    }

    pub(super) fn key_of(&self, row: &[Value]) -> Key {
        let part = |(at, descending): &(usize, bool)| value::key_part(&row[*at], &self.columns[*at].ty, *descending);
        self.key.iter().map(part).collect()
    }

    /// Reads a key, or its first parts, as mutations and reads give it.
    pub(super) fn parse_key(&self, values: &ListValue, whole: bool) -> Result<Key, Status> {
        let n = values.values.len();
        if n > self.key.len() || (whole && n != self.key.len()) {
            let text = format!("Wrong number of key parts for {}: expected {}, got {n}.", self.name, self.key.len());
            return Err(Status::new(Code::InvalidArgument, text));
        }
        let part = |(value, (at, descending)): (&Value, &(usize, bool))| {
            let column = &self.columns[*at];
            if !value::fits(value, &column.ty) {
                let text = format!("Invalid value for key column {} of table {}.", column.name, self.name);
                return Err(Status::new(Code::InvalidArgument, text));
            }
            Ok(value::key_part(value, &column.ty, *descending))
        };
        values.values.iter().zip(&self.key).map(part).collect()
    }

    pub(super) fn spans(&self, keys: &KeySet) -> Result<Vec<Span>, Status> {
        if keys.all {
            return Ok(vec![Span::all()]);
        }
        let mut out = Vec::with_capacity(keys.keys.len() + keys.ranges.len());
        for key in &keys.keys {
            out.push(Span::Point(self.parse_key(key, true)?));
        }
        for range in &keys.ranges {
            out.push(self.range(range)?);
        }
        Ok(out)
    }

    /// A key range may name the first parts of the key only, and then covers all keys that begin so.
    fn range(&self, range: &KeyRange) -> Result<Span, Status> {
        use key_range::{EndKeyType, StartKeyType};
        let missing = |which| Status::new(Code::InvalidArgument, format!("KeyRange must have a {which} key."));
        let start = match range.start_key_type.as_ref().ok_or_else(|| missing("start"))? {
            StartKeyType::StartClosed(key) => Bound::Included(self.parse_key(key, false)?),
            StartKeyType::StartOpen(key) => after_prefix(self.parse_key(key, false)?, self.key.len()),
        };
        let end = match range.end_key_type.as_ref().ok_or_else(|| missing("end"))? {
            EndKeyType::EndClosed(key) => match after_prefix(self.parse_key(key, false)?, self.key.len()) {
                Bound::Excluded(key) => Bound::Included(key),
                other => other,
            },
            EndKeyType::EndOpen(key) => Bound::Excluded(self.parse_key(key, false)?),
        };
        Ok(Span::Range(start, end))
    }

    fn at(versions: &[Version], at: u64) -> Option<&Row> {
        versions.iter().rev().find(|v| v.at <= at)?.row.as_ref()
    }

    pub(super) fn write(&mut self, key: Key, row: Option<Row>, at: u64) {
        self.newest = self.newest.max(at);
        let versions = self.rows.entry(key).or_default();
        versions.push(Version { at, row });
        if versions.len() > VERSIONS {
            versions.remove(0);
        }
    }

    /// Whether anything in the span was written after `since`.
    pub(super) fn changed_since(&self, span: &Span, since: u64) -> bool {
        let changed = |versions: &Vec<Version>| versions.last().is_some_and(|v| v.at > since);
        self.newest > since
            && match span {
                Span::Point(key) => self.rows.get(key).is_some_and(changed),
                Span::Range(start, end) => {
                    is_ordered(start, end) && self.rows.range::<Key, _>((start.as_ref(), end.as_ref())).any(|(_, v)| changed(v))
                }
            }
    }
}

/// A bound after all keys with this prefix.
fn after_prefix(prefix: Key, key_len: usize) -> Bound<Key> {
    let mut key = prefix;
    if key.len() < key_len {
        // A descending NULL is the largest part there is, and with one part more than any stored key this one is above
        // all keys that begin with the prefix.
        key.resize(key_len + 1, KeyPart::Descending(std::cmp::Reverse(value::Scalar::Null)));
    }
    Bound::Excluded(key)
}

/// `BTreeMap::range` panics on a start beyond the end.
fn is_ordered(start: &Bound<Key>, end: &Bound<Key>) -> bool {
    match (start, end) {
        (Bound::Excluded(a), Bound::Excluded(b)) => a < b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a <= b,
        _ => true,
    }
}

impl<'a> View<'a> {
    pub(super) fn get(&self, key: &Key) -> Option<&'a Row> {
        if let Some(written) = self.overlay.and_then(|o| o.get(key)) {
            return written.as_ref();
        }
        Table::at(self.table.rows.get(key)?, self.at)
    }

    /// The rows of a span in key order, at most `limit`.
    pub(super) fn scan(&self, span: &Span, limit: usize) -> Vec<(Key, Row)> {
        let (start, end) = match span {
            Span::Point(key) => {
                return self.get(key).map(|row| (key.clone(), row.clone())).into_iter().collect();
            }
            Span::Range(start, end) => (start, end),
        };
        if !is_ordered(start, end) {
            return Vec::new();
        }
        let bounds = (start.as_ref(), end.as_ref());
        let stored = self.table.rows.range::<Key, _>(bounds).filter_map(|(k, v)| Some((k, Table::at(v, self.at)?)));
        match self.overlay {
            None => stored.take(limit).map(|(k, r)| (k.clone(), r.clone())).collect(),
            Some(overlay) => {
                let mut merged: BTreeMap<&Key, &Row> = stored.collect();
                for (key, written) in overlay.range::<Key, _>(bounds) {
                    match written {
                        Some(row) => merged.insert(key, row),
                        None => merged.remove(key),
                    };
                }
                merged.into_iter().take(limit).map(|(k, r)| (k.clone(), r.clone())).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use googleapis_tonic_google_spanner_v1::google::spanner::v1::TypeCode;

    use super::*;

    fn table() -> Table {
        let column =
            |name: &str| Column { name: name.into(), ty: value::simple(TypeCode::Int64), not_null: false, allows_commit_timestamp: false };
        let mut table = Table::new("T".into(), vec![column("A"), column("B")], vec![(0, false), (1, true)]);
        for (a, b) in [(1, 1), (1, 2), (2, 1), (3, 9)] {
            let row = vec![value::int(a), value::int(b)];
            table.write(table.key_of(&row), Some(Arc::new(row)), 10);
        }
        table
    }

    fn list(values: &[i64]) -> ListValue {
        ListValue { values: values.iter().map(|n| value::int(*n)).collect() }
    }

    fn keys(view: &View<'_>, span: &Span) -> Vec<(i64, i64)> {
        let ints = |row: &Row| (value::as_int(&row[0]).unwrap(), value::as_int(&row[1]).unwrap());
        view.scan(span, usize::MAX).iter().map(|(_, row)| ints(row)).collect()
    }

    fn range(table: &Table, start: &[i64], end: &[i64], closed: bool) -> Span {
        use key_range::{EndKeyType, StartKeyType};
        let (start, end) = (list(start), list(end));
        let range = if closed {
            KeyRange { start_key_type: Some(StartKeyType::StartClosed(start)), end_key_type: Some(EndKeyType::EndClosed(end)) }
        } else {
            KeyRange { start_key_type: Some(StartKeyType::StartOpen(start)), end_key_type: Some(EndKeyType::EndOpen(end)) }
        };
        table.range(&range).unwrap()
    }

    #[test]
    fn ranges_over_key_prefixes_cover_all_keys_that_begin_so() {
        let table = table();
        let view = View { table: &table, at: 10, overlay: None };
        assert_eq!(keys(&view, &range(&table, &[1], &[2], true)), [(1, 2), (1, 1), (2, 1)]);
        assert_eq!(keys(&view, &range(&table, &[1], &[3], false)), [(2, 1)]);
        assert_eq!(keys(&view, &range(&table, &[1, 2], &[1, 1], true)), [(1, 2), (1, 1)]);
        assert_eq!(keys(&view, &range(&table, &[3], &[1], true)), []);
    }

    #[test]
    fn old_versions_are_seen_at_their_time() {
        let mut table = table();
        let key = table.parse_key(&list(&[2, 1]), true).unwrap();
        table.write(key.clone(), None, 20);
        assert!(View { table: &table, at: 19, overlay: None }.get(&key).is_some());
        assert!(View { table: &table, at: 20, overlay: None }.get(&key).is_none());
        assert!(table.changed_since(&Span::Point(key), 19));
        assert!(!table.changed_since(&range(&table, &[1], &[1], true), 19));
    }

    #[test]
    fn a_transaction_sees_its_own_writes() {
        let table = table();
        let row: Row = Arc::new(vec![value::int(2), value::int(5)]);
        let deleted = table.parse_key(&list(&[1, 1]), true).unwrap();
        let overlay = Overlay::from([(table.key_of(&row), Some(row)), (deleted, None)]);
        let view = View { table: &table, at: 10, overlay: Some(&overlay) };
        assert_eq!(keys(&view, &Span::all()), [(1, 2), (2, 5), (2, 1), (3, 9)]);
    }
}
