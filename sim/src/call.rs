//! The life of one call: it is recorded, a script or the built-in Spanner answers it, its deadline is kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, StatusCode};

use crate::conn::Connection;
use crate::exchange::{Exchange, OpenCall};
use crate::grpc;
use crate::matcher::Head;
use crate::record::{Call, End};
use crate::script::{GoAway, Script, Step};
use crate::sim::Shared;
use crate::spanner::Reply;
use crate::status::{Code, Status};
use crate::strict;

/// What a call is known by before its message is read.
struct Asked {
    path: String,
    headers: HeaderMap,
    connection: Connection,
    stream: u32,
}

impl Asked {
    fn head(&self) -> Head<'_> {
        Head { path: &self.path, headers: &self.headers, connection: self.connection.number(), stream: self.stream }
    }
}

/// Answers one call.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let stream = respond.stream_id().as_u32();
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str()).to_owned();
    let entry = shared.recorder.is_on().then(|| {
        shared.recorder.add(Call {
            number: shared.calls.fetch_add(1, Ordering::Relaxed),
            connection: connection.number(),
            stream,
            peer: connection.peer(),
            path: path.clone(),
            http_method: parts.method.to_string(),
            scheme: parts.uri.scheme_str().unwrap_or_default().to_owned(),
            authority: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
            headers: parts.headers.clone(),
            body: Bytes::new(),
            body_len: 0,
            body_hash: 0,
            body_ended: false,
            scripted: false,
            started: Instant::now(),
            ended: None,
            end: End::Open,
        })
    });
    let mut open = OpenCall::new(shared.clone(), connection.clone(), entry.clone());
    let mut exchange = Exchange::new(respond, body, entry);
    if connection.ignores(stream) {
        open.end = exchange.gone().await;
        return;
    }
    let timeout = parts.headers.get("grpc-timeout").and_then(|v| grpc::timeout(v.as_bytes()));
    let is_post = parts.method == http::Method::POST;
    let request = Asked { path, headers: parts.headers, connection, stream };
    let answer = answer(&shared, &mut exchange, &request, is_post);
    let end = match timeout {
        None => answer.await,
        // A deadline too far away to be added to the clock is none.
        Some(timeout) => match tokio::time::timeout(timeout, answer).await {
            Ok(end) => end,
            Err(_) => Ok(exchange.finish_with(&Status::new(Code::DeadlineExceeded, "Deadline Exceeded"))),
        },
    };
    open.end = end.unwrap_or_else(|end| end);
}

async fn answer(shared: &Shared, exchange: &mut Exchange, request: &Asked, is_post: bool) -> Result<End, End> {
    if !shared.scripts.is_empty()
        && let Some(script) = shared.scripts.take(&request.head(), None)
    {
        return play(shared, exchange, request, &script, None).await;
    }
    if !is_post {
        exchange.http_status = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(exchange.finish(HeaderMap::new()));
    }
    builtin(shared, exchange, request, None, false).await
}

/// Runs a script; `body` is the request when it has been read already.
async fn play(shared: &Shared, exchange: &mut Exchange, request: &Asked, script: &Script, body: Option<Bytes>) -> Result<End, End> {
    exchange.mark_scripted();
    exchange.extra_headers = script.headers.clone();
    exchange.http_status = script.http_status;
    let mut body = body;
    if body.is_none() && script.reads_request_first {
        let passes = script.steps.iter().any(|step| matches!(step, Step::Pass));
        body = Some(exchange.read_body(passes).await?);
    }
    for step in &script.steps {
        match step {
            Step::Pause(time) => exchange.pause(*time).await?,
            Step::Head => drop(exchange.send_head()?),
            Step::Data(bytes, times) => {
                for _ in 0..*times {
                    exchange.send(bytes.clone()).await?;
                }
            }
            Step::Generated { messages, size } => {
                for _ in 0..*messages {
                    exchange.send_generated(*size).await?;
                }
            }
            Step::Trailers(trailers) => return Ok(exchange.finish(trailers.clone())),
            Step::Reset(code) => return Ok(exchange.reset(*code)),
            Step::Hang => return Ok(exchange.gone().await),
            Step::GoAway(goaway) => send_goaway(request, *goaway),
            Step::Close { reset: true } => {
                request.connection.tcp_reset();
                return Ok(exchange.gone().await);
            }
            Step::Close { reset: false } => {
                request.connection.close();
                return Ok(exchange.gone().await);
            }
            Step::BlackHole => request.connection.black_hole(true),
            Step::Pass => return Box::pin(builtin(shared, exchange, request, body, true)).await,
        }
    }
    exchange.send_head()?;
    Ok(exchange.finish_with(&Status::ok()))
}

fn send_goaway(request: &Asked, goaway: GoAway) {
    let connection = &request.connection;
    match goaway {
        GoAway::Graceful => connection.goaway_gracefully(),
        // Client streams have odd ids, so two below is the one before; the first has none before it: 0.
        GoAway::BeforeThis(code) => connection.goaway(request.stream.saturating_sub(2), code),
        GoAway::AtThis(code) => connection.goaway(request.stream, code),
        GoAway::Exactly { last_stream, code } => connection.goaway(last_stream, code),
        GoAway::Abrupt(code) => connection.goaway_abruptly(code),
    }
}

/// The built-in Spanner. `body` is the request when it has been read already.
async fn builtin(shared: &Shared, exchange: &mut Exchange, request: &Asked, body: Option<Bytes>, scripted: bool) -> Result<End, End> {
    if let Err(refusal) = strict::check_head(&shared.options, &request.headers) {
        if body.is_none() {
            exchange.read_body(false).await?;
        }
        if let Some(status) = refusal.http_status {
            exchange.http_status = status;
        }
        return Ok(exchange.finish_with(&refusal.status));
    }
    let body = match body {
        Some(body) => body,
        None => exchange.read_body(true).await?,
    };
    let encoding = request.headers.get("grpc-encoding").map(|v| v.as_bytes());
    let message = match grpc::unary_message(body, encoding) {
        Ok(message) => message,
        Err(status) => return Ok(exchange.finish_with(&status)),
    };
    if !scripted
        && !shared.scripts.is_empty()
        && let Some(script) = shared.scripts.take(&request.head(), Some(&message))
    {
        let body = grpc::frame(&message);
        return Box::pin(play(shared, exchange, request, &script, Some(body))).await;
    }
    let reply = strict::check_routing(&shared.options, &request.path, &request.headers, &message)
        .and_then(|()| shared.spanner.answer(&request.path, message));
    match reply {
        Ok(Reply::Unary(bytes)) => {
            exchange.send(bytes).await?;
            Ok(exchange.finish_with(&Status::ok()))
        }
        Ok(Reply::Stream(messages)) => {
            exchange.send_head()?;
            for message in messages {
                match message {
                    Ok(bytes) => exchange.send(bytes).await?,
                    Err(status) => return Ok(exchange.finish_with(&status)),
                }
            }
            Ok(exchange.finish_with(&Status::ok()))
        }
        Err(status) => Ok(exchange.finish_with(&status)),
    }
}
