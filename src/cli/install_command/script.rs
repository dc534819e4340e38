//! The script that installs the agent on a host. Pure.

/// What the script installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script<'a> {
    /// The operator, as the host reaches it.
    pub(super) url: &'a str,
    /// `NAMESPACE/NAME`.
    pub(super) connector: &'a str,
    /// The source of the binary, instead of the operator.
    pub(super) download_url: Option<&'a str>,
    /// The hash of the binary, in hexadecimal.
    pub(super) sha256: &'a str,
    /// The arguments of `vigie agent install`.
    pub(super) arguments: &'a [String],
    /// The token; without it the script asks.
    pub(super) token: Option<&'a str>,
    /// Whether `http://` is allowed.
    pub(super) allow_insecure: bool,
}

impl Script<'_> {
    /// The text.
    pub(super) fn text(&self) -> String {
        let protocol = if self.allow_insecure { ":" } else { "options+=(--proto '=https')" };
        let arguments: Vec<String> = self.arguments.iter().map(|argument| quoted(argument)).collect();
        let values = [
            ("@VERSION@", env!("CARGO_PKG_VERSION").to_owned()),
            ("@NAME@", self.connector.to_owned()),
            ("@URL@", quoted(self.url)),
            ("@CONNECTOR@", quoted(self.connector)),
            ("@DOWNLOAD@", quoted(self.download_url.unwrap_or_default())),
            ("@SHA256@", quoted(self.sha256)),
            ("@PROTOCOL@", protocol.to_owned()),
            ("@ARGUMENTS@", arguments.join(" ")),
            ("@TOKEN@", quoted(self.token.unwrap_or_default())),
        ];
        filled(include_str!("script.sh"), &values)
    }
}

/// The template with the value in each place. A value may contain the name of a place, as text: a unit comes from the spec of
/// an object, and must not draw the token out of its quotes.
fn filled(template: &str, values: &[(&str, String)]) -> String {
    let (mut rest, mut text) = (template, String::new());
    let first = |rest: &str| values.iter().filter_map(|(name, value)| Some((rest.find(name)?, *name, value))).min();
    while let Some((at, name, value)) = first(rest) {
        text.push_str(&rest[..at]);
        text.push_str(value);
        rest = &rest[at + name.len()..];
    }
    text + rest
}

/// One word of bash.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;

    pub(in super::super) const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn script<'a>(arguments: &'a [String], token: Option<&'a str>) -> Script<'a> {
        Script {
            url: "https://vigie.example.com",
            connector: "gateways/edge-1",
            download_url: None,
            sha256: SHA256,
            arguments,
            token,
            allow_insecure: false,
        }
    }

    /// Whether bash finds it complete.
    fn parses(text: &[u8]) -> bool {
        let path = std::env::temp_dir().join(format!("vigie-script-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).unwrap();
        let parsed = Command::new("bash").arg("-n").arg(&path).output().unwrap();
        std::fs::remove_file(path).unwrap();
        parsed.status.success()
    }

    #[test]
    fn every_value_is_in_it_as_one_word_and_no_place_is_left() {
        let arguments = ["--url".to_owned(), "https://vigie.example.com/it's".to_owned()];
        let text = script(&arguments, Some("a'b\"c\\d@URL@")).text();
        assert!(parses(text.as_bytes()), "{text}");
        assert!(text.contains(r"'--url' 'https://vigie.example.com/it'\''s'"), "{text}");
        assert!(text.contains(r#"local vigie_token='a'\''b"c\d@URL@'"#), "{text}");
        assert_eq!(text.matches('@').count(), 2 + text.matches("[@]").count(), "only those of the token");
    }

    #[test]
    fn a_value_that_names_another_place_is_text() {
        let arguments = ["--unit".to_owned(), "x@TOKEN@y.service".to_owned()];
        let text = script(&arguments, Some("$(touch /tmp/owned)")).text();
        assert!(text.contains("'--unit' 'x@TOKEN@y.service'"), "{text}");
        assert_eq!(text.matches("$(touch /tmp/owned)").count(), 1, "the token stands in its own place alone");
    }

    #[test]
    fn the_call_is_the_last_line_and_the_only_one_outside_of_functions() {
        let text = script(&[], None).text();
        let outside: Vec<&str> =
            text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).collect();
        assert_eq!(outside, ["vigie_install() {", "vigie_is_wanted() {", "vigie_fetch() {", "vigie_install"]);
        assert!(text.ends_with("}\n\nvigie_install\n"));
    }
}
