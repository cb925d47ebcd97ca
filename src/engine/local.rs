//! The services that the sidecar answers itself: health and reflection, by tonic.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::server::Builder;

use super::h2::transfer::push;

/// The services whose calls are forwarded, as reflection lists them. Their descriptors are Google's to publish.
const FORWARDED: [&str; 5] = [
    "google.spanner.v1.Spanner",
    "google.spanner.admin.database.v1.DatabaseAdmin",
    "google.spanner.admin.instance.v1.InstanceAdmin",
    "google.longrunning.Operations",
    "google.iam.v1.IAMPolicy",
];

/// The services that are answered here.
const OWN: [&str; 3] = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

type Answer = Pin<Box<dyn Future<Output = Response<Body>>>>;
type Handler = Box<dyn Fn(Request<Body>) -> Answer>;

/// The local services of one worker.
pub struct Local {
    health: Handler,
    reflection: Handler,
    reflection_alpha: Handler,
}

impl Local {
    /// Health that follows `serving`, and reflection over what is served here.
    pub fn new(serving: watch::Receiver<bool>) -> Result<Local, tonic_reflection::server::Error> {
        let builder = || {
            let served = FORWARDED.into_iter().chain(OWN);
            let builder = Builder::configure().register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            served.fold(builder, Builder::with_service_name)
        };
        Ok(Local {
            health: handler(HealthServer::new(Serving(serving))),
            reflection: handler(builder().build_v1()?),
            reflection_alpha: handler(builder().build_v1alpha()?),
        })
    }

    /// Answers one call.
    pub(super) async fn serve(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let path = request.uri().path();
        let handler = if path.starts_with("/grpc.health.") {
            &self.health
        } else if path.starts_with("/grpc.reflection.v1.") {
            &self.reflection
        } else {
            &self.reflection_alpha
        };
        let response = handler(request.map(|body| Body::new(Incoming(body)))).await;
        // An error says that the caller is gone.
        let _ = send(response, &mut respond).await;
    }
}

fn handler<S>(service: S) -> Handler
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + 'static,
{
    Box::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move {
            match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}

/// `grpc.health.v1.Health`: one state for the process and every service behind it. tonic-health's own service ends the Watch
/// of an unknown service, which the protocol keeps open.
struct Serving(watch::Receiver<bool>);

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

fn is_known(service: &str) -> bool {
    service.is_empty() || FORWARDED.contains(&service)
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn state(serving: bool) -> HealthCheckResponse {
    response(if serving { ServingStatus::Serving } else { ServingStatus::NotServing })
}

#[tonic::async_trait]
impl Health for Serving {
    async fn check(&self, request: tonic::Request<HealthCheckRequest>) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if is_known(service) {
            Ok(tonic::Response::new(state(*self.0.borrow())))
        } else {
            Err(Status::not_found(format!("spanner-sidecar: {service} is not served here")))
        }
    }

    type WatchStream = Statuses;

    async fn watch(&self, request: tonic::Request<HealthCheckRequest>) -> Result<tonic::Response<Statuses>, Status> {
        let statuses: Statuses = if is_known(&request.get_ref().service) {
            Box::pin(WatchStream::new(self.0.clone()).map(|serving| Ok(state(serving))))
        } else {
            let unknown = tokio_stream::once(Ok(response(ServingStatus::ServiceUnknown)));
            Box::pin(unknown.chain(tokio_stream::pending()))
        };
        Ok(tonic::Response::new(statuses))
    }
}

async fn send(response: Response<Body>, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (parts, mut body) = response.into_parts();
    let ends_here = body.is_end_stream();
    let mut down = respond.send_response(Response::from_parts(parts, ()), ends_here)?;
    if ends_here {
        return Ok(());
    }
    loop {
        let frame = std::future::poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => down.poll_reset(cx).map(|reset| Err(reset.map_or_else(|error| error, h2::Error::from))),
        });
        match frame.await? {
            None => return down.send_data(Bytes::new(), true),
            Some(Err(_)) => {
                down.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => push(&mut down, data).await?,
                Err(frame) => return frame.into_trailers().map_or(Ok(()), |trailers| down.send_trailers(trailers)),
            },
        }
    }
}

/// A request's bytes as an `http_body::Body`.
struct Incoming(RecvStream);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                let _ = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => Poll::Ready(ready!(self.0.poll_trailers(cx)).transpose().map(|trailers| trailers.map(Frame::trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
