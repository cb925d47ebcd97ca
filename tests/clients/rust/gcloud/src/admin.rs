use async_trait::async_trait;
use checks::{Admin, Failure};
use gcloud_googleapis::spanner::admin::database::v1::{
    CreateDatabaseRequest, DropDatabaseRequest, GetDatabaseDdlRequest, ListDatabasesRequest, UpdateDatabaseDdlRequest,
};
use gcloud_googleapis::spanner::admin::instance::v1::{CreateInstanceRequest, DeleteInstanceRequest, Instance, ListInstanceConfigsRequest};
use gcloud_spanner::admin::AdminClientConfig;
use gcloud_spanner::admin::client::Client;

use crate::failed;

pub(crate) struct Gcloud(Client);

impl Gcloud {
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let client = Client::new(AdminClientConfig::default()).await;
        Ok(Self(client.map_err(|error| error.to_string())?))
    }
}

#[async_trait]
impl Admin for Gcloud {
    async fn instance_configs(&self, project: &str) -> Result<Vec<String>, Failure> {
        let request = ListInstanceConfigsRequest { parent: format!("projects/{project}"), ..Default::default() };
        let configs = self.0.instance().list_instance_configs(request, None).await.map_err(failed)?;
        Ok(configs.into_iter().map(|config| config.name).collect())
    }

    async fn create_instance(&self, project: &str, instance_id: &str, config: &str) -> Result<(), Failure> {
        let name = format!("projects/{project}/instances/{instance_id}");
        let request = CreateInstanceRequest {
            parent: format!("projects/{project}"),
            instance_id: instance_id.to_owned(),
            instance: Some(Instance {
                name,
                config: config.to_owned(),
                display_name: instance_id.to_owned(),
                node_count: 1,
                ..Default::default()
            }),
        };
        let mut operation = self.0.instance().create_instance(request, None).await.map_err(failed)?;
        operation.wait(None).await.map(drop).map_err(failed)
    }

    async fn delete_instance(&self, instance: &str) -> Result<(), Failure> {
        let request = DeleteInstanceRequest { name: instance.to_owned() };
        self.0.instance().delete_instance(request, None).await.map(drop).map_err(failed)
    }

    async fn create_database(&self, instance: &str, database_id: &str, ddl: Vec<String>) -> Result<(), Failure> {
        let request = CreateDatabaseRequest {
            parent: instance.to_owned(),
            create_statement: format!("CREATE DATABASE `{database_id}`"),
            extra_statements: ddl,
            ..Default::default()
        };
        let mut operation = self.0.database().create_database(request, None).await.map_err(failed)?;
        operation.wait(None).await.map(drop).map_err(failed)
    }

    async fn update_ddl(&self, database: &str, ddl: Vec<String>) -> Result<(), Failure> {
        let request = UpdateDatabaseDdlRequest { database: database.to_owned(), statements: ddl, ..Default::default() };
        let mut operation = self.0.database().update_database_ddl(request, None).await.map_err(failed)?;
        operation.wait(None).await.map(drop).map_err(failed)
    }

    async fn ddl(&self, database: &str) -> Result<Vec<String>, Failure> {
        let request = GetDatabaseDdlRequest { database: database.to_owned() };
        let response = self.0.database().get_database_ddl(request, None).await.map_err(failed)?;
        Ok(response.into_inner().statements)
    }

    async fn databases(&self, instance: &str, page_size: i32) -> Result<Vec<String>, Failure> {
        let request = ListDatabasesRequest { parent: instance.to_owned(), page_size, ..Default::default() };
        let databases = self.0.database().list_databases(request, None).await.map_err(failed)?;
        Ok(databases.into_iter().map(|database| database.name).collect())
    }

    async fn drop_database(&self, database: &str) -> Result<(), Failure> {
        let request = DropDatabaseRequest { database: database.to_owned() };
        self.0.database().drop_database(request, None).await.map(drop).map_err(failed)
    }
}
