//! Clusters: values inherited from sites, sources of endpoints, and probes.

use super::compiler::{Compiler, owned};
use super::file;
use super::scalar::{self, AutoDuration, is_host_name};
use crate::decision::capacity_group::GroupIndex;
use crate::decision::outlier::{Failures, Outlier};
use crate::decision::plan::{
    Address, Cluster, EndpointSpec, Failback, HostPolicy, Kind, Probe, ProbeKind, Reports,
    SendProxy, Source, Target, UpstreamTls,
};
use crate::decision::price::Prices;
use std::path::Path;
use std::time::Duration;

/// The values that a cluster inherits from its site.
struct Inherited {
    site: String,
    kind: Kind,
    environment: String,
    accepts: Vec<String>,
    offers: Vec<String>,
    prices: Prices,
}

/// The sections of a cluster that have their own compilers.
struct Own {
    accepts: Vec<String>,
    source: Source,
    probe: Probe,
    tls: Option<UpstreamTls>,
    outlier: Outlier,
    group: Option<GroupIndex>,
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
            self.check_transport(cluster, &source, &probe, &path);
            self.tls.clusters.push(upstream.flatten());
            let outlier = self.outlier(cluster.outlier.as_ref(), &path);
            self.check_timeouts(cluster, &path);
            if let Some(host) = cluster.host.as_deref()
                && is_invalid_host(host)
            {
                let message = format!("`{host}` is not `preserve`, `endpoint` or a host name");
                self.problems.error(cluster.at, format!("{path}.host"), message);
            }
            let group = self.group_of(cluster, &path);
            let own = Own { accepts, source, probe, tls, outlier, group };
            self.plan.clusters.push(compiled(&name.value, cluster, inherited, own));
        }
    }

    /// Reports timeouts of 0 that no connection could meet. For `queue` and `pool_idle` 0 is valid and turns the
    /// feature off.
    fn check_timeouts(&mut self, cluster: &file::Cluster, path: &str) {
        let Some(written) = &cluster.timeouts else { return };
        let spans = [("connect", fixed(written.connect)), ("connect_total", written.connect_total)];
        self.not_zero(written.at, &format!("{path}.timeouts"), &spans);
    }

    /// Reports contradictions between a cluster's TLS, protocol, endpoints and probe.
    fn check_transport(
        &mut self,
        cluster: &file::Cluster,
        source: &Source,
        probe: &Probe,
        path: &str,
    ) {
        let is_unix =
            |spec: &EndpointSpec| matches!(spec.target, Target::Address(Address::Unix(_)));
        if let (Some(written), Source::Static(specs)) = (&cluster.tls, source)
            && specs.iter().any(is_unix)
        {
            let message = "a unix socket cannot have TLS: remove `tls`";
            self.problems.error(written.at, format!("{path}.tls"), message);
        }
        let is_http2 = cluster.protocol == Some(file::ClusterProtocol::Http2);
        if let (ProbeKind::Http { .. }, true, None, Some(written)) =
            (&probe.kind, is_http2, &cluster.tls, &cluster.probe)
        {
            let message = "an http probe speaks HTTP/1.1, and this cluster speaks only HTTP/2";
            let hint = "use `kind: grpc` or `kind: tcp`";
            let path = format!("{path}.probe.kind");
            self.problems.error_with_hint(written.at, path, message, hint);
        }
        if cluster.tls.is_none() && probe.kind == ProbeKind::Tls {
            let message = "a tls probe needs the cluster's `tls` section";
            self.problems.error(cluster.at, format!("{path}.probe"), message);
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
                let message = match theirs {
                    file::SiteKind::Idc => "differs from the kind of its site, `idc`",
                    file::SiteKind::Cloud => "differs from the kind of its site, `cloud`",
                };
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
            let message = format!("differs from the environment of its site, `{theirs}`");
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
                let message = format!(
                    "`{}` is not accepted by its site `{}`, which accepts {}",
                    class.value,
                    from.site,
                    from.accepts.join(", ")
                );
                let hint = "a cluster may narrow what its site accepts, never widen it";
                self.problems.error_with_hint(class.at, format!("{path}.accepts"), message, hint);
            }
        }
        own.iter().map(|class| class.value.clone()).collect()
    }

    fn outlier(&mut self, written: Option<&file::Outlier>, path: &str) -> Outlier {
        let default = Outlier::default();
        let Some(written) = written else { return default };
        let (success, latency) =
            (written.success.map(|part| part.0), written.latency.map(|times| times.0));
        if success.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
            let message = "must be from 0 to 1: a share of the median success ratio of the cluster's endpoints";
            self.problems.error(written.at, format!("{path}.outlier.success"), message);
        }
        if latency.is_some_and(|times| times <= 1.0) {
            let message = "must be greater than 1: a multiple of the median latency of the cluster's endpoints";
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
}

/// A cluster of the plan: written values, inherited ones, and the documented defaults.
fn compiled(name: &str, cluster: &file::Cluster, inherited: Inherited, own: Own) -> Cluster {
    let capacity = cluster.capacity.as_ref();
    let is_limit = |capacity: &&file::Capacity| {
        capacity.mode.unwrap_or(file::CapacityMode::Limit) == file::CapacityMode::Limit
    };
    let concurrent =
        |capacity: &file::Capacity| u32::try_from(capacity.concurrent.0).unwrap_or(u32::MAX);
    let (limits, timeouts) = (cluster.limits.as_ref(), cluster.timeouts.as_ref());
    let bound = |bound: Option<scalar::Within<1, 1_000_000>>| {
        bound.map_or(BOUND, |bound| u32::try_from(bound.0).unwrap_or(u32::MAX))
    };
    let connect_total = timeouts.and_then(|timeouts| timeouts.connect_total);
    let failback = cluster.failback.as_ref();
    Cluster {
        name: name.to_owned(),
        site: inherited.site,
        kind: inherited.kind,
        environment: inherited.environment,
        accepts: own.accepts,
        tls: own.tls,
        http2: cluster.protocol == Some(file::ClusterProtocol::Http2),
        send_proxy: send_proxy(cluster.send_proxy_protocol),
        offers: [inherited.offers, owned(&cluster.offers)].concat(),
        source: own.source,
        probe: own.probe,
        ceiling: capacity.filter(is_limit).map(concurrent),
        shared: capacity.and_then(|capacity| capacity.shared_by) == Some(file::SharedBy::Fleet),
        capacity: capacity.map(concurrent),
        group: own.group,
        connections_max: bound(limits.and_then(|limits| limits.connections)),
        pending_max: bound(limits.and_then(|limits| limits.pending)),
        host: host_policy(cluster.host.as_deref()),
        dial: cluster.dial.map_or(100, |dial| u8::try_from(dial.0).unwrap_or(100)),
        connect: fixed(timeouts.and_then(|timeouts| timeouts.connect)),
        connect_total: connect_total.unwrap_or(Duration::from_secs(2)),
        pool_idle: fixed(timeouts.and_then(|timeouts| timeouts.pool_idle)),
        queue: fixed(timeouts.and_then(|timeouts| timeouts.queue)),
        slow_start: cluster.slow_start.unwrap_or(Duration::from_secs(30)),
        outlier: own.outlier,
        failback: Failback {
            manual: failback.and_then(|f| f.mode) == Some(file::FailbackMode::Manual),
            hold: failback.and_then(|failback| failback.hold).unwrap_or_default(),
        },
        prices: cluster.cost.as_ref().map_or(inherited.prices, |cost| prices(Some(cost))),
        reports: reports(cluster.reports),
        allow_link_local: cluster.allow_link_local == Some(true),
    }
}

fn send_proxy(written: Option<file::SendProxy>) -> SendProxy {
    match written {
        None | Some(file::SendProxy::None) => SendProxy::None,
        Some(file::SendProxy::V1) => SendProxy::V1,
        Some(file::SendProxy::V2) => SendProxy::V2,
    }
}

fn host_policy(written: Option<&str>) -> HostPolicy {
    match written {
        None | Some("preserve") => HostPolicy::Preserve,
        Some("endpoint") => HostPolicy::Endpoint,
        Some(name) => HostPolicy::Name(name.to_owned()),
    }
}

fn reports(written: Option<file::ReportsWord>) -> Reports {
    match written {
        None | Some(file::ReportsWord::None) => Reports::None,
        Some(file::ReportsWord::Orca) => Reports::Orca,
        Some(file::ReportsWord::Tidegate) => Reports::Tidegate,
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

/// The default of the limits on connections and waiting exchanges. In practice the descriptors and the memory of the
/// process set a lower limit.
const BOUND: u32 = 65_536;

fn is_invalid_host(host: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    !is_host_name(bare) && host.parse::<std::net::IpAddr>().is_err()
}
