//! Metadata on its way through: what is taken out, what is put in, what the sidecar answers itself.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::call::attempt::Edits;
use crate::call::{Head, Present};
use crate::status::{self, Status};

pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(super) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-goog-spanner-request-id");
const RESOURCE_PREFIX: HeaderName = HeaderName::from_static("google-cloud-resource-prefix");
const REQUEST_PARAMS: HeaderName = HeaderName::from_static("x-goog-request-params");
const ROUTE_TO_LEADER: HeaderName = HeaderName::from_static("x-goog-spanner-route-to-leader");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// What must be escaped in `grpc-message` (gRPC over HTTP/2, "Percent-Encoded"): all but printable ASCII, and `%`.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// What HTTP/2 counts for a field beyond its name and value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// The head of a request as the call sees it. One pass: a lookup of each name would hash it, at several times the cost.
pub(super) fn head<B>(request: &Request<B>) -> Head<'_> {
    let is_post = request.method() == http::Method::POST;
    let (path, has) = (request.uri().path(), Present::default());
    let mut head = Head { path, is_post, content_type: None, timeout: None, metadata_size: 0, has };
    for (name, value) in request.headers() {
        head.metadata_size += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        match name.as_str() {
            "content-type" if head.content_type.is_none() => head.content_type = Some(value.as_bytes()),
            "grpc-timeout" if head.timeout.is_none() => head.timeout = Some(value.as_bytes()),
            "google-cloud-resource-prefix" => head.has.google_cloud_resource_prefix = true,
            "x-goog-request-params" => head.has.x_goog_request_params = true,
            "x-goog-spanner-route-to-leader" => head.has.x_goog_spanner_route_to_leader = true,
            _ => {}
        }
    }
    head
}

/// Makes the metadata of an attempt out of that of the call.
pub(super) fn edit_request(headers: &mut HeaderMap, edits: Edits, token: Option<HeaderValue>) {
    // Fields that belong to one connection need not be taken out: h2 resets a stream that brings one.
    headers.remove(HOST);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token);
    }
    for (name, value) in [(RESOURCE_PREFIX, edits.google_cloud_resource_prefix), (REQUEST_PARAMS, edits.x_goog_request_params)] {
        // A resource name with bytes that no header can hold is upstream's to refuse.
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    if edits.x_goog_spanner_route_to_leader {
        headers.insert(ROUTE_TO_LEADER, HeaderValue::from_static("true"));
    }
}

/// Removes what belongs to one connection (RFC 9110, section 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// Raises the attempt, the last part of `x-goog-spanner-request-id`, so that Spanner can tell a repeat from the first copy.
pub(super) fn raise_attempt(headers: &mut HeaderMap) {
    let raised = headers.get(&REQUEST_ID).and_then(|value| {
        let (front, attempt) = value.to_str().ok()?.rsplit_once('.')?;
        HeaderValue::try_from(format!("{front}.{}", attempt.parse::<u32>().ok()?.checked_add(1)?)).ok()
    });
    if let Some(raised) = raised {
        headers.insert(REQUEST_ID, raised);
    }
}

/// A trailers-only answer with a status of the sidecar's own.
pub(crate) fn trailers_only(status: &Status) -> Response<()> {
    let mut response = Response::new(());
    if status.kind == status::NOT_GRPC {
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    fill_status(response.headers_mut(), status);
    response
}

/// Trailers with a status of the sidecar's own.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    fill_status(&mut trailers, status);
    trailers
}

fn fill_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status.kind.code as u16));
    let message = percent_encode(status.to_string().as_bytes(), MESSAGE).to_string();
    if let Ok(message) = HeaderValue::from_maybe_shared(Bytes::from(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_raises_the_last_part_of_the_request_id() {
        let raise = |id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(id));
            raise_attempt(&mut headers);
            headers[REQUEST_ID].to_str().unwrap().to_owned()
        };
        assert_eq!(raise("1.abc.2.3.45.1"), "1.abc.2.3.45.2");
        assert_eq!(raise("nothing to raise"), "nothing to raise");
        assert_eq!(raise("1.x"), "1.x");
    }

    #[test]
    fn a_message_is_escaped_as_grpc_has_it() {
        let status = status::NOT_SERVED.with("/é%\n");
        let message = trailers(&status)[GRPC_MESSAGE].to_str().unwrap().to_owned();
        assert!(message.contains("/%C3%A9%25%0A"), "{message}");
    }

    #[test]
    fn without_a_token_of_ours_the_callers_authorization_passes() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer theirs"));
        edit_request(&mut headers, Edits::default(), None);
        assert_eq!(headers[AUTHORIZATION], "Bearer theirs");
        edit_request(&mut headers, Edits::default(), Some(HeaderValue::from_static("Bearer ours")));
        assert_eq!(headers.get_all(AUTHORIZATION).iter().collect::<Vec<_>>(), ["Bearer ours"]);
    }
}
