use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use checks::{Body, Bound, Client, Failure, Mutation, Reader, Row, Sink, Snapshot, Source, Statement, Timestamp, Transaction, Type};
use gcloud_gax::grpc::Status;
use gcloud_gax::retry::TryAs;
use gcloud_googleapis::spanner::v1::PartitionOptions;
use gcloud_spanner::client::{Client as LibraryClient, ClientConfig, ReadOnlyTransactionOption, ReadWriteTransactionOption};
use gcloud_spanner::reader::{Reader as LibraryReader, RowIterator};
use gcloud_spanner::session::SessionError;
use gcloud_spanner::transaction::{QueryOptions, ReadOptions, Transaction as LibraryTransaction};
use gcloud_spanner::transaction_ro::ReadOnlyTransaction;
use gcloud_spanner::transaction_rw::{CommitResult, ReadWriteTransaction};
use serde_json::Value as Json;

use crate::values::{bound, decode, key_set, mutation, statement, timestamp};
use crate::{client_failed, failed};

pub(crate) struct Gcloud {
    client: LibraryClient,
    database: String,
}

impl Gcloud {
    pub(crate) async fn connect(database: &str, config: ClientConfig) -> Result<Self, Failure> {
        let client = LibraryClient::new(database, config).await.map_err(client_failed)?;
        Ok(Self { client, database: database.to_owned() })
    }
}

#[async_trait(?Send)]
impl Client for Gcloud {
    async fn single(&self, at: Bound) -> Result<Box<dyn Reader>, Failure> {
        let transaction = self.client.single_with_timestamp_bound(bound(at)).await;
        Ok(Box::new(ReadOnly(transaction.map_err(client_failed)?)))
    }

    async fn snapshot(&self, at: Bound) -> Result<Box<dyn Snapshot>, Failure> {
        let options = ReadOnlyTransactionOption { timestamp_bound: bound(at), ..Default::default() };
        let transaction = self.client.read_only_transaction_with_option(options).await;
        Ok(Box::new(ReadOnly(transaction.map_err(client_failed)?)))
    }

    async fn read_write(&self, tag: Option<&str>, body: Body) -> Result<(Timestamp, Json), Failure> {
        let options = ReadWriteTransactionOption { transaction_tag: tag.map(str::to_owned), ..Default::default() };
        let outcome = self
            .client
            .read_write_transaction_with_option(
                |transaction| {
                    let body = Arc::clone(&body);
                    Box::pin(async move { body(&mut ReadWrite(transaction)).await.map_err(Refused) })
                },
                options,
            )
            .await;
        let (result, value) = outcome.map_err(|Refused(failure)| failure)?;
        Ok((commit_timestamp(result)?, value))
    }

    async fn apply(&self, mutations: Vec<Mutation>) -> Result<Timestamp, Failure> {
        let mutations = mutations.into_iter().map(mutation).collect();
        commit_timestamp(self.client.apply(mutations).await.map_err(client_failed)?)
    }

    async fn partitioned_update(&self, update: Statement) -> Result<i64, Failure> {
        self.client.partitioned_update(statement(update)).await.map_err(client_failed)
    }

    /// The library reads a partition in the transaction that made it, and nowhere else.
    async fn read_partitions(&self, source: Source, sink: Sink<'_>) -> Result<usize, Failure> {
        let types = source.types().to_vec();
        let options = Some(PartitionOptions { max_partitions: 4, ..Default::default() });
        let mut transaction = self.client.batch_read_only_transaction().await.map_err(client_failed)?;
        let mut count = 0;
        match source {
            Source::Query { statement: query, .. } => {
                let partitions = transaction
                    .partition_query_with_option(statement(query), options, QueryOptions::default(), false, None)
                    .await
                    .map_err(failed)?;
                for partition in partitions {
                    count += 1;
                    let rows = transaction.execute(partition, None).await.map_err(failed)?;
                    drain(rows, &types, sink).await?;
                }
            }
            Source::Read { table, columns, keys, .. } => {
                let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
                let partitions = transaction
                    .partition_read_with_option(&table, &columns, key_set(keys), options, ReadOptions::default(), false, None)
                    .await
                    .map_err(failed)?;
                for partition in partitions {
                    count += 1;
                    let rows = transaction.execute(partition, None).await.map_err(failed)?;
                    drain(rows, &types, sink).await?;
                }
            }
        }
        Ok(count)
    }

    async fn batch_write(&self, _mutations: Vec<Mutation>) -> Result<(), Failure> {
        Err("the library has no BatchWrite".to_owned().into())
    }

    /// The library has one deadline for all calls of a connection.
    async fn query_with_deadline(&self, query: Statement, deadline: Duration) -> Result<Vec<Row>, Failure> {
        let mut config = ClientConfig::default();
        config.channel_config.timeout = deadline;
        let hasty = Arc::new(Gcloud::connect(&self.database, config).await?);
        let mut got = Vec::new();
        let source = Source::Query { statement: query, types: Vec::new() };
        let outcome = hasty
            .single(Bound::Strong)
            .await?
            .rows(source, &mut |row| {
                got.push(row);
                Ok(())
            })
            .await;
        hasty.close().await;
        outcome.map(|()| got)
    }

    async fn close(self: Arc<Self>) {
        self.client.clone().close().await;
    }
}

fn commit_timestamp(result: CommitResult) -> Result<Timestamp, Failure> {
    Ok(timestamp(result.timestamp.ok_or("no commit timestamp".to_owned())?))
}

struct ReadOnly(ReadOnlyTransaction);

#[async_trait]
impl Reader for ReadOnly {
    async fn rows(&mut self, source: Source, sink: Sink<'_>) -> Result<(), Failure> {
        read(&mut self.0, source, sink).await
    }
}

impl Snapshot for ReadOnly {
    fn read_timestamp(&self) -> Option<Timestamp> {
        let at = self.0.rts?;
        Some(Timestamp { seconds: at.unix_timestamp(), nanos: at.nanosecond() as i32 })
    }
}

struct ReadWrite<'a>(&'a mut ReadWriteTransaction);

#[async_trait]
impl Reader for ReadWrite<'_> {
    async fn rows(&mut self, source: Source, sink: Sink<'_>) -> Result<(), Failure> {
        read(self.0, source, sink).await
    }
}

#[async_trait]
impl Transaction for ReadWrite<'_> {
    async fn update(&mut self, update: Statement) -> Result<i64, Failure> {
        self.0.update(statement(update)).await.map_err(failed)
    }

    async fn batch_update(&mut self, updates: Vec<Statement>) -> (Vec<i64>, Option<Failure>) {
        match self.0.batch_update(updates.into_iter().map(statement).collect()).await {
            Ok(counts) => (counts, None),
            Err(status) => (Vec::new(), Some(failed(status))),
        }
    }

    fn buffer(&mut self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        self.0.buffer_write(mutations.into_iter().map(mutation).collect());
        Ok(())
    }
}

async fn read(transaction: &mut LibraryTransaction, source: Source, sink: Sink<'_>) -> Result<(), Failure> {
    let types = source.types().to_vec();
    match source {
        Source::Query { statement: query, .. } => {
            let rows = transaction.query(statement(query)).await.map_err(failed)?;
            drain(rows, &types, sink).await
        }
        Source::Read { table, index, columns, keys, limit, .. } => {
            let options = ReadOptions { index: index.unwrap_or_default(), limit, ..Default::default() };
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let rows = transaction.read_with_option(&table, &columns, key_set(keys), options).await.map_err(failed)?;
            drain(rows, &types, sink).await
        }
    }
}

async fn drain<R: LibraryReader>(mut rows: RowIterator<'_, R>, types: &[Type], sink: Sink<'_>) -> Result<(), Failure> {
    while let Some(row) = rows.next().await.map_err(failed)? {
        sink(decode(&row, types)?)?;
    }
    Ok(())
}

/// The error of a transaction's body, in which the library's retry loop looks for its own.
#[derive(Debug)]
struct Refused(Failure);

impl TryAs<Status> for Refused {
    fn try_as(&self) -> Option<&Status> {
        self.0.source()
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(failed(status))
    }
}

impl From<SessionError> for Refused {
    fn from(error: SessionError) -> Self {
        Self(client_failed(error.into()))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
