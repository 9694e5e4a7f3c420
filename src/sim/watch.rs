//! The health checks of every baseline: probes, refused connections, and outlier detection by consecutive errors with
//! a cap of half a cluster (Envoy's defaults). The engine has its own health checks.

use super::policy::{End, Pick};

/// Consecutive bad answers that eject an endpoint, and for how long, in seconds.
const OUTLIER: (u32, f64) = (5, 10.0);

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    bad_probes: u32,
    good_probes: u32,
    bad: u32,
    refused: u32,
    down: bool,
    ejected_until: f64,
}

/// One proxy's health checks, by place and endpoint.
#[derive(Clone, Debug)]
pub struct Health(Vec<Vec<Watch>>);

impl Health {
    /// All endpoints usable, for places with this many endpoints each.
    pub fn new(endpoints: impl Iterator<Item = usize>) -> Health {
        Health(endpoints.map(|count| vec![Watch::default(); count]).collect())
    }

    /// A probe ended.
    pub fn probed(&mut self, pick: Pick, ok: bool) {
        let watch = &mut self.0[pick.place][pick.endpoint];
        if ok {
            watch.bad_probes = 0;
            watch.good_probes += 1;
            if watch.good_probes >= 2 {
                watch.down = false;
                watch.refused = 0;
            }
        } else {
            watch.good_probes = 0;
            watch.bad_probes += 1;
            watch.down |= watch.bad_probes >= 2;
        }
    }

    /// An attempt ended.
    pub fn answered(&mut self, pick: Pick, end: End, now: f64) {
        let all = &mut self.0[pick.place];
        let out = all.iter().filter(|watch| now < watch.ejected_until).count();
        let may_eject = (out + 1) * 2 <= all.len();
        let watch = &mut all[pick.endpoint];
        match end {
            End::Good | End::Abandoned => (watch.bad, watch.refused) = (0, 0),
            End::ClientsFault => {}
            End::Refused | End::Reset => {
                watch.refused += 1;
                watch.down |= watch.refused >= 2;
            }
            End::Status => {
                watch.bad += 1;
                if watch.bad >= OUTLIER.0 && may_eject {
                    watch.ejected_until = now + OUTLIER.1;
                    watch.bad = 0;
                }
            }
        }
    }

    /// Writes the usable endpoints.
    pub fn show(&self, alive: &mut [Vec<bool>], now: f64) {
        for (alive, watch) in alive.iter_mut().flatten().zip(self.0.iter().flatten()) {
            *alive = !watch.down && now >= watch.ejected_until;
        }
    }
}
