//! The tables of the views: columns, rows, order and filter.

use super::world::{Cluster, Event, Health, Service, World};
use crate::cli::text::{DASH, count, ms, percent, rate, shown, span, usd};
use std::cmp::Ordering;
use std::time::Duration;

/// A view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    Sites,
    Services,
    Clusters,
    Events,
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Columns of the terminal; 0 is the rest of the line.
    pub(super) width: u16,
    pub(super) is_figure: bool,
    /// A narrow terminal shows the columns with the lowest ranks.
    pub(super) rank: u8,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// The printable text.
    pub(super) text: String,
    order: Order,
}

/// What a column is sorted by. Unknown values come last in either direction.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    Figure(Option<f64>),
    Text(String),
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The name as the API knows it; of an event, its place in the list.
    pub(super) name: String,
    pub(super) health: Health,
    pub(super) cells: Vec<Cell>,
}

/// How a table is sorted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sorting {
    /// The column; `None` is the order of the API.
    pub(super) column: Option<usize>,
    pub(super) is_falling: bool,
}

const fn name(title: &'static str, rank: u8) -> Column {
    Column { title, width: 0, is_figure: false, rank }
}

const fn word(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, is_figure: false, rank }
}

const fn figure(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, is_figure: true, rank }
}

const SITES: &[Column] = &[
    name("SITE", 0),
    word("STATE", 13, 1),
    word("PROXIES", 9, 3),
    figure("AGE", 10, 4),
    word("CLUSTERS", 9, 5),
    figure("TO IT/s", 8, 2),
    figure("SENDS/s", 8, 6),
    figure("DIST ms", 8, 7),
    figure("COST/h", 8, 8),
];
const SERVICES: &[Column] = &[
    name("SERVICE", 0),
    word("STATE", 13, 1),
    figure("DEMAND/s", 9, 2),
    figure("AT HOME", 8, 3),
    figure("AWAY/s", 8, 6),
    figure("REFUSED/s", 10, 4),
    figure("ERRORS/s", 9, 7),
    figure("p50 ms", 7, 8),
    figure("p99 ms", 7, 5),
    figure("IN 1 min", 9, 10),
    figure("COST/h", 8, 9),
    figure("BUDGET", 8, 11),
];
const CLUSTERS: &[Column] = &[
    name("CLUSTER", 0),
    word("SITE", 12, 6),
    word("STATE", 13, 1),
    figure("DIAL", 6, 5),
    figure("REQ/s", 8, 2),
    figure("IN FLIGHT", 10, 8),
    figure("QUEUE ms", 9, 3),
    figure("HOLDS ms", 9, 11),
    figure("WORK ms", 8, 9),
    figure("DIST ms", 8, 4),
    figure("SUCCESS", 8, 7),
    word("ENDPOINTS", 10, 10),
    figure("COST/h", 8, 12),
];
const EVENTS: &[Column] = &[word("TIME UTC", 9, 0), name("EVENT", 0)];

impl View {
    /// All views, in the order of their keys.
    pub(super) const ALL: [View; 4] = [View::Sites, View::Services, View::Clusters, View::Events];

    /// The name of the view.
    pub(super) fn title(self) -> &'static str {
        match self {
            View::Sites => "Sites",
            View::Services => "Services",
            View::Clusters => "Clusters",
            View::Events => "Events",
        }
    }

    /// Its place among [`View::ALL`].
    pub(super) fn index(self) -> usize {
        match self {
            View::Sites => 0,
            View::Services => 1,
            View::Clusters => 2,
            View::Events => 3,
        }
    }

    /// The columns of its table.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            View::Sites => SITES,
            View::Services => SERVICES,
            View::Clusters => CLUSTERS,
            View::Events => EVENTS,
        }
    }

    /// The rows of its table that contain `filter`, in any case of letters. News of the fleet is older by `since`.
    pub(super) fn rows(
        self,
        world: &World,
        since: Duration,
        filter: &str,
        sorting: Sorting,
    ) -> Vec<Row> {
        let mut rows: Vec<Row> = match self {
            View::Sites => world.sites().iter().map(|name| site(world, name, since)).collect(),
            View::Services => world.services.iter().map(|of| service(world, of)).collect(),
            View::Clusters => world.clusters.iter().map(|of| cluster(world, of)).collect(),
            View::Events => {
                let newest_first = world.history.events.iter().enumerate().rev();
                newest_first.map(|(at, of)| event(at, of)).collect()
            }
        };
        let wanted = filter.to_lowercase();
        rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
        if let Some(column) = sorting.column {
            rows.sort_by(|a, b| order(a, b, column, sorting.is_falling));
        }
        rows
    }
}

fn order(a: &Row, b: &Row, column: usize, is_falling: bool) -> Ordering {
    let turned = |order: Ordering| if is_falling { order.reverse() } else { order };
    match (a.cells.get(column).map(|cell| &cell.order), b.cells.get(column).map(|cell| &cell.order))
    {
        (Some(Order::Text(a)), Some(Order::Text(b))) => turned(a.cmp(b)),
        (Some(Order::Figure(Some(a))), Some(Order::Figure(Some(b)))) => turned(a.total_cmp(b)),
        (Some(Order::Figure(Some(_))), Some(Order::Figure(None))) => Ordering::Less,
        (Some(Order::Figure(None)), Some(Order::Figure(Some(_)))) => Ordering::Greater,
        (_, _) => Ordering::Equal,
    }
}

fn text(text: &str) -> Cell {
    Cell { text: shown(text), order: Order::Text(text.to_lowercase()) }
}

fn value(figure: Option<f64>, written: fn(Option<f64>) -> String) -> Cell {
    Cell { text: written(figure), order: Order::Figure(figure.filter(|x| x.is_finite())) }
}

fn state(health: Health) -> Cell {
    let text = format!("{} {}", health.mark(), health.word());
    Cell { text, order: Order::Text(health.word().to_owned()) }
}

fn part(of: usize, all: usize, what: &str) -> Cell {
    let order = Order::Figure((all > 0).then(|| of as f64 / all as f64));
    Cell { text: format!("{of} of {all}{what}"), order }
}

fn sum(figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = figures.flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum())
}

fn site(world: &World, name: &str, since: Duration) -> Row {
    let health = world.health_of_site(name);
    let is_own = name == world.status.site;
    let proxies = world.proxies_of(name);
    let age = proxies.filter(|_| !is_own).map(|(.., age)| age + since.as_secs_f64());
    let clusters: Vec<&Cluster> = world.clusters_of(name).collect();
    let up = clusters.iter().filter(|c| c.state != "down").count();
    let to_it = sum(clusters.iter().map(|cluster| world.rate_to(&cluster.name)));
    let reported = world.report_of(name).and_then(|report| report.clusters.as_ref());
    let sends = match reported {
        Some(all) => sum(all.iter().map(|to| to.requests_per_s)),
        None if is_own => sum(world.clusters.iter().map(|cluster| world.rate_to(&cluster.name))),
        None => None,
    };
    let distances = clusters.iter().filter_map(|cluster| cluster.distance_ms);
    let distance = distances.reduce(f64::min);
    let own = if is_own { format!("{name} (here)") } else { name.to_owned() };
    let ago = |age: Option<f64>| {
        let whole = age.filter(|age| (0.0..1e9).contains(age)).map(Duration::from_secs_f64);
        whole.map_or(DASH.to_owned(), span)
    };
    Row {
        name: name.to_owned(),
        health,
        cells: vec![
            text(&own),
            state(health),
            proxies.map_or(text(DASH), |(heard, all, _)| part(heard as usize, all as usize, "")),
            value(age, ago),
            part(up, clusters.len(), " up"),
            value(to_it, rate),
            value(sends, rate),
            value(distance, ms),
            value(sum(clusters.iter().map(|cluster| cluster.cost_usd_per_h)), usd),
        ],
    }
}

fn service(world: &World, service: &Service) -> Row {
    let health = world.health_of(service);
    let (home, away) = service.home_and_away();
    let served = home + away;
    Row {
        name: service.name.clone(),
        health,
        cells: vec![
            text(&service.name),
            state(health),
            value(service.demand(), rate),
            value((served > 0.0).then(|| home / served), percent),
            value(Some(away), rate),
            value(service.refused_per_s, rate),
            value(service.errors_per_s, rate),
            value(service.p50_ms, ms),
            value(service.p99_ms, ms),
            value(service.forecast_rps, rate),
            value(service.cost_usd_per_h, usd),
            value(service.budget_left_usd, usd),
        ],
    }
}

fn cluster(world: &World, cluster: &Cluster) -> Row {
    let health = cluster.health();
    let up = cluster.endpoints.iter().filter(|endpoint| endpoint.state == "up").count();
    Row {
        name: cluster.name.clone(),
        health,
        cells: vec![
            text(&cluster.name),
            text(&cluster.site),
            state(health),
            value(cluster.dial_percent.map(|dial| f64::from(dial) / 100.0), percent),
            value(world.rate_to(&cluster.name), rate),
            value(cluster.in_flight, count),
            value(cluster.queue_ms, ms),
            value(cluster.tolerates_ms, ms),
            value(cluster.service_ms, ms),
            value(cluster.distance_ms, ms),
            value(cluster.success_ratio, percent),
            part(up, cluster.endpoints.len(), ""),
            value(cluster.cost_usd_per_h, usd),
        ],
    }
}

fn event(at: usize, event: &Event) -> Row {
    let (told, health) = event.told();
    let sentence = Cell {
        text: format!("{} {}", health.mark(), shown(&told)),
        order: Order::Text(told.to_lowercase()),
    };
    let time = Cell { text: shown(event.clock()), order: Order::Figure(Some(at as f64)) };
    Row { name: at.to_string(), health, cells: vec![time, sentence] }
}

/// The columns that fit into `width`, by index, and the width of each. The one without a width gets the rest, `LEAST`
/// columns at least.
pub(super) fn fitting(columns: &[Column], width: u16) -> Vec<(usize, u16)> {
    /// Columns of a name, at least.
    const LEAST: u16 = 14;
    let mut by_rank: Vec<usize> = (0..columns.len()).collect();
    by_rank.sort_by_key(|at| columns[*at].rank);
    let (mut chosen, mut used) = (Vec::new(), 0);
    for at in by_rank {
        let own = if columns[at].width == 0 { LEAST } else { columns[at].width + 1 };
        if used + own > width && !chosen.is_empty() {
            break;
        }
        used += own;
        chosen.push(at);
    }
    chosen.sort_unstable();
    let rest = width.saturating_sub(used) + LEAST;
    let of = |at: usize| if columns[at].width == 0 { rest } else { columns[at].width };
    chosen.into_iter().map(|at| (at, of(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let clusters = r#"[
            {"name": "idc", "site": "east", "state": "up", "distance_ms": 1.0, "queue_ms": 12.0},
            {"name": "near", "site": "near", "state": "down", "distance_ms": 30.5, "queue_ms": null},
            {"name": "far", "site": "far", "state": "up", "distance_ms": 70.0, "queue_ms": 0.0}]"#;
        World { clusters: serde_json::from_str(clusters).unwrap(), ..World::default() }
    }

    fn names(view: View, filter: &str, column: Option<usize>, is_falling: bool) -> Vec<String> {
        let sorting = Sorting { column, is_falling };
        let rows = view.rows(&world(), Duration::ZERO, filter, sorting);
        rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn a_table_is_sorted_by_any_column_with_unknown_values_last() {
        assert_eq!(names(View::Clusters, "", None, false), ["idc", "near", "far"]);
        assert_eq!(names(View::Clusters, "", Some(0), false), ["far", "idc", "near"]);
        assert_eq!(names(View::Clusters, "", Some(0), true), ["near", "idc", "far"]);
        assert_eq!(names(View::Clusters, "", Some(6), false), ["far", "idc", "near"]);
        assert_eq!(names(View::Clusters, "", Some(6), true), ["idc", "far", "near"]);
    }

    #[test]
    fn the_filter_matches_any_text_of_a_row_in_any_case() {
        assert_eq!(names(View::Clusters, "DOWN", None, false), ["near"]);
        assert_eq!(names(View::Clusters, "ea", None, false), ["idc", "near"]);
        assert!(names(View::Clusters, "nothing", None, false).is_empty());
    }

    #[test]
    fn an_unknown_figure_of_a_cluster_is_a_dash() {
        let sorting = Sorting { column: None, is_falling: false };
        let rows = View::Clusters.rows(&world(), Duration::ZERO, "near", sorting);
        let queue = CLUSTERS.iter().position(|column| column.title == "QUEUE ms").unwrap();
        assert_eq!(rows[0].cells[queue].text, "–");
        let requests = CLUSTERS.iter().position(|column| column.title == "REQ/s").unwrap();
        assert_eq!(rows[0].cells[requests].text, "–", "no service tells of it");
    }

    #[test]
    fn a_narrow_terminal_shows_the_most_important_columns() {
        for view in View::ALL {
            for width in [20, 60, 80, 200] {
                let chosen = fitting(view.columns(), width);
                let used: u16 = chosen.iter().map(|(_, width)| width + 1).sum();
                assert!(used <= width + 1 && !chosen.is_empty(), "{view:?} {width}: {chosen:?}");
                if width == 200 {
                    assert_eq!(chosen.len(), view.columns().len());
                }
            }
        }
        let titles: Vec<&str> =
            fitting(CLUSTERS, 60).iter().map(|(at, _)| CLUSTERS[*at].title).collect();
        assert_eq!(titles, ["CLUSTER", "STATE", "REQ/s", "QUEUE ms", "DIST ms"]);
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let world = World {
            services: vec![Service { name: "shop".to_owned(), ..Service::default() }],
            history: serde_json::from_str(r#"{"events": [{"kind": "reload"}]}"#).unwrap(),
            ..world()
        };
        for view in View::ALL {
            let rows =
                view.rows(&world, Duration::ZERO, "", Sorting { column: None, is_falling: false });
            assert!(!rows.is_empty(), "{view:?}");
            assert!(rows.iter().all(|row| row.cells.len() == view.columns().len()), "{view:?}");
        }
    }
}
