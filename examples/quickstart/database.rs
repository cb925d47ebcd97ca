//! Makes the instance and the database through the sidecar, as any client would.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use googleapis_tonic_google_spanner_admin_database_v1::google::longrunning::operations_client::OperationsClient;
use googleapis_tonic_google_spanner_admin_database_v1::google::longrunning::{GetOperationRequest, Operation, operation};
use googleapis_tonic_google_spanner_admin_database_v1::google::spanner::admin::database::v1::CreateDatabaseRequest;
use googleapis_tonic_google_spanner_admin_database_v1::google::spanner::admin::database::v1::database_admin_client::DatabaseAdminClient;
use googleapis_tonic_google_spanner_admin_instance_v1::google::spanner::admin::instance::v1::instance_admin_client::InstanceAdminClient;
use googleapis_tonic_google_spanner_admin_instance_v1::google::spanner::admin::instance::v1::{CreateInstanceRequest, Instance};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::failure::Failure;

/// The database of the quickstart.
pub(crate) const DATABASE: &str = "projects/quickstart/instances/quickstart/databases/quickstart";

const PROJECT: &str = "projects/quickstart";
const INSTANCE: &str = "projects/quickstart/instances/quickstart";
const TABLES: [&str; 2] = [
    "CREATE TABLE Accounts (AccountId INT64 NOT NULL, Owner STRING(64), Balance INT64 NOT NULL) PRIMARY KEY (AccountId)",
    "CREATE TABLE Photos (PhotoId INT64 NOT NULL, Data BYTES(MAX)) PRIMARY KEY (PhotoId)",
];

/// A call or an operation that takes longer than this has gone wrong.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Makes the instance, the database and its tables.
pub(crate) async fn create(sidecar: SocketAddr) -> Result<(), Failure> {
    let channel = Endpoint::from_shared(format!("http://{sidecar}"))
        .map_err(|error| failed("the sidecar's address", error))?
        .timeout(LIMIT)
        .connect()
        .await
        .map_err(|error| failed("a connection to the sidecar", error))?;

    let instance = Instance {
        config: format!("{PROJECT}/instanceConfigs/emulator-config"),
        display_name: "quickstart".into(),
        node_count: 1,
        ..Default::default()
    };
    let request = CreateInstanceRequest { parent: PROJECT.into(), instance_id: "quickstart".into(), instance: Some(instance) };
    let mut instances = InstanceAdminClient::new(channel.clone());
    done("CreateInstance", instances.create_instance(request), &channel).await?;

    let request = CreateDatabaseRequest {
        parent: INSTANCE.into(),
        create_statement: "CREATE DATABASE quickstart".into(),
        extra_statements: TABLES.map(String::from).to_vec(),
        ..Default::default()
    };
    let mut databases = DatabaseAdminClient::new(channel.clone());
    done("CreateDatabase", databases.create_database(request), &channel).await
}

/// Waits for the end of the long-running operation that the call starts.
async fn done(what: &str, call: impl Future<Output = Result<Response<Operation>, Status>>, channel: &Channel) -> Result<(), Failure> {
    let mut operation = call.await.map_err(|status| failed(what, status))?.into_inner();
    let mut operations = OperationsClient::new(channel.clone());
    let wait = async {
        while !operation.done {
            tokio::time::sleep(POLL).await;
            let request = GetOperationRequest { name: operation.name.clone() };
            operation = operations.get_operation(request).await?.into_inner();
        }
        Ok::<_, Status>(operation.result)
    };
    let result = tokio::time::timeout(LIMIT, wait).await.map_err(|error| failed(what, error))?;
    match result.map_err(|status| failed(what, status))? {
        Some(operation::Result::Error(error)) => Err(failed(what, error.message)),
        _ => Ok(()),
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    let fix = "See the warnings above; the same with --stand-in tells whether the emulator is at fault";
    Failure::new(format!("{what}, through the sidecar: {error}"), fix)
}
