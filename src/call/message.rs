//! A pure peek at the bytes of a message: which resource a request names, which transaction it belongs to, and which
//! transaction an answer has begun. Nothing is decoded into owned values, nothing is changed.
//!
//! Every serializer in use writes fields in the order of their numbers, so what is needed stands at the front. A peek that
//! does not find it in the bytes it is given (the front of a large message, a compressed message, garbage) says so, and the
//! call is forwarded unexamined: it is upstream's to judge the message.

use super::method::{Method, Shape};

/// What a request's message says about where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts<'a> {
    /// Field 1: the session, database, or other resource.
    pub resource: Option<&'a str>,
    /// The transaction that the request runs in.
    pub transaction: Transaction<'a>,
}

/// The transaction of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transaction<'a> {
    /// None, or not of a kind that outlives the call.
    #[default]
    SingleUse,
    /// This request begins one; the answer carries its id.
    Begin(Mode),
    /// One that is under way.
    Id(&'a [u8]),
    /// The bytes at hand do not tell.
    Unclear,
}

/// The mode of a transaction that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Holds locks; has to reach the leader replica.
    ReadWrite,
    /// Partitioned DML; has to reach the leader replica.
    PartitionedDml,
    /// A snapshot.
    ReadOnly,
}

/// Reads the front of a request message.
///
/// `complete` tells whether `bytes` is the whole message; if not, what is missing may stand behind.
pub fn request<'a>(method: &Method, bytes: &'a [u8], complete: bool) -> Facts<'a> {
    let mut facts = Facts { resource: None, transaction: Transaction::SingleUse };
    let mut fields = Fields::new(bytes);
    let mut last = 0;
    for field in fields.by_ref() {
        last = field.number;
        match (field.number, field.value) {
            (1, Value::Bytes(value)) => facts.resource = resource(method, value),
            (2, Value::Bytes(value)) => {
                if let Some(transaction) = transaction(method.shape, value) {
                    facts.transaction = transaction;
                }
            }
            _ => {}
        }
        if last >= 2 {
            break;
        }
    }
    if last < 2 && method.shape != Shape::Resource && (fields.broken || !complete) {
        facts.transaction = Transaction::Unclear;
    }
    facts
}

/// Finds the id of the transaction that an answer has begun, in its first message.
pub fn begun_transaction(shape: Shape, bytes: &[u8]) -> Option<&[u8]> {
    match shape {
        // Transaction.id
        Shape::Begin => field(bytes, 1),
        // ResultSet.metadata.transaction.id, and the same numbers in PartialResultSet
        Shape::Selector | Shape::SelectorStream => transaction_of_metadata(bytes),
        // ExecuteBatchDmlResponse.result_sets[0]
        Shape::SelectorBatch => transaction_of_metadata(field(bytes, 1)?),
        Shape::Resource | Shape::Commit | Shape::Rollback => None,
    }
    .filter(|id| !id.is_empty())
}

/// The database of a session or other resource below a database: `projects/P/instances/I/databases/D`.
pub fn database_of(resource: &str) -> Option<&str> {
    let mut end = 0;
    let mut parts = resource.split('/');
    for collection in ["projects", "instances", "databases"] {
        let (name, id) = (parts.next()?, parts.next()?);
        if name != collection || id.is_empty() {
            return None;
        }
        end += name.len() + id.len() + 2;
    }
    resource.get(..end - 1)
}

fn resource<'a>(method: &Method, value: &'a [u8]) -> Option<&'a str> {
    let name = if method.routing_key.contains('.') { field(value, 1)? } else { value };
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// Reads field 2 of a request.
fn transaction(shape: Shape, value: &[u8]) -> Option<Transaction<'_>> {
    match shape {
        Shape::Resource => None,
        Shape::Commit | Shape::Rollback => Some(Transaction::Id(value)),
        Shape::Begin => Some(Transaction::Begin(mode(value))),
        Shape::Selector | Shape::SelectorStream | Shape::SelectorBatch => {
            let selector = Fields::new(value).last()?;
            match (selector.number, selector.value) {
                (2, Value::Bytes(id)) => Some(Transaction::Id(id)),
                (3, Value::Bytes(options)) => Some(Transaction::Begin(mode(options))),
                _ => None,
            }
        }
    }
}

/// Reads `TransactionOptions`: read_write = 1, read_only = 2, partitioned_dml = 3.
fn mode(options: &[u8]) -> Mode {
    for option in Fields::new(options) {
        match option.number {
            1 => return Mode::ReadWrite,
            3 => return Mode::PartitionedDml,
            _ => {}
        }
    }
    Mode::ReadOnly
}

fn transaction_of_metadata(result: &[u8]) -> Option<&[u8]> {
    field(field(field(result, 1)?, 2)?, 1)
}

/// The first length-delimited field with this number.
fn field(bytes: &[u8], number: u32) -> Option<&[u8]> {
    Fields::new(bytes).find_map(|field| match field.value {
        Value::Bytes(value) if field.number == number => Some(value),
        _ => None,
    })
}

struct Field<'a> {
    number: u32,
    value: Value<'a>,
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Scalar,
}

/// The fields of a message, up to its end or to the first byte that is not protobuf.
struct Fields<'a> {
    rest: &'a [u8],
    broken: bool,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes, broken: false }
    }

    fn read(&mut self) -> Option<Field<'a>> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0)?;
        let value = match key & 7 {
            0 => {
                varint(&mut self.rest)?;
                Value::Scalar
            }
            1 => {
                self.rest = self.rest.get(8..)?;
                Value::Scalar
            }
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                let value = self.rest.get(..length)?;
                self.rest = &self.rest[length..];
                Value::Bytes(value)
            }
            5 => {
                self.rest = self.rest.get(4..)?;
                Value::Scalar
            }
            _ => return None,
        };
        Some(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = self.read();
        self.broken = field.is_none();
        field
    }
}

/// Reads a base-128 varint of at most 64 bits.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::method::{Route, TABLE, route};
    use super::*;
    use googleapis_tonic_google_spanner_v1::google::spanner::v1 as pb;
    use prost::Message as _;

    const SESSION: &str = "projects/p/instances/i/databases/d/sessions/s";

    fn method(name: &str) -> &'static Method {
        match route(&format!("/google.spanner.v1.Spanner/{name}")) {
            Route::Known(index) => &TABLE[index],
            _ => panic!("{name} is not in the table"),
        }
    }

    fn selector(selector: pb::transaction_selector::Selector) -> Option<pb::TransactionSelector> {
        Some(pb::TransactionSelector { selector: Some(selector) })
    }

    fn options(mode: pb::transaction_options::Mode) -> pb::TransactionOptions {
        pb::TransactionOptions { mode: Some(mode), ..Default::default() }
    }

    #[test]
    fn a_read_without_a_selector_is_single_use() {
        let bytes = pb::ReadRequest { session: SESSION.into(), table: "t".into(), ..Default::default() }.encode_to_vec();
        assert_eq!(request(method("Read"), &bytes, true), Facts { resource: Some(SESSION), transaction: Transaction::SingleUse });
    }

    #[test]
    fn a_selector_with_an_id_names_the_transaction() {
        let bytes = pb::ExecuteSqlRequest {
            session: SESSION.into(),
            transaction: selector(pb::transaction_selector::Selector::Id(b"tx".to_vec())),
            sql: "SELECT 1".into(),
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(request(method("ExecuteStreamingSql"), &bytes, true).transaction, Transaction::Id(b"tx"));
    }

    #[test]
    fn an_inline_begin_tells_its_mode() {
        use pb::transaction_options::{Mode as M, PartitionedDml, ReadOnly, ReadWrite};
        let cases = [
            (M::ReadWrite(ReadWrite::default()), Mode::ReadWrite),
            (M::ReadOnly(ReadOnly::default()), Mode::ReadOnly),
            (M::PartitionedDml(PartitionedDml {}), Mode::PartitionedDml),
        ];
        for (mode, expected) in cases {
            let inline = pb::ExecuteBatchDmlRequest {
                session: SESSION.into(),
                transaction: selector(pb::transaction_selector::Selector::Begin(options(mode.clone()))),
                ..Default::default()
            };
            assert_eq!(request(method("ExecuteBatchDml"), &inline.encode_to_vec(), true).transaction, Transaction::Begin(expected));
            let explicit = pb::BeginTransactionRequest { session: SESSION.into(), options: Some(options(mode)), ..Default::default() };
            assert_eq!(request(method("BeginTransaction"), &explicit.encode_to_vec(), true).transaction, Transaction::Begin(expected));
        }
    }

    #[test]
    fn a_commit_belongs_to_its_transaction_or_is_single_use() {
        use pb::commit_request::Transaction as T;
        let commit = |transaction| {
            pb::CommitRequest { session: SESSION.into(), transaction: Some(transaction), ..Default::default() }.encode_to_vec()
        };
        assert_eq!(request(method("Commit"), &commit(T::TransactionId(b"tx".to_vec())), true).transaction, Transaction::Id(b"tx"));
        let single_use = T::SingleUseTransaction(options(pb::transaction_options::Mode::ReadWrite(Default::default())));
        assert_eq!(request(method("Commit"), &commit(single_use), true).transaction, Transaction::SingleUse);
    }

    #[test]
    fn the_front_of_a_large_message_is_enough_when_it_holds_the_selector() {
        let bytes = pb::CommitRequest {
            session: SESSION.into(),
            transaction: Some(pb::commit_request::Transaction::TransactionId(b"tx".to_vec())),
            mutations: vec![pb::Mutation::default(); 100],
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(request(method("Commit"), &bytes[..70], false).transaction, Transaction::Id(b"tx"));
        assert_eq!(request(method("Commit"), &bytes[..20], false), Facts { resource: None, transaction: Transaction::Unclear });
    }

    #[test]
    fn every_truncation_of_a_message_is_read_without_a_panic() {
        let bytes = pb::ExecuteSqlRequest {
            session: SESSION.into(),
            transaction: selector(pb::transaction_selector::Selector::Id(b"tx".to_vec())),
            ..Default::default()
        }
        .encode_to_vec();
        for end in 0..bytes.len() {
            let facts = request(method("ExecuteSql"), &bytes[..end], false);
            assert_eq!(facts.transaction, Transaction::Unclear, "cut at {end}");
        }
    }

    #[test]
    fn garbage_is_unclear_and_names_no_resource() {
        for garbage in [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"\x0a\x7fabc", b"\x0b", b"\x00"] {
            assert_eq!(request(method("Read"), garbage, true), Facts { resource: None, transaction: Transaction::Unclear });
        }
    }

    #[test]
    fn a_nested_resource_name_is_found() {
        use googleapis_tonic_google_spanner_admin_database_v1::google::spanner::admin::database::v1 as admin;
        let Route::Known(index) = route("/google.spanner.admin.database.v1.DatabaseAdmin/UpdateDatabase") else { panic!() };
        let bytes = admin::UpdateDatabaseRequest {
            database: Some(admin::Database { name: "projects/p/instances/i/databases/d".into(), ..Default::default() }),
            ..Default::default()
        }
        .encode_to_vec();
        assert_eq!(request(&TABLE[index], &bytes, true).resource, Some("projects/p/instances/i/databases/d"));
    }

    #[test]
    fn the_begun_transaction_is_found_in_each_kind_of_answer() {
        let transaction = || Some(pb::Transaction { id: b"tx".to_vec(), ..Default::default() });
        let metadata =
            || Some(pb::ResultSetMetadata { row_type: Some(pb::StructType::default()), transaction: transaction(), ..Default::default() });
        let result = || pb::ResultSet { metadata: metadata(), ..Default::default() };
        let begin = transaction().unwrap().encode_to_vec();
        assert_eq!(begun_transaction(Shape::Begin, &begin), Some(&b"tx"[..]));
        assert_eq!(begun_transaction(Shape::Selector, &result().encode_to_vec()), Some(&b"tx"[..]));
        let partial = pb::PartialResultSet { metadata: metadata(), ..Default::default() }.encode_to_vec();
        assert_eq!(begun_transaction(Shape::SelectorStream, &partial), Some(&b"tx"[..]));
        let batch =
            pb::ExecuteBatchDmlResponse { result_sets: vec![result(), pb::ResultSet::default()], ..Default::default() }.encode_to_vec();
        assert_eq!(begun_transaction(Shape::SelectorBatch, &batch), Some(&b"tx"[..]));
        assert_eq!(begun_transaction(Shape::Selector, &pb::ResultSet::default().encode_to_vec()), None);
    }

    #[test]
    fn the_database_of_a_session_is_its_first_six_parts() {
        assert_eq!(database_of(SESSION), Some("projects/p/instances/i/databases/d"));
        assert_eq!(database_of("projects/p/instances/i/databases/d"), Some("projects/p/instances/i/databases/d"));
        for other in ["projects/p/instances/i", "", "projects//instances/i/databases/d", "a/b/c/d/e/f"] {
            assert_eq!(database_of(other), None, "{other}");
        }
    }
}
