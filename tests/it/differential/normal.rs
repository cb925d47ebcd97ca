//! Values that differ from run to run, where they stand, and how they are made alike.
//!
//! Only what a rule below names is touched; every other byte of a message is compared as it came. A message is walked by
//! its wire format, so that fields which no schema here knows are compared as well.

use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use spanner_sim::prost_types::Timestamp;

/// What a run-specific value is. Each has a form that it must still have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `google.protobuf.Timestamp`: the clock.
    Time,
    /// A session's name: its last part is the backend's choice.
    Session,
    /// An operation's name: likewise.
    Operation,
    /// A transaction id, partition, resume or precommit token: opaque, of the backend's choice.
    Opaque,
}
use Kind::{Opaque, Operation, Session, Time};

/// A field path and what stands there.
type Rule = (&'static [u32], Kind);

/// The rules: method, then field path and kind. Paths are those of the published messages; 2 within an `Any` is its value.
const RULES: &[(&str, &[Rule])] = &[
    ("Spanner/CreateSession", SESSION),
    ("Spanner/GetSession", SESSION),
    ("Spanner/BatchCreateSessions", SESSIONS),
    ("Spanner/ListSessions", SESSIONS),
    ("Spanner/BeginTransaction", &[(&[1], Opaque), (&[2], Time), (&[3, 1], Opaque)]),
    ("Spanner/Commit", &[(&[1], Time), (&[4, 1], Opaque), (&[5], Time)]),
    ("Spanner/ExecuteSql", RESULT_SET),
    ("Spanner/Read", RESULT_SET),
    ("Spanner/ExecuteStreamingSql", PARTIAL_RESULT_SET),
    ("Spanner/StreamingRead", PARTIAL_RESULT_SET),
    ("Spanner/ExecuteBatchDml", &[(&[1, 1, 2, 1], Opaque), (&[1, 1, 2, 2], Time), (&[1, 1, 2, 3, 1], Opaque), (&[3, 1], Opaque)]),
    ("Spanner/PartitionQuery", PARTITIONS),
    ("Spanner/PartitionRead", PARTITIONS),
    ("Spanner/BatchWrite", &[(&[3], Time)]),
    ("DatabaseAdmin/CreateDatabase", OPERATION),
    ("DatabaseAdmin/UpdateDatabaseDdl", OPERATION),
    ("DatabaseAdmin/GetDatabase", &[(&[3], Time), (&[9], Time)]),
    ("DatabaseAdmin/ListDatabases", &[(&[1, 3], Time), (&[1, 9], Time)]),
    ("InstanceAdmin/CreateInstance", OPERATION),
    ("InstanceAdmin/UpdateInstance", OPERATION),
    ("InstanceAdmin/GetInstance", &[(&[11], Time), (&[12], Time)]),
    ("InstanceAdmin/ListInstances", &[(&[1, 11], Time), (&[1, 12], Time)]),
    ("Operations/GetOperation", OPERATION),
    ("Operations/ListOperations", OPERATIONS),
];
const SESSION: &[Rule] = &[(&[1], Session), (&[3], Time), (&[4], Time)];
const SESSIONS: &[Rule] = &[(&[1, 1], Session), (&[1, 3], Time), (&[1, 4], Time)];
const RESULT_SET: &[Rule] = &[(&[1, 2, 1], Opaque), (&[1, 2, 2], Time), (&[1, 2, 3, 1], Opaque), (&[5, 1], Opaque)];
const PARTIAL_RESULT_SET: &[Rule] = &[(&[1, 2, 1], Opaque), (&[1, 2, 2], Time), (&[1, 2, 3, 1], Opaque), (&[4], Opaque), (&[8, 1], Opaque)];
const PARTITIONS: &[Rule] = &[(&[1, 1], Opaque), (&[2, 1], Opaque), (&[2, 2], Time)];
/// Metadata: of CreateInstance its instance's times, start and end; of UpdateDatabaseDdl commit times and progress.
/// Response: a database's or instance's times.
const OPERATION: &[Rule] = &[
    (&[1], Operation),
    (&[2, 2, 1, 11], Time),
    (&[2, 2, 1, 12], Time),
    (&[2, 2, 2], Time),
    (&[2, 2, 3], Time),
    (&[2, 2, 4], Time),
    (&[2, 2, 5, 2], Time),
    (&[2, 2, 5, 3], Time),
    (&[5, 2, 3], Time),
    (&[5, 2, 9], Time),
    (&[5, 2, 11], Time),
    (&[5, 2, 12], Time),
];
const OPERATIONS: &[Rule] = &[
    (&[1, 1], Operation),
    (&[1, 2, 2, 1, 11], Time),
    (&[1, 2, 2, 1, 12], Time),
    (&[1, 2, 2, 2], Time),
    (&[1, 2, 2, 3], Time),
    (&[1, 2, 2, 4], Time),
    (&[1, 2, 2, 5, 2], Time),
    (&[1, 2, 2, 5, 3], Time),
    (&[1, 5, 2, 3], Time),
    (&[1, 5, 2, 9], Time),
    (&[1, 5, 2, 11], Time),
    (&[1, 5, 2, 12], Time),
];

/// The message with its run-specific values replaced by their kind. A value that has not the form of its kind stays.
pub(super) fn alike(path: &str, message: &[u8]) -> Vec<u8> {
    let rules = RULES.iter().find(|(method, _)| path.ends_with(&format!(".{method}"))).map_or(&[][..], |(_, rules)| rules);
    rewrite(message, &rules.iter().map(|(path, kind)| (*path, *kind)).collect::<Vec<_>>()).unwrap_or_else(|| message.to_vec())
}

/// The first value at a field path.
pub(super) fn find<'a>(message: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else { return Some(message) };
    fields(message)?.into_iter().find(|field| field.number == *first).and_then(|field| find(field.payload?, rest))
}

struct Field<'a> {
    number: u32,
    whole: &'a [u8],
    /// Of a length-delimited field.
    payload: Option<&'a [u8]>,
}

/// The fields of a message in their order, or `None` if it is none.
fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        let mut payload = None;
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut rest).map(|_| 0).ok()?,
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                payload = Some(rest.get(..length)?);
                length
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        rest = rest.get(length..)?;
        fields.push(Field { number, whole: &start[..start.len() - rest.len()], payload });
    }
    Some(fields)
}

fn rewrite(message: &[u8], rules: &[(&[u32], Kind)]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len());
    for Field { number, whole, payload } in fields(message)? {
        let below: Vec<_> =
            rules.iter().filter(|(path, _)| path.first() == Some(&number)).map(|(path, kind)| (&path[1..], *kind)).collect();
        let new = payload.and_then(|payload| match below[..] {
            [] => None,
            [([], kind)] => kind.has_form(payload).then(|| format!("<{kind:?}>").into_bytes()),
            _ => rewrite(payload, &below),
        });
        match new {
            None => out.extend_from_slice(whole),
            Some(new) => {
                encode_key(number, WireType::LengthDelimited, &mut out);
                encode_varint(new.len() as u64, &mut out);
                out.extend_from_slice(&new);
            }
        }
    }
    Some(out)
}

impl Kind {
    fn has_form(self, value: &[u8]) -> bool {
        let named =
            |collection: &str| std::str::from_utf8(value).is_ok_and(|name| name.starts_with("projects/") && name.contains(collection));
        match self {
            Time => Timestamp::decode(value).is_ok_and(|time| time.seconds > 1_600_000_000),
            Session => named("/sessions/"),
            Operation => named("/operations/"),
            Opaque => !value.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanner_sim::v1;

    #[test]
    fn only_the_values_that_a_rule_names_are_made_alike() {
        let session = |name: &str, seconds, role: &str| {
            let create_time = Some(Timestamp { seconds, nanos: 5 });
            v1::Session { name: name.into(), create_time, creator_role: role.into(), ..Default::default() }.encode_to_vec()
        };
        let path = "/google.spanner.v1.Spanner/GetSession";
        let one = alike(path, &session("projects/p/sessions/1", 1_700_000_000, "r"));
        assert_eq!(one, alike(path, &session("projects/p/sessions/22", 1_800_000_000, "r")));
        assert_ne!(one, alike(path, &session("projects/p/sessions/1", 1_700_000_000, "other")), "no rule names the role");
        assert_ne!(one, alike(path, &session("a name of another form", 1_700_000_000, "r")));
        assert_ne!(one, alike(path, &session("projects/p/sessions/1", 5, "r")), "no time of our days");
        assert_eq!(alike("/google.spanner.v1.Spanner/Rollback", b"\x0a\x01x"), b"\x0a\x01x");
        assert_eq!(alike(path, b"\xff\xff"), b"\xff\xff", "what is no message stays as it is");
    }
}
