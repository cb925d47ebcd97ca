use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;

use crate::library::{Body, Bound, Client, Failure, KeySet, Mutation, Source, Type, Value, Write};
use crate::schema::read_balance;
use crate::workload::{Workload, collect, expect, in_step, integer, query_integer};

fn update_balance(account: &str, balance: i64) -> Mutation {
    Mutation {
        write: Write::Update,
        table: "Accounts",
        columns: vec![("AccountId", account.into()), ("Balance", balance.into()), ("UpdatedAt", Value::CommitTimestamp)],
    }
}

/// Moves money between two accounts, with reads, a query, DML and buffered writes in one transaction.
pub(crate) async fn read_write_transaction(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.set_balance("transfer-from", 100).await?;
    w.set_balance("transfer-to", 0).await?;
    let body: Body = Arc::new(|tx| {
        Box::pin(async move {
            let from = integer(tx, read_balance("transfer-from")).await?;
            tx.update("UPDATE Accounts SET Balance = Balance + 30 WHERE AccountId = 'transfer-to'".into()).await?;
            let sql = "SELECT Balance FROM Accounts WHERE AccountId = 'transfer-to'";
            let to = integer(tx, query_integer(sql)).await?;
            tx.buffer(vec![update_balance("transfer-from", from - 30)])?;
            Ok(json!(to))
        })
    });
    let (committed, seen) = w.client()?.read_write(Some("action=transfer"), body).await?;

    let accounts = w
        .single(Source::Read {
            table: "Accounts".to_owned(),
            index: None,
            columns: ["Balance", "UpdatedAt"].map(str::to_owned).to_vec(),
            keys: KeySet::Keys(vec!["transfer-from".into()]),
            limit: 0,
            types: vec![Type::Int64, Type::Timestamp],
        })
        .await?;
    expect("account", &accounts, &vec![vec![Value::Int64(70), Value::Timestamp(committed)]])?;
    let to = w.balance("transfer-to").await?;
    expect("balance of the other account", &to, &30)?;
    expect("balance within the transaction", &seen, &json!(30))?;
    Ok(json!({ "from": 70, "to": to, "seen_within": seen, "updated_at_commit_timestamp": true }))
}

/// Two transactions read and then write the same row. The second begins while the first holds the row, so one of them is
/// aborted, whichever the server picks, and the library's retry loop runs it again.
pub(crate) async fn aborts_and_retries(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.set_balance("contended", 0).await?;
    let other = w.overlapping().await?;
    let attempts = Arc::new(AtomicUsize::new(0));
    // Gates: closed while they have no permit.
    let first_holds = Arc::new(Semaphore::new(0));
    let second_tried = Arc::new(Semaphore::new(0));
    let add = |amount: i64, open: Arc<Semaphore>, wait: Option<Arc<Semaphore>>| -> Body {
        let attempts = Arc::clone(&attempts);
        Arc::new(move |tx| {
            let (attempts, open, wait) = (Arc::clone(&attempts), Arc::clone(&open), wait.clone());
            Box::pin(async move {
                attempts.fetch_add(1, Ordering::Relaxed);
                let read = integer(tx, read_balance("contended")).await;
                open.add_permits(1);
                if let Some(wait) = wait {
                    let _passed = wait.acquire().await.map_err(|error| error.to_string())?;
                }
                tx.buffer(vec![update_balance("contended", read? + amount)])?;
                Ok(Json::Null)
            })
        })
    };
    let first_body = add(1, Arc::clone(&first_holds), Some(Arc::clone(&second_tried)));
    let second_body = add(10, second_tried, None);
    let first = w.client()?.read_write(None, first_body);
    let second = async {
        let _passed = first_holds.acquire().await.map_err(|error| error.to_string())?;
        other.read_write(None, second_body).await
    };
    let (first, second) = tokio::join!(first, second);
    first.map_err(in_step("first transaction"))?;
    second.map_err(in_step("second transaction"))?;
    w.close_overlapping(other).await;

    let balance = w.balance("contended").await?;
    let attempts = attempts.load(Ordering::Relaxed);
    if balance != 11 || attempts < 3 {
        let text = format!("balance {balance} after {attempts} attempts, expected 11 after 3 or more");
        return Err(text.into());
    }
    Ok(json!({ "balance": balance, "retried": true }))
}

pub(crate) async fn rollback_leaves_no_trace(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.set_balance("rolled-back", 1).await?;
    let body: Body = Arc::new(|tx| {
        Box::pin(async move {
            tx.update("UPDATE Accounts SET Balance = 2 WHERE AccountId = 'rolled-back'".into()).await?;
            let sql = "SELECT Balance FROM Accounts WHERE AccountId = 'rolled-back'";
            let within = integer(tx, query_integer(sql)).await?;
            Err(format!("changed my mind at {within}").into())
        })
    });
    match w.client()?.read_write(None, body).await {
        Err(Failure::Unexpected(text)) if text == "changed my mind at 2" => {}
        Err(failure) => return Err(failure),
        Ok(_) => return Err("the transaction committed".to_owned().into()),
    }
    // Had the rollback not arrived, its locks would still be held and this write would be aborted over and over.
    w.set_balance("after-rollback", 1).await.map_err(in_step("write after the rollback"))?;
    let after = w.balance("rolled-back").await?;
    expect("balance after the rollback", &after, &1)?;
    Ok(json!({ "within": 2, "after": after }))
}

pub(crate) async fn multi_use_snapshot(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.set_balance("snapshot", 1).await?;
    let other = w.overlapping().await?;
    let mut snapshot = w.client()?.snapshot(Bound::Strong).await?;
    let before = integer(&mut *snapshot, read_balance("snapshot")).await?;
    let at = snapshot.read_timestamp().ok_or("no read timestamp".to_owned())?;
    let committed = other.apply(vec![update_balance("snapshot", 2)]).await?;
    let sql = "SELECT Balance FROM Accounts WHERE AccountId = 'snapshot'";
    let again = integer(&mut *snapshot, query_integer(sql)).await?;
    let now = integer(&mut *other.single(Bound::Strong).await?, read_balance("snapshot")).await?;
    w.close_overlapping(other).await;
    expect("balances before, again and now", &(before, again, now), &(1, 1, 2))?;
    if at >= committed {
        return Err(format!("read at {at:?}, written at {committed:?}").into());
    }
    Ok(json!({ "before": before, "again": again, "now": now, "snapshot_is_before_the_write": true }))
}

/// Lies between two writes. A stale read aims at `STALE_AIM` after the first, so it may be late by the rest of the gap
/// before it would see the second.
const STALE_GAP: Duration = Duration::from_millis(1500);
const STALE_AIM: Duration = Duration::from_millis(200);

pub(crate) async fn stale_read(w: &Arc<Workload>) -> Result<Json, Failure> {
    w.set_balance("stale", 1).await?;
    let first = Instant::now();
    // Only time makes a read stale.
    tokio::time::sleep(STALE_GAP).await;
    let second = w.set_balance("stale", 2).await?;
    let client = w.client()?;
    let exact = balance_at(client, Bound::ExactStaleness(first.elapsed() - STALE_AIM), "stale").await?;
    tokio::time::sleep(STALE_AIM).await;
    let bounded = balance_at(client, Bound::MaxStaleness(STALE_AIM / 2), "stale").await?;
    let at_least = balance_at(client, Bound::MinReadTimestamp(second), "stale").await?;
    let read = (exact, bounded, at_least);
    expect("exact staleness, max staleness, min read timestamp", &read, &(1, 2, 2))?;
    Ok(json!({ "exact_staleness": exact, "max_staleness": bounded, "min_read_timestamp": at_least }))
}

async fn balance_at(client: &Arc<dyn Client>, bound: Bound, account: &str) -> Result<i64, Failure> {
    integer(&mut *client.single(bound).await?, read_balance(account)).await
}

pub(crate) async fn exact_time_read(w: &Arc<Workload>) -> Result<Json, Failure> {
    let mut written = Vec::new();
    for balance in 1..=3 {
        written.push((balance, w.set_balance("exact", balance).await?));
    }
    let mut read = Vec::new();
    for (balance, at) in written {
        let mut snapshot = w.client()?.snapshot(Bound::ReadTimestamp(at)).await?;
        let rows = collect(&mut *snapshot, read_balance("exact")).await?;
        expect("balance at a commit timestamp", &rows, &vec![vec![Value::Int64(balance)]])?;
        expect("read timestamp", &snapshot.read_timestamp(), &Some(at))?;
        read.push(balance);
    }
    Ok(json!({ "read": read, "read_timestamp_is_the_one_asked_for": true }))
}
