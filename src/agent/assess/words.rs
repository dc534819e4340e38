//! Durations, amounts and times for people.

use jiff::Timestamp;

/// `42 s`, `5 min`, `7 h`, `3 d`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `148 B`, `12 KiB`, `3 MiB`.
pub(super) fn bytes(amount: u64) -> String {
    match amount {
        0..1_024 => format!("{amount} B"),
        1_024..1_048_576 => format!("{} KiB", amount >> 10),
        _ => format!("{} MiB", amount >> 20),
    }
}

/// The time of the day, with the date when it is more than a day before `wall`.
pub(super) fn clock_time(at: Timestamp, wall: Timestamp) -> String {
    let is_recent = wall.duration_since(at).as_secs() < 86_400;
    at.strftime(if is_recent { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M UTC" }).to_string()
}

/// `once`, `twice`, `5 times`.
pub(super) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}
