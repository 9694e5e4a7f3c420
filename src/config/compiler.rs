//! What compiling shares: the plan as it grows, the problems found, and the helpers that every section uses.
//!
//! Each section of the file has its own `impl Compiler`: `clusters`, `services`, `listeners`, `tls`, `policies`.
//! The order in which they run is in `check`.

use super::error::{Position, Problems, suggestion};
use super::file::File;
use crate::decision::plan::{Address, Plan};
use crate::tls::store::Store;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Permissions of a unix socket's file: its user and group.
pub(super) const MODE: u32 = 0o660;

/// Collects what routes and listeners need while the plan grows.
pub(super) struct Compiler<'a> {
    pub(super) file: &'a File,
    pub(super) plan: Plan,
    pub(super) problems: &'a mut Problems,
    pub(super) tls: Store,
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
    /// Services and data classes whose lack of disaster recovery was reported.
    pub(super) warned: BTreeSet<(String, Vec<String>)>,
    /// Services that no cluster may serve, with their data and needs: each is reported once.
    pub(super) unserved: BTreeSet<(String, Vec<String>, Vec<String>)>,
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
        Compiler { file, plan, problems, tls, folder, warned, unserved }
    }

    /// Notes each span of none: everything would be late at once.
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

    /// Notes a name that is not there, with the nearest that is.
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

/// A relative socket path starts at the file's folder, as every path does.
pub(super) fn rooted(address: &Address, folder: &Path) -> Address {
    match address {
        Address::Unix(path) => Address::Unix(folder.join(path)),
        Address::Ip(_) => address.clone(),
    }
}

/// The items of an optional list; none where the key is absent.
pub(super) fn owned(list: &Option<Vec<String>>) -> Vec<String> {
    list.clone().unwrap_or_default()
}
