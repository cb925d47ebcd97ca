//! gRPC statuses as Google sends them: code, message, and details both in `grpc-status-details-bin` and in the older
//! per-type trailers (`google.rpc.retryinfo-bin`) that some clients read instead.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use googleapis_tonic_google_spanner_v1::google::rpc;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;

/// The status codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// How a call ends: the trailers it gets.
#[derive(Clone, Debug)]
pub struct Status {
    /// The code of `grpc-status`.
    pub code: Code,
    /// The text of `grpc-message`; empty means that the trailer is left out.
    pub message: String,
    details: Vec<prost_types::Any>,
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Status { code, message: message.into(), details: Vec::new() }
    }

    /// The status of success.
    pub fn ok() -> Self {
        Status::new(Code::Ok, "")
    }

    /// Adds a `google.rpc.RetryInfo`, as Spanner does on ABORTED.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        let info = rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration {
                seconds: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                nanos: delay.subsec_nanos().cast_signed(),
            }),
        };
        self.detail("google.rpc.RetryInfo", &info)
    }

    /// Adds a `google.rpc.ResourceInfo`, as Spanner does on NOT_FOUND.
    #[must_use]
    pub fn resource(self, resource_type: &str, name: &str, description: &str) -> Self {
        let info = rpc::ResourceInfo {
            resource_type: resource_type.into(),
            resource_name: name.into(),
            owner: String::new(),
            description: description.into(),
        };
        self.detail("google.rpc.ResourceInfo", &info)
    }

    /// Adds a `google.rpc.ErrorInfo`, as Google's front ends do on authentication and quota errors.
    #[must_use]
    pub fn error_info(self, reason: &str, domain: &str) -> Self {
        let info = rpc::ErrorInfo { reason: reason.into(), domain: domain.into(), ..Default::default() };
        self.detail("google.rpc.ErrorInfo", &info)
    }

    /// Adds any message as a detail; `type_name` is its full protobuf name.
    #[must_use]
    pub fn detail(mut self, type_name: &str, message: &impl Message) -> Self {
        self.details.push(prost_types::Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() });
        self
    }

    pub(crate) fn to_proto(&self) -> rpc::Status {
        rpc::Status { code: self.code as i32, message: self.message.clone(), details: self.details.clone() }
    }

    /// The trailers of a call that ends with this status.
    pub fn trailers(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(2 + self.details.len());
        map.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.message.is_empty() {
            insert(&mut map, HeaderName::from_static("grpc-message"), &percent_encode(&self.message));
        }
        if self.details.is_empty() {
            return map;
        }
        for detail in &self.details {
            let Some(name) = detail.type_url.rsplit('/').next() else {
                continue;
            };
            if let Ok(name) = HeaderName::try_from(format!("{}-bin", name.to_ascii_lowercase())) {
                insert(&mut map, name, &STANDARD_NO_PAD.encode(&detail.value));
            }
        }
        let all = self.to_proto().encode_to_vec();
        insert(&mut map, HeaderName::from_static("grpc-status-details-bin"), &STANDARD_NO_PAD.encode(all));
        map
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

fn insert(map: &mut HeaderMap, name: HeaderName, value: &str) {
    // Both encodings yield visible ASCII only, so this never drops a value.
    if let Ok(value) = HeaderValue::from_str(value) {
        map.insert(name, value);
    }
}

/// The encoding of `grpc-message` (gRPC over HTTP/2, "Responses"): everything but visible ASCII and `%` as `%XX`.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn message_is_percent_encoded() {
        assert_eq!(percent_encode("50% \u{e9}\n"), "50%25 %C3%A9%0A");
    }

    #[test]
    fn details_come_in_both_trailers() {
        let trailers = Status::new(Code::Aborted, "again").retry_after(Duration::from_millis(1500)).trailers();
        assert_eq!(trailers["grpc-status"], "10");
        let bytes = STANDARD_NO_PAD.decode(&trailers["grpc-status-details-bin"]).unwrap();
        let status = rpc::Status::decode(bytes.as_slice()).unwrap();
        assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let info = STANDARD_NO_PAD.decode(&trailers["google.rpc.retryinfo-bin"]).unwrap();
        let delay = rpc::RetryInfo::decode(info.as_slice()).unwrap().retry_delay.unwrap();
        assert_eq!((delay.seconds, delay.nanos), (1, 500_000_000));
    }

    #[test]
    fn success_is_one_trailer() {
        assert_eq!(Status::ok().trailers().len(), 1);
    }
}
