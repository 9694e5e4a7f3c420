//! `tidegate demo`: a data centre (IDC) with ten slots, two clouds, demand above capacity, and an outage.
//!
//! Only the clusters are simulated: the proxy is the same as in `run`, the clients send HTTP over loopback, and the
//! figures are those that the clients saw.

mod load;
mod show;
mod toy;

use super::fail;
use crate::decision::plan::Address;
use crate::server::origin::Origin;
use crate::server::run::Stop;
use crate::server::{Options as ServerOptions, StartError, start};
use load::{Load, Window};
use show::Verdict;
use std::process::ExitCode;
use std::time::Duration;
use toy::Toy;

/// The options of the demo.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Start again after the end.
    #[arg(long)]
    forever: bool,
    /// Address of the admin API.
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: String,
}

/// The IDC: ten slots of 20 ms, so 500 requests a second.
const SLOTS: usize = 10;
const SERVICE: Duration = Duration::from_millis(20);
const CAPACITY: f64 = 500.0;
const NEAR: Duration = Duration::from_millis(30);
const FAR: Duration = Duration::from_millis(70);

/// Runs the demo; succeeds if all promises hold.
pub(super) fn demo(options: &Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            match play(options).await {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(message) => fail(&message),
            }
        }),
        Err(error) => fail(&error.to_string()),
    }
}

async fn play(options: &Options) -> Result<bool, String> {
    let io = |error: std::io::Error| error.to_string();
    let mut idc = Toy::start("idc", SLOTS, SERVICE, Duration::from_millis(1)).await.map_err(io)?;
    let near = Toy::start("cloud-near", 400, SERVICE, NEAR).await.map_err(io)?;
    let far = Toy::start("cloud-far", 400, SERVICE, FAR).await.map_err(io)?;
    let config = config(&options.admin, &idc, &near, &far);
    let origin = Origin::Text(config);
    let running = start(ServerOptions { origin, signals: false, pin: false, log: None }).await;
    let running = running.map_err(|error| match error {
        StartError::Io(message) => message,
        StartError::Config(all) => {
            all.iter().map(|problem| problem.render("demo")).collect::<Vec<_>>().join("\n")
        }
    })?;
    let Some(Address::Ip(proxy)) = running.addresses.get("web").cloned() else {
        return Err("the proxy has no address".to_owned());
    };
    let admin = running.admin.as_ref().map(ToString::to_string).unwrap_or_default();
    show::introduce(&proxy, &admin);
    let mut load = Load::start(proxy);
    let all_true = loop {
        let verdict = acts(&mut load, &mut idc).await?;
        let all_true = verdict.print();
        if !options.forever {
            break all_true;
        }
    };
    load.stop();
    running.stop(Stop::Now).await;
    Ok(all_true)
}

fn config(admin: &str, idc: &Toy, near: &Toy, far: &Toy) -> String {
    let probe = "probe: { kind: http, path: /healthz }";
    format!(
        "site: {{ name: demo }}\n\
         admin: {{ address: \"{admin}\" }}\n\
         access_log: {{ format: off }}\n\
         listeners: {{ web: {{ address: 127.0.0.1:0, protocol: http, service: shop }} }}\n\
         services: {{ shop: {{ clusters: [idc, cloud-near, cloud-far] }} }}\n\
         routes: [{{ path_prefix: /sensitive, service: shop, data: sensitive }}]\n\
         clusters:\n  \
           idc: {{ kind: idc, endpoints: [\"{}\"], {probe} }}\n  \
           cloud-near: {{ kind: cloud, endpoints: [\"{}\"], {probe} }}\n  \
           cloud-far: {{ kind: cloud, endpoints: [\"{}\"], {probe} }}\n",
        idc.address, near.address, far.address
    )
}

/// Runs the acts: low demand, demand above capacity, low demand, outage, return.
async fn acts(load: &mut Load, idc: &mut Toy) -> Result<Verdict, String> {
    let mut verdict = Verdict::default();
    let ebb = CAPACITY * 0.5;
    act(load, "warming up", ebb, 3).await;
    let low = act(load, "low tide: half of what the IDC can take", ebb, 7).await;
    verdict.check(
        "at half load the IDC serves",
        format!("{:.1} % at home (98 % or more)", low.share("idc") * 100.0),
        low.share("idc") >= 0.98 && low.errors == 0,
    );
    act(load, "the tide rises past the IDC's capacity", CAPACITY * 1.3, 3).await;
    let high = act(load, "high tide: 130 % of what the IDC can take", CAPACITY * 1.3, 8).await;
    let cloud = 1.0 - high.share("idc");
    verdict.check(
        "the excess spills into the cloud, and nobody is refused",
        format!(
            "{:.1} % in the cloud (15-45 %), p99 {:.0} ms (under 200), {} errors",
            cloud * 100.0,
            high.quantile(0.99) * 1e3,
            high.errors
        ),
        (0.15..=0.45).contains(&cloud) && high.quantile(0.99) < 0.2 && high.errors == 0,
    );
    act(load, "the tide falls", ebb, 3).await;
    let back = act(load, "low tide again", ebb, 3).await;
    verdict.check(
        "it comes back by itself",
        format!("{:.1} % at home (95 % or more)", back.share("idc") * 100.0),
        back.share("idc") >= 0.95,
    );
    idc.kill().await;
    let outage = act(load, "THE IDC IS DEAD: killed, connections and all", ebb, 4).await;
    verdict.check(
        "an outage costs idempotent requests nothing",
        format!("{} errors in {} requests", outage.errors, outage.count()),
        outage.errors == 0,
    );
    let sensitive = load.ask("/sensitive").await;
    verdict.check(
        "sensitive data does not leave, even now",
        format!("/sensitive is answered {sensitive}"),
        sensitive == "503 no_healthy_cluster",
    );
    idc.revive().await.map_err(|error| format!("the IDC cannot come back: {error}"))?;
    act(load, "the IDC is back", ebb, 5).await;
    let home = act(load, "five seconds later", ebb, 3).await;
    verdict.check(
        "its traffic is back within 5 s, gently",
        format!("{:.1} % at home, {} errors", home.share("idc") * 100.0, home.errors),
        home.share("idc") >= 0.95 && home.errors == 0,
    );
    Ok(verdict)
}

async fn act(load: &mut Load, title: &str, rate: f64, seconds: u64) -> Window {
    load.set_rate(rate);
    show::title(title, rate);
    let mut whole = Window::default();
    for _ in 0..seconds * 2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let window = load.take();
        show::window(&window, Duration::from_millis(500));
        whole.merge(window);
    }
    whole
}
