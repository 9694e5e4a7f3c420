//! Sites of several proxies: the sum over a site by peers and by NATS, during a partition and over a slow network; a NATS
//! server that answers nothing, and servers that NATS announces.

use super::fault::{Fault, Relay};
use super::fleet::{ask, get_local, hold, live, site};
use super::nats::{members, nats, server};
use super::support::*;
use serde_json::Value;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A proxy of a site: its admin API, its listener, and the process while it runs.
struct Member {
    site: &'static str,
    admin: SocketAddr,
    web: SocketAddr,
    process: Option<Process>,
}

impl Member {
    fn of(site: &'static str) -> Member {
        Member { site, admin: free(), web: free(), process: None }
    }

    /// Starts it with these keys of `fleet`; both sites have the same two clusters.
    fn start(&mut self, folder: &Folder, fleet: &str, clusters: &[(&str, &str, SocketAddr)]) {
        let text = format!(
            "site: {{ name: {} }}\nadmin: {{ address: \"{}\" }}\nfleet: {{ {fleet} }}\n{}",
            self.site,
            self.admin,
            config(clusters)
                .replace("127.0.0.1:0", &self.web.to_string())
                .replace("clusters: [idc]", "clusters: [idc], timeout: 100s")
        );
        let file = folder.write(&format!("{}.yaml", self.admin.port()), &text);
        self.process = Some(Process::proxy(&file));
    }

    /// Starts it with this NATS server, and more keys of `fleet.nats`.
    fn start_on(&mut self, nats: SocketAddr, more: &str, folder: &Folder, cluster: &Cluster) {
        let fleet = format!("nats: {{ url: \"nats://{nats}\"{more} }}");
        self.start(folder, &fleet, &[("idc", "idc", cluster.address)]);
    }

    /// Sends requests that the cluster never answers.
    fn hold(&self, count: usize) -> Vec<TcpStream> {
        eventually("it listens", || TcpStream::connect(self.web).is_ok());
        hold(self.web, count)
    }

    fn fleet(&self) -> Value {
        ask(self.admin).unwrap_or_default()
    }

    /// Proxies of a site that report, those that are expected, and whether the site is live.
    fn sees(&self, name: &str) -> (u64, u64, bool) {
        let fleet = self.fleet();
        if fleet.is_null()
            || !fleet["sites"].as_array().unwrap().iter().any(|of| of["site"] == name)
        {
            return (0, 0, false);
        }
        let of = site(&fleet, name);
        let count = |key: &str| of[key].as_u64().unwrap_or(0);
        (count("members"), count("expected"), of["live"] == true)
    }

    /// Exchanges in flight at a cluster, as a site reports them; 0 without a report.
    fn in_flight(&self, name: &str, cluster: &str) -> u64 {
        if self.sees(name) == (0, 0, false) {
            return 0;
        }
        let fleet = self.fleet();
        let rows = site(&fleet, name)["clusters"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["name"] == cluster);
        row.and_then(|row| row["in_flight"].as_f64()).unwrap_or(0.0) as u64
    }
}

/// A cluster that answers nothing for longer than a test takes.
fn silent() -> Cluster {
    Cluster::scripted(|mut connection| (0..12).for_each(|_| drop(connection.take(1_000))))
}

#[test]
fn two_peers_of_a_site_report_the_sum_of_its_three_proxies_and_one_is_enough() {
    let folder = Folder::new();
    let cluster = silent();
    let mut all = ["east", "west", "west", "west"].map(Member::of);
    let peers =
        all.iter().map(|of| format!("{{ site: {}, url: \"http://{}\" }}", of.site, of.admin));
    let fleet = format!("peers: [{}]", peers.collect::<Vec<_>>().join(", "));
    let clusters = [("idc", "idc", cluster.address)];
    all.iter_mut().for_each(|member| member.start(&folder, &fleet, &clusters));
    eventually("all proxies of the other site", || all[0].sees("west") == (3, 3, true));
    eventually("a single proxy", || all[3].sees("east") == (1, 1, true));
    // Two of the three are asked, whatever their number.
    let asked: Vec<String> = {
        let fleet = all[0].fleet();
        let members = fleet["members"].as_array().unwrap().iter();
        let asked = members.filter(|member| member["site"] == "west");
        asked.map(|member| member["url"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(asked.len(), 2, "{asked:?}");
    // Each proxy holds a different number of requests; a report of the site has their sum.
    let held: Vec<_> = [(0, 2), (1, 3), (2, 4), (3, 5)]
        .map(|(member, count)| all[member].hold(count))
        .into_iter()
        .flatten()
        .collect();
    eventually("the sum over the other site", || all[0].in_flight("west", "idc") == 12);
    eventually("the sum over the own site", || all[1].in_flight("west", "idc") == 12);
    eventually("the other site's", || all[2].in_flight("east", "idc") == 2);

    // One of the two is killed: the other one reports the sum over the proxies that are left.
    let dead = all.iter().position(|of| asked[0].ends_with(&of.admin.to_string())).unwrap();
    all[dead].process = None;
    eventually("two of three", || all[0].sees("west") == (2, 3, true));
    let left = 12 - [0, 3, 4, 5][dead];
    eventually("the sum of two", || all[0].in_flight("west", "idc") == left);
    // The other one is killed too: the third proxy is asked.
    let second = all.iter().position(|of| asked[1].ends_with(&of.admin.to_string())).unwrap();
    all[second].process = None;
    eventually("one of three", || all[0].sees("west") == (1, 3, true));
    let last = (1..4).find(|at| *at != dead && *at != second).unwrap();
    eventually("the last one's", || all[0].in_flight("west", "idc") == [0, 3, 4, 5][last]);
    drop(held);
}

/// Two NATS servers, joined by a leaf node through a relay.
struct Joined {
    _servers: [Process; 2],
    _folders: [Folder; 2],
    at: [SocketAddr; 2],
    line: Relay,
}

fn joined() -> Joined {
    let (at, leaves) = ([free(), free()], free());
    let folders = [Folder::new(), Folder::new()];
    let line = Relay::before(leaves);
    // The leaf is told this address, too, and would go around the relay by the other one.
    let more = format!("leafnodes {{ listen: \"{leaves}\", advertise: \"{}\" }}", line.at);
    let hub = server(&folders[0], at[0], &more);
    // Without a ping, a server would notice a black hole after minutes.
    let more = format!(
        "ping_interval: \"1s\"\nping_max: 2\n\
         leafnodes {{ reconnect: 1, remotes: [{{ url: \"nats-leaf://{}\" }}] }}",
        line.at
    );
    let leaf = server(&folders[1], at[1], &more);
    Joined { _servers: [hub, leaf], _folders: folders, at, line }
}

#[test]
fn each_half_of_a_partitioned_nats_has_the_sum_of_its_own_proxies() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let cluster = silent();
    let joined = joined();
    // A proxy of each site at each server.
    let mut all = ["east", "west", "east", "west"].map(Member::of);
    for (own, member) in all.iter_mut().enumerate() {
        member.start_on(joined.at[own / 2], "", &folder, &cluster);
    }
    let held: Vec<_> =
        all.iter().zip([2, 3, 4, 5]).flat_map(|(of, count)| of.hold(count)).collect();
    let whole = |what: &str| {
        eventually(what, || {
            all.iter().all(|of| {
                (of.sees("east").0, of.sees("west").0) == (2, 2)
                    && of.in_flight("east", "idc") == 6
                    && of.in_flight("west", "idc") == 8
            })
        });
    };
    whole("all of both sites");
    joined.line.set(Fault::Blackhole);
    let half = |of: &Member, east: u64, west: u64| {
        let both = [of.sees("east"), of.sees("west")];
        both.iter().all(|(members, ..)| *members == 1)
            && (of.in_flight("east", "idc"), of.in_flight("west", "idc")) == (east, west)
    };
    within(2 * PATIENCE, "each half has one proxy of each site", || {
        half(&all[0], 2, 3) && half(&all[1], 2, 3) && half(&all[2], 4, 5) && half(&all[3], 4, 5)
    });
    for member in &all {
        assert_eq!(nats(member.admin)["connected"], true, "its own server answers");
        let other = member.sees(if member.site == "east" { "west" } else { "east" });
        assert!(other.2, "the other site is heard, by one proxy: {other:?}");
        let own = site(&member.fleet(), member.site)["live"].clone();
        assert_eq!(own, false, "and the own one is not complete");
    }
    joined.line.set(Fault::None);
    whole("all of both sites again");
    drop(held);
}

#[test]
fn a_slow_nats_keeps_the_site_live_and_one_that_answers_nothing_is_given_up() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let cluster = silent();
    let at = free();
    let _server = server(&folder, at, "");
    let line = Relay::before(at);
    let mut all = ["east", "west"].map(Member::of);
    let urls = [line.at, at];
    for (member, url) in all.iter_mut().zip(urls) {
        member.start_on(url, "", &folder, &cluster);
    }
    let meet = |what: &str| {
        within(2 * PATIENCE, what, || {
            live(ask(all[0].admin)) == ["west"] && live(ask(all[1].admin)) == ["east"]
        });
    };
    meet("both see each other");
    // A second each way: reports are late, and none is lost.
    line.set(Fault::Latency(Duration::from_secs(1)));
    let dropped = || nats(all[0].admin)["dropped"].as_u64().unwrap();
    let (before, held) = (dropped(), all[0].hold(3));
    eventually("what is new arrives", || all[1].in_flight("east", "idc") == 3);
    for _ in 0..50 {
        std::thread::park_timeout(Duration::from_millis(100));
        let age = site(&all[1].fleet(), "east")["age_s"].as_f64().unwrap();
        assert!(age < 3.5, "a report each two seconds: {age} s");
        assert_eq!(nats(all[0].admin)["connected"], true);
    }
    assert_eq!(dropped(), before);
    // Nothing comes back, and nobody closes the connection.
    line.set(Fault::Blackhole);
    let begun = std::time::Instant::now();
    within(2 * PATIENCE, "the connection is given up", || nats(all[0].admin)["connected"] == false);
    let took = begun.elapsed();
    println!("given up after {took:?}");
    assert!(
        took < Duration::from_secs(17),
        "within 15 s, and the time to notice it here: {took:?}"
    );
    let error = nats(all[0].admin)["error"].clone();
    assert!(error.is_string(), "and says why: {error}");
    eventually("reports are dropped, not kept", || dropped() > before);
    assert!(live(ask(all[0].admin)).is_empty() && live(ask(all[1].admin)).is_empty());
    assert_eq!(get_local(all[0].admin, "/readyz").status, 200, "and it serves on");
    line.set(Fault::None);
    meet("both see each other again");
    drop(held);
}

#[test]
fn announced_servers_are_used_unless_the_configuration_says_no() {
    if !is_installed("nats-server") {
        return;
    }
    let folder = Folder::new();
    let cluster = silent();
    let (at, routes) = ([free(), free()], [free(), free()]);
    let folders = [Folder::new(), Folder::new()];
    let begin = |own: usize| {
        let more = format!(
            "cluster {{ name: one, listen: \"{}\", routes: [\"nats-route://{}\"] }}",
            routes[own],
            routes[1 - own]
        );
        server(&folders[own], at[own], &more)
    };
    let (first, _second) = (begin(0), begin(1));
    let mut all = ["east", "west"].map(Member::of);
    for (member, more) in all.iter_mut().zip(["", ", ignore_discovered_servers: true"]) {
        member.start_on(at[0], more, &folder, &cluster);
    }
    let connected = |member: &Member| nats(member.admin)["connected"] == true;
    eventually("both are connected, to the first", || all.iter().all(connected));
    eventually("both see each other", || {
        members(all[0].admin) == 1 && live(ask(all[0].admin)) == ["west"]
    });
    drop(first);
    eventually("the first proxy continues with the second server", || {
        live(ask(all[0].admin)).is_empty() && connected(&all[0])
    });
    for _ in 0..40 {
        std::thread::park_timeout(Duration::from_millis(100));
        assert!(!connected(&all[1]), "the second proxy uses only configured servers");
    }
    let _again = begin(0);
    eventually("it returns with its server", || live(ask(all[0].admin)) == ["west"]);
}
