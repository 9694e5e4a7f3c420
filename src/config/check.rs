//! From shapes to a plan: runs the compilers of all sections in order.
//!
//! Names are resolved, inheritance is applied, constraints are folded into classes. All problems are reported, each once.

use super::compiler::Compiler;
use super::error::Problems;
use super::file::File;
use super::settings::{Settings, settings};
use super::{fleet, policies, routes};
use crate::decision::plan::Plan;
use crate::tls::store::{self, Store};
use std::path::Path;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// What the data plane reads.
    pub plan: Plan,
    /// What concerns the process around it.
    pub settings: Settings,
    /// What the plan needs for TLS.
    pub tls: Store,
    /// What its policies take.
    pub policies: crate::policy::Store,
    /// All of it in the words of the file, defaults and inheritance applied, for the API.
    pub effective: serde_json::Value,
}

/// Compiles a file. What comes out is of use only when `problems` has no error.
pub fn check(file: &File, folder: &Path, problems: &mut Problems) -> Config {
    let settings = settings(file, folder, problems);
    let site = file.site.as_ref();
    let plan = Plan {
        site: site.and_then(|site| site.name.clone()).unwrap_or_else(host_name),
        environment: site
            .and_then(|site| site.environment.clone())
            .unwrap_or_else(|| "production".to_owned()),
        ..Plan::default()
    };
    let own = settings.peers.iter().filter(|peer| peer.site == plan.site).count();
    let plan = Plan { members: u32::try_from(own + 1).unwrap_or(u32::MAX), ..plan };
    fleet::check_shared(file, plan.members, problems);
    let mut compiler = Compiler::new(file, folder, plan, problems);
    compiler.clusters(folder);
    compiler.services();
    compiler.admin_tls(folder);
    compiler.listeners(folder, settings.admin.as_ref());
    routes::compile(&mut compiler);
    let Compiler { mut plan, mut tls, .. } = compiler;
    plan.asserted = policies::asserted(&plan);
    // What is wrong with their files was told where it is written.
    let policies = crate::policy::Store::build(&plan).unwrap_or_default();
    tls.fingerprint = store::fingerprint(&plan);
    Config { plan, settings, tls, policies, effective: serde_json::Value::Null }
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = read.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
