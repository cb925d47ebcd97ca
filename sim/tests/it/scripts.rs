//! Scripted answers, faults, and what is recorded.

use std::time::{Duration, Instant};

use spanner_sim::bytes::Bytes;
use spanner_sim::{Code, End, GoAway, KEPT_BODY, Matcher, Script, Sim, Status, generated, grpc, hash, v1};

use crate::client::{Answer, Client, DATABASE, SOON, grpc_headers, headers, headers_for, read, sim};

const READ: &str = "/google.spanner.v1.Spanner/Read";
const CANCEL: u32 = 8;

async fn start() -> (Sim, Client) {
    let sim = Sim::builder().start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    (sim, client)
}

async fn ask(client: &Client) -> Result<Answer, h2::Error> {
    client.raw(READ, grpc_headers(), grpc::frame(b"hi")).await
}

#[tokio::test]
async fn a_call_is_recorded_as_it_came() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new());
    let sent = headers(&[("zebra", "1"), ("te", "trailers"), ("apple-bin", "AAE"), ("grpc-timeout", "5S")]);
    client.raw(READ, sent, grpc::frame(b"hello")).await.unwrap();
    let calls = sim.recorded();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    let names: Vec<_> = call.header_list().into_iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["zebra", "te", "apple-bin", "grpc-timeout"]);
    assert_eq!((&*call.path, call.method(), &*call.http_method, &*call.authority), (READ, "Read", "POST", "sim"));
    assert_eq!((call.connection, call.stream, call.peer.ip().is_loopback()), (0, 1, true));
    assert_eq!(call.messages(), [Bytes::from_static(b"hello")]);
    assert_eq!((call.body_len, call.body_hash), (10, hash(&grpc::frame(b"hello"))));
    assert!(call.body_ended && call.scripted && call.end == End::Answered(0));
    assert_eq!((sim.open_streams(), sim.connections().len(), sim.connections_accepted()), (0, 1, 1));
}

#[tokio::test]
async fn a_script_answers_exactly() {
    let (sim, client) = start().await;
    let script = Script::new()
        .header("x-extra", "yes")
        .message_bytes(b"one")
        .pause(Duration::from_millis(5))
        .raw(&b"\0\0\0\0\x02tw"[..])
        .status(Status::new(Code::Aborted, "again").retry_after(Duration::from_secs(1)));
    sim.script("Read", script);
    let answer = ask(&client).await.unwrap();
    assert_eq!(answer.headers["x-extra"], "yes");
    assert_eq!(answer.headers["server-timing"], "gfet4t7; dur=1, afe; dur=1");
    assert_eq!(&answer.body[..], b"\0\0\0\0\x03one\0\0\0\0\x02tw");
    assert_eq!((answer.code(), answer.trailers_only), (10, false));

    sim.script("Read", Script::fail(Code::Unavailable, "50% gone"));
    let answer = ask(&client).await.unwrap();
    assert_eq!((answer.code(), answer.text(), answer.trailers_only), (14, "50%25 gone", true));
}

#[tokio::test]
async fn a_script_can_reset_before_and_after_data() {
    let (sim, client) = start().await;
    sim.script("Read", Script::refuse());
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM));

    sim.script("Read", Script::new().message_bytes(b"x").reset(2));
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    let ends: Vec<_> = sim.recorded().iter().map(|c| c.end).collect();
    assert_eq!(ends, [End::ServerReset(7), End::ServerReset(2)]);
}

#[tokio::test]
async fn a_cancelled_call_is_seen_as_such() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().hang().forever());
    let pending = client.open(READ, grpc_headers(), true).await.unwrap();
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 1).await);
    drop(pending);
    assert!(sim.eventually(SOON, |sim| sim.recorded()[0].end == End::ClientReset(CANCEL)).await);
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 0).await);
}

#[tokio::test]
async fn ten_thousand_cancels_do_not_end_the_connection() {
    let sim = Sim::builder().max_concurrent_streams(20_000).start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    let hang = sim.script(Matcher::any(), Script::new().hang().forever());
    let mut pending = Vec::new();
    for _ in 0..10_000 {
        pending.push(client.open(READ, grpc_headers(), true).await.unwrap());
    }
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 10_000).await);
    drop(pending);
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 0).await);
    hang.remove();
    sim.script(Matcher::any(), Script::new());
    assert_eq!(ask(&client).await.unwrap().code(), 0);
}

#[tokio::test]
async fn goaway_can_leave_a_call_unprocessed() {
    let (sim, client) = start().await;
    let hang = sim.script(Matcher::any(), Script::new().hang());
    let first = client.open(READ, grpc_headers(), true).await.unwrap();
    assert!(sim.eventually(SOON, |_| hang.hits() == 1).await);
    sim.script(Matcher::any(), Script::new().goaway(GoAway::BeforeThis(0)).hang());
    let second = ask(&client).await.unwrap_err();
    assert!(second.is_go_away() && second.is_remote(), "{second:?}");
    // The first call is still served.
    assert_eq!(sim.connections()[0].open_streams(), 2);
    sim.connections()[0].close();
    assert!(first.answer().await.is_err());
}

#[tokio::test]
async fn a_graceful_goaway_lets_calls_finish() {
    let (sim, client) = start().await;
    let script = Script::new().goaway(GoAway::Graceful).pause(Duration::from_millis(20)).message_bytes(b"done");
    sim.script(Matcher::any(), script);
    assert_eq!(ask(&client).await.unwrap().code(), 0);
    assert!(sim.eventually(SOON, |sim| sim.connections().is_empty()).await);
}

#[tokio::test]
async fn connections_close_reset_and_go_dark() {
    for script in [Script::new().goaway(GoAway::Abrupt(11)).hang(), Script::new().close(), Script::new().tcp_reset()] {
        let (sim, client) = start().await;
        sim.script(Matcher::any(), script);
        ask(&client).await.unwrap_err();
        assert!(sim.eventually(SOON, |sim| sim.connections().is_empty()).await);
        assert!(client.is_closed() || client.h2.clone().ready().await.is_err());
    }
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().black_hole());
    let swallowed = client.open(READ, grpc_headers(), true).await.unwrap();
    let swallowed = tokio::time::timeout(Duration::from_millis(50), swallowed.response).await;
    assert!(swallowed.is_err(), "no answer from a black hole");
    assert_eq!(sim.connections().len(), 1, "the connection is still open");
}

#[tokio::test]
async fn a_slow_line_delays_what_arrives() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().forever());
    ask(&client).await.unwrap();
    sim.connections()[0].delay(Duration::from_millis(60));
    let begin = Instant::now();
    ask(&client).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(60));
    sim.connections()[0].delay(Duration::ZERO);
    let begin = Instant::now();
    ask(&client).await.unwrap();
    assert!(begin.elapsed() < Duration::from_millis(60));
}

#[tokio::test]
async fn a_script_can_pass_to_the_builtin_behaviour() {
    let sim = sim().await;
    let client = Client::connect(sim.addr()).await;
    let pause = Duration::from_millis(30);
    sim.script("CreateSession", Script::new().pause(pause).header("x-late", "1").pass());
    let begin = Instant::now();
    let request = v1::CreateSessionRequest { database: DATABASE.into(), session: None };
    let answer = client.call("CreateSession", DATABASE, &request).await;
    assert!(begin.elapsed() >= pause && answer.code() == 0);
    assert_eq!(answer.headers["x-late"], "1");

    // By what the message says.
    let matcher = Matcher::method("GetSession").request(|r: &v1::GetSessionRequest| r.name.ends_with("/odd"));
    let odd = sim.script(matcher, Script::fail(Code::PermissionDenied, "no").forever());
    let get = |name: &str| v1::GetSessionRequest { name: format!("{DATABASE}/sessions/{name}") };
    for (name, code) in [("odd", 7), ("even", 5)] {
        let request = get(name);
        assert_eq!(client.call("GetSession", &request.name, &request).await.code(), code);
    }
    assert_eq!(odd.hits(), 1);
}

#[tokio::test]
async fn the_client_s_window_holds_back_big_streams() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().stream(3, 5_000_000));
    let pending = client.open(READ, grpc_headers(), true).await.unwrap();
    let (_, mut body) = pending.response.await.unwrap().into_parts();
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 1).await);
    // Nothing is read yet, so the answer cannot have gone out.
    tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(sim.recorded()[0].end, End::Open);
    let bytes = read(&mut body).await.unwrap();
    let (messages, rest) = grpc::split(bytes);
    assert!(rest.is_empty() && messages.len() == 3);
    assert!(messages[2].1 == generated(5_000_000));
    assert!(sim.eventually(SOON, |sim| sim.recorded()[0].end == End::Answered(0)).await);
}

#[tokio::test]
async fn a_big_request_is_hashed_and_not_kept() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().forever());
    for size in [10, KEPT_BODY - grpc::PREFIX, KEPT_BODY, 9 << 20] {
        sim.clear_recorded();
        let body = grpc::frame(&generated(u32::try_from(size).unwrap()));
        client.raw(READ, grpc_headers(), body.clone()).await.unwrap();
        let call = sim.recorded().pop().unwrap();
        assert_eq!((call.body_len, call.body_hash), (body.len() as u64, hash(&body)));
        assert_eq!(call.body.is_empty(), body.len() > KEPT_BODY);
    }
}

#[tokio::test]
async fn an_unread_request_keeps_the_window_used() {
    let (sim, client) = start().await;
    sim.script(Matcher::any(), Script::new().before_request().hang());
    let mut pending = client.open(READ, headers_for("Read", "x"), false).await.unwrap();
    pending.request.send_data(generated(4 << 20).into(), true).unwrap();
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 1).await);
    tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
    let call = sim.recorded().pop().unwrap();
    assert!(!call.body_ended && call.body_len == 0);
    pending.request.send_reset(h2::Reason::CANCEL);
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 0).await);
}

#[tokio::test]
async fn no_more_streams_than_allowed_are_open() {
    let sim = Sim::builder().max_concurrent_streams(2).start().await.unwrap();
    let client = Client::connect(sim.addr()).await;
    sim.script(Matcher::any(), Script::new().hang().forever());
    // The first call makes sure that the client knows the limit.
    let first = client.open(READ, grpc_headers(), true).await.unwrap();
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 1).await);
    let second = client.open(READ, grpc_headers(), true).await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(50), client.open(READ, grpc_headers(), true)).await;
    // h2's client queues one request beyond the limit by itself, so count at the server.
    assert!(sim.eventually(SOON, |sim| sim.open_streams() == 2).await);
    assert_eq!(sim.recorded().len(), 2);
    drop((first, second, third));
}
