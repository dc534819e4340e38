//! Patterns without one of their alternatives: a table of words is whole when a test fails for each of them.

/// Each alternative of the pattern, of its groups too, and the pattern without it.
pub(crate) fn without_one(pattern: &str) -> Vec<(String, String)> {
    let bytes = pattern.as_bytes();
    let mut found = Vec::new();
    // The open groups: where each begins, and its bars.
    let mut open: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new())];
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => at = end_of_class(bytes, at),
            b'(' => {
                let begin = at + 1 + flags(&pattern[at + 1..]);
                // Flags alone are no group.
                if bytes[begin - 1] == b')' {
                    open.last_mut().expect("the pattern itself").0 = begin;
                } else {
                    open.push((begin, Vec::new()));
                }
                at = begin - 1;
            }
            b'|' => open.last_mut().expect("the pattern itself").1.push(at),
            b')' => {
                let (begin, bars) = open.pop().expect("a group");
                found.extend(cut(pattern, begin, &bars, at));
            }
            _ => {}
        }
        at += 1;
    }
    let (begin, bars) = open.pop().expect("the pattern itself");
    found.extend(cut(pattern, begin, &bars, bytes.len()));
    found
}

/// The alternatives of the pattern itself, without its flags; one, if it has no bar outside its groups.
pub(crate) fn at_the_top(pattern: &str) -> Vec<String> {
    let bare = pattern.strip_prefix("(?i)").unwrap_or(pattern);
    let mut tops = Vec::new();
    let mut rest = bare;
    while let Some((first, after)) = first_of(rest) {
        tops.push(first);
        rest = after;
    }
    tops.push(rest.to_owned());
    tops
}

/// The text before the first bar outside all groups, and the text behind it.
fn first_of(pattern: &str) -> Option<(String, &str)> {
    let bytes = pattern.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => at = end_of_class(bytes, at),
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'|' if depth == 0 => return Some((pattern[..at].to_owned(), &pattern[at + 1..])),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The length of `?:`, `?i:` or `?i)` at the beginning of a group.
fn flags(rest: &str) -> usize {
    let end = rest.find([':', ')']).filter(|_| rest.starts_with('?'));
    end.map_or(0, |end| end + 1)
}

/// Where the bracket of a class closes.
fn end_of_class(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    at += usize::from(bytes[at] == b'^');
    at += usize::from(bytes[at] == b']');
    while bytes[at] != b']' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

fn cut(pattern: &str, begin: usize, bars: &[usize], end: usize) -> Vec<(String, String)> {
    let begins = std::iter::once(begin).chain(bars.iter().map(|bar| bar + 1));
    let ends = bars.iter().copied().chain([end]);
    let without = |(at, (begin, end)): (usize, (usize, usize))| {
        // With the bar before it; the first one with the bar behind it.
        let rest = if at == 0 {
            format!("{}{}", &pattern[..begin], &pattern[end + 1..])
        } else {
            format!("{}{}", &pattern[..begin - 1], &pattern[end..])
        };
        (pattern[begin..end].to_owned(), rest)
    };
    if bars.is_empty() { Vec::new() } else { begins.zip(ends).enumerate().map(without).collect() }
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
