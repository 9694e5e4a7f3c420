//! The views as text: what an operator sees, on ratatui's backend for tests.

use super::dialog::{Act, Change, Kind};
use super::draw::draw;
use super::model::{Effect, Model, News};
use super::operation::Operation;
use super::rows::View;
use super::world::World;
use crate::cli::terminal::Key;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use serde_json::json;
use std::time::Duration;

const URL: &str = "http://127.0.0.1:9901";
const NOW: Duration = Duration::from_secs(100);
const WIDE: (u16, u16) = (120, 30);
const NARROW: (u16, u16) = (60, 20);

fn world() -> World {
    let status = json!({"site": "idc-east", "version": "0.1.0", "uptime_s": 3725, "config": {"generation": 4,
        "last_reload": {"ok": true, "error": null}}});
    let clusters = json!([
        {"name": "shop-idc", "site": "idc-east", "kind": "idc", "state": "up", "why": "nearest; its queue is full",
         "dial_percent": 100, "distance_ms": 1.2, "service_ms": 20.0, "queue_ms": 55.5, "tolerates_ms": 60.0,
         "in_flight": 17, "success_ratio": 1.0, "cost_usd_per_h": 0.0,
         "endpoints": [{"address": "10.0.0.11:8080", "state": "up", "in_flight": 9, "last_error": null},
            {"address": "10.0.0.12:8080", "state": "down", "in_flight": 0, "last_error": "refused", "last_error_text": "connection refused",
             "last_error_age_s": 75.4}]},
        {"name": "shop-near", "site": "cloud-near", "kind": "cloud", "state": "up", "dial_percent": 100,
         "distance_ms": 30.0, "service_ms": null, "queue_ms": null, "endpoints": []},
        {"name": "shop-far", "site": "cloud-far", "kind": "cloud", "state": "down", "dial_percent": 100,
         "endpoints": []}]);
    let services = json!([{"name": "shop", "order": ["shop-idc", "shop-near", "shop-far"], "spilling": true,
        "requests_per_s": 412.0, "refused_per_s": 0.0, "errors_per_s": 0.0, "p50_ms": 21.0, "p99_ms": 180.0,
        "forecast_rps": 500.0, "cost_usd_per_h": 1.25, "budget_left_usd": null,
        "to": {"shop-idc": 300.0, "shop-near": 112.0}}]);
    let fleet = json!({"members": [{"site": "idc-east", "state": "live", "age_s": 0},
        {"site": "idc-west", "state": "silent", "age_s": 74.0, "error": "timed out"}], "sites": []});
    let history = json!({"step_s": 5, "services": {"shop": {"requests_per_s": [null, 100, 200, 400]}}, "events": [
        {"time": "2026-01-02T03:04:05Z", "kind": "cluster", "cluster": "shop-far", "state": "down", "cause": "refused"},
        {"time": "2026-01-02T03:05:06Z", "kind": "spill", "service": "shop", "spilling": true}]});
    World {
        status: serde_json::from_value(status).unwrap(),
        clusters: serde_json::from_value(clusters).unwrap(),
        services: serde_json::from_value(services).unwrap(),
        operations: Vec::new(),
        fleet: Some(serde_json::from_value(fleet).unwrap()),
        history: serde_json::from_value(history).unwrap(),
    }
}

/// A model that has heard of this world at `NOW`.
fn model(world: World) -> Model {
    let mut model = Model::new(true);
    model.hear(News::Seen(Box::new(world)), NOW);
    model
}

fn buffer(model: &Model, now: Duration, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame.buffer_mut(), model, now, URL)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of the screen.
fn screen(model: &Model, now: Duration, size: (u16, u16)) -> Vec<String> {
    let buffer = buffer(model, now, size);
    let line = |y: u16| -> String {
        (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned()
    };
    (0..size.1).map(line).collect()
}

#[track_caller]
fn assert_shows(screen: &[String], expected: &[&str]) {
    for text in expected {
        let found = screen.iter().any(|line| line.contains(text));
        assert!(found, "`{text}` is missing in:\n{}", screen.join("\n"));
    }
}

fn press(model: &mut Model, keys: &str) -> Vec<Effect> {
    keys.chars().flat_map(|c| model.press(Key::Char(c), NOW)).collect()
}

#[test]
fn each_view_shows_its_rows_wide_and_narrow() {
    let mut model = model(world());
    let everywhere = ["site idc-east", "live", "412/s  73 % at home  27 % away  0 % refused"];
    #[rustfmt::skip]
    let table: [(char, &[&str], &[&str]); 4] = [
        ('1', &["▲", "idc-east (here)", "1 of 1", "1 of 1 up", "idc-west", "· no news", "0 of 1", "1 min 14 s", "cloud-far"],
              &["idc-east (here)", "idc-west", "· no news", "0 of 1", "300"]),
        ('2', &["○ spilling", "412", "73 %", "112", "500", "$1.25", "██████████████", "27 %", "112/s  shop-near", "10 min", " ▃▅█"],
              &["shop", "○ spilling", "412", "73 %", "112/s  shop-near"]),
        ('3', &["○ full", "■ down", "300", "17", " 56 ", "1 of 2", "nearest; its queue is full", "9 in flight", "last error: connection refused, 1 min 15 s ago"],
              &["shop-idc", "○ full", "■ down", "nearest; its queue is full"]),
        ('4', &["03:05:06", "○ shop spills", "03:04:05", "■ shop-far is down: refused"],
              &["03:05:06", "■ shop-far is down: refused"]),
    ];
    for (key, wide, narrow) in table {
        press(&mut model, &key.to_string());
        let wide_screen = screen(&model, NOW, WIDE);
        assert_shows(&wide_screen, &everywhere);
        if key != '1' {
            assert_shows(&wide_screen, wide);
        } else {
            assert_shows(&wide_screen, &wide[1..]);
        }
        let narrow_screen = screen(&model, NOW, NARROW);
        assert_shows(&narrow_screen, narrow);
        assert_shows(&narrow_screen, &["1 Sites", "4 Events", "q quit"]);
    }
}

#[test]
fn an_unknown_figure_is_a_dash_and_not_zero() {
    let mut model = model(world());
    press(&mut model, "3/far");
    model.press(Key::Enter, NOW);
    let screen = screen(&model, NOW, WIDE);
    let row = screen.iter().find(|line| line.contains("shop-far")).unwrap();
    assert!(row.matches('–').count() >= 5, "{row}");
    assert_shows(&screen, &["filter `far`: 1"]);
    assert!(!screen.iter().any(|line| line.contains("shop-near")));
}

#[test]
fn names_with_escape_sequences_are_printed_as_text() {
    let evil = "x\x1b[2J\x1b]0;owned\x07\r\n\u{202e}y";
    let printed = "x\\u{1b}[2J\\u{1b}]0;owned";
    let mut world = world();
    world.status.site = evil.to_owned();
    world.clusters[0].name = evil.to_owned();
    world.clusters[0].site = evil.to_owned();
    world.clusters[0].why = Some(evil.to_owned());
    world.clusters[0].endpoints[1].last_error_text = Some(evil.to_owned());
    world.services[0].name = evil.to_owned();
    world.services[0].order[0] = evil.to_owned();
    let event = json!({"time": evil, "kind": "spill", "service": evil, "spilling": true});
    world.history.events.push(serde_json::from_value(event).unwrap());
    for key in ['1', '2', '3', '4'] {
        for dialog in ["", "d", "p", "D", "S"] {
            let mut model = model(world.clone());
            press(&mut model, &format!("{key}{dialog}"));
            let buffer = buffer(&model, NOW, WIDE);
            let is_steering =
                |symbol: &str| symbol.chars().any(|c| c.is_control() || c == '\u{202e}');
            assert!(
                buffer.content().iter().all(|cell| !is_steering(cell.symbol())),
                "{key}{dialog}"
            );
            assert_shows(&screen(&model, NOW, WIDE), &[printed]);
        }
    }
    let mut lost = Model::new(true);
    lost.hear(News::Lost(evil.to_owned()), NOW);
    assert_shows(&screen(&lost, NOW, WIDE), &[printed, "no answer"]);
}

#[test]
fn stale_figures_are_grey_with_their_age() {
    let mut model = model(world());
    let colours = |model: &Model, now: Duration| -> Vec<Color> {
        let buffer = buffer(model, now, WIDE);
        let rows = 4..WIDE.1 - 1;
        let cells = rows.flat_map(|y| (0..WIDE.0).map(move |x| (x, y)));
        let cells = cells.filter(|place| buffer[*place].symbol() != " ");
        cells.map(|place| buffer[place].fg).collect()
    };
    assert!(colours(&model, NOW).contains(&Color::Yellow));
    let later = NOW + Duration::from_secs(12);

    assert_shows(
        &screen(&model, later, WIDE),
        &["CUT OFF: figures are 12 s old", "412", "○ spilling"],
    );
    assert!(colours(&model, later).iter().all(|colour| *colour == Color::DarkGray));
    assert_shows(&screen(&model, later, NARROW), &["CUT OFF: figures are 12 s old"]);
    assert_eq!(press(&mut model, "3"), []);
    assert_eq!(model.press(Key::Char('d'), later), []);
    assert!(model.dialog.is_none(), "nothing is changed by figures of the past");

    model.hear(News::Lost("cannot query: refused".to_owned()), NOW);
    assert_shows(
        &screen(&model, NOW, WIDE),
        &["CUT OFF: figures are 0 s old", "cannot query: refused"],
    );
    model.hear(News::Seen(Box::new(world())), later);
    assert_shows(&screen(&model, later, WIDE), &["live"]);
    assert!(colours(&model, later).contains(&Color::Yellow));
}

#[test]
fn the_age_of_a_silent_site_grows_while_the_view_is_cut_off() {
    let mut model = model(world());
    press(&mut model, "1");
    assert_shows(&screen(&model, NOW, WIDE), &["1 min 14 s"]);
    assert_shows(&screen(&model, NOW + Duration::from_secs(60), WIDE), &["2 min 14 s"]);
}

#[test]
fn one_silent_proxy_of_the_own_site_hides_no_other() {
    let mut world = world();
    let sites = json!({"members": [], "sites": [
        // As old as the oldest of its proxies, and therefore not live as a whole.
        {"site": "idc-east", "own": true, "live": false, "age_s": 40.0, "members": 49, "expected": 50},
        {"site": "cloud-near", "own": false, "live": true, "age_s": 1.0, "members": 11, "expected": 12},
        {"site": "cloud-far", "own": false, "live": false, "age_s": 48.0, "members": 7, "expected": 7}]});
    world.fleet = Some(serde_json::from_value(sites).unwrap());
    let count = |site: &str| world.proxies_of(site).map(|(heard, all, _)| (heard, all));
    assert_eq!(count("idc-east"), Some((49, 50)));
    assert_eq!(count("cloud-near"), Some((11, 12)));
    assert_eq!(count("cloud-far"), Some((0, 7)));
}

#[test]
fn a_drain_shows_what_is_expected_and_then_asks() {
    let mut model = model(world());
    press(&mut model, "3");
    let change = Change { kind: Kind::Cluster, name: "shop-idc".to_owned(), percent: Some(0) };
    let change = Act::Dial(change);
    assert_eq!(press(&mut model, "d"), [Effect::Ask(1, change.clone())]);
    let waiting =
        ["Drain cluster shop-idc?", "At this proxy alone:", "http://127.0.0.1:9901", "Simulating"];
    assert_shows(&screen(&model, NOW, WIDE), &waiting);
    assert_eq!(press(&mut model, "shop-idc"), []);
    assert_eq!(model.press(Key::Enter, NOW), [], "the expectation is not on the screen yet");

    let expected = json!({"seconds": 14, "assumed": ["shop-near has as much room as it needs"],
        "warnings": ["a warning that is longer than a line of a narrow terminal and is therefore broken into several lines"],
        "services": [{"name": "shop", "demand_rps": 412, "clusters": [{"name": "shop-idc", "now_rps": 300, "after_rps": 0},
            {"name": "shop-near", "now_rps": 112, "after_rps": 412}],
            "now": {"refused_rps": 0, "p99_ms": 180, "usd_per_hour": 1}, "after": {"refused_rps": 0, "p99_ms": 52, "usd_per_hour": 4}}]});
    let expected: super::dialog::Expectation = serde_json::from_value(expected).unwrap();
    model.hear(News::Expected(7, Err("of another question".to_owned())), NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["Simulating"]);
    model.hear(News::Expected(1, Ok(expected)), NOW);
    let told = [
        "shop-idc gets of shop",
        "300/s ->       0/s",
        "180 ms ->     52 ms",
        "$1.00/h ->   $4.00/h",
        "as much room as it needs",
        "Type its name, then Enter",
    ];
    assert_shows(&screen(&model, NOW, WIDE), &told);
    assert_shows(
        &screen(&model, NOW, NARROW),
        &["300/s ->       0/s", "into several lines", "Type its name, then Enter"],
    );

    assert_eq!(press(&mut model, "shop-idc"), []);
    assert_eq!(model.press(Key::Enter, NOW), [Effect::Act(2, change)]);
    assert_shows(&screen(&model, NOW, WIDE), &["Doing it"]);
    model.hear(News::Changed(2, Ok(None)), NOW);
    assert!(model.dialog.is_none());
    assert_shows(&screen(&model, NOW, WIDE), &["shop-idc is drained"]);
}

/// The world while this operation is the newest.
fn operating(phase: &str) -> World {
    let operation = json!([{"id": 7, "kind": "drill", "name": "idc-east", "percent": 100, "phase": phase,
        "outcome": null, "seconds_left": 75.4}, {"id": 6, "kind": "shift", "name": "shop", "phase": "held"}]);
    World { operations: serde_json::from_value(operation).unwrap(), ..world() }
}

#[test]
fn a_drill_is_composed_expected_and_confirmed_by_the_name_of_its_site() {
    let mut model = model(operating("ended"));
    assert_eq!(press(&mut model, "3D"), []);
    assert_shows(&screen(&model, NOW, WIDE), &["Select a site (1) first"]);
    assert_eq!(press(&mut model, "1D"), [], "nothing is asked before it is composed");
    let drill =
        ["Drill site idc-east: 100 % for 1 min 0 s?", "returns", "Percent: 100_", "arrows: time"];
    assert_shows(&screen(&model, NOW, WIDE), &drill);
    model.press(Key::Right, NOW);
    press(&mut model, "50");
    assert_shows(&screen(&model, NOW, NARROW), &["Drill site idc-east: 50 % for 5 min 0 s?"]);
    let drill = Operation::Drill { site: "idc-east".to_owned(), percent: 50, seconds: 300 };
    let drill = Act::Begin(drill);
    assert_eq!(model.press(Key::Enter, NOW), [Effect::Ask(1, drill.clone())]);
    assert_shows(&screen(&model, NOW, WIDE), &["Simulating"]);
    model.hear(News::Expected(1, Ok(super::dialog::Expectation::default())), NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["nothing moves", "Type its name, then Enter"]);
    assert_eq!(press(&mut model, "y"), []);
    assert_eq!(model.press(Key::Enter, NOW), [], "it is not its name");
    model.press(Key::Backspace, NOW);
    press(&mut model, "idc-east");
    assert_eq!(model.press(Key::Enter, NOW), [Effect::Act(2, drill)]);
    let refused = "shop: 31.0 requests/s are expected to be refused".to_owned();
    model.hear(News::Changed(2, Err(refused)), NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["Failed: shop: 31.0 requests/s are expected"]);
}

#[test]
fn a_shift_goes_to_the_chosen_cluster_and_is_confirmed_by_a_key() {
    let mut model = model(world());
    assert_eq!(press(&mut model, "1S"), []);
    assert_shows(&screen(&model, NOW, WIDE), &["Select a service (2) first"]);
    assert_eq!(press(&mut model, "2S"), []);
    let shift = "Shift shop: 100 % from shop-idc to shop-near over 10 min 0 s?";
    assert_shows(&screen(&model, NOW, WIDE), &[shift, "t: target"]);
    press(&mut model, "t");
    model.press(Key::Left, NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["from shop-idc to shop-far over 1 min 0 s?"]);
    let [service, from, to] = ["shop", "shop-idc", "shop-far"].map(str::to_owned);
    let shift = Act::Begin(Operation::Shift { service, from, to, percent: 100, seconds: 60 });
    assert_eq!(model.press(Key::Enter, NOW), [Effect::Ask(1, shift.clone())]);
    assert_eq!(press(&mut model, "y"), [], "nothing is expected yet");
    model.hear(News::Expected(1, Err("another simulation runs".to_owned())), NOW);
    assert_shows(
        &screen(&model, NOW, WIDE),
        &["No expectation: another", "y does it, Esc keeps it"],
    );
    assert_eq!(press(&mut model, "y"), [Effect::Act(2, shift)]);
    model.hear(News::Changed(2, Ok(None)), NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["The shift of shop has begun"]);
}

#[test]
fn a_running_operation_is_shown_is_alone_and_is_aborted_by_a_key() {
    let mut model = model(operating("held"));
    let told = "drill of idc-east: 100 % away, held, at most 1 min 15 s left";
    assert_shows(&screen(&model, NOW, WIDE), &[told]);
    for keys in ["1D", "2S"] {
        assert_eq!(press(&mut model, keys), []);
        assert!(model.dialog.is_none());
        assert_shows(&screen(&model, NOW, WIDE), &["Another operation is running: x aborts it"]);
    }
    assert_eq!(press(&mut model, "x"), [Effect::Act(1, Act::Abort(7))]);
    model.hear(News::Seen(Box::new(operating("ended"))), NOW);
    assert_shows(&screen(&model, NOW, WIDE), &["412/s"]);
    assert_eq!(press(&mut model, "x"), []);
    assert_shows(&screen(&model, NOW, WIDE), &["No operation is running"]);
}

#[test]
fn a_failed_change_stays_on_the_screen() {
    let mut model = model(world());
    press(&mut model, "1u");
    model.hear(News::Expected(1, Err("another simulation runs".to_owned())), NOW);
    assert_shows(
        &screen(&model, NOW, NARROW),
        &["Undrain site idc-east?", "No expectation: another simulation runs"],
    );
    let change = Change { kind: Kind::Site, name: "idc-east".to_owned(), percent: None };
    assert_eq!(press(&mut model, "y"), [Effect::Act(2, Act::Dial(change))]);
    model.hear(News::Changed(2, Err("answers 401: the token is wrong".to_owned())), NOW);
    assert_shows(&screen(&model, NOW, NARROW), &["Failed: answers 401: the token is wrong"]);
    model.press(Key::Enter, NOW);
    assert!(model.dialog.is_none());
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let mut model = Model::new(false);
    model.hear(News::Seen(Box::new(world())), NOW);
    press(&mut model, "3");
    let seen = screen(&model, NOW, WIDE);
    assert_shows(&seen, &["read only"]);
    assert!(!seen.iter().any(|line| line.contains("d drain")));
    for key in ["d", "u", "p", "1D", "2S", "x"] {
        assert_eq!(press(&mut model, key), []);
        assert!(model.dialog.is_none());
        assert_shows(&screen(&model, NOW, WIDE), &["Read only: give the token by --token-file"]);
    }
}

#[test]
fn the_selected_row_is_kept_by_name_while_the_table_changes() {
    let mut model = model(world());
    press(&mut model, "3j");
    let selected = |model: &Model| {
        let rows = model.rows(NOW);
        rows[model.position(&rows).unwrap()].name.clone()
    };
    assert_eq!(selected(&model), "shop-near");
    press(&mut model, "s");
    assert_eq!(selected(&model), "shop-near", "sorted by name it is the last row");
    let mut other = world();
    other.clusters.remove(0);
    model.hear(News::Seen(Box::new(other)), NOW);
    assert_eq!(selected(&model), "shop-near");
    press(&mut model, "k");
    assert_eq!(selected(&model), "shop-far");
}

#[test]
fn a_long_table_scrolls_to_the_selected_row() {
    let mut world = world();
    let one = world.clusters[0].clone();
    for number in 0..1_000 {
        let name = format!("c{number:04}");
        world.clusters.push(super::world::Cluster { name, ..one.clone() });
    }
    let mut model = model(world);
    press(&mut model, "3");
    model.press(Key::End, NOW);
    assert_shows(&screen(&model, NOW, NARROW), &["c0999"]);
    model.page = super::draw::page(NARROW.1);
    model.press(Key::PageUp, NOW);
    assert_shows(&screen(&model, NOW, NARROW), &["c0990"]);
    model.press(Key::Home, NOW);
    assert_shows(&screen(&model, NOW, NARROW), &["shop-idc"]);
}

#[test]
fn the_keys_are_listed_and_a_tiny_terminal_says_what_it_needs() {
    let mut model = model(world());
    press(&mut model, "?");
    assert_shows(&screen(&model, NOW, NARROW), &["drain, undrain", "quit; also Ctrl-C"]);
    press(&mut model, "x");
    assert!(!model.shows_help);
    assert_shows(&screen(&model, NOW, (20, 5)), &["needs 30 x 8"]);
    assert_eq!(press(&mut model, "q"), [Effect::Quit]);
    assert_eq!(model.press(Key::Interrupt, NOW), [Effect::Quit]);
    assert_eq!(Model::new(true).view, View::Services);
}

#[test]
fn every_size_can_be_drawn() {
    let mut model = model(world());
    for keys in ["1", "2", "3", "4", "3d", "\x1b?", "x1D", "\x1b2S"] {
        press(&mut model, keys);
        for width in [1, 5, 30, 31, 47, 60, 250] {
            for height in [1, 4, 8, 9, 15, 16, 17, 60] {
                let _drawn = buffer(&model, NOW, (width, height));
            }
        }
    }
}
