//! A connection to NATS: TLS, credentials, and the pauses between attempts.

use crate::decision::nats::{Credentials, Servers};
use crate::os::clock;
use async_nats::{Auth, AuthError, Client, ConnectOptions};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// To connect, shake hands and be let in, at one server.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Between two pings; a connection is given up when two of them were not answered.
const PING: Duration = Duration::from_secs(5);
/// After the first failure; each further one doubles it.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts.
pub const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Options of a client that authenticates itself, for further ones to be added. `name` is shown in the servers' lists.
/// The credentials are read anew at each connection.
pub fn options(servers: &Servers, name: impl ToString) -> ConnectOptions {
    let mut options = match servers.creds_file.clone() {
        None => ConnectOptions::new(),
        Some(file) => ConnectOptions::with_auth_callback(move |nonce| {
            let file = file.clone();
            async move { authenticate(&file, &nonce).await.map_err(AuthError::new) }
        }),
    };
    options = options.name(name).ping_interval(PING).connection_timeout(ATTEMPT);
    if let Some(ca) = &servers.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if servers.ignore_discovered {
        options = options.ignore_discovered_servers();
    }
    options
}

/// Connects to the first server that lets this proxy in.
///
/// # Errors
/// Why none does.
pub async fn connect(servers: &Servers, options: ConnectOptions) -> Result<Client, String> {
    let attempts = ATTEMPT.saturating_mul(u32::try_from(servers.urls.len()).unwrap_or(u32::MAX));
    match timeout(attempts, options.connect(&servers.urls)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("not connected in time".to_owned()),
    }
}

/// Between a half and the whole of the pause, so that proxies do not return in step.
#[must_use]
pub fn pause(failures: usize) -> Duration {
    let part = (clock::entropy() % 512) as f64 / 1024.0;
    PAUSE.saturating_mul(1 << failures.min(4)).min(PAUSE_MAX).mul_f64(0.5 + part)
}

/// Signs a server's nonce with the key in the file, which is read anew at each connection.
async fn authenticate(file: &Path, nonce: &[u8]) -> Result<Auth, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("credentials file {}: {error}", file.display());
    let text = tokio::fs::read_to_string(file).await.map_err(|error| failed(&error))?;
    let found = Credentials::read(&text).ok_or_else(|| failed(&"it holds no credentials"))?;
    let key = nkeys::KeyPair::from_seed(&found.seed).map_err(|error| failed(&error))?;
    let mut auth = Auth::new();
    auth.signature = Some(key.sign(nonce).map_err(|error| failed(&error))?);
    auth.nkey = found.jwt.is_none().then(|| key.public_key());
    auth.jwt = found.jwt;
    Ok(auth)
}
