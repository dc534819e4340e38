//! Encodes the values of gauges.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Encodes a gauge that has one series and no labels.
pub(super) fn single(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(value)
}

/// Encodes one series of a gauge.
pub(super) fn gauge<const N: usize>(
    metric: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    value: &impl EncodeGaugeValue,
) -> fmt::Result {
    metric.encode_family(labels)?.encode_gauge(value)
}

/// Seconds since the epoch, to the millisecond, which is all that the digits of a float hold.
pub(super) fn unix_seconds(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since the epoch fit 53 bits until the year 287396")]
    let millis = at.as_millisecond() as f64;
    millis / 1000.0
}
