//! The behaviour of `dial` with several dialled clusters.

use super::support::*;

/// The number of exchanges that each cluster gets of `count`, with these dials, nearest first.
fn shares(dials: &[&str], count: usize) -> Vec<usize> {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let clusters: Vec<Cluster> = NAMES[..dials.len()].iter().copied().map(Cluster::named).collect();
    let listed: Vec<_> = NAMES.iter().zip(&clusters).map(|(n, c)| (*n, "idc", c.address)).collect();
    let mut text = config(&listed);
    for ((_, _, address), dial) in listed.iter().zip(dials) {
        let endpoints = format!("endpoints: [\"{address}\"]");
        text = text.replace(&endpoints, &format!("{endpoints}, dial: {dial}"));
    }
    let proxy = Proxy::start(&text);
    let mut client = Keeping::new(proxy.at("web"));
    let answers: Vec<String> = (0..count).map(|_| client.get("/").body).collect();
    NAMES[..dials.len()].iter().map(|name| answers.iter().filter(|a| a == name).count()).collect()
}

#[test]
fn each_dial_is_a_share_of_what_nearer_clusters_leave() {
    let near = |seen: &[usize], expected: &[usize], what: &str| {
        let off = seen.iter().zip(expected).any(|(seen, expected)| seen.abs_diff(*expected) > 6);
        assert!(!off, "{what}: {seen:?}, not {expected:?}");
    };
    near(&shares(&["50", "50", "100"], 120), &[60, 30, 30], "half, then half of the rest");
    near(&shares(&["100", "10"], 60), &[60, 0], "what would not choose it is not its share");
    near(&shares(&["50", "50"], 120), &[60, 60], "what nobody's dial takes is served");
    near(&shares(&["10"], 20), &[20], "a sole cluster serves all");
    near(&shares(&["0", "10"], 20), &[0, 20], "so does the last one that is not at 0");
}
