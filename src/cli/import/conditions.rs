//! Conditions that must hold together.

use super::model::{PathTest, When};
use super::order::{below, covers_host};

/// Why two conditions cannot be joined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Apart {
    /// No request meets both.
    Disjoint,
    /// There is no single path test for both.
    Inexpressible,
}

impl When {
    /// What meets both.
    ///
    /// # Errors
    /// [`Apart`].
    pub(super) fn and(&self, other: &When) -> Result<When, Apart> {
        let mut tests = [self.tests.clone(), other.tests.clone()].concat();
        tests.sort();
        tests.dedup();
        Ok(When {
            listeners: common(&self.listeners, &other.listeners)?,
            hosts: hosts(&self.hosts, &other.hosts)?,
            path: path(&self.path, &other.path)?,
            methods: common(&self.methods, &other.methods)?,
            tests,
        })
    }
}

fn common(a: &[String], b: &[String]) -> Result<Vec<String>, Apart> {
    if a.is_empty() || b.is_empty() {
        return Ok([a, b].concat());
    }
    let both: Vec<String> = a.iter().filter(|one| b.contains(one)).cloned().collect();
    if both.is_empty() { Err(Apart::Disjoint) } else { Ok(both) }
}

fn hosts(a: &[String], b: &[String]) -> Result<Vec<String>, Apart> {
    if a.is_empty() || b.is_empty() {
        return Ok([a, b].concat());
    }
    let mut both = Vec::new();
    for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
        if covers_host(a, b) {
            both.push(b.clone());
        } else if covers_host(b, a) {
            both.push(a.clone());
        }
    }
    both.dedup();
    if both.is_empty() { Err(Apart::Disjoint) } else { Ok(both) }
}

fn path(a: &PathTest, b: &PathTest) -> Result<PathTest, Apart> {
    match (a, b) {
        (a, b) if a == b => Ok(a.clone()),
        (PathTest::Prefix(any), other) | (other, PathTest::Prefix(any)) if any == "/" => {
            Ok(other.clone())
        }
        (PathTest::Exact(_), PathTest::Exact(_)) => Err(Apart::Disjoint),
        (PathTest::Exact(path), PathTest::Prefix(prefix))
        | (PathTest::Prefix(prefix), PathTest::Exact(path)) => match below(prefix, path) {
            true => Ok(PathTest::Exact(path.clone())),
            false => Err(Apart::Disjoint),
        },
        (PathTest::Prefix(x), PathTest::Prefix(y)) if below(x, y) => Ok(b.clone()),
        (PathTest::Prefix(x), PathTest::Prefix(y)) if below(y, x) => Ok(a.clone()),
        (PathTest::Prefix(_), PathTest::Prefix(_)) => Err(Apart::Disjoint),
        (PathTest::Regex(pattern), PathTest::Exact(path))
        | (PathTest::Exact(path), PathTest::Regex(pattern)) => {
            match regex::Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) if regex.is_match(path) => Ok(PathTest::Exact(path.clone())),
                Ok(_) => Err(Apart::Disjoint),
                Err(_) => Err(Apart::Inexpressible),
            }
        }
        (PathTest::Regex(pattern), PathTest::Prefix(prefix))
        | (PathTest::Prefix(prefix), PathTest::Regex(pattern)) => {
            let start = super::order::literal_start(pattern);
            match start.starts_with(&format!("{}/", prefix.trim_end_matches('/'))) {
                true => Ok(PathTest::Regex(pattern.clone())),
                false if !prefix.starts_with(&start) => Err(Apart::Disjoint),
                false => Err(Apart::Inexpressible),
            }
        }
        (PathTest::Regex(_), PathTest::Regex(_)) => Err(Apart::Inexpressible),
    }
}
