//! Runs the checks in their order, each within a time limit.

use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{env, io};

use serde_json::Value as Json;
use tokio::task::LocalSet;

use crate::library::{Failure, Library};
use crate::report::Report;
use crate::workload::Workload;
use crate::{admin, failures, partitions, reads, transactions, writes};

/// Bounds one check, so that a call that hangs is a failed check and not a hung run. The slowest check takes a few
/// seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds the removal of what a failed run left behind.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);

type Check = for<'a> fn(&'a Arc<Workload>) -> Pin<Box<dyn Future<Output = Result<Json, Failure>> + 'a>>;

/// In the order of the transcript. The checks share one database: writes go to rows that no later check counts, except
/// where a comment says so.
const CHECKS: [(&str, Check); 26] = [
    ("create_instance_and_database", |w| Box::pin(admin::create_instance_and_database(w))),
    ("insert_mutations", |w| Box::pin(writes::insert_mutations(w))),
    ("read_by_key", |w| Box::pin(reads::read_by_key(w))),
    ("read_by_index", |w| Box::pin(reads::read_by_index(w))),
    ("read_key_range_with_limit", |w| Box::pin(reads::read_key_range_with_limit(w))),
    ("dml_insert_update_delete_with_parameters", |w| Box::pin(writes::dml_with_parameters(w))),
    ("batch_dml", |w| Box::pin(writes::batch_dml(w))),
    ("read_write_transaction", |w| Box::pin(transactions::read_write_transaction(w))),
    ("transaction_aborts_and_retries", |w| Box::pin(transactions::aborts_and_retries(w))),
    ("rollback_leaves_no_trace", |w| Box::pin(transactions::rollback_leaves_no_trace(w))),
    ("multi_use_snapshot", |w| Box::pin(transactions::multi_use_snapshot(w))),
    ("stale_read", |w| Box::pin(transactions::stale_read(w))),
    ("exact_time_read", |w| Box::pin(transactions::exact_time_read(w))),
    ("large_streamed_result", |w| Box::pin(reads::large_streamed_result(w))),
    ("partitioned_query", |w| Box::pin(partitions::partitioned_query(w))),
    ("partitioned_read", |w| Box::pin(partitions::partitioned_read(w))),
    ("partitioned_dml", |w| Box::pin(partitions::partitioned_dml(w))),
    ("batch_write", |w| Box::pin(writes::batch_write(w))),
    ("fifty_concurrent_readers", |w| Box::pin(reads::fifty_concurrent_readers(w))),
    ("request_metadata_large", |w| Box::pin(reads::request_metadata_large(w))),
    ("error_not_found", |w| Box::pin(failures::error_not_found(w))),
    ("error_already_exists", |w| Box::pin(failures::error_already_exists(w))),
    ("error_invalid_sql", |w| Box::pin(failures::error_invalid_sql(w))),
    ("error_deadline", |w| Box::pin(failures::error_deadline(w))),
    ("error_cancel", |w| Box::pin(failures::error_cancel(w))),
    ("drop_database", |w| Box::pin(admin::drop_database(w))),
];

/// The whole of a client program: runs every check with `library` and writes the transcript to the file that the second
/// argument names, for the project that the first one names.
pub fn main(variant: &str, library: impl Library + 'static) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [project, transcript] = arguments.as_slice() else {
        eprintln!("usage: {variant} PROJECT TRANSCRIPT");
        return ExitCode::from(2);
    };
    let outcome = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from).and_then(|runtime| {
        let run = run(variant, Box::new(library), project, Path::new(transcript));
        LocalSet::new().block_on(&runtime, run)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{variant}: {failure}");
            ExitCode::FAILURE
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        error.to_string().into()
    }
}

async fn run(variant: &str, library: Box<dyn Library>, project: &str, transcript: &Path) -> Result<bool, Failure> {
    let suffix = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    let mut report = Report::create(transcript, &suffix)?;
    let instance = format!("projects/{project}/instances/rust-{suffix}");
    let workload = Arc::new(Workload {
        admin: library.admin().await?,
        library,
        project: project.to_owned(),
        database: format!("{instance}/databases/music-{suffix}"),
        instance,
        client: OnceLock::new(),
        created: AtomicBool::new(false),
    });
    for (name, check) in CHECKS {
        let started = Instant::now();
        let result = tokio::time::timeout(CHECK_TIMEOUT, check(&workload))
            .await
            .unwrap_or_else(|_| Err(format!("not done within {CHECK_TIMEOUT:?}").into()));
        report.add(name, started.elapsed(), result)?;
    }
    clean_up(&workload).await;
    Ok(report.finish(variant))
}

/// Removes what a run that failed half-way has left. After a run that passed only the client is to be closed.
async fn clean_up(w: &Workload) {
    let removal = async {
        if let Some(client) = w.client.get() {
            Arc::clone(client).close().await;
        }
        if w.created.load(Ordering::Relaxed) {
            // The run has failed already; that this fails, too, says nothing new.
            let _ = w.admin.drop_database(&w.database).await;
            let _ = w.admin.delete_instance(&w.instance).await;
        }
    };
    let _ = tokio::time::timeout(CLEANUP_TIMEOUT, removal).await;
}
