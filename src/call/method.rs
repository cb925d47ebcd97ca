//! The table of RPCs: what the sidecar must know of a method before it can treat its calls well.
//!
//! A method that is not in the table is forwarded all the same when its service is one that Spanner serves: such a call is
//! not looked into, never repeated, and has no routing header added.

/// What the first fields of a method's request message hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Field 1 is the resource; nothing else matters.
    Resource,
    /// Field 1 is the session, field 2 a `TransactionSelector`.
    Selector,
    /// Field 1 is the session, field 2 a `TransactionSelector` of a stream of rows (`PartialResultSet`).
    SelectorStream,
    /// `ExecuteBatchDmlRequest`: as `Selector`, the answer holds a list of result sets.
    SelectorBatch,
    /// `BeginTransactionRequest`: field 1 the session, field 2 `TransactionOptions`.
    Begin,
    /// `CommitRequest`: field 1 the session, field 2 the transaction id, field 3 single-use options.
    Commit,
    /// `RollbackRequest`: field 1 the session, field 2 the transaction id.
    Rollback,
}

/// Whether a call may be sent upstream again when it is not known that the first copy was left unprocessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Reading it twice changes nothing.
    Safe,
    /// Safe when the message asks for a single-use read and is not DML.
    IfSingleUseRead,
    /// Only the application can know.
    Never,
}

/// One RPC.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Method`, as in the `:path` of a call.
    pub path: &'static str,
    /// The name of field 1, which is also the key in `x-goog-request-params`; for nested fields with a dot.
    pub routing_key: &'static str,
    /// How to read the message.
    pub shape: Shape,
    /// Whether Spanner's own clients ask for the leader replica for every call of this method.
    pub to_leader: bool,
    /// Whether it may be repeated.
    pub repeat: Repeat,
}

impl Method {
    /// The method's name in metrics, `package.Service/Method`.
    pub fn name(&self) -> &'static str {
        &self.path[1..]
    }
}

/// Where a path leads.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// A method of the table, by its index.
    Known(usize),
    /// A service of Spanner's, a method that this version does not know.
    Unknown,
    /// Answered here: health and reflection.
    Local,
    /// Nothing that Spanner or the sidecar serves.
    NotServed,
}

/// The service prefixes whose calls are forwarded, also for methods that are not in the table.
const FORWARDED: [&str; 3] = ["/google.spanner.", "/google.longrunning.", "/google.iam."];

/// The services that the sidecar answers itself.
const LOCAL: [&str; 2] = ["/grpc.health.v1.Health/", "/grpc.reflection."];

/// Finds the route of a `:path`.
pub fn route(path: &str) -> Route {
    if let Ok(index) = TABLE.binary_search_by(|method| method.path.cmp(path)) {
        return Route::Known(index);
    }
    let has_method = |path: &str| path.rfind('/').is_some_and(|slash| slash > 0 && slash + 1 < path.len());
    if FORWARDED.iter().any(|prefix| path.starts_with(prefix)) && has_method(path) {
        Route::Unknown
    } else if LOCAL.iter().any(|prefix| path.starts_with(prefix)) {
        Route::Local
    } else {
        Route::NotServed
    }
}

const fn rpc(path: &'static str, routing_key: &'static str, shape: Shape, to_leader: bool, repeat: Repeat) -> Method {
    Method { path, routing_key, shape, to_leader, repeat }
}

/// A read-only RPC of the admin, IAM and long-running-operation services.
const fn get(path: &'static str, routing_key: &'static str) -> Method {
    rpc(path, routing_key, Shape::Resource, false, Repeat::Safe)
}

/// An RPC of the same services that changes something.
const fn change(path: &'static str, routing_key: &'static str) -> Method {
    rpc(path, routing_key, Shape::Resource, false, Repeat::Never)
}

use Repeat::{IfSingleUseRead, Never, Safe};

/// All methods, sorted by path for binary search.
pub static TABLE: [Method; METHODS] = [
    get("/google.iam.v1.IAMPolicy/GetIamPolicy", "resource"),
    change("/google.iam.v1.IAMPolicy/SetIamPolicy", "resource"),
    get("/google.iam.v1.IAMPolicy/TestIamPermissions", "resource"),
    change("/google.longrunning.Operations/CancelOperation", "name"),
    change("/google.longrunning.Operations/DeleteOperation", "name"),
    get("/google.longrunning.Operations/GetOperation", "name"),
    get("/google.longrunning.Operations/ListOperations", "name"),
    get("/google.longrunning.Operations/WaitOperation", "name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/AddSplitPoints", "database"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/CopyBackup", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/CreateBackup", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/CreateBackupSchedule", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/CreateDatabase", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/DeleteBackup", "name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/DeleteBackupSchedule", "name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/DropDatabase", "database"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/GetBackup", "name"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/GetBackupSchedule", "name"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/GetDatabase", "name"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/GetDatabaseDdl", "database"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/GetIamPolicy", "resource"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/InternalUpdateGraphOperation", "database"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListBackupOperations", "parent"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListBackupSchedules", "parent"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListBackups", "parent"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListDatabaseOperations", "parent"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListDatabaseRoles", "parent"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/ListDatabases", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/RestoreDatabase", "parent"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/SetIamPolicy", "resource"),
    get("/google.spanner.admin.database.v1.DatabaseAdmin/TestIamPermissions", "resource"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/UpdateBackup", "backup.name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/UpdateBackupSchedule", "backup_schedule.name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabase", "database.name"),
    change("/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabaseDdl", "database"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/CreateInstance", "parent"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/CreateInstanceConfig", "parent"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/CreateInstancePartition", "parent"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/DeleteInstance", "name"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/DeleteInstanceConfig", "name"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/DeleteInstancePartition", "name"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/GetIamPolicy", "resource"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/GetInstance", "name"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/GetInstanceConfig", "name"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/GetInstancePartition", "name"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/ListInstanceConfigOperations", "parent"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/ListInstanceConfigs", "parent"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/ListInstancePartitionOperations", "parent"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/ListInstancePartitions", "parent"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/ListInstances", "parent"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/MoveInstance", "name"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/SetIamPolicy", "resource"),
    get("/google.spanner.admin.instance.v1.InstanceAdmin/TestIamPermissions", "resource"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/UpdateInstance", "instance.name"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/UpdateInstanceConfig", "instance_config.name"),
    change("/google.spanner.admin.instance.v1.InstanceAdmin/UpdateInstancePartition", "instance_partition.name"),
    rpc("/google.spanner.v1.Spanner/BatchCreateSessions", "database", Shape::Resource, true, Safe),
    rpc("/google.spanner.v1.Spanner/BatchWrite", "session", Shape::Resource, true, Never),
    rpc("/google.spanner.v1.Spanner/BeginTransaction", "session", Shape::Begin, false, Safe),
    rpc("/google.spanner.v1.Spanner/Commit", "session", Shape::Commit, true, Never),
    rpc("/google.spanner.v1.Spanner/CreateSession", "database", Shape::Resource, true, Safe),
    rpc("/google.spanner.v1.Spanner/DeleteSession", "name", Shape::Resource, false, Safe),
    rpc("/google.spanner.v1.Spanner/ExecuteBatchDml", "session", Shape::SelectorBatch, true, Never),
    rpc("/google.spanner.v1.Spanner/ExecuteSql", "session", Shape::Selector, false, IfSingleUseRead),
    rpc("/google.spanner.v1.Spanner/ExecuteStreamingSql", "session", Shape::SelectorStream, false, IfSingleUseRead),
    rpc("/google.spanner.v1.Spanner/GetSession", "name", Shape::Resource, true, Safe),
    rpc("/google.spanner.v1.Spanner/ListSessions", "database", Shape::Resource, true, Safe),
    rpc("/google.spanner.v1.Spanner/PartitionQuery", "session", Shape::Selector, true, Never),
    rpc("/google.spanner.v1.Spanner/PartitionRead", "session", Shape::Selector, true, Never),
    rpc("/google.spanner.v1.Spanner/Read", "session", Shape::Selector, false, IfSingleUseRead),
    rpc("/google.spanner.v1.Spanner/Rollback", "session", Shape::Rollback, true, Never),
    rpc("/google.spanner.v1.Spanner/StreamingRead", "session", Shape::SelectorStream, false, IfSingleUseRead),
];

/// How many methods the table has.
pub const METHODS: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_binary_search_finds_every_method() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].path < pair[1].path, "{} stands before {}", pair[0].path, pair[1].path);
        }
        for (index, method) in TABLE.iter().enumerate() {
            assert!(matches!(route(method.path), Route::Known(found) if found == index), "{}", method.path);
        }
    }

    #[test]
    fn a_method_newer_than_the_table_is_forwarded() {
        assert!(matches!(route("/google.spanner.v1.Spanner/FetchCacheUpdate"), Route::Unknown));
        assert!(matches!(route("/google.spanner.adapter.v1.Adapter/AdaptMessage"), Route::Unknown));
    }

    #[test]
    fn paths_of_other_services_are_not_served() {
        for path in
            ["/", "", "/google.pubsub.v1.Publisher/Publish", "/google.spanner.v1.Spanner/", "google.spanner.v1", "/google.spannerx.A/B"]
        {
            assert!(matches!(route(path), Route::NotServed), "{path}");
        }
    }

    #[test]
    fn health_and_reflection_are_answered_here() {
        assert!(matches!(route("/grpc.health.v1.Health/Check"), Route::Local));
        assert!(matches!(route("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Route::Local));
        assert!(matches!(route("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"), Route::Local));
    }
}
