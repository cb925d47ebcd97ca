//! The simulated Spanner and the requests that tests send it.

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use spanner_sim::v1::transaction_options::{Mode, ReadWrite};
use spanner_sim::v1::transaction_selector::Selector;
use spanner_sim::{Builder, Sim, v1};

use super::DATABASE;
use super::raw::{Answer, Client};

/// A set-up with one database.
pub(crate) fn builder() -> Builder {
    Sim::builder().database(DATABASE, ["CREATE TABLE T (K INT64, V STRING(MAX)) PRIMARY KEY (K)"])
}

/// A running simulator with one database.
pub(crate) async fn sim() -> Sim {
    builder().start().await.expect("the simulator starts")
}

/// The path of a method of the data API.
pub(crate) fn rpc(method: &str) -> String {
    format!("/google.spanner.v1.Spanner/{method}")
}

/// A name of a session, for calls that a script answers.
pub(crate) const SESSION: &str = "projects/p/instances/i/databases/d/sessions/s";

/// A request for a session.
pub(crate) fn create_session() -> v1::CreateSessionRequest {
    v1::CreateSessionRequest { database: DATABASE.into(), ..Default::default() }
}

/// A new session's name.
pub(crate) async fn session(client: &Client) -> String {
    client.call(&rpc("CreateSession"), &create_session(), &[]).await.decode::<v1::Session>().name
}

/// `SELECT 1` in a transaction of its own.
pub(crate) fn select(session: &str) -> v1::ExecuteSqlRequest {
    v1::ExecuteSqlRequest { session: session.into(), sql: "SELECT 1".into(), ..Default::default() }
}

/// `SELECT 1` in the transaction of `selector`.
pub(crate) fn select_in(session: &str, selector: Selector) -> v1::ExecuteSqlRequest {
    v1::ExecuteSqlRequest { transaction: Some(v1::TransactionSelector { selector: Some(selector) }), ..select(session) }
}

/// The options of a read-write transaction.
pub(crate) fn read_write() -> v1::TransactionOptions {
    v1::TransactionOptions { mode: Some(Mode::ReadWrite(ReadWrite::default())), ..Default::default() }
}

/// A commit of nothing, in a transaction of its own.
pub(crate) fn commit(session: &str) -> v1::CommitRequest {
    commit_of(session, v1::commit_request::Transaction::SingleUseTransaction(read_write()))
}

/// A commit of `transaction`.
pub(crate) fn commit_of(session: &str, transaction: v1::commit_request::Transaction) -> v1::CommitRequest {
    v1::CommitRequest { session: session.into(), transaction: Some(transaction), ..Default::default() }
}

/// A call that has been begun; dropping it cancels it.
pub(crate) struct Open {
    /// The answer's head.
    pub(crate) response: ResponseFuture,
    /// The rest of the request.
    pub(crate) send: SendStream<Bytes>,
}

impl Client {
    /// Begins a call and leaves its answer for later. `last` ends the request.
    pub(crate) async fn open(&self, path: &str, body: Bytes, last: bool, metadata: &[(&str, &str)]) -> Open {
        let mut sender = self.sender.clone().ready().await.expect("a live connection");
        let (response, mut send) = sender.send_request(self.request(path, metadata), false).expect("a stream");
        send.send_data(body, last).expect("an open stream");
        Open { response, send }
    }

    /// A call that must succeed.
    pub(crate) async fn works(&self) {
        let answer = self.call(&rpc("CreateSession"), &create_session(), &[]).await;
        assert_eq!((answer.code(), &answer.reset), (Some(0), &None), "{answer:?}");
    }
}

impl Answer {
    /// Code and text have to be those of one of the sidecar's own statuses.
    pub(crate) fn expect_status(&self, code: u32, texts: &[&str]) {
        assert_eq!((self.code(), &self.reset), (Some(code), &None), "{self:?}");
        assert!(self.message().starts_with("spanner-sidecar: E"), "{self:?}");
        for text in texts {
            assert!(self.message().contains(text), "no {text:?} in {self:?}");
        }
    }
}
