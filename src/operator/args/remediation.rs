//! The flags of `vigie run` for remediation: the operator's limits, which hold for every object.

use clap::{Args, ValueEnum};

use crate::remediation::Limits;

/// Whether remedies are taken at all, how many at once, and what holds them back.
#[derive(Args, Debug, Clone)]
pub struct RemediationArgs {
    /// Whether anything is ever restarted; off: everything is observed and diagnosed, nothing is touched
    #[arg(long, value_enum, value_name = "WHETHER", env = "VIGIE_REMEDIATION", default_value_t)]
    pub remediation: Remediation,
    /// The brake: no new remedy while more than this share of a site's workloads is unhealthy, 1 to 100
    #[arg(long, value_name = "PERCENT", env = "VIGIE_BRAKE_PERCENT", default_value_t = 40,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    pub brake_percent: u16,
    /// The brake holds only where at least so many workloads of the site are unhealthy, 1 to 10000
    #[arg(long, value_name = "N", env = "VIGIE_BRAKE_MIN", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub brake_min: u16,
    /// How many remedies are under way at once, from the restart to the verified outcome, 1 to 1000
    #[arg(long, value_name = "N", env = "VIGIE_MAX_IN_FLIGHT", default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_in_flight: u16,
    /// How many remedies are under way at once in one site, 1 to 1000
    #[arg(long, value_name = "N", env = "VIGIE_MAX_IN_FLIGHT_PER_SITE", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_in_flight_per_site: u16,
    /// How many remedies are started in any minute, 1 to 1000
    #[arg(long, value_name = "N", env = "VIGIE_MAX_PER_MINUTE", default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_per_minute: u16,
    /// The breaker: nothing is restarted until a person resets it, once more than this share of all workloads turned
    /// unhealthy within 5 minutes, 1 to 100
    #[arg(long, value_name = "PERCENT", env = "VIGIE_BREAKER_PERCENT", default_value_t = 60,
        value_parser = clap::value_parser!(u16).range(1..=100))]
    pub breaker_percent: u16,
    /// The breaker opens only when at least so many workloads turned unhealthy, 1 to 10000
    #[arg(long, value_name = "N", env = "VIGIE_BREAKER_MIN", default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub breaker_min: u16,
}

/// Whether anything is ever restarted.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remediation {
    /// What the objects ask for
    #[default]
    On,
    /// Never
    Off,
}

impl RemediationArgs {
    /// The flags as the decisions take them.
    pub fn limits(&self) -> Limits {
        let Self {
            remediation,
            brake_percent,
            brake_min,
            max_in_flight,
            max_in_flight_per_site,
            max_per_minute,
            breaker_percent,
            breaker_min,
        } = self;
        Limits {
            is_on: *remediation == Remediation::On,
            brake_percent: usize::from(*brake_percent),
            brake_min: usize::from(*brake_min),
            in_flight: usize::from(*max_in_flight),
            in_flight_per_site: usize::from(*max_in_flight_per_site),
            per_minute: usize::from(*max_per_minute),
            breaker_percent: usize::from(*breaker_percent),
            breaker_min: usize::from(*breaker_min),
        }
    }
}
