//! Certificates from an ACME authority (RFC 8555): ordered, renewed after two thirds of their life, and kept in
//! `state_dir`.
//!
//! A certificate is a file that the listeners' TLS settings name. Nothing here touches the data plane: a new file is
//! noticed like any other certificate that was replaced (`server::reload`), and a failure leaves the old file.
//!
//! Any proxy of a site may receive the question of an authority. An open challenge is therefore a file in `state_dir`,
//! which proxies may share, and part of the report to the other members of the fleet; each proxy answers the challenges
//! that it finds there.
//!
//! # Bounds
//! One order at a time for each authority, with a deadline; between failures a pause that doubles, and is as long as the
//! authority demands. Responses have at most [`client::BODY_MAX`] bytes.

#[cfg(feature = "acme")]
mod answers;
#[cfg(feature = "acme")]
mod client;
#[cfg(feature = "acme")]
mod files;
#[cfg(feature = "acme")]
mod order;
#[cfg(feature = "acme")]
mod orders;
#[cfg(not(feature = "acme"))]
#[path = "no_orders.rs"]
mod orders;

use crate::decision::acme::{Acme, DOMAINS_MAX, Directory, Domain, Failure};
use crate::decision::plan::Plan;
use crate::fleet::Fleet;
use crate::shared::Shared;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The certificates that this proxy orders.
#[derive(Debug)]
pub struct Certificates {
    shared: Arc<Shared>,
    #[cfg_attr(not(feature = "acme"), expect(dead_code, reason = "only orders use it"))]
    fleet: Arc<Fleet>,
    state: Mutex<State>,
    issued: AtomicU64,
    failed: [AtomicU64; Failure::ALL.len()],
    is_used: AtomicBool,
    /// Notified when an operator wants failed orders tried again.
    retry: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: Vec<Acme>,
    /// The moments, in seconds since 1970, before which an authority refuses an order: by directory and name. They
    /// outlive reloads.
    #[cfg_attr(not(feature = "acme"), expect(dead_code, reason = "only orders use it"))]
    held: BTreeMap<(String, String), i64>,
    /// The orders; they end when they are dropped.
    tasks: JoinSet<()>,
}

/// The names of one authority, each with the terms of its listener.
type Names = BTreeMap<Domain, Acme>;

impl Certificates {
    /// Orders nothing yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, fleet: Arc<Fleet>) -> Certificates {
        Certificates {
            shared,
            fleet,
            state: Mutex::default(),
            issued: AtomicU64::new(0),
            failed: Default::default(),
            is_used: AtomicBool::new(false),
            retry: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders the certificates of this plan. If the same ones are ordered already and an operator asked (`is_requested`),
    /// failed orders are tried again now, unless the authority demanded a pause.
    pub fn adopt(self: &Arc<Certificates>, plan: &Plan, is_requested: bool) {
        let all = plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()?.acme.clone());
        let wanted: Vec<Acme> = all.collect();
        let mut state = self.state();
        if state.wanted == wanted {
            if is_requested {
                self.retry.notify_waiters();
            }
            return;
        }
        state.tasks = JoinSet::new();
        self.shared.challenges.set_own(Vec::new());
        self.is_used.store(!wanted.is_empty(), Ordering::Relaxed);
        for (directory, names) in by_directory(&wanted) {
            state.tasks.spawn(orders::follow(self.clone(), directory, names));
        }
        if let Some(first) = wanted.first() {
            state.tasks.spawn(orders::answer(self.clone(), first.folder.clone()));
        }
        state.wanted = wanted;
    }

    /// Ends all orders.
    pub fn stop(&self) {
        self.state().tasks = JoinSet::new();
    }

    /// Orders that ended, by result; `None` where no certificate is ordered.
    #[must_use]
    pub fn results(&self) -> Option<Vec<(&'static str, u64)>> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let failed = Failure::ALL.iter().zip(&self.failed);
        let failed = failed.map(|(failure, counted)| (failure.label(), count(counted)));
        let all = [("issued", count(&self.issued))].into_iter().chain(failed);
        self.is_used.load(Ordering::Relaxed).then(|| all.collect())
    }
}

/// The names of each authority. A name of two listeners is ordered once.
fn by_directory(wanted: &[Acme]) -> BTreeMap<Directory, Names> {
    let mut all: BTreeMap<Directory, Names> = BTreeMap::new();
    for acme in wanted {
        let names = all.entry(acme.directory.clone()).or_default();
        for domain in &acme.domains {
            if names.len() < DOMAINS_MAX {
                names.entry(domain.clone()).or_insert_with(|| acme.clone());
            }
        }
    }
    all
}

#[cfg(feature = "acme")]
#[cfg(test)]
mod authority;
