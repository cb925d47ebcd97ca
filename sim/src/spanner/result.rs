//! Results: rows with their columns, as one ResultSet or as a stream of PartialResultSets that can be resumed.

use googleapis_tonic_google_spanner_v1::google::spanner::v1;
use prost_types::{ListValue, Value};
use v1::result_set_stats::RowCount;
use v1::struct_type::Field;

use super::table::Row;
use super::{Reply, invalid};
use crate::grpc;
use crate::status::Status;

/// What a read, query or statement came to.
pub(super) struct Outcome {
    pub(super) fields: Vec<Field>,
    pub(super) rows: Vec<Row>,
    /// Which values of each row are shown; `None` means all.
    pub(super) projection: Option<Vec<usize>>,
    pub(super) stats: Option<v1::ResultSetStats>,
    pub(super) transaction: Option<v1::Transaction>,
    pub(super) undeclared_parameters: Option<v1::StructType>,
    pub(super) precommit_token: Option<v1::MultiplexedSessionPrecommitToken>,
    /// The read timestamp, which resume tokens carry.
    pub(super) at: u64,
}

/// What a resume token says: where the stream was, and at which timestamp.
pub(super) struct Resume {
    pub(super) at: u64,
    row: usize,
}

impl Resume {
    /// Reads a token; an empty one is none.
    pub(super) fn parse(token: &[u8]) -> Result<Option<Self>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let parsed = std::str::from_utf8(token).ok().and_then(|token| {
            let (at, row) = token.strip_prefix("sim-resume-")?.split_once('-')?;
            Some(Resume { at: at.parse().ok()?, row: row.parse().ok()? })
        });
        parsed.map(Some).ok_or_else(|| invalid("Invalid resume token."))
    }

    fn token(at: u64, row: usize) -> Vec<u8> {
        format!("sim-resume-{at}-{row}").into_bytes()
    }
}

impl Outcome {
    /// The outcome of DML.
    pub(super) fn rows_changed(count: RowCount) -> Self {
        let stats = v1::ResultSetStats { row_count: Some(count), ..v1::ResultSetStats::default() };
        Outcome {
            fields: Vec::new(),
            rows: Vec::new(),
            projection: None,
            stats: Some(stats),
            transaction: None,
            undeclared_parameters: None,
            precommit_token: None,
            at: 0,
        }
    }

    fn metadata(&mut self) -> v1::ResultSetMetadata {
        v1::ResultSetMetadata {
            row_type: Some(v1::StructType { fields: std::mem::take(&mut self.fields) }),
            transaction: self.transaction.take(),
            undeclared_parameters: self.undeclared_parameters.take(),
        }
    }

    fn values<'a>(&'a self, row: &'a Row) -> Box<dyn Iterator<Item = Value> + 'a> {
        match &self.projection {
            None => Box::new(row.iter().cloned()),
            Some(columns) => Box::new(columns.iter().map(|at| row[*at].clone())),
        }
    }

    pub(super) fn result_set(mut self) -> v1::ResultSet {
        let metadata = Some(self.metadata());
        let rows = self.rows.iter().map(|row| ListValue { values: self.values(row).collect() }).collect();
        v1::ResultSet { metadata, rows, stats: self.stats, precommit_token: self.precommit_token, cache_update: None }
    }

    pub(super) fn unary(self) -> Result<Reply, Status> {
        Ok(Reply::unary(&self.result_set()))
    }

    /// The rows as PartialResultSets of `per_message` rows, made as they are sent. A resumed stream begins after the
    /// rows that its token stands for.
    pub(super) fn stream(mut self, resume_token: &[u8], per_message: usize) -> Reply {
        let resumed = Resume::parse(resume_token).ok().flatten().map_or(0, |r| r.row);
        let mut metadata = Some(self.metadata());
        let mut next = resumed.min(self.rows.len());
        let mut ended = false;
        Reply::Stream(Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let sent = next..(next + per_message).min(self.rows.len());
            let values = self.rows[sent.clone()].iter().flat_map(|row| self.values(row)).collect();
            next = sent.end;
            ended = next == self.rows.len();
            let message = v1::PartialResultSet {
                metadata: metadata.take(),
                values,
                resume_token: Resume::token(self.at, next),
                stats: if ended { self.stats.take() } else { None },
                precommit_token: if ended { self.precommit_token.take() } else { None },
                last: ended,
                ..v1::PartialResultSet::default()
            };
            // Freed as they go, so that a slow reader does not hold what it has been given.
            for row in &mut self.rows[sent] {
                *row = Row::default();
            }
            Some(Ok(grpc::frame_proto(&message)))
        })))
    }
}
