//! The engine on the `h2` crate: a task per stream, everything on one thread.

pub(super) mod transfer;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Worker, headers};
use crate::call::attempt::{Failure, Kind, Pin as Pinned, Plan};
use crate::call::{Call, REPLAY_LIMIT, Step, Verdict, policy};
use crate::metrics::{Origin, server_timing};
use crate::shutdown::Phase;
use crate::status::{self, Code, Status};
use crate::upstream::channel::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::upstream::pool::{ChannelId, Lease, PoolError};

/// Streams that one client connection may have open. gRPC clients queue by themselves beyond it.
const MAX_STREAMS: u32 = 20_000;

/// The largest request header list that h2 takes. Well above what a call may carry, so that a call with too much metadata
/// gets a gRPC status instead of h2's bare HTTP 431.
const HEADER_LIST: u32 = 1 << 20;

/// Streams that a client may have reset before they were accepted here. A burst of cancels is normal for an application
/// that gives up on many calls at once; h2's default of 20 would end its connection.
const MAX_PENDING_RESETS: usize = MAX_STREAMS as usize;

/// A shorter wait leaves `grpc-timeout` as the client wrote it.
const WAIT_THAT_COUNTS: Duration = Duration::from_millis(1);

/// How much of an answer's front is kept to find the transaction that it begins, in bytes.
const FIRST_MESSAGE: usize = 16 << 10;

/// Serves one client connection until it ends or is told to go away.
pub async fn serve_connection<IO>(io: IO, worker: Rc<Worker>, mut phase: watch::Receiver<Phase>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_concurrent_reset_streams(MAX_PENDING_RESETS)
        .handshake::<_, Bytes>(io)
        .await;
    let mut connection = match handshake {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "client handshake failed"),
    };
    let mut going_away = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    spawn_stream(request, respond, worker.clone());
                }
                Some(Err(error)) => return tracing::debug!(%error, "client connection ended"),
                None => return,
            },
            _ = phase.wait_for(|phase| *phase == Phase::GoingAway), if !going_away => {
                going_away = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// How a call ended, for the metrics.
struct Outcome {
    code: Code,
    /// Whose fault, and the code to count it under; `None` for a call that ended with OK.
    error: Option<(Origin, &'static str)>,
}

impl Outcome {
    fn upstream(code: Code) -> Outcome {
        Outcome { code, error: (code != Code::Ok).then_some((Origin::Upstream, code.name())) }
    }

    fn sidecar(status: &Status) -> Outcome {
        Outcome { code: status.kind.code, error: Some((Origin::Sidecar, status.kind.id)) }
    }

    fn cancelled() -> Outcome {
        Outcome { code: Code::Cancelled, error: Some((Origin::Downstream, Code::Cancelled.name())) }
    }
}

/// Sends the rest of a long request; ends with the attempt.
type Upload = AbortOnDropHandle<()>;

/// The caller is gone: it reset the stream, or its connection ended.
struct Cancelled;

/// Starts the task of one call. What is known without waiting is done before, so that the task's state, which is moved
/// several times on its way to the runtime, is small.
fn spawn_stream(request: Request<RecvStream>, respond: SendResponse<Bytes>, worker: Rc<Worker>) {
    let (call, step) = Call::start(&headers::head(&request), Instant::now());
    if matches!(step, Step::Local) {
        tokio::task::spawn_local(async move { worker.local.serve(request, respond).await });
        return;
    }
    let (parts, body) = request.into_parts();
    let mut stream = Stream { path: parts.uri, headers: parts.headers, body: Some(body), respond, call, worker, upstream_time: None };
    tokio::task::spawn_local(async move { stream.serve(step).await });
}

/// Counts a call under way, also when its task is dropped.
struct InFlight(Rc<Worker>);

impl InFlight {
    fn enter(worker: &Rc<Worker>) -> Self {
        worker.metrics.inflight_calls.inc();
        InFlight(worker.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.inflight_calls.dec();
    }
}

struct Stream {
    path: Uri,
    headers: HeaderMap,
    /// `None` once the rest of a long request streams through.
    body: Option<RecvStream>,
    respond: SendResponse<Bytes>,
    call: Call,
    worker: Rc<Worker>,
    /// How long the last attempt took.
    upstream_time: Option<Duration>,
}

/// The request as far as it has been read.
#[derive(Default)]
struct Front {
    bytes: Bytes,
    whole: bool,
}

impl Stream {
    /// One call from its first to its last byte.
    async fn serve(&mut self, step: Step) {
        let _in_flight = InFlight::enter(&self.worker);
        let outcome = self.run(step).await.unwrap_or_else(|Cancelled| Outcome::cancelled());
        let (call, index) = (&self.call, self.call.method_index());
        self.worker.calls.observe(index, outcome.code, call.received().elapsed(), self.upstream_time);
        if let Some((origin, code)) = outcome.error {
            self.worker.metrics.error(origin, code);
        }
    }

    async fn run(&mut self, step: Step) -> Result<Outcome, Cancelled> {
        let mut front = Front::default();
        let step = match step {
            Step::ReadMessage => {
                front = self.read_front().await?;
                self.call.on_message(&front.bytes, front.whole)
            }
            step => step,
        };
        match step {
            Step::Send(plan) => self.send(plan, front).await,
            Step::Answer(status) => {
                if status.kind == status::NOT_GRPC {
                    // Plain HTTP clients expect no answer before they have sent their request.
                    self.read_front().await?;
                }
                Ok(self.answer(&status))
            }
            // Neither can follow here: `serve_stream` hands local calls over, a message is read once.
            Step::Local | Step::ReadMessage => Ok(self.answer(&status::BUG.with("unexpected step"))),
        }
    }

    /// Reads the request to its end or to `REPLAY_LIMIT` bytes.
    async fn read_front(&mut self) -> Result<Front, Cancelled> {
        let mut front = Front::default();
        let Some(body) = &mut self.body else { return Ok(front) };
        while !front.whole && front.bytes.len() < REPLAY_LIMIT {
            if body.is_end_stream() {
                front.whole = true;
                break;
            }
            match body.data().await {
                None => front.whole = true,
                Some(Err(_)) => return Err(Cancelled),
                Some(Ok(chunk)) => {
                    let _ = body.flow_control().release_capacity(chunk.len());
                    front.bytes = transfer::join(front.bytes, chunk);
                }
            }
        }
        Ok(front)
    }

    /// Sends attempts until one is answered, then forwards the answer.
    async fn send(&mut self, plan: Plan, mut front: Front) -> Result<Outcome, Cancelled> {
        let token = match self.worker.token.now() {
            Some(token) => Ok(token),
            // Waiting is rare: boxed, it takes no room in every call's task.
            None => Box::pin(self.first_token()).await?,
        };
        let token = match token {
            Ok(token) => token,
            Err(status) => return Ok(self.answer(&status)),
        };
        headers::edit_request(&mut self.headers, plan.edits, token);
        let pinned = match &plan.pin {
            Pinned::To(transaction, _) => self.worker.affinity.channel(transaction),
            Pinned::Free => None,
        };
        // At most as many as there are attempts.
        let mut failed = Vec::new();
        loop {
            let lease = match self.worker.pool.try_lease(pinned, &failed) {
                Some(lease) => Ok(lease),
                None => Box::pin(self.wait_for_lease(pinned, &failed)).await?,
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(status) => return Ok(self.answer(&status)),
            };
            let started = Instant::now();
            // Ends with the attempt.
            let (result, _upload) = match self.attempt(&lease, &mut front) {
                Ok((response, upload)) => (self.response(response).await?, upload),
                Err(failure) => (Err(failure), None),
            };
            let failure = match result {
                Ok(response) => {
                    if let Pinned::To(transaction, true) = &plan.pin {
                        self.worker.affinity.forget(transaction);
                    }
                    let outcome = self.forward(response, &lease).await;
                    self.upstream_time = Some(started.elapsed());
                    return outcome;
                }
                Err(failure) => failure,
            };
            self.upstream_time = Some(started.elapsed());
            // What has not begun to stream is still here.
            let can_resend = front.whole || self.body.is_some();
            match self.call.on_failure(&failure, can_resend, Instant::now()) {
                Verdict::Again => {
                    failed.push(lease.id);
                    self.worker.metrics.retry(retry_reason(&failure));
                    headers::raise_attempt(&mut self.headers);
                }
                Verdict::Answer(status) => {
                    let outcome = self.answer(&status);
                    return Ok(Outcome { error: Some((Origin::Upstream, status.kind.id)), ..outcome });
                }
                Verdict::Reset(code) => {
                    self.respond.send_reset(Reason::from(code));
                    return Ok(Outcome::upstream(Code::Unknown));
                }
            }
        }
    }

    /// Waits for the first token.
    async fn first_token(&mut self) -> Result<Result<Option<HeaderValue>, Status>, Cancelled> {
        let (worker, limit) = (self.worker.clone(), self.patience());
        let token = until_cancelled(&mut self.respond, worker.token.first(limit)).await?;
        Ok(token.map_err(|error| status::NO_TOKEN.with(error)))
    }

    /// Waits for a place on a channel.
    async fn wait_for_lease(&mut self, pinned: Option<ChannelId>, failed: &[ChannelId]) -> Result<Result<Lease, Status>, Cancelled> {
        let (pool, ready_by) = (self.worker.pool.clone(), self.patience().into());
        let deadline = self.call.deadline.map(tokio::time::Instant::from_std);
        let waited_since = Instant::now();
        let lease = until_cancelled(&mut self.respond, pool.lease_by(pinned, failed, deadline, ready_by)).await?;
        if waited_since.elapsed() > WAIT_THAT_COUNTS {
            self.shorten_timeout();
        }
        Ok(lease.map_err(|error| match error {
            PoolError::NotReady(error) => status::NO_CHANNEL.with(error),
            PoolError::QueueFull(length) => status::QUEUE_FULL.with(format!("{length} calls wait already")),
            PoolError::Deadline => status::DEADLINE.with("no stream was free"),
        }))
    }

    /// Until when this call waits for something that is not there yet.
    fn patience(&self) -> Instant {
        let longest = self.call.received() + policy::MAX_WAIT;
        self.call.deadline.map_or(longest, |deadline| deadline.min(longest))
    }

    /// Upstream gets what is left of the caller's time, not what there was before the wait.
    fn shorten_timeout(&mut self) {
        let left = self.call.remaining(Instant::now()).map(policy::timeout_header);
        if let Some(left) = left.and_then(|left| HeaderValue::try_from(left).ok()) {
            self.headers.insert(headers::GRPC_TIMEOUT, left);
        }
    }

    /// Writes one attempt to the channel.
    fn attempt(&mut self, lease: &Lease, front: &mut Front) -> Result<(ResponseFuture, Option<Upload>), Failure> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = self.upstream_uri();
        *request.headers_mut() = self.headers.clone();
        let unsent = |error: h2::Error| Failure { kind: Kind::Lost, unprocessed: true, detail: error.to_string() };
        let (response, mut send) = lease.channel.sender().send_request(request, front.whole && front.bytes.is_empty()).map_err(unsent)?;
        if front.whole {
            if !front.bytes.is_empty() {
                send.send_data(front.bytes.clone(), true).map_err(unsent)?;
            }
            return Ok((response, None));
        }
        let upload = self.body.take().map(|body| {
            let rest = transfer::upload(std::mem::take(&mut front.bytes), body, send);
            AbortOnDropHandle::new(tokio::task::spawn_local(rest))
        });
        Ok((response, upload))
    }

    fn upstream_uri(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.worker.scheme.clone());
        parts.authority = Some(self.worker.authority.clone());
        parts.path_and_query = self.path.path_and_query().cloned();
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Waits for the head of the answer.
    async fn response(&mut self, response: ResponseFuture) -> Result<Result<Response<RecvStream>, Failure>, Cancelled> {
        let response = until_cancelled(&mut self.respond, response).await?;
        Ok(response.map_err(|error| transfer::failure(&error)))
    }

    /// Forwards the answer to the caller, frame by frame, as fast as the caller reads.
    async fn forward(&mut self, response: Response<RecvStream>, lease: &Lease) -> Result<Outcome, Cancelled> {
        let (parts, mut body) = response.into_parts();
        self.observe_server_timing(&parts.headers);
        let mut code = parts.headers.get(&headers::GRPC_STATUS).map(|value| Code::from_header(value.as_bytes()));
        let ends_here = body.is_end_stream();
        let mut down = self.respond.send_response(Response::from_parts(parts, ()), ends_here).map_err(|_| Cancelled)?;
        if ends_here {
            return Ok(Outcome::upstream(code.unwrap_or(Code::Unknown)));
        }
        let mut first = self.call.wants_first_message().then(BytesMut::new);
        loop {
            match transfer::next(&mut body, &mut down).await? {
                Ok(Some(chunk)) => {
                    if let Some(front) = &mut first {
                        front.extend_from_slice(&chunk[..chunk.len().min(FIRST_MESSAGE)]);
                        let begun = self.call.begun(front);
                        if let Some((transaction, _)) = begun {
                            self.worker.affinity.learn(transaction, lease.id);
                        }
                        if begun.is_some() || front.len() >= FIRST_MESSAGE {
                            first = None;
                        }
                    }
                    let length = chunk.len();
                    transfer::push(&mut down, chunk).await.map_err(|_| Cancelled)?;
                    let _ = body.flow_control().release_capacity(length);
                }
                Ok(None) => break,
                Err(error) => return Ok(self.cut(&mut down, &transfer::failure(&error))),
            }
        }
        match body.trailers().await {
            Ok(Some(trailers)) => {
                code = trailers.get(&headers::GRPC_STATUS).map(|value| Code::from_header(value.as_bytes())).or(code);
                down.send_trailers(trailers).map_err(|_| Cancelled)?;
            }
            Ok(None) => down.send_data(Bytes::new(), true).map_err(|_| Cancelled)?,
            Err(error) => return Ok(self.cut(&mut down, &transfer::failure(&error))),
        }
        Ok(Outcome::upstream(code.unwrap_or(Code::Unknown)))
    }

    /// The answer broke off half way: the caller gets what upstream's side did to us, or a status that says so.
    fn cut(&self, down: &mut SendStream<Bytes>, failure: &Failure) -> Outcome {
        if let Kind::Reset(code) = failure.kind {
            down.send_reset(Reason::from(code));
            return Outcome::upstream(Code::Unknown);
        }
        let status = status::CONNECTION_LOST.with(failure.to_string());
        // Fails only when the caller is gone as well.
        let _ = down.send_trailers(headers::trailers(&status));
        Outcome { code: status.kind.code, error: Some((Origin::Upstream, status.kind.id)) }
    }

    fn observe_server_timing(&self, headers: &HeaderMap) {
        let Some(timing) = headers.get(&headers::SERVER_TIMING).and_then(|value| value.to_str().ok()) else { return };
        let (gfe, afe) = server_timing(timing);
        for (histogram, duration) in [(&self.worker.metrics.gfe_latency, gfe), (&self.worker.metrics.afe_latency, afe)] {
            if let Some(duration) = duration {
                histogram.observe(duration.as_secs_f64());
            }
        }
    }

    /// Gives the caller a status of the sidecar's own.
    fn answer(&mut self, status: &Status) -> Outcome {
        tracing::debug!(path = self.path.path(), %status, "answered by the sidecar");
        // Fails only when the caller is gone.
        let _ = self.respond.send_response(headers::trailers_only(status), true);
        Outcome::sidecar(status)
    }
}

/// Runs `future` for as long as the caller waits.
async fn until_cancelled<F: Future>(respond: &mut SendResponse<Bytes>, future: F) -> Result<F::Output, Cancelled> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(Err(Cancelled)),
        Poll::Pending => future.as_mut().poll(cx).map(Ok),
    })
    .await
}

fn retry_reason(failure: &Failure) -> &'static str {
    match (failure.kind, failure.unprocessed) {
        (Kind::Reset(_), _) => "refused_stream",
        (_, true) => "unprocessed",
        (_, false) => "connection_lost",
    }
}
