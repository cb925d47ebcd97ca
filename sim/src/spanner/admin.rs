//! The admin services: instances, databases and their DDL. Long-running operations are done when they are returned.

use bytes::Bytes;
use googleapis_tonic_google_spanner_admin_database_v1::google::spanner::admin::database::v1 as db;
use googleapis_tonic_google_spanner_admin_instance_v1::google::longrunning as lro;
use googleapis_tonic_google_spanner_admin_instance_v1::google::spanner::admin::instance::v1 as inst;
use lro::operation::Result as Done;
use prost::Message;
use prost_types::Any;

use super::ddl::{self, Ddl};
use super::value::timestamp;
use super::{Database, Reply, State, database_not_found, decode, failed_precondition, invalid, table_not_found, unimplemented};
use crate::status::{Code, Status};

/// The one instance configuration there is.
const CONFIG: &str = "sim-config";
/// Operations that GetOperation still knows.
const OPERATIONS: usize = 1000;

fn any(type_name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() }
}

fn already_exists(kind: &str, name: &str) -> Status {
    Status::new(Code::AlreadyExists, format!("{kind} already exists: {name}"))
}

fn instance_not_found(name: &str) -> Status {
    let kind = "type.googleapis.com/google.spanner.admin.instance.v1.Instance";
    Status::new(Code::NotFound, format!("Instance not found: {name}")).resource(kind, name, "Instance does not exist.")
}

/// Splits `projects/P/instances/I/databases/D` into the instance's name and D.
fn split_database(name: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = name.split('/').collect();
    match *parts {
        ["projects", p, "instances", i, "databases", d] if !p.is_empty() && !i.is_empty() && !d.is_empty() => {
            name.rsplit_once("/databases/")
        }
        _ => None,
    }
}

impl State {
    pub(super) fn instance_admin(&mut self, method: &str, message: Bytes) -> Result<Reply, Status> {
        match method {
            "ListInstanceConfigs" => {
                let request: inst::ListInstanceConfigsRequest = decode(message)?;
                let instance_configs = vec![config(&format!("{}/instanceConfigs/{CONFIG}", request.parent))];
                let next_page_token = String::new();
                Ok(Reply::unary(&inst::ListInstanceConfigsResponse { instance_configs, next_page_token }))
            }
            "GetInstanceConfig" => {
                let request: inst::GetInstanceConfigRequest = decode(message)?;
                if !request.name.ends_with(&format!("/instanceConfigs/{CONFIG}")) {
                    let text = format!("Instance config \"{}\" not found", request.name);
                    return Err(Status::new(Code::NotFound, text));
                }
                Ok(Reply::unary(&config(&request.name)))
            }
            "CreateInstance" => self.create_instance(&decode(message)?),
            "GetInstance" => {
                let request: inst::GetInstanceRequest = decode(message)?;
                self.instances.get(&request.name).map(Reply::unary).ok_or_else(|| instance_not_found(&request.name))
            }
            "ListInstances" => {
                let request: inst::ListInstancesRequest = decode(message)?;
                let of_this = format!("{}/", request.parent);
                let instances = self.instances.values().filter(|i| i.name.starts_with(&of_this)).cloned().collect();
                Ok(Reply::unary(&inst::ListInstancesResponse { instances, ..Default::default() }))
            }
            "DeleteInstance" => {
                let request: inst::DeleteInstanceRequest = decode(message)?;
                self.instances.remove(&request.name);
                let of_this = format!("{}/databases/", request.name);
                self.databases.retain(|name, _| !name.starts_with(&of_this));
                Ok(Reply::unary(&()))
            }
            _ => Err(unimplemented(method)),
        }
    }

    fn create_instance(&mut self, request: &inst::CreateInstanceRequest) -> Result<Reply, Status> {
        let name = format!("{}/instances/{}", request.parent, request.instance_id);
        if request.instance_id.is_empty() {
            return Err(invalid("Invalid instance id: it is empty."));
        }
        if self.instances.contains_key(&name) {
            return Err(already_exists("Instance", &name));
        }
        let instance = self.add_instance(&name, request.instance.clone().unwrap_or_default());
        let metadata = inst::CreateInstanceMetadata { instance: Some(instance.clone()), ..Default::default() };
        let package = "google.spanner.admin.instance.v1";
        let operation = self.operation(
            &name,
            "",
            any(&format!("{package}.CreateInstanceMetadata"), &metadata),
            Done::Response(any(&format!("{package}.Instance"), &instance)),
        )?;
        Ok(Reply::unary(&operation))
    }

    fn add_instance(&mut self, name: &str, wanted: inst::Instance) -> inst::Instance {
        let project = name.split_once("/instances/").map_or(name, |(project, _)| project);
        let mut instance = inst::Instance { name: name.to_owned(), state: inst::instance::State::Ready as i32, ..wanted };
        if instance.config.is_empty() {
            instance.config = format!("{project}/instanceConfigs/{CONFIG}");
        }
        self.instances.insert(name.to_owned(), instance.clone());
        instance
    }

    pub(super) fn database_admin(&mut self, method: &str, message: Bytes) -> Result<Reply, Status> {
        match method {
            "CreateDatabase" => self.create_database(&decode(message)?),
            "UpdateDatabaseDdl" => self.update_ddl(&decode(message)?),
            "GetDatabase" => {
                let request: db::GetDatabaseRequest = decode(message)?;
                let created = self.database(&request.name)?.created;
                Ok(Reply::unary(&shown(&request.name, created)))
            }
            "GetDatabaseDdl" => {
                let request: db::GetDatabaseDdlRequest = decode(message)?;
                let statements = self.database(&request.database)?.ddl.clone();
                Ok(Reply::unary(&db::GetDatabaseDdlResponse { statements, ..Default::default() }))
            }
            "ListDatabases" => {
                let request: db::ListDatabasesRequest = decode(message)?;
                if !self.instances.contains_key(&request.parent) {
                    return Err(instance_not_found(&request.parent));
                }
                let of_this = format!("{}/databases/", request.parent);
                let databases = self.databases.iter().filter(|(name, _)| name.starts_with(&of_this));
                let databases = databases.map(|(name, database)| shown(name, database.created)).collect();
                Ok(Reply::unary(&db::ListDatabasesResponse { databases, ..Default::default() }))
            }
            "DropDatabase" => {
                let request: db::DropDatabaseRequest = decode(message)?;
                self.databases.remove(&request.database).ok_or_else(|| database_not_found(&request.database))?;
                Ok(Reply::unary(&()))
            }
            _ => Err(unimplemented(method)),
        }
    }

    fn create_database(&mut self, request: &db::CreateDatabaseRequest) -> Result<Reply, Status> {
        if !self.instances.contains_key(&request.parent) {
            return Err(instance_not_found(&request.parent));
        }
        if request.database_dialect == db::DatabaseDialect::Postgresql as i32 {
            return Err(invalid("sim: unsupported dialect: PostgreSQL"));
        }
        let name = format!("{}/databases/{}", request.parent, ddl::database_name(&request.create_statement)?);
        let created = self.add_database(&name, &request.extra_statements)?;
        let package = "google.spanner.admin.database.v1";
        let metadata = db::CreateDatabaseMetadata { database: name.clone() };
        let operation = self.operation(
            &name,
            "",
            any(&format!("{package}.CreateDatabaseMetadata"), &metadata),
            Done::Response(any(&format!("{package}.Database"), &shown(&name, created))),
        )?;
        Ok(Reply::unary(&operation))
    }

    pub(super) fn create_database_with_instance(&mut self, name: &str, ddl: &[String]) -> Result<(), Status> {
        let (instance, _) =
            split_database(name).ok_or_else(|| invalid(format!("sim: {name:?} is not of the form projects/P/instances/I/databases/D")))?;
        if !self.instances.contains_key(instance) {
            self.add_instance(instance, inst::Instance::default());
        }
        self.add_database(name, ddl).map(drop)
    }

    fn add_database(&mut self, name: &str, ddl: &[String]) -> Result<u64, Status> {
        if self.databases.contains_key(name) {
            return Err(already_exists("Database", name));
        }
        let created = self.tick();
        let mut database = Database { ddl: Vec::new(), tables: Default::default(), created, locks: Default::default() };
        for statement in ddl {
            database.apply(statement)?;
        }
        self.databases.insert(name.to_owned(), database);
        Ok(created)
    }

    /// Statements are applied one by one; the operation ends with the first that fails, those before it stay.
    fn update_ddl(&mut self, request: &db::UpdateDatabaseDdlRequest) -> Result<Reply, Status> {
        if request.statements.is_empty() {
            return Err(invalid("Missing statements in the request."));
        }
        // What does not parse fails the call itself, before anything is done.
        for statement in &request.statements {
            ddl::parse(statement)?;
        }
        let mut commit_timestamps = Vec::new();
        let mut failure = None;
        for statement in &request.statements {
            let at = self.tick();
            match self.database(&request.database)?.apply(statement) {
                Ok(()) => commit_timestamps.push(timestamp(at)),
                Err(status) => {
                    failure = Some(status);
                    break;
                }
            }
        }
        let metadata = db::UpdateDatabaseDdlMetadata {
            database: request.database.clone(),
            statements: request.statements.clone(),
            commit_timestamps,
            ..Default::default()
        };
        let result = match failure {
            None => Done::Response(any("google.protobuf.Empty", &())),
            Some(status) => Done::Error(status.to_proto()),
        };
        let metadata = any("google.spanner.admin.database.v1.UpdateDatabaseDdlMetadata", &metadata);
        Ok(Reply::unary(&self.operation(&request.database, &request.operation_id, metadata, result)?))
    }

    fn operation(&mut self, resource: &str, id: &str, metadata: Any, result: Done) -> Result<lro::Operation, Status> {
        let id = if id.is_empty() { format!("_auto_sim_{:08}", self.id()) } else { id.to_owned() };
        let name = format!("{resource}/operations/{id}");
        if self.operations.contains_key(&name) {
            return Err(already_exists("Operation", &name));
        }
        let operation = lro::Operation { name: name.clone(), metadata: Some(metadata), done: true, result: Some(result) };
        if self.operations.len() >= OPERATIONS {
            self.operations.pop_first();
        }
        self.operations.insert(name, operation.clone());
        Ok(operation)
    }

    pub(super) fn operations(&mut self, method: &str, message: Bytes) -> Result<Reply, Status> {
        match method {
            "GetOperation" => {
                let request: lro::GetOperationRequest = decode(message)?;
                let not_found = || Status::new(Code::NotFound, format!("Operation not found: {}", request.name));
                self.operations.get(&request.name).map(Reply::unary).ok_or_else(not_found)
            }
            "ListOperations" => {
                let request: lro::ListOperationsRequest = decode(message)?;
                let of_this = |o: &&lro::Operation| o.name.starts_with(&request.name);
                let operations = self.operations.values().filter(of_this).cloned().collect();
                Ok(Reply::unary(&lro::ListOperationsResponse { operations, ..Default::default() }))
            }
            // They are done already.
            "CancelOperation" => Ok(Reply::unary(&())),
            _ => Err(unimplemented(method)),
        }
    }
}

impl Database {
    fn apply(&mut self, statement: &str) -> Result<(), Status> {
        match ddl::parse(statement)? {
            Ddl::CreateTable { table, if_not_exists } => {
                let name = table.name.to_ascii_lowercase();
                if self.tables.contains_key(&name) {
                    if if_not_exists {
                        return Ok(());
                    }
                    return Err(failed_precondition(format!("Duplicate name in schema: {}.", table.name)));
                }
                self.tables.insert(name, table);
            }
            Ddl::AddColumn { table, column } => {
                let found = self.tables.get_mut(&table.to_ascii_lowercase()).ok_or_else(|| table_not_found(&table))?;
                if found.column(&column.name).is_ok() {
                    let text = format!("Duplicate column name {}.{}.", found.name, column.name);
                    return Err(failed_precondition(text));
                }
                found.add_column(column);
            }
            Ddl::DropTable { table, if_exists } => {
                if self.tables.remove(&table.to_ascii_lowercase()).is_none() && !if_exists {
                    return Err(table_not_found(&table));
                }
            }
            Ddl::Ignored => {}
        }
        self.ddl.push(statement.trim().trim_end_matches(';').to_owned());
        Ok(())
    }
}

fn config(name: &str) -> inst::InstanceConfig {
    inst::InstanceConfig {
        name: name.to_owned(),
        display_name: "Simulated configuration".into(),
        config_type: inst::instance_config::Type::GoogleManaged as i32,
        ..Default::default()
    }
}

fn shown(name: &str, created: u64) -> db::Database {
    db::Database {
        name: name.to_owned(),
        state: db::database::State::Ready as i32,
        create_time: Some(timestamp(created)),
        version_retention_period: "1h".into(),
        database_dialect: db::DatabaseDialect::GoogleStandardSql as i32,
        ..Default::default()
    }
}
