//! The shared state of the compilers: the growing plan, the problems, and helpers that every section uses.
//!
//! Each section of the file has its own `impl Compiler`: `clusters`, `services`, `listeners`, `tls`, `policies`.
//! `check` defines their order.

use super::error::{Position, Problems, suggestion};
use super::file::File;
use crate::decision::plan::{Address, Plan};
use crate::tls::store::Store;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Permissions of a unix socket's file: its user and group.
pub(super) const MODE: u32 = 0o660;

/// The compiler: collects the classes and settings that routes and listeners need while the plan grows.
pub(super) struct Compiler<'a> {
    pub(super) file: &'a File,
    pub(super) plan: Plan,
    pub(super) problems: &'a mut Problems,
    pub(super) tls: Store,
    /// The folder that relative paths start at.
    pub(super) folder: &'a Path,
    /// Services and data classes for which a lack of disaster recovery was reported.
    pub(super) warned: BTreeSet<(String, Vec<String>)>,
    /// Services that no cluster may serve, with their data classes and needs: each is reported once.
    pub(super) unserved: BTreeSet<(String, Vec<String>, Vec<String>)>,
    /// The names that operators gave to routes.
    pub(super) route_names: BTreeSet<String>,
}

impl<'a> Compiler<'a> {
    /// A compiler of `file` that adds to `plan`. Relative paths start at `folder`.
    pub(super) fn new(
        file: &'a File,
        folder: &'a Path,
        plan: Plan,
        problems: &'a mut Problems,
    ) -> Compiler<'a> {
        let (tls, warned, unserved) = (Store::default(), BTreeSet::new(), BTreeSet::new());
        let route_names = BTreeSet::new();
        Compiler { file, plan, problems, tls, folder, warned, unserved, route_names }
    }

    /// Reports each duration of 0: every request would be late at once.
    pub(super) fn not_zero(
        &mut self,
        at: Position,
        path: &str,
        spans: &[(&str, Option<Duration>)],
    ) {
        for (key, span) in spans {
            if span.is_some_and(|span| span.is_zero()) {
                self.problems.error(at, format!("{path}.{key}"), "must be more than 0");
            }
        }
    }

    /// Reports a name that does not exist, and suggests the nearest name.
    pub(super) fn unknown<'n>(
        &mut self,
        at: Position,
        path: &str,
        message: String,
        wrong: &str,
        known: impl IntoIterator<Item = &'n str> + Clone,
    ) {
        match suggestion(wrong, known) {
            Some(hint) => self.problems.error_with_hint(at, path, message, hint),
            None => self.problems.error(at, path, message),
        }
    }
}

/// Resolves a relative socket path against the file's folder, like every other path.
pub(super) fn rooted(address: &Address, folder: &Path) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(folder.join(path)),
        Address::Ip(_) => address.clone(),
    }
}

/// The items of an optional list; none if the key is absent.
pub(super) fn owned(list: &Option<Vec<String>>) -> Vec<String> {
    list.clone().unwrap_or_default()
}
