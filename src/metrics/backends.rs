//! The series of backends.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::encoding::{gauge, unix_seconds};
use crate::api::{BackendState, Truth};
use crate::view::BackendView;

pub(super) fn key(view: &BackendView) -> [(&'static str, &str); 2] {
    [("namespace", &view.namespace), ("name", &view.name)]
}

pub(super) fn encode_counts(encoder: &mut DescriptorEncoder, counts: &[u64]) -> fmt::Result {
    let help = "Backends by state, as this replica knows them; join with vigie_leader.";
    let mut metric = encoder.encode_descriptor("vigie_backends", help, None, MetricType::Gauge)?;
    for state in BackendState::ALL {
        gauge(&mut metric, &[("state", state.as_str())], &counts[*state as usize])?;
    }
    Ok(())
}

pub(super) fn encode(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    encode_states(encoder, views)?;
    encode_probes(encoder, views)?;
    encode_phases(encoder, views)?;
    encode_certificates(encoder, views)?;
    encode_scraped(encoder, views)
}

fn encode_states(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    let help = "The state of a backend: one series per state, exactly one of them is 1.";
    let mut metric = encoder.encode_descriptor("vigie_backend_state", help, None, MetricType::Gauge)?;
    for view in views {
        let [namespace, name] = key(view);
        for state in BackendState::ALL {
            gauge(&mut metric, &[namespace, name, ("state", state.as_str())], &u32::from(view.state == *state))?;
        }
    }
    Ok(())
}

fn encode_probes(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    let help = "Whether the last probe passed; absent before the first.";
    let mut metric = encoder.encode_descriptor("vigie_probe_success", help, None, MetricType::Gauge)?;
    for (view, passed) in views.iter().filter_map(|view| Some((view, view.passed?))) {
        gauge(&mut metric, &key(view), &u32::from(passed))?;
    }
    Ok(())
}

fn encode_phases(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    let help = "How long each phase of the last probe took; a phase that it did not reach is absent.";
    let unit = Some(&Unit::Seconds);
    let mut metric = encoder.encode_descriptor("vigie_probe_duration", help, unit, MetricType::Gauge)?;
    for view in views {
        let [namespace, name] = key(view);
        for (phase, seconds) in &view.phases {
            gauge(&mut metric, &[namespace, name, ("phase", phase.as_str())], seconds)?;
        }
    }
    Ok(())
}

fn encode_certificates(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    let name = "vigie_probe_certificate_expiry_timestamp";
    let help = "When the certificate that was shown last expires; absent where none was shown.";
    let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
    for (view, at) in views.iter().filter_map(|view| Some((view, view.certificate_expiry_time?))) {
        gauge(&mut metric, &key(view), &unix_seconds(at))?;
    }
    Ok(())
}

fn encode_scraped(encoder: &mut DescriptorEncoder, views: &[BackendView]) -> fmt::Result {
    let help = "Whether Prometheus scrapes it, as Prometheus says; absent where that is not known.";
    let mut metric = encoder.encode_descriptor("vigie_backend_scraped", help, None, MetricType::Gauge)?;
    for (view, scraped) in views.iter().filter_map(|view| Some((view, view.scraped?))) {
        if scraped != Truth::Unknown {
            gauge(&mut metric, &key(view), &u32::from(scraped == Truth::True))?;
        }
    }
    Ok(())
}
