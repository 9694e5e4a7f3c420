//! Price as distance: the cost of an exchange, in milliseconds.
//!
//! Clusters are compared in one unit. `MS_PER_DOLLAR` is how much nearer a cluster must be to
//! justify one dollar a request. The operator configures prices, never weights.

/// The price of a cluster's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prices {
    /// Dollars for a GiB from the cluster to the proxy.
    pub per_gib: f64,
    /// Dollars for a million requests.
    pub per_million_requests: f64,
}

/// The traffic of a service at a cluster, and its cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spend {
    /// Exchanges sent, retries and hedges included; at L4, connections.
    pub exchanges: f64,
    /// Bytes from the cluster to the proxy.
    pub bytes: f64,
    /// Dollars.
    pub usd: f64,
}

/// The floor of the exchange rate: one millisecond for a millionth of a dollar.
pub const MS_PER_DOLLAR: f64 = 1e6;

impl Prices {
    /// Dollars for one exchange with this many response bytes.
    #[must_use]
    pub fn dollars(&self, bytes: f64) -> f64 {
        self.cost(1.0, bytes)
    }

    /// Dollars for this number of exchanges and of bytes.
    #[must_use]
    pub fn cost(&self, exchanges: f64, bytes: f64) -> f64 {
        self.per_gib * bytes / (1_u64 << 30) as f64 + self.per_million_requests * exchanges / 1e6
    }

    /// The price of one exchange as a distance, in seconds.
    #[must_use]
    pub fn seconds(&self, bytes: f64) -> f64 {
        self.dollars(bytes) * MS_PER_DOLLAR / 1e3
    }
}
