//! The framing of gRPC over HTTP/2: length-prefixed messages, their compression, and `grpc-timeout`.

use std::io::Read as _;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::status::{Code, Status};

/// Length of the prefix of each message: one flag byte and four of length.
pub const PREFIX: usize = 5;

/// Bound of one decompressed request, so that a bomb cannot fill the memory. Spanner's own limit is about 100 MB.
const MAX_DECOMPRESSED: u64 = 256 << 20;

/// One message with its prefix, uncompressed.
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX + message.len());
    out.extend_from_slice(&prefix(message.len()));
    out.extend_from_slice(message);
    out.freeze()
}

/// Encodes a message straight behind its prefix.
pub fn frame_proto(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + len);
    out.put_slice(&prefix(len));
    // Fails only for want of room, and the buffer grows.
    message.encode(&mut out).ok();
    out.freeze()
}

pub(crate) fn prefix(len: usize) -> [u8; PREFIX] {
    // Longer messages cannot be built: the builders of scripts take lengths of at most u32.
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// Splits a request's body into (compressed, message) pairs; what is left over is a truncated message.
pub fn split(mut body: Bytes) -> (Vec<(bool, Bytes)>, Bytes) {
    let mut out = Vec::with_capacity(1);
    while let Some(&[flag, a, b, c, d]) = body.first_chunk::<PREFIX>() {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if body.len() - PREFIX < len {
            break;
        }
        let message = body.slice(PREFIX..PREFIX + len);
        body = body.slice(PREFIX + len..);
        out.push((flag != 0, message));
    }
    (out, body)
}

/// The one message of a request, decompressed if it has to be.
pub(crate) fn unary_message(body: Bytes, encoding: Option<&[u8]>) -> Result<Bytes, Status> {
    let gzip = match encoding {
        None | Some(b"identity") => false,
        Some(b"gzip") => true,
        Some(other) => {
            let name = String::from_utf8_lossy(other);
            let text = format!("sim: grpc-encoding {name} is not supported; use identity or gzip");
            return Err(Status::new(Code::Unimplemented, text));
        }
    };
    let internal = |text: &str| Status::new(Code::Internal, format!("sim: {text}"));
    let (messages, rest) = split(body);
    if !rest.is_empty() {
        return Err(internal("the request ends within a message"));
    }
    let mut messages = messages.into_iter();
    let Some((compressed, message)) = messages.next() else {
        return Err(internal("the request has no message"));
    };
    if messages.next().is_some() {
        return Err(internal("the request of a unary method has more than one message"));
    }
    match (compressed, gzip) {
        (false, _) => Ok(message),
        (true, true) => gunzip(&message),
        (true, false) => Err(internal("compressed flag set, but grpc-encoding is identity or missing")),
    }
}

fn gunzip(message: &[u8]) -> Result<Bytes, Status> {
    let mut out = Vec::with_capacity(message.len().saturating_mul(3));
    let mut limited = flate2::read::GzDecoder::new(message).take(MAX_DECOMPRESSED + 1);
    if let Err(e) = limited.read_to_end(&mut out) {
        return Err(Status::new(Code::Internal, format!("sim: the message is not valid gzip: {e}")));
    }
    if out.len() as u64 > MAX_DECOMPRESSED {
        return Err(Status::new(Code::ResourceExhausted, "sim: the message is too large when decompressed"));
    }
    Ok(out.into())
}

/// Parses `grpc-timeout`: up to eight digits and a unit.
pub(crate) fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn frames_split_back_into_messages() {
        let mut body = BytesMut::from(&frame(b"one")[..]);
        body.extend_from_slice(&frame(b""));
        body.extend_from_slice(&[0, 0, 0, 0, 9, 1]);
        let (messages, rest) = split(body.freeze());
        assert_eq!(messages, [(false, Bytes::from_static(b"one")), (false, Bytes::new())]);
        assert_eq!(rest.len(), 6);
    }

    #[test]
    fn a_request_is_exactly_one_message() {
        let code = |body: Bytes, encoding| unary_message(body, encoding).map_err(|s| s.code);
        assert_eq!(code(frame(b"x"), None), Ok(Bytes::from_static(b"x")));
        assert_eq!(code(Bytes::new(), None), Err(Code::Internal));
        assert_eq!(code(frame(b"x").slice(..5), None), Err(Code::Internal));
        assert_eq!(code([frame(b"x"), frame(b"y")].concat().into(), None), Err(Code::Internal));
        assert_eq!(code(frame(b"x"), Some(b"br")), Err(Code::Unimplemented));
    }

    #[test]
    fn gzip_needs_both_the_flag_and_the_header() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello").unwrap();
        let mut body = frame(&gz.finish().unwrap()).to_vec();
        body[0] = 1;
        let body = Bytes::from(body);
        assert_eq!(unary_message(body.clone(), Some(b"gzip")).unwrap(), "hello");
        assert_eq!(unary_message(body, None).unwrap_err().code, Code::Internal);
        assert_eq!(unary_message(frame(b"plain"), Some(b"gzip")).unwrap(), "plain");
    }

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        assert_eq!(timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout(b"2S"), Some(Duration::from_secs(2)));
        for bad in [&b""[..], b"S", b"123456789S", b"1x", b"-1S"] {
            assert_eq!(timeout(bad), None);
        }
    }
}
