//! Regular expressions that bodies are matched against. No expression, on no body, costs more than a fixed amount of
//! work.
//!
//! The expression comes from a person who may edit one namespace, and the body from a server that the same person may
//! own. A library that guarantees time linear in the body is not enough: the factor is the size of the expression, and
//! `[ab]*a[ab]{10000}c` takes 83 s on a body of 1 MiB. An expression therefore has a small compiled size
//! ([`MAX_COMPILED_BYTES`]). It is run as a lazy automaton: each byte of the body costs one table lookup (2 ms per MiB,
//! whatever the expression), and new states of the table are made only until it was full twice ([`MAX_TABLE_BYTES`]).
//! Expressions of ordinary specs need less than a tenth of the table. Those above fill it within a few kilobytes of the
//! body, after about 15 ms, and are given up: a failure of the probe that says so.
//!
//! Compiling and matching run on blocking threads, at most [`PLACES`] at once: the tasks of the runtime, such as
//! the heartbeat port, never wait for them. Waiting for a place counts into the time of the probe.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Look};
use tokio::sync::Semaphore;

/// The largest expression while it is compiled, in bytes. `\w{10}` takes up to 217 KB, `.{0,500}` up to 271 KB,
/// `[ab]{10000}` 661 KB at least.
const MAX_COMPILED_BYTES: usize = 288 << 10;
/// The size of the table of states, in bytes. It is filled at most [`MAX_FILLS`] times for one body.
const MAX_TABLE_BYTES: usize = 512 << 10;
/// How often the table is filled before an expression is given up.
const MAX_FILLS: usize = 2;
/// How many expressions are compiled or matched at once.
const PLACES: usize = 2;
/// After how many bytes of the body a match checks whether its probe still waits for it.
const STRIDE: usize = 16 << 10;

static FREE_PLACES: Semaphore = Semaphore::const_new(PLACES);

/// A compiled regular expression. A clone shares it.
#[derive(Clone)]
pub struct Pattern {
    expression: Arc<str>,
    automaton: Arc<DFA>,
}

/// The result of matching a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// The earliest match ends at this byte.
    EndsAt(usize),
    /// There is no match.
    None,
    /// The expression was given up at this byte: it needs too many states for this body.
    GivenUpAt(usize),
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.expression).finish()
    }
}

impl Pattern {
    /// Compiles `expression` on a blocking thread, when a place is free.
    ///
    /// # Errors
    /// See [`Pattern::new`].
    pub async fn compile(expression: String) -> Result<Self, String> {
        in_a_place(move |_| Self::new(&expression)).await.unwrap_or_else(|why| Err(why.to_owned()))
    }

    /// Compiles `expression`. This takes up to 50 ms: a task of the runtime calls [`Pattern::compile`].
    ///
    /// # Errors
    /// Why it cannot be used, as the rest of a sentence whose subject is the field of the spec.
    pub fn new(expression: &str) -> Result<Self, String> {
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(expression);
        let parsed = parsed.map_err(|error| {
            // The message spans lines, with a marker under the position; its last line is the error.
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("is no regular expression: {last}")
        })?;
        let config = thompson::Config::new()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(MAX_COMPILED_BYTES));
        let compiled = thompson::Compiler::new().configure(config).build_from_hir(&with_ascii_boundaries(parsed));
        let compiled = compiled.map_err(|error| match error.size_limit() {
            Some(_) => format!(
                "is too large: compiled it has more than {} KiB. A repetition such as {{1000}} multiplies the size of \
                 what it repeats: lower its numbers, or match a shorter part of the body",
                MAX_COMPILED_BYTES >> 10
            ),
            None => format!("is no regular expression that can be used: {error}"),
        })?;
        let config = DFA::config()
            .match_kind(MatchKind::All)
            .cache_capacity(MAX_TABLE_BYTES)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(MAX_FILLS));
        let automaton = DFA::builder().configure(config).build_from_nfa(compiled);
        let automaton = automaton.map_err(|error| format!("is no regular expression that can be used: {error}"))?;
        Ok(Self { expression: expression.into(), automaton: Arc::new(automaton) })
    }

    /// Matches `body`, until `stop`.
    fn find(&self, body: &[u8], stop: &AtomicBool) -> Match {
        let mut table = self.automaton.create_cache();
        let mut at = 0;
        self.step_through(body, stop, (&mut table, &mut at)).unwrap_or(Match::GivenUpAt(at))
    }

    /// `None` when the expression is given up, at the byte that is left in `at`.
    fn step_through(&self, body: &[u8], stop: &AtomicBool, (table, at): (&mut Cache, &mut usize)) -> Option<Match> {
        let mut state = self.automaton.start_state_forward(table, &Input::new(body)).ok()?;
        while *at < body.len() {
            if at.is_multiple_of(STRIDE) && stop.load(Ordering::Relaxed) {
                return None;
            }
            state = self.automaton.next_state(table, state, body[*at]).ok()?;
            if state.is_tagged() {
                // A match is reported one byte late: the state after it decides about `$` and word boundaries.
                if state.is_match() {
                    return Some(Match::EndsAt(*at));
                }
                if state.is_dead() {
                    return Some(Match::None);
                }
                if state.is_quit() {
                    return None;
                }
            }
            *at += 1;
        }
        let end = self.automaton.next_eoi_state(table, state).ok()?;
        Some(if end.is_match() { Match::EndsAt(body.len()) } else { Match::None })
    }
}

/// The word boundaries of `parsed` as those of ASCII: the automaton has no others.
fn with_ascii_boundaries(parsed: Hir) -> Hir {
    let all = |parts: Vec<Hir>| parts.into_iter().map(with_ascii_boundaries).collect();
    match parsed.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(match look {
            Look::WordUnicode => Look::WordAscii,
            Look::WordUnicodeNegate => Look::WordAsciiNegate,
            Look::WordStartUnicode => Look::WordStartAscii,
            Look::WordEndUnicode => Look::WordEndAscii,
            Look::WordStartHalfUnicode => Look::WordStartHalfAscii,
            Look::WordEndHalfUnicode => Look::WordEndHalfAscii,
            look => look,
        }),
        HirKind::Repetition(mut repetition) => {
            repetition.sub = Box::new(with_ascii_boundaries(*repetition.sub));
            Hir::repetition(repetition)
        }
        HirKind::Capture(mut capture) => {
            capture.sub = Box::new(with_ascii_boundaries(*capture.sub));
            Hir::capture(capture)
        }
        HirKind::Concat(parts) => Hir::concat(all(parts)),
        HirKind::Alternation(parts) => Hir::alternation(all(parts)),
    }
}

/// Matches `body` with each of `patterns` on a blocking thread, when a place is free. Returns the body again. A dropped
/// future stops the match.
///
/// # Errors
/// A sentence, when the thread was lost: a defect of this program.
pub(super) async fn find_all<const N: usize>(
    patterns: [Option<Pattern>; N],
    body: Vec<u8>,
) -> Result<(Vec<u8>, [Match; N]), &'static str> {
    in_a_place(move |stop| {
        let found = patterns.map(|pattern| pattern.map_or(Match::None, |pattern| pattern.find(&body, stop)));
        (body, found)
    })
    .await
}

/// Sets its flag when it is dropped.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` on a blocking thread, when a place is free. The flag that it gets is set when its caller is gone.
async fn in_a_place<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<T, &'static str> {
    let lost = |_| "the thread that matches regular expressions was lost";
    let place = FREE_PLACES.acquire().await.map_err(|_| "the operator ends")?;
    let stop = StopOnDrop(Arc::default());
    let flag = stop.0.clone();
    // The place is free again when the work has ended, also when nothing waits for it any longer.
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&flag)
    });
    let done = done.await.map_err(lost);
    drop(stop);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(expression: &str, body: &[u8]) -> Match {
        Pattern::new(expression).unwrap().find(body, &AtomicBool::new(false))
    }

    /// A body of `a` and `b` in an order without a pattern.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state & 1 == 0 { b'a' } else { b'b' }
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn an_expression_matches_as_the_regex_crate_does() {
        let bodies: [&[u8]; 10] = [
            b"",
            b"{\"status\":  \"UP\"}",
            b"a needle",
            b"one\ntwo UP\nthree",
            b"STARTUP",
            b"gr\xc3\xbcn \xff\xfe 12 UP",
            b"aaab",
            b"<html>\n</html>",
            b"db down",
            b"caf\xc3\xa9",
        ];
        let expressions = [
            r#""status":\s*"UP""#,
            "needle$",
            "^a",
            "(?m)^two UP$",
            r"\bUP\b",
            r"(?i)\bup\b",
            r"\w+ \d+",
            "(?s)<html>.*</html>",
            "a{2,3}b",
            "gr.n",
            "(db|cache) down",
            "[^<>]+>",
            "",
            "$",
            r"\Aone",
            "h{0}",
            r"(?-u)\xff\xfe",
            "caf.$",
        ];
        for expression in expressions {
            let known = regex::bytes::Regex::new(expression).unwrap();
            for body in bodies {
                let shown = body.escape_ascii();
                let found = find(expression, body);
                match known.shortest_match(body) {
                    Some(end) => assert_eq!(found, Match::EndsAt(end), "{expression} in {shown}"),
                    None => assert_eq!(found, Match::None, "{expression} in {shown}"),
                }
            }
        }
    }

    #[test]
    fn an_expression_that_is_too_large_or_none_is_refused_with_what_to_do() {
        for expression in ["[ab]*a[ab]{10000}c", "((a{100}){100}){100}", r"\w{1000}", r"(?:(?:\pL{9}){9}){9}"] {
            let why = Pattern::new(expression).unwrap_err();
            assert!(why.starts_with("is too large: compiled it has more than 288 KiB"), "{expression}: {why}");
        }
        assert_eq!(Pattern::new("(").unwrap_err(), "is no regular expression: unclosed group");
        assert!(Pattern::new(r"(?=a)").unwrap_err().contains("look-around"), "look-around is not supported");
        for expression in [r"\w{10}", ".{0,500}", r"[\w.]+@[\w.]+", "(?i)healthy|ok|up", "[a-z0-9-]{1,253}"] {
            assert!(Pattern::new(expression).is_ok(), "{expression}");
        }
    }

    #[test]
    fn no_expression_works_on_a_body_for_long() {
        let body = noise(1 << 20);
        // Each doubles its states with each byte: exponential for the automaton, and for a search of all states at once
        // the product of both sizes.
        for expression in ["[ab]*a[ab]{50}c", "[ab]*a[ab]{2000}c", "(?:a|b|ab)*a(?:[ab]a|b[ab]){400}c", "(.*)a.{400}c"]
        {
            match find(expression, &body) {
                Match::GivenUpAt(at) => assert!(at < 512 << 10, "{expression} was given up at {at} only"),
                found => panic!("{expression}: {found:?}"),
            }
        }
        for expression in ["(?:.*a){20}.*c", r#""db".{0,200}"UP""#, r"\w+@\w+\.\w{2,3}"] {
            assert_eq!(find(expression, &body), Match::None, "{expression}");
        }
    }

    #[test]
    fn a_match_whose_probe_is_gone_stops() {
        let stop = AtomicBool::new(true);
        assert_eq!(Pattern::new("c").unwrap().find(&noise(64 << 10), &stop), Match::GivenUpAt(0));
    }

    #[tokio::test]
    async fn expressions_run_beside_the_runtime_and_few_at_once() {
        let elsewhere = in_a_place(|_| std::thread::current().id()).await.unwrap();
        assert_ne!(elsewhere, std::thread::current().id());
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(parking_lot::Mutex::new(wait));
        let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let mut works: Vec<_> = (0..2 * PLACES)
            .map(|_| {
                let (wait, began) = (wait.clone(), began.clone());
                Box::pin(in_a_place(move |_| {
                    let _ = began.send(());
                    wait.lock().recv().is_ok()
                }))
            })
            .collect();
        for _ in 0..PLACES {
            while begins.try_recv().is_err() {
                assert!(works.iter_mut().all(|work| futures::FutureExt::now_or_never(work).is_none()));
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(FREE_PLACES.available_permits(), 0);
        assert!(works.iter_mut().all(|work| futures::FutureExt::now_or_never(work).is_none()));
        assert!(begins.try_recv().is_err(), "the others wait for a place");
        drop(release);
        futures::future::join_all(works).await;
    }

    #[tokio::test]
    async fn a_place_is_free_again_after_its_caller_has_gone() {
        for _ in 0..3 * PLACES {
            let work = find_all([Some(Pattern::new("c").unwrap())], noise(1 << 10));
            // Polled once, and dropped while the work may still run.
            drop(futures::FutureExt::now_or_never(work));
        }
        let (body, found) = find_all([Some(Pattern::new("b+").unwrap()), None], b"abb".to_vec()).await.unwrap();
        assert_eq!((body, found), (b"abb".to_vec(), [Match::EndsAt(2), Match::None]));
    }
}
