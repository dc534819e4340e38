//! Escapes a line of the far side for a terminal.

use crate::probe::Failure;

/// The longest excerpt, in characters.
const MAX_EXCERPT: usize = Failure::MAX_DETAIL;
/// The part of a long line before the relevant byte, in bytes.
const BEFORE: usize = 160;

/// Escapes control characters and bytes that are not UTF-8 in `line`. Of a long line the surroundings of the byte `at` are
/// kept. At most 512 characters.
pub(super) fn excerpt(line: &[u8], at: usize) -> String {
    let mut begin = if line.len() <= MAX_EXCERPT / 2 { 0 } else { at.min(line.len()).saturating_sub(BEFORE) };
    // Not in the middle of a character.
    while begin > 0 && line.get(begin).is_some_and(|byte| byte & 0xC0 == 0x80) {
        begin -= 1;
    }
    let mut text = String::new();
    let mut left = MAX_EXCERPT - 1;
    if begin > 0 {
        text.push('…');
        left -= 1;
    }
    // An escaped byte is longer than itself: no more than `left` characters are needed.
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

/// The characters of `bytes`, each escaped where needed. Quotes and backslashes are not escaped: backslashes that were not
/// sent would only confuse.
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
