//! From shapes to a plan: runs the compilers of all sections in order.
//!
//! Names are resolved, inheritance is applied, and constraints are compiled into classes. Each problem is reported
//! once.

use super::compiler::Compiler;
use super::error::Problems;
use super::file::File;
use super::settings::{Settings, settings};
use super::{fleet, policies, routes, scaling, sockets, tracing};
use crate::decision::plan::Plan;
use crate::tls::store::{self, Store};
use std::path::Path;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The plan that the data plane uses.
    pub plan: Plan,
    /// Settings of the process.
    pub settings: Settings,
    /// The TLS configurations of the plan's listeners and clusters.
    pub tls: Store,
    /// The state of the plan's policies.
    pub policies: crate::policy::Store,
    /// The configuration in the format of the file, with defaults and inheritance applied, for the admin API.
    pub effective: serde_json::Value,
}

/// Compiles a file. The result may be used only when `problems` contains no error.
pub fn check(file: &File, folder: &Path, problems: &mut Problems) -> Config {
    let settings = settings(file, folder, problems);
    let site = file.site.as_ref();
    let plan = Plan {
        site: site.and_then(|site| site.name.clone()).unwrap_or_else(host_name),
        environment: site
            .and_then(|site| site.environment.clone())
            .unwrap_or_else(|| "production".to_owned()),
        sampling: tracing::sampling(file),
        ..Plan::default()
    };
    let own = settings.peers.iter().filter(|peer| peer.site == plan.site).count();
    let members = u32::try_from(own + 1).unwrap_or(u32::MAX);
    let pools = own > 0 || fleet::has_bus(file);
    let plan =
        Plan { members, pools, host: host_name(), lead: scaling::lead(file, problems), ..plan };
    fleet::check_shared(file, plan.members, problems);
    let mut compiler = Compiler::new(file, folder, plan, problems);
    compiler.groups();
    compiler.clusters(folder);
    compiler.services();
    compiler.admin_tls(folder);
    compiler.scaler_tls(folder);
    compiler.listeners(folder, settings.admin.as_ref());
    routes::compile(&mut compiler);
    let Compiler { mut plan, mut tls, .. } = compiler;
    sockets::check_overlap(file, &plan, settings.admin.as_ref(), problems);
    plan.asserted = policies::asserted(&plan);
    // The problems of policy files were already reported when the policies were compiled.
    let policies = crate::policy::Store::build(&plan).unwrap_or_default();
    tls.fingerprint = store::fingerprint(&plan);
    Config { plan, settings, tls, policies, effective: serde_json::Value::Null }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
