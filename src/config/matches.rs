//! Conditions of routes beside host, path, method and listener.

use super::compiler::Compiler;
use super::error::Problem;
use super::file;
use super::file::matching::{Matching, Unless, ValueTest as Written, ValueTests};
use super::file::rewrite::Redirect;
use super::headers::is_field_name;
use super::scalar::Network;
use crate::decision::matching::{Conditions, Matcher, ValueTest};

impl Compiler<'_> {
    /// The further conditions of a route. `None` if there are none.
    pub(super) fn conditions(&mut self, route: &file::Route, path: &str) -> Option<Box<Matcher>> {
        let path = format!("{path}.match");
        let only_plain = matches!(route.redirect, Some(Redirect::Https));
        let (all, none) = match &route.r#match {
            None => (Conditions::default(), Conditions::default()),
            Some(Matching { headers, query, client, not, .. }) => {
                let all = self.tests(headers.as_ref(), query.as_ref(), client.as_deref(), &path);
                let none = not.as_ref().map_or_else(Conditions::default, |not| {
                    let Unless { headers, query, client, .. } = not;
                    let path = format!("{path}.not");
                    self.tests(headers.as_ref(), query.as_ref(), client.as_deref(), &path)
                });
                (all, none)
            }
        };
        let matcher = Matcher { all, none, only_plain };
        (matcher.count() > 0).then(|| Box::new(matcher))
    }

    fn tests(
        &mut self,
        headers: Option<&ValueTests>,
        query: Option<&ValueTests>,
        client: Option<&[Network]>,
        path: &str,
    ) -> Conditions {
        for (name, _) in headers.iter().flat_map(|tests| &tests.0) {
            if !is_field_name(&name.value) {
                let message = format!("`{}` is not a valid header name", name.value.escape_debug());
                self.problems.error(name.at, format!("{path}.headers"), message);
            }
        }
        let mut headers = self.values(headers, &format!("{path}.headers"));
        headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        Conditions {
            headers,
            query: self.values(query, &format!("{path}.query")),
            client: client.unwrap_or_default().iter().map(|network| network.0).collect(),
        }
    }

    fn values(&mut self, written: Option<&ValueTests>, path: &str) -> Vec<(String, ValueTest)> {
        let mut tests = Vec::new();
        for (name, test) in written.iter().flat_map(|tests| &tests.0) {
            let path = format!("{path}.{}", name.value);
            let test = match test {
                Written::Equals(value) if value.chars().any(char::is_control) => {
                    self.problems.error(name.at, path, "the value has a control character");
                    None
                }
                Written::Equals(value) => Some(ValueTest::Equals(value.clone())),
                Written::Other(other) => match (&other.regex, other.present) {
                    (Some(regex), None) => {
                        let path = format!("{path}.regex");
                        self.value_pattern(regex, &path).map(ValueTest::Pattern)
                    }
                    (None, Some(present)) => Some(ValueTest::Present(present)),
                    (regex, _) => {
                        let message = "needs exactly one of `regex` and `present`";
                        let hint = "for a certain value, write NAME: VALUE".to_owned();
                        let problem = Problem::error(other.at, &path, message);
                        let problem = Problem { hint: Some(hint), ..problem };
                        match regex {
                            None => self.problems.lacking(&path, &["regex", "present"], problem),
                            Some(_) => self.problems.push(problem),
                        }
                        None
                    }
                },
            };
            tests.extend(test.map(|test| (name.value.clone(), test)));
        }
        tests
    }
}
