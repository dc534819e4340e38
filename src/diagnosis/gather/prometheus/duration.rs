//! Durations as Prometheus writes them: `15s`, `1m30s`, `500ms`.

/// Units and their milliseconds, the larger first, as Prometheus orders them (common/model, Duration).
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds; `None` when the text is not a duration.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut whole: u64 = 0;
    let mut next = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        // Each unit at most once, in descending order.
        let at = next + UNITS[next..].iter().position(|(name, _)| *name == unit)?;
        whole = whole.checked_add(number.parse::<u64>().ok()?.checked_mul(UNITS[at].1)?)?;
        next = at + 1;
        rest = after;
    }
    (next > 0).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        for (text, expected) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1h1m1s1ms", 3_661_001),
            ("1d", 86_400_000),
            ("2w", 1_209_600_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        for text in ["", "s", "15", "1s1m", "1.5s", "1s1s", "-1s", "1x", "99999999999999999999s"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }
}
