//! A table as kubectl prints it.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::admin::ConnectorView;

/// Spaces between columns, as kubectl.
const GAP: usize = 3;
/// What stands for nothing, so that every line has the same number of words.
const NOTHING: &str = "<none>";

/// The table with its header. Times are shown as ages at `now`.
pub(super) fn render(views: &[ConnectorView], with_namespace: bool, wide: bool, now: Timestamp) -> String {
    let mut lines = vec![header(with_namespace, wide)];
    lines.extend(views.iter().map(|view| row(view, with_namespace, wide, now)));
    let mut widths = vec![0; lines[0].len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let mut columns = line.iter().zip(&widths).peekable();
        while let Some((cell, &width)) = columns.next() {
            text.push_str(cell);
            let pad = if columns.peek().is_some() { width + GAP - cell.chars().count() } else { 0 };
            text.extend(std::iter::repeat_n(' ', pad));
        }
        text.push('\n');
    }
    text
}

fn header(with_namespace: bool, wide: bool) -> Vec<Cow<'static, str>> {
    let mut cells = Vec::new();
    if with_namespace {
        cells.push("NAMESPACE");
    }
    cells.extend(["NAME", "STATE", "READY", "CAUSE", "LAST CONTACT", "VERSION", "RESTARTS", "AGE"]);
    if wide {
        cells.extend(["HEALTH", "SITE", "ADDRESS", "TOKEN AGE"]);
    }
    cells.into_iter().map(Cow::Borrowed).collect()
}

fn row(view: &ConnectorView, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Cow<'_, str>> {
    let mut cells: Vec<Cow<str>> = Vec::new();
    if with_namespace {
        cells.push(view.namespace.as_str().into());
    }
    let contact = view.last_heartbeat_time.map_or("<never>".into(), |at| exact_age(seconds(at, now)).into());
    cells.extend([
        view.name.as_str().into(),
        view.state.as_str().into(),
        view.ready.as_str().into(),
        view.cause.map_or(NOTHING, |cause| cause.as_str()).into(),
        contact,
        said(view.version.as_deref()),
        view.restarts.to_string().into(),
        rough(view.created_time, now),
    ]);
    if wide {
        cells.extend([
            said(view.health.as_deref()),
            said(Some(&view.site)),
            said(view.address.as_deref()),
            rough(view.token_issued_time, now),
        ]);
    }
    cells
}

/// What somebody else said, safe for a terminal: an agent chooses its version freely, escape sequences included.
fn said(text: Option<&str>) -> Cow<'_, str> {
    match text {
        None | Some("") => NOTHING.into(),
        Some(text) if text.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            let clean = |c: char| if c.is_control() || c.is_whitespace() { '_' } else { c };
            text.chars().map(clean).collect::<String>().into()
        }
        Some(text) => text.into(),
    }
}

fn rough(at: Option<Timestamp>, now: Timestamp) -> Cow<'static, str> {
    at.map_or("<unknown>".into(), |at| human_age(seconds(at, now)).into())
}

/// Whole seconds from `at` to `now`; our clock may be behind the operator's, and nothing is younger than now.
fn seconds(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0)
}

/// An age to the second within the first hour, which is when it matters, and to two units later.
fn exact_age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => two(seconds, (60, "m"), (1, "s")),
        3_600..86_400 => two(seconds, (3_600, "h"), (60, "m")),
        _ => two(seconds, (86_400, "d"), (3_600, "h")),
    }
}

/// An age as kubectl writes it (`duration.HumanDuration` of k8s.io/apimachinery).
fn human_age(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    if seconds < 2 * MINUTE {
        format!("{seconds}s")
    } else if seconds < 10 * MINUTE {
        two(seconds, (MINUTE, "m"), (1, "s"))
    } else if seconds < 3 * HOUR {
        format!("{}m", seconds / MINUTE)
    } else if seconds < 8 * HOUR {
        two(seconds, (HOUR, "h"), (MINUTE, "m"))
    } else if seconds < 2 * DAY {
        format!("{}h", seconds / HOUR)
    } else if seconds < 8 * DAY {
        two(seconds, (DAY, "d"), (HOUR, "h"))
    } else if seconds < 2 * YEAR {
        format!("{}d", seconds / DAY)
    } else if seconds < 8 * YEAR {
        two(seconds, (YEAR, "y"), (DAY, "d"))
    } else {
        format!("{}y", seconds / YEAR)
    }
}

/// `seconds` in a large and a small unit; the small one is left out when it is zero.
fn two(seconds: u64, (large, large_name): (u64, &str), (small, small_name): (u64, &str)) -> String {
    match (seconds / large, seconds % large / small) {
        (large, 0) => format!("{large}{large_name}"),
        (large, small) => format!("{large}{large_name}{small}{small_name}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::Truth;
    use crate::api::{Cause, ConnectorState};

    pub(crate) fn edge_1() -> ConnectorView {
        let time = |text: &str| Some(text.parse().unwrap());
        ConnectorView {
            namespace: "gateways".to_owned(),
            name: "edge-1".to_owned(),
            connector_id: "gateways/edge-1".to_owned(),
            site: String::new(),
            state: ConnectorState::Online,
            ready: Truth::True,
            cause: None,
            message: None,
            advice: None,
            last_heartbeat_time: time("2026-11-22T11:59:57Z"),
            state_since: time("2026-11-22T10:00:00Z"),
            health: Some("ChecksPassed".to_owned()),
            version: Some("1.4.2".to_owned()),
            hostname: Some("gw-1".to_owned()),
            address: Some("192.0.2.7".to_owned()),
            token_issued_time: time("2026-11-20T12:00:00Z"),
            restarts: 0,
            created_time: time("2026-11-12T12:00:00Z"),
            checks: Vec::new(),
            paused: false,
            written: true,
        }
    }

    fn silent() -> ConnectorView {
        ConnectorView {
            name: "edge-longer-name".to_owned(),
            site: "lyon".to_owned(),
            state: ConnectorState::Offline,
            ready: Truth::False,
            cause: Some(Cause::HeartbeatExpired),
            last_heartbeat_time: Some("2026-11-22T09:59:50Z".parse().unwrap()),
            health: Some("Stale".to_owned()),
            version: None,
            address: None,
            token_issued_time: None,
            restarts: 2,
            ..edge_1()
        }
    }

    fn noon() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_table_reads_like_kubectls() {
        let expected = "\
NAME               STATE     READY   CAUSE              LAST CONTACT   VERSION   RESTARTS   AGE
edge-1             Online    True    <none>             3s             1.4.2     0          10d
edge-longer-name   Offline   False   HeartbeatExpired   2h             <none>    2          10d
";
        assert_eq!(render(&[edge_1(), silent()], false, false, noon()), expected);
    }

    #[test]
    fn wide_and_all_namespaces_add_columns_at_the_ends() {
        let mut never = edge_1();
        never.last_heartbeat_time = None;
        let expected = "\
NAMESPACE   NAME               STATE     READY   CAUSE              LAST CONTACT   VERSION   RESTARTS   AGE   HEALTH         SITE     ADDRESS     TOKEN AGE
gateways    edge-1             Online    True    <none>             <never>        1.4.2     0          10d   ChecksPassed   <none>   192.0.2.7   2d
gateways    edge-longer-name   Offline   False   HeartbeatExpired   2h             <none>    2          10d   Stale          lyon     <none>      <unknown>
";
        assert_eq!(render(&[never, silent()], true, true, noon()), expected);
    }

    #[test]
    fn what_an_agent_says_cannot_move_the_cursor() {
        let mut view = edge_1();
        view.version = Some("1\x1b[2J\n2".to_owned());
        let text = render(&[view], false, false, noon());
        assert!(text.contains("1_[2J_2"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_contact_is_exact_to_the_second_for_an_hour() {
        let cases = [(0, "0s"), (3, "3s"), (59, "59s"), (60, "1m"), (130, "2m10s"), (3_599, "59m59s"), (3_600, "1h")];
        for (seconds, text) in cases.into_iter().chain([(7_260, "2h1m"), (90_000, "1d1h")]) {
            assert_eq!(exact_age(seconds), text);
        }
    }

    #[test]
    fn an_age_is_written_as_kubectl_writes_it() {
        let cases = [(119, "119s"), (120, "2m"), (130, "2m10s"), (600, "10m"), (10_799, "179m"), (10_860, "3h1m")];
        let later = [(28_800, "8h"), (172_800, "2d"), (176_400, "2d1h"), (691_200, "8d"), (63_158_400, "2y1d")];
        for (seconds, text) in cases.into_iter().chain(later) {
            assert_eq!(human_age(seconds), text);
        }
    }

    #[test]
    fn a_contact_ahead_of_our_clock_is_now() {
        assert_eq!(seconds("2026-11-22T12:00:05Z".parse().unwrap(), noon()), 0);
    }
}
