//! `tidegate healthcheck`

use super::remote::{AdminArguments, DEFAULT_URL};
use super::welcome::reachable;
use super::{FAILED, fail, load_config, read_config};
use crate::admin::client::Remote;
use crate::decision::plan::Address;
use std::path::Path;
use std::process::ExitCode;

/// Succeeds if the proxy is ready.
pub(super) fn healthcheck(arguments: &AdminArguments, config: Option<&Path>) -> ExitCode {
    match remote(arguments, config).and_then(|remote| remote.get("/readyz")) {
        Ok(answer) if answer.status == 200 => ExitCode::SUCCESS,
        Ok(answer) => {
            eprint!("tidegate: {}", answer.body);
            FAILED
        }
        Err(message) => fail(&message),
    }
}

fn remote(arguments: &AdminArguments, config: Option<&Path>) -> Result<Remote, String> {
    match (arguments.remote()?, config) {
        (Some(remote), _) => Ok(remote),
        (None, Some(config)) => configured(config),
        (None, None) => Ok(Remote { url: DEFAULT_URL.to_owned(), ..Remote::default() }),
    }
}

/// The admin API in a configuration file. With TLS the proxy must present exactly the configured certificate.
fn configured(path: &Path) -> Result<Remote, String> {
    let (text, folder) = read_config(path)?;
    let outcome = load_config(&text, &folder);
    let config =
        outcome.config.ok_or(format!("{} has errors: see `tidegate check`", path.display()))?;
    let secured = config.plan.admin_tls.as_ref().and_then(|terms| terms.certificates.first());
    let url = match config.settings.admin {
        None => return Err(format!("{} has no admin API: `admin.address` is off", path.display())),
        Some(Address::Unix(socket)) => format!("unix:{}", socket.display()),
        Some(Address::Ip(address)) if secured.is_some() => {
            format!("https://{}", reachable(address))
        }
        Some(Address::Ip(address)) => format!("http://{}", reachable(address)),
    };
    let shown = config.tls.admin.as_ref().and_then(|admin| admin.names.certificates.first());
    let mut names = shown.into_iter().flat_map(|shown| &shown.names);
    let server_name = names.find(|name| !name.starts_with('*')).cloned();
    let ca = secured.map(|files| files.cert.clone());
    Ok(Remote { url, ca, server_name, ..Remote::default() })
}
