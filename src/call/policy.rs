//! Pure decisions and the constants behind them.

use std::time::Duration;

use super::message::Facts;
use super::method::Method;

/// The most metadata that a call may carry, in bytes as HTTP/2 counts them (name + value + 32 per field). Error trailers of
/// 13 KB have been seen and Google's front ends allow somewhat more; gRPC's own default is 8 KiB (soft) to 16 KiB (hard).
pub const MAX_METADATA: usize = 64 << 10;

/// How often one call is sent upstream at the most. Three channels in a row that refuse a call say that the trouble is not
/// the channel.
pub const MAX_ATTEMPTS: u32 = 3;

/// How long a call waits for a first channel or token when it has a later deadline or none. Long enough for a warm-up with
/// slow DNS and TLS, short enough that a caller without a deadline does not hang.
pub const MAX_WAIT: Duration = Duration::from_secs(5);

/// Whether a `content-type` is gRPC's: `application/grpc`, also with `+proto` or parameters behind it.
pub fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Reads `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Writes `grpc-timeout` in the finest unit that has room for it.
pub fn timeout_header(timeout: Duration) -> String {
    const ROOM: u128 = 99_999_999;
    let units: [(u128, char); 5] = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (timeout.as_secs().into(), 'S'),
        (u128::from(timeout.as_secs() / 3600), 'H'),
    ];
    let (number, unit) = units.into_iter().find(|(number, _)| *number <= ROOM).unwrap_or((ROOM, 'H'));
    format!("{number}{unit}")
}

/// The length of a message, from its gRPC frame header.
pub fn message_length(header: &[u8; super::FRAME_HEADER]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

/// Whether a call may go upstream again although it is not known what became of the first copy.
///
/// DML in a single-use `ExecuteSql` does not exist (Spanner refuses it), so a single-use statement reads.
pub fn repeatable(method: &Method, facts: &Facts<'_>) -> bool {
    facts.resource.is_some() && method.may_repeat(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc_are_told_from_others() {
        for yes in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(is_grpc(yes.as_bytes()), "{yes}");
        }
        for no in ["application/grpc-web", "application/json", "", "application/grpcx"] {
            assert!(!is_grpc(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_timeout_is_read_and_written_in_every_unit() {
        for (text, duration) in [
            ("1n", Duration::from_nanos(1)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("30S", Duration::from_secs(30)),
            ("2M", Duration::from_secs(120)),
            ("1H", Duration::from_secs(3600)),
        ] {
            assert_eq!(timeout(text.as_bytes()), Some(duration), "{text}");
        }
        for bad in ["", "S", "1", "123456789S", "1s", "-1S", "1.5S", "1 S"] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(timeout_header(Duration::from_millis(250)), "250000u");
        assert_eq!(timeout_header(Duration::from_secs(3600)), "3600000m");
        assert_eq!(timeout_header(Duration::MAX), "99999999H");
    }
}
