//! Probes of a cluster's endpoints.

use super::compiler::Compiler;
use super::file;
use super::headers::is_field_name;
use super::scalar;
use crate::decision::plan::{Probe, ProbeKind};
use std::time::Duration;

impl Compiler<'_> {
    /// The probe of a cluster, with the documented defaults.
    pub(super) fn probe(&mut self, probe: Option<&file::Probe>, path: &str) -> Probe {
        let default = Probe::default();
        let Some(probe) = probe else { return default };
        let interval = probe.interval.unwrap_or(default.interval);
        let timeout =
            probe.timeout.as_ref().map_or(default.timeout.min(interval), |timeout| timeout.value);
        if timeout > interval {
            let at = probe.timeout.as_ref().map_or(probe.at, |timeout| timeout.at);
            let message =
                format!("the timeout is longer than the interval: {timeout:?} > {interval:?}");
            self.problems.error(at, format!("{path}.probe.timeout"), message);
        }
        if interval < Duration::from_millis(10) || timeout.is_zero() {
            let message = "the interval must be at least 10ms, and the timeout more than 0";
            self.problems.error(probe.at, format!("{path}.probe"), message);
        }
        let kind = match probe.kind.unwrap_or(file::ProbeKind::Tcp) {
            file::ProbeKind::None => ProbeKind::None,
            file::ProbeKind::Tcp => ProbeKind::Tcp,
            file::ProbeKind::Tls => ProbeKind::Tls,
            file::ProbeKind::Grpc => {
                let service = probe.service.clone().unwrap_or_default();
                if service.len() > 127 {
                    let message = "a service name has at most 127 bytes";
                    self.problems.error(probe.at, format!("{path}.probe.service"), message);
                }
                ProbeKind::Grpc { service }
            }
            file::ProbeKind::Http => self.http_probe(probe, path),
        };
        let count = |count: Option<scalar::Within<1, 100>>, default| {
            count.map_or(default, |count| u32::try_from(count.0).unwrap_or(default))
        };
        Probe {
            kind,
            interval,
            timeout,
            fall: count(probe.fall, 2),
            rise: count(probe.rise, 3),
            port: probe.port.and_then(|port| u16::try_from(port.0).ok()),
        }
    }

    fn http_probe(&mut self, probe: &file::Probe, path: &str) -> ProbeKind {
        let target = probe.path.clone().unwrap_or_else(|| "/".to_owned());
        let valid = |c: char| c.is_ascii_graphic();
        if !target.starts_with('/') || !target.chars().all(valid) {
            let message = format!("`{target}` must begin with `/` and have no spaces");
            self.problems.error(probe.at, format!("{path}.probe.path"), message);
        }
        let headers = probe.headers.clone().unwrap_or_default();
        let control = |text: &str| text.chars().any(char::is_control);
        let unclean =
            headers.0.iter().any(|(name, value)| control(value) || !is_field_name(&name.value));
        if unclean || probe.host.as_deref().is_some_and(|host| host.contains(' ') || control(host))
        {
            let message = "`host` and `headers` must be valid header names and values, without control characters";
            self.problems.error(probe.at, format!("{path}.probe"), message);
        }
        let status = probe
            .status
            .as_ref()
            .map_or(vec![200..=399], |ranges| ranges.iter().map(|range| range.0.clone()).collect());
        ProbeKind::Http {
            path: target,
            host: probe.host.clone(),
            headers: headers.0.into_iter().map(|(name, value)| (name.value, value)).collect(),
            status,
        }
    }
}
