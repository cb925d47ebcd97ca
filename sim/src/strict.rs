//! What Google's front end and Spanner check before a request is looked at: gRPC's own headers, the token, and the
//! routing headers, which must name the same resource as the message.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::sim::Options;
use crate::status::{Code, Status};

const PARAMS: &str = "x-goog-request-params";
const PREFIX: &str = "google-cloud-resource-prefix";

/// Why a request is turned away by its headers alone.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    /// Set when the answer is not even HTTP 200.
    pub(crate) http_status: Option<StatusCode>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Refusal { status, http_status: None }
    }
}

fn invalid(text: String) -> Status {
    Status::new(Code::InvalidArgument, format!("sim: {text}"))
}

/// Checks everything that does not need the message.
pub(crate) fn check_head(options: &Options, headers: &HeaderMap) -> Result<(), Refusal> {
    let get = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    if options.strict_headers {
        let content_type = get("content-type").unwrap_or_default();
        if !matches!(content_type, b"application/grpc" | b"application/grpc+proto") {
            let shown = String::from_utf8_lossy(content_type);
            let status = invalid(format!("content-type is {shown:?}, must be application/grpc"));
            return Err(Refusal { status, http_status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) });
        }
        if get("te") != Some(b"trailers") {
            return Err(invalid("header te is missing or is not \"trailers\"".into()).into());
        }
    }
    if let Some(value) = get("grpc-timeout")
        && crate::grpc::timeout(value).is_none()
    {
        let shown = String::from_utf8_lossy(value);
        return Err(invalid(format!("grpc-timeout {shown:?} is not up to 8 digits and one of H M S m u n")).into());
    }
    check_token(options, headers)
}

fn check_token(options: &Options, headers: &HeaderMap) -> Result<(), Refusal> {
    let tokens = crate::lock(&options.tokens);
    if tokens.is_empty() {
        return Ok(());
    }
    let mut sent = headers.get_all("authorization").iter();
    let (first, second) = (sent.next(), sent.next());
    let unauthenticated =
        |text: &str, reason: &str| Refusal::from(Status::new(Code::Unauthenticated, text).error_info(reason, "googleapis.com"));
    let Some(first) = first else {
        return Err(unauthenticated(
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or \
             other valid authentication credential.",
            "CREDENTIALS_MISSING",
        ));
    };
    let token = first.as_bytes().strip_prefix(b"Bearer ");
    if second.is_none() && token.is_some_and(|token| tokens.iter().any(|t| t.as_bytes() == token)) {
        return Ok(());
    }
    Err(unauthenticated(
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
         authentication credential.",
        "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    ))
}

/// The routing parameter of a method, which is also the name of its message's field 1.
fn routing_key(path: &str) -> Option<&'static str> {
    let method = path.strip_prefix("/google.spanner.v1.Spanner/")?;
    Some(match method {
        "CreateSession" | "BatchCreateSessions" | "ListSessions" => "database",
        "GetSession" | "DeleteSession" => "name",
        _ => "session",
    })
}

/// Checks that the routing headers of a `google.spanner.v1` call name the resource of its message. Admin calls may
/// leave them out, and so may all calls when the checks are lenient; what headers say must be true always.
pub(crate) fn check_routing(options: &Options, path: &str, headers: &HeaderMap, message: &Bytes) -> Result<(), Status> {
    let Some(resource) = first_string(message) else {
        return Ok(());
    };
    let get = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    let params = get("x-goog-request-params");
    let Some(key) = routing_key(path) else {
        // CreateInstance and the like route by other fields: only keys that name field 1 everywhere are compared.
        let keys = ["database", "parent", "name"];
        let value = params.and_then(|p| keys.iter().find_map(|key| param(p, key)));
        return match value {
            Some(value) if value != resource => Err(mismatch(PARAMS, &value, &resource)),
            _ => Ok(()),
        };
    };
    let needed = options.strict_headers;
    match params.map(|p| (p, param(p, key))) {
        None if needed => {
            let text = format!("header {PARAMS} is missing, must hold {key}={resource}");
            return Err(invalid(text));
        }
        Some((params, None)) if needed => {
            let shown = String::from_utf8_lossy(params);
            let text = format!("{PARAMS} {shown:?} has no {key}, must hold {key}={resource}");
            return Err(invalid(text));
        }
        Some((_, Some(value))) if value != resource => {
            return Err(mismatch(PARAMS, &value, &resource));
        }
        _ => {}
    }
    let database = resource.split_once("/sessions/").map_or(&*resource, |(database, _)| database);
    match get(PREFIX) {
        None if needed => Err(invalid(format!("header {PREFIX} is missing, must be {database}"))),
        Some(value) if value != database.as_bytes() => Err(mismatch(PREFIX, &String::from_utf8_lossy(value), database)),
        _ => Ok(()),
    }
}

fn mismatch(header: &str, value: &str, resource: &str) -> Status {
    invalid(format!("header {header} names {value:?}, but the request is for {resource:?}"))
}

/// A value of `x-goog-request-params`: pairs joined by `&`, values plain or percent-encoded.
fn param(params: &[u8], key: &str) -> Option<String> {
    params.split(|b| *b == b'&').find_map(|pair| {
        let value = pair.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
        Some(percent_decode(value))
    })
}

fn percent_decode(text: &[u8]) -> String {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Field 1 of a message, if it is the first on the wire and a string. Every serializer writes it first.
fn first_string(message: &Bytes) -> Option<String> {
    let mut rest = message.clone();
    if rest.first() != Some(&0x0a) {
        return None;
    }
    rest = rest.slice(1..);
    let len = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    String::from_utf8(rest.get(..len)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sim::Options;

    const READ: &str = "/google.spanner.v1.Spanner/Read";
    const SESSION: &str = "projects/p/instances/i/databases/d/sessions/s";

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    fn message() -> Bytes {
        let mut out = vec![0x0a, u8::try_from(SESSION.len()).unwrap()];
        out.extend_from_slice(SESSION.as_bytes());
        out.into()
    }

    #[test]
    fn plain_encoded_and_prefixed_params_are_all_good() {
        for params in [format!("session={SESSION}"), format!("&session={SESSION}"), format!("session={}", SESSION.replace('/', "%2F"))] {
            let prefix = ("google-cloud-resource-prefix", "projects/p/instances/i/databases/d");
            let headers = headers(&[("x-goog-request-params", &params), prefix]);
            check_routing(&Options::default(), READ, &headers, &message()).unwrap();
        }
    }

    #[test]
    fn a_wrong_routing_header_is_named() {
        let check =
            |list: &[(&'static str, &str)]| check_routing(&Options::default(), READ, &headers(list), &message()).unwrap_err().message;
        assert!(check(&[]).contains("x-goog-request-params is missing"));
        assert!(check(&[("x-goog-request-params", "session=other")]).contains("\"other\""));
        let params = ("x-goog-request-params", &*format!("session={SESSION}"));
        assert!(check(&[params]).contains("google-cloud-resource-prefix is missing"));
        assert!(check(&[params, ("google-cloud-resource-prefix", "x")]).contains("\"x\""));
    }

    #[test]
    fn a_token_must_be_the_one_that_is_set() {
        let options = Options::default();
        crate::lock(&options.tokens).push("good".into());
        let base = [("content-type", "application/grpc"), ("te", "trailers")];
        let with = |value| check_head(&options, &headers(&[base[0], base[1], ("authorization", value)]));
        with("Bearer good").unwrap();
        assert_eq!(with("Bearer bad").unwrap_err().status.code, Code::Unauthenticated);
        assert_eq!(check_head(&options, &headers(&base)).unwrap_err().status.code, Code::Unauthenticated);
    }

    #[test]
    fn grpc_headers_are_checked() {
        let options = Options::default();
        let html = check_head(&options, &headers(&[("content-type", "text/html")])).unwrap_err();
        assert_eq!(html.http_status, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        let no_te = check_head(&options, &headers(&[("content-type", "application/grpc")])).unwrap_err();
        assert!(no_te.status.message.contains("te"));
    }
}
