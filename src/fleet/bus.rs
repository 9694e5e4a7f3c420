//! The state of the connection to NATS, and of the proxies that publish there.

use super::{PeerPicture, State};
use crate::decision::fleet::broadcast::Intake;
use crate::decision::fleet::{Heard, LIVE, Nats, SITE_LIVE};
use crate::decision::units::Timestamp;
use std::time::Duration;

/// The NATS cluster of this proxy.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "nats"),
    allow(dead_code, reason = "only a build with NATS reads and writes all of it")
)]
pub(super) struct Bus {
    pub nats: Nats,
    /// Since when there is no connection; `None` while there is one.
    pub lost: Option<Timestamp>,
    /// Why there is none.
    pub error: Option<String>,
    /// Reports that were not sent because there was no connection, or because it was too slow.
    pub dropped: u64,
    pub intake: Intake,
    /// When the sum over this site was last published, by any proxy.
    pub summed: Timestamp,
}

/// NATS as the API shows it.
#[derive(Clone, Debug)]
pub struct BusPicture {
    /// The servers.
    pub servers: Vec<String>,
    /// Whether there is a connection.
    pub connected: bool,
    /// Why there is none.
    pub error: Option<String>,
    /// Reports that were dropped instead of sent.
    pub dropped: u64,
}

impl Bus {
    pub(super) fn new(nats: &Nats, now: Timestamp) -> Bus {
        Bus {
            nats: nats.clone(),
            lost: Some(now),
            error: None,
            dropped: 0,
            intake: Intake::default(),
            summed: now,
        }
    }

    pub(super) fn picture(&self) -> BusPicture {
        BusPicture {
            servers: self.nats.servers.urls.clone(),
            connected: self.lost.is_none(),
            error: self.error.clone(),
            dropped: self.dropped,
        }
    }
}

impl State {
    /// The expected number of proxies of this site: the configured ones, or the known ones if there are more.
    pub(super) fn expected(&self, site: &str) -> u32 {
        let here = self.published_of(site).count() + 1;
        self.configured().max(u32::try_from(here).unwrap_or(u32::MAX))
    }

    fn published_of(&self, site: &str) -> impl Iterator<Item = &Heard> {
        let all = self.members.published().map(|(_, heard)| heard);
        all.filter(move |heard| heard.report.by.site == site)
    }

    /// The proxies that publish reports, with the ages of their last reports.
    pub(super) fn publishers(&self, now: Timestamp) -> impl Iterator<Item = PeerPicture> {
        self.members.published().map(move |(_, heard)| {
            let by = &heard.report.by;
            let age = now.since(heard.at);
            PeerPicture {
                site: by.site.clone(),
                url: None,
                instance: Some(by.instance.clone()),
                age: Some(age.as_secs_f64()),
                waited: age.as_secs_f64(),
                live: age <= if by.site == self.site { LIVE } else { SITE_LIVE },
                is_own: false,
                leaving: heard.report.leaving,
                error: None,
            }
        })
    }

    /// The age of the oldest report of this site, or the time since the connection was lost.
    pub(super) fn bus_age(&self, site: &str, now: Timestamp) -> Duration {
        let lost = self.bus.as_ref().and_then(|bus| bus.lost);
        let silent = self.published_of(site).map(|heard| heard.at);
        silent.chain(lost).min().map_or(Duration::ZERO, |since| now.since(since))
    }
}
