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
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
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

type Answer = Pin<Box<dyn Future<Output = Response<Body>>>>;
type Handler = Box<dyn Fn(Request<Body>) -> Answer>;

/// The local services of one worker.
pub struct Local {
    health: Handler,
    reflection: Handler,
    reflection_alpha: Handler,
}

impl Local {
    /// Health as `reporter` has it, and reflection over what is served here.
    pub fn new(reporter: HealthReporter) -> Result<Local, tonic_reflection::server::Error> {
        let builder = || {
            let served = FORWARDED.into_iter().chain(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
            let builder = Builder::configure().register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            served.fold(builder, Builder::with_service_name)
        };
        Ok(Local {
            health: handler(HealthServer::new(HealthService::from_health_reporter(reporter))),
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
