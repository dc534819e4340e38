//! Parses a scrape.

#[derive(Clone, Debug)]
pub(crate) struct Scrape(pub(crate) String);

impl Scrape {
    /// The samples of one metric: their labels as written, and their values.
    pub(crate) fn samples(&self, name: &str) -> Vec<(String, f64)> {
        let sample = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels.to_owned(), value.split(' ').next()?.parse().ok()?))
        };
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
    }

    /// The sum of the samples of `name` whose labels contain every one of `labels`, such as `state="Offline"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let wanted = |found: &String| labels.iter().all(|label| found.contains(label));
        self.samples(name).into_iter().filter(|(found, _)| wanted(found)).map(|(_, value)| value).sum()
    }

    /// The state of one connector in the metrics.
    pub(crate) fn state_of(&self, name: &str) -> Option<String> {
        let label = format!("name=\"{name}\"");
        let mut ones =
            self.samples("vigie_connector_state").into_iter().filter(|(l, v)| l.contains(&label) && *v == 1.0);
        let (labels, _) = ones.next()?;
        assert!(ones.next().is_none(), "more than one state of {name} is 1");
        let (_, rest) = labels.split_once("state=\"")?;
        rest.split('"').next().map(str::to_owned)
    }
}
