//! What two runs of a case have in common, and what not.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use spanner_sim::Call;

use super::Allowed;
use super::case::{Act, Case, Outcome};
use super::lane::{Routing, Seen, got};
use super::normal::alike;
use crate::support::raw::Answer;

/// Every difference between the two that is not allowed.
pub(super) fn compare(case: &Case, expected: &Outcome, direct: &Seen, proxied: &Seen, routing: Routing) -> Vec<String> {
    let mut found = Differences::default();
    found.check(&format!("how the direct call ends ({})", direct.answer.message()), expected, &Outcome::of(&direct.answer));
    match &case.differs {
        Some(differs) => {
            found.check("how the proxied call ends", &differs.outcome, &Outcome::of(&proxied.answer));
            if !proxied.answer.message().contains(differs.says) {
                found.0.push(format!("the message {:?} does not say {:?}", proxied.answer.message(), differs.says));
            }
        }
        None => found.answers(&case.path, &direct.answer, &proxied.answer),
    }
    let (Some((at_direct, address)), Some((at_proxied, address_behind))) = (&direct.received, &proxied.received) else {
        return found.0;
    };
    // Tells that the simulated Spanner records what was sent.
    for call in at_direct {
        found.request("direct", call, address, direct, direct.request.headers(), case);
    }
    let allowed = case.differs.as_ref().map(|differs| differs.as_allowed);
    match allowed {
        Some(allowed) if !allowed.reaches_upstream() => found.check("calls upstream, proxied", &0, &at_proxied.len()),
        Some(Allowed::Repeated) if at_proxied.len() > 1 => {}
        _ => found.check("calls upstream", &at_direct.len(), &at_proxied.len()),
    }
    let mut headers = expected_upstream(proxied, routing);
    for call in at_proxied {
        found.request("proxied", call, address_behind, proxied, &headers, case);
        raise_attempt(&mut headers);
    }
    if let (None, [direct], [proxied]) = (allowed, &at_direct[..], &at_proxied[..]) {
        found.check("how upstream saw the call end", &direct.end, &proxied.end);
    }
    found.0
}

/// The headers that upstream must see of a proxied call: those of the client, but for the allowed differences.
fn expected_upstream(seen: &Seen, routing: Routing) -> HeaderMap {
    let mut headers = seen.request.headers().clone();
    // Allowed::Te
    headers.insert("te", HeaderValue::from_static("trailers"));
    if routing == Routing::LeftOut {
        // Allowed::RoutingHeaders
        headers.extend(seen.routing.clone());
    }
    headers
}

/// Its last part counts the attempts of a call.
pub(super) const REQUEST_ID: &str = "x-goog-spanner-request-id";

/// Allowed::Repeated
fn raise_attempt(headers: &mut HeaderMap) {
    let Some((front, attempt)) = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()?.rsplit_once('.')) else { return };
    let raised = format!("{front}.{}", attempt.parse::<u32>().expect("a number") + 1);
    headers.insert(REQUEST_ID, raised.parse().expect("a header value"));
}

/// Differences, in words.
#[derive(Default)]
pub(super) struct Differences(pub(super) Vec<String>);

impl Differences {
    fn check<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: &T, found: &T) {
        if expected != found {
            self.0.push(format!("{what}: {expected:?} / {found:?}"));
        }
    }

    /// Two answers, direct and proxied.
    pub(super) fn answers(&mut self, path: &str, direct: &Answer, proxied: &Answer) {
        self.check("http status", &direct.http_status, &proxied.http_status);
        self.headers("header", &direct.headers, &proxied.headers);
        self.check("trailers-only", &direct.trailers_only, &proxied.trailers_only);
        self.check("has trailers", &direct.trailers.is_some(), &proxied.trailers.is_some());
        let empty = HeaderMap::new();
        self.headers("trailer", direct.trailers.as_ref().unwrap_or(&empty), proxied.trailers.as_ref().unwrap_or(&empty));
        self.check("reset", &direct.reset, &proxied.reset);
        let (direct, proxied) = (split(&direct.body), split(&proxied.body));
        self.check("number of messages", &direct.len(), &proxied.len());
        for (number, (direct, proxied)) in direct.iter().zip(&proxied).enumerate() {
            // The flag stands for itself; the length follows from the message unless it breaks off.
            let same = direct.flag == proxied.flag
                && direct.length.is_some() == proxied.length.is_some()
                && (direct.message == proxied.message && direct.length == proxied.length
                    || direct.is_whole() && proxied.is_whole() && alike(path, direct.message) == alike(path, proxied.message));
            if !same {
                self.0.push(format!("message {number}:\n    {}\n    {}", direct.show(path), proxied.show(path)));
            }
        }
    }

    /// What upstream received, against what was sent and what the headers must be.
    fn request(&mut self, lane: &str, call: &Call, authority: &str, seen: &Seen, headers: &HeaderMap, case: &Case) {
        let what = |what: &str| format!("upstream, {lane}: {what}");
        self.headers(&what("header"), headers, &call.headers);
        let path = seen.request.uri().path_and_query().map_or("", |path| path.as_str());
        self.check(&what("path"), &path, &call.path.as_str());
        self.check(&what("method"), &seen.request.method().as_str(), &call.http_method.as_str());
        self.check(&what("scheme"), &"http", &call.scheme.as_str());
        // Allowed::Authority
        self.check(&what("authority"), &authority, &call.authority.as_str());
        // A client may stop short of sending all.
        let is_whole = !matches!(case.act, Act::CancelHalfSent(_) | Act::CancelUnsent(_)) && case.is_read;
        if is_whole && !got(call, &seen.body) {
            self.0.push(format!("upstream, {lane}: {} bytes that are not the {} sent: {:?}", call.body_len, seen.body.len(), call.body));
        }
    }

    /// Fields of one name keep their order; the order of names means nothing (RFC 9110, section 5.3).
    fn headers(&mut self, what: &str, expected: &HeaderMap, found: &HeaderMap) {
        let by_name = |headers: &HeaderMap| {
            let mut names: BTreeMap<String, Vec<HeaderValue>> = BTreeMap::new();
            for (name, value) in headers {
                names.entry(name.to_string()).or_default().push(value.clone());
            }
            names
        };
        let (expected, found) = (by_name(expected), by_name(found));
        for name in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
            self.check(&format!("{what} {name}"), &expected.get(name), &found.get(name));
        }
    }
}

/// A gRPC frame of an answer, or what there is of it.
struct Frame<'a> {
    flag: u8,
    /// `None` if the frame's header breaks off.
    length: Option<usize>,
    message: &'a [u8],
}

impl Frame<'_> {
    fn is_whole(&self) -> bool {
        self.length == Some(self.message.len())
    }

    fn show(&self, path: &str) -> String {
        let message = alike(path, self.message);
        let shown = &message[..message.len().min(2000)];
        format!("flag {}, {:?} bytes, {} there: {:?}", self.flag, self.length, self.message.len(), bytes::Bytes::copy_from_slice(shown))
    }
}

fn split(mut body: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((&flag, rest)) = body.split_first() {
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            frames.push(Frame { flag, length: None, message: rest });
            break;
        };
        let length = u32::from_be_bytes(*length) as usize;
        let (message, rest) = rest.split_at(length.min(rest.len()));
        frames.push(Frame { flag, length: Some(length), message });
        body = rest;
    }
    frames
}
