//! Reads and SQL: requests to outcomes.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use prost::Message as _;
use prost_types::Struct;
use v1::execute_sql_request::QueryMode;
use v1::result_set_stats::RowCount;
use v1::struct_type::Field;

use super::eval::{self, Params};
use super::partition::Partition;
use super::result::{Outcome, Resume};
use super::selector::{Kind, Use};
use super::sql::{self, Items, Select, Statement};
use super::table::{Row, Span, View};
use super::txn::TxnState;
use super::value::{self, simple};
use super::{State, invalid};
use crate::record;
use crate::status::Status;

/// Spans remembered of a transaction's reads; beyond that, whole tables are.
const READ_SPANS: usize = 1000;

impl State {
    /// Read and StreamingRead.
    pub(super) fn read(&mut self, request: &v1::ReadRequest) -> Result<Outcome, Status> {
        if !request.index.is_empty() && request.index != "PRIMARY_KEY" {
            return Err(invalid(format!("sim: unsupported read by index {}", request.index)));
        }
        let usage = self.select(&request.session, request.transaction.as_ref())?;
        let outcome = self.read_with(&usage, request);
        self.finish(usage, outcome)
    }

    fn read_with(&mut self, usage: &Use, request: &v1::ReadRequest) -> Result<Outcome, Status> {
        let table = self.database(&usage.database)?.table(&request.table)?;
        if request.columns.is_empty() {
            return Err(invalid("Invalid Read request: no columns."));
        }
        let projection = request.columns.iter().map(|name| table.column(name)).collect::<Result<Vec<usize>, Status>>()?;
        let fields = projection.iter().map(|at| field(&table.columns[*at].name, &table.columns[*at].ty)).collect();
        let spans = table.spans(&request.key_set.clone().unwrap_or_default())?;
        let partition = Partition::of_read(request)?;
        // A partition's rows are counted before the limit.
        let limit = match usize::try_from(request.limit) {
            Ok(limit @ 1..) if partition.is_none() => limit,
            Ok(_) => usize::MAX,
            Err(_) => return Err(invalid("Invalid Read request: limit must not be negative.")),
        };
        let resume = Resume::parse(&request.resume_token)?;
        let (mut rows, at) = self.rows(usage, &request.table, spans, limit, resume.as_ref())?;
        if let Some(partition) = partition {
            rows = partition.of(rows);
        }
        Ok(Outcome { projection: Some(projection), ..rows_outcome(fields, rows, at) })
    }

    /// ExecuteSql and ExecuteStreamingSql.
    pub(super) fn execute_sql(&mut self, request: &v1::ExecuteSqlRequest) -> Result<Outcome, Status> {
        let statement = sql::parse(&request.sql)?;
        let usage = self.select(&request.session, request.transaction.as_ref())?;
        let params = Params { values: request.params.as_ref(), types: &request.param_types };
        let mode = QueryMode::try_from(request.query_mode).unwrap_or(QueryMode::Normal);
        let outcome = match &statement {
            Statement::Select(select) => self.query(&usage, request, select, &params, mode),
            _ if mode == QueryMode::Plan => Ok(Outcome { stats: Some(plan()), ..rows_outcome(Vec::new(), Vec::new(), 0) }),
            dml => {
                let fingerprint = fingerprint(&request.sql, request.params.as_ref());
                self.dml(&usage, &[(dml, params)], request.seqno, fingerprint).map(|(counts, failure)| match failure {
                    Some(status) => Err(status),
                    None => Ok(Outcome::rows_changed(counts.first().copied().unwrap_or(RowCount::RowCountExact(0)))),
                })?
            }
        };
        self.finish(usage, outcome)
    }

    fn query(
        &mut self,
        usage: &Use,
        request: &v1::ExecuteSqlRequest,
        select: &Select,
        params: &Params<'_>,
        mode: QueryMode,
    ) -> Result<Outcome, Status> {
        let mut outcome = self.run_select(usage, request, select, params)?;
        match mode {
            QueryMode::Plan => {
                outcome.rows = Vec::new();
                outcome.stats = Some(plan());
            }
            QueryMode::Normal => {}
            QueryMode::Profile | QueryMode::WithStats | QueryMode::WithPlanAndStats => {
                let rows = value::text(outcome.rows.len().to_string());
                let stats = [("rows_returned", rows), ("elapsed_time", value::text("1 msecs"))];
                let fields = stats.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                outcome.stats = Some(v1::ResultSetStats { query_stats: Some(Struct { fields }), ..plan() });
            }
        }
        Ok(outcome)
    }

    fn run_select(
        &mut self,
        usage: &Use,
        request: &v1::ExecuteSqlRequest,
        select: &Select,
        params: &Params<'_>,
    ) -> Result<Outcome, Status> {
        let resume = Resume::parse(&request.resume_token)?;
        let Some(name) = &select.table else {
            let (fields, row) = eval::constants(&select.items, params)?;
            let at = if let Kind::Snapshot { at, .. } = usage.kind { at } else { self.now() };
            return Ok(rows_outcome(fields, vec![row], at));
        };
        let table = self.database(&usage.database)?.table(name)?;
        let filter = eval::Filter::new(table, &select.filter, params)?;
        let order =
            select.order.iter().map(|(column, descending)| Ok((table.column(column)?, *descending))).collect::<Result<Vec<_>, Status>>()?;
        let limit = match &select.limit {
            None => usize::MAX,
            Some(limit) => eval::limit(limit, params)?,
        };
        let (mut rows, at) = self.rows(usage, name, vec![filter.span.clone()], usize::MAX, resume.as_ref())?;
        let table = self.database(&usage.database)?.table(name)?;
        rows.retain(|row| filter.holds(row));
        if !order.is_empty() {
            rows.sort_by_cached_key(|row| {
                let part = |(at, descending): &(usize, bool)| value::key_part(&row[*at], &table.columns[*at].ty, *descending);
                order.iter().map(part).collect::<Vec<_>>()
            });
        }
        rows.truncate(limit);
        if let Some(partition) = Partition::of_query(request)? {
            rows = partition.of(rows);
        }
        let all = |projection: Vec<usize>, fields, rows| Outcome { projection: Some(projection), ..rows_outcome(fields, rows, at) };
        Ok(match &select.items {
            Items::All => {
                let fields = table.columns.iter().map(|c| field(&c.name, &c.ty)).collect();
                all((0..table.columns.len()).collect(), fields, rows)
            }
            Items::Count { name } => {
                let count: Row = vec![value::int(i64::try_from(rows.len()).unwrap_or(i64::MAX))].into();
                rows_outcome(vec![field(name, &simple(v1::TypeCode::Int64))], vec![count], at)
            }
            Items::List(items) => match eval::plain_columns(table, items)? {
                Some((projection, fields)) => all(projection, fields, rows),
                None => {
                    let (fields, rows) = eval::computed(table, items, &rows, params)?;
                    rows_outcome(fields, rows, at)
                }
            },
        })
    }

    /// The rows of some spans, in key order, as the transaction sees them, and the timestamp of that.
    fn rows(
        &mut self,
        usage: &Use,
        table: &str,
        spans: Vec<Span>,
        limit: usize,
        resume: Option<&Resume>,
    ) -> Result<(Vec<Row>, u64), Status> {
        let at = match &usage.kind {
            Kind::Snapshot { at, multi_use: true } => *at,
            // A resumed single-use stream goes on at the time at which it began.
            Kind::Snapshot { at, multi_use: false } => resume.map_or(*at, |r| r.at),
            Kind::ReadWrite(id) => {
                self.lock_for_read(id)?;
                self.remember_read(id, table, &spans);
                u64::MAX
            }
            Kind::SingleUseReadWrite => {
                let text = "Transaction mode for read only single use transaction should be read_only.";
                return Err(invalid(text));
            }
            Kind::PartitionedDml(_) => {
                return Err(invalid("PartitionedDml Transactions may only be used to execute DML statements"));
            }
        };
        let view = self.view(usage, table, at)?;
        let rows = match &*spans {
            [span] => view.scan(span, limit).into_iter().map(|(_, row)| row).collect(),
            spans => {
                // Overlapping spans show a row once.
                let merged: std::collections::BTreeMap<_, _> = spans.iter().flat_map(|span| view.scan(span, usize::MAX)).collect();
                merged.into_values().take(limit).collect()
            }
        };
        Ok((rows, at))
    }

    pub(super) fn view(&self, usage: &Use, table: &str, at: u64) -> Result<View<'_>, Status> {
        let database = self.databases.get(&usage.database).ok_or_else(|| super::database_not_found(&usage.database))?;
        let overlay = match &usage.kind {
            Kind::ReadWrite(id) => self.txns.get(id).and_then(|txn| txn.writes.get(&table.to_ascii_lowercase())),
            _ => None,
        };
        Ok(View { table: database.table(table)?, at, overlay })
    }

    pub(super) fn remember_read(&mut self, id: &[u8], table: &str, spans: &[Span]) {
        let now = self.now();
        let Some(txn) = self.txns.get_mut(id) else {
            return;
        };
        let table = table.to_ascii_lowercase();
        if txn.reads.len() + spans.len() > READ_SPANS {
            let since = txn.reads.iter().filter(|(t, ..)| *t == table).map(|(.., at)| *at).min().unwrap_or(now);
            txn.reads.retain(|(t, ..)| *t != table);
            txn.reads.push((table, Span::all(), since));
        } else {
            txn.reads.extend(spans.iter().map(|span| (table.clone(), span.clone(), now)));
        }
    }

    /// Adds what the outcome says of its transaction. One that an unsuccessful request began inline is ended: the client
    /// never learns its id.
    fn finish(&mut self, usage: Use, outcome: Result<Outcome, Status>) -> Result<Outcome, Status> {
        match outcome {
            Ok(mut outcome) => {
                if let Kind::ReadWrite(id) = &usage.kind {
                    outcome.precommit_token = self.precommit_token(id);
                }
                outcome.transaction = usage.shown;
                Ok(outcome)
            }
            Err(status) => {
                if let Some(begun) = usage.shown.filter(|shown| !shown.id.is_empty()) {
                    self.end(&begun.id, TxnState::RolledBack);
                }
                Err(status)
            }
        }
    }
}

fn rows_outcome(fields: Vec<Field>, rows: Vec<Row>, at: u64) -> Outcome {
    Outcome { fields, rows, projection: None, stats: None, transaction: None, undeclared_parameters: None, precommit_token: None, at }
}

fn plan() -> v1::ResultSetStats {
    v1::ResultSetStats { query_plan: Some(v1::QueryPlan::default()), ..v1::ResultSetStats::default() }
}

pub(super) fn field(name: &str, ty: &v1::Type) -> Field {
    Field { name: name.to_owned(), r#type: Some(ty.clone()) }
}

/// Tells one statement with its parameters from another.
pub(super) fn fingerprint(sql: &str, params: Option<&Struct>) -> u64 {
    let mut bytes = sql.as_bytes().to_vec();
    if let Some(params) = params {
        bytes.extend_from_slice(&params.encode_to_vec());
    }
    record::hash(&bytes)
}
