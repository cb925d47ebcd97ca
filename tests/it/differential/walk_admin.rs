//! Cases of the admin, IAM and long-running-operation services, in the order in which they run.

use googleapis_tonic_google_spanner_admin_database_v1::google::iam::v1 as iam;

use spanner_sim::prost_types::FieldMask;
use spanner_sim::{database as db, instance as inst, longrunning as lro};

use super::case::code::{ALREADY_EXISTS, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, OK, UNIMPLEMENTED};
use super::case::{Case, Kept, rpc};

pub(super) const PROJECT: &str = "projects/test-project";
pub(super) const INSTANCE: &str = "projects/test-project/instances/test-instance";
pub(super) const DATABASE: &str = "projects/test-project/instances/test-instance/databases/test-db";
const BACKUP: &str = "projects/test-project/instances/test-instance/backups/b";
const SCHEDULE: &str = "projects/test-project/instances/test-instance/databases/test-db/backupSchedules/s";
const PARTITION: &str = "projects/test-project/instances/test-instance/instancePartitions/p";
const CONFIG: &str = "projects/test-project/instanceConfigs/custom-c";
const MISSING: &str = "projects/test-project/instances/test-instance/databases/missing";

const TABLES: [&str; 2] = [
    "CREATE TABLE T (K INT64 NOT NULL, V STRING(MAX)) PRIMARY KEY (K)",
    "CREATE TABLE W (A STRING(MAX) NOT NULL, B BYTES(MAX), C FLOAT64, D BOOL, E TIMESTAMP, F DATE, G ARRAY<INT64>) PRIMARY KEY (A)",
];

fn create_database(statement: &str, extra: &[&str]) -> db::CreateDatabaseRequest {
    let extra_statements = extra.iter().map(ToString::to_string).collect();
    db::CreateDatabaseRequest { parent: INSTANCE.into(), create_statement: statement.into(), extra_statements, ..Default::default() }
}

fn update_ddl(database: &str, statements: &[&str]) -> db::UpdateDatabaseDdlRequest {
    db::UpdateDatabaseDdlRequest {
        database: database.into(),
        statements: statements.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn create_instance(kept: &Kept) -> inst::CreateInstanceRequest {
    let config = kept.text("config");
    let instance = inst::Instance { config, display_name: "An instance".into(), node_count: 1, ..Default::default() };
    inst::CreateInstanceRequest { parent: PROJECT.into(), instance_id: "test-instance".into(), instance: Some(instance) }
}

fn mask(path: &str) -> Option<FieldMask> {
    Some(FieldMask { paths: vec![path.into()] })
}

/// What makes the database, and everything that leaves it alone.
pub(super) fn before() -> Vec<Case> {
    [instances(), databases(), backups(), access(), operations()].into_iter().flatten().collect()
}

fn instances() -> Vec<Case> {
    vec![
        rpc("list the configurations", "InstanceAdmin/ListInstanceConfigs", |_| inst::ListInstanceConfigsRequest {
            parent: PROJECT.into(),
            ..Default::default()
        })
        .gives(OK)
        .keep("config", &[1, 1]),
        rpc("get a configuration", "InstanceAdmin/GetInstanceConfig", |kept| inst::GetInstanceConfigRequest { name: kept.text("config") })
            .gives(OK),
        rpc("a missing configuration", "InstanceAdmin/GetInstanceConfig", |_| inst::GetInstanceConfigRequest { name: CONFIG.into() })
            .gives(NOT_FOUND),
        rpc("create an instance", "InstanceAdmin/CreateInstance", create_instance).gives(OK),
        rpc("an instance that exists already", "InstanceAdmin/CreateInstance", create_instance).gives(ALREADY_EXISTS),
        rpc("get an instance", "InstanceAdmin/GetInstance", |_| inst::GetInstanceRequest { name: INSTANCE.into(), ..Default::default() })
            .gives(OK),
        rpc("a missing instance", "InstanceAdmin/GetInstance", |_| inst::GetInstanceRequest {
            name: "projects/test-project/instances/missing".into(),
            ..Default::default()
        })
        .gives(NOT_FOUND),
        rpc("list the instances", "InstanceAdmin/ListInstances", |_| inst::ListInstancesRequest {
            parent: PROJECT.into(),
            ..Default::default()
        })
        .gives(OK),
        rpc("update an instance", "InstanceAdmin/UpdateInstance", |_| inst::UpdateInstanceRequest {
            instance: Some(inst::Instance { name: INSTANCE.into(), display_name: "Renamed".into(), ..Default::default() }),
            field_mask: mask("display_name"),
        })
        .gives(UNIMPLEMENTED),
        rpc("move an instance", "InstanceAdmin/MoveInstance", |_| inst::MoveInstanceRequest {
            name: INSTANCE.into(),
            target_config: CONFIG.into(),
        })
        .gives(UNIMPLEMENTED),
        rpc("create a configuration", "InstanceAdmin/CreateInstanceConfig", |_| inst::CreateInstanceConfigRequest {
            parent: PROJECT.into(),
            instance_config_id: "custom-c".into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("update a configuration", "InstanceAdmin/UpdateInstanceConfig", |_| inst::UpdateInstanceConfigRequest {
            instance_config: Some(inst::InstanceConfig { name: CONFIG.into(), ..Default::default() }),
            update_mask: mask("display_name"),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("delete a configuration", "InstanceAdmin/DeleteInstanceConfig", |_| inst::DeleteInstanceConfigRequest {
            name: CONFIG.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("list operations on configurations", "InstanceAdmin/ListInstanceConfigOperations", |_| {
            inst::ListInstanceConfigOperationsRequest { parent: PROJECT.into(), ..Default::default() }
        })
        .gives(UNIMPLEMENTED),
        rpc("create an instance partition", "InstanceAdmin/CreateInstancePartition", |_| inst::CreateInstancePartitionRequest {
            parent: INSTANCE.into(),
            instance_partition_id: "p".into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("get an instance partition", "InstanceAdmin/GetInstancePartition", |_| inst::GetInstancePartitionRequest {
            name: PARTITION.into(),
        })
        .gives(UNIMPLEMENTED),
        rpc("update an instance partition", "InstanceAdmin/UpdateInstancePartition", |_| inst::UpdateInstancePartitionRequest {
            instance_partition: Some(inst::InstancePartition { name: PARTITION.into(), ..Default::default() }),
            field_mask: mask("display_name"),
        })
        .gives(UNIMPLEMENTED),
        rpc("delete an instance partition", "InstanceAdmin/DeleteInstancePartition", |_| inst::DeleteInstancePartitionRequest {
            name: PARTITION.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("list instance partitions", "InstanceAdmin/ListInstancePartitions", |_| inst::ListInstancePartitionsRequest {
            parent: INSTANCE.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("list operations on instance partitions", "InstanceAdmin/ListInstancePartitionOperations", |_| {
            inst::ListInstancePartitionOperationsRequest { parent: INSTANCE.into(), ..Default::default() }
        })
        .gives(UNIMPLEMENTED),
    ]
}

fn databases() -> Vec<Case> {
    vec![
        rpc("create a database", "DatabaseAdmin/CreateDatabase", |_| create_database("CREATE DATABASE `test-db`", &TABLES))
            .gives(OK)
            .keep("operation", &[1]),
        rpc("a database that exists already", "DatabaseAdmin/CreateDatabase", |_| create_database("CREATE DATABASE `test-db`", &[]))
            .gives(ALREADY_EXISTS),
        rpc("a malformed CREATE DATABASE", "DatabaseAdmin/CreateDatabase", |_| create_database("CREATE DATABASE", &[]))
            .gives(INVALID_ARGUMENT),
        rpc("a database in a missing instance", "DatabaseAdmin/CreateDatabase", |_| db::CreateDatabaseRequest {
            parent: "projects/test-project/instances/missing".into(),
            ..create_database("CREATE DATABASE `test-db`", &[])
        })
        .gives(NOT_FOUND),
        rpc("get a database", "DatabaseAdmin/GetDatabase", |_| db::GetDatabaseRequest { name: DATABASE.into() }).gives(OK),
        rpc("a missing database", "DatabaseAdmin/GetDatabase", |_| db::GetDatabaseRequest { name: MISSING.into() }).gives(NOT_FOUND),
        rpc("list the databases", "DatabaseAdmin/ListDatabases", |_| db::ListDatabasesRequest {
            parent: INSTANCE.into(),
            ..Default::default()
        })
        .gives(OK),
        rpc("get the schema", "DatabaseAdmin/GetDatabaseDdl", |_| db::GetDatabaseDdlRequest { database: DATABASE.into() }).gives(OK),
        rpc("the schema of a missing database", "DatabaseAdmin/GetDatabaseDdl", |_| db::GetDatabaseDdlRequest { database: MISSING.into() })
            .gives(NOT_FOUND),
        rpc("change the schema", "DatabaseAdmin/UpdateDatabaseDdl", |_| {
            update_ddl(DATABASE, &["CREATE TABLE U (K INT64) PRIMARY KEY (K)", "DROP TABLE U"])
        })
        .gives(OK)
        .keep("ddl operation", &[1]),
        rpc("malformed DDL", "DatabaseAdmin/UpdateDatabaseDdl", |_| update_ddl(DATABASE, &["CREATE TABEL U"])).gives(INVALID_ARGUMENT),
        rpc("a table that exists already", "DatabaseAdmin/UpdateDatabaseDdl", |_| update_ddl(DATABASE, &[TABLES[0]]))
            .on(OK, FAILED_PRECONDITION),
        rpc("change the schema of a missing database", "DatabaseAdmin/UpdateDatabaseDdl", |_| update_ddl(MISSING, &["DROP TABLE T"]))
            .gives(NOT_FOUND),
        rpc("update a database", "DatabaseAdmin/UpdateDatabase", |_| db::UpdateDatabaseRequest {
            database: Some(db::Database { name: DATABASE.into(), enable_drop_protection: true, ..Default::default() }),
            update_mask: mask("enable_drop_protection"),
        })
        .gives(UNIMPLEMENTED),
        rpc("list database operations", "DatabaseAdmin/ListDatabaseOperations", |_| db::ListDatabaseOperationsRequest {
            parent: INSTANCE.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("list database roles", "DatabaseAdmin/ListDatabaseRoles", |_| db::ListDatabaseRolesRequest {
            parent: DATABASE.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("add split points", "DatabaseAdmin/AddSplitPoints", |_| db::AddSplitPointsRequest {
            database: DATABASE.into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("update a graph operation", "DatabaseAdmin/InternalUpdateGraphOperation", |_| db::InternalUpdateGraphOperationRequest {
            database: DATABASE.into(),
            operation_id: "o".into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
        rpc("restore a database", "DatabaseAdmin/RestoreDatabase", |_| db::RestoreDatabaseRequest {
            parent: INSTANCE.into(),
            database_id: "r".into(),
            ..Default::default()
        })
        .gives(UNIMPLEMENTED),
    ]
}

fn backups() -> Vec<Case> {
    let backup = || db::Backup { name: BACKUP.into(), database: DATABASE.into(), ..Default::default() };
    let schedule = || db::BackupSchedule { name: SCHEDULE.into(), ..Default::default() };
    vec![
        rpc("create a backup", "DatabaseAdmin/CreateBackup", move |_| db::CreateBackupRequest {
            parent: INSTANCE.into(),
            backup_id: "b".into(),
            backup: Some(backup()),
            ..Default::default()
        }),
        rpc("copy a backup", "DatabaseAdmin/CopyBackup", |_| db::CopyBackupRequest {
            parent: INSTANCE.into(),
            backup_id: "c".into(),
            source_backup: BACKUP.into(),
            ..Default::default()
        }),
        rpc("get a backup", "DatabaseAdmin/GetBackup", |_| db::GetBackupRequest { name: BACKUP.into() }),
        rpc("update a backup", "DatabaseAdmin/UpdateBackup", move |_| db::UpdateBackupRequest {
            backup: Some(backup()),
            update_mask: mask("expire_time"),
        }),
        rpc("delete a backup", "DatabaseAdmin/DeleteBackup", |_| db::DeleteBackupRequest { name: BACKUP.into() }),
        rpc("list the backups", "DatabaseAdmin/ListBackups", |_| db::ListBackupsRequest { parent: INSTANCE.into(), ..Default::default() }),
        rpc("list backup operations", "DatabaseAdmin/ListBackupOperations", |_| db::ListBackupOperationsRequest {
            parent: INSTANCE.into(),
            ..Default::default()
        }),
        rpc("create a backup schedule", "DatabaseAdmin/CreateBackupSchedule", move |_| db::CreateBackupScheduleRequest {
            parent: DATABASE.into(),
            backup_schedule_id: "s".into(),
            backup_schedule: Some(schedule()),
        }),
        rpc("get a backup schedule", "DatabaseAdmin/GetBackupSchedule", |_| db::GetBackupScheduleRequest { name: SCHEDULE.into() }),
        rpc("update a backup schedule", "DatabaseAdmin/UpdateBackupSchedule", move |_| db::UpdateBackupScheduleRequest {
            backup_schedule: Some(schedule()),
            update_mask: mask("retention_duration"),
        }),
        rpc("delete a backup schedule", "DatabaseAdmin/DeleteBackupSchedule", |_| db::DeleteBackupScheduleRequest {
            name: SCHEDULE.into(),
        }),
        rpc("list the backup schedules", "DatabaseAdmin/ListBackupSchedules", |_| db::ListBackupSchedulesRequest {
            parent: DATABASE.into(),
            ..Default::default()
        }),
    ]
    .into_iter()
    .map(|case| case.gives(UNIMPLEMENTED))
    .collect()
}

/// IAM is served by three services with the same messages.
fn access() -> Vec<Case> {
    let services = [("IAMPolicy", DATABASE), ("DatabaseAdmin", DATABASE), ("InstanceAdmin", INSTANCE)];
    let mut cases = Vec::new();
    for (service, resource) in services {
        let of = |method: &str| (format!("{service}/{method}"), resource.to_owned());
        let (method, resource) = of("GetIamPolicy");
        cases.push(rpc("get a policy", &method, move |_| iam::GetIamPolicyRequest { resource: resource.clone(), options: None }));
        let (method, resource) = of("SetIamPolicy");
        cases.push(rpc("set a policy", &method, move |_| iam::SetIamPolicyRequest { resource: resource.clone(), ..Default::default() }));
        let (method, resource) = of("TestIamPermissions");
        let permissions = || vec!["spanner.databases.read".into()];
        cases.push(rpc("test permissions", &method, move |_| iam::TestIamPermissionsRequest {
            resource: resource.clone(),
            permissions: permissions(),
        }));
    }
    cases.into_iter().map(|case| case.gives(UNIMPLEMENTED)).collect()
}

fn operations() -> Vec<Case> {
    let missing = || format!("{DATABASE}/operations/missing");
    vec![
        rpc("get an operation", "Operations/GetOperation", |kept| lro::GetOperationRequest { name: kept.text("operation") }).gives(OK),
        rpc("get the operation of a schema change", "Operations/GetOperation", |kept| lro::GetOperationRequest {
            name: kept.text("ddl operation"),
        })
        .gives(OK),
        rpc("a missing operation", "Operations/GetOperation", move |_| lro::GetOperationRequest { name: missing() }).gives(NOT_FOUND),
        rpc("list operations", "Operations/ListOperations", |_| lro::ListOperationsRequest {
            name: format!("{DATABASE}/operations"),
            ..Default::default()
        })
        .gives(OK),
        rpc("cancel an operation", "Operations/CancelOperation", |kept| lro::CancelOperationRequest { name: kept.text("operation") })
            .on(OK, UNIMPLEMENTED),
        rpc("wait for an operation", "Operations/WaitOperation", |kept| lro::WaitOperationRequest {
            name: kept.text("operation"),
            timeout: None,
        })
        .gives(UNIMPLEMENTED),
        rpc("delete an operation", "Operations/DeleteOperation", |kept| lro::DeleteOperationRequest { name: kept.text("operation") })
            .gives(UNIMPLEMENTED),
    ]
}

/// What takes the database away.
pub(super) fn after() -> Vec<Case> {
    vec![
        rpc("drop a database", "DatabaseAdmin/DropDatabase", |_| db::DropDatabaseRequest { database: DATABASE.into() }).gives(OK),
        rpc("drop a missing database", "DatabaseAdmin/DropDatabase", |_| db::DropDatabaseRequest { database: MISSING.into() })
            .on(NOT_FOUND, OK),
        rpc("delete an instance", "InstanceAdmin/DeleteInstance", |_| inst::DeleteInstanceRequest { name: INSTANCE.into() }).gives(OK),
        rpc("delete a missing instance", "InstanceAdmin/DeleteInstance", |_| inst::DeleteInstanceRequest {
            name: "projects/test-project/instances/missing".into(),
        })
        .gives(OK),
    ]
}
