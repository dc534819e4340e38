//! Reads the source tree: splits every file into code, string literals and comments, and code into tokens.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// One file of `src`.
pub(super) struct Source {
    /// Path below `src`, with slashes.
    pub(super) path: String,
    /// The lines as they are.
    pub(super) lines: Vec<String>,
    /// The same lines, with comments and the content of string literals blanked.
    pub(super) code: Vec<String>,
    /// The same lines, with everything but comments blanked.
    pub(super) comments: Vec<String>,
}

/// A word or a sign of the code, and its line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Source {
    pub(super) fn new(path: String, text: &str) -> Self {
        let marked = mark(text);
        let only = |kinds: &[Kind]| -> Vec<String> {
            let kept = marked.iter().map(|&(c, kind)| if c == '\n' || kinds.contains(&kind) { c } else { ' ' });
            kept.collect::<String>().lines().map(str::to_owned).collect()
        };
        let lines = text.lines().map(str::to_owned).collect();
        Self { path, lines, code: only(&[Kind::Code]), comments: only(&[Kind::Comment]) }
    }

    /// Whether the whole file is compiled for tests only.
    pub(super) fn is_test(&self) -> bool {
        let of_tests = |part: &str| {
            let part = part.trim_end_matches(".rs");
            part == "tests" || part.ends_with("_tests")
        };
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.split('/').any(of_tests) || ["fake.rs", "simulation.rs"].contains(&name)
    }

    /// The path of the file's module. The `mod` file of a folder is the module of the folder.
    pub(super) fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }

    pub(super) fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let length = if is_word(first) {
                    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
                } else if ["::", "->", "=>"].iter().any(|sign| rest.starts_with(sign)) {
                    2
                } else {
                    first.len_utf8()
                };
                tokens.push(Token { text: &rest[..length], line: at + 1 });
                rest = rest[length..].trim_start();
            }
        }
        tokens
    }

    /// Blanks the inline modules of tests, from the attribute to the brace under its first letter.
    fn without_inline_tests(&self) -> Self {
        let is_module = |line: &str| line.ends_with('{') && line.split_whitespace().any(|word| word == "mod");
        let mut is_kept = vec![true; self.lines.len()];
        let mut inside = false;
        for (at, line) in self.lines.iter().enumerate() {
            let next = self.lines.get(at + 1);
            inside |= line == "#[cfg(test)]" && next.is_some_and(|next| is_module(next));
            is_kept[at] = !inside;
            inside &= line != "}";
        }
        let end = is_kept.iter().zip(&self.lines).rposition(|(kept, line)| *kept && !line.is_empty());
        let kept = |lines: &[String]| -> Vec<String> {
            let lines = lines.iter().zip(&is_kept).take(end.map_or(0, |end| end + 1));
            lines.map(|(line, kept)| if *kept { line.clone() } else { String::new() }).collect()
        };
        Self {
            path: self.path.clone(),
            lines: kept(&self.lines),
            code: kept(&self.code),
            comments: kept(&self.comments),
        }
    }
}

/// Every file of `src`.
pub(super) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let rust = files_below(&root).into_iter().filter(|path| path.ends_with(".rs"));
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path)).unwrap();
            Source::new(path, &text)
        };
        let found: Vec<Source> = rust.map(read).collect();
        assert!(found.len() > 50, "the source tree was not found");
        found
    });
    &SOURCES
}

/// The program without its tests: without files of tests, and without the inline test modules at the end of others.
pub(super) fn program() -> &'static [Source] {
    static PROGRAM: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let program = sources().iter().filter(|source| !source.is_test());
        program.map(Source::without_inline_tests).collect()
    });
    &PROGRAM
}

/// The files below `folder`, relative to it and sorted. Build output and hidden folders are left out.
pub(super) fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !path.is_dir() {
                found.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            } else if !name.starts_with('.') && name != "target" {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Code and string literals.
pub(super) fn without_comments(text: &str) -> String {
    mark(text).into_iter().filter(|(_, kind)| *kind != Kind::Comment).map(|(c, _)| c).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Text,
    Comment,
}

/// Says of each character whether it is code, inside a string or character literal, or in a comment.
fn mark(text: &str) -> Vec<(char, Kind)> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\n');
    let mut marked = Vec::with_capacity(chars.len());
    while marked.len() < chars.len() {
        let here = marked.len();
        let (end, kind) = match (at(here), at(here + 1)) {
            ('/', '/') => (find(&chars, here, "\n"), Kind::Comment),
            ('/', '*') => (find(&chars, here + 2, "*/") + 2, Kind::Comment),
            ('"', _) => (end_of_string(&chars, here + 1), Kind::Text),
            ('r', '"' | '#') if here == 0 || !(at(here - 1).is_alphanumeric() && at(here - 1) != 'b') => {
                let hashes = chars[here + 1..].iter().take_while(|&&c| c == '#').count();
                let end = format!("\"{}", "#".repeat(hashes));
                let opened = here + 1 + hashes;
                if at(opened) == '"' {
                    (find(&chars, opened + 1, &end) + end.len(), Kind::Text)
                } else {
                    (here + 1, Kind::Code)
                }
            }
            ('\'', '\\') => (find(&chars, here + 3, "'") + 1, Kind::Text),
            // A lifetime has no second quote.
            ('\'', _) if at(here + 2) == '\'' => (here + 3, Kind::Text),
            _ => (here + 1, Kind::Code),
        };
        let end = end.clamp(here + 1, chars.len());
        marked.extend(chars[here..end].iter().map(|&c| (c, kind)));
    }
    marked
}

fn find(chars: &[char], from: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    let from = from.min(chars.len());
    chars[from..].windows(what.len()).position(|some| some == what).map_or(chars.len(), |found| from + found)
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

#[test]
fn code_strings_and_comments_are_told_apart() {
    let text = r##"let a = "x // no"; // yes "y"
let b = '"'; /* two
lines */ fn f<'a>(c: char) { r#"z " crate::q"#; '\''; b"\""; g() }"##;
    let source = Source::new("a.rs".into(), text);
    assert_eq!(source.code[0].trim_end(), format!("let a = {};", " ".repeat("\"x // no\"".len())));
    assert_eq!(source.comments[0].trim_start(), "// yes \"y\"");
    assert_eq!(source.code[1].trim_end(), "let b =    ;");
    assert_eq!(source.code[2].split_whitespace().collect::<String>(), "fnf<'a>(c:char){;;b;g()}");
    assert!(source.comments[2].starts_with("lines */"));
}

#[test]
fn a_file_knows_its_module() {
    let module = |path: &str| Source::new(path.to_owned(), "").module().join("::");
    assert_eq!(module("a/b.rs"), "a::b");
    assert_eq!(module("a/b/mod.rs"), "a::b");
    assert_eq!(module("a.rs"), "a");
}

#[test]
fn only_inline_tests_are_left_out() {
    let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\n\nfn c() {}\n";
    let program = Source::new("a.rs".to_owned(), text).without_inline_tests();
    assert_eq!(program.lines, ["fn a() {}", "", "", "", "", "", "", "", "fn c() {}"]);
    let program = Source::new("a.rs".to_owned(), text.trim_end_matches("fn c() {}\n")).without_inline_tests();
    assert_eq!(program.lines, ["fn a() {}"]);
}
