//! Replays the fuzz targets' seeds, and mutations of them, on the stable compiler.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests are named by their promises, and fail by panicking"
)]

#[path = "mutated/mod.rs"]
mod mutated;

use mutated::mutated;
use tidegate::decision::units::Dice;
use tidegate::http::properties;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let read =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.unwrap().path()).unwrap();
    let all: Vec<Vec<u8>> = std::fs::read_dir(folder).unwrap().map(read).collect();
    assert!(all.len() >= 4, "{target} has seeds");
    all
}

fn replay(target: &str, rounds: usize, property: impl Fn(&[u8])) {
    let seeds = seeds(target);
    let mut dice = Dice::seeded(1);
    for seed in &seeds {
        property(seed);
        for _ in 0..rounds {
            let other = &seeds[dice.below(seeds.len())];
            property(&mutated(seed, other, &mut dice));
        }
    }
}

#[test]
fn requests_parse_alike_at_every_cut_and_keep_their_meaning() {
    replay("request", 3_000, properties::request);
}

#[test]
fn responses_have_bodies_only_where_they_can() {
    replay("response", 3_000, properties::response);
}

#[test]
fn chunks_carry_the_same_body_at_every_cut() {
    replay("chunks", 5_000, properties::chunks);
}

#[test]
fn canonical_targets_stay_canonical() {
    replay("target", 5_000, properties::target);
}

#[test]
fn the_reference_seed_equals_the_reference() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let (seed, reference) = (read("fuzz/seeds/config/reference"), read("config/reference.yaml"));
    assert!(
        seed == reference,
        "fuzz/seeds/config/reference must be a link to config/reference.yaml"
    );
}

#[test]
fn any_text_is_valid_or_has_problems() {
    replay("config", 150, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let folder = std::path::Path::new("/nonexistent");
        let outcome = tidegate::config::load(&text, folder, &|_| None);
        assert!(outcome.config.is_some() || !outcome.problems.is_empty());
    });
}

#[test]
fn accepted_reports_are_in_range() {
    use tidegate::decision::report::Report;
    replay("report", 20_000, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        for report in [Report::from_tidegate(text), Report::from_orca(text)].into_iter().flatten() {
            report.assert_in_range();
        }
    });
}

#[test]
fn accepted_fleet_reports_add_up_and_read_back() {
    replay("fleet", 3_000, tidegate::fleet::properties::report);
}

#[test]
fn requests_of_an_autoscaler_read_back() {
    replay("scaler", 3_000, tidegate::scaling::properties::request);
}

#[test]
fn only_permitted_trailers_pass() {
    replay("trailers", 5_000, properties::trailers);
}

#[test]
fn each_http2_head_becomes_one_http1_head() {
    replay("translated", 5_000, properties::translated);
}

#[test]
fn grpc_statuses_are_three_lines() {
    replay("grpc", 5_000, properties::grpc);
}

#[test]
fn a_hello_has_the_same_name_at_every_cut() {
    replay("hello", 1_000, tidegate::tls::properties::hello);
}

#[test]
fn credentials_are_of_one_scheme() {
    replay("authorization", 5_000, tidegate::policy::properties::authorization);
}

#[test]
fn a_proxy_header_has_its_stated_length() {
    replay("proxy_header", 300, |bytes| {
        if let Ok((_, length)) = tidegate::os::proxy_header::read_from(bytes) {
            assert!((15..=16 + 2_048).contains(&length), "{length}");
        }
    });
}

#[test]
fn connections_end_whatever_is_sent_on_them() {
    replay("connection", 20, tidegate::server::properties::connection);
    replay("http2", 150, tidegate::server::properties::http2);
}
