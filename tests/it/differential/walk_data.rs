//! Cases of `google.spanner.v1`, in the order in which they run.

use spanner_sim::prost_types::{Duration, ListValue, Struct, Timestamp, Value, value::Kind};
use spanner_sim::v1;
use v1::batch_write_request::MutationGroup;
use v1::commit_request::Transaction;
use v1::transaction_options::{Mode, PartitionedDml, read_only::TimestampBound};

use super::case::code::{ABORTED, ALREADY_EXISTS, FAILED_PRECONDITION, INVALID_ARGUMENT, NOT_FOUND, OK, OUT_OF_RANGE, UNIMPLEMENTED};
use super::case::{Case, Kept, rpc};
use super::messages::{
    batch, begin, begin_transaction, commit, create_session, insert, options, read, read_only, read_write, row, rows, single_use, sql,
    text, within, write_once,
};
use super::walk_admin::DATABASE;

const GONE: &str = "projects/test-project/instances/test-instance/databases/test-db/sessions/gone";

pub(super) fn cases() -> Vec<Case> {
    [sessions(), writes(), reads(), transactions(), conflict(), partitions(), multiplexed(), last()].into_iter().flatten().collect()
}

fn sessions() -> Vec<Case> {
    let labelled = || v1::Session { labels: [("env".to_owned(), "test".to_owned())].into(), ..Default::default() };
    let role = || v1::Session { creator_role: "reader".into(), ..Default::default() };
    let in_batch =
        |database: &str, session_count| v1::BatchCreateSessionsRequest { database: database.into(), session_count, ..Default::default() };
    vec![
        rpc("create a session", "Spanner/CreateSession", |_| create_session(DATABASE, v1::Session::default()))
            .gives(OK)
            .keep("session", &[1]),
        rpc("a labelled session", "Spanner/CreateSession", move |_| create_session(DATABASE, labelled())).gives(OK).keep("labelled", &[1]),
        rpc("a session with a database role", "Spanner/CreateSession", move |_| create_session(DATABASE, role())).gives(OK),
        rpc("a session in a missing database", "Spanner/CreateSession", |_| {
            create_session("projects/test-project/instances/test-instance/databases/missing", v1::Session::default())
        })
        .gives(NOT_FOUND),
        rpc("a session in a project of a domain", "Spanner/CreateSession", |_| {
            create_session("projects/example.com:test-project/instances/i/databases/test-db", v1::Session::default())
        })
        .gives(NOT_FOUND),
        rpc("a session in no database", "Spanner/CreateSession", |_| v1::CreateSessionRequest::default()).on(NOT_FOUND, INVALID_ARGUMENT),
        rpc("create sessions", "Spanner/BatchCreateSessions", move |_| in_batch(DATABASE, 3)).gives(OK).keep("spare", &[1, 1]),
        rpc("create no sessions", "Spanner/BatchCreateSessions", move |_| in_batch(DATABASE, 0)).on(INVALID_ARGUMENT, OK),
        rpc("sessions in a missing database", "Spanner/BatchCreateSessions", move |_| {
            in_batch("projects/test-project/instances/test-instance/databases/missing", 1)
        })
        .gives(NOT_FOUND),
        rpc("get a session", "Spanner/GetSession", |kept| v1::GetSessionRequest { name: kept.text("session") }).gives(OK),
        rpc("get a labelled session", "Spanner/GetSession", |kept| v1::GetSessionRequest { name: kept.text("labelled") }).gives(OK),
        rpc("a missing session", "Spanner/GetSession", |_| v1::GetSessionRequest { name: GONE.into() }).gives(NOT_FOUND),
        rpc("list the labelled sessions", "Spanner/ListSessions", |_| v1::ListSessionsRequest {
            database: DATABASE.into(),
            filter: "labels.env:test".into(),
            ..Default::default()
        })
        .gives(OK),
        rpc("list the sessions of a missing database", "Spanner/ListSessions", |_| v1::ListSessionsRequest {
            database: "projects/test-project/instances/test-instance/databases/missing".into(),
            ..Default::default()
        })
        .gives(NOT_FOUND),
        rpc("delete a session", "Spanner/DeleteSession", |kept| v1::DeleteSessionRequest { name: kept.text("spare") }).gives(OK),
        rpc("a statement in a deleted session", "Spanner/ExecuteSql", |kept| v1::ExecuteSqlRequest {
            session: kept.text("spare"),
            ..sql(kept, "SELECT 1")
        })
        .gives(NOT_FOUND),
    ]
}

fn writes() -> Vec<Case> {
    let wide = || {
        let mut values = row(&["a", "Ynl0ZXM=", "", "", "2024-01-02T03:04:05.000000006Z", "2024-01-02"]);
        values.values[2] = Value { kind: Some(Kind::NumberValue(1.5)) };
        values.values[3] = Value { kind: Some(Kind::BoolValue(true)) };
        values.values.push(Value { kind: Some(Kind::ListValue(row(&["1", "2"]))) });
        insert("W", &["A", "B", "C", "D", "E", "F", "G"], &[values])
    };
    let group = |from: u32| MutationGroup { mutations: vec![insert("T", &["K", "V"], &rows(from, from))] };
    vec![
        rpc("write rows", "Spanner/Commit", |kept| write_once(kept, vec![insert("T", &["K", "V"], &rows(1, 9))])).gives(OK),
        rpc("write a row of every type", "Spanner/Commit", move |kept| write_once(kept, vec![wide()])).gives(OK),
        rpc("a row that exists already", "Spanner/Commit", |kept| write_once(kept, vec![insert("T", &["K", "V"], &rows(1, 1))]))
            .gives(ALREADY_EXISTS),
        rpc("a write to a missing table", "Spanner/Commit", |kept| write_once(kept, vec![insert("Missing", &["K"], &[row(&["1"])])]))
            .gives(NOT_FOUND),
        rpc("a write to a missing column", "Spanner/Commit", |kept| write_once(kept, vec![insert("T", &["K", "Missing"], &rows(20, 20))]))
            .gives(NOT_FOUND),
        rpc("a value of the wrong type", "Spanner/Commit", |kept| write_once(kept, vec![insert("T", &["K"], &[row(&["no number"])])]))
            .gives(FAILED_PRECONDITION),
        rpc("a NULL where none may be", "Spanner/Commit", |kept| {
            let null = ListValue { values: vec![Value { kind: Some(Kind::NullValue(0)) }] };
            write_once(kept, vec![insert("T", &["K"], &[null])])
        })
        .gives(FAILED_PRECONDITION),
        rpc("a mutation without operation", "Spanner/Commit", |kept| write_once(kept, vec![v1::Mutation::default()]))
            .gives(INVALID_ARGUMENT),
        rpc("groups of writes", "Spanner/BatchWrite", move |kept| v1::BatchWriteRequest {
            session: kept.text("session"),
            mutation_groups: vec![group(30), group(1), group(31)],
            ..Default::default()
        })
        .on(OK, UNIMPLEMENTED),
    ]
}

fn reads() -> Vec<Case> {
    let strong = || read_only(TimestampBound::Strong(true));
    let stale = |seconds| read_only(TimestampBound::ExactStaleness(Duration { seconds, nanos: 0 }));
    let at = |seconds| read_only(TimestampBound::ReadTimestamp(Timestamp { seconds, nanos: 0 }));
    let with_parameter = |kept: &Kept| v1::ExecuteSqlRequest {
        params: Some(Struct { fields: [("k".to_owned(), text("3"))].into() }),
        param_types: [("k".to_owned(), v1::Type { code: v1::TypeCode::Int64 as i32, ..Default::default() })].into(),
        ..sql(kept, "SELECT K, V FROM T WHERE K < @k ORDER BY K")
    };
    vec![
        rpc("a query", "Spanner/ExecuteSql", |kept| sql(kept, "SELECT K, V FROM T WHERE K < 10 ORDER BY K")).gives(OK),
        rpc("a query with a parameter", "Spanner/ExecuteSql", with_parameter).gives(OK),
        rpc("a query without a parameter that it needs", "Spanner/ExecuteSql", move |kept| v1::ExecuteSqlRequest {
            params: None,
            ..with_parameter(kept)
        })
        .gives(INVALID_ARGUMENT),
        rpc("a query at a timestamp that it returns", "Spanner/ExecuteSql", move |kept| v1::ExecuteSqlRequest {
            transaction: single_use(strong()),
            ..sql(kept, "SELECT 1")
        })
        .gives(OK),
        rpc("a query of every type", "Spanner/ExecuteSql", |kept| sql(kept, "SELECT A, B, C, D, E, F, G FROM W")).gives(OK),
        rpc("a query with tags", "Spanner/ExecuteSql", |kept| v1::ExecuteSqlRequest {
            request_options: Some(v1::RequestOptions { request_tag: "tag".into(), priority: 1, ..Default::default() }),
            ..sql(kept, "SELECT 1")
        })
        .gives(OK),
        rpc("a streamed query", "Spanner/ExecuteStreamingSql", |kept| sql(kept, "SELECT K, V FROM T WHERE K < 10 ORDER BY K")).gives(OK),
        rpc("a streamed query with a parameter", "Spanner/ExecuteStreamingSql", with_parameter).gives(OK),
        rpc("malformed SQL", "Spanner/ExecuteSql", |kept| sql(kept, "SELEC 1")).gives(INVALID_ARGUMENT),
        rpc("malformed SQL with letters of other alphabets", "Spanner/ExecuteSql", |kept| sql(kept, "SELECT ‘ж’ %41 \n\u{1f980}"))
            .gives(INVALID_ARGUMENT),
        rpc("malformed SQL, streamed", "Spanner/ExecuteStreamingSql", |kept| sql(kept, "SELEC 1")).gives(INVALID_ARGUMENT),
        rpc("a query of a missing table", "Spanner/ExecuteSql", |kept| sql(kept, "SELECT K FROM Missing")).on(NOT_FOUND, INVALID_ARGUMENT),
        rpc("a query of a missing column", "Spanner/ExecuteStreamingSql", |kept| sql(kept, "SELECT Missing FROM T"))
            .gives(INVALID_ARGUMENT),
        rpc("an empty query", "Spanner/ExecuteSql", |kept| sql(kept, "")).gives(INVALID_ARGUMENT),
        rpc("a division by zero", "Spanner/ExecuteStreamingSql", |kept| sql(kept, "SELECT 1 / 0")).on(INVALID_ARGUMENT, OUT_OF_RANGE),
        rpc("DML outside of a transaction", "Spanner/ExecuteSql", |kept| sql(kept, "DELETE FROM T WHERE K = 1")).gives(INVALID_ARGUMENT),
        rpc("a read", "Spanner/Read", |kept| read(kept, "T", &["K", "V"])).gives(OK),
        rpc("a read of two rows", "Spanner/Read", |kept| v1::ReadRequest {
            key_set: Some(v1::KeySet { keys: vec![row(&["2"]), row(&["4"])], ..Default::default() }),
            limit: 2,
            ..read(kept, "T", &["V"])
        })
        .gives(OK),
        rpc("a streamed read", "Spanner/StreamingRead", |kept| read(kept, "T", &["K", "V"])).gives(OK),
        rpc("a stale read", "Spanner/StreamingRead", move |kept| v1::ReadRequest {
            transaction: single_use(stale(0)),
            ..read(kept, "T", &["K"])
        })
        .gives(OK),
        rpc("a read of the distant past", "Spanner/Read", move |kept| v1::ReadRequest {
            transaction: single_use(at(1000)),
            ..read(kept, "T", &["K"])
        })
        .gives(FAILED_PRECONDITION),
        rpc("a read of a missing table", "Spanner/Read", |kept| read(kept, "Missing", &["K"])).gives(NOT_FOUND),
        rpc("a read of a missing column", "Spanner/StreamingRead", |kept| read(kept, "T", &["Missing"])).gives(NOT_FOUND),
        rpc("a read by a missing index", "Spanner/Read", |kept| v1::ReadRequest { index: "Missing".into(), ..read(kept, "T", &["K"]) })
            .on(INVALID_ARGUMENT, NOT_FOUND),
        rpc("a read in a missing session", "Spanner/StreamingRead", |kept| v1::ReadRequest {
            session: GONE.into(),
            ..read(kept, "T", &["K"])
        })
        .gives(NOT_FOUND),
    ]
}

fn transactions() -> Vec<Case> {
    let strong = || read_only(TimestampBound::Strong(true));
    let dml = |kept: &Kept, transaction: &str, seqno, text: &str| v1::ExecuteSqlRequest {
        transaction: within(kept.bytes(transaction)),
        seqno,
        ..sql(kept, text)
    };
    let rollback =
        |kept: &Kept, transaction: &str| v1::RollbackRequest { session: kept.text("session"), transaction_id: kept.bytes(transaction) };
    vec![
        rpc("begin a read-write transaction", "Spanner/BeginTransaction", |kept| begin_transaction(kept.text("session"), read_write()))
            .gives(OK)
            .keep("rw", &[1])
            .leader(),
        rpc("a statement in a transaction", "Spanner/ExecuteSql", move |kept| dml(kept, "rw", 1, "UPDATE T SET V = 'changed' WHERE K = 1"))
            .gives(OK),
        rpc("a read in a transaction", "Spanner/StreamingRead", |kept| v1::ReadRequest {
            transaction: within(kept.bytes("rw")),
            ..read(kept, "T", &["V"])
        })
        .gives(OK),
        rpc("statements in a batch", "Spanner/ExecuteBatchDml", |kept| {
            batch(kept, "rw", 2, &["INSERT INTO T (K, V) VALUES (40, 'new')", "UPDATE T SET V = 'changed' WHERE K = 2"])
        })
        .gives(OK),
        rpc("commit", "Spanner/Commit", |kept| commit(kept, "rw", vec![insert("T", &["K", "V"], &rows(42, 42))])).gives(OK),
        rpc("commit again", "Spanner/Commit", |kept| commit(kept, "rw", vec![])).gives(OK),
        rpc("roll back what is committed", "Spanner/Rollback", move |kept| rollback(kept, "rw")).gives(FAILED_PRECONDITION),
        rpc("begin with the first statement", "Spanner/ExecuteSql", |kept| v1::ExecuteSqlRequest {
            transaction: begin(read_write()),
            seqno: 1,
            ..sql(kept, "UPDATE T SET V = 'changed' WHERE K = 3")
        })
        .gives(OK)
        .keep("inline", &[1, 2, 1])
        .leader(),
        rpc("a batch of which one statement fails", "Spanner/ExecuteBatchDml", |kept| {
            batch(kept, "inline", 3, &["INSERT INTO T (K, V) VALUES (41, 'new')", "INSERT INTO T (K, V) VALUES (41, 'again')"])
        })
        .gives(OK),
        rpc("an empty batch", "Spanner/ExecuteBatchDml", |kept| batch(kept, "inline", 4, &[])).gives(INVALID_ARGUMENT),
        rpc("roll back", "Spanner/Rollback", move |kept| rollback(kept, "inline")).gives(OK),
        rpc("roll back again", "Spanner/Rollback", move |kept| rollback(kept, "inline")).gives(OK),
        rpc("commit what is rolled back", "Spanner/Commit", |kept| commit(kept, "inline", vec![])).gives(FAILED_PRECONDITION),
        rpc("begin a snapshot", "Spanner/BeginTransaction", move |kept| begin_transaction(kept.text("session"), strong()))
            .gives(OK)
            .keep("snapshot", &[1]),
        rpc("a query in a snapshot", "Spanner/ExecuteStreamingSql", |kept| v1::ExecuteSqlRequest {
            transaction: within(kept.bytes("snapshot")),
            ..sql(kept, "SELECT K FROM T WHERE K < 4 ORDER BY K")
        })
        .gives(OK),
        rpc("commit a snapshot", "Spanner/Commit", |kept| commit(kept, "snapshot", vec![])).gives(FAILED_PRECONDITION),
        rpc("begin without a mode", "Spanner/BeginTransaction", |kept| {
            begin_transaction(kept.text("session"), v1::TransactionOptions::default())
        })
        .gives(INVALID_ARGUMENT),
        rpc("begin in a missing session", "Spanner/BeginTransaction", |_| begin_transaction(GONE.into(), read_write()))
            .gives(NOT_FOUND)
            .leader(),
        rpc("a transaction that never was", "Spanner/Commit", |kept| v1::CommitRequest {
            transaction: Some(Transaction::TransactionId(b"1".to_vec())),
            ..write_once(kept, vec![])
        })
        .on(NOT_FOUND, FAILED_PRECONDITION),
        rpc("begin partitioned DML", "Spanner/BeginTransaction", |kept| {
            begin_transaction(kept.text("session"), options(Mode::PartitionedDml(PartitionedDml {})))
        })
        .gives(OK)
        .keep("pdml", &[1])
        .leader(),
        rpc("partitioned DML", "Spanner/ExecuteStreamingSql", move |kept| dml(kept, "pdml", 1, "UPDATE T SET V = 'all' WHERE K > 0"))
            .gives(OK),
    ]
}

/// Two transactions that get in each other's way. Which one loses is a matter of chance on the emulator.
fn conflict() -> Vec<Case> {
    let in_second = |kept: &Kept, request: v1::ExecuteSqlRequest| v1::ExecuteSqlRequest {
        session: kept.text("labelled"),
        transaction: begin(read_write()),
        seqno: 1,
        ..request
    };
    vec![
        rpc("begin with a streamed statement", "Spanner/ExecuteStreamingSql", |kept| v1::ExecuteSqlRequest {
            transaction: begin(read_write()),
            ..sql(kept, "SELECT V FROM T WHERE K = 5")
        })
        .gives(OK)
        .keep("first", &[1, 2, 1])
        .leader(),
        rpc("begin in another session", "Spanner/ExecuteSql", move |kept| {
            in_second(kept, sql(kept, "UPDATE T SET V = 'other' WHERE K = 5"))
        })
        .on_sim(OK)
        .keep("second", &[1, 2, 1])
        .leader(),
        rpc("commit the second", "Spanner/Commit", |kept| v1::CommitRequest {
            session: kept.text("labelled"),
            ..commit(kept, "second", vec![])
        })
        .on_sim(OK),
        rpc("commit the first, which has read what changed", "Spanner/Commit", |kept| commit(kept, "first", vec![])).on(ABORTED, OK),
    ]
}

fn partitions() -> Vec<Case> {
    let strong = || read_only(TimestampBound::Strong(true));
    let query = "SELECT K FROM T";
    let with_token = move |kept: &Kept, token: Vec<u8>| v1::ExecuteSqlRequest {
        transaction: within(kept.bytes("ro")),
        partition_token: token,
        ..sql(kept, query)
    };
    let partition_read = |kept: &Kept, table: &str| {
        let v1::ReadRequest { session, table, columns, key_set, .. } = read(kept, table, &["K"]);
        v1::PartitionReadRequest { session, transaction: within(kept.bytes("ro")), table, columns, key_set, ..Default::default() }
    };
    vec![
        rpc("begin a snapshot for partitions", "Spanner/BeginTransaction", move |kept| begin_transaction(kept.text("session"), strong()))
            .gives(OK)
            .keep("ro", &[1]),
        rpc("partition a query", "Spanner/PartitionQuery", move |kept| v1::PartitionQueryRequest {
            session: kept.text("session"),
            transaction: within(kept.bytes("ro")),
            sql: query.into(),
            ..Default::default()
        })
        .gives(OK)
        .keep("partition", &[1, 1]),
        rpc("the rows of a partition", "Spanner/ExecuteStreamingSql", move |kept| with_token(kept, kept.bytes("partition"))).gives(OK),
        rpc("a bad partition token", "Spanner/ExecuteStreamingSql", move |kept| with_token(kept, b"bad".to_vec())).gives(INVALID_ARGUMENT),
        rpc("partition a malformed query", "Spanner/PartitionQuery", |kept| v1::PartitionQueryRequest {
            session: kept.text("session"),
            transaction: within(kept.bytes("ro")),
            sql: "SELEC 1".into(),
            ..Default::default()
        })
        .gives(INVALID_ARGUMENT),
        rpc("partition a query outside of a snapshot", "Spanner/PartitionQuery", move |kept| v1::PartitionQueryRequest {
            session: kept.text("session"),
            sql: query.into(),
            ..Default::default()
        })
        .gives(INVALID_ARGUMENT),
        rpc("partition a read", "Spanner/PartitionRead", move |kept| partition_read(kept, "T")).gives(OK).keep("read partition", &[1, 1]),
        rpc("the rows of a partition of a read", "Spanner/StreamingRead", |kept| v1::ReadRequest {
            transaction: within(kept.bytes("ro")),
            partition_token: kept.bytes("read partition"),
            ..read(kept, "T", &["K"])
        })
        .gives(OK),
        rpc("partition a read of a missing table", "Spanner/PartitionRead", move |kept| partition_read(kept, "Missing")).on(NOT_FOUND, OK),
    ]
}

/// What only the simulated Spanner has: multiplexed sessions with their precommit tokens, and resume tokens.
fn multiplexed() -> Vec<Case> {
    let shared = || v1::Session { multiplexed: true, ..Default::default() };
    let commit = |kept: &Kept, token: &str, seq_num| v1::CommitRequest {
        session: kept.text("shared"),
        transaction: Some(Transaction::TransactionId(kept.bytes("shared rw"))),
        precommit_token: Some(v1::MultiplexedSessionPrecommitToken { precommit_token: kept.bytes(token), seq_num }),
        ..Default::default()
    };
    let resumed =
        |kept: &Kept, resume_token: Vec<u8>| v1::ExecuteSqlRequest { resume_token, ..sql(kept, "SELECT K FROM T WHERE K < 10 ORDER BY K") };
    vec![
        rpc("create a multiplexed session", "Spanner/CreateSession", move |_| create_session(DATABASE, shared()))
            .gives(OK)
            .keep("shared", &[1]),
        rpc("delete a multiplexed session", "Spanner/DeleteSession", |kept| v1::DeleteSessionRequest { name: kept.text("shared") })
            .on_sim(INVALID_ARGUMENT),
        rpc("begin in a multiplexed session", "Spanner/BeginTransaction", |kept| v1::BeginTransactionRequest {
            mutation_key: Some(insert("T", &["K", "V"], &rows(50, 50))),
            ..begin_transaction(kept.text("shared"), read_write())
        })
        .on_sim(OK)
        .keep("shared rw", &[1])
        .keep("precommit", &[3, 1])
        .leader(),
        rpc("commit without the precommit token", "Spanner/Commit", move |kept| v1::CommitRequest {
            precommit_token: None,
            ..commit(kept, "precommit", 1)
        })
        .on_sim(FAILED_PRECONDITION),
        rpc("commit that has to be repeated with a newer token", "Spanner/Commit", move |kept| commit(kept, "precommit", 1))
            .on_sim(OK)
            .keep("newer precommit", &[4, 1]),
        rpc("commit with the newer token", "Spanner/Commit", move |kept| commit(kept, "newer precommit", 2)).on_sim(OK),
        rpc("a query with resume tokens", "Spanner/ExecuteStreamingSql", move |kept| resumed(kept, vec![])).on_sim(OK).keep("resume", &[4]),
        rpc("a resumed query", "Spanner/ExecuteStreamingSql", move |kept| resumed(kept, kept.bytes("resume"))).on_sim(OK),
        rpc("a bad resume token", "Spanner/ExecuteStreamingSql", move |kept| resumed(kept, b"bad".to_vec())).on_sim(INVALID_ARGUMENT),
    ]
}

fn last() -> Vec<Case> {
    vec![
        rpc("delete the labelled session", "Spanner/DeleteSession", |kept| v1::DeleteSessionRequest { name: kept.text("labelled") })
            .gives(OK),
        rpc("delete a missing session", "Spanner/DeleteSession", |_| v1::DeleteSessionRequest { name: GONE.into() }).on(NOT_FOUND, OK),
    ]
}
