//! The last operations: those of this process, and the reports that earlier processes left in `state_dir`.
//!
//! The server reads and writes the files; this module decides what they hold. The report of a running operation is
//! written too, so that the report survives a crash: at the next start it becomes `interrupted`.

use super::record::{BRIEF, Record};
use crate::telemetry::metrics::OperationFigures;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of operations that are kept.
const KEPT: usize = 20;
/// The kinds and the results of operations, as metrics name them.
const KINDS: [&str; 2] = ["drill", "shift"];
const RESULTS: [&str; 4] = ["done", "stopped", "aborted", INTERRUPTED];
const INTERRUPTED: &str = "interrupted";
const CAUSE: &str = "the proxy ended while the operation was running";

/// A report that was read from `state_dir`.
#[derive(Clone, Debug)]
pub struct KeptReport {
    /// The number of the operation.
    pub id: u64,
    /// The report, as it was written.
    pub report: Value,
    /// When it was written, as in RFC 3339.
    pub written_at: String,
}

/// A change of the reports in `state_dir`.
#[derive(Clone, Debug)]
pub enum Keep {
    /// Writes the report of an operation.
    Write {
        /// The number of the operation.
        id: u64,
        /// The report.
        report: Value,
    },
    /// Removes the report of an operation.
    Remove {
        /// The number of the operation.
        id: u64,
    },
}

/// The last operations, in two lists with the newest last.
#[derive(Debug, Default)]
pub(super) struct All {
    /// Of earlier processes; each has ended.
    past: VecDeque<(u64, Value)>,
    /// Of this process; only the newest may be running.
    own: VecDeque<Record>,
    /// Of the files, as far as the start made them necessary and they are not written yet.
    changes: Vec<Keep>,
    /// Operations that ended, by kind and result.
    ended: BTreeMap<(&'static str, &'static str), u64>,
}

/// The state of all operations.
#[derive(Debug, Default)]
pub(in crate::admin) struct Operations(Mutex<All>);

impl Operations {
    /// The reports of earlier processes, which need not be sorted.
    pub(in crate::admin) fn restored(mut reports: Vec<KeptReport>) -> Operations {
        reports.sort_by_key(|kept| kept.id);
        let mut all = All::default();
        for KeptReport { id, mut report, written_at } in reports {
            if report["phase"] != "ended" {
                interrupt(&mut report, &written_at);
                all.count(&report);
                all.changes.push(Keep::Write { id, report: report.clone() });
            }
            all.past.push_back((id, report));
            if all.past.len() > KEPT
                && let Some((id, _)) = all.past.pop_front()
            {
                all.changes.push(Keep::Remove { id });
            }
        }
        Operations(Mutex::new(all))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest operation, in brief.
    pub(in crate::admin) fn newest(&self) -> Option<Value> {
        let all = self.lock();
        all.own.back().map(Record::brief).or_else(|| all.past.back().map(|(_, past)| brief(past)))
    }

    /// Whether an operation is running.
    pub(super) fn is_running(&self) -> bool {
        self.lock().running().is_some()
    }

    /// The figures for metrics: every kind with every result.
    pub(in crate::admin) fn figures(&self) -> OperationFigures {
        let all = self.lock();
        let results = |kind| RESULTS.map(|result| (kind, result));
        let count = |(kind, result)| (kind, result, all.ended.get(&(kind, result)).copied());
        let ended = KINDS.into_iter().flat_map(results).map(count);
        OperationFigures {
            ended: ended.map(|(kind, result, count)| (kind, result, count.unwrap_or(0))).collect(),
            running: all.own.back().is_some_and(Record::is_running),
        }
    }
}

impl All {
    /// The running operation.
    pub(super) fn running(&mut self) -> Option<&mut Record> {
        self.own.back_mut().filter(|record| record.is_running())
    }

    /// The newest operation of this process.
    pub(super) fn own_newest(&self) -> Option<&Record> {
        self.own.back()
    }

    /// An operation of this process.
    pub(super) fn own(&mut self, id: u64) -> Option<&mut Record> {
        self.own.iter_mut().find(|record| record.id == id)
    }

    /// The number of the next operation.
    pub(super) fn next_id(&self) -> u64 {
        let past = self.past.back().map(|(id, _)| *id);
        self.own.back().map(|record| record.id).or(past).unwrap_or(0) + 1
    }

    /// Adds an operation; returns the number of the one that is dropped for it.
    pub(super) fn push(&mut self, record: Record) -> Option<u64> {
        self.own.push_back(record);
        if self.past.len() + self.own.len() <= KEPT {
            return None;
        }
        let past = self.past.pop_front().map(|(id, _)| id);
        past.or_else(|| self.own.pop_front().map(|record| record.id))
    }

    /// The changes of the files that the start made necessary, once.
    pub(super) fn take_changes(&mut self) -> Vec<Keep> {
        std::mem::take(&mut self.changes)
    }

    /// All operations in brief, the newest first.
    pub(super) fn briefs(&self) -> Value {
        let own = self.own.iter().rev().map(Record::brief);
        own.chain(self.past.iter().rev().map(|(_, past)| brief(past))).collect()
    }

    /// The report of an operation; that of one of this process is made by `full`.
    pub(super) fn report(&self, id: u64, full: impl FnOnce(&Record) -> Value) -> Option<Value> {
        match self.own.iter().find(|record| record.id == id) {
            Some(record) => Some(full(record)),
            None => self.past.iter().find(|(known, _)| *known == id).map(|(_, past)| past.clone()),
        }
    }

    /// Counts an operation that ended, by its report.
    pub(super) fn count(&mut self, report: &Value) {
        let kind = KINDS.into_iter().find(|kind| report["kind"] == **kind);
        let result = RESULTS.into_iter().find(|result| report["outcome"] == **result);
        if let Some(labels) = kind.zip(result) {
            *self.ended.entry(labels).or_default() += 1;
        }
    }
}

/// Ends the report of an operation that was running when its process ended. An outcome that was decided before stays: the
/// traffic was on its way back.
fn interrupt(report: &mut Value, written_at: &str) {
    report["percent"] = report["start_percent"].clone();
    report["seconds_left"] = json!(0.0);
    report["ended_at"] = json!(written_at);
    report["phase"] = json!("ended");
    if report["outcome"].is_null() {
        report["outcome"] = json!(INTERRUPTED);
        report["cause"] = json!(CAUSE);
    }
}

/// The part of a report that [`Record::brief`] has.
fn brief(report: &Value) -> Value {
    BRIEF.iter().map(|key| ((*key).to_owned(), report[*key].clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: u64, phase: &str, outcome: Value) -> KeptReport {
        let report = json!({
            "id": id, "kind": "drill", "name": "idc", "start_percent": 0, "percent": 100, "phase": phase,
            "outcome": outcome, "cause": null, "seconds_left": 9.0, "ended_at": null, "course": [],
        });
        KeptReport { id, report, written_at: "2026-01-01T00:00:07Z".to_owned() }
    }

    #[test]
    fn a_running_operation_of_an_earlier_process_is_interrupted_and_a_decided_one_keeps_its_outcome()
     {
        let reports = vec![
            kept(3, "held", Value::Null),
            kept(1, "ended", json!("done")),
            kept(2, "returning", json!("stopped")),
        ];

        let operations = Operations::restored(reports);

        let mut all = operations.lock();
        let last = all.report(3, |_| Value::Null).unwrap();
        let of = |key: &str| last[key].clone();
        assert_eq!((of("phase"), of("outcome")), (json!("ended"), json!("interrupted")));
        assert_eq!((of("percent"), of("seconds_left")), (json!(0), json!(0.0)));
        assert_eq!((of("ended_at"), of("cause")), (json!("2026-01-01T00:00:07Z"), json!(CAUSE)));
        let second = all.report(2, |_| Value::Null).unwrap();
        assert_eq!((&second["phase"], &second["outcome"]), (&json!("ended"), &json!("stopped")));
        assert!(all.report(4, |_| Value::Null).is_none());
        let ids: Vec<_> =
            all.briefs().as_array().unwrap().iter().map(|o| o["id"].clone()).collect();
        assert_eq!(ids, [3, 2, 1], "the newest first");
        assert!(all.briefs()[0].get("course").is_none(), "in brief");
        let written = all.take_changes();
        assert!(matches!(&written[..], [Keep::Write { id: 2, .. }, Keep::Write { id: 3, .. }]));
        assert!(all.take_changes().is_empty(), "once");
        assert_eq!(all.next_id(), 4, "numbers continue");
        drop(all);
        let figures = operations.figures();
        assert_eq!(figures.ended.len(), KINDS.len() * RESULTS.len());
        for (kind, result, count) in figures.ended {
            let counted = kind == "drill" && ["stopped", "interrupted"].contains(&result);
            assert_eq!(
                count,
                u64::from(counted),
                "{kind} {result}: what ended before is not counted"
            );
        }
        assert!(!figures.running);
        assert_eq!(operations.newest().unwrap()["id"], 3);
    }

    #[test]
    fn no_more_reports_are_kept_than_operations() {
        let reports = (1..=KEPT as u64 + 2).map(|id| kept(id, "ended", json!("done"))).collect();

        let operations = Operations::restored(reports);

        let mut all = operations.lock();
        assert_eq!(all.briefs().as_array().unwrap().len(), KEPT);
        let removed = all.take_changes();
        assert!(matches!(&removed[..], [Keep::Remove { id: 1 }, Keep::Remove { id: 2 }]));
        assert_eq!(all.next_id(), KEPT as u64 + 3);
    }
}
