//! A random topology: sites, clusters, services, routes and listeners as an operator would write them, and the rules
//! of data class, environment and needs a second time.
//!
//! The rules are written here from the documentation, on purpose without the code of `decision` and `config`: the
//! two versions must agree.

use crate::decision::units::Dice;
use std::fmt::Write;

type Words = Vec<&'static str>;

const CLASSES: [&str; 3] = ["general", "sensitive", "cards"];
const OFFERS: [&str; 2] = ["gpu", "hsm"];
const ENVIRONMENTS: [&str; 2] = ["production", "test"];

/// The environment of the proxy itself, from which clusters and services inherit.
const OWN: &str = ENVIRONMENTS[0];

#[derive(Clone, Debug)]
struct Site {
    is_idc: bool,
    environment: Option<&'static str>,
    accepts: Option<Words>,
    offers: Words,
}

#[derive(Clone, Debug)]
struct Cluster {
    name: usize,
    site: Option<usize>,
    is_idc: bool,
    environment: Option<&'static str>,
    accepts: Option<Words>,
    offers: Words,
    /// Further keys, which constraints do not depend on.
    more: String,
}

#[derive(Clone, Debug)]
struct Service {
    /// By name.
    clusters: Vec<usize>,
    environment: Option<&'static str>,
    data: Option<Words>,
    needs: Words,
    more: String,
}

#[derive(Clone, Debug)]
struct Route {
    to: Vec<usize>,
    mirror: Option<usize>,
    data: Words,
    needs: Words,
}

/// The demands of an exchange.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    environment: &'static str,
    data: Words,
    needs: Words,
    /// The clusters that the service lists, by name.
    listed: Vec<usize>,
}

/// What an operator wrote.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    sites: Vec<Site>,
    clusters: Vec<Cluster>,
    services: Vec<Service>,
    routes: Vec<Route>,
    /// The services of the tcp, udp and tls-passthrough listeners.
    l4: [usize; 3],
}

fn chance(dice: &mut Dice, of_hundred: usize) -> bool {
    dice.below(100) < of_hundred
}

/// Each word with this chance.
fn some(dice: &mut Dice, words: &[&'static str], of_hundred: usize) -> Words {
    words.iter().copied().filter(|_| chance(dice, of_hundred)).collect()
}

fn one_of<T: Copy>(dice: &mut Dice, words: &[T]) -> T {
    words[dice.below(words.len())]
}

fn site(dice: &mut Dice) -> Site {
    Site {
        is_idc: chance(dice, 50),
        environment: chance(dice, 30).then(|| one_of(dice, &ENVIRONMENTS)),
        accepts: chance(dice, 40).then(|| some(dice, &CLASSES, 70)),
        offers: some(dice, &OFFERS, 40),
    }
}

fn cluster(dice: &mut Dice, name: usize, sites: &[Site]) -> Cluster {
    let site = chance(dice, 60).then(|| dice.below(sites.len()));
    let of_site = site.map(|site| &sites[site]);
    // A cluster may narrow what its site accepts, never widen it.
    let widest = of_site.map_or(CLASSES.to_vec(), accepted);
    let is_placed = of_site.is_some_and(|site| site.environment.is_some());
    let mut more = String::new();
    if chance(dice, 30) {
        write!(more, ", capacity: {{ concurrent: {} }}", 1 + dice.below(3)).unwrap();
    }
    if chance(dice, 40) {
        write!(more, ", cost: {{ per_gib: 1, per_million_requests: {} }}", dice.below(1_000))
            .unwrap();
    }
    if chance(dice, 20) {
        write!(more, ", dial: {}", dice.below(101)).unwrap();
    }
    if chance(dice, 30) {
        more += ", capacity_group: line";
    }
    if chance(dice, 20) {
        more += ", failback: { hold: 1s }";
    }
    if chance(dice, 30) {
        more += ", reports: tidegate";
    }
    if chance(dice, 50) {
        more += ", outlier: { panic_percent: 50 }";
    }
    Cluster {
        name,
        site,
        is_idc: chance(dice, 50),
        environment: (!is_placed && chance(dice, 25)).then(|| one_of(dice, &ENVIRONMENTS)),
        accepts: chance(dice, 40).then(|| some(dice, &widest, 70)),
        offers: some(dice, &OFFERS, 40),
        more,
    }
}

fn service(dice: &mut Dice, clusters: &[Cluster]) -> Service {
    let mut listed: Vec<usize> = clusters.iter().map(|cluster| cluster.name).collect();
    shuffle(dice, &mut listed);
    listed.truncate(2 + dice.below(3));
    let strategies =
        ["nearest", "nearest", "nearest", "round_robin", "least_request", "priority", "waterfall"];
    let mut more = format!(", strategy: {}", one_of(dice, &strategies));
    let policies = ["least_wait", "round_robin", "random_two", "hash"];
    write!(more, ", endpoint_policy: {}", one_of(dice, &policies)).unwrap();
    if chance(dice, 40) {
        let scope = one_of(dice, &["spill", "all"]);
        write!(more, ", budget: {{ usd_per_hour: 1, applies_to: {scope} }}").unwrap();
    }
    Service {
        clusters: listed,
        environment: chance(dice, 25).then(|| one_of(dice, &ENVIRONMENTS)),
        data: chance(dice, 50).then(|| CLASSES[..1 + dice.below(2)].to_vec()),
        needs: some(dice, &OFFERS, 15),
        more,
    }
}

fn shuffle<T>(dice: &mut Dice, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, dice.below(last + 1));
    }
}

/// The data classes that a site accepts.
fn accepted(site: &Site) -> Words {
    site.accepts.clone().unwrap_or(default_accepts(site.is_idc))
}

fn default_accepts(is_idc: bool) -> Words {
    if is_idc { vec!["general", "sensitive"] } else { vec!["general"] }
}

fn route(dice: &mut Dice, services: usize) -> Route {
    let mut to: Vec<usize> = (0..services).collect();
    shuffle(dice, &mut to);
    to.truncate(if chance(dice, 30) { 2 } else { 1 });
    Route {
        to,
        mirror: chance(dice, 40).then(|| dice.below(services)),
        data: some(dice, &CLASSES, 25),
        needs: some(dice, &OFFERS, 10),
    }
}

impl Topology {
    pub(super) fn random(dice: &mut Dice) -> Topology {
        let sites: Vec<Site> = (0..2).map(|_| site(dice)).collect();
        let count = 3 + dice.below(3);
        let clusters: Vec<Cluster> = (0..count).map(|name| cluster(dice, name, &sites)).collect();
        let services: Vec<Service> = (0..2).map(|_| service(dice, &clusters)).collect();
        let routes = (0..1 + dice.below(2)).map(|_| route(dice, services.len())).collect();
        let l4 = [(); 3].map(|()| dice.below(services.len()));
        Topology { sites, clusters, services, routes, l4 }
    }

    /// The topology after an edit by the operator: other constraints, and another order of clusters and services.
    pub(super) fn edited(&self, dice: &mut Dice) -> Topology {
        let mut new = self.clone();
        shuffle(dice, &mut new.clusters);
        let at = dice.below(new.clusters.len());
        let name = new.clusters[at].name;
        match dice.below(5) {
            0 => new.clusters[at] = cluster(dice, name, &new.sites),
            1 => {
                let at = dice.below(new.services.len());
                new.services[at] = service(dice, &new.clusters);
            }
            2 => new.routes = vec![route(dice, new.services.len())],
            3 => new.l4 = [(); 3].map(|()| dice.below(new.services.len())),
            _ => {}
        }
        new
    }

    /// The configuration.
    pub(super) fn text(&self) -> String {
        let mut text = format!("site: {{ name: s0, environment: {OWN} }}\nsites:\n");
        for (index, site) in self.sites.iter().enumerate() {
            let kind = if site.is_idc { "idc" } else { "cloud" };
            write!(text, "  s{index}: {{ kind: {kind}").unwrap();
            constraints(&mut text, site.environment, site.accepts.as_ref(), &site.offers);
            text += " }\n";
        }
        text += "capacity_groups: { line: { concurrent: 2 } }\nclusters:\n";
        for cluster in &self.clusters {
            let name = cluster.name;
            write!(
                text,
                "  c{name}: {{ endpoints: [127.0.0.1:{}, 127.0.0.1:{}]",
                9_000 + name,
                9_100 + name
            )
            .unwrap();
            match cluster.site {
                Some(site) => write!(text, ", site: s{site}").unwrap(),
                None => text += if cluster.is_idc { ", kind: idc" } else { ", kind: cloud" },
            }
            constraints(&mut text, cluster.environment, cluster.accepts.as_ref(), &cluster.offers);
            text = text + &cluster.more + " }\n";
        }
        text += "services:\n";
        for (index, service) in self.services.iter().enumerate() {
            let clusters: Vec<String> = service.clusters.iter().map(|c| format!("c{c}")).collect();
            write!(text, "  v{index}: {{ clusters: [{}]", clusters.join(", ")).unwrap();
            demands(&mut text, service.environment, service.data.as_ref(), &service.needs);
            text = text + &service.more + " }\n";
        }
        text += "routes:\n";
        for (index, route) in self.routes.iter().enumerate() {
            write!(text, "  - {{ path_prefix: /r{index}").unwrap();
            match route.to.as_slice() {
                [only] => write!(text, ", service: v{only}").unwrap(),
                many => {
                    let parts: Vec<String> = many.iter().map(|to| format!("v{to}: 50")).collect();
                    write!(text, ", split: {{ {} }}", parts.join(", ")).unwrap();
                }
            }
            let data = Some(&route.data).filter(|data| !data.is_empty());
            demands(&mut text, None, data, &route.needs);
            if let Some(mirror) = route.mirror {
                write!(text, ", mirror: {{ service: v{mirror}, percent: 100 }}").unwrap();
            }
            text += " }\n";
        }
        let [tcp, udp, tls] = self.l4;
        write!(text, "listeners:\n  web: {{ address: 127.0.0.1:8000, protocol: http }}\n  tcp: {{ address: 127.0.0.1:8001, protocol: tcp, service: v{tcp} }}\n  udp: {{ address: 127.0.0.1:8002, protocol: udp, service: v{udp} }}\n  tls: {{ address: 127.0.0.1:8003, protocol: tls-passthrough, sni: {{ a.example.com: v{tls} }} }}\n").unwrap();
        text
    }

    /// The demands of the exchanges of each route: of its destinations, then of its mirror.
    pub(super) fn of_routes(&self) -> Vec<(Vec<Demands>, Option<Demands>)> {
        let of_route = |route: &Route| {
            let to: Vec<Demands> =
                route.to.iter().map(|to| self.demands(*to, &route.data, &route.needs)).collect();
            // A copy has the data classes of the original, whichever destination the original has.
            let data: Words = to.iter().flat_map(|to| to.data.iter().copied()).collect();
            let mirror = route.mirror.map(|to| self.demands(to, &data, &route.needs));
            (to, mirror)
        };
        self.routes.iter().map(of_route).collect()
    }

    /// The demands of the connections of the tcp, udp and tls-passthrough listeners.
    pub(super) fn of_listeners(&self) -> [Demands; 3] {
        self.l4.map(|service| self.demands(service, &[], &[]))
    }

    fn demands(&self, service: usize, data: &[&'static str], needs: &[&'static str]) -> Demands {
        let service = &self.services[service];
        let own = service.data.clone().unwrap_or(vec!["general"]);
        Demands {
            environment: service.environment.unwrap_or(OWN),
            data: [own.as_slice(), data].concat(),
            needs: [service.needs.as_slice(), needs].concat(),
            listed: service.clusters.clone(),
        }
    }

    /// Whether each exchange of the configuration can be served by at least one cluster.
    pub(super) fn is_served(&self) -> bool {
        let of_routes = self.of_routes();
        let of_routes = of_routes.iter().flat_map(|(to, mirror)| to.iter().chain(mirror));
        let of_listeners = self.of_listeners();
        of_routes.chain(&of_listeners).all(|demands| {
            demands.listed.iter().any(|cluster| self.may_serve(&format!("c{cluster}"), demands))
        })
    }

    /// Whether the cluster of this name may serve exchanges with these demands.
    pub(super) fn may_serve(&self, name: &str, demands: &Demands) -> bool {
        let Some(cluster) = self.clusters.iter().find(|known| format!("c{}", known.name) == name)
        else {
            return false;
        };
        let site = cluster.site.map(|site| &self.sites[site]);
        let environment = cluster.environment.or(site.and_then(|site| site.environment));
        let by_site = site.map_or(default_accepts(cluster.is_idc), accepted);
        let accepts = cluster.accepts.as_ref().unwrap_or(&by_site);
        let offers = |need: &&str| {
            cluster.offers.contains(need) || site.is_some_and(|site| site.offers.contains(need))
        };
        demands.listed.contains(&cluster.name)
            && environment.unwrap_or(OWN) == demands.environment
            && demands.data.iter().all(|class| accepts.contains(class))
            && demands.needs.iter().all(offers)
    }
}

fn constraints(
    text: &mut String,
    environment: Option<&str>,
    accepts: Option<&Words>,
    offers: &Words,
) {
    if let Some(environment) = environment {
        write!(text, ", environment: {environment}").unwrap();
    }
    if let Some(accepts) = accepts {
        write!(text, ", accepts: [{}]", accepts.join(", ")).unwrap();
    }
    if !offers.is_empty() {
        write!(text, ", offers: [{}]", offers.join(", ")).unwrap();
    }
}

fn demands(text: &mut String, environment: Option<&str>, data: Option<&Words>, needs: &Words) {
    if let Some(environment) = environment {
        write!(text, ", environment: {environment}").unwrap();
    }
    if let Some(data) = data {
        write!(text, ", data: [{}]", data.join(", ")).unwrap();
    }
    if !needs.is_empty() {
        write!(text, ", needs: [{}]", needs.join(", ")).unwrap();
    }
}
