use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::admin::last_part;
use crate::library::{Bound, Code, Failure, KeySet, Source, Type};
use crate::schema;
use crate::workload::{Workload, collect, expect_code, query, query_integer};

pub(crate) async fn error_not_found(w: &Arc<Workload>) -> Result<Json, Failure> {
    let read = |table: &str, column: &str| Source::Read {
        table: table.to_owned(),
        index: None,
        columns: vec![column.to_owned()],
        keys: KeySet::All,
        limit: 0,
        types: vec![Type::String],
    };
    let table = w.single(read("NoSuchTable", "Id")).await;
    let column = w.single(read("Singers", "NoSuchColumn")).await;
    let missing = format!("{}/databases/missing", w.instance);
    Ok(json!({
        "table": expect_code("read of a missing table", table, Code::NOT_FOUND)?,
        "column": expect_code("read of a missing column", column, Code::NOT_FOUND)?,
        "database": expect_code(
            "query of a missing database", query_database(w, &missing).await, Code::NOT_FOUND)?,
        "admin": expect_code(
            "DDL of a missing database", w.admin.ddl(&missing).await, w.admin_not_found())?,
    }))
}

/// Returns the first error, be it the client's or the query's: libraries differ in when they look.
async fn query_database(w: &Workload, database: &str) -> Result<(), Failure> {
    let client = w.library.connect(database).await?;
    let rows = collect(&mut *client.single(Bound::Strong).await?, query_integer("SELECT 1")).await;
    client.close().await;
    rows.map(drop)
}

pub(crate) async fn error_already_exists(w: &Arc<Workload>) -> Result<Json, Failure> {
    let row = w.client()?.apply(vec![schema::insert_singer(0)]).await;
    let database = w.admin.create_database(&w.instance, last_part(&w.database), Vec::new()).await;
    Ok(json!({
        "row": expect_code("insert of an existing row", row, Code::ALREADY_EXISTS)?,
        "database": expect_code(
            "creation of an existing database", database, Code::ALREADY_EXISTS)?,
    }))
}

pub(crate) async fn error_invalid_sql(w: &Arc<Workload>) -> Result<Json, Failure> {
    let mut detail = json!({});
    for (name, sql, code) in [
        ("syntax", "SELECT FROM WHERE", Code::INVALID_ARGUMENT),
        ("unknown_table", "SELECT * FROM NoSuchTable", Code::INVALID_ARGUMENT),
        ("missing_parameter", "SELECT @nothing + 1", Code::INVALID_ARGUMENT),
        ("non_ascii", "SELECT 'ü' FROM `größe`", Code::INVALID_ARGUMENT),
        (
            // This one fails after it has begun.
            "division_by_zero",
            "SELECT DIV(1, n - 900) FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n",
            Code::OUT_OF_RANGE,
        ),
    ] {
        detail[name] = expect_code(name, w.single(query_integer(sql)).await, code)?;
    }
    Ok(detail)
}

/// Keeps the server busy for several times the deadlines below. It is no slower than that because the emulator runs a
/// cancelled query to its end.
const SLOW_QUERY: &str = "SELECT COUNT(*) FROM Singers AS a CROSS JOIN Singers AS b WHERE a.Rating + b.Rating < 1";
const WHILE_IT_RUNS: Duration = Duration::from_millis(100);

pub(crate) async fn error_deadline(w: &Arc<Workload>) -> Result<Json, Failure> {
    let client = w.client()?;
    let mut detail = json!({});
    for (name, deadline) in [("as_it_is_sent", Duration::from_millis(1)), ("while_it_runs", WHILE_IT_RUNS)] {
        let outcome = client.query_with_deadline(SLOW_QUERY.into(), deadline).await;
        let described = expect_code(name, outcome, w.library.features().deadline_code)?;
        // The rest of it depends on which end's clock runs out first.
        detail[name] = described["code"].clone();
    }
    w.still_works().await?;
    Ok(detail)
}

/// Cancels a query as applications in Rust do, by dropping its future: once while the server works and once within the
/// result. The library has no error to show then; that its client still works is what is left to see.
pub(crate) async fn error_cancel(w: &Arc<Workload>) -> Result<Json, Failure> {
    let working = timeout(WHILE_IT_RUNS, w.single(query_integer(SLOW_QUERY))).await;
    if let Ok(result) = working {
        return Err(format!("the slow query ended with {result:?} before it was cancelled").into());
    }
    w.still_works().await?;
    let mut detail = json!({ "while_the_server_works": "dropped" });

    if w.library.features().rows_before_the_end {
        let sql = "SELECT REPEAT(CAST(n AS STRING), 1000) FROM UNNEST(GENERATE_ARRAY(100001, 105000)) AS n";
        let mut rows = 0;
        let mut reader = w.client()?.single(Bound::Strong).await?;
        let ended = reader
            .rows(query(sql, [Type::String]), &mut |_| {
                rows += 1;
                Err("that will do".to_owned().into())
            })
            .await;
        match ended {
            Err(Failure::Unexpected(text)) if text == "that will do" => {}
            other => return Err(format!("the stream ended with {other:?} after {rows} rows").into()),
        }
        w.still_works().await?;
        detail["after_the_first_row"] = "dropped".into();
    }
    Ok(detail)
}
