//! A line that the far side sent, made fit for a terminal.

use crate::probe::Failure;

/// How long an excerpt is at most, in characters.
const LONGEST: usize = Failure::LONGEST_DETAIL;
/// How much of a long line stands before the byte that matters.
const BEFORE: usize = 160;

/// `line` as it may be printed: control characters, and bytes that are no UTF-8, are escaped; of a long line the
/// surroundings of the byte `at` are kept. At most 512 characters.
pub(super) fn excerpt(line: &[u8], at: usize) -> String {
    let mut begin = if line.len() <= LONGEST / 2 { 0 } else { at.min(line.len()).saturating_sub(BEFORE) };
    // Not in the middle of a character.
    while begin > 0 && line.get(begin).is_some_and(|byte| byte & 0xC0 == 0x80) {
        begin -= 1;
    }
    let mut text = String::new();
    let mut left = LONGEST - 1;
    if begin > 0 {
        text.push('…');
        left -= 1;
    }
    // An escaped byte is longer than itself: no more than `left` of them can ever be needed.
    let end = line.len().min(begin + 4 * left);
    for escaped in printable(&line[begin..end]) {
        let length = escaped.chars().count();
        if length > left {
            text.push('…');
            return text;
        }
        text.push_str(&escaped);
        left -= length;
    }
    if end < line.len() {
        text.push('…');
    }
    text
}

/// The characters of `bytes`, each as it may be printed. Quotes and backslashes stay as they are: a line full of
/// backslashes that were not sent helps nobody.
fn printable(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| match c {
            '"' | '\'' | '\\' => c.to_string(),
            c => c.escape_debug().to_string(),
        });
        valid.chain(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_excerpt_moves_a_terminal() {
        let line = b"a{b=\"\x1b[31m\xff\xe2\x80\xae\r\"} \xc3\xa9";
        assert_eq!(excerpt(line, 0), "a{b=\"\\u{1b}[31m\\xff\\u{202e}\\r\"} é");
    }

    #[test]
    fn a_long_line_is_clipped_around_the_byte_that_matters() {
        let mut line = vec![b'x'; 100_000];
        line[50_000] = b'!';
        let text = excerpt(&line, 50_000);
        assert!(text.chars().count() <= 512 && text.contains('!'));
        assert!(text.starts_with('…') && text.ends_with('…'));
        let control = vec![1_u8; 100_000];
        assert!((400..=512).contains(&excerpt(&control, 7).chars().count()));
        assert_eq!(excerpt("é".repeat(300).as_bytes(), 599).chars().filter(|c| *c == '\\').count(), 0);
    }
}
