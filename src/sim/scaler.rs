//! An autoscaler's decision: how many servers a place should have.

use super::place::Place;
use super::spec::Scaler;

impl Scaler {
    /// The number of servers to request, if more than the present number. `foreseen` is the forecast load, in
    /// busy servers, of the proxies.
    #[must_use]
    pub fn decide(&self, there: &Place, foreseen: f64) -> Option<usize> {
        let servers = there.servers().max(1);
        let load = (there.busy() + there.waiting()) as f64 / servers as f64;
        let pods = servers.div_ceil(self.pod) as f64;
        let now = (pods * load / self.target).ceil() as usize;
        let ahead = (foreseen / self.target / self.pod as f64).ceil() as usize;
        let wanted = now.max(if self.forecast { ahead } else { 0 });
        // Kubernetes at most doubles in one step.
        let wanted = wanted.clamp(self.pods.0, self.pods.1).min((2.0 * pods) as usize + 4);
        let servers = wanted * self.pod;
        (servers > there.servers()).then_some(servers)
    }
}
