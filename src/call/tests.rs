use super::attempt::{Edits, Kind};
use super::*;
use crate::status::Code;

const READ: &str = "/google.spanner.v1.Spanner/StreamingRead";
const COMMIT: &str = "/google.spanner.v1.Spanner/Commit";

/// `session = "s"` as a framed message.
const SESSION_S: &[u8] = b"\0\0\0\0\x03\x0a\x01s";

fn head(path: &str) -> Head<'_> {
    Head { path, is_post: true, content_type: Some(b"application/grpc"), timeout: None, metadata_size: 100, has: Present::default() }
}

fn started(path: &str) -> Call {
    let (call, step) = Call::start(&head(path), Instant::now());
    assert!(matches!(step, Step::ReadMessage), "{step:?}");
    call
}

fn answer(step: Step) -> Status {
    match step {
        Step::Answer(status) => status,
        other => panic!("{other:?}"),
    }
}

fn plan(step: Step) -> Plan {
    match step {
        Step::Send(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn failure(kind: Kind, unprocessed: bool) -> Failure {
    Failure { kind, unprocessed, detail: "broken pipe".into() }
}

#[test]
fn what_is_not_served_is_answered_with_what_is() {
    let (_, step) = Call::start(&head("/google.pubsub.v1.Publisher/Publish"), Instant::now());
    let status = answer(step);
    assert_eq!(status.kind.code, Code::Unimplemented);
    assert!(status.to_string().contains("google.spanner.*"), "{status}");
}

#[test]
fn a_request_that_is_not_grpc_is_refused_before_its_path_matters() {
    for (is_post, content_type) in [(false, Some(&b"application/grpc"[..])), (true, Some(b"application/json")), (true, None)] {
        let (_, step) = Call::start(&Head { is_post, content_type, ..head(READ) }, Instant::now());
        assert_eq!(answer(step).kind.id, "E0102");
    }
}

#[test]
fn too_much_metadata_names_the_limit() {
    let (_, step) = Call::start(&Head { metadata_size: 70_000, ..head(READ) }, Instant::now());
    let status = answer(step);
    assert_eq!(status.kind.code, Code::ResourceExhausted);
    assert!(status.to_string().contains("70000 bytes of at most 65536"), "{status}");
}

#[test]
fn a_message_over_the_limit_names_the_limit_as_soon_as_its_length_is_known() {
    let status = answer(started(COMMIT).on_message(b"\0\x10\0\0\0\x0a", false));
    assert_eq!(status.kind.code, Code::ResourceExhausted);
    assert!(status.to_string().contains("request message limit: 268435456 bytes of at most 134217728"), "{status}");
}

#[test]
fn an_unknown_method_is_sent_without_being_looked_into() {
    let (_, step) = Call::start(&head("/google.spanner.v1.Spanner/FetchCacheUpdate"), Instant::now());
    let plan = plan(step);
    assert!(matches!(plan.pin, Pin::Free) && plan.edits == Edits::default());
}

#[test]
fn headers_are_added_only_where_the_client_sent_none() {
    let added = plan(started(READ).on_message(SESSION_S, true)).edits;
    assert_eq!(added.x_goog_request_params.as_deref(), Some("session=s"));
    let has = Present { x_goog_request_params: true, google_cloud_resource_prefix: true, x_goog_spanner_route_to_leader: true };
    let (mut call, _) = Call::start(&Head { has, ..head(READ) }, Instant::now());
    assert_eq!(plan(call.on_message(SESSION_S, true)).edits, Edits::default());
}

#[test]
fn compressed_and_truncated_messages_are_sent_unexamined() {
    for odd in [&b"\x01\0\0\0\x03\x0a\x01s"[..], b"\0\0\0", b""] {
        assert_eq!(plan(started(READ).on_message(odd, true)).edits, Edits::default(), "{odd:?}");
    }
}

#[test]
fn an_unprocessed_call_of_any_method_goes_out_again_but_not_for_ever() {
    let mut call = started(COMMIT);
    call.on_message(SESSION_S, true);
    let refused = failure(Kind::Reset(7), true);
    assert!(matches!(call.on_failure(&refused, true, Instant::now()), Verdict::Again));
    assert!(matches!(call.on_failure(&refused, true, Instant::now()), Verdict::Again));
    let Verdict::Answer(status) = call.on_failure(&refused, true, Instant::now()) else { panic!() };
    assert_eq!((status.kind.id, status.kind.code), ("E0302", Code::Unavailable));
}

#[test]
fn a_lost_connection_repeats_a_read_but_never_a_commit() {
    let lost = failure(Kind::Lost, false);
    let mut read = started(READ);
    read.on_message(SESSION_S, true);
    assert!(matches!(read.on_failure(&lost, true, Instant::now()), Verdict::Again));
    let mut commit = started(COMMIT);
    commit.on_message(SESSION_S, true);
    let Verdict::Answer(status) = commit.on_failure(&lost, true, Instant::now()) else { panic!() };
    assert_eq!((status.kind.id, status.kind.code), ("E0301", Code::Unavailable));
}

#[test]
fn a_request_that_is_no_longer_whole_is_not_repeated() {
    let mut read = started(READ);
    read.on_message(SESSION_S, true);
    assert!(matches!(read.on_failure(&failure(Kind::Lost, true), false, Instant::now()), Verdict::Answer(_)));
}

#[test]
fn a_reset_of_upstream_reaches_the_caller_as_it_was() {
    let mut call = started(READ);
    call.on_message(SESSION_S, true);
    assert!(matches!(call.on_failure(&failure(Kind::Reset(8), false), true, Instant::now()), Verdict::Reset(8)));
}

#[test]
fn nothing_is_repeated_after_the_deadline() {
    let now = Instant::now();
    let (mut call, _) = Call::start(&Head { timeout: Some(b"10m"), ..head(READ) }, now);
    call.on_message(SESSION_S, true);
    let Verdict::Answer(status) = call.on_failure(&failure(Kind::Lost, true), true, now + Duration::from_millis(10)) else { panic!() };
    assert_eq!(status.kind.code, Code::DeadlineExceeded);
}

#[test]
fn the_transaction_that_an_answer_begins_is_found_when_enough_of_it_is_there() {
    // BeginTransactionRequest { session: "s", options: { read_write: {} } }
    let mut call = started("/google.spanner.v1.Spanner/BeginTransaction");
    call.on_message(b"\0\0\0\0\x07\x0a\x01s\x12\x02\x0a\0", true);
    assert!(call.wants_first_message());
    assert_eq!(call.begun(b"\0\0\0\0\x04\x0a"), None);
    assert_eq!(call.begun(b"\0\0\0\0\x04\x0a\x02tx"), Some((&b"tx"[..], Mode::ReadWrite)));
}
