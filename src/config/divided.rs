//! Limits of the site as configured, and as the policies divide them.

use crate::config::load;
use crate::decision::policy::PolicyIndex;
use crate::policy::{PolicyRequest, Refused, Store};
use std::path::Path;

/// A site of three proxies; the limits of `site` are the site's, those of `own` each proxy's.
fn store() -> (Store, [PolicyIndex; 2]) {
    let peers = [2, 3].map(|port| format!("{{ site: a, url: \"http://127.0.0.1:{port}\" }}"));
    let limits = |scope: &str| {
        format!(
            "clusters: [c], concurrency: 6, concurrency_scope: {scope}, \
             rate_limit: {{ requests: 1, per: 1h, burst: 30, key: all, scope: {scope} }}"
        )
    };
    let text = format!(
        "site: {{ name: a }}\nadmin: {{ address: 127.0.0.1:9901 }}\nfleet: {{ peers: [{}] }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: site }} }}\n\
         services: {{ site: {{ {} }}, own: {{ {} }} }}\nclusters: {{ c: {{ endpoints: [127.0.0.1:1] }} }}\n",
        peers.join(", "),
        limits("site"),
        limits("proxy")
    );
    let outcome = load(&text, Path::new("."), &|_| None);
    let plan = outcome.config.unwrap_or_else(|| panic!("{:?}", outcome.problems)).plan;
    let of = |name: &str| {
        let service = plan.services.iter().find(|service| service.name == name);
        service.and_then(|service| service.policy).unwrap()
    };
    (Store::build(&plan).unwrap(), [of("site"), of("own")])
}

/// How many requests pass at once, and how many of them may be open.
fn passes(store: &Store, index: PolicyIndex) -> (usize, usize) {
    let request = PolicyRequest::flow([192, 0, 2, 1].into());
    let mut seats = Vec::new();
    let tries = (0..100).map(|_| store.admit(index, &request));
    let passed = tries.filter(|result| !matches!(result, Err(Refused::Rate(_))));
    let count = passed.map(|result| seats.extend(result.ok().flatten())).count();
    (count, seats.len())
}

#[test]
fn the_limits_of_a_site_are_divided_from_the_start_and_those_of_a_proxy_never() {
    let (store, [site, own]) = store();
    assert_eq!(store.parts(), 3, "until the fleet is heard, all configured proxies serve");
    assert!(store.is_divided());
    assert_eq!(passes(&store, site), (10, 2));
    assert_eq!(passes(&store, own), (30, 6));
}

#[test]
fn a_reload_raises_no_limit_before_the_fleet_decides_again() {
    let ((known, _), (mut fresh, [site, _])) = (store(), store());
    known.divide(6);
    fresh.inherit(&known);
    assert_eq!(fresh.parts(), 6);
    known.divide(1);
    let (mut fresh_again, _) = store();
    fresh_again.inherit(&known);
    assert_eq!(fresh_again.parts(), 3, "the safe one of both");
    fresh.divide(0);
    assert_eq!(fresh.parts(), 1, "never none");
    assert_eq!(passes(&fresh, site).1, 6);
}
