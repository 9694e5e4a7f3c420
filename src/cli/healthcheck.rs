//! `tidegate healthcheck`

use super::{FAILED, admin, fail};
use std::process::ExitCode;

/// Succeeds when the proxy is ready.
pub(super) fn healthcheck(url: &str) -> ExitCode {
    match admin::get(url, "/readyz") {
        Ok(answer) if answer.status == 200 => ExitCode::SUCCESS,
        Ok(answer) => {
            eprint!("tidegate: {}", answer.body);
            FAILED
        }
        Err(message) => fail(&message),
    }
}
