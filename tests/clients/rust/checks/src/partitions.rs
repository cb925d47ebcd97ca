use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::library::{Failure, KeySet, Source, Statement};
use crate::schema::{self, Digest, display};
use crate::workload::{Workload, expect, query};

pub(crate) async fn partitioned_query(w: &Arc<Workload>) -> Result<Json, Failure> {
    let statement = Statement::new("SELECT SingerId, Plays, Rating, Active, Photo, Joined, Tags, Info FROM Singers WHERE Plays >= @plays");
    read_partitions(w, query(statement.with("plays", 0), schema::singer_types())).await
}

pub(crate) async fn partitioned_read(w: &Arc<Workload>) -> Result<Json, Failure> {
    read_partitions(w, schema::read_singers(KeySet::All)).await
}

async fn read_partitions(w: &Workload, source: Source) -> Result<Json, Failure> {
    let mut rows = Vec::new();
    let partitions = w
        .client()?
        .read_partitions(source, &mut |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
    if partitions == 0 {
        return Err("no partitions".to_owned().into());
    }
    // Which rows fall into which partition is the server's choice.
    rows.sort_by_cached_key(display);
    let got = Digest::of(&rows).detail();
    expect("rows of all partitions", &got, &Digest::of_singers().detail())?;
    Ok(got)
}

/// Leaves a note on the inserted rows that no other check reads.
pub(crate) async fn partitioned_dml(w: &Arc<Workload>) -> Result<Json, Failure> {
    let statement = Statement::new("UPDATE Singers SET Note = @note WHERE Plays >= @plays").with("note", "often heard").with("plays", 500);
    let updated = w.client()?.partitioned_update(statement).await?;
    let noted = w.count("SELECT COUNT(*) FROM Singers WHERE Note = 'often heard'").await?;
    expect("rows updated and noted", &(updated, noted), &(500, 500))?;
    Ok(json!({ "updated_at_least": updated, "noted": noted }))
}
