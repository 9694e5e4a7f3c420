//! The rule language of routers: matchers, `&&`, `||`, `!` and parentheses, as alternatives of conjunctions.

use super::super::model::{Field, PathTest, Test, Value, When, is_canonical};
use super::super::pattern::whole;

/// Levels of parentheses, at most.
const DEPTH_MAX: usize = 32;
/// Alternatives of a rule, at most.
const ALTERNATIVES_MAX: usize = 64;
/// Bytes of a rule, at most.
const BYTES_MAX: usize = 16 * 1024;

/// A rule as a tree.
#[derive(Clone, Debug, PartialEq)]
enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Call(String, Vec<String>),
}

/// A matcher of TCP routers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Conditions of a route.
    When(When),
    /// A server name in the ClientHello; `*` is any.
    Sni(String),
}

/// The alternatives of a rule; each is a conjunction.
///
/// # Errors
/// What has no equivalent, as a hint.
pub(super) fn alternatives(rule: &str) -> Result<Vec<Vec<Part>>, String> {
    if rule.len() > BYTES_MAX {
        return Err("the rule is longer than 16 KiB".to_owned());
    }
    let mut parser = Parser { rest: rule, depth: 0 };
    let expression = parser.or()?;
    parser.blanks();
    if !parser.rest.is_empty() {
        return Err(format!(
            "`{}` is not expected",
            parser.rest.chars().take(20).collect::<String>()
        ));
    }
    disjunction(&expression, false)
}

/// The conditions of a rule of an HTTP router.
///
/// # Errors
/// What has no equivalent, as a hint.
pub(super) fn conditions(rule: &str) -> Result<Vec<When>, String> {
    let mut all = Vec::new();
    for conjunction in alternatives(rule)? {
        let mut when = When::default();
        let mut disjoint = false;
        for part in conjunction {
            let Part::When(part) = part else {
                return Err("`HostSNI` is for TCP routers".to_owned());
            };
            match when.and(&part) {
                Ok(joined) => when = joined,
                Err(super::super::conditions::Apart::Disjoint) => disjoint = true,
                Err(super::super::conditions::Apart::Inexpressible) => {
                    return Err("a route has one path, prefix or expression".to_owned());
                }
            }
        }
        if !disjoint {
            all.push(when);
        }
    }
    Ok(merged(all))
}

/// Alternatives that differ in their hosts alone, as one.
fn merged(all: Vec<When>) -> Vec<When> {
    let mut out: Vec<When> = Vec::new();
    for when in all {
        let bare = |when: &When| When { hosts: Vec::new(), ..when.clone() };
        let same = |known: &&mut When| {
            !known.hosts.is_empty() && !when.hosts.is_empty() && bare(known) == bare(&when)
        };
        match out.iter_mut().find(same) {
            Some(known) => known.hosts.extend(when.hosts),
            None => out.push(when),
        }
    }
    out
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.and()?];
        while self.eat("||") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.unary()?];
        while self.eat("&&") {
            parts.push(self.unary()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn unary(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("more than 32 levels of parentheses".to_owned());
        }
        let found = if self.eat("!") {
            Expression::Not(Box::new(self.unary()?))
        } else if self.eat("(") {
            let inner = self.or()?;
            if !self.eat(")") {
                return Err("a `)` is missing".to_owned());
            }
            inner
        } else {
            self.call()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn call(&mut self) -> Result<Expression, String> {
        self.blanks();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        if name.is_empty() || !self.eat("(") {
            return Err(format!("`{name}` is not a matcher"));
        }
        let mut arguments = Vec::new();
        while !self.eat(")") {
            self.blanks();
            let quote = self.rest.chars().next().filter(|c| matches!(c, '`' | '"' | '\''));
            let Some(quote) = quote else {
                return Err(format!("an argument of `{name}` is not quoted"));
            };
            let inner = &self.rest[1..];
            let end = inner.find(quote).ok_or("a quote is not closed")?;
            arguments.push(inner[..end].to_owned());
            self.rest = &inner[end + 1..];
            self.eat(",");
        }
        Ok(Expression::Call(name, arguments))
    }
}

fn disjunction(expression: &Expression, negated: bool) -> Result<Vec<Vec<Part>>, String> {
    let all = match (expression, negated) {
        (Expression::Not(inner), negated) => disjunction(inner, !negated)?,
        (Expression::Or(parts), false) | (Expression::And(parts), true) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(disjunction(part, negated)?);
            }
            all
        }
        (Expression::And(parts), false) | (Expression::Or(parts), true) => {
            let mut all: Vec<Vec<Part>> = vec![Vec::new()];
            for part in parts {
                let more = disjunction(part, negated)?;
                let mut next = Vec::new();
                for before in &all {
                    next.extend(more.iter().map(|one| [before.clone(), one.clone()].concat()));
                }
                if next.len() > ALTERNATIVES_MAX {
                    return Err("the rule has too many alternatives: split it".to_owned());
                }
                all = next;
            }
            all
        }
        (Expression::Call(name, arguments), negated) => call(name, arguments, negated)?,
    };
    if all.len() > ALTERNATIVES_MAX {
        return Err("the rule has too many alternatives: split it".to_owned());
    }
    Ok(all)
}

/// A matcher as alternatives; several arguments of version 2 are alternatives.
fn call(name: &str, arguments: &[String], negated: bool) -> Result<Vec<Vec<Part>>, String> {
    let each = |one: &dyn Fn(&str) -> Option<When>| -> Result<Vec<Vec<Part>>, String> {
        if negated {
            return Err(format!(
                "`!{name}` has no equivalent: `match.not` has header fields, query and client"
            ));
        }
        let of = |argument: &String| {
            let when = one(argument)
                .ok_or_else(|| format!("`{argument}` in `{name}` has no equivalent"))?;
            Ok(vec![Part::When(when)])
        };
        arguments.iter().map(of).collect()
    };
    let lower = name.to_ascii_lowercase();
    match (lower.as_str(), arguments) {
        ("hostsni", [..]) if !negated => {
            Ok(arguments.iter().map(|name| vec![Part::Sni(name.to_ascii_lowercase())]).collect())
        }
        ("host" | "hostheader", [..]) if !arguments.is_empty() => {
            let when = each(&host)?;
            // Hosts are alternatives of one route.
            let hosts = when.into_iter().flatten().flat_map(|part| match part {
                Part::When(when) => when.hosts,
                Part::Sni(_) => Vec::new(),
            });
            let hosts = hosts.collect();
            Ok(vec![vec![Part::When(When { hosts, ..When::default() })]])
        }
        ("hostregexp", [..]) if !arguments.is_empty() => each(&host_pattern),
        ("path", [..]) => each(&|path| path_test(path, true)),
        ("pathprefix", [..]) => each(&|path| path_test(path, false)),
        ("pathregexp", [pattern]) => {
            let path = PathTest::Regex(regex(pattern)?);
            each(&|_| Some(When { path: path.clone(), ..When::default() }))
        }
        ("method", [..]) if !negated && !arguments.is_empty() => {
            let methods = arguments.iter().map(|method| method.to_ascii_uppercase()).collect();
            Ok(vec![vec![Part::When(When { methods, ..When::default() })]])
        }
        (_, arguments) => other(name, &lower, arguments, negated),
    }
}

/// Matchers of header fields, the query and the client.
fn other(
    name: &str,
    lower: &str,
    arguments: &[String],
    negated: bool,
) -> Result<Vec<Vec<Part>>, String> {
    let unknown = || format!("`{name}` has no equivalent among the conditions of a route");
    match (lower, arguments) {
        ("header" | "headers", [name, value]) => {
            test(negated, Field::Header(name.to_ascii_lowercase()), Value::Exact(value.clone()))
        }
        ("headerregexp" | "headersregexp", [name, pattern]) => {
            test(negated, Field::Header(name.to_ascii_lowercase()), Value::Regex(regex(pattern)?))
        }
        ("query", [name, value]) => {
            test(negated, Field::Query(name.clone()), Value::Exact(value.clone()))
        }
        ("query", [pair]) => match pair.split_once('=') {
            Some((name, value)) => {
                test(negated, Field::Query(name.to_owned()), Value::Exact(value.to_owned()))
            }
            None => test(negated, Field::Query(pair.clone()), Value::Present),
        },
        ("queryregexp", [name, pattern]) => {
            test(negated, Field::Query(name.clone()), Value::Regex(regex(pattern)?))
        }
        ("clientip", [..]) if !arguments.is_empty() => {
            let valid = |one: &String| {
                one.parse::<ipnet::IpNet>().is_ok() || one.parse::<std::net::IpAddr>().is_ok()
            };
            match arguments.iter().all(valid) {
                true => test(negated, Field::Client, Value::Networks(arguments.to_vec())),
                false => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn host(name: &str) -> Option<When> {
    let name = name.to_ascii_lowercase();
    let valid = crate::config::scalar::is_host_name(name.trim_start_matches("*."))
        || name.parse::<std::net::IpAddr>().is_ok();
    valid.then(|| When { hosts: vec![name], ..When::default() })
}

/// `{subdomain:[a-z]+}.example.com` of version 2, `^[a-z]+\.example\.com$` of version 3: any subdomain.
fn host_pattern(pattern: &str) -> Option<When> {
    let suffix = match pattern.strip_prefix('{') {
        Some(rest) => rest.split_once("}.").map(|(_, suffix)| suffix.to_owned()),
        None => {
            let rest = pattern.strip_prefix('^')?.strip_suffix('$')?;
            let known = [
                "[^.]+",
                "[a-z]+",
                "[a-z0-9]+",
                "[a-z0-9-]+",
                "[a-zA-Z0-9-]+",
                ".+",
                ".*",
                "[^\\.]+",
            ];
            let suffix =
                known.iter().find_map(|start| rest.strip_prefix(start)?.strip_prefix("\\."));
            suffix.map(|suffix| suffix.replace("\\.", "."))
        }
    }?;
    let valid = crate::config::scalar::is_host_name(&suffix);
    valid.then(|| When {
        hosts: vec![format!("*.{}", suffix.to_ascii_lowercase())],
        ..When::default()
    })
}

fn path_test(path: &str, exact: bool) -> Option<When> {
    let plain = !path.contains(['{', '}']);
    let path = match (plain && is_canonical(path), exact) {
        (true, true) => PathTest::Exact(path.to_owned()),
        (true, false) => PathTest::Prefix(path.to_owned()),
        (false, _) => {
            // `{name:pattern}` of version 2.
            let mut out = String::new();
            let mut rest = path;
            while let Some((before, after)) = rest.split_once('{') {
                out.push_str(&::regex::escape(before));
                let (inside, after) = after.split_once('}')?;
                out.push_str(inside.split_once(':').map_or("[^/]+", |(_, pattern)| pattern));
                rest = after;
            }
            out.push_str(&::regex::escape(rest));
            if !exact {
                out.push_str(".*");
            }
            ::regex::Regex::new(&format!("^(?:{out})$")).ok()?;
            if !path.starts_with(['/', '{']) {
                return None;
            }
            PathTest::Regex(out)
        }
    };
    Some(When { path, ..When::default() })
}

fn test(negated: bool, field: Field, value: Value) -> Result<Vec<Vec<Part>>, String> {
    let tests = vec![Test { negated, field, value }];
    Ok(vec![vec![Part::When(When { tests, ..When::default() })]])
}

fn regex(pattern: &str) -> Result<String, String> {
    whole(pattern, false).map_err(str::to_owned)
}
