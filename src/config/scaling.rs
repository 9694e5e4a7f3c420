//! The interfaces for autoscalers: the receiver of webhooks, and the lead time.

use super::error::Problems;
use super::file::{self, File};
use super::policies::forwarded;
use super::secrets;
use super::shape::Spanned;
use crate::decision::plan::UpstreamTls;
use crate::decision::scaling::{LEAD, Webhook};
use crate::tls::client;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lead times that a forecast can cover.
const LEADS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The horizon of desired replicas; `None` where `scaling` is not written.
pub(super) fn lead(file: &File, problems: &mut Problems) -> Option<Duration> {
    let written = file.scaling.as_ref()?.lead.as_ref();
    if let Some(lead) = written.filter(|lead| !LEADS.contains(&lead.value)) {
        problems.error(lead.at, "scaling.lead", "must be from 1s to 1h");
    }
    Some(written.map_or(LEAD, |lead| lead.value))
}

/// The receiver of webhooks, with what is wrong about it.
pub(super) fn webhook(file: &File, folder: &Path, problems: &mut Problems) -> Option<Webhook> {
    let written = file.scaling.as_ref()?.webhook.as_ref()?;
    let seconds = Duration::from_secs;
    let interval = written.interval.as_ref().map_or(seconds(30), |span| span.value);
    let timeout = written.timeout.as_ref().map_or(seconds(5), |span| span.value);
    let mut within = |span: &Option<Spanned<Duration>>, key: &str, range: RangeInclusive<u64>| {
        if let Some(span) = span
            && !(seconds(*range.start())..=seconds(*range.end())).contains(&span.value)
        {
            let message = format!("must be from {}s to {}s", range.start(), range.end());
            problems.error(span.at, format!("scaling.webhook.{key}"), message);
        }
    };
    within(&written.interval, "interval", 1..=3600);
    within(&written.timeout, "timeout", 1..=60);
    let key = "scaling.webhook.secret_file";
    let secret_file = secrets::token_file(problems, folder, &written.secret_file, key);
    let Some(receiver) = forwarded(&written.url.value) else {
        let message =
            format!("`{}` is not a URL such as https://HOST:PORT/PATH", written.url.value);
        problems.error(written.url.at, "scaling.webhook.url", message);
        return None;
    };
    Some(Webhook {
        secure: receiver.secure,
        authority: receiver.authority,
        host: receiver.host,
        target: receiver.target,
        ca: authorities(written, receiver.secure, folder, problems),
        secret_file,
        interval,
        timeout,
    })
}

fn authorities(
    written: &file::Webhook,
    secure: bool,
    folder: &Path,
    problems: &mut Problems,
) -> Option<PathBuf> {
    const KEY: &str = "scaling.webhook.ca";
    let ca = written.ca.as_ref()?;
    let path = folder.join(&ca.value);
    if !secure {
        problems.error(ca.at, KEY, "is used only with an https URL: remove it, or write https://");
        return Some(path);
    }
    let (server_name, client, alpn) = (None, None, Vec::new());
    let terms = UpstreamTls { server_name, ca: Some(path.clone()), client, alpn };
    if let Err(error) = client::build(&terms, 0) {
        problems.error(ca.at, KEY, error);
    }
    Some(path)
}
