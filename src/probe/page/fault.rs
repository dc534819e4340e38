//! The faults of a page. Their messages contain no byte of the page.

/// Why parsing a line stopped, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The line is broken at this byte, counted from its beginning.
    Broken(Fault, usize),
    /// The line ends inside a quoted text that may continue in the next one; its quote is at this byte.
    Open(usize),
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident => $words:literal),+ $(,)?) => {
        /// A fault of a line, or of the end of the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fault { $($(#[$doc])* $name),+ }

        impl Fault {
            /// The message, to follow "line 3, byte 17: ".
            pub(super) const fn message(self) -> &'static str {
                match self { $(Self::$name => $words),+ }
            }
        }
    };
}

faults! {
    /// The first line begins as HTML or XML does.
    Markup => "what begins like this is HTML or XML, and no metrics page",
    /// The first line begins as JSON does.
    Json => "what begins like this is JSON, and no metrics page",
    /// A JSON document that is one text: the page was serialised once more.
    JsonText => "what begins like this is a text in JSON: the page must be sent as it is, not serialised as JSON",
    /// Compressed, and no header says so.
    Gzip => "what begins like this is gzip, and no Content-Encoding says so",
    /// U+FEFF.
    ByteOrderMark => "a byte order mark stands before the first line: the page must begin without one",
    /// The encoding of Windows' own programs.
    Utf16 => "what begins like this is UTF-16: a metrics page is UTF-8",
    /// Neither a name nor a comment.
    NoName => "a line must begin with the name of a metric",
    /// Prometheus 2 refuses such a line, Prometheus 3 makes the blank a part of the name.
    LeadingBlank => "a blank stands before the name of the metric",
    /// An empty line where OpenMetrics allows none.
    BlankLine => "OpenMetrics allows no empty line",
    /// A comment where OpenMetrics allows none.
    Comment => "OpenMetrics knows no comments but HELP, TYPE, UNIT and EOF, each behind one hash and one blank",
    /// HELP, TYPE or UNIT of nothing.
    MetadataName => "the name of a metric must follow HELP, TYPE or UNIT",
    /// HELP, TYPE or UNIT without text after the name.
    MetadataText => "a blank and a text must follow the name of the metric",
    /// A type that the format does not have.
    UnknownType => "the type of the metric is none that this format has",
    /// OpenMetrics requires the name to end with the unit.
    Unit => "the name of the metric does not end with an underscore and its unit",
    /// Bytes that are not UTF-8.
    NotUtf8 => "a text is not valid UTF-8",
    /// A NUL where none is allowed. Prometheus silently takes one at the beginning of a line as the end of the page; this
    /// parser reports it.
    Nul => "a NUL byte stands in the line",
    /// CR LF.
    CarriageReturn => "the line ends with a carriage return: lines must end with a line feed alone",
    /// A label without a name.
    LabelName => "the name of a label must stand here",
    /// Two quoted names.
    TwoNames => "the metric has a second name",
    /// Labels, and no name.
    NameMissing => "the labels belong to no metric: its name is missing",
    /// A name of no characters.
    EmptyName => "a name is empty",
    /// A label without its equal sign.
    Equal => "an equal sign must follow the name of a label",
    /// A label without a quoted value.
    LabelValue => "the value of a label must stand here, in double quotes",
    /// A label that is not followed by a comma or the end.
    Comma => "a comma or a closing brace must follow a label",
    /// A quote that is not closed.
    OpenQuote => "a quoted text is not closed",
    /// The same where a later line closes the quote and has a fault after it.
    LineFeed => "a quoted text is not closed in its line",
    /// A brace that is not closed.
    OpenBrace => "the line ends inside the labels",
    /// A duplicate label.
    DuplicateLabel => "a label is there twice",
    /// A sample without a value.
    NoValue => "the value of the sample is missing",
    /// A value that is not a number.
    Value => "the value of the sample is no number",
    /// A number that no double can hold.
    Range => "a number is out of range",
    /// The text after the value is not a timestamp.
    Timestamp => "what follows the value is no timestamp",
    /// Text after the end of the sample.
    Trailing => "something follows where the line must end",
    /// An exemplar without a value.
    ExemplarValue => "the value of the exemplar is missing or no number",
    /// An exemplar whose timestamp is none.
    ExemplarTimestamp => "what follows the value of the exemplar is no timestamp",
    /// A line longer than the limit.
    LineTooLong => "longer than 256 KiB",
    /// OpenMetrics without `# EOF` at its end.
    NoEof => "the page ends without `# EOF`: it is cut off, or not OpenMetrics",
    /// OpenMetrics with text after `# EOF`.
    AfterEof => "something follows `# EOF`",
}
