//! From rules in order to routes by specificity.
//!
//! nginx, HAProxy and Traefik try rules in an order; Tidegate takes the most specific route. Where both disagree,
//! this module adds a route for what both rules accept, with the action of the earlier rule. Prefixes precede regular
//! expressions in Tidegate, so a prefix after an overlapping expression becomes an expression, which are tried in
//! the order of the file.
//!
//! # Invariants
//! * For each request, the action of the most specific result is that of the first rule that accepts the request.
//! * At most [`RULES_MAX`] rules result; if more were needed, the remaining conflicts are returned.

use super::model::{PathTest, Rule, Test, Value, When};

/// Resulting rules, at most.
const RULES_MAX: usize = 2_000;

/// Rules whose specificity agrees with their order.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The rules, for the file.
    pub(super) rules: Vec<Rule>,
    /// Rules that no request reaches: an earlier rule accepts all of theirs.
    pub(super) unreachable: Vec<Rule>,
    /// Pairs of rules whose order could not be kept.
    pub(super) conflicts: Vec<(Rule, Rule)>,
}

#[derive(Clone)]
struct Ranked {
    rank: usize,
    /// One host at most.
    rule: Rule,
}

/// Makes the specificity of the rules agree with their order.
pub(super) fn settle(rules: Vec<Rule>) -> Settled {
    let mut settled = Settled::default();
    let mut ranked = one_host_each(rules);
    prefixes_after_patterns(&mut ranked);
    let mut index = 0;
    while index < ranked.len() {
        for other in 0..index {
            let (a, b) = (&ranked[index], &ranked[other]);
            let (first, second) = if a.rank < b.rank { (a, b) } else { (b, a) };
            if first.rank == second.rank || !conflict(&first.rule.when, &second.rule.when) {
                continue;
            }
            let when = both(&first.rule.when, &second.rule.when);
            let rank = first.rank;
            if ranked.iter().any(|known| known.rank <= rank && known.rule.when == when) {
                continue;
            }
            if ranked.len() >= RULES_MAX {
                settled.conflicts.push((first.rule.clone(), second.rule.clone()));
                continue;
            }
            let rule = Rule { when, ..first.rule.clone() };
            ranked.push(Ranked { rank, rule });
        }
        index += 1;
    }
    ranked.sort_by_key(|ranked| ranked.rank);
    let mut kept: Vec<Ranked> = Vec::new();
    for one in ranked {
        let dead = |earlier: &Ranked| {
            earlier.rank <= one.rank
                && includes(&earlier.rule.when, &one.rule.when)
                && key(&earlier.rule.when) >= key(&one.rule.when)
        };
        match kept.iter().any(dead) {
            true => settled.unreachable.push(one.rule),
            false => kept.push(one),
        }
    }
    settled.rules = grouped(kept);
    // A rule with several hosts, one of which is reachable, is reachable.
    let Settled { rules, unreachable, .. } = &mut settled;
    unreachable.retain(|dead| !rules.iter().any(|rule| rule.at == dead.at));
    settled
}

fn one_host_each(rules: Vec<Rule>) -> Vec<Ranked> {
    let mut ranked = Vec::new();
    for (rank, rule) in rules.into_iter().enumerate() {
        if rule.when.hosts.len() < 2 {
            ranked.push(Ranked { rank, rule });
            continue;
        }
        for host in &rule.when.hosts {
            let when = When { hosts: vec![host.clone()], ..rule.when.clone() };
            ranked.push(Ranked { rank, rule: Rule { when, ..rule.clone() } });
        }
    }
    ranked
}

/// Rewrites paths to patterns where an earlier rule with a pattern would lose against them.
fn prefixes_after_patterns(ranked: &mut [Ranked]) {
    for index in 1..ranked.len() {
        let (before, rest) = ranked.split_at_mut(index);
        let Some(one) = rest.first_mut() else { continue };
        let loses = |earlier: &Ranked| {
            let (a, b) = (&earlier.rule.when, &one.rule.when);
            matches!(a.path, PathTest::Regex(_))
                && earlier.rank < one.rank
                && overlap(a, b)
                && host_rank(b) >= host_rank(a)
        };
        if before.iter().any(loses) {
            one.rule.when.path = PathTest::Regex(as_pattern(&one.rule.when.path));
        }
    }
}

/// A pattern that accepts the same paths.
pub(super) fn as_pattern(path: &PathTest) -> String {
    match path {
        PathTest::Regex(pattern) => pattern.clone(),
        PathTest::Exact(path) => regex::escape(path),
        PathTest::Prefix(prefix) => match prefix.trim_end_matches('/') {
            "" => "/.*".to_owned(),
            prefix => format!("{}(/.*)?", regex::escape(prefix)),
        },
    }
}

/// Rules of one rank that differ in the host alone, as one rule.
fn grouped(ranked: Vec<Ranked>) -> Vec<Rule> {
    let mut groups: Vec<Ranked> = Vec::new();
    for one in ranked {
        let same = |group: &&mut Ranked| {
            let (a, b) = (&group.rule.when, &one.rule.when);
            group.rank == one.rank
                && group.rule.keys == one.rule.keys
                && !a.hosts.is_empty()
                && !b.hosts.is_empty()
                && When { hosts: Vec::new(), ..a.clone() }
                    == When { hosts: Vec::new(), ..b.clone() }
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.rule.when.hosts.extend(one.rule.when.hosts),
            None => groups.push(one),
        }
    }
    groups.into_iter().map(|group| group.rule).collect()
}

/// What Tidegate compares: host, path, methods, further tests. Patterns are tried in the order of the file.
fn key(when: &When) -> (usize, usize, usize, usize) {
    let (path, file_order) = match &when.path {
        PathTest::Exact(_) => (usize::MAX, false),
        PathTest::Prefix(prefix) => (1 + prefix.trim_end_matches('/').len(), false),
        PathTest::Regex(_) => (0, true),
    };
    match file_order {
        true => (host_rank(when), path, 0, 0),
        false => (host_rank(when), path, usize::from(!when.methods.is_empty()), when.tests.len()),
    }
}

fn host_rank(when: &When) -> usize {
    match when.hosts.first() {
        None => 0,
        Some(host) => match host.strip_prefix("*.") {
            Some(suffix) => suffix.len(),
            None => usize::MAX,
        },
    }
}

/// Whether Tidegate prefers the second rule for a request that both accept.
fn conflict(first: &When, second: &When) -> bool {
    key(second) > key(first) && overlap(first, second)
}

/// Whether a request may satisfy both.
fn overlap(a: &When, b: &When) -> bool {
    let common = |a: &[String], b: &[String]| {
        a.is_empty() || b.is_empty() || a.iter().any(|one| b.contains(one))
    };
    let contradict = |a: &Test, b: &Test| {
        let absent = |one: &Test| one.negated && one.value == Value::Present;
        a.field == b.field
            && a.negated != b.negated
            && (a.value == b.value || absent(a) || absent(b))
    };
    common(&a.listeners, &b.listeners)
        && common(&a.methods, &b.methods)
        && hosts_overlap(a, b)
        && paths_overlap(&a.path, &b.path)
        && !a.tests.iter().any(|one| b.tests.iter().any(|other| contradict(one, other)))
}

fn hosts_overlap(a: &When, b: &When) -> bool {
    let (Some(a), Some(b)) = (a.hosts.first(), b.hosts.first()) else { return true };
    covers_host(a, b) || covers_host(b, a)
}

/// Whether the first host pattern accepts all hosts of the second.
pub(super) fn covers_host(wide: &str, narrow: &str) -> bool {
    let below = wide.strip_prefix('*').is_some_and(|suffix| {
        narrow.trim_start_matches('*').ends_with(suffix) && narrow.len() > suffix.len()
    });
    wide == narrow || below
}

pub(super) fn below(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.trim_end_matches('/') == prefix
        || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

fn paths_overlap(a: &PathTest, b: &PathTest) -> bool {
    match (a, b) {
        (PathTest::Exact(a), PathTest::Exact(b)) => a == b,
        (PathTest::Exact(a), PathTest::Prefix(b)) | (PathTest::Prefix(b), PathTest::Exact(a)) => {
            below(b, a)
        }
        (PathTest::Prefix(a), PathTest::Prefix(b)) => below(a, b) || below(b, a),
        (PathTest::Regex(pattern), PathTest::Exact(path))
        | (PathTest::Exact(path), PathTest::Regex(pattern)) => {
            regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(path))
        }
        (PathTest::Regex(pattern), PathTest::Prefix(prefix))
        | (PathTest::Prefix(prefix), PathTest::Regex(pattern)) => {
            let (start, prefix) = (literal_start(pattern), prefix.trim_end_matches('/'));
            start.starts_with(prefix) || prefix.starts_with(&start)
        }
        (PathTest::Regex(_), PathTest::Regex(_)) => true,
    }
}

/// The characters that all paths of a pattern begin with.
pub(super) fn literal_start(pattern: &str) -> String {
    if pattern.contains('|') || pattern.contains("(?") {
        return String::new();
    }
    let mut start = String::new();
    for c in pattern.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || "/-_~%@,:;!&'<>=\"".contains(c) => start.push(c),
            '?' | '*' | '{' => {
                start.pop();
                break;
            }
            _ => break,
        }
    }
    start
}

/// The conditions of both. Of a prefix and a pattern the first rule's path is kept, which is wider and has precedence.
fn both(first: &When, second: &When) -> When {
    let common = |a: &[String], b: &[String]| match (a, b) {
        ([], all) | (all, []) => all.to_vec(),
        (a, b) => a.iter().filter(|one| b.contains(one)).cloned().collect(),
    };
    let hosts = if host_rank(first) >= host_rank(second) { &first.hosts } else { &second.hosts };
    let path = match (&first.path, &second.path) {
        (PathTest::Regex(_), _) | (_, PathTest::Regex(_)) => &first.path,
        (PathTest::Exact(_), _) => &first.path,
        (_, PathTest::Exact(_)) => &second.path,
        (PathTest::Prefix(a), PathTest::Prefix(b)) if a.len() >= b.len() => &first.path,
        (PathTest::Prefix(_), PathTest::Prefix(_)) => &second.path,
    };
    let mut tests = [first.tests.clone(), second.tests.clone()].concat();
    tests.sort();
    tests.dedup();
    When {
        listeners: common(&first.listeners, &second.listeners),
        hosts: hosts.clone(),
        path: path.clone(),
        methods: common(&first.methods, &second.methods),
        tests,
    }
}

/// Whether the first accepts every request that the second accepts.
fn includes(wide: &When, narrow: &When) -> bool {
    let covers = |a: &[String], b: &[String]| {
        a.is_empty() || !b.is_empty() && b.iter().all(|one| a.contains(one))
    };
    let host = match (wide.hosts.first(), narrow.hosts.first()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => covers_host(wide, narrow),
    };
    let path = match (&wide.path, &narrow.path) {
        (a, b) if a == b => true,
        (PathTest::Prefix(prefix), PathTest::Prefix(path) | PathTest::Exact(path)) => {
            below(prefix, path)
        }
        (PathTest::Prefix(_) | PathTest::Exact(_) | PathTest::Regex(_), _) => false,
    };
    host && path
        && covers(&wide.listeners, &narrow.listeners)
        && covers(&wide.methods, &narrow.methods)
        && wide.tests.iter().all(|test| narrow.tests.contains(test))
}
