//! The two ways to a backend: direct, and through the sidecar. Each has a backend of its own, so that both see the same
//! calls in the same order and names need not differ.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use http::HeaderMap;
use spanner_sim::{Call, End, Matcher, Sim, hash};
use tokio::time::timeout;

use super::case::{Act, CANCELLED, Case, Kept};
use super::compare::compare;
use super::normal::find;
use crate::support::emulator::Emulator;
use crate::support::raw::{Answer, Client};
use crate::support::sidecar::Sidecar;
use crate::support::{PATIENCE, eventually};

/// Carries the number of the case, by which its calls are found upstream.
const CASE: &str = "x-case";
/// The token that the simulated Spanner asks for.
pub(super) const TOKEN: &str = "Bearer secret";

/// Which headers the client sends of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Routing {
    /// All by which Google's clients route.
    Sent,
    /// None: the sidecar adds them.
    LeftOut,
}

/// One case as it went in one lane.
pub(super) struct Seen {
    /// What the client sent.
    pub(super) request: http::Request<()>,
    pub(super) routing: HeaderMap,
    pub(super) body: Bytes,
    /// What it got.
    pub(super) answer: Answer,
    /// What the simulated Spanner received, and its address; nothing is known of what the emulator received.
    pub(super) received: Option<(Vec<Call>, String)>,
}

/// One way.
struct Lane {
    client: Client,
    address: SocketAddr,
    sim: Option<Sim>,
    kept: Kept,
    // Dropped, and so stopped, in this order.
    sidecar: Option<Sidecar>,
    _emulator: Option<Emulator>,
}

/// Both ways.
pub(super) struct Pair {
    direct: Lane,
    proxied: Lane,
    routing: Routing,
    covered: BTreeSet<String>,
}

impl Pair {
    /// Two simulated Spanners, the second behind the sidecar.
    pub(super) async fn sims(routing: Routing) -> Pair {
        let start = async || {
            // A client that leaves the routing headers out is refused by a strict one.
            let builder = Sim::builder().strict_headers(routing == Routing::Sent).commit_asks_for_retry(true).rows_per_message(2);
            let sim = builder.token(TOKEN.trim_start_matches("Bearer ")).start().await.expect("the simulator starts");
            (sim.addr(), Some(sim), None)
        };
        Pair::of(routing, start().await, start().await).await
    }

    /// Two emulators; `None` where there is none.
    pub(super) async fn emulators() -> Option<Pair> {
        let start = || Emulator::start().map(|emulator| (emulator.grpc, None, Some(emulator)));
        Some(Pair::of(Routing::Sent, start()?, start()?).await)
    }

    async fn of(routing: Routing, direct: Backend, behind: Backend) -> Pair {
        let sidecar = Sidecar::start(&format!("http://{}", behind.0), &[]).await;
        let address = sidecar.address;
        let direct = Lane::new(direct.0, None, direct).await;
        let proxied = Lane::new(address, Some(sidecar), behind).await;
        Pair { direct, proxied, routing, covered: BTreeSet::new() }
    }

    /// Runs the cases in their order and returns every difference that the table does not allow.
    pub(super) async fn run(&mut self, cases: &[Case]) -> Vec<String> {
        let mut differences = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let is_sim = self.direct.sim.is_some();
            let Some(expected) = case.expected(is_sim) else { continue };
            let id = number.to_string();
            let (direct, proxied) = tokio::join!(self.direct.drive(case, &id, self.routing), self.proxied.drive(case, &id, self.routing));
            self.covered.insert(case.path.clone());
            let found = compare(case, expected, &direct, &proxied, self.routing);
            differences.extend(found.into_iter().map(|difference| format!("{} [{}]: {difference}", case.title, case.path)));
        }
        differences
    }

    /// The methods of which a case was run.
    pub(super) fn covered(&self) -> &BTreeSet<String> {
        &self.covered
    }
}

type Backend = (SocketAddr, Option<Sim>, Option<Emulator>);

impl Lane {
    async fn new(address: SocketAddr, sidecar: Option<Sidecar>, (_, sim, emulator): Backend) -> Lane {
        Lane { client: Client::connect(address).await, address, sim, kept: Kept::default(), sidecar, _emulator: emulator }
    }

    async fn drive(&mut self, case: &Case, id: &str, routing: Routing) -> Seen {
        if let Some(sim) = &self.sim {
            sim.clear_recorded();
        }
        if let (Some(sim), Some(script)) = (&self.sim, &case.script) {
            sim.script(Matcher::any().header(CASE, id), script.clone());
        }
        self.revive(case).await;
        let message = case.message(&self.kept);
        let mut request = self.client.request(&case.path, &[(CASE, id), ("authorization", TOKEN)]);
        let routing_headers = case.routing(&message);
        if routing == Routing::Sent {
            request.headers_mut().extend(routing_headers.clone());
        }
        case.edit_head(&mut request, &self.kept);
        let body = case.body(message);
        let answer = timeout(PATIENCE, self.exchange(case, id, request.clone(), body.clone())).await;
        let answer = answer.unwrap_or_else(|_| panic!("{} [{}]: no answer at {}", case.title, case.path, self.address));
        for (name, path) in &case.keep {
            let value = answer.messages().first().and_then(|message| find(message, path)).map(<[u8]>::to_vec);
            // An answer without it shows as a difference, and so do the calls that build on it.
            self.kept.0.insert(name, value.unwrap_or_default());
        }
        let received = self.received(case, id).await;
        Seen { request, routing: routing_headers, body, answer, received }
    }

    /// A backend may end a connection for what came before; the sidecar has no reason to.
    async fn revive(&mut self, case: &Case) {
        let alive = timeout(PATIENCE, self.client.sender.clone().ready()).await.expect("in time");
        if let Err(error) = alive {
            assert!(self.sidecar.is_none(), "the connection to the sidecar has ended before {}: {error}", case.title);
            self.client = Client::connect(self.address).await;
        }
    }

    /// What upstream has of a case, once its last call has ended there.
    async fn received(&self, case: &Case, id: &str) -> Option<(Vec<Call>, String)> {
        let sim = self.sim.as_ref()?;
        let of_case = |sim: &Sim| sim.recorded().into_iter().filter(|call| call.header(CASE) == Some(id)).collect::<Vec<_>>();
        // A reset put in behind the simulator's back leaves its call open.
        let may_be_open = matches!(case.act, Act::ResetAfter(..));
        let ended = |sim: &Sim| of_case(sim).iter().all(|call| may_be_open || call.end != End::Open);
        assert!(sim.eventually(PATIENCE, ended).await, "{}: upstream still has an open call", case.title);
        Some((of_case(sim), sim.addr().to_string()))
    }

    async fn upstream_has(&self, id: &str, bytes: u64) {
        let sim = self.sim.as_ref().expect("such cases run on the simulated Spanner");
        // The simulator does not tell when a body grows.
        let has = async || sim.recorded().iter().any(|call| call.header(CASE) == Some(id) && call.body_len >= bytes);
        eventually("upstream has the request", has).await;
    }

    async fn exchange(&self, case: &Case, id: &str, request: http::Request<()>, body: Bytes) -> Answer {
        let cancelled = || Answer { reset: Some(CANCELLED.into()), ..Answer::default() };
        let mut sender = self.client.sender.clone().ready().await.expect("a live connection");
        match case.act {
            Act::Whole => self.client.send(request, body).await,
            Act::CancelUnanswered => {
                let length = body.len() as u64;
                let (_response, mut send) = sender.send_request(request, false).expect("a stream");
                send.send_data(body, true).expect("a stream");
                self.upstream_has(id, length).await;
                send.send_reset(h2::Reason::CANCEL);
                cancelled()
            }
            Act::CancelHalfSent(sent) | Act::CancelUnsent(sent) => {
                let (_response, mut send) = sender.send_request(request, false).expect("a stream");
                send.send_data(body.slice(..sent), false).expect("a stream");
                match (&self.sidecar, case.act) {
                    (Some(sidecar), Act::CancelUnsent(_)) => {
                        let has = async || sidecar.metric("spanner_sidecar_inflight_calls").await == 1.0;
                        eventually("the sidecar has the call", has).await;
                    }
                    // What the windows on the way hold need not have arrived.
                    _ => self.upstream_has(id, 0).await,
                }
                send.send_reset(h2::Reason::CANCEL);
                cancelled()
            }
            Act::CancelAfter(bytes) | Act::ResetAfter(bytes, _) => {
                let (response, mut send) = sender.send_request(request, false).expect("a stream");
                send.send_data(body, true).expect("a stream");
                let (head, mut body) = response.await.expect("an answer").into_parts();
                let mut answer = Answer { http_status: head.status.as_u16(), headers: head.headers, ..Answer::default() };
                while answer.body.len() < bytes {
                    let chunk = body.data().await.expect("more of the answer").expect("more of the answer");
                    answer.body.extend_from_slice(&chunk);
                }
                answer.body.truncate(bytes);
                let Act::ResetAfter(_, code) = case.act else {
                    send.send_reset(h2::Reason::CANCEL);
                    return Answer { reset: cancelled().reset, ..answer };
                };
                self.reset_upstream(id, code);
                let end = body.data().await;
                let Some(Err(error)) = end else { return Answer { reset: Some(format!("no reset but {end:?}")), ..answer } };
                Answer { reset: Some(error.reason().map_or_else(|| error.to_string(), |reason| format!("{reason:?}"))), ..answer }
            }
        }
    }

    /// Writes a RST_STREAM for the call of this case.
    fn reset_upstream(&self, id: &str, code: u32) {
        let sim = self.sim.as_ref().expect("such cases run on the simulated Spanner");
        let call = sim.recorded().into_iter().find(|call| call.header(CASE) == Some(id)).expect("upstream has the call");
        let connection = sim.connections().into_iter().find(|connection| connection.number() == call.connection).expect("its connection");
        // Length 4, type 3, no flags (RFC 9113, section 6.4).
        let mut frame = vec![0, 0, 4, 3, 0];
        frame.extend_from_slice(&call.stream.to_be_bytes());
        frame.extend_from_slice(&code.to_be_bytes());
        connection.inject(frame);
    }
}

/// Whether upstream got these bytes.
pub(super) fn got(call: &Call, body: &[u8]) -> bool {
    call.body_len == body.len() as u64 && call.body_hash == hash(body)
}
