use std::sync::Arc;

use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::library::{Bound, Failure, KeySet, Statement, Type, Value};
use crate::schema::{self, Digest, SINGERS, display, plays, singer, singer_id};
use crate::workload::{Workload, expect, query};

pub(crate) async fn read_by_key(w: &Arc<Workload>) -> Result<Json, Failure> {
    let mut found = Vec::new();
    for number in [0, 9, 500, SINGERS - 1] {
        let keys = KeySet::Keys(vec![Value::String(singer_id(number))]);
        let rows = w.single(schema::read_singers(keys)).await?;
        expect("row", &rows, &vec![singer(number)])?;
        found.push(display(&rows[0]));
    }
    let keys = |ids: &[usize]| {
        let ids = ids.iter().map(|id| Value::String(singer_id(*id))).chain(["nobody".into()]);
        schema::read_ids(KeySet::Keys(ids.collect()), None, 0)
    };
    let several = w.strings(keys(&[3, 1])).await?;
    expect("several keys", &several, &vec![singer_id(1), singer_id(3)])?;
    let missing = w.strings(keys(&[])).await?;
    expect("a missing key", &missing, &vec![])?;
    Ok(json!({ "rows": found, "several": several, "missing": missing }))
}

pub(crate) async fn read_by_index(w: &Arc<Workload>) -> Result<Json, Failure> {
    let keys = KeySet::ClosedOpen(Value::Int64(100), Value::Int64(110));
    let ids = w.strings(schema::read_ids(keys, Some("SingersByPlays"), 0)).await?;
    let mut want: Vec<usize> = (0..SINGERS).filter(|n| (100..110).contains(&plays(*n))).collect();
    want.sort_by_key(|number| plays(*number));
    expect("ids in the index's order", &ids, &want.into_iter().map(singer_id).collect())?;
    Ok(json!({ "ids": ids }))
}

pub(crate) async fn read_key_range_with_limit(w: &Arc<Workload>) -> Result<Json, Failure> {
    let keys = KeySet::OpenClosed(Value::String(singer_id(200)), Value::String(singer_id(400)));
    let ids = w.strings(schema::read_ids(keys, None, 7)).await?;
    expect("ids", &ids, &(201..=207).map(singer_id).collect())?;
    Ok(json!({ "ids": ids }))
}

const LARGE_ROWS: i64 = 12_000;
const LARGE_MINIMUM: usize = 10 << 20;

/// Streams distinct rows of about 1 KB, so that neither a lost nor a doubled part goes unseen.
pub(crate) async fn large_streamed_result(w: &Arc<Workload>) -> Result<Json, Failure> {
    let statement = Statement::new(
        "SELECT n, CONCAT(TO_HEX(SHA256(CAST(n AS STRING))), REPEAT(CAST(n AS STRING), 200)) AS text
FROM UNNEST(GENERATE_ARRAY(100001, 100000 + @rows)) AS n ORDER BY n",
    )
    .with("rows", LARGE_ROWS);
    let mut digest = Digest::default();
    let mut next = 100_001;
    let mut reader = w.client()?.single(Bound::Strong).await?;
    reader
        .rows(query(statement, [Type::Int64, Type::String]), &mut |row| {
            if row[0] != Value::Int64(next) {
                return Err(format!("row {:?} came instead of row {next}", row[0]).into());
            }
            next += 1;
            digest.add(&row);
            Ok(())
        })
        .await?;
    if digest.rows != LARGE_ROWS as usize || digest.bytes < LARGE_MINIMUM {
        return Err(format!("{} rows, {} bytes came", digest.rows, digest.bytes).into());
    }
    Ok(digest.detail())
}

const READERS: usize = 50;
const READS_PER_READER: usize = 20;

pub(crate) async fn fifty_concurrent_readers(w: &Arc<Workload>) -> Result<Json, Failure> {
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let w = Arc::clone(w);
        readers.spawn_local(async move {
            for read in 0..READS_PER_READER {
                w.read_one_singer(reader * READS_PER_READER + read).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    let failures: Vec<Failure> = readers.join_all().await.into_iter().filter_map(Result::err).collect();
    if let Some(first) = failures.first() {
        return Err(format!("{} of {READERS} readers failed, one with {first}", failures.len()).into());
    }
    Ok(json!({ "readers": READERS, "reads": READERS * READS_PER_READER }))
}

/// Sends a large parameter and, where the library has them, a request tag.
pub(crate) async fn request_metadata_large(w: &Arc<Workload>) -> Result<Json, Failure> {
    let text = "spanner è ".repeat(500_000 / "spanner è ".len());
    let tagged = w.library.features().request_tags;
    let mut statement = Statement::new("SELECT BYTE_LENGTH(@text), TO_HEX(SHA256(@text)), @text").with("text", text.as_str());
    statement.request_tag = tagged.then_some("app=checks,action=large");
    let rows = w.single(query(statement, [Type::Int64, Type::String, Type::String])).await?;
    let [row] = rows.as_slice() else {
        return Err(format!("{} rows came instead of one", rows.len()).into());
    };
    let [Value::Int64(bytes), Value::String(sha256), Value::String(echo)] = row.as_slice() else {
        return Err("the row's types are not those of the query".to_owned().into());
    };
    if *echo != text || *bytes != text.len() as i64 {
        return Err(format!("the parameter came back changed: {} bytes", echo.len()).into());
    }
    Ok(json!({ "tagged": tagged, "bytes": bytes, "sha256": sha256 }))
}
