//! Who may come, and how often: what the operator wants of a service's or a route's clients.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Index of a policy in a plan.
pub type PolicyIndex = usize;

/// What holds for the requests of one service or route. A service's and its route's hold both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Where it is written; state goes on by this name from one plan to the next.
    pub name: String,
    /// Networks whose clients may come; empty is all.
    pub allow: Vec<ipnet::IpNet>,
    /// Networks whose clients may not, whatever `allow` says.
    pub deny: Vec<ipnet::IpNet>,
    /// How often a client may come.
    pub rate: Option<Rate>,
    /// Exchanges at once.
    pub concurrency: Option<u32>,
    /// What a client must prove.
    pub auth: Option<Auth>,
}

impl Policy {
    /// Whether a client of this address may come at all. The unspecified address is nobody's: who it
    /// stands for is not known, and may be whoever is not let in.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        if client.is_unspecified() {
            return self.allow.is_empty() && self.deny.is_empty();
        }
        let within = |networks: &[ipnet::IpNet]| networks.iter().any(|n| n.contains(&client));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }

    /// Whether it says nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Policy { name: self.name.clone(), ..Policy::default() }
    }
}

/// How often a client may come (GCRA: ITU-T I.371).
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// So many requests ...
    pub requests: u32,
    /// ... in so long.
    pub per: Duration,
    /// How many may come at once; at least one.
    pub burst: u32,
    /// Who is a client.
    pub key: RateKey,
}

/// Who counts as one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RateKey {
    /// Everybody together.
    All,
    /// An IPv4 address, or a /64 of IPv6: that is what one subscriber has.
    ClientIp,
    /// A header's value; its name in lower case. Who sends none goes by address.
    Header(String),
}

/// What a client must prove.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// A user's password (RFC 7617), by a file of their hashes.
    Basic {
        /// As `htpasswd -B` writes it.
        file: PathBuf,
    },
    /// A signed token (RFC 6750, RFC 7519).
    Jwt {
        /// The keys (RFC 7517).
        jwks_file: PathBuf,
        /// Who must have issued it.
        issuer: Option<String>,
        /// For whom it must be.
        audience: Option<String>,
    },
    /// Whatever a service says that is asked.
    Forward(Forward),
}

/// A service that is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// Whether over TLS.
    pub secure: bool,
    /// Authorities that prove who it is; the system's where there are none.
    pub ca: Option<PathBuf>,
    /// Host and port, to connect to.
    pub authority: String,
    /// Host, and port if one is written.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Fields of its answer that clusters are given, in lower case; nobody else may give them.
    pub response_headers: Vec<String>,
    /// Whether its redirects and 4xx go to the client as they are.
    pub pass_response: bool,
}

impl Forward {
    /// Whether the same service is asked, by the same means.
    #[must_use]
    pub fn asks_the_same(&self, other: &Forward) -> bool {
        (self.secure, &self.ca, &self.authority, &self.host)
            == (other.secure, &other.ca, &other.authority, &other.host)
    }
}

impl Auth {
    /// The file it goes by.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Auth::Basic { file } | Auth::Jwt { jwks_file: file, .. } => Some(file),
            Auth::Forward(forward) => forward.ca.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_network_stays_out_of_an_allowed_one() {
        let networks = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect();
        let policy = Policy {
            allow: networks(&["10.0.0.0/8", "2001:db8::/32"]),
            deny: networks(&["10.1.0.0/16"]),
            ..Policy::default()
        };
        for (address, may) in
            [("10.0.0.1", true), ("10.1.0.1", false), ("192.0.2.1", false), ("2001:db8::1", true)]
        {
            assert_eq!(policy.admits(address.parse().unwrap()), may, "{address}");
        }
        assert!(Policy::default().admits("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_client_that_nobody_knows_is_admitted_only_where_everybody_is() {
        let networks = |text: &str| vec![text.parse().unwrap()];
        let unknown = "0.0.0.0".parse().unwrap();
        let open = Policy::default();
        assert!(open.admits(unknown));
        assert!(!Policy { allow: networks("0.0.0.0/0"), ..open.clone() }.admits(unknown));
        assert!(!Policy { deny: networks("198.51.100.0/24"), ..open }.admits(unknown));
    }
}
