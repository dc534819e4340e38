//! Parses numbers as Prometheus does: as Go's `strconv.ParseFloat`, without hexadecimal numbers and underscores.

use super::fault::Fault;

/// A number with at most this many digits, and an exponent of at most two, is within the range of a double (1.8e308).
const HARMLESS_DIGITS: usize = 200;

/// Whether `text` is a number. `Inf` and `Infinity` in any case, with or without a sign, and `NaN` without one are.
///
/// # Errors
/// [`Fault::Value`] when it is not a number; [`Fault::Range`] when a double cannot hold it.
pub(super) fn check(text: &[u8]) -> Result<(), Fault> {
    let unsigned = unsigned(text);
    if is_infinite(text) || unsigned.len() == text.len() && text.eq_ignore_ascii_case(b"nan") {
        return Ok(());
    }
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    let mut mantissa = whole;
    if let [b'.', behind @ ..] = rest {
        let fraction = digits(behind);
        mantissa += fraction;
        rest = &behind[fraction..];
    }
    if mantissa == 0 {
        return Err(Fault::Value);
    }
    let mut exponent = 0;
    if let [b'e' | b'E', behind @ ..] = rest {
        let behind = self::unsigned(behind);
        exponent = digits(behind);
        if exponent == 0 {
            return Err(Fault::Value);
        }
        rest = &behind[exponent..];
    }
    match rest {
        [] if mantissa <= HARMLESS_DIGITS && exponent <= 2 => Ok(()),
        [] => in_range(text),
        _ => Err(Fault::Value),
    }
}

/// Whether `text` is a number, and neither infinite nor NaN.
pub(super) fn is_finite(text: &[u8]) -> bool {
    check(text).is_ok() && !is_infinite(text) && !text.eq_ignore_ascii_case(b"nan")
}

/// Whether `text` is a number of whole milliseconds, without a sign: a timestamp of the text format.
pub(super) fn is_milliseconds(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<u64>().is_ok_and(|stamp| i64::try_from(stamp).is_ok()))
}

fn is_infinite(text: &[u8]) -> bool {
    let text = unsigned(text);
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

fn in_range(text: &[u8]) -> Result<(), Fault> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    if number.is_some_and(f64::is_finite) { Ok(()) } else { Err(Fault::Range) }
}

fn unsigned(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        _ => text,
    }
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}
