//! `tidegate demo`: a data centre (IDC) with ten slots, two clouds, demand above capacity, and an outage.
//!
//! Only the clusters are simulated: the proxy is the same as in `run`, the clients send HTTP over loopback, and the
//! figures are those that the clients saw.

mod load;
mod picture;
mod player;
mod script;
mod show;
mod toy;
mod verdict;

use super::fail;
use super::terminal::ended;
use crate::decision::plan::Address;
use crate::server::origin::Origin;
use crate::server::run::Stop;
use crate::server::{Options as ServerOptions, StartError, start};
use load::Load;
use player::Player;
use show::{Output, TITLES};
use std::process::ExitCode;
use std::time::Duration;
use toy::Toy;

/// The options of the demo.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Start again after the end, for a browser that looks at the dashboard; q or Ctrl-C ends it.
    #[arg(long)]
    forever: bool,
    /// Address of the admin API.
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: String,
}

/// The IDC: ten slots of 20 ms, so 500 requests a second.
const SLOTS: usize = 10;
const SERVICE: Duration = Duration::from_millis(20);
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
    let idc = Toy::start("idc", SLOTS, SERVICE, Duration::from_millis(1)).await.map_err(io)?;
    let near = Toy::start("cloud-near", 400, SERVICE, NEAR).await.map_err(io)?;
    let far = Toy::start("cloud-far", 400, SERVICE, FAR).await.map_err(io)?;
    let config = config(&options.admin, &idc, &near, &far);
    let origin = Origin::Text(config);
    let server = ServerOptions { origin, loaded: None, signals: false, pin: false, log: None };
    let running = start(server).await.map_err(|error| match error {
        StartError::Io(message) => message,
        StartError::Config(all) => {
            all.iter().map(|problem| problem.render("demo")).collect::<Vec<_>>().join("\n")
        }
    })?;
    let Some(Address::Ip(proxy)) = running.addresses.get("web").cloned() else {
        return Err("the proxy has no address".to_owned());
    };
    let admin = match &running.admin {
        Some(Address::Ip(address)) => format!("http://{address}/"),
        Some(Address::Unix(path)) => format!("unix:{}", path.display()),
        None => "off".to_owned(),
    };
    let mut output = Output::lines();
    introduce(&mut output, &proxy.to_string(), &admin);
    let mut output = Output::start();
    if !output.is_live() {
        output.say(TITLES);
    }
    let mut player = Player::new((Load::start(proxy), idc), output, admin, ended());
    let all_true = rounds(&mut player, options.forever).await?;
    player.load.stop();
    running.stop(Stop::Now).await;
    Ok(all_true)
}

/// Plays one round, or rounds until a key ends them. True if everything was judged at least once, and kept each time.
async fn rounds(player: &mut Player, is_forever: bool) -> Result<bool, String> {
    let (mut is_kept, mut is_judged) = (true, false);
    loop {
        let (verdict, is_whole) = player.round(!is_judged).await?;
        is_kept &= verdict.is_kept();
        is_judged |= is_whole;
        let goes_on = is_whole && is_forever;
        if !goes_on {
            player.output.end();
        }
        verdict.lines(is_whole).iter().for_each(|line| player.output.say(line));
        if !goes_on {
            player.output.say("\nNow yours: tidegate init");
            return Ok(is_kept && is_judged);
        }
    }
}

/// Prints the dashboard's address, then the proxy and the clusters.
fn introduce(output: &mut Output, proxy: &str, dashboard: &str) {
    let (dashboard, proxy) =
        (format!("Dashboard  {dashboard}"), format!("Proxy      http://{proxy}"));
    for line in [
        dashboard.as_str(),
        proxy.as_str(),
        "",
        "  clients -> tidegate -> idc         10 slots of 20 ms, here: 500 requests/s",
        "                      -> cloud-near  30 ms away",
        "                      -> cloud-far   70 ms away",
        "",
    ] {
        output.say(line);
    }
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
