//! Splits an answer of Prometheus' API into the elements of one list while it arrives. The answer is never kept as a
//! whole: a few kilobytes may describe millions of values.

/// Maximum size of one element in bytes. A target carries the annotations of its pod, Service and node as labels, at most
/// 256 KiB for each of them.
const MAX_ELEMENT: usize = 512 << 10;
/// Maximum number of elements.
const MAX_ELEMENTS: usize = 200_000;
/// Maximum nesting, as in `serde_json`.
const MAX_DEPTH: usize = 128;
/// The nesting of a list: `{"data": {"activeTargets": [`.
const LIST_DEPTH: usize = 3;
/// Maximum length of a key that is compared.
const MAX_KEY: usize = 32;

/// The text is not JSON in the form of Prometheus' API.
const UNREADABLE: &str = "its answer is not what Prometheus' API answers";

/// The position relative to a string of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quote {
    #[default]
    Outside,
    Inside,
    Escaped,
}

/// Finds the elements of the list `data.NAME`.
#[derive(Debug)]
pub(super) struct ElementSplitter {
    name: &'static str,
    quote: Quote,
    depth: usize,
    /// The last string outside the list: a key, if a colon follows.
    word: Vec<u8>,
    /// The keys that lead to the current value.
    keys: [Vec<u8>; 2],
    is_in_list: bool,
    element: Vec<u8>,
    is_oversized: bool,
    count: usize,
    oversized: usize,
    has_data: bool,
    is_complete: bool,
}

impl ElementSplitter {
    /// A splitter for the list `data.name`.
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            quote: Quote::default(),
            depth: 0,
            word: Vec::new(),
            keys: Default::default(),
            is_in_list: false,
            element: Vec::new(),
            is_oversized: false,
            count: 0,
            oversized: 0,
            has_data: false,
            is_complete: false,
        }
    }

    /// Takes the next bytes, and calls `each` with each element that they complete.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), serde_json::Error>,
    ) -> Result<(), String> {
        for byte in bytes {
            if self.is_in_list {
                self.in_list(*byte, &mut each)?;
            } else {
                self.around_list(*byte)?;
            }
        }
        Ok(())
    }

    /// The number of elements that were left out because they are too large; an error if the answer is incomplete.
    pub(super) fn finish(self) -> Result<usize, String> {
        if self.is_complete && self.has_data { Ok(self.oversized) } else { Err(UNREADABLE.to_owned()) }
    }

    fn in_list(
        &mut self,
        byte: u8,
        each: &mut impl FnMut(&[u8]) -> Result<(), serde_json::Error>,
    ) -> Result<(), String> {
        if self.is_string(byte) {
            self.keep(byte);
            return Ok(());
        }
        match byte {
            b'{' | b'[' => self.descend()?,
            b']' if self.depth == LIST_DEPTH => {
                self.depth -= 1;
                self.is_in_list = false;
                return self.complete(each);
            }
            b',' if self.depth == LIST_DEPTH => return self.complete(each),
            b'}' if self.depth == LIST_DEPTH => return Err(UNREADABLE.to_owned()),
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.keep(byte);
        Ok(())
    }

    fn around_list(&mut self, byte: u8) -> Result<(), String> {
        let was_outside = self.quote == Quote::Outside;
        if self.is_string(byte) {
            if was_outside {
                self.word.clear();
            } else if self.quote != Quote::Outside && self.word.len() < MAX_KEY {
                self.word.push(byte);
            }
            return Ok(());
        }
        if byte.is_ascii_whitespace() {
            return Ok(());
        }
        let begins = self.depth == 0 && !self.is_complete;
        match byte {
            b'{' if begins => self.descend()?,
            // The root is an object, and nothing follows it.
            _ if self.depth == 0 => return Err(UNREADABLE.to_owned()),
            b'{' | b'[' => self.descend_around(byte)?,
            b'}' | b']' => {
                self.depth -= 1;
                self.is_complete = self.depth == 0;
            }
            b':' if self.depth < LIST_DEPTH => self.keys[self.depth - 1] = std::mem::take(&mut self.word),
            _ => {}
        }
        Ok(())
    }

    fn descend_around(&mut self, byte: u8) -> Result<(), String> {
        self.descend()?;
        let is_data = self.keys[0] == b"data";
        if self.depth == LIST_DEPTH - 1 {
            self.keys[1].clear();
            self.has_data |= is_data && byte == b'{';
        }
        let is_wanted = is_data && self.keys[1] == self.name.as_bytes();
        self.is_in_list = self.depth == LIST_DEPTH && byte == b'[' && is_wanted;
        Ok(())
    }

    fn descend(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(UNREADABLE.to_owned()) } else { Ok(()) }
    }

    /// Whether the byte belongs to a string, with its quotes.
    fn is_string(&mut self, byte: u8) -> bool {
        let before = self.quote;
        self.quote = match (before, byte) {
            (Quote::Outside, b'"') | (Quote::Escaped, _) => Quote::Inside,
            (Quote::Inside, b'"') => Quote::Outside,
            (Quote::Inside, b'\\') => Quote::Escaped,
            _ => before,
        };
        before != Quote::Outside || self.quote != Quote::Outside
    }

    fn keep(&mut self, byte: u8) {
        if self.element.len() < MAX_ELEMENT {
            self.element.push(byte);
        } else {
            self.is_oversized = true;
        }
    }

    fn complete(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), serde_json::Error>) -> Result<(), String> {
        let is_oversized = std::mem::take(&mut self.is_oversized);
        let element = self.element.trim_ascii();
        if is_oversized {
            self.oversized += 1;
        } else if !element.is_empty() {
            self.count += 1;
            each(element).map_err(|_| UNREADABLE.to_owned())?;
        }
        self.element.clear();
        if self.count > MAX_ELEMENTS {
            return Err(format!("its list has more than {MAX_ELEMENTS} entries"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Feeds the text in pieces of this many bytes.
    fn split(text: &str, piece: usize) -> Result<(Vec<Value>, usize), String> {
        let mut splitter = ElementSplitter::new("activeTargets");
        let mut found = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            splitter.take(bytes, |element| {
                found.push(serde_json::from_slice(element)?);
                Ok(())
            })?;
        }
        Ok((found, splitter.finish()?))
    }

    #[test]
    fn the_elements_of_one_list_are_found_wherever_the_answer_is_cut() {
        let text = r#" {"status": "success", "data": {"droppedTargets": [{"x": 1}], "activeTargets" : [ {"a": "]},\"", "b": [1, {"c": []}]} , 7, "x,y" ], "more": {"activeTargets": [9]}}, "activeTargets": [8]} "#;
        let expected = serde_json::json!([{"a": "]},\"", "b": [1, {"c": []}]}, 7, "x,y"]);
        for piece in [1, 2, 3, 7, 1000] {
            let (found, oversized) = split(text, piece).unwrap();
            assert_eq!((Value::from(found), oversized), (expected.clone(), 0), "{piece}");
        }
        for empty in [
            r#"{"data":{"activeTargets":[]}}"#,
            r#"{"data":{"activeTargets":null}}"#,
            r#"{"data":{}}"#,
            r#"{"data":{"x":[[1],{"activeTargets":[3]}]}}"#,
        ] {
            assert_eq!(split(empty, 4).unwrap().0, Vec::<Value>::new(), "{empty}");
        }
    }

    #[test]
    fn other_answers_are_refused() {
        for text in [
            "",
            "null",
            "[]",
            "<html>",
            r#"{"status": "error"}"#,
            r#"{"data": null}"#,
            r#"{"data": [1]}"#,
            r#"{"data":{"activeTargets":[{}]"#,
            r#"{"data":{"activeTargets":[{]}}"#,
            r#"{"data":{"activeTargets":[}}"#,
            r#"{"data":{"activeTargets":[]}} x"#,
            r#"{"data":{"activeTargets":[]}}{}"#,
            "}",
        ] {
            assert_eq!(split(text, 5), Err(UNREADABLE.to_owned()), "{text}");
        }
        for depth in [1000, MAX_DEPTH + 1] {
            let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let texts = [
                format!(r#"{{"data":{{"activeTargets":[{deep}]}}}}"#),
                format!(r#"{{"x":{deep},"data":{{"activeTargets":[]}}}}"#),
            ];
            texts.iter().for_each(|text| assert_eq!(split(text, 64), Err(UNREADABLE.to_owned()), "{depth}"));
        }
    }

    #[test]
    fn of_a_long_text_around_the_list_nothing_is_kept() {
        let mut splitter = ElementSplitter::new("activeTargets");
        splitter.take(format!(r#"{{"{}"#, "x".repeat(1 << 20)).as_bytes(), |_| Ok(())).unwrap();
        assert_eq!((splitter.word.len(), splitter.element.len()), (MAX_KEY, 0));
    }

    #[test]
    fn large_elements_are_left_out_and_too_many_are_an_error() {
        let large = "x".repeat(MAX_ELEMENT);
        let text = format!(r#"{{"data":{{"activeTargets":["a","{large}","b"]}}}}"#);
        assert_eq!(split(&text, 4096), Ok((vec!["a".into(), "b".into()], 1)));
        let many = format!(r#"{{"data":{{"activeTargets":[{}0]}}}}"#, "0,".repeat(MAX_ELEMENTS));
        assert!(split(&many, 4096).unwrap_err().contains("more than 200000 entries"));
    }
}
