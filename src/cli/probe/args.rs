//! The flags of `vigie probe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use crate::operator::flag_values as values;

/// The flags of `vigie probe`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  vigie probe http://192.0.2.10:8081/actuator/prometheus --metrics    is it what Prometheus could scrape?
  vigie probe https://web.example.com/ --spec backend.yaml            with the options of a MonitoredBackend
  vigie probe http://192.0.2.10:8081/ --actuator                      with what the actuator says of its health
  vigie probe tcp://192.0.2.10:5432                                   does anything listen there?

It dials from here, with no rule about addresses but --deny-network. When an HTTP probe fails behind a connection, the
actuator beside it is read as well, because the operator would do so before it concludes.

Exit codes: 0 passed, 3 failed, 1 could not probe, 2 wrong usage.")]
pub struct ProbeArgs {
    /// What to probe: http, https, tcp, grpc or grpcs
    #[arg(value_name = "URL")]
    pub url: String,
    /// How long it may take, 1 to 3600 [default: 5, or what --spec says]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(1..=3600))]
    pub timeout: Option<i32>,
    /// A file with the options of spec.probe as YAML, or a whole MonitoredBackend; - is stdin
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// The page must be one that Prometheus can scrape
    #[arg(long)]
    pub metrics: bool,
    /// Read the actuator's health as well; the probe passes when that is UP
    #[arg(long)]
    pub actuator: bool,
    /// A header to send, or @FILE with one in each line; repeatable. Others on this machine can see what stands here:
    /// give what is secret in a file
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A file with a token to send as Authorization: Bearer
    #[arg(long, value_name = "FILE", conflicts_with = "basic_auth_file")]
    pub bearer_token_file: Option<PathBuf>,
    /// A file with USER:PASSWORD
    #[arg(long, value_name = "FILE")]
    pub basic_auth_file: Option<PathBuf>,
    /// Certificates to trust in place of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM, when the server asks for one
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    pub client_cert_file: Option<PathBuf>,
    /// The key of our certificate, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert_file")]
    pub client_key_file: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub insecure_skip_verify: bool,
    /// The name that the certificate must have [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// A network that may be dialled; nothing is forbidden to a person but by --deny-network, which wins
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::network)]
    pub allow_network: Vec<IpNet>,
    /// A network that may not be dialled; repeatable
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = values::network)]
    pub deny_network: Vec<IpNet>,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
}

/// How `vigie probe` prints.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For machines
    Json,
}
