use proptest::prelude::*;

use super::*;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Read = (Page, Result<(), Failure>);

fn read_in(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>, content_type: &str, options: &MetricsOptions) -> Read {
    let mut reader = Reader::new(Some(content_type), options).unwrap();
    for chunk in chunks {
        // Once it failed it says so again, and so does `finish`.
        let fed = reader.feed(chunk.as_ref());
        assert_eq!(fed.is_err(), reader.failure.is_some());
    }
    reader.finish()
}

fn read(page: impl AsRef<[u8]>, content_type: &str) -> Read {
    read_in([page], content_type, &MetricsOptions::default())
}

#[track_caller]
fn holds(page: impl AsRef<[u8]>, content_type: &str, samples: u64) {
    let page = page.as_ref();
    let (seen, result) = read(page, content_type);
    assert_eq!(result, Ok(()), "{}", page.escape_ascii());
    assert_eq!(seen, Page { samples, ..Page::default() }, "{}", page.escape_ascii());
}

#[track_caller]
fn breaks(page: impl AsRef<[u8]>, content_type: &str, fault: Fault, line: u64, byte: u64) {
    let page = page.as_ref();
    let shown = page.escape_ascii();
    let (seen, result) = read(page, content_type);
    let failure = result.expect_err(&format!("{shown} was taken"));
    assert_eq!((failure.class, failure.phase), (ErrorClass::Exposition, Phase::Body), "{shown}");
    let message = format!("the metrics page is broken in line {line}, at byte {byte}: {}", fault.message());
    assert_eq!(failure.message, message, "{shown}");
    assert_eq!(seen.broken_at, Some((line, byte)), "{shown}");
}

#[test]
fn the_text_format_is_taken_with_all_its_liberties() {
    let lines: &[(&[u8], u64)] = &[
        (b"", 0),
        (b"\n \t\n", 0),
        (b"a 1", 1),
        (b"a 1\n", 1),
        (b"a\t1  123123 \t\n", 1),
        (b"a:b:c 1\n_d 2\n", 2),
        (b"a{} 1\na{}1\na {b=\"c\"}\t1\n", 3),
        (b"a{b=\"c\",d=\"e\",} 1\n", 1),
        (b"a { b = \"c\" , d\t=\"e\" } 1\n", 1),
        (b"a{b=\"c\"d=\"e\"} 1\n", 1),
        (b"a{b=\"\\\"\\\\\\n\\x\xc3\xa9}{,=#\"} 1\n", 1),
        (b"a{b=\"c\nd\",e=\"\nf\n\"} 1\ng 2\n", 2),
        (b"a{b=\"\0\"} 1\n", 1),
        (b"a{b=\"\",b=\"c\"} 1\n", 1),
        (b"a NaN\na nan\na +Inf\na -inf\na Infinity\n", 5),
        (b"a +1\na -.5\na 5.\na 1e5\na 1E-500\na 0e9999\na 7.424100000000001e-05\n", 7),
        (b"a.5 1\n", 1),
        (b"a 9223372036854775807\na 1 9223372036854775807\n", 2),
        (b"# HELP a\n# HELP a \n# HELP a any \xc3\xa9 \\ text\n# TYPE a counter\n", 0),
        (b"#\tTYPE a gauge\n  # TYPE  a histogram\n# TYPE a summary\n# TYPE a untyped\n", 0),
        (b"#\n##\n#HELP\n# anything \xff\n# HELPER\n# TYPES 1\n# EOF\na 1\n", 1),
        (b"# TYPE \"a b\" counter\n# HELP \"a\nb\" \"quotes\n{\"a b\"} 1\n{\"a.b\",c=\"d\"} 2\n{c=\"d\",\"a\"}3\n", 3),
        (b"{\"a\\\"\", \"b c\"=\"d\",}1\n", 1),
    ];
    for (page, samples) in lines {
        holds(page, TEXT, *samples);
        holds(page, "text/plain", *samples);
    }
}

#[test]
fn a_broken_line_of_the_text_format_is_named_with_its_place() {
    use Fault::*;
    let pages: &[(&[u8], Fault, u64, u64)] = &[
        (b"<!DOCTYPE html>\n<html>", Markup, 1, 0),
        (b"{\"status\":\"UP\"}", Json, 1, 9),
        (b"{\n  \"status\": \"UP\"\n}", Json, 1, 1),
        (b"[]", Json, 1, 0),
        (b"a 1\n{\"a\" b=\"c\"} 1\n", Equal, 2, 9),
        (b"a 1\n\n1a 1\n", NoName, 3, 5),
        (b"\xef\xbb\xbfa 1\n", ByteOrderMark, 1, 0),
        (b"a 1\n b 1\n", LeadingBlank, 2, 4),
        (b"a 1\n\0\n", Nul, 2, 4),
        (b"a\n", NoValue, 1, 1),
        (b"a", NoValue, 1, 1),
        (b"a \n", NoValue, 1, 2),
        (b"a{b=\"c\"}\n", NoValue, 1, 8),
        (b"a{b=\"c\"}{d=\"e\"} 1\n", NoValue, 1, 8),
        (b"a true\n", Value, 1, 2),
        (b"a 1_2\n", Value, 1, 2),
        (b"a 0x1p-3\n", Value, 1, 2),
        (b"a 0x10\n", Value, 1, 2),
        (b"a .\n", Value, 1, 2),
        (b"a 1e\n", Value, 1, 2),
        (b"a -\n", Value, 1, 2),
        (b"a +nan\n", Value, 1, 2),
        (b"a infin\n", Value, 1, 2),
        (b"a 1,5\n", Value, 1, 2),
        (b"a.b 1\n", Value, 1, 1),
        (b"a 1\0\n", Value, 1, 2),
        (b"a 1e400\n", Range, 1, 2),
        (b"a 1\r\na 2\r\n", CarriageReturn, 1, 3),
        (b"# TYPE a counter\r\n", CarriageReturn, 1, 16),
        (b"a 1\n\r\n", CarriageReturn, 2, 4),
        (b"a 1 -1\n", Timestamp, 1, 4),
        (b"a 1 1.5\n", Trailing, 1, 5),
        (b"a 1 x\n", Timestamp, 1, 4),
        (b"a 1{\n", Timestamp, 1, 3),
        (b"a 1 9223372036854775808\n", Timestamp, 1, 4),
        (b"a 1 # {b=\"c\"} 1\n", Timestamp, 1, 4),
        (b"a 1 2 3\n", Trailing, 1, 6),
        (b"a{b='c'} 1\n", LabelValue, 1, 4),
        (b"a{b=c} 1\n", LabelValue, 1, 4),
        (b"a{b} 1\n", Equal, 1, 3),
        (b"a{b:c=\"d\"} 1\n", Equal, 1, 3),
        (b"a{1=\"d\"} 1\n", LabelName, 1, 2),
        (b"a{,} 1\n", LabelName, 1, 2),
        (b"a{b=\"c\",,} 1\n", LabelName, 1, 8),
        (b"a{=\"\"} 1\n", LabelName, 1, 2),
        (b"a{\xff=\"c\"} 1\n", LabelName, 1, 2),
        (b"a{b=\"\xff\"} 1\n", NotUtf8, 1, 5),
        (b"{\"a\xff\"} 1\n", NotUtf8, 1, 3),
        (b"# HELP a b\xff\n", NotUtf8, 1, 10),
        (b"a{\n} 1\n", OpenBrace, 1, 2),
        (b"a{b=\n", OpenBrace, 1, 4),
        (b"a 1\na{b=\"c} 1\n", OpenQuote, 2, 8),
        (b"a 1\na{b=\"c\\\n", OpenQuote, 2, 8),
        (b"a 1\na{b=\"c\\", OpenQuote, 2, 8),
        (b"a 1\na{b=\"c} 1\nd{e=\"f\"} 2\ng 3\n", LineFeed, 2, 8),
        (b"a{b=\"c\nd\",e=f} 1\n", LineFeed, 1, 4),
        (b"a{b=\"c\",b=\"d\"} 1\n", DuplicateLabel, 1, 8),
        (b"{\"a\",\"b\\n\"=\"c\",\"b\n\"=\"d\"} 1\n", DuplicateLabel, 1, 16),
        (b"{\"a\",\"b\"=\"c\",b=\"d\"} 1\n", DuplicateLabel, 1, 13),
        (b"a{__name__=\"b\"} 1\n", DuplicateLabel, 1, 2),
        (b"a{\"b\"} 1\n", TwoNames, 1, 2),
        (b"{\"a\",\"b\"} 1\n", TwoNames, 1, 5),
        (b"{b=\"c\"} 1\n", NameMissing, 1, 7),
        (b"{} 1\n", NameMissing, 1, 2),
        (b"{\"\"} 1\n", EmptyName, 1, 2),
        (b"{\"a\0\"} 1\n", OpenQuote, 1, 1),
        (b"# TYPE\t\n", MetadataName, 1, 7),
        (b"# HELP #\n", MetadataName, 1, 7),
        (b"# TYPE \"a\n", OpenQuote, 1, 7),
        (b"# TYPE a\n", UnknownType, 1, 8),
        (b"# TYPE a  counter\n", UnknownType, 1, 9),
        (b"# TYPE a counter \n", UnknownType, 1, 9),
        (b"# TYPE a info\n", UnknownType, 1, 9),
    ];
    for (page, fault, line, byte) in pages {
        breaks(page, TEXT, *fault, *line, *byte);
    }
}

#[test]
fn openmetrics_is_taken_as_prometheus_takes_it() {
    let lines: &[(&[u8], u64)] = &[
        (b"", 0),
        (b"a 1\na_total 1.5 1520879607.789\n", 2),
        (b"a{} 1\na{b=\"c\"} 1\na{b=\"c\",} 1\na{b=\"\\\"\"} 1\n", 4),
        (b"{\"a\nb\",\"c\nd\"=\"e\"} 1\n", 1),
        (b"a_bucket{le=\"+Inf\"} 1 # {} 4\na 1 # {b=\"c\",d=\"e\",} NaN 1.5\na 1 2 # {\"b c\"=\"\"} -1\n", 3),
        (b"a 1 -1.5e3\na_created 1520872607.123\n", 2),
        (b"# TYPE a unknown\n# TYPE a gaugehistogram\n# TYPE a info\n# TYPE \"a b\" stateset\n", 0),
        (b"# HELP a \n# HELP a any text\n# UNIT a_seconds seconds\n# UNIT a \n# UNIT \"a_b_s\" b_s\n", 0),
    ];
    for (page, samples) in lines {
        holds([*page, &b"# EOF"[..]].concat(), OPEN_METRICS, *samples);
        holds([*page, &b"# EOF\n"[..]].concat(), "application/openmetrics-text", *samples);
    }
}

#[test]
fn a_broken_line_of_openmetrics_is_named_with_its_place() {
    use Fault::*;
    let pages: &[(&[u8], Fault, u64, u64)] = &[
        (b"\n", BlankLine, 1, 0),
        (b" a 1\n", LeadingBlank, 1, 0),
        (b"a 1\n# a comment\n", Comment, 2, 4),
        (b"#  TYPE a counter\n", Comment, 1, 0),
        (b"#EOF\n", Comment, 1, 0),
        (b"# TYPE\n", Comment, 1, 0),
        (b"# TYPE \n", MetadataName, 1, 7),
        (b"# TYPE a\n", MetadataText, 1, 8),
        (b"# TYPE a{counter\n", MetadataText, 1, 8),
        (b"# TYPE a untyped\n", UnknownType, 1, 9),
        (b"# TYPE a  counter\n", UnknownType, 1, 9),
        (b"# UNIT a_b c\n", Unit, 1, 11),
        (b"# UNIT ab b\n", Unit, 1, 10),
        (b"# UNIT b b\n", Unit, 1, 9),
        (b"# HELP a \xff\n", NotUtf8, 1, 9),
        (b"9 1\n", NoName, 1, 0),
        (b"\0\n", Nul, 1, 0),
        (b"a\n", NoValue, 1, 1),
        (b"a\t1\n", NoValue, 1, 1),
        (b"a {b=\"c\"} 1\n", Value, 1, 2),
        (b"a{b=\"c\"}1\n", NoValue, 1, 8),
        (b"a  1\n", NoValue, 1, 2),
        (b"a 1\t2\n", Value, 1, 2),
        (b"a 1\r\n# EOF\r\n", CarriageReturn, 1, 3),
        (b"a 1 \n", Timestamp, 1, 4),
        (b"a 1 1z\n", Timestamp, 1, 4),
        (b"a 1 NaN\n", Timestamp, 1, 4),
        (b"a 1 -Inf\n", Timestamp, 1, 4),
        (b"a 1 #\n", Timestamp, 1, 4),
        (b"a 1 1 1\n", Trailing, 1, 5),
        (b"a{ b=\"c\"} 1\n", LabelName, 1, 2),
        (b"a{b=\"c\", d=\"e\"} 1\n", LabelName, 1, 8),
        (b"a{,b=\"c\"} 1\n", LabelName, 1, 2),
        (b"a{b=\"c\"d=\"e\"} 1\n", Comma, 1, 7),
        (b"a{b=\"c\nd\"} 1\n", OpenQuote, 1, 4),
        (b"a{b=\"c\",b=\"c\"} 1\n", DuplicateLabel, 1, 8),
        (b"a 1 # {b=\"c\"}\n", ExemplarValue, 1, 13),
        (b"a 1 # {b=\"c\"} true\n", ExemplarValue, 1, 14),
        (b"a 1 # {b=\"c\"} 1 NaN\n", ExemplarTimestamp, 1, 16),
        (b"a 1 # {b=\"c\"} 1 1 1\n", Trailing, 1, 17),
        (b"a 1 # {b} 1\n", Equal, 1, 8),
        (b"a 1 # {\"b\"} 1\n", Equal, 1, 10),
        (b"a 1 # {b=\"c\nd\"} 1\n", OpenQuote, 1, 9),
        (b"# EOF\na 1\n", AfterEof, 2, 6),
        (b"# EOF\n\n", AfterEof, 2, 6),
        (b"# EOFa 1\n", AfterEof, 1, 5),
    ];
    for (page, fault, line, byte) in pages {
        breaks(page, OPEN_METRICS, *fault, *line, *byte);
    }
}

#[test]
fn openmetrics_that_does_not_say_that_it_ends_was_cut_off() {
    let whole = b"# TYPE a counter\na_total{b=\"c\"} 1.5e3 12 # {d=\"e\"} 1 2\n# EOF";
    for end in 0..whole.len() {
        let page = &whole[..end];
        let line = 1 + page.iter().filter(|byte| **byte == b'\n').count() as u64;
        let failure = read(page, OPEN_METRICS).1.unwrap_err();
        let place = format!("in line {line}, at byte {end}: {}", Fault::NoEof.message());
        // An open quote is noticed where it opens.
        let open_quote = failure.message.ends_with(Fault::OpenQuote.message());
        assert!(failure.message.ends_with(&place) || open_quote, "{}: {}", page.escape_ascii(), failure.message);
    }
    holds(whole, OPEN_METRICS, 1);
}

#[test]
fn what_the_page_says_stands_in_the_detail_alone() {
    let failure = read("# HELP a canary\na{b=\"canary\"} can\x1bary\n", TEXT).1.unwrap_err();
    assert_eq!(
        failure.message,
        "the metrics page is broken in line 2, at byte 30: the value of the sample is no number"
    );
    assert_eq!(failure.detail.as_deref(), Some("a{b=\"canary\"} can\\u{1b}ary"));
}

#[test]
fn the_content_type_decides_and_nothing_else() {
    for fine in [
        "text/plain",
        "Text/Plain",
        "text/plain;",
        "text/plain; version=0.0.4",
        "text/plain;version=9;escaping=\"a;\\\"b\"",
        "application/openmetrics-text;version=0.0.1; charset=utf-8",
    ] {
        assert!(Reader::new(Some(fine), &MetricsOptions::default()).is_ok(), "{fine}");
    }
    let refused = |content_type| {
        let failure = Reader::new(content_type, &MetricsOptions::default()).unwrap_err();
        assert_eq!((failure.class, failure.phase), (ErrorClass::ContentType, Phase::Body));
        failure
    };
    assert!(refused(None).message.starts_with("the answer has no content type"));
    assert_eq!(refused(Some("")), refused(None));
    for broken in ["text/plain; version", "text/plain; a=1; a=2", "text/plain; a=\"b", "text/ plain", "/plain", ";a=b"]
    {
        assert_eq!(refused(Some(broken)).message, "the content type of the answer is not well-formed", "{broken}");
    }
    assert_eq!(
        refused(Some("text/html; charset=utf-8")).message,
        "the content type is text/html: a metrics page is text/plain or application/openmetrics-text"
    );
    assert!(refused(Some("application/vnd.google.protobuf; a=b")).message.contains("protobuf"));
    let canary = refused(Some("canary/canary"));
    assert!(!canary.message.contains("canary"));
    assert_eq!(canary.detail.as_deref(), Some("Content-Type: canary/canary"));
}

#[test]
fn a_family_is_there_when_one_of_its_samples_is() {
    let page = "# TYPE typed_only counter\nc_total 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\ng 2\n{\"dotted.\\\"name\"} 1\ni_info 1\n";
    let missing = |required: &[&str]| {
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        let (page, result) = read_in([page], TEXT, &MetricsOptions { required, ..MetricsOptions::default() });
        (page.missing, result.err())
    };
    assert_eq!(missing(&["c", "c_total", "h", "h_bucket", "h_sum", "g", "dotted.\"name", "i"]), (vec![], None));
    let (names, failure) = missing(&["typed_only", "g", "g_total", "h_count", "dotted", "typed_only_total"]);
    assert_eq!(names, ["typed_only", "g_total", "h_count", "dotted", "typed_only_total"]);
    let failure = failure.unwrap();
    assert_eq!((failure.class, failure.phase), (ErrorClass::MissingMetric, Phase::Body));
    assert_eq!(failure.message, "the page has no sample of typed_only, g_total, h_count and 2 more");
    assert_eq!(missing(&["x"]).1.unwrap().message, "the page has no sample of x");
}

#[test]
fn samples_are_counted_up_to_the_limit() {
    let options = MetricsOptions { most_samples: 3, ..MetricsOptions::default() };
    assert_eq!(read_in(["a 1\na 1\na 1\n"], TEXT, &options).1, Ok(()));
    let (page, result) = read_in(["a 1\na 1\na 1\na 1\n"], TEXT, &options);
    let failure = result.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Exposition);
    assert_eq!(failure.message, "the page has more than the 3 samples that are allowed");
    assert_eq!(page, Page { samples: 3, ..Page::default() });
}

#[test]
fn a_line_is_held_up_to_its_limit_and_no_further() {
    let value = |length: usize| format!("a 1\na{{b=\"{}\"}} 1\n", "x".repeat(length - 9));
    for chunk in [1 << 10, 1 << 14, usize::MAX] {
        let read = |page: &str| read_in(page.as_bytes().chunks(chunk), TEXT, &MetricsOptions::default());
        assert_eq!(read(&value(MAX_LINE)).1, Ok(()), "{chunk}");
        let (page, result) = read(&value(MAX_LINE + 1));
        assert_eq!((page.samples, page.broken_at), (1, None), "{chunk}");
        assert_eq!(result.unwrap_err().message, "line 2 of the metrics page is longer than 256 KiB");
        // One long line of something else is called what it is.
        let html = format!("<html>{}", "x".repeat(MAX_LINE));
        assert!(read(&html).1.unwrap_err().message.ends_with(Fault::Markup.message()));
        let quotes = format!("a{{b=\"\n{}", "\n\\\"".repeat(MAX_LINE));
        assert!(read(&quotes).1.unwrap_err().message.ends_with(Fault::LineTooLong.message()));
    }
    let mut reader = Reader::new(Some(TEXT), &MetricsOptions::default()).unwrap();
    for _ in 0..1_000 {
        let _ = reader.feed(&[b'a'; 1 << 13]);
    }
    assert!(reader.lines.held() <= 2 * MAX_LINE, "{}", reader.lines.held());
}

#[test]
fn many_labels_are_compared_as_few_are() {
    let labels = |names: &[String]| names.iter().map(|name| format!("{name}=\"x\",")).collect::<String>();
    let mut names: Vec<String> = (0..1_000).map(|n| format!("l{n}")).collect();
    holds(format!("a{{{}}} 1\n", labels(&names)), TEXT, 1);
    names.push("l500".to_owned());
    let page = format!("a{{{}}} 1\n", labels(&names));
    breaks(&page, TEXT, Fault::DuplicateLabel, 1, page.rfind("l500").unwrap() as u64);
}

#[test]
fn a_scrape_asks_as_prometheus_does() {
    let headers = accept_headers(Duration::from_millis(2_500));
    assert_eq!(headers[0], ("accept", ACCEPT.to_owned()));
    assert!(!ACCEPT.contains(' ') && ACCEPT.ends_with(",*/*;q=0.2"));
    assert_eq!(headers[1], ("x-prometheus-scrape-timeout-seconds", "2.5".to_owned()));
    assert_eq!(accept_headers(Duration::from_secs(10))[1].1, "10");
}

/// Pieces of pages, put together at random: most are broken, many nearly well.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        b"a",
        b"b_total",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b"=",
        b",",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"1",
        b"1.5e3",
        b"NaN",
        b"#",
        b"# ",
        b"HELP ",
        b"TYPE ",
        b"UNIT ",
        b"counter",
        b"# EOF",
        b"# EOF\n",
        b" # {",
        b"\xff",
        b"\xc3\xa9",
        b"a 1\n",
        b"a{b=\"c\"} 1\n",
        b"{\"a\",\"b\"=\"c\"} 1\n",
        b"# TYPE a counter\n",
        b"a 1 # {b=\"c\"} 1 2\n",
        b"b=\"",
        b"\",",
        b"\"} 2\n",
    ];
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn where_chunks_are_cut_does_not_matter(page in pieces(), cuts in prop::collection::vec(0_usize..64, 0..8)) {
        for content_type in [TEXT, OPEN_METRICS] {
            let whole = read(&page, content_type);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (*cut).min(page.len())).collect();
            cuts.extend([0, page.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|cut| &page[cut[0]..cut[1]]);
            prop_assert_eq!(&read_in(chunks, content_type, &MetricsOptions::default()), &whole);
            prop_assert_eq!(read_in(page.chunks(1), content_type, &MetricsOptions::default()), whole);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(page in prop::collection::vec(any::<u8>(), 0..200)) {
        for content_type in [TEXT, OPEN_METRICS] {
            let (seen, result) = read(&page, content_type);
            if let Err(failure) = result {
                prop_assert!(seen.broken_at.is_some_and(|(line, byte)| line > 0 && byte <= page.len() as u64));
                prop_assert!(failure.detail.is_none_or(|detail| detail.chars().count() <= 512));
            }
        }
    }
}

/// What the real application answered, and the content type that it gave it.
fn golden(file: &str) -> (Vec<u8>, String) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/spring-3.5");
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{root}/cases.json")).unwrap()).unwrap();
    let cases = cases.as_array().or_else(|| cases["cases"].as_array()).unwrap();
    let case = cases.iter().find(|case| case["file"] == file).unwrap();
    (std::fs::read(format!("{root}/{file}")).unwrap(), case["contentType"].as_str().unwrap().to_owned())
}

#[test]
fn pages_of_a_real_spring_application_are_taken() {
    for file in ["metrics/prometheus.txt", "metrics/openmetrics.txt"] {
        let (page, content_type) = golden(file);
        // Where the recording was cut it says so, in a comment of its own.
        let lines = page.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"# here, "));
        let page = lines.collect::<Vec<_>>().concat();
        let required = ["application_ready_time_seconds", "tomcat_sessions_rejected_sessions"].map(str::to_owned);
        let options = MetricsOptions { required: required.to_vec(), ..MetricsOptions::default() };
        let (seen, result) = read_in(page.chunks(7), &content_type, &options);
        assert_eq!(result, Ok(()), "{file}");
        let samples = page.split(|byte| *byte == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_lowercase));
        assert_eq!(seen.samples, samples.count() as u64, "{file}");
    }
}

#[test]
fn other_pages_of_a_real_spring_application_are_refused() {
    for (file, class) in [
        ("errors/context-path.html", ErrorClass::ContentType),
        ("errors/prometheus-not-exposed.json", ErrorClass::ContentType),
        ("errors/base-path-root-itself.txt", ErrorClass::Exposition),
    ] {
        let (page, content_type) = golden(file);
        let failure = match Reader::new(Some(&content_type), &MetricsOptions::default()) {
            Ok(_) => read(&page, &content_type).1.unwrap_err(),
            Err(failure) => failure,
        };
        assert_eq!(failure.class, class, "{file}: {content_type}");
    }
}
