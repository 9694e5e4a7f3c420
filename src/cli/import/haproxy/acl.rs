//! HAProxy's conditions: access control lists and their combinations, as alternatives of conjunctions.

use super::super::model::{Field, PathTest, Test, Value, When};
use super::super::pattern::whole;
use super::parse::Line;
use super::userlist::Members;

/// Alternatives of a condition, at most.
const ALTERNATIVES_MAX: usize = 64;
/// Levels of lists that name lists.
const VALUES_MAX: usize = 256;

/// One test of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Atom {
    /// Conditions of a route.
    When(When),
    /// Whether the connection uses TLS.
    Tls,
    /// Always true.
    Always,
    /// A server name in the ClientHello.
    Sni(String),
    /// The client has authenticated as one of these users.
    Authenticated(Members),
    /// More requests than this in the time of the stick table.
    Rate(u64),
}

/// A conjunction: atoms, each perhaps negated.
pub(super) type Conjunction = Vec<(bool, Atom)>;

/// The condition of a line: `if` or `unless` and what follows; without one it is always true.
///
/// # Errors
/// What has no equivalent, as a hint.
pub(super) fn condition(line: &Line, lists: &[&Line]) -> Result<Vec<Conjunction>, String> {
    let at = line.words.iter().position(|word| word == "if" || word == "unless");
    let Some(at) = at else { return Ok(vec![Vec::new()]) };
    let alternatives = disjunction(&line.words[at + 1..], lists)?;
    if line.words[at] == "if" {
        return Ok(alternatives);
    }
    // Not (a or b) is (not a) and (not b); not (a and b) is (not a) or (not b).
    let mut negated: Vec<Conjunction> = vec![Vec::new()];
    for conjunction in alternatives {
        let mut next = Vec::new();
        for before in &negated {
            for (is_negated, atom) in &conjunction {
                let mut more = before.clone();
                more.push((!is_negated, atom.clone()));
                next.push(more);
            }
        }
        if next.len() > ALTERNATIVES_MAX {
            return Err(TOO_MANY.to_owned());
        }
        negated = next;
    }
    Ok(negated)
}

const TOO_MANY: &str = "the condition has too many alternatives: split it";

fn disjunction(words: &[String], lists: &[&Line]) -> Result<Vec<Conjunction>, String> {
    let mut all = Vec::new();
    let mut current: Vec<Conjunction> = vec![Vec::new()];
    let mut index = 0;
    while index < words.len() {
        let word = words[index].as_str();
        index += 1;
        if matches!(word, "||" | "or") {
            all.append(&mut current);
            current = vec![Vec::new()];
            continue;
        }
        let (negated, name) = match word.strip_prefix('!') {
            Some("") => {
                let next = words.get(index).map_or("", String::as_str);
                index += 1;
                (true, next)
            }
            Some(name) => (true, name),
            None => (false, word),
        };
        let atoms = if name == "{" {
            let length = words[index.min(words.len())..].iter().position(|word| word == "}");
            let end = index + length.ok_or("a `}` is missing")?;
            let atoms = test(&words[index..end])?;
            index = end + 1;
            atoms
        } else {
            named(name, lists)?
        };
        current = joined(&current, negated, &atoms)?;
    }
    all.append(&mut current);
    Ok(all)
}

/// Adds a test, which is true if one of its atoms is.
fn joined(
    before: &[Conjunction],
    negated: bool,
    atoms: &[Atom],
) -> Result<Vec<Conjunction>, String> {
    let mut next = Vec::new();
    for conjunction in before {
        if negated {
            let more = atoms.iter().map(|atom| (true, atom.clone()));
            next.push(conjunction.iter().cloned().chain(more).collect());
            continue;
        }
        for atom in merged(atoms) {
            let mut more = conjunction.clone();
            more.push((false, atom));
            next.push(more);
        }
    }
    if next.len() > ALTERNATIVES_MAX { Err(TOO_MANY.to_owned()) } else { Ok(next) }
}

/// Hosts, methods and networks as one condition instead of several.
fn merged(atoms: &[Atom]) -> Vec<Atom> {
    let mut out: Vec<Atom> = Vec::new();
    for atom in atoms {
        let (Some(Atom::When(last)), Atom::When(own)) = (out.last_mut(), atom) else {
            out.push(atom.clone());
            continue;
        };
        let bare = |when: &When| When { hosts: Vec::new(), ..when.clone() } == When::default();
        let of_methods =
            |when: &When| When { methods: Vec::new(), ..when.clone() } == When::default();
        let of_networks = |when: &When| {
            matches!(when.tests.as_slice(), [Test { field: Field::Client, negated: false, .. }])
                && When { tests: Vec::new(), ..when.clone() } == When::default()
        };
        if bare(last) && bare(own) {
            last.hosts.extend(own.hosts.iter().cloned());
        } else if of_methods(last) && of_methods(own) {
            last.methods.extend(own.methods.iter().cloned());
        } else if of_networks(last) && of_networks(own) {
            let more = own.tests.iter().flat_map(|test| match &test.value {
                Value::Networks(networks) => networks.clone(),
                Value::Exact(_) | Value::Regex(_) | Value::Present => Vec::new(),
            });
            if let Some(Test { value: Value::Networks(networks), .. }) = last.tests.first_mut() {
                networks.extend(more);
            }
        } else {
            out.push(atom.clone());
        }
    }
    out
}

/// The atoms of a named list, or of a predefined one.
fn named(name: &str, lists: &[&Line]) -> Result<Vec<Atom>, String> {
    let own: Vec<&&Line> = lists.iter().filter(|line| line.word(1) == name).collect();
    if !own.is_empty() {
        let mut atoms = Vec::new();
        for line in own {
            atoms.extend(test(line.words.get(2..).unwrap_or_default())?);
        }
        return Ok(atoms);
    }
    let method = |methods: &[&str]| {
        let methods = methods.iter().map(|m| (*m).to_owned()).collect();
        Ok(vec![Atom::When(When { methods, ..When::default() })])
    };
    match name {
        "TRUE" | "HTTP" | "HTTP_1.1" => Ok(vec![Atom::Always]),
        "METH_GET" => method(&["GET", "HEAD"]),
        "METH_POST" => method(&["POST"]),
        "METH_PUT" => method(&["PUT"]),
        "METH_DELETE" => method(&["DELETE"]),
        "METH_HEAD" => method(&["HEAD"]),
        "METH_OPTIONS" => method(&["OPTIONS"]),
        "METH_PATCH" => method(&["PATCH"]),
        "LOCALHOST" => Ok(vec![networks(vec!["127.0.0.0/8".to_owned()])]),
        name => Err(format!("there is no list `{name}`")),
    }
}

fn networks(networks: Vec<String>) -> Atom {
    let value = Value::Networks(networks);
    let tests = vec![Test { negated: false, field: Field::Client, value }];
    Atom::When(When { tests, ..When::default() })
}

/// How a sample is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Equal,
    Begins,
    Ends,
    Contains,
    Segment,
    Domain,
    Regex,
    Found,
}

/// The atoms of one test: a sample, its flags and its values.
fn test(words: &[String]) -> Result<Vec<Atom>, String> {
    let Some((sample, rest)) = words.split_first() else {
        return Err("an empty condition".to_owned());
    };
    let (mut ignores_case, mut way) = (false, None);
    let mut values = Vec::new();
    let mut rest = rest.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        match word {
            "-i" if values.is_empty() => ignores_case = true,
            "-n" | "-u" if values.is_empty() => {}
            "-f" | "-M" if values.is_empty() => {
                return Err("its values are in a file: list them in the route".to_owned());
            }
            "-m" if values.is_empty() => way = Some(way_of(rest.next().unwrap_or_default())?),
            "--" if values.is_empty() => {}
            value => values.push(value),
        }
    }
    if values.len() > VALUES_MAX {
        return Err(TOO_MANY.to_owned());
    }
    let bare = sample.split(',').next().unwrap_or_default();
    let (name, argument) = match bare.split_once('(') {
        Some((name, argument)) => (name, argument.trim_end_matches(')').trim_matches(['"', '\''])),
        None => (bare, ""),
    };
    let (name, suffix) = match name.rsplit_once('_') {
        Some((start, end)) if way_of(end).is_ok() && end != "found" && end != "str" => {
            (start, Some(way_of(end)?))
        }
        _ => (name, None),
    };
    let way = way.or(suffix).unwrap_or(if values.is_empty() { Way::Found } else { Way::Equal });
    let name =
        name.trim_start_matches("req.").trim_start_matches("request.").trim_end_matches("_fin");
    atoms(name, argument, way, ignores_case, &values).ok_or_else(|| {
        format!("`{sample}` has no equivalent among the conditions of a route (`match`)")
    })
}

fn way_of(text: &str) -> Result<Way, String> {
    Ok(match text {
        "str" | "ip" | "int" | "bool" => Way::Equal,
        "beg" => Way::Begins,
        "end" => Way::Ends,
        "sub" => Way::Contains,
        "dir" => Way::Segment,
        "dom" => Way::Domain,
        "reg" => Way::Regex,
        "found" => Way::Found,
        other => return Err(format!("`-m {other}` has no equivalent")),
    })
}

fn atoms(
    name: &str,
    argument: &str,
    way: Way,
    ignores_case: bool,
    values: &[&str],
) -> Option<Vec<Atom>> {
    let each = |one: &dyn Fn(&str) -> Option<When>| -> Option<Vec<Atom>> {
        values.iter().map(|value| one(value).map(Atom::When)).collect()
    };
    let tested = |field: Field| -> Option<Vec<Atom>> {
        if way == Way::Found {
            let tests = vec![Test { negated: false, field, value: Value::Present }];
            return Some(vec![Atom::When(When { tests, ..When::default() })]);
        }
        each(&|value| {
            let value = value_test(way, ignores_case, value)?;
            let tests = vec![Test { negated: false, field: field.clone(), value }];
            Some(When { tests, ..When::default() })
        })
    };
    match name {
        "always_true" => Some(vec![Atom::Always]),
        "ssl_fc" => Some(vec![Atom::Tls]),
        "http_auth" | "http_auth_group" => authenticated(name, argument, values),
        name if name.ends_with("http_req_rate") => rate(values),
        "ssl_sni" | "req_ssl_sni" if way == Way::Equal => {
            Some(values.iter().map(|value| Atom::Sni(value.to_ascii_lowercase())).collect())
        }
        "ssl_sni" | "req_ssl_sni"
            if way == Way::Ends && values.iter().all(|v| v.starts_with('.')) =>
        {
            Some(
                values
                    .iter()
                    .map(|value| Atom::Sni(format!("*{}", value.to_ascii_lowercase())))
                    .collect(),
            )
        }
        "hdr" | "hdr_host" | "fhdr" if argument.eq_ignore_ascii_case("host") => {
            each(&|value| host(way, value))
        }
        "ssl_fc_sni" => each(&|value| host(way, value)),
        "hdr_cnt" => tested(Field::Header(argument.to_ascii_lowercase())),
        "hdr" | "fhdr" if !argument.is_empty() => {
            let name = argument.split(',').next().unwrap_or_default().to_ascii_lowercase();
            tested(Field::Header(name))
        }
        "url_param" | "urlp" if !argument.is_empty() => {
            tested(Field::Query(argument.split(',').next().unwrap_or_default().to_owned()))
        }
        "path" | "url" | "pathq" if way != Way::Found => {
            each(&|value| path(way, ignores_case, value))
        }
        "method" if way == Way::Equal => each(&|value| {
            Some(When { methods: vec![value.to_ascii_uppercase()], ..When::default() })
        }),
        "src" => {
            let parsed = values.iter().all(|value| {
                value.parse::<ipnet::IpNet>().is_ok() || value.parse::<std::net::IpAddr>().is_ok()
            });
            let own = values.iter().map(|value| (*value).to_owned()).collect();
            (parsed && !values.is_empty()).then(|| vec![networks(own)])
        }
        _ => None,
    }
}

fn value_test(way: Way, ignores_case: bool, value: &str) -> Option<Value> {
    let escaped = regex::escape(value);
    let pattern = match way {
        Way::Equal if !ignores_case => return Some(Value::Exact(value.to_owned())),
        Way::Equal => escaped,
        Way::Begins => format!("{escaped}.*"),
        Way::Ends => format!(".*{escaped}"),
        Way::Contains => format!(".*{escaped}.*"),
        Way::Segment => format!("(.*/)?{escaped}(/.*)?"),
        Way::Domain => format!("(.*[./])?{escaped}([./:].*)?"),
        Way::Regex => return whole(value, ignores_case).ok().map(Value::Regex),
        Way::Found => return Some(Value::Present),
    };
    Some(Value::Regex(if ignores_case { format!("(?i){pattern}") } else { pattern }))
}

fn host(way: Way, value: &str) -> Option<When> {
    let value = value.to_ascii_lowercase();
    let value = value.split(':').next().unwrap_or_default();
    let hosts = match way {
        Way::Equal => vec![value.to_owned()],
        Way::Ends => vec![format!("*.{}", value.strip_prefix('.')?)],
        Way::Domain => vec![value.to_owned(), format!("*.{value}")],
        Way::Begins | Way::Contains | Way::Segment | Way::Regex | Way::Found => return None,
    };
    let valid = |host: &String| {
        crate::config::scalar::is_host_name(host.trim_start_matches("*."))
            || host.parse::<std::net::IpAddr>().is_ok()
    };
    hosts.iter().all(valid).then(|| When { hosts, ..When::default() })
}

fn path(way: Way, ignores_case: bool, value: &str) -> Option<When> {
    let canonical = super::super::model::is_canonical(value);
    let path = match (way, value_test(way, ignores_case, value)?) {
        (Way::Equal, Value::Exact(path)) if canonical => PathTest::Exact(path),
        (Way::Equal, Value::Exact(_)) => return None,
        (Way::Begins, _) if canonical && !ignores_case => PathTest::Prefix(value.to_owned()),
        (_, Value::Regex(pattern)) => PathTest::Regex(pattern),
        (_, Value::Exact(_) | Value::Present | Value::Networks(_)) => return None,
    };
    Some(When { path, ..When::default() })
}

/// A password of a user of a list, or of a member of groups.
fn authenticated(name: &str, list: &str, groups: &[&str]) -> Option<Vec<Atom>> {
    let by_group = name == "http_auth_group";
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let members = Members { list: list.to_owned(), groups };
    let is_valid = !list.is_empty() && by_group != members.groups.is_empty();
    is_valid.then(|| vec![Atom::Authenticated(members)])
}

/// More requests than a number in the time of the stick table.
fn rate(values: &[&str]) -> Option<Vec<Atom>> {
    match values {
        ["gt", number] => Some(vec![Atom::Rate(number.parse().ok()?)]),
        ["ge", number] => Some(vec![Atom::Rate(number.parse::<u64>().ok()?.saturating_sub(1))]),
        _ => None,
    }
}
