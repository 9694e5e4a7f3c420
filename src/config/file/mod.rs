//! The configuration as it is written: one shape a block, each key with its default.
//!
//! An absent key is `None`; what it then means is decided in `check`, which knows where it is
//! inherited from. The defaults written here are those of the documentation and are compared with
//! `config/reference.yaml` by a test.

mod cluster;
mod fleet;
mod listener;
pub mod policy;
mod service;

pub use cluster::*;
pub use fleet::*;
pub use listener::*;
pub use service::*;

use crate::config::scalar::{AddressOrOff, FileMode, Within, Workers};
use crate::config::shape::{Named, Spanned, shape, words};
use std::time::Duration;

shape! {
    /// The whole file.
    File {
        /// Version of the format.
        version: Within<1, 1> = "1",
        /// Where this proxy runs.
        site: SiteHere = optional,
        /// What it may use of the machine.
        runtime: Runtime = optional,
        /// The admin API, metrics and dashboard.
        admin: Admin = optional,
        /// One line for each exchange.
        access_log: AccessLog = optional,
        /// What the proxy says of itself.
        log: Log = optional,
        /// How it stops.
        drain: Drain = optional,
        /// Folder for what must survive a restart; memory only without it.
        state_dir: String = optional,
        /// Other proxies that tell this one what they see.
        fleet: Fleet = optional,
        /// Where connections are accepted.
        listeners: Named<Listener> = required,
        /// Places: clusters inherit from them.
        sites: Named<Site> = optional,
        /// The places that serve.
        clusters: Named<Cluster> = required,
        /// What clients ask for.
        services: Named<Service> = required,
        /// From requests to services, for http listeners.
        routes: Vec<Route> = optional,
    }
}

shape! {
    /// Where this proxy runs.
    SiteHere {
        /// Name of the site; the host's name by default.
        name: String = optional,
        /// Environment of the site: services are served only by clusters of their own.
        environment: String = "production",
    }
}

shape! {
    /// What the proxy may use of the machine.
    Runtime {
        /// Worker threads, one core each; `auto` is the cores this process may use.
        workers: Workers = "auto",
    }
}

shape! {
    /// The admin API.
    Admin {
        /// Where it listens: IP:PORT, unix:/path or off.
        address: AddressOrOff = "127.0.0.1:9901",
        /// Permissions of a unix socket's file, in octal.
        mode: FileMode = "0660",
        /// File with the token that writes need; without it they answer 403.
        token_file: Spanned<String> = optional,
        /// Further values of Host under which it answers.
        allowed_hosts: Vec<String> = optional,
        /// TLS of the admin API.
        tls: CertificateFiles = optional,
        /// Allows an address off loopback without TLS.
        insecure: bool = "false",
    }
}

words! {
    /// Form of the access log.
    AccessLogFormat {
        /// One JSON object a line.
        Json = "json",
        /// The common log format.
        Common = "common",
        /// None.
        Off = "off",
    }
}

shape! {
    /// One line for each exchange.
    AccessLog {
        /// `stdout`, `stderr` or a file.
        path: String = "stdout",
        /// json, common or off.
        format: AccessLogFormat = "json",
    }
}

words! {
    /// How much the proxy says.
    LogLevel {
        /// Failures of the proxy.
        Error = "error",
        /// And what an operator should look into.
        Warn = "warn",
        /// And what changes.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And everything.
        Trace = "trace",
    }
}

words! {
    /// Form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    }
}

shape! {
    /// What the proxy says of itself.
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
    /// How the proxy stops.
    Drain {
        /// From failing readiness to closing the listeners.
        delay: Duration = "0s",
        /// From there to the end of whatever is still open.
        deadline: Duration = "30s",
    }
}
