//! PartitionQuery and PartitionRead: tokens that each stand for some of the rows.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use prost::Message as _;

use super::query::fingerprint;
use super::selector::{Kind, Use};
use super::sql::{self, Items, Statement};
use super::table::Row;
use super::{Reply, State, invalid};
use crate::record;
use crate::status::Status;

/// Partitions that a request gets at most.
const PARTITIONS: i64 = 10;
/// Partitions unless the request sets a limit.
const USUAL_PARTITIONS: i64 = 3;

/// Every `of`-th row, beginning with row `number`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Partition {
    number: usize,
    of: usize,
}

impl Partition {
    /// The partition that a query asks for; its token must have been made for the same query.
    pub(super) fn of_query(request: &v1::ExecuteSqlRequest) -> Result<Option<Self>, Status> {
        Partition::parse(&request.partition_token, fingerprint(&request.sql, request.params.as_ref()))
    }

    pub(super) fn of_read(request: &v1::ReadRequest) -> Result<Option<Self>, Status> {
        let print = read_print(&request.table, &request.columns, request.key_set.as_ref());
        Partition::parse(&request.partition_token, print)
    }

    fn parse(token: &[u8], print: u64) -> Result<Option<Self>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let parsed = std::str::from_utf8(token).ok().and_then(|token| {
            let mut parts = token.strip_prefix("sim-partition-")?.split('-');
            let (number, of, own) = (parts.next()?, parts.next()?, parts.next()?);
            let partition = Partition { number: number.parse().ok()?, of: of.parse().ok().filter(|n| *n > 0)? };
            Some((partition, own.parse::<u64>().ok()?))
        });
        match parsed {
            Some((partition, own)) if own == print => Ok(Some(partition)),
            Some(_) => Err(invalid("The partition token was made for another request.")),
            None => Err(invalid("Invalid partition token.")),
        }
    }

    pub(super) fn of(&self, rows: Vec<Row>) -> Vec<Row> {
        rows.into_iter().skip(self.number).step_by(self.of).collect()
    }
}

fn read_print(table: &str, columns: &[String], keys: Option<&v1::KeySet>) -> u64 {
    let mut bytes = format!("{table}\n{}\n", columns.join(",")).into_bytes();
    bytes.extend(keys.map(|keys| keys.encode_to_vec()).unwrap_or_default());
    record::hash(&bytes)
}

impl State {
    pub(super) fn partition_query(&mut self, request: &v1::PartitionQueryRequest) -> Result<Reply, Status> {
        match sql::parse(&request.sql)? {
            Statement::Select(select)
                if select.limit.is_none() && select.order.is_empty() && !matches!(select.items, Items::Count { .. }) => {}
            _ => {
                return Err(invalid("The query is not root partitionable: it must be a plain SELECT."));
            }
        }
        let usage = self.partition_use(&request.session, request.transaction.as_ref())?;
        Ok(partitions(usage, request.partition_options, fingerprint(&request.sql, request.params.as_ref())))
    }

    pub(super) fn partition_read(&mut self, request: &v1::PartitionReadRequest) -> Result<Reply, Status> {
        let usage = self.partition_use(&request.session, request.transaction.as_ref())?;
        let table = self.database(&usage.database)?.table(&request.table)?;
        table.spans(&request.key_set.clone().unwrap_or_default())?;
        let print = read_print(&request.table, &request.columns, request.key_set.as_ref());
        Ok(partitions(usage, request.partition_options, print))
    }

    fn partition_use(&mut self, session: &str, selector: Option<&v1::TransactionSelector>) -> Result<Use, Status> {
        let usage = self.select(session, selector)?;
        match usage.kind {
            Kind::Snapshot { multi_use: true, .. } => Ok(usage),
            Kind::Snapshot { multi_use: false, .. } | Kind::SingleUseReadWrite => Err(invalid(
                "Partition reads may not be performed in single-use transactions, since the response needs to be \
                 reused.",
            )),
            Kind::ReadWrite(_) | Kind::PartitionedDml(_) => {
                Err(invalid("Partitioned reads can only be performed in a read-only transaction."))
            }
        }
    }
}

fn partitions(usage: Use, options: Option<v1::PartitionOptions>, print: u64) -> Reply {
    let most = options.map_or(0, |o| o.max_partitions);
    let of = if most > 0 { most.min(PARTITIONS) } else { USUAL_PARTITIONS };
    let token = |number| format!("sim-partition-{number}-{of}-{print}").into_bytes();
    let partitions = (0..of).map(|number| v1::Partition { partition_token: token(number) }).collect();
    Reply::unary(&v1::PartitionResponse { partitions, transaction: usage.shown })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn partitions_cover_every_row_once() {
        let rows: Vec<Row> = (0..7).map(|n| vec![super::super::value::int(n)].into()).collect();
        let mut all: Vec<Row> = (0..3).flat_map(|number| Partition { number, of: 3 }.of(rows.clone())).collect();
        all.sort_by_key(|row| super::super::value::as_int(&row[0]));
        assert_eq!(all, rows);
    }

    #[test]
    fn tokens_are_bound_to_their_request() {
        let token = b"sim-partition-1-3-42";
        assert_eq!(Partition::parse(token, 42).unwrap(), Some(Partition { number: 1, of: 3 }));
        assert!(Partition::parse(token, 43).is_err());
        assert!(Partition::parse(b"x", 42).is_err());
        assert!(Partition::parse(b"sim-partition-0-0-42", 42).is_err());
    }
}
