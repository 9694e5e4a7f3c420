//! The arguments that select and reach a running proxy; several verbs share them.

use crate::admin::client::Remote;
use std::path::PathBuf;

/// The admin API's URL when no argument gives one.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:9901";

/// A running proxy's admin API.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArguments {
    /// A running proxy's admin API: http://HOST:PORT, https://HOST:PORT or unix:/PATH.
    #[arg(long, value_name = "URL")]
    pub(super) admin: Option<String>,
    /// With https: the authorities that sign the proxy's certificate, or the certificate itself, in PEM; the system's by
    /// default.
    #[arg(long, value_name = "FILE", requires = "admin")]
    ca: Option<PathBuf>,
    /// A file with the proxy's admin token, needed for a non-loopback address; $TIDEGATE_TOKEN by default.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// The admin API of the proxy, if the arguments name one.
    pub(super) fn remote(&self) -> Result<Option<Remote>, String> {
        let Some(url) = self.admin.clone() else { return Ok(None) };
        let (ca, token) = (self.ca.clone(), self.token()?);
        let remote = Remote { url, ca, token, ..Remote::default() };
        match remote.ca.is_some() && !remote.is_secure() {
            true => Err("`--ca` needs an https URL in `--admin`".to_owned()),
            false => Ok(Some(remote)),
        }
    }

    /// The admin API of the proxy: by the arguments, else at the default address of this machine.
    pub(super) fn running(&self) -> Result<Remote, String> {
        match self.remote()? {
            Some(remote) => Ok(remote),
            None => Ok(Remote {
                url: DEFAULT_URL.to_owned(),
                token: self.token()?,
                ..Remote::default()
            }),
        }
    }

    /// The token, from a file or the environment, because `ps` shows arguments.
    pub(super) fn token(&self) -> Result<Option<String>, String> {
        let Some(path) = &self.token_file else {
            let token = std::env::var("TIDEGATE_TOKEN").ok();
            return token.filter(|token| !token.is_empty()).map(clean).transpose();
        };
        let read = std::fs::read_to_string(path);
        let token = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        clean(token.trim().to_owned()).map(Some)
    }
}

/// The name for the audit trail: the given one, else $USER.
pub(super) fn operator(given: Option<String>) -> Option<String> {
    // A header field takes printable ASCII alone.
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    let name = given.or_else(|| std::env::var("USER").ok())?;
    let name: String = name.trim().chars().map(|c| if is_plain(c) { c } else { '?' }).collect();
    Some(name).filter(|name| !name.is_empty())
}

/// Refuses an empty token, and control characters: a line end in the token would end a line of the request.
fn clean(token: String) -> Result<String, String> {
    match token.is_empty() || token.chars().any(char::is_control) {
        true => Err("the token is empty, or has control characters".to_owned()),
        false => Ok(token),
    }
}
