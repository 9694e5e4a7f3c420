//! The shapes of the configuration: one for each section, each key with its documented default.
//!
//! An absent key is `None`; `check` decides its value, because `check` knows what the key inherits from. The defaults
//! written here are those of the documentation; a test compares them with `config/reference.yaml`.

mod cluster;
mod fleet;
mod listener;
pub mod matching;
pub mod policy;
pub mod rewrite;
mod scaling;
mod service;
mod source;

pub use cluster::*;
pub use fleet::*;
pub use listener::*;
pub use scaling::*;
pub use service::*;
pub use source::*;

use crate::config::scalar::{AddressOrOff, Amount, FileMode, ListenAddress, Within, Workers};
use crate::config::shape::{Named, Spanned, shape, words};
use std::time::Duration;

shape! {
    /// The whole file.
    File {
        /// The version of the format.
        version: Within<1, 1> = "1",
        /// Further files, as conf.d/*.yaml, whose sections are merged into this file by key.
        include: Vec<String> = optional,
        /// The site of this proxy.
        site: SiteHere = optional,
        /// The machine resources that the proxy may use.
        runtime: Runtime = optional,
        /// The admin API, metrics and dashboard.
        admin: Admin = optional,
        /// The access log: one line for each exchange.
        access_log: AccessLog = optional,
        /// The log of the proxy's own events.
        log: Log = optional,
        /// The graceful stop.
        drain: Drain = optional,
        /// The folder for state that survives a restart; without it, state is kept in memory only.
        state_dir: String = optional,
        /// The other proxies, whose reports this proxy requests.
        fleet: Fleet = optional,
        /// Traces of exchanges for an OpenTelemetry collector (cargo feature otel).
        tracing: Tracing = optional,
        /// The interfaces for autoscalers.
        scaling: Scaling = optional,
        /// The listeners.
        listeners: Named<Listener> = required,
        /// The sites, whose values clusters inherit.
        sites: Named<Site> = optional,
        /// The lines that several clusters share.
        capacity_groups: Named<CapacityGroup> = optional,
        /// The clusters.
        clusters: Named<Cluster> = required,
        /// The services.
        services: Named<Service> = required,
        /// The routes from requests to services, for http listeners.
        routes: Vec<Route> = optional,
    }
}

shape! {
    /// The site of this proxy.
    SiteHere {
        /// The name of the site; by default the host's name.
        name: String = optional,
        /// The environment of the site: a service is served only by clusters of its own environment.
        environment: String = "production",
    }
}

shape! {
    /// The machine resources that the proxy may use.
    Runtime {
        /// Worker threads, one core each; `auto` is the cores this process may use.
        workers: Workers = "auto",
    }
}

shape! {
    /// The admin API.
    Admin {
        /// The address of the API: IP:PORT, unix:/path or off.
        address: AddressOrOff = "127.0.0.1:9901",
        /// Permissions of the socket file, in octal.
        mode: FileMode = "0660",
        /// A file with the token that writes require; without it, writes are answered with 403.
        token_file: Spanned<String> = optional,
        /// Further values of Host that the API accepts.
        allowed_hosts: Vec<String> = optional,
        /// A further address for monitoring: /metrics, /livez, /readyz and /healthz alone, without TLS or a token: IP:PORT.
        metrics: Spanned<ListenAddress> = optional,
        /// TLS of the admin API.
        tls: CertificateFiles = optional,
        /// Allows an address other than loopback without TLS.
        insecure: bool = "false",
    }
}

words! {
    /// The format of the access log.
    AccessLogFormat {
        /// One JSON object for each line.
        Json = "json",
        /// The common log format.
        Common = "common",
        /// No access log.
        Off = "off",
    }
}

shape! {
    /// The access log: one line for each exchange.
    AccessLog {
        /// `stdout`, `stderr` or a file.
        path: String = "stdout",
        /// json, common or off.
        format: AccessLogFormat = "json",
    }
}

words! {
    /// The level of the log.
    LogLevel {
        /// Failures of the proxy.
        Error = "error",
        /// Also problems that an operator should look into.
        Warn = "warn",
        /// Also changes of state.
        Info = "info",
        /// Also their causes.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// The format of the log.
    LogFormat {
        /// Text for people.
        Text = "text",
        /// JSON for machines.
        Json = "json",
    }
}

shape! {
    /// The log of the proxy's own events.
    Log {
        /// error, warn, info, debug or trace.
        level: LogLevel = "info",
        /// text or json.
        format: LogFormat = "text",
        /// `stdout`, `stderr` or a file.
        path: String = "stderr",
    }
}

shape! {
    /// Traces of exchanges for an OpenTelemetry collector.
    Tracing {
        /// The collector, by OTLP over gRPC: http://HOST:PORT or https://HOST:PORT, usually port 4317.
        otlp: Spanned<String> = required,
        /// The share of traces to record, from 0 to 1; a trusted client that sends `traceparent` decides itself.
        sample_ratio: Amount = "0.01",
        /// Authorities of the collector's certificate; the system's by default.
        ca: Spanned<String> = optional,
    }
}

shape! {
    /// The graceful stop.
    Drain {
        /// The time from failing readiness to closing the listeners.
        delay: Duration = "0s",
        /// The time from closing the listeners to closing all remaining connections.
        deadline: Duration = "30s",
    }
}
