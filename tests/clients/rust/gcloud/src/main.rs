//! The checks through the community's client library, gcloud-spanner. It has a pool of ordinary sessions.

mod admin;
mod client;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use checks::{Admin, CallError, Client, Code, Failure, Features, Library};
use gcloud_gax::grpc::Status;
use gcloud_googleapis::rpc;
use gcloud_spanner::client::{ClientConfig, Error};
use prost::Message as _;
use serde_json::json;

fn main() -> ExitCode {
    checks::main("gcloud-spanner", Gcloud)
}

struct Gcloud;

#[async_trait]
impl Library for Gcloud {
    fn features(&self) -> Features {
        Features {
            one_session: false,
            request_tags: false,
            counts_of_failed_batch: false,
            batch_write: false,
            deadline_code: Code::CANCELLED,
            rows_before_the_end: false,
            admin_speaks_json: false,
        }
    }

    /// SPANNER_EMULATOR_HOST says where to.
    async fn connect(&self, database: &str) -> Result<Arc<dyn Client>, Failure> {
        Ok(Arc::new(client::Gcloud::connect(database, ClientConfig::default()).await?))
    }

    async fn admin(&self) -> Result<Arc<dyn Admin>, Failure> {
        Ok(Arc::new(admin::Gcloud::connect().await?))
    }
}

fn failed(status: Status) -> Failure {
    let details = match rpc::Status::decode(status.details()) {
        Ok(decoded) => decoded.details,
        Err(_) => Vec::new(),
    };
    let details = details
        .into_iter()
        .map(|detail| {
            let value = String::from_utf8_lossy(&detail.value);
            json!({ "type": detail.type_url, "value": value })
        })
        .collect();
    let code = Some(Code(status.code() as i32));
    Failure::Call(CallError::new(code, status.message().to_owned(), details, status))
}

fn client_failed(error: Error) -> Failure {
    match error {
        Error::GRPC(status) => failed(status),
        other => {
            let message = other.to_string();
            Failure::Call(CallError::new(None, message, Vec::new(), other))
        }
    }
}
