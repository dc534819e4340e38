use std::path::Path;

use clap::Parser;

use super::args::{Cli, Command, command};
use super::*;
use crate::metrics::ObjectMetrics;
use crate::operator::args::{AdminAuth, LogFormat, RunArgs};

fn run(flags: &str) -> Result<RunArgs, String> {
    let words = ["vigie", "run"].into_iter().chain(flags.split_whitespace());
    match Cli::try_parse_from(words) {
        Ok(Cli { command: Command::Run(args) }) => Ok(*args),
        Ok(_) => panic!("run is run"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn clap_finds_no_fault_with_the_definitions() {
    command(false).debug_assert();
    command(true).debug_assert();
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let args = run("").unwrap();
    assert_eq!((args.ports.listen.to_string(), args.ports.admin.to_string()), ("[::]:8080".into(), "[::]:9090".into()));
    assert_eq!((args.writes.status_writes_per_second, args.writes.checkpoint_seconds), (10, 60));
    assert_eq!((args.lease.lease_name.as_str(), args.lease.lease_namespace), ("vigie", None));
    assert_eq!((args.ports.admin_auth, args.object_metrics), (AdminAuth::Off, ObjectMetrics::Auto));
    assert_eq!((args.logging.log_format, args.logging.log.as_str()), (LogFormat::Text, "info"));
    assert!(
        args.namespace.is_empty() && args.heartbeat.trusted_proxy.is_empty() && args.reachability.public_url.is_none()
    );
}

#[test]
fn lists_repeat_or_are_separated_by_commas() {
    let args =
        run("--namespace a --namespace b,c --trusted-proxy 10.0.0.0/8,fd00::/8 --trusted-proxy 192.0.2.1").unwrap();
    assert_eq!(args.namespace, ["a", "b", "c"]);
    let proxies: Vec<String> = args.heartbeat.trusted_proxy.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]);
}

#[test]
fn a_wrong_value_is_answered_by_what_would_be_right() {
    for (flags, sentence) in [
        ("--listen 8080", "an IP address and a port are needed, such as 0.0.0.0:8080"),
        ("--namespace Gateways", "a namespace has 1 to 63 characters a-z"),
        ("--lease-name a/b", "a name has characters a-z"),
        ("--status-writes-per-second 0", "0 is not in 1..=1000"),
        ("--status-writes-per-second 1001", "1001 is not in 1..=1000"),
        ("--checkpoint-seconds 3601", "3601 is not in 1..=3600"),
        ("--trusted-proxy 10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("--trusted-proxy proxy", "a network in CIDR notation is needed"),
        ("--public-url vigie.example.com", "a URL that begins with http:// or https:// is needed"),
        ("--public-url https://u:p@vigie.example.com", "may carry no user or password"),
        ("--public-url https://vigie.example.com/?a=b", "without a query"),
        ("--admin-auth on", "[possible values: off, kubernetes]"),
        ("--object-metrics some", "[possible values: auto, on, off]"),
        ("--log-format xml", "[possible values: text, json]"),
        ("--log loud", "error, warn, info, debug or trace is needed"),
        ("--tls-cert-file a.pem", "--tls-key-file <FILE>"),
        ("--probe-concurrency 1", "1 is not in 2..=10000"),
        ("--deny-network anything", "a network in CIDR notation is needed"),
        ("--max-flights 5", "unexpected argument '--max-flights'"),
        ("--remediation maybe", "[possible values: on, off]"),
        ("--brake-percent 0", "0 is not in 1..=100"),
        ("--breaker-percent 101", "101 is not in 1..=100"),
        ("--brake-min 0", "0 is not in 1..=10000"),
        ("--breaker-min 0", "0 is not in 1..=10000"),
        ("--max-in-flight 0", "0 is not in 1..=1000"),
        ("--max-in-flight-per-site 0", "0 is not in 1..=1000"),
        ("--max-per-minute 1001", "1001 is not in 1..=1000"),
    ] {
        let error = run(flags).expect_err(flags);
        assert!(error.contains(sentence), "{flags}: {error}");
    }
}

#[test]
fn every_limit_of_remedies_has_its_flag_and_the_default_of_the_contract() {
    use crate::remediation::Limits;
    assert_eq!(run("").unwrap().remediation.limits(), Limits::default());
    let given = "--remediation off --brake-percent 41 --brake-min 4 --max-in-flight 6 --max-in-flight-per-site 2 \
                 --max-per-minute 11 --breaker-percent 61 --breaker-min 7";
    let expected = Limits {
        is_on: false,
        brake_percent: 41,
        brake_min: 4,
        in_flight: 6,
        in_flight_per_site: 2,
        per_minute: 11,
        breaker_percent: 61,
        breaker_min: 7,
    };
    assert_eq!(run(given).unwrap().remediation.limits(), expected);
}

#[test]
fn a_url_and_a_log_filter_are_taken_as_people_write_them() {
    let args = run("--public-url https://vigie.example.com/edge/ --log info,vigie::leader=debug").unwrap();
    assert_eq!(args.reachability.public_url.as_deref(), Some("https://vigie.example.com/edge"));
    assert_eq!(args.logging.log, "info,vigie::leader=debug");
}

#[test]
fn every_flag_of_run_has_its_environment_variable() {
    let command = command(false);
    let run = command.find_subcommand("run").unwrap();
    for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
        let long = arg.get_long().unwrap();
        let expected = format!("VIGIE_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()), "--{long}");
        assert!(arg.get_help().is_some(), "--{long} has no help");
    }
}

#[test]
fn get_takes_a_namespace_or_all_of_them() {
    let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
    assert!(parse("vigie get -A -o wide -w").is_ok());
    let error = parse("vigie get -A -n gw").unwrap_err().to_string();
    assert!(error.contains("cannot be used with"), "{error}");
    let error = parse("vigie get a b c").unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn as_a_plugin_every_text_says_kubectl_vigie() {
    assert!(is_plugin(Path::new("/usr/local/bin/kubectl-vigie")) && is_plugin(Path::new("kubectl-vigie.exe")));
    assert!(!is_plugin(Path::new("/usr/local/bin/vigie")));
    let error = command(true).try_get_matches_from(["kubectl-vigie", "get", "--help"]).unwrap_err();
    let help = error.to_string();
    assert!(help.contains("Usage: kubectl vigie get"), "{help}");
    assert!(help.contains("\n  kubectl vigie get connectors -A -o wide"), "{help}");
}
