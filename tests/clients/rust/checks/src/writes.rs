use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::library::{Body, Bound, Code, Failure, KeySet, Mutation, Statement, Timestamp, Type, Value, Write};
use crate::schema::{self, Digest, SINGERS, display};
use crate::workload::{Workload, collect, digest, expect, first_strings, in_step, query};

pub(crate) async fn insert_mutations(w: &Arc<Workload>) -> Result<Json, Failure> {
    let committed = w.client()?.apply((0..SINGERS).map(schema::insert_singer).collect()).await?;
    if committed.seconds == 0 {
        return Err("no commit timestamp".to_owned().into());
    }
    let mut reader = w.client()?.single(Bound::Strong).await?;
    let got = digest(&mut *reader, schema::read_singers(KeySet::All)).await.map_err(in_step("read back"))?.detail();
    expect("rows read back", &got, &Digest::of_singers().detail())?;
    Ok(got)
}

/// Leaves the table as it was: its rows are deleted again.
pub(crate) async fn dml_with_parameters(w: &Arc<Workload>) -> Result<Json, Failure> {
    let body: Body = Arc::new(|tx| {
        Box::pin(async move {
            let inserted = tx.update(insert_with_every_type()).await?;
            let updated = tx
                .update(
                    Statement::new("UPDATE Singers SET Plays = @plays, Note = @note WHERE STARTS_WITH(SingerId, @prefix)")
                        .with("plays", 5000)
                        .with("note", Value::Null(Type::String))
                        .with("prefix", "dml-"),
                )
                .await?;
            let columns = [Type::String, Type::Int64, Type::Float64, Type::Bool, Type::Bytes, Type::Timestamp, Type::Strings];
            let read = Statement::new(
                "SELECT SingerId, Plays, Rating, Active, Photo, Joined, Tags FROM Singers
WHERE STARTS_WITH(SingerId, @prefix) ORDER BY SingerId",
            );
            let between = collect(tx, query(read.with("prefix", "dml-"), columns)).await?;
            let deleted = tx.update(Statement::new("DELETE FROM Singers WHERE SingerId = @id").with("id", "dml-1")).await?;
            Ok(json!({
                "inserted": inserted,
                "updated": updated,
                "between": between.iter().map(display).collect::<Vec<_>>(),
                "deleted": deleted,
            }))
        })
    });
    // Not every library gives a query a place of its own among the statements of a transaction.
    let returning: Body = Arc::new(|tx| {
        Box::pin(async move {
            let sql = "DELETE FROM Singers WHERE SingerId = @id THEN RETURN SingerId";
            let delete = Statement::new(sql).with("id", "dml-2");
            Ok(json!(first_strings(collect(tx, query(delete, [Type::String])).await?)?))
        })
    });
    let (_, mut detail) = w.client()?.read_write(None, body).await?;
    let (_, returned) = w.client()?.read_write(None, returning).await?;
    detail["returned"] = returned;
    let want = json!({
        "inserted": 2,
        "updated": 2,
        "between": [
            r#""dml-1"|5000|0.1|true|0001fe|946684799.999999999|["α", ""]"#,
            r#""dml-2"|5000|NULL|NULL|NULL|NULL|NULL"#,
        ],
        "deleted": 1,
        "returned": ["dml-2"],
    });
    expect("what the transaction saw", &detail, &want)?;
    expect("rows left", &w.count("SELECT COUNT(*) FROM Singers").await?, &(SINGERS as i64))?;
    Ok(detail)
}

fn insert_with_every_type() -> Statement {
    let joined = Timestamp { seconds: 946_684_799, nanos: 999_999_999 };
    Statement::new(
        "INSERT INTO Singers (SingerId, Plays, Rating, Active, Photo, Joined, Tags)
VALUES (@id, @plays, @rating, @active, @photo, @joined, @tags), (@id2, @none, NULL, NULL, NULL, NULL, NULL)",
    )
    .with("id", "dml-1")
    .with("plays", -(1_i64 << 62))
    .with("rating", Value::Float64(0.1))
    .with("active", Value::Bool(true))
    .with("photo", Value::Bytes(vec![0, 1, 0xfe]))
    .with("joined", Value::Timestamp(joined))
    .with("tags", Value::Strings(vec!["α".to_owned(), String::new()]))
    .with("id2", "dml-2")
    .with("none", Value::Null(Type::Int64))
}

fn deposit(account: &str) -> Statement {
    Statement::new("INSERT INTO Accounts (AccountId, Balance) VALUES (@id, @balance)").with("id", account).with("balance", 1)
}

/// Runs a batch that succeeds, then two that fail in the middle: one in what it says, one in what it does.
pub(crate) async fn batch_dml(w: &Arc<Workload>) -> Result<Json, Failure> {
    let all_succeed =
        vec![deposit("batch-1"), deposit("batch-2"), "UPDATE Accounts SET Balance = 2 WHERE STARTS_WITH(AccountId, 'batch-')".into()];
    let second_is_invalid = vec![deposit("batch-3"), "UPDATE NoSuchTable SET Balance = 2 WHERE true".into(), deposit("batch-4")];
    let second_exists_already = vec![deposit("batch-5"), deposit("batch-1"), deposit("batch-6")];

    let mut detail = json!({});
    for (name, statements, fails, counts) in [
        ("all_succeed", all_succeed, None, vec![1, 1, 2]),
        ("second_is_invalid", second_is_invalid, Some(Code::INVALID_ARGUMENT), vec![1]),
        ("second_exists_already", second_exists_already, Some(Code::ALREADY_EXISTS), vec![1]),
    ] {
        detail[name] = run_batch(w, name, statements, fails, &counts).await?;
    }
    let sql = "SELECT AccountId FROM Accounts WHERE STARTS_WITH(AccountId, 'batch-') ORDER BY AccountId";
    let applied = w.strings(query(sql, [Type::String])).await?;
    let want = ["batch-1", "batch-2", "batch-3"].map(str::to_owned).to_vec();
    expect("applied", &applied, &want)?;
    Ok(json!({ "batches": detail, "applied": applied }))
}

async fn run_batch(w: &Workload, name: &str, statements: Vec<Statement>, fails: Option<Code>, counts: &[i64]) -> Result<Json, Failure> {
    let body: Body = Arc::new(move |tx| {
        let statements = statements.clone();
        Box::pin(async move {
            match tx.batch_update(statements).await {
                (_, Some(failure)) if failure.code() == Some(Code::ABORTED) => Err(failure),
                // The statements before the one that failed are kept.
                (counts, failure) => Ok(json!({
                    "counts": counts,
                    "error": failure.map_or(Json::Null, |failure| failure.describe()),
                })),
            }
        })
    });
    // After a statement that broke a constraint the transaction can't commit; which error says so is recorded.
    let (detail, commit) = match w.client()?.read_write(None, body.clone()).await {
        Ok((_, detail)) => (detail, json!("OK")),
        Err(failure) if fails == Some(Code::ALREADY_EXISTS) => (json!({}), failure.describe()),
        Err(failure) => return Err(failure),
    };
    if commit == "OK" {
        let told = fails.is_none() || w.library.features().counts_of_failed_batch;
        let counts = if told { counts } else { &[] };
        expect(&format!("{name}: counts"), &detail["counts"], &json!(counts))?;
        let error = fails.map_or(Json::Null, |code| json!(code.name()));
        expect(&format!("{name}: error"), &detail["error"]["code"], &error)?;
    }
    Ok(json!({ "batch": detail, "commit": commit }))
}

pub(crate) async fn batch_write(w: &Arc<Workload>) -> Result<Json, Failure> {
    if !w.library.features().batch_write {
        let reason = "the library has no BatchWrite".to_owned();
        return Err(Failure::NotAvailable { reason, detail: json!({}) });
    }
    let group = |account: &str| Mutation {
        write: Write::Insert,
        table: "Accounts",
        columns: vec![("AccountId", account.into()), ("Balance", 1.into())],
    };
    match w.client()?.batch_write(vec![group("group-1"), group("group-2")]).await {
        Err(failure) if failure.code() == Some(Code::UNIMPLEMENTED) => {
            return Err(Failure::NotAvailable {
                reason: "the emulator answers UNIMPLEMENTED".to_owned(),
                detail: json!({ "error": failure.describe() }),
            });
        }
        other => other?,
    }
    let sql = "SELECT COUNT(*) FROM Accounts WHERE STARTS_WITH(AccountId, 'group-')";
    let written = w.count(sql).await?;
    expect("groups written", &written, &2)?;
    Ok(json!({ "written": written }))
}
