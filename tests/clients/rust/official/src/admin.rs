use std::env;

use async_trait::async_trait;
use checks::{Admin, Failure};
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_lro::Poller as _;
use google_cloud_spanner::client::{DatabaseAdmin, InstanceAdmin};
use google_cloud_spanner_admin_instance_v1::model::Instance;

use crate::{failed, spanner};

pub(crate) struct Official {
    instances: InstanceAdmin,
    databases: DatabaseAdmin,
}

impl Official {
    /// The admin clients speak REST. On their own they take SPANNER_EMULATOR_HOST, with 9020 for 9010 as its port: where
    /// an emulator has another pair of ports, SPANNER_EMULATOR_REST says which.
    pub(crate) async fn connect() -> Result<Self, Failure> {
        let spanner = spanner().await?;
        let mut instances = spanner.instance_admin_builder();
        let mut databases = spanner.database_admin_builder();
        if let Ok(endpoint) = env::var("SPANNER_EMULATOR_REST") {
            instances = instances.with_endpoint(&endpoint);
            databases = databases.with_endpoint(&endpoint);
        }
        Ok(Self {
            instances: instances.build().await.map_err(|error| error.to_string())?,
            databases: databases.build().await.map_err(|error| error.to_string())?,
        })
    }
}

#[async_trait]
impl Admin for Official {
    async fn instance_configs(&self, project: &str) -> Result<Vec<String>, Failure> {
        let parent = format!("projects/{project}");
        let mut configs = self.instances.list_instance_configs().set_parent(parent).by_item();
        let mut names = Vec::new();
        while let Some(config) = configs.next().await {
            names.push(config.map_err(failed)?.name);
        }
        Ok(names)
    }

    async fn create_instance(&self, project: &str, instance_id: &str, config: &str) -> Result<(), Failure> {
        let instance = Instance::new().set_config(config).set_display_name(instance_id).set_node_count(1);
        self.instances
            .create_instance()
            .set_parent(format!("projects/{project}"))
            .set_instance_id(instance_id)
            .set_instance(instance)
            .poller()
            .until_done()
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn delete_instance(&self, instance: &str) -> Result<(), Failure> {
        self.instances.delete_instance().set_name(instance).send().await.map_err(failed)
    }

    async fn create_database(&self, instance: &str, database_id: &str, ddl: Vec<String>) -> Result<(), Failure> {
        self.databases
            .create_database()
            .set_parent(instance)
            .set_create_statement(format!("CREATE DATABASE `{database_id}`"))
            .set_extra_statements(ddl)
            .poller()
            .until_done()
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn update_ddl(&self, database: &str, ddl: Vec<String>) -> Result<(), Failure> {
        self.databases.update_database_ddl().set_database(database).set_statements(ddl).poller().until_done().await.map_err(failed)
    }

    async fn ddl(&self, database: &str) -> Result<Vec<String>, Failure> {
        let response = self.databases.get_database_ddl().set_database(database).send().await.map_err(failed)?;
        Ok(response.statements)
    }

    async fn databases(&self, instance: &str, page_size: i32) -> Result<Vec<String>, Failure> {
        let request = self.databases.list_databases().set_parent(instance).set_page_size(page_size);
        let mut databases = request.by_item();
        let mut names = Vec::new();
        while let Some(database) = databases.next().await {
            names.push(database.map_err(failed)?.name);
        }
        Ok(names)
    }

    async fn drop_database(&self, database: &str) -> Result<(), Failure> {
        self.databases.drop_database().set_database(database).send().await.map_err(failed)
    }
}
