//! The messages of KEDA's gRPC service `externalscaler.ExternalScaler`, by their field numbers.
//!
//! ```proto
//! message ScaledObjectRef      { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
//! message IsActiveResponse     { bool result = 1; }
//! message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
//! message MetricSpec           { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
//! message GetMetricsRequest    { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
//! message GetMetricsResponse   { repeated MetricValue metricValues = 1; }
//! message MetricValue          { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
//! ```

use super::protobuf::{Fields, Malformed, Value, Writer};

/// The metric of every scaled object: the number of replicas.
pub(super) const METRIC: &str = "tidegate-desired-replicas";

/// The service and the cluster that a scaled object names in its metadata.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Scaled {
    /// `service`.
    pub(super) service: String,
    /// `cluster`.
    pub(super) cluster: String,
}

impl Scaled {
    /// Reads a `ScaledObjectRef`. Other metadata than `service` and `cluster` is ignored: KEDA sends all of the
    /// trigger's. Of a repeated key, the last value counts.
    pub(super) fn read(bytes: &[u8]) -> Result<Scaled, Malformed> {
        let mut scaled = Scaled::default();
        let mut fields = Fields::of(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 | 2 => drop(value.text()?),
                3 => scaled.read_entry(value)?,
                _ => {}
            }
        }
        Ok(scaled)
    }

    fn read_entry(&mut self, entry: Value<'_>) -> Result<(), Malformed> {
        let (mut key, mut text) = ("", "");
        let mut fields = Fields::of(entry.bytes()?);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => key = value.text()?,
                2 => text = value.text()?,
                _ => {}
            }
        }
        match key {
            "service" => text.clone_into(&mut self.service),
            "cluster" => text.clone_into(&mut self.cluster),
            _ => {}
        }
        Ok(())
    }
}

/// A `GetMetricsRequest`: the scaled object, and the name of the requested metric.
pub(super) fn read_metrics_request(bytes: &[u8]) -> Result<(Scaled, String), Malformed> {
    let (mut scaled, mut metric) = (Scaled::default(), String::new());
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => scaled = Scaled::read(value.bytes()?)?,
            2 => value.text()?.clone_into(&mut metric),
            _ => {}
        }
    }
    Ok((scaled, metric))
}

/// An `IsActiveResponse`.
pub(super) fn is_active(result: bool) -> Vec<u8> {
    Writer::default().varint(1, u64::from(result)).end()
}

/// A `GetMetricSpecResponse`: one replica for each unit of the metric.
pub(super) fn metric_spec() -> Vec<u8> {
    let spec = Writer::default().bytes(1, METRIC.as_bytes()).varint(2, 1).double(3, 1.0).end();
    Writer::default().bytes(1, &spec).end()
}

/// A `GetMetricsResponse`: the number of replicas, as an integer and as a double, since versions of KEDA differ in the
/// field that they read.
pub(super) fn metrics(replicas: u64) -> Vec<u8> {
    let value = Writer::default().bytes(1, METRIC.as_bytes()).varint(2, replicas);
    let value = value.double(3, replicas as f64).end();
    Writer::default().bytes(1, &value).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ScaledObjectRef`.
    fn scaled(metadata: &[(&str, &str)]) -> Vec<u8> {
        let mut message = Writer::default().bytes(1, b"shop").bytes(2, b"default");
        for (key, value) in metadata {
            let entry = Writer::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
            message = message.bytes(3, &entry.end());
        }
        message.end()
    }

    #[test]
    fn the_metadata_names_service_and_cluster() {
        let all = [("scalerAddress", "gw:9902"), ("cluster", "near"), ("service", "shop")];
        let expected = Scaled { service: "shop".to_owned(), cluster: "near".to_owned() };
        assert_eq!(Scaled::read(&scaled(&all)), Ok(expected.clone()));
        let request = Writer::default().bytes(1, &scaled(&all)).bytes(2, b"m").varint(99, 1).end();
        assert_eq!(read_metrics_request(&request), Ok((expected, "m".to_owned())));
        assert_eq!(Scaled::read(b""), Ok(Scaled::default()));
        let twice = scaled(&[("service", "a"), ("service", "b")]);
        assert_eq!(Scaled::read(&twice).unwrap().service, "b");
    }

    #[test]
    fn wrong_types_and_text_are_malformed() {
        for bytes in [
            Writer::default().varint(1, 7).end(),
            Writer::default().bytes(1, b"\xff").end(),
            Writer::default().varint(3, 1).end(),
            Writer::default().bytes(3, b"\x0a\x02a").end(),
        ] {
            assert_eq!(Scaled::read(&bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
