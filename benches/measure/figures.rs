//! Medians, ranges, percentiles.

use std::fmt;
use std::time::Duration;

/// A figure measured several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeated(Vec<f64>);

impl Repeated {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[n / 2],
            n => (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0,
        }
    }
}

impl FromIterator<f64> for Repeated {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut repeated = Self::default();
        values.into_iter().for_each(|value| repeated.add(value));
        repeated
    }
}

/// `median (lowest to highest)`, with the requested number of decimals.
impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(0);
        let (Some(low), Some(high)) = (self.0.first(), self.0.last()) else { return f.write_str("not measured") };
        write!(f, "{:.decimals$} ({low:.decimals$} to {high:.decimals$})", self.median())
    }
}

/// The `percent`th percentile: the smallest value that this many percent do not exceed. Sorts.
pub(crate) fn percentile(values: &mut [Duration], percent: f64) -> Duration {
    values.sort_unstable();
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Prints one figure, aligned with the others.
pub(crate) fn say(what: &str, figure: impl fmt::Display) {
    println!("  {what:<58} {figure}");
}

/// Prints a figure with its goal, and whether it is reached.
pub(crate) fn judge(what: &str, figure: impl fmt::Display, goal: &str, reached: bool) {
    let verdict = if reached { "reached" } else { "MISSED" };
    println!("  {what:<58} {figure}   goal {goal}: {verdict}");
}
