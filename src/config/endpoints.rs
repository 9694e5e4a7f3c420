//! The source of a cluster's endpoints: a list, DNS, a separate file, or Kubernetes.

use super::compiler::{Compiler, rooted};
use super::error::{Problem, Problems};
use super::file;
use super::kubernetes;
use super::scalar::{host_and_port, is_host_name};
use super::shape::{Decode, Spanned};
use super::yaml;
use crate::decision::plan::{Address, EndpointSpec, Source, Target};
use std::collections::BTreeSet;
use std::path::Path;

impl Compiler<'_> {
    /// The source of a cluster's endpoints: `endpoints` or `discover`.
    pub(super) fn source(
        &mut self,
        name: &Spanned<String>,
        cluster: &file::Cluster,
        folder: &Path,
        path: &str,
    ) -> Source {
        let nothing = Source::Static(Vec::new());
        let discover = cluster.discover.as_ref();
        match (&cluster.endpoints, discover) {
            (Some(listed), None) => self.listed(listed, cluster, folder, path),
            (None, Some(discover)) => self.discovered(discover, folder, path).unwrap_or(nothing),
            (None, None) => {
                let hint = Some("write endpoints: [ADDRESS:PORT]".to_owned());
                let message = "needs `endpoints` or `discover`";
                let problem = Problem { hint, ..Problem::error(name.at, path, message) };
                self.problems.lacking(path, &["endpoints", "discover"], problem);
                nothing
            }
            (Some(_), Some(discover)) => {
                self.problems.error(discover.at, path, "has both `endpoints` and `discover`");
                nothing
            }
        }
    }

    fn listed(
        &mut self,
        listed: &[file::Endpoint],
        cluster: &file::Cluster,
        folder: &Path,
        path: &str,
    ) -> Source {
        let mut specs: Vec<EndpointSpec> = Vec::with_capacity(listed.len());
        let mut seen = BTreeSet::new();
        for (index, endpoint) in listed.iter().enumerate() {
            let path = format!("{path}.endpoints[{index}]");
            if !seen.insert(&endpoint.target) {
                let message = "this endpoint is listed twice";
                self.problems.error(endpoint.at, &path, message);
            }
            if let Target::Address(address) = &endpoint.target
                && cluster.allow_link_local != Some(true)
                && is_link_local(address)
            {
                let message = format!("`{address}` is a link-local or metadata address");
                let hint = "set `allow_link_local: true` if this is intended";
                self.problems.error_with_hint(endpoint.at, &path, message, hint);
            }
            let target = match &endpoint.target {
                Target::Address(address) => Target::Address(rooted(address, folder)),
                Target::Name(host, port) => Target::Name(host.clone(), *port),
            };
            specs.push(EndpointSpec { target, weight: endpoint.weight });
        }
        Source::Static(specs)
    }

    fn discovered(
        &mut self,
        discover: &file::Discover,
        folder: &Path,
        path: &str,
    ) -> Option<Source> {
        let path = format!("{path}.discover");
        let file::Discover { at, dns, srv, file, kubernetes } = discover;
        match (dns, srv, file, kubernetes) {
            (Some(dns), None, None, None) => match host_and_port(&dns.value) {
                Ok((host, port)) => Some(Source::Dns { host, port }),
                Err(message) => {
                    let message = format!("`{}`: {message}", dns.value);
                    self.problems.error(dns.at, format!("{path}.dns"), message);
                    None
                }
            },
            (None, Some(srv), None, None) => {
                if !is_host_name(&srv.value) {
                    let hint = "such as _https._tcp.shop.example.com";
                    let message = format!("`{}` is not a name", srv.value);
                    self.problems.error_with_hint(srv.at, format!("{path}.srv"), message, hint);
                    return None;
                }
                Some(Source::Srv { name: srv.value.clone() })
            }
            (None, None, Some(file), None) => Some(Source::File { path: folder.join(&file.value) }),
            (None, None, None, Some(kubernetes)) => {
                let path = format!("{path}.kubernetes");
                kubernetes::source(kubernetes, folder, &path, self.problems)
            }
            _ => {
                let message = "needs exactly one of `dns`, `srv`, `file` and `kubernetes`";
                let problem = Problem::error(*at, &path, message);
                match (dns, srv, file, kubernetes) {
                    (None, None, None, None) => {
                        let keys = ["dns", "srv", "file", "kubernetes"];
                        self.problems.lacking(&path, &keys, problem);
                    }
                    _ => self.problems.push(problem),
                }
                None
            }
        }
    }
}

fn is_link_local(address: &Address) -> bool {
    match address {
        Address::Ip(address) => crate::decision::plan::is_link_local(address.ip()),
        Address::Unix(_) => false,
    }
}

/// Reads the list of endpoints in a separate file (`discover.file`). Relative paths in the file start at `folder`.
///
/// # Errors
/// All problems of the file.
pub fn endpoints_file(text: &str, folder: &Path) -> Result<Vec<EndpointSpec>, Vec<Problem>> {
    let mut problems = Problems::default();
    let (tree, wrongs) = yaml::parse(text);
    for wrong in wrongs {
        problems.error(wrong.at, "", wrong.message);
    }
    let read = match tree {
        Some(tree) if tree.is_null() => Some(Vec::new()),
        Some(tree) => Vec::<file::Endpoint>::decode(&tree, "endpoints", &mut problems),
        None => None,
    };
    let spec = |e: file::Endpoint| {
        let target = match e.target {
            Target::Address(address) => Target::Address(rooted(&address, folder)),
            name @ Target::Name(..) => name,
        };
        EndpointSpec { target, weight: e.weight }
    };
    match read {
        Some(list) if problems.count() == 0 => Ok(list.into_iter().map(spec).collect()),
        Some(_) | None => Err(problems.into_sorted()),
    }
}
