//! The built-in Spanner: sessions, reads, SQL, partitions, admin.

use spanner_sim::prost_types::Struct;
use spanner_sim::{Sim, database as db, instance as inst, longrunning as lro, v1};
use v1::result_set_stats::RowCount;
use v1::transaction_options::{Mode, PartitionedDml};
use v1::transaction_selector::Selector;

use crate::client::{Client, DATABASE, DDL};
use crate::requests::{begin, commit, commit_once, insert, list, read_all, read_only, read_write, selector, sql, strings, text, users};

#[tokio::test]
async fn sessions_are_created_listed_and_deleted() {
    let sim = Sim::builder().database(DATABASE, [DDL]).sessions_per_batch(2).start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let template =
        v1::Session { labels: [("env".to_string(), "test".to_string())].into(), creator_role: "reader".into(), ..Default::default() };
    let request = v1::BatchCreateSessionsRequest { database: DATABASE.into(), session_template: Some(template), session_count: 5 };
    let batch: v1::BatchCreateSessionsResponse = client.unary("BatchCreateSessions", DATABASE, &request).await;
    assert_eq!(batch.session.len(), 2, "fewer than asked");
    assert_eq!(batch.session[0].creator_role, "reader");
    let multiplexed = client.session(true).await;

    let request = v1::ListSessionsRequest { database: DATABASE.into(), page_size: 1, ..Default::default() };
    let first: v1::ListSessionsResponse = client.unary("ListSessions", DATABASE, &request).await;
    assert_eq!(first.sessions.len(), 1);
    let request = v1::ListSessionsRequest { page_token: first.next_page_token, ..request };
    let second: v1::ListSessionsResponse = client.unary("ListSessions", DATABASE, &request).await;
    assert_eq!((second.sessions.len(), &*second.next_page_token), (1, ""), "no multiplexed session is listed");

    let name = &batch.session[0].name;
    let request = v1::DeleteSessionRequest { name: name.clone() };
    assert_eq!(client.call("DeleteSession", name, &request).await.code(), 0);
    let gone = client.call("GetSession", name, &v1::GetSessionRequest { name: name.clone() }).await;
    assert_eq!((gone.code(), gone.text()), (5, &*format!("Session not found: {name}")));
    assert!(gone.trailers.contains_key("google.rpc.resourceinfo-bin") && gone.trailers_only);
    let request = v1::DeleteSessionRequest { name: multiplexed.clone() };
    assert_eq!(client.call("DeleteSession", &multiplexed, &request).await.code(), 3);

    sim.lose_sessions();
    let lost = client.call("Read", &multiplexed, &read_all(&multiplexed)).await;
    assert_eq!(lost.text(), format!("Session not found: {multiplexed}"));
}

#[tokio::test]
async fn mutations_are_read_back() {
    let (_sim, client, session) = users(true).await;
    let request = v1::ReadRequest {
        columns: vec!["Balance".into(), "Name".into()],
        key_set: Some(v1::KeySet { keys: vec![list(&["3"]), list(&["1"]), list(&["9"])], ..Default::default() }),
        ..read_all(&session)
    };
    let set: v1::ResultSet = client.unary("Read", &session, &request).await;
    assert_eq!(strings(&set.rows), ["10 ann", "30 cy"]);
    let fields = set.metadata.unwrap().row_type.unwrap().fields;
    assert_eq!(fields[0].r#type.as_ref().unwrap().code, v1::TypeCode::Int64 as i32);

    let again = client.call("Commit", &session, &commit_once(&session, vec![insert(&[["1", "x", "1"]])])).await;
    assert_eq!((again.code(), again.text()), (6, "Row [1] in table Users already exists"));
    let wrong = client.call("Commit", &session, &commit_once(&session, vec![insert(&[["x", "x", "1"]])])).await;
    assert_eq!(wrong.code(), 9);
    let missing = v1::ReadRequest { table: "Nope".into(), ..read_all(&session) };
    assert_eq!(client.call("Read", &session, &missing).await.text(), "Table not found: Nope");
}

#[tokio::test]
async fn streams_end_where_a_resume_token_goes_on() {
    let sim = Sim::builder().database(DATABASE, [DDL]).rows_per_message(2).start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let session = client.session(true).await;
    let ids: Vec<String> = (0..5).map(|n| n.to_string()).collect();
    let rows: Vec<[&str; 3]> = ids.iter().map(|id| [&**id, &**id, "0"]).collect();
    client.call("Commit", &session, &commit_once(&session, vec![insert(&rows)])).await;

    let query = sql(&session, "SELECT Name FROM Users");
    let parts: Vec<v1::PartialResultSet> = client.call("ExecuteStreamingSql", &session, &query).await.messages();
    assert_eq!(parts.len(), 3);
    assert!(parts[0].metadata.is_some() && parts[1].metadata.is_none() && parts[2].last);
    // What is written meanwhile is not seen: the stream goes on at its own time.
    client.call("Commit", &session, &commit_once(&session, vec![insert(&[["7", "7", "0"]])])).await;
    let resumed = v1::ExecuteSqlRequest { resume_token: parts[0].resume_token.clone(), ..query };
    let rest: Vec<v1::PartialResultSet> = client.call("ExecuteStreamingSql", &session, &resumed).await.messages();
    let values: Vec<_> = rest.iter().flat_map(|part| part.values.clone()).collect();
    assert_eq!(values, ["2", "3", "4"].map(text));
    let bad = v1::ExecuteSqlRequest { resume_token: b"x".to_vec(), ..resumed };
    assert_eq!(client.call("ExecuteStreamingSql", &session, &bad).await.code(), 3);
}

#[tokio::test]
async fn sql_reads_and_writes() {
    let (_sim, client, session) = users(false).await;
    let one = client.sql(&sql(&session, "SELECT 1")).await;
    assert_eq!(strings(&one.rows), ["1"]);
    let params = Struct { fields: [("id".to_string(), text("2"))].into() };
    let by_key = v1::ExecuteSqlRequest {
        params: Some(params.clone()),
        ..sql(&session, "SELECT Name, Balance + 1 AS more FROM Users WHERE Id = @id")
    };
    assert_eq!(strings(&client.sql(&by_key).await.rows), ["bob 21"]);
    let count = client.sql(&sql(&session, "SELECT COUNT(*) FROM Users WHERE Balance >= 20")).await;
    assert_eq!(strings(&count.rows), ["2"]);

    // The first statement begins the transaction.
    let update = v1::ExecuteSqlRequest {
        transaction: selector(Selector::Begin(read_write())),
        params: Some(params),
        seqno: 1,
        ..sql(&session, "UPDATE Users SET Balance = Balance - 5 WHERE Id = @id")
    };
    let set = client.sql(&update).await;
    assert_eq!(set.stats.unwrap().row_count, Some(RowCount::RowCountExact(1)));
    let id = set.metadata.unwrap().transaction.unwrap().id;
    let inside = |text: &str| v1::ExecuteSqlRequest { transaction: selector(Selector::Id(id.clone())), ..sql(&session, text) };
    assert_eq!(strings(&client.sql(&inside("SELECT Balance FROM Users WHERE Id = 2")).await.rows), ["15"]);
    // A replay of the same statement does nothing.
    let replay = v1::ExecuteSqlRequest { transaction: inside("").transaction, ..update };
    client.sql(&replay).await;
    let other = v1::ExecuteSqlRequest { seqno: 1, ..inside("DELETE FROM Users WHERE Id = 1") };
    assert_eq!(client.call("ExecuteSql", &session, &other).await.code(), 3);
    let outside = client.sql(&sql(&session, "SELECT Balance FROM Users WHERE Id = 2")).await;
    assert_eq!(strings(&outside.rows), ["20"]);
    let done: v1::CommitResponse = client.unary("Commit", &session, &commit(&session, &id)).await;
    let repeated: v1::CommitResponse = client.unary("Commit", &session, &commit(&session, &id)).await;
    assert_eq!(done, repeated, "a repeated commit has the same answer");
    let after = client.sql(&sql(&session, "SELECT Balance FROM Users WHERE Id = 2")).await;
    assert_eq!(strings(&after.rows), ["15"]);
    let unsupported = client.call("ExecuteSql", &session, &sql(&session, "SELECT SUM(Balance) FROM Users")).await;
    assert!(unsupported.code() == 3 && unsupported.text().starts_with("sim: unsupported SQL"));
}

#[tokio::test]
async fn partitions_together_give_every_row() {
    let (_sim, client, session) = users(true).await;
    let id = begin(&client, &session, read_only()).await.id;
    let request = v1::PartitionQueryRequest {
        session: session.clone(),
        transaction: selector(Selector::Id(id.clone())),
        sql: "SELECT Name FROM Users".into(),
        ..Default::default()
    };
    let partitions: v1::PartitionResponse = client.unary("PartitionQuery", &session, &request).await;
    let mut names = Vec::new();
    for partition in partitions.partitions {
        let query = v1::ExecuteSqlRequest {
            transaction: request.transaction.clone(),
            partition_token: partition.partition_token,
            ..sql(&session, &request.sql)
        };
        names.extend(strings(&client.sql(&query).await.rows));
    }
    names.sort();
    assert_eq!(names, ["ann", "bob", "cy"]);
    let request = v1::PartitionReadRequest {
        session: session.clone(),
        table: "Users".into(),
        columns: vec!["Name".into()],
        key_set: read_all("").key_set,
        ..Default::default()
    };
    assert_eq!(client.call("PartitionRead", &session, &request).await.code(), 3, "not in single use");
}

#[tokio::test]
async fn partitioned_dml_and_batch_write_apply_at_once() {
    let (_sim, client, session) = users(true).await;
    let options = v1::TransactionOptions { mode: Some(Mode::PartitionedDml(PartitionedDml {})), ..Default::default() };
    let id = begin(&client, &session, options).await.id;
    let dml = v1::ExecuteSqlRequest {
        transaction: selector(Selector::Id(id)),
        ..sql(&session, "UPDATE Users SET Balance = 0 WHERE Balance > 10")
    };
    let set = client.sql(&dml).await;
    assert_eq!(set.stats.unwrap().row_count, Some(RowCount::RowCountLowerBound(2)));

    let group = |mutation| v1::batch_write_request::MutationGroup { mutations: vec![mutation] };
    let request = v1::BatchWriteRequest {
        session: session.clone(),
        mutation_groups: vec![group(insert(&[["1", "dup", "0"]])), group(insert(&[["6", "fay", "0"]]))],
        ..Default::default()
    };
    let responses: Vec<v1::BatchWriteResponse> = client.call("BatchWrite", &session, &request).await.messages();
    let codes: Vec<_> = responses.iter().map(|r| (r.indexes[0], r.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [(0, 6), (1, 0)]);
    let count = client.sql(&sql(&session, "SELECT COUNT(*) FROM Users WHERE Balance = 0")).await;
    assert_eq!(strings(&count.rows), ["3"]);
}

#[tokio::test]
async fn databases_are_made_and_dropped_by_the_admin_api() {
    let sim = Sim::builder().start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let request = inst::ListInstanceConfigsRequest { parent: "projects/p".into(), ..Default::default() };
    let configs: inst::ListInstanceConfigsResponse = client.admin("ListInstanceConfigs", &request).await.unwrap();
    assert_eq!(configs.instance_configs.len(), 1);
    let create = db::CreateDatabaseRequest {
        parent: "projects/p/instances/i".into(),
        create_statement: "CREATE DATABASE `d`".into(),
        extra_statements: vec![DDL.into()],
        ..Default::default()
    };
    assert_eq!(client.admin::<lro::Operation>("CreateDatabase", &create).await.unwrap_err().code(), 5);
    let request = inst::CreateInstanceRequest { parent: "projects/p".into(), instance_id: "i".into(), ..Default::default() };
    let _: lro::Operation = client.admin("CreateInstance", &request).await.unwrap();
    let operation: lro::Operation = client.admin("CreateDatabase", &create).await.unwrap();
    assert!(operation.done);
    let request = lro::GetOperationRequest { name: operation.name.clone() };
    assert_eq!(client.admin::<lro::Operation>("GetOperation", &request).await.unwrap(), operation);
    assert_eq!(client.admin::<lro::Operation>("CreateDatabase", &create).await.unwrap_err().code(), 6);

    assert!(client.update_ddl("ALTER TABLE Users ADD COLUMN Mail STRING(100)").await.done);
    let failed = client.update_ddl("DROP TABLE Nope").await;
    assert!(matches!(failed.result, Some(lro::operation::Result::Error(status)) if status.code == 5));
    let request = db::GetDatabaseDdlRequest { database: DATABASE.into() };
    let ddl: db::GetDatabaseDdlResponse = client.admin("GetDatabaseDdl", &request).await.unwrap();
    assert_eq!(ddl.statements.len(), 2);

    let session = client.session(false).await;
    let request = db::DropDatabaseRequest { database: DATABASE.into() };
    client.admin::<()>("DropDatabase", &request).await.unwrap();
    let gone = client.call("Read", &session, &read_all(&session)).await;
    assert_eq!((gone.code(), gone.text()), (5, &*format!("Database not found: {DATABASE}")));
}
