//! The checks through Google's client library, google-cloud-spanner. It runs every call in one multiplexed session.

mod admin;
mod client;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use checks::{Admin, CallError, Client, Code, Failure, Features, Library};
use google_cloud_spanner::Error;
use google_cloud_spanner::client::Spanner;
use serde_json::{Value as Json, json};

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("rust-official: another crypto provider is installed already");
        return ExitCode::FAILURE;
    }
    checks::main("rust-official", Official)
}

struct Official;

#[async_trait]
impl Library for Official {
    fn features(&self) -> Features {
        Features {
            one_session: true,
            request_tags: true,
            counts_of_failed_batch: true,
            batch_write: true,
            deadline_code: Code::DEADLINE_EXCEEDED,
            rows_before_the_end: true,
            admin_speaks_json: true,
        }
    }

    async fn connect(&self, database: &str) -> Result<Arc<dyn Client>, Failure> {
        Ok(Arc::new(client::Official::connect(database).await?))
    }

    async fn admin(&self) -> Result<Arc<dyn Admin>, Failure> {
        Ok(Arc::new(admin::Official::connect().await?))
    }
}

/// SPANNER_EMULATOR_HOST says where to.
async fn spanner() -> Result<Spanner, Failure> {
    Spanner::builder().build().await.map_err(|error| error.to_string().into())
}

fn failed(error: Error) -> Failure {
    let (code, message, details) = match error.status() {
        Some(status) => {
            (Some(Code(status.code as i32)), status.message.clone(), status.details.iter().map(|detail| json!(detail)).collect())
        }
        // When both ends' clocks run out, it depends on which is heard first whether there is a status.
        None if error.is_timeout() => (Some(Code::DEADLINE_EXCEEDED), error.to_string(), Vec::new()),
        None => (code_in_payload(&error), error.to_string(), Vec::new()),
    };
    Failure::Call(CallError::new(code, message, details, error))
}

/// The emulator sends a status as JSON without the object around it that Google's services have, so the library takes it
/// for the error page of some proxy and leaves it as it came.
fn code_in_payload(error: &Error) -> Option<Code> {
    let payload: Json = serde_json::from_slice(error.http_payload()?).ok()?;
    Some(Code(payload["code"].as_i64()?.try_into().ok()?))
}
