//! `tidegate init`

/// Returns a commented first configuration.
pub(super) fn text(sidecar: bool) -> &'static str {
    if sidecar { SIDECAR } else { EDGE }
}

const EDGE: &str = r#"# Tidegate at the edge of a site.
# Try it:  tidegate check --config tidegate.yaml && tidegate run --config tidegate.yaml
# The file is watched: save it, and the change is in force within a second.
version: 1

site: { name: idc-east }               # where this proxy runs

admin:
  address: 127.0.0.1:9901              # metrics, state, explanations: curl 127.0.0.1:9901
  # token_file: token                  # needed to drain, dial or reload by the API

listeners:
  web:
    address: 127.0.0.1:8080            # 0.0.0.0:8080 to take requests from others
    protocol: http
    service: shop

services:
  shop:
    clusters: [idc, cloud]             # nearest first is measured; this order breaks ties
    # data: sensitive                  # then only clusters that accept it may serve

clusters:
  idc:
    kind: idc                          # accepts general and sensitive data
    endpoints: [127.0.0.1:9001]
    probe: { kind: http, path: /, status: [200-499] }
  cloud:
    kind: cloud                        # accepts general data only
    endpoints: [127.0.0.1:9002]
    probe: { kind: http, path: /, status: [200-499] }
    cost: { per_gib: 0.09 }
"#;

const SIDECAR: &str = r#"# Tidegate beside one application in the data centre: what the application calls goes to the nearest
# healthy cluster, spills to the cloud when that one is full, and never lets sensitive data leave.
version: 1

admin: { address: 127.0.0.1:9901 }
access_log: { format: off }

listeners:
  orders:
    address: 127.0.0.1:15001           # the application calls http://127.0.0.1:15001
    protocol: http
    service: orders
    timeouts: { idle: 10m }

services:
  orders:
    clusters: [orders-idc, orders-cloud]
    timeout: 5s

clusters:
  orders-idc: { kind: idc, endpoints: [127.0.0.1:9001] }
  orders-cloud: { kind: cloud, endpoints: [127.0.0.1:9002] }
"#;

#[cfg(test)]
mod tests {
    use crate::config::load;

    #[test]
    fn what_init_writes_is_valid_without_a_warning() {
        for text in [super::EDGE, super::SIDECAR] {
            let outcome = load(text, std::path::Path::new("."), &|_| None);
            assert!(outcome.config.is_some() && outcome.problems.is_empty(), "{outcome:?}");
        }
    }
}
