//! Patterns without one of their alternatives: a table of words is whole when a test fails for each of them.

use std::ops::Range;

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, Visitor, visit};

/// Each alternative of the pattern, of its groups too, and the pattern without it.
pub(crate) fn without_one(pattern: &str) -> Vec<(String, String)> {
    visit(&parsed(pattern), Cuts { pattern, found: Vec::new() }).expect("the visitor has no errors")
}

/// The alternatives of the pattern itself, without its flags; one, if it has no bar outside its groups.
pub(crate) fn at_the_top(pattern: &str) -> Vec<String> {
    let text = |ast: &Ast| pattern[span(ast)].to_owned();
    match &parsed(pattern) {
        Ast::Alternation(all) => all.asts.iter().map(text).collect(),
        single => vec![text(single)],
    }
}

fn parsed(pattern: &str) -> Ast {
    Parser::new().parse(pattern).expect("a constant pattern")
}

/// The place of an alternative, without the flags before it.
fn span(ast: &Ast) -> Range<usize> {
    let begin = match ast {
        Ast::Concat(parts) => match parts.asts.first() {
            Some(Ast::Flags(flags)) => flags.span.end,
            _ => parts.span.start,
        },
        other => other.span().start,
    };
    begin.offset..ast.span().end.offset
}

struct Cuts<'p> {
    pattern: &'p str,
    found: Vec<(String, String)>,
}

impl Visitor for Cuts<'_> {
    type Output = Vec<(String, String)>;
    type Err = ();

    fn finish(self) -> Result<Self::Output, ()> {
        Ok(self.found)
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), ()> {
        let Ast::Alternation(all) = ast else { return Ok(()) };
        let pattern = self.pattern;
        self.found.extend(all.asts.iter().map(span).enumerate().map(|(at, Range { start, end })| {
            // With the bar before it; the first one with the bar behind it.
            let rest = match at {
                0 => [&pattern[..start], &pattern[end + 1..]],
                _ => [&pattern[..start - 1], &pattern[end..]],
            };
            (pattern[start..end].to_owned(), rest.concat())
        }));
        Ok(())
    }
}

#[test]
fn the_alternatives_of_the_pattern_itself_are_told_apart() {
    assert_eq!(at_the_top(r"(?i)a(?:b|c)|\|[|]|d"), [r"a(?:b|c)", r"\|[|]", "d"]);
    assert_eq!(at_the_top("a"), ["a"]);
}

#[test]
fn each_alternative_is_left_out_once() {
    let left = |pattern| without_one(pattern).into_iter().map(|(_, rest)| rest).collect::<Vec<_>>();
    assert_eq!(left("abc"), Vec::<String>::new());
    assert_eq!(left("(?i)a|b"), ["(?i)b", "(?i)a"]);
    assert_eq!(left(r"a(?:b|c)|\|[]|]d"), [r"a(?:c)|\|[]|]d", r"a(?:b)|\|[]|]d", r"\|[]|]d", "a(?:b|c)"]);
    assert_eq!(left("(?s:x|y)(z)"), ["(?s:y)(z)", "(?s:x)(z)"]);
}
