//! Clusters: what they inherit from their sites, where their endpoints come from, how they are probed.

use super::check::{Compiler, owned, rooted};
use super::error::Problem;
use super::file;
use super::routes::is_field_name;
use super::scalar::{self, AutoDuration, host_and_port, is_host_name};
use super::shape::Spanned;
use crate::decision::outlier::{Failures, Outlier};
use crate::decision::plan::{
    Address, Cluster, EndpointSpec, Failback, HostPolicy, Kind, Probe, ProbeKind, Reports,
    SendProxy, Source, Target,
};
use crate::decision::price::Prices;
use std::path::Path;
use std::time::Duration;

/// What a cluster inherits.
struct Inherited {
    site: String,
    kind: Kind,
    environment: String,
    accepts: Vec<String>,
    offers: Vec<String>,
    prices: Prices,
}

impl Compiler<'_> {
    /// Compiles all clusters into the plan.
    pub(super) fn clusters(&mut self, folder: &Path) {
        if self.file.clusters.is_empty() {
            self.problems.error(self.file.at, "clusters", "there must be at least one cluster");
        }
        for (name, cluster) in &self.file.clusters.0 {
            let path = format!("clusters.{}", name.value);
            let inherited = self.inherit(&name.value, cluster, &path);
            let accepts = self.accepts(cluster, &inherited, &path);
            let source = self.source(name, cluster, folder, &path);
            let probe = self.probe(cluster.probe.as_ref(), &path);
            let tls = cluster.tls.as_ref();
            let (tls, upstream) = tls
                .map(|written| self.upstream_tls(written, cluster.protocol, &source, folder, &path))
                .unzip();
            let is_unix =
                |spec: &EndpointSpec| matches!(spec.target, Target::Address(Address::Unix(_)));
            if let (Some(written), Source::Static(specs)) = (&cluster.tls, &source)
                && specs.iter().any(is_unix)
            {
                let message = "a unix socket does without TLS";
                self.problems.error(written.at, format!("{path}.tls"), message);
            }
            let is_http2 = cluster.protocol == Some(file::ClusterProtocol::Http2);
            if let (ProbeKind::Http { .. }, true, None, Some(written)) =
                (&probe.kind, is_http2, &tls, &cluster.probe)
            {
                let message = "an http probe speaks HTTP/1, which this cluster does not";
                let hint = "kind: grpc, or tcp";
                let path = format!("{path}.probe.kind");
                self.problems.error_with_hint(written.at, path, message, hint);
            }
            if tls.is_none() && probe.kind == ProbeKind::Tls {
                let message = "a tls probe needs `tls` of the cluster";
                self.problems.error(cluster.at, format!("{path}.probe"), message);
            }
            self.tls.clusters.push(upstream.flatten());
            let capacity = cluster.capacity.as_ref();
            let is_limit = |capacity: &&file::Capacity| {
                capacity.mode.unwrap_or(file::CapacityMode::Limit) == file::CapacityMode::Limit
            };
            let concurrent = |capacity: &file::Capacity| {
                u32::try_from(capacity.concurrent.0).unwrap_or(u32::MAX)
            };
            let (limits, timeouts) = (cluster.limits.as_ref(), cluster.timeouts.as_ref());
            let bound = |bound: Option<scalar::Within<1, 1_000_000>>| {
                bound.map_or(BOUND, |bound| u32::try_from(bound.0).unwrap_or(u32::MAX))
            };
            let failback = cluster.failback.as_ref();
            let outlier = self.outlier(cluster.outlier.as_ref(), &path);
            self.plan.clusters.push(Cluster {
                name: name.value.clone(),
                site: inherited.site,
                kind: inherited.kind,
                environment: inherited.environment,
                accepts,
                tls,
                http2: cluster.protocol == Some(file::ClusterProtocol::Http2),
                send_proxy: match cluster.send_proxy_protocol {
                    None | Some(file::SendProxy::None) => SendProxy::None,
                    Some(file::SendProxy::V1) => SendProxy::V1,
                    Some(file::SendProxy::V2) => SendProxy::V2,
                },
                offers: [inherited.offers, owned(&cluster.offers)].concat(),
                source,
                probe,
                ceiling: capacity.filter(is_limit).map(concurrent),
                capacity: capacity.map(concurrent),
                connections_max: bound(limits.and_then(|limits| limits.connections)),
                pending_max: bound(limits.and_then(|limits| limits.pending)),
                host: match cluster.host.as_deref() {
                    None | Some("preserve") => HostPolicy::Preserve,
                    Some("endpoint") => HostPolicy::Endpoint,
                    Some(name) => HostPolicy::Name(name.to_owned()),
                },
                dial: cluster.dial.map_or(100, |dial| u8::try_from(dial.0).unwrap_or(100)),
                connect: fixed(timeouts.and_then(|timeouts| timeouts.connect)),
                connect_total: timeouts
                    .and_then(|timeouts| timeouts.connect_total)
                    .unwrap_or(Duration::from_secs(2)),
                pool_idle: fixed(timeouts.and_then(|timeouts| timeouts.pool_idle)),
                queue: fixed(timeouts.and_then(|timeouts| timeouts.queue)),
                slow_start: cluster.slow_start.unwrap_or(Duration::from_secs(30)),
                outlier,
                failback: Failback {
                    manual: failback.and_then(|f| f.mode) == Some(file::FailbackMode::Manual),
                    hold: failback.and_then(|failback| failback.hold).unwrap_or_default(),
                },
                prices: cluster.cost.as_ref().map_or(inherited.prices, |cost| prices(Some(cost))),
                reports: match cluster.reports {
                    None | Some(file::ReportsWord::None) => Reports::None,
                    Some(file::ReportsWord::Orca) => Reports::Orca,
                    Some(file::ReportsWord::Tidegate) => Reports::Tidegate,
                },
                allow_link_local: cluster.allow_link_local == Some(true),
            });
            if let Some(host) = cluster.host.as_deref()
                && is_invalid_host(host)
            {
                let message = format!("`{host}` is not `preserve`, `endpoint` or a host name");
                self.problems.error(cluster.at, format!("{path}.host"), message);
            }
        }
    }

    fn inherit(&mut self, name: &str, cluster: &file::Cluster, path: &str) -> Inherited {
        let sites = self.file.sites.clone().unwrap_or_default();
        let site = cluster.site.as_ref().and_then(|wanted| {
            let found = sites.0.iter().find(|(known, _)| known.value == wanted.value);
            if found.is_none() && !sites.is_broken(&wanted.value) {
                let message = format!("there is no site `{}`", wanted.value);
                self.unknown(
                    wanted.at,
                    &format!("{path}.site"),
                    message,
                    &wanted.value,
                    sites.names(),
                );
            }
            found.map(|(_, site)| site)
        });
        let site_kind = site.and_then(|site| site.kind);
        if let (Some(own), Some(_)) = (&cluster.kind, site) {
            let theirs = site_kind.unwrap_or(file::SiteKind::Cloud);
            if own.value != theirs {
                let message = "differs from its site's";
                self.problems.error(own.at, format!("{path}.kind"), message);
            }
        }
        let kind = match (site, &cluster.kind) {
            (Some(_), _) => kind(site_kind.unwrap_or(file::SiteKind::Cloud)),
            (None, Some(own)) => kind(own.value),
            (None, None) => Kind::Cloud,
        };
        let environment = site.and_then(|site| site.environment.clone());
        if let (Some(own), Some(theirs)) = (&cluster.environment, &environment)
            && own.value != *theirs
        {
            let message = format!("differs from its site's, `{theirs}`");
            self.problems.error(own.at, format!("{path}.environment"), message);
        }
        let own_environment = cluster.environment.as_ref().map(|own| own.value.clone());
        Inherited {
            site: cluster.site.as_ref().map_or(name, |site| &site.value).to_owned(),
            kind,
            environment: own_environment
                .or(environment)
                .unwrap_or_else(|| self.plan.environment.clone()),
            accepts: site.and_then(|site| site.accepts.clone()).unwrap_or(default_accepts(kind)),
            offers: site.map_or(Vec::new(), |site| owned(&site.offers)),
            prices: prices(site.and_then(|site| site.cost.as_ref())),
        }
    }

    fn accepts(&mut self, cluster: &file::Cluster, from: &Inherited, path: &str) -> Vec<String> {
        let Some(own) = &cluster.accepts else { return from.accepts.clone() };
        if cluster.site.is_some() {
            for class in own.iter().filter(|class| !from.accepts.contains(&class.value)) {
                let message = format!("`{}` is not accepted by its site", class.value);
                let hint = "a cluster may narrow what its site accepts, never widen it";
                self.problems.error_with_hint(class.at, format!("{path}.accepts"), message, hint);
            }
        }
        own.iter().map(|class| class.value.clone()).collect()
    }

    fn source(
        &mut self,
        name: &Spanned<String>,
        cluster: &file::Cluster,
        folder: &Path,
        path: &str,
    ) -> Source {
        let nothing = Source::Static(Vec::new());
        let discover = cluster.discover.as_ref();
        match (&cluster.endpoints, discover) {
            (Some(listed), None) => self.listed(listed, cluster, folder, path),
            (None, Some(discover)) => self.discovered(discover, folder, path).unwrap_or(nothing),
            (None, None) => {
                let hint = Some("write endpoints: [ADDRESS:PORT]".to_owned());
                let message = "needs `endpoints` or `discover`";
                let problem = Problem { hint, ..Problem::error(name.at, path, message) };
                self.problems.lacking(path, &["endpoints", "discover"], problem);
                nothing
            }
            (Some(_), Some(discover)) => {
                self.problems.error(discover.at, path, "has both `endpoints` and `discover`");
                nothing
            }
        }
    }

    fn listed(
        &mut self,
        listed: &[file::Endpoint],
        cluster: &file::Cluster,
        folder: &Path,
        path: &str,
    ) -> Source {
        let mut specs: Vec<EndpointSpec> = Vec::with_capacity(listed.len());
        for (index, endpoint) in listed.iter().enumerate() {
            let path = format!("{path}.endpoints[{index}]");
            if specs.iter().any(|spec| spec.target == endpoint.target) {
                self.problems.error(endpoint.at, &path, "is listed twice");
            }
            if let Target::Address(address) = &endpoint.target
                && cluster.allow_link_local != Some(true)
                && is_link_local(address)
            {
                let message = format!("`{address}` is a link-local or metadata address");
                let hint = "set `allow_link_local: true` if that is meant";
                self.problems.error_with_hint(endpoint.at, &path, message, hint);
            }
            let target = match &endpoint.target {
                Target::Address(address) => Target::Address(rooted(address, folder)),
                Target::Name(host, port) => Target::Name(host.clone(), *port),
            };
            specs.push(EndpointSpec { target, weight: endpoint.weight });
        }
        Source::Static(specs)
    }

    fn discovered(
        &mut self,
        discover: &file::Discover,
        folder: &Path,
        path: &str,
    ) -> Option<Source> {
        let path = format!("{path}.discover");
        match (&discover.dns, &discover.srv, &discover.file) {
            (Some(dns), None, None) => match host_and_port(&dns.value) {
                Ok((host, port)) => Some(Source::Dns { host, port }),
                Err(message) => {
                    let message = format!("`{}`: {message}", dns.value);
                    self.problems.error(dns.at, format!("{path}.dns"), message);
                    None
                }
            },
            (None, Some(srv), None) => {
                if !is_host_name(&srv.value) {
                    let hint = "such as _https._tcp.shop.example.com";
                    let message = format!("`{}` is not a name", srv.value);
                    self.problems.error_with_hint(srv.at, format!("{path}.srv"), message, hint);
                    return None;
                }
                Some(Source::Srv { name: srv.value.clone() })
            }
            (None, None, Some(file)) => Some(Source::File { path: folder.join(&file.value) }),
            _ => {
                let message = "needs exactly one of `dns`, `srv` and `file`";
                let problem = Problem::error(discover.at, &path, message);
                match (&discover.dns, &discover.srv, &discover.file) {
                    (None, None, None) => {
                        self.problems.lacking(&path, &["dns", "srv", "file"], problem);
                    }
                    _ => self.problems.push(problem),
                }
                None
            }
        }
    }

    fn outlier(&mut self, written: Option<&file::Outlier>, path: &str) -> Outlier {
        let default = Outlier::default();
        let Some(written) = written else { return default };
        let (success, latency) =
            (written.success.map(|part| part.0), written.latency.map(|times| times.0));
        if success.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
            let message = "must be a part of what the siblings succeed with, 0 to 1";
            self.problems.error(written.at, format!("{path}.outlier.success"), message);
        }
        if latency.is_some_and(|times| times <= 1.0) {
            let message = "must be more than 1 time what the siblings take";
            self.problems.error(written.at, format!("{path}.outlier.latency"), message);
        }
        let percent = |percent: Option<scalar::Within<0, 100>>, default| {
            percent.map_or(default, |percent| u8::try_from(percent.0).unwrap_or(default))
        };
        Outlier {
            consecutive: written.consecutive.map_or(default.consecutive, |count| {
                u32::try_from(count.0).unwrap_or(default.consecutive)
            }),
            success,
            latency,
            max_percent: percent(written.max_percent, default.max_percent),
            panic_percent: percent(written.panic_percent, default.panic_percent),
            failures: written.failures.as_deref().map_or(default.failures, failures),
        }
    }

    fn probe(&mut self, probe: Option<&file::Probe>, path: &str) -> Probe {
        let default = Probe {
            kind: ProbeKind::Tcp,
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(400),
            fall: 2,
            rise: 3,
            port: None,
        };
        let Some(probe) = probe else { return default };
        let interval = probe.interval.unwrap_or(default.interval);
        let timeout =
            probe.timeout.as_ref().map_or(default.timeout.min(interval), |timeout| timeout.value);
        if timeout > interval {
            let at = probe.timeout.as_ref().map_or(probe.at, |timeout| timeout.at);
            let message = "the timeout is longer than the interval";
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
                    let message = "at most 127 bytes";
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
            let message =
                "host and headers must be field names and values without control characters";
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

fn default_accepts(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Idc => vec!["general".to_owned(), "sensitive".to_owned()],
        Kind::Cloud => vec!["general".to_owned()],
    }
}

fn kind(kind: file::SiteKind) -> Kind {
    match kind {
        file::SiteKind::Idc => Kind::Idc,
        file::SiteKind::Cloud => Kind::Cloud,
    }
}

fn prices(cost: Option<&file::Cost>) -> Prices {
    let amount = |amount: Option<scalar::Amount>| amount.map_or(0.0, |amount| amount.0);
    cost.map_or(Prices::default(), |cost| Prices {
        per_gib: amount(cost.per_gib),
        per_million_requests: amount(cost.per_million_requests),
    })
}

fn fixed(duration: Option<AutoDuration>) -> Option<Duration> {
    match duration {
        Some(AutoDuration::Fixed(span)) => Some(span),
        Some(AutoDuration::Auto) | None => None,
    }
}

fn failures(written: &[file::Failure]) -> Failures {
    let mut all = Failures::NONE;
    for failure in written {
        match failure {
            file::Failure::Status(range) => {
                range.0.clone().for_each(|status| all.add_status(status));
            }
            file::Failure::Reset => all.reset = true,
            file::Failure::Connect => all.connect = true,
            file::Failure::Timeout => all.timeout = true,
        }
    }
    all
}

/// Connections, and exchanges that wait, where nothing is said: what really bounds them is the descriptors and the
/// memory of the process.
const BOUND: u32 = 65_536;

fn is_link_local(address: &Address) -> bool {
    match address {
        Address::Ip(address) => crate::decision::plan::is_link_local(address.ip()),
        Address::Unix(_) => false,
    }
}

fn is_invalid_host(host: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    !is_host_name(bare) && host.parse::<std::net::IpAddr>().is_err()
}
