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
            batch_update_errors: true,
            batch_write: true,
            rows_before_the_end: true,
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
        Some(status) => (
            Some(Code(status.code as i32)),
            status.message.clone(),
            status.details.iter().map(|detail| serde_json::json!(detail)).collect(),
        ),
        None => (None, error.to_string(), Vec::new()),
    };
    Failure::Call(CallError::new(code, message, details, error))
}
