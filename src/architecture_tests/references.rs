//! Everything that a comment or a page names exists: files, flags, metrics, and words such as reasons, causes and kinds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::none;
use super::source::{Source, files_below, without_comments};

/// The folders whose files are read. What is generated is read, too.
const FOLDERS: [&str; 10] =
    [".ci", "benches", "charts", "config", "crds", "docs", "examples", "scripts", "src", "tests"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A text file of the repository.
struct File {
    path: String,
    text: String,
    /// The lines of prose: comments of code, everything of a page. The others are empty.
    prose: Vec<String>,
}

/// The text files of the repository, those of the root included.
fn files() -> &'static [File] {
    static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
        let root = root();
        let top = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let top = top.filter(|name| root.join(name).is_file() && !name.ends_with(".lock"));
        let below = |folder: &str| -> Vec<String> {
            files_below(&root.join(folder)).into_iter().map(|path| format!("{folder}/{path}")).collect()
        };
        let folders = FOLDERS.into_iter().filter(|folder| root.join(folder).is_dir());
        let paths = top.chain(folders.flat_map(below));
        // Recorded pages of other programs and checksums are no text of this project.
        let paths = paths.filter(|path| !path.starts_with("tests/golden/") && !path.ends_with(".sum"));
        // Files that are not UTF-8 are no text.
        paths.filter_map(|path| fs::read_to_string(root.join(&path)).ok().map(|text| File::new(path, text))).collect()
    });
    &FILES
}

impl File {
    fn new(path: String, text: String) -> Self {
        let comment = |line: &str| match line.split_once('#') {
            Some((before, after)) if before.trim().is_empty() || before.ends_with(' ') => after.to_owned(),
            _ => String::new(),
        };
        let prose = match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "rs" | "go" => Source::new(path.clone(), &text).comments,
            "md" => text.lines().map(str::to_owned).collect(),
            // Comments of templates span lines.
            _ if path.contains("/templates/") => text.lines().map(str::to_owned).collect(),
            _ => text.lines().map(comment).collect(),
        };
        Self { path, text, prose }
    }

    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    /// The lines of prose and their numbers.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }
}

fn is_of_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/".contains(c)
}

/// The files that a line of prose names: Markdown and Rust files, and paths that begin with a folder of the repository.
fn named_files(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(begin) = rest.find(is_of_path) {
        let before = rest[..begin].chars().next_back();
        let end = rest[begin..].find(|c| !is_of_path(c)).map_or(rest.len(), |length| begin + length);
        let (word, after) = (rest[begin..end].trim_end_matches(['.', '-']), rest[end..].chars().next());
        rest = &rest[end..];
        // Addresses, patterns, variables and names of packages are no files of ours.
        let is_other = before.is_some_and(|c| "$}>*:@~{".contains(c)) || after.is_some_and(|c| "*{$<:@".contains(c));
        let is_placed = FOLDERS.iter().any(|folder| word.starts_with(&format!("{folder}/")));
        let is_document = (word.ends_with(".md") || word.ends_with(".rs")) && !word.starts_with(['/', '.']);
        if !is_other && (is_placed || is_document || word.starts_with("../") && word.ends_with(".md")) {
            found.push(word);
        }
    }
    found
}

/// Whether `word`, named in the file at `path`, leads to a file: from the file's folder, or from the root.
fn leads_somewhere(path: &str, word: &str) -> bool {
    let root = root();
    let folder = root.join(path).parent().map(Path::to_owned).unwrap_or_default();
    // A Rust module may name the files of its own folder.
    let own = root.join(path).with_extension("");
    let of_source = path.starts_with("src/").then(|| root.join("src"));
    let mut bases = vec![root, folder, own];
    bases.extend(of_source);
    bases.iter().any(|base| base.join(word).exists())
}

/// The passage or heading that a line of prose names behind a page, in quotation marks after a comma.
fn named_passage<'a>(line: &'a str, page: &str) -> Option<&'a str> {
    let (_, after) = line.split_once(page)?;
    Some(after.strip_prefix(", \"")?.split_once('"')?.0)
}

fn has_passage(page: &str, passage: &str) -> bool {
    let text = fs::read_to_string(root().join(page)).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").contains(passage)
}

#[test]
fn every_file_that_is_named_exists() {
    let mut found = Vec::new();
    for file in files() {
        for (at, line) in file.prose() {
            for word in named_files(line) {
                if !leads_somewhere(&file.path, word) {
                    found.push(format!("{}:{at}: {word}", file.path));
                } else if let Some(passage) = named_passage(line, word)
                    && !has_passage(word, passage)
                {
                    found.push(format!("{}:{at}: {word} has no passage {passage:?}", file.path));
                }
            }
        }
    }
    none(found, "these lead nowhere; a page is named by its path from the root, as docs/operations.md");
}

/// The prose that is held against the code: the pages for readers, and the comments of the program. Design pages also
/// describe what is planned.
fn is_held(file: &File) -> bool {
    let is_page = file.is("md")
        && !file.path.starts_with("docs/design/")
        && (file.path.starts_with("docs/") || file.path.starts_with("charts/"));
    is_page || file.path == "README.md" || file.path.starts_with("src/") || file.path == "charts/vigie/values.yaml"
}

/// The texts in backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Flags of other programs.
const FOREIGN_FLAGS: [&str; 3] = ["--previous", "--name", "--SERVER"];

#[test]
fn every_flag_that_is_named_exists() {
    let reference = fs::read_to_string(root().join("docs/reference/commands.md")).unwrap();
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_held(file)) {
        for (at, line) in file.prose() {
            for flag in quoted(line).filter(|text| text.len() > 2 && text.starts_with("--")) {
                let name = flag.split(|c: char| c != '-' && !c.is_ascii_alphanumeric()).next().unwrap_or_default();
                let exists = [format!("`{name}`"), format!("`{name} "), format!("`{name}=")];
                if !FOREIGN_FLAGS.contains(&name) && !exists.iter().any(|text| reference.contains(text)) {
                    found.push(format!("{}:{at}: {name}", file.path));
                }
            }
        }
    }
    none(found, "docs/reference/commands.md has no such flag");
}

#[test]
fn every_metric_that_is_named_exists() {
    let reference = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let mut found = Vec::new();
    for file in files().iter().filter(|file| is_held(file)) {
        for (at, line) in file.prose() {
            for name in line.split(|c| !is_word(c)).filter(|word| word.starts_with("vigie_") && !word.ends_with('_')) {
                let series = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let exists = |name: &str| reference.contains(&format!("`{name}`"));
                if !exists(name) && !series.is_some_and(exists) {
                    found.push(format!("{}:{at}: {name}", file.path));
                }
            }
        }
    }
    none(found, "docs/reference/metrics.md has no such metric");
}

/// Words of other programs that neither the code nor the chart mentions.
const FOREIGN_WORDS: [&str; 2] = ["RespectIgnoreDifferences", "HealthCheckResponse"];

/// Words such as `TargetDenied`: reasons, causes, denials, states, conditions, kinds and types.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().any(|c| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
}

#[test]
fn every_reason_cause_and_other_word_that_is_named_exists() {
    let files = files();
    let mut known: BTreeSet<&str> = FOREIGN_WORDS.into();
    let code: Vec<String> =
        files.iter().filter(|file| file.is("rs")).map(|file| without_comments(&file.text)).collect();
    let data = files.iter().filter(|file| ["yaml", "json"].iter().any(|kind| file.is(kind)));
    for text in code.iter().map(String::as_str).chain(data.map(|file| file.text.as_str())) {
        known.extend(text.split(|c| !is_word(c)).filter(|word| is_name(word)));
    }
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_held(file)) {
        for (at, line) in file.prose() {
            for name in quoted(line).filter(|text| is_name(text) && !known.contains(text)) {
                found.push(format!("{}:{at}: {name}", file.path));
            }
        }
    }
    none(found, "no code, chart or test has these words");
}

#[test]
fn names_in_prose_are_recognised() {
    let named = |line| named_files(line);
    assert_eq!(
        named("see docs/a.md, and (b.md). `src/x/y.rs` `tests/suite`"),
        ["docs/a.md", "b.md", "src/x/y.rs", "tests/suite"]
    );
    assert!(named("https://example.org/a.md docs/*.md $dir/b.md /etc/c.md src/{a,b}.rs Cargo.toml a/b").is_empty());
    assert_eq!(named_passage("(docs/a.md, \"B c\"): d", "docs/a.md"), Some("B c"));
    assert_eq!(named_passage("(docs/a.md): \"d\"", "docs/a.md"), None);
    assert_eq!(quoted("a `b` c `d e`").collect::<Vec<_>>(), ["b", "d e"]);
    assert!(is_name("TargetDenied") && !is_name("README") && !is_name("lower") && !is_name("Two words"));
}
