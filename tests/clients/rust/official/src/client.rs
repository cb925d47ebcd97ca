use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checks::{Body, Bound, Client, Failure, Mutation, Reader, Row, Sink, Snapshot, Source, Statement, Timestamp, Transaction};
use google_cloud_spanner::Error;
use google_cloud_spanner::batch::{BatchDml, Partition};
use google_cloud_spanner::client::DatabaseClient;
use google_cloud_spanner::error::BatchUpdateError;
use google_cloud_spanner::model::PartitionOptions;
use google_cloud_spanner::mutation::MutationGroup;
use google_cloud_spanner::result::ResultSet;
use google_cloud_spanner::statement::Statement as LibraryStatement;
use google_cloud_spanner::transaction::{MultiUseReadOnlyTransaction, ReadWriteTransaction, SingleUseReadOnlyTransaction};
use serde_json::Value as Json;

use crate::values::{bound, decode, mutation, read_request, statement, timestamp};
use crate::{failed, spanner};

pub(crate) struct Official {
    client: DatabaseClient,
    database: String,
}

impl Official {
    pub(crate) async fn connect(database: &str) -> Result<Self, Failure> {
        let client = spanner().await?.database_client(database).build().await.map_err(failed)?;
        Ok(Self { client, database: database.to_owned() })
    }
}

#[async_trait(?Send)]
impl Client for Official {
    async fn single(&self, at: Bound) -> Result<Box<dyn Reader>, Failure> {
        Ok(Box::new(Single(self.client.single_use().set_timestamp_bound(bound(at)).build())))
    }

    async fn snapshot(&self, at: Bound) -> Result<Box<dyn Snapshot>, Failure> {
        let transaction = self.client.read_only_transaction().set_timestamp_bound(bound(at));
        Ok(Box::new(MultiUse(transaction.build().await.map_err(failed)?)))
    }

    async fn read_write(&self, tag: Option<&str>, body: Body) -> Result<(Timestamp, Json), Failure> {
        let mut transaction = self.client.read_write_transaction();
        if let Some(tag) = tag {
            transaction = transaction.set_transaction_tag(tag);
        }
        // The body's own failure, which the library's error type has no place for.
        let mut refused = None;
        let outcome = transaction
            .build()
            .run(async |transaction| {
                body(&mut ReadWrite(transaction)).await.map_err(|failure| {
                    failure.into_source::<Error>().unwrap_or_else(|failure| {
                        refused = Some(failure);
                        Error::ser("the body of the transaction refused")
                    })
                })
            })
            .await;
        match outcome {
            Ok(result) => {
                let committed = result.commit_timestamp().ok_or("no commit timestamp".to_owned())?;
                Ok((timestamp(committed), result.into_inner()))
            }
            Err(error) => Err(refused.unwrap_or_else(|| failed(error))),
        }
    }

    async fn apply(&self, mutations: Vec<Mutation>) -> Result<Timestamp, Failure> {
        let transaction = self.client.write_only_transaction().build();
        let response = transaction.write(mutations.into_iter().map(mutation)).await.map_err(failed)?;
        Ok(timestamp(response.commit_timestamp.ok_or("no commit timestamp".to_owned())?))
    }

    async fn partitioned_update(&self, update: Statement) -> Result<i64, Failure> {
        let transaction = self.client.partitioned_dml_transaction().build();
        transaction.execute_update(statement(update)).await.map_err(failed)
    }

    /// Hands the partitions over as one process hands them to another: as bytes, to another client.
    async fn read_partitions(&self, source: Source, sink: Sink<'_>) -> Result<usize, Failure> {
        let types = source.types().to_vec();
        let options = PartitionOptions::new().set_max_partitions(4);
        let transaction = self.client.batch_read_only_transaction().build().await.map_err(failed)?;
        let partitions = match source {
            Source::Query { statement: query, .. } => transaction.partition_query(statement(query), options).await,
            read => transaction.partition_read(read_request(read), options).await,
        };
        let bytes = serde_json::to_vec(&partitions.map_err(failed)?).map_err(json_failed)?;

        let worker = Official::connect(&self.database).await?;
        let partitions: Vec<Partition> = serde_json::from_slice(&bytes).map_err(json_failed)?;
        for partition in &partitions {
            let mut rows = partition.execute(&worker.client).await.map_err(failed)?;
            while let Some(row) = rows.next().await {
                sink(decode(&row.map_err(failed)?, &types)?)?;
            }
        }
        Ok(partitions.len())
    }

    async fn batch_write(&self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        let groups = mutations.into_iter().map(|write| MutationGroup::new(vec![mutation(write)]));
        let transaction = self.client.batch_write_transaction().build();
        let mut responses = transaction.execute_streaming(groups).await.map_err(failed)?;
        while let Some(response) = responses.next().await {
            let status = response.map_err(failed)?.status.unwrap_or_default();
            if status.code != 0 {
                return Err(format!("a group failed: {status:?}").into());
            }
        }
        Ok(())
    }

    /// On a connection of its own: the emulator answers a call whose deadline has passed more than once, and the library
    /// then gives up the connection that the call was on.
    async fn query_with_deadline(&self, query: Statement, deadline: Duration) -> Result<Vec<Row>, Failure> {
        let query = LibraryStatement::builder(query.sql).with_attempt_timeout(deadline).build();
        let hasty = Official::connect(&self.database).await?;
        let transaction = hasty.client.single_use().build();
        let mut rows = transaction.execute_query(query).await.map_err(failed)?;
        let mut got = Vec::new();
        while let Some(row) = rows.next().await {
            got.push(decode(&row.map_err(failed)?, &[])?);
        }
        Ok(got)
    }

    async fn close(self: Arc<Self>) {}
}

fn json_failed(error: serde_json::Error) -> Failure {
    format!("a partition as JSON: {error}").into()
}

struct Single(SingleUseReadOnlyTransaction);
struct MultiUse(MultiUseReadOnlyTransaction);
struct ReadWrite(ReadWriteTransaction);

/// The library's transactions have these methods in common, but no trait.
macro_rules! impl_reader {
    ($($transaction:ty),+) => {$(
        #[async_trait]
        impl Reader for $transaction {
            async fn rows(&mut self, source: Source, sink: Sink<'_>) -> Result<(), Failure> {
                let types = source.types().to_vec();
                let rows = match source {
                    Source::Query { statement: query, .. } => {
                        self.0.execute_query(statement(query)).await
                    }
                    read => self.0.execute_read(read_request(read)).await,
                };
                drain(rows.map_err(failed)?, &types, sink).await
            }
        }
    )+};
}

impl_reader!(Single, MultiUse, ReadWrite);

impl Snapshot for MultiUse {
    fn read_timestamp(&self) -> Option<Timestamp> {
        self.0.read_timestamp().map(timestamp)
    }
}

#[async_trait]
impl Transaction for ReadWrite {
    async fn update(&mut self, update: Statement) -> Result<i64, Failure> {
        self.0.execute_update(statement(update)).await.map_err(failed)
    }

    async fn batch_update(&mut self, updates: Vec<Statement>) -> (Vec<i64>, Option<Failure>) {
        let batch: BatchDml = updates.into_iter().map(statement).collect::<Vec<_>>().into();
        match self.0.execute_batch_update(batch).await {
            Ok(counts) => (counts, None),
            Err(error) => {
                let counts = BatchUpdateError::extract(&error).map_or_else(Vec::new, |error| error.update_counts.clone());
                (counts, Some(failed(error)))
            }
        }
    }

    fn buffer(&mut self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        self.0.buffer(mutations.into_iter().map(mutation)).map_err(failed)
    }
}

async fn drain(mut rows: ResultSet, types: &[checks::Type], sink: Sink<'_>) -> Result<(), Failure> {
    while let Some(row) = rows.next().await {
        sink(decode(&row.map_err(failed)?, types)?)?;
    }
    Ok(())
}
