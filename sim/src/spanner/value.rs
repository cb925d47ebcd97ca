//! Values as the API carries them (`google.protobuf.Value`), checked and ordered by their Spanner type.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use googleapis_tonic_google_spanner_v1::google::spanner::v1::{Type, TypeCode};
use prost_types::value::Kind;
use prost_types::{Timestamp, Value};

/// Written in place of a value, it becomes the commit's timestamp.
const COMMIT_TIMESTAMP: &str = "spanner.commit_timestamp()";

pub(super) fn null() -> Value {
    Value { kind: Some(Kind::NullValue(0)) }
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

pub(super) fn int(n: i64) -> Value {
    text(n.to_string())
}

pub(super) fn is_null(value: &Value) -> bool {
    matches!(value.kind, None | Some(Kind::NullValue(_)))
}

pub(super) fn is_commit_timestamp(value: &Value) -> bool {
    matches!(&value.kind, Some(Kind::StringValue(s)) if s == COMMIT_TIMESTAMP)
}

pub(super) fn as_int(value: &Value) -> Option<i64> {
    match &value.kind {
        Some(Kind::StringValue(s)) => s.parse().ok(),
        _ => None,
    }
}

pub(super) fn simple(code: TypeCode) -> Type {
    Type { code: code as i32, ..Type::default() }
}

/// Whether a value has the wire form of its type (the table in `google/spanner/v1/type.proto`).
pub(super) fn fits(value: &Value, ty: &Type) -> bool {
    let code = TypeCode::try_from(ty.code).unwrap_or(TypeCode::Unspecified);
    match (&value.kind, code) {
        (None | Some(Kind::NullValue(_)), _) | (Some(Kind::BoolValue(_)), TypeCode::Bool) => true,
        (Some(Kind::NumberValue(_)), TypeCode::Float64 | TypeCode::Float32) => true,
        (Some(Kind::StringValue(s)), _) => string_fits(s, code),
        (Some(Kind::ListValue(list)), TypeCode::Array) => {
            ty.array_element_type.as_deref().is_some_and(|element| list.values.iter().all(|v| fits(v, element)))
        }
        _ => false,
    }
}

fn string_fits(s: &str, code: TypeCode) -> bool {
    match code {
        TypeCode::Int64 => s.parse::<i64>().is_ok(),
        TypeCode::Float64 | TypeCode::Float32 => matches!(s, "NaN" | "Infinity" | "-Infinity"),
        TypeCode::Timestamp => s == COMMIT_TIMESTAMP || (s.ends_with('Z') && s.parse::<Timestamp>().is_ok()),
        TypeCode::Date => is_date(s),
        TypeCode::Bytes => STANDARD.decode(s).is_ok(),
        TypeCode::Numeric => s.parse::<f64>().is_ok_and(f64::is_finite),
        TypeCode::String | TypeCode::Json | TypeCode::Uuid => true,
        _ => false,
    }
}

fn is_date(s: &str) -> bool {
    let mut parts = s.split('-').map(str::parse::<u32>);
    let fields = (parts.next(), parts.next(), parts.next(), parts.next());
    matches!(fields, (Some(Ok(1..=9999)), Some(Ok(1..=12)), Some(Ok(1..=31)), None))
}

/// A part of a primary key, ordered as Spanner orders it: NULL first, or last when the part is descending.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum KeyPart {
    Ascending(Scalar),
    Descending(std::cmp::Reverse<Scalar>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// A float's bits, mapped so that they sort as the numbers do.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    Time(i64, i32),
    List(Vec<Scalar>),
}

/// The order-preserving form of a value that [`fits`] its type.
pub(super) fn scalar(value: &Value, ty: &Type) -> Scalar {
    let code = TypeCode::try_from(ty.code).unwrap_or(TypeCode::Unspecified);
    match &value.kind {
        None | Some(Kind::NullValue(_)) | Some(Kind::StructValue(_)) => Scalar::Null,
        Some(Kind::BoolValue(b)) => Scalar::Bool(*b),
        Some(Kind::NumberValue(n)) => Scalar::Float(float_bits(*n)),
        Some(Kind::ListValue(list)) => {
            let element = ty.array_element_type.as_deref().cloned().unwrap_or_default();
            Scalar::List(list.values.iter().map(|v| scalar(v, &element)).collect())
        }
        Some(Kind::StringValue(s)) => match code {
            TypeCode::Int64 => s.parse().map_or(Scalar::Null, Scalar::Int),
            TypeCode::Float64 | TypeCode::Float32 | TypeCode::Numeric => Scalar::Float(float_bits(s.parse().unwrap_or(f64::NAN))),
            TypeCode::Timestamp => s.parse::<Timestamp>().map_or(Scalar::Null, |t| Scalar::Time(t.seconds, t.nanos)),
            TypeCode::Bytes => Scalar::Bytes(STANDARD.decode(s).unwrap_or_default()),
            _ => Scalar::Text(s.clone()),
        },
    }
}

pub(super) fn key_part(value: &Value, ty: &Type, descending: bool) -> KeyPart {
    let scalar = scalar(value, ty);
    if descending { KeyPart::Descending(std::cmp::Reverse(scalar)) } else { KeyPart::Ascending(scalar) }
}

/// The total order of IEEE 754 on the bits: flip all bits of negatives, the sign bit of the others.
fn float_bits(n: f64) -> u64 {
    // NaN sorts before every number, and -0 is 0.
    if n.is_nan() {
        return 0;
    }
    let bits = (if n == 0.0 { 0.0 } else { n }).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Compares two values of one type; `None` when either is NULL.
pub(super) fn compare(a: &Value, b: &Value, ty: &Type) -> Option<Ordering> {
    if is_null(a) || is_null(b) {
        return None;
    }
    Some(scalar(a, ty).cmp(&scalar(b, ty)))
}

/// Turns a literal or an untyped parameter into the wire form of a column's type where SQL does so implicitly.
pub(super) fn coerce(value: Value, ty: &Type) -> Value {
    let float = matches!(TypeCode::try_from(ty.code), Ok(TypeCode::Float64 | TypeCode::Float32));
    match &value.kind {
        Some(Kind::StringValue(s)) if float => match s.parse::<i64>() {
            #[allow(clippy::cast_precision_loss)]
            Ok(n) => Value { kind: Some(Kind::NumberValue(n as f64)) },
            Err(_) => value,
        },
        _ => value,
    }
}

/// Microseconds since 1970 as the API's timestamp.
pub(super) fn timestamp(micros: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1000).unwrap_or(0),
    }
}

/// The inverse of [`timestamp`], rounded down; times before 1970 become 0.
pub(super) fn micros(time: &Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let nanos = u64::try_from(time.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_sort_as_numbers() {
        let sorted = [f64::NAN, f64::NEG_INFINITY, -2.5, -0.0, 1e-9, 3.0, f64::INFINITY];
        let bits: Vec<u64> = sorted.iter().map(|n| float_bits(*n)).collect();
        assert!(bits.is_sorted_by(|a, b| a < b), "{bits:?}");
        assert_eq!(float_bits(0.0), float_bits(-0.0));
    }

    #[test]
    fn values_must_have_the_wire_form_of_their_type() {
        let good = |v: &str, code| fits(&text(v), &simple(code));
        assert!(good("-5", TypeCode::Int64) && !good("5.0", TypeCode::Int64));
        assert!(good("2024-02-29", TypeCode::Date) && !good("2024-13-01", TypeCode::Date));
        assert!(good("2024-01-01T00:00:00.5Z", TypeCode::Timestamp) && !good("yesterday", TypeCode::Timestamp));
        assert!(good("aGk=", TypeCode::Bytes) && !good("!", TypeCode::Bytes));
        assert!(good("NaN", TypeCode::Float64) && !good("1.5", TypeCode::Float64));
        assert!(fits(&null(), &simple(TypeCode::Int64)));
    }

    #[test]
    fn times_compare_as_times_not_as_text() {
        let (a, b) = (text("2024-01-01T00:00:00Z"), text("2024-01-01T00:00:00.5Z"));
        assert_eq!(compare(&a, &b, &simple(TypeCode::Timestamp)), Some(Ordering::Less));
    }
}
