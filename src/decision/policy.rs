//! Access policies of services and routes: allowed networks, rate limits, concurrency, authentication.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use super::index::PolicyIndex;

/// The policy of a service or of a route. A request is subject to both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The path of the policy in the configuration; its state is kept under this name across plans.
    pub name: String,
    /// Networks whose clients are admitted; empty admits all.
    pub allow: Vec<ipnet::IpNet>,
    /// Networks whose clients are refused, whatever `allow` says.
    pub deny: Vec<ipnet::IpNet>,
    /// Rate limit of a client.
    pub rate: Option<Rate>,
    /// Exchanges at once.
    pub concurrency: Option<u32>,
    /// Whose exchanges count for `concurrency`.
    pub concurrency_scope: Scope,
    /// Required credentials.
    pub auth: Option<Auth>,
}

impl Policy {
    /// Whether a client with this address is admitted. The unspecified address stands for an unknown client, which
    /// might be on the `deny` list.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        if client.is_unspecified() {
            return self.allow.is_empty() && self.deny.is_empty();
        }
        let within = |networks: &[ipnet::IpNet]| networks.iter().any(|n| n.contains(&client));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }

    /// Whether a limit counts the exchanges of the whole site.
    #[must_use]
    pub fn is_divided(&self) -> bool {
        let rate = self.rate.as_ref().is_some_and(|rate| rate.scope == Scope::Site);
        rate || self.concurrency.is_some() && self.concurrency_scope == Scope::Site
    }

    /// Whether the policy restricts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Policy { name: self.name.clone(), ..Policy::default() }
    }
}

/// Rate limit of a client (GCRA: ITU-T I.371).
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// The number of requests ...
    pub requests: u32,
    /// ... in this time.
    pub per: Duration,
    /// The largest burst; at least one request.
    pub burst: u32,
    /// The key by which requests are counted.
    pub key: RateKey,
    /// Whose requests count.
    pub scope: Scope,
}

/// Whose exchanges a limit counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// Those of this proxy.
    #[default]
    Proxy,
    /// Those of all proxies of the site: each has a part ([`division`](super::fleet::division)).
    Site,
}

/// The key of a rate limit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RateKey {
    /// One key for all clients.
    All,
    /// An IPv4 address, or a /64 of IPv6, the usual prefix of one subscriber.
    ClientIp,
    /// A header's value; the name in lower case. Requests without the header are counted by address.
    Header(String),
}

/// The credentials that a client must present.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// A user name and password (RFC 7617), checked against a file of hashes.
    Basic {
        /// As `htpasswd -B` writes it.
        file: PathBuf,
    },
    /// A signed token (RFC 6750, RFC 7519).
    Jwt {
        /// The keys (RFC 7517).
        jwks_file: PathBuf,
        /// The required issuer.
        issuer: Option<String>,
        /// The required audience.
        audience: Option<String>,
    },
    /// An authorisation service decides.
    Forward(Forward),
}

/// An authorisation service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forward {
    /// Whether the authentication service is reached over TLS.
    pub secure: bool,
    /// The certificate authorities for its certificate; those of the system if `None`.
    pub ca: Option<PathBuf>,
    /// Host and port, to connect to.
    pub authority: String,
    /// Host, and port if one is written.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Response fields that are copied to the request for the cluster, in lower case. Clients cannot set these
    /// fields.
    pub response_headers: Vec<String>,
    /// Whether its redirects and 4xx responses go to the client unchanged.
    pub pass_response: bool,
}

impl Forward {
    /// Whether both use the same authentication service over the same transport.
    #[must_use]
    pub fn asks_the_same(&self, other: &Forward) -> bool {
        (self.secure, &self.ca, &self.authority, &self.host)
            == (other.secure, &other.ca, &other.authority, &other.host)
    }
}

impl Auth {
    /// The path of its credentials file.
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
    fn deny_takes_precedence_over_allow() {
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
    fn an_unknown_client_is_admitted_only_without_access_lists() {
        let networks = |text: &str| vec![text.parse().unwrap()];
        let unknown = "0.0.0.0".parse().unwrap();
        let open = Policy::default();
        assert!(open.admits(unknown));
        assert!(!Policy { allow: networks("0.0.0.0/0"), ..open.clone() }.admits(unknown));
        assert!(!Policy { deny: networks("198.51.100.0/24"), ..open }.admits(unknown));
    }
}
