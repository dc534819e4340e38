//! Units that their host restarts, or that ended by an error, as the agent on the host sees them.

use jiff::SignedDuration;

use super::agent::{
    answers_locally, began, code, code_in_brackets, colon, failing_view, finished, has_served, host, is_container,
    is_young, logs, start, unit, words,
};
use super::crash_loop_database::{advice as database_advice, reason as database_reason};
use super::rollout::startup;
use super::text::since;
use super::{Finding, is_explained_before};
use crate::api::{AgentView, Cause, TargetState};
use crate::diagnosis::evidence::Evidence;
use crate::diagnosis::extract::{ExtractSubject, extract};

/// From this number of restarts by its host in the last 15 minutes on, a unit that does not stay up crashes again and again.
const MANY_RESTARTS: i64 = 3;
/// How long after a start a unit with many restarts may be about to end again: systemd and Docker wait less between two
/// starts.
const BETWEEN_CRASHES: SignedDuration = SignedDuration::from_mins(2);

/// The subject of its last words: they are what the agent's extractor left of its log.
fn subject(view: &AgentView) -> Option<ExtractSubject> {
    let words = words(view)?;
    match extract(&words).kind {
        // A Description and an Action are Spring's failure analysis; their headings are not part of the extract.
        ExtractSubject::Other if words.starts_with('"') || words.contains("Action: \"") => {
            Some(ExtractSubject::Configuration)
        }
        kind => Some(kind),
    }
}

pub(super) fn out_of_memory(e: &Evidence) -> Option<Finding> {
    use TargetState::{Exited, Failed, Inactive, Restarting, Running};
    let view = failing_view(e).filter(|view| view.oom_killed)?;
    let ended = matches!(view.state, Exited | Failed | Inactive | Restarting);
    if !(ended || (view.state == Running && is_young(e, view, startup(e)))) {
        return None;
    }
    let raise = match is_container(view) {
        true => "mem_limit, or deploy.resources.limits.memory, in the compose file",
        false => "MemoryMax= of the unit",
    };
    let start = start(view);
    let finding = Finding::new(
        Cause::OutOfMemory,
        format!("{} was killed for memory{}", unit(view), since(began(view))),
        format!(
            "Raise its memory limit ({raise}) or give the host more memory, or lower what it takes (for a JVM -XX:MaxRAMPercentage or -Xmx); then start it: {start} on {}. A restart alone only delays the next kill",
            host(view)
        ),
    );
    Some(finished(e, view, finding))
}

/// Whether it starts and ends again and again.
fn is_looping(e: &Evidence, view: &AgentView) -> bool {
    use TargetState::{Activating, Restarting, Running};
    // The total of a unit that has run for a year says nothing about now. Evidence that was saved before has only that.
    let many = view.recent_restarts.or(view.restarts).is_some_and(|restarts| restarts >= MANY_RESTARTS);
    let about_to_end = || is_young(e, view, BETWEEN_CRASHES) && began(view).is_some() && !has_served(e, view);
    many && match view.state {
        Restarting => true,
        Running | Activating => about_to_end() && !answers_locally(view),
        _ => false,
    }
}

/// The view of a unit that ended by an error of its own.
fn crashed(e: &Evidence) -> Option<&AgentView> {
    use TargetState::{Exited, Failed, Restarting};
    let view = failing_view(e).filter(|view| !view.stopped_on_purpose)?;
    let ended = matches!(view.state, Exited | Failed | Restarting) && view.exit_code != Some(0);
    (ended || is_looping(e, view)).then_some(view)
}

pub(super) fn crash_loop_config(e: &Evidence) -> Option<Finding> {
    let view = crashed(e)?;
    let (what, advice) = match subject(view)? {
        ExtractSubject::PortInUse(port) => {
            let port = port.map(|port| format!("port {port}")).unwrap_or_else(|| "its port".to_owned());
            let advice = format!("Stop what holds {port} on {} (`ss -ltnp`), or give it another port", host(view));
            (format!("{port} is in use already"), advice)
        }
        ExtractSubject::Configuration => {
            ("its configuration is wrong".to_owned(), "Correct the configuration".to_owned())
        }
        _ => return None,
    };
    let finding = Finding::new(
        Cause::CrashLoopConfig,
        format!("{} ends at start, {what}{}", unit(view), colon(words(view))),
        format!("{advice}; a restart repeats the same start. Its last words: {}", logs(view)),
    );
    Some(finished(e, view, finding))
}

pub(super) fn crash_loop_database(e: &Evidence) -> Option<Finding> {
    let view = crashed(e).filter(|view| is_looping(e, view) || view.state == TargetState::Restarting)?;
    let (what, advice) = match subject(view)? {
        ExtractSubject::DatabaseRefuses(refusal) => (
            format!("its database answers and refuses it: {}", database_reason(refusal)),
            database_advice(refusal).to_owned(),
        ),
        ExtractSubject::DatabaseUnreachable => (
            "it cannot reach its database".to_owned(),
            format!(
                "Bring the database back, or correct its address; check that {} reaches it (DNS, firewall, security group)",
                host(view)
            ),
        ),
        _ => return None,
    };
    let finding = Finding::new(
        Cause::CrashLoopDatabase,
        format!("{} ends at start, {what}{}", unit(view), colon(words(view))),
        format!("{advice}. Its host starts it again by itself. Its last words: {}", logs(view)),
    );
    Some(finished(e, view, finding))
}

pub(super) fn crash_loop(e: &Evidence) -> Option<Finding> {
    let view = crashed(e).filter(|view| is_looping(e, view) && !view.oom_killed)?;
    if is_explained_before(e, Cause::CrashLoop) {
        return None;
    }
    let how = code(view).map(|code| format!("{code}, ")).unwrap_or_default();
    let restarts = match view.recent_restarts {
        Some(recent) => format!("{recent} restarts in the last 15 min"),
        None => format!("{} restarts", view.restarts.unwrap_or_default()),
    };
    let finding = Finding::new(
        Cause::CrashLoop,
        format!("{} ends again and again ({how}{restarts}){}", unit(view), colon(words(view))),
        format!("Read why in its last words: {}. Its host starts it again by itself", logs(view)),
    );
    let finding = finished(e, view, finding);
    Some(if words(view).is_none() { finding.lacking("what it said last") } else { finding })
}

pub(super) fn restarting_locally(e: &Evidence) -> Option<Finding> {
    let view = failing_view(e).filter(|view| view.state == TargetState::Restarting && !is_looping(e, view))?;
    let code = code_in_brackets(view);
    let finding = Finding::new(
        Cause::RestartingLocally,
        format!("{} ended{code} and its host starts it again{}", unit(view), colon(words(view))),
        format!("Wait: its host restarts it by itself. Why it ended: {}", logs(view)),
    );
    Some(finished(e, view, finding))
}
