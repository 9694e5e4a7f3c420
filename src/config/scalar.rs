//! Scalars of a configuration: text, numbers, durations, sizes, addresses. Each type holds valid values only.

use super::error::Problems;
use super::shape::Decode;
use super::yaml::{Kind, Node};
use crate::decision::plan::{Address, Target};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Reads a scalar by `parse`, whose error is the complete message.
fn scalar<T>(
    node: &Node,
    path: &str,
    problems: &mut Problems,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let Kind::Scalar { text, .. } = &node.kind else {
        let (message, hint) = match &node.kind {
            Kind::List(_) => {
                ("must be one value, not a list", Some("quote an IPv6 address: \"[::]:80\""))
            }
            Kind::Map(_) => ("must be one value, not a map", None),
            Kind::Null | Kind::Scalar { .. } => ("has no value", None),
        };
        match hint {
            Some(hint) => problems.error_with_hint(node.at, path, message, hint),
            None => problems.error(node.at, path, message),
        }
        return None;
    };
    match parse(text) {
        Ok(value) => Some(value),
        Err(message) => {
            problems.error(node.at, path, format!("`{text}`: {message}"));
            None
        }
    }
}

impl Decode for String {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| Ok(text.to_owned()))
    }

    fn schema() -> Value {
        json!({"type": ["string", "number", "boolean"]})
    }
}

impl Decode for bool {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        })
    }

    fn schema() -> Value {
        json!({"type": "boolean"})
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Within<const LOW: u64, const HIGH: u64>(pub u64);

impl<const LOW: u64, const HIGH: u64> Decode for Within<LOW, HIGH> {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| {
            let number = text.parse().ok().filter(|number| (LOW..=HIGH).contains(number));
            number.map(Within).ok_or(format!("must be a whole number from {LOW} to {HIGH}"))
        })
    }

    fn schema() -> Value {
        json!({"type": "integer", "minimum": LOW, "maximum": HIGH})
    }
}

/// A number of workers, or `auto`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    /// This number, 1-1024.
    Count(usize),
}

impl Decode for Workers {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text.parse() {
            Ok(count) if (1..=1024).contains(&count) => Ok(Workers::Count(count)),
            _ if text == "auto" => Ok(Workers::Auto),
            _ => Err("must be `auto` or a whole number from 1 to 1024".to_owned()),
        })
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]})
    }
}

/// Permissions of the file of a unix socket, in octal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileMode(pub u32);

impl Decode for FileMode {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
            mode.map(FileMode).ok_or("must be octal, from 0 to 0777".to_owned())
        })
    }

    fn schema() -> Value {
        json!({"type": ["string", "integer"], "pattern": "^(0o?)?[0-7]{1,3}$"})
    }
}

/// A number of at least 0: dollars or a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount(pub f64);

impl Decode for Amount {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| {
            let number =
                text.parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..=1e9).contains(n));
            number.map(Amount).ok_or("must be a number of at least 0".to_owned())
        })
    }

    fn schema() -> Value {
        json!({"type": "number", "minimum": 0})
    }
}

/// A duration: `500ms`, `2s`, `1m`, `1h`; a bare 0 is zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "must be a duration such as 500ms, 2s, 1m or 1h";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or(WRONG)?;
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| WRONG)?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(WRONG.to_owned()),
    };
    let seconds = number * seconds;
    if seconds > 366.0 * 86_400.0 {
        return Err("must be at most 366 days".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

impl Decode for Duration {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, duration)
    }

    fn schema() -> Value {
        json!({"anyOf": [{"type": "string", "pattern": "^[0-9.]+(us|ms|s|m|h|d)$"}, {"const": 0}]})
    }
}

/// A duration, or `auto`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AutoDuration {
    /// Derived from measurements.
    Auto,
    /// Fixed.
    Fixed(Duration),
}

impl Decode for AutoDuration {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "auto" => Ok(AutoDuration::Auto),
            _ => duration(text).map(AutoDuration::Fixed),
        })
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "auto"}, Duration::schema()]})
    }
}

/// A duration, or `none`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionalDuration(pub Option<Duration>);

impl Decode for OptionalDuration {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "none" => Ok(OptionalDuration(None)),
            _ => duration(text).map(|span| OptionalDuration(Some(span))),
        })
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "none"}, Duration::schema()]})
    }
}

/// Bytes: `16KiB`, `1MiB`, `1GiB`, or a bare number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size(pub u64);

fn size(text: &str) -> Result<Size, String> {
    const WRONG: &str = "must be a size such as 512, 16KiB, 1MiB or 1GiB";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(WRONG.to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.map(Size).ok_or(WRONG.to_owned())
}

impl Decode for Size {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, size)
    }

    fn schema() -> Value {
        json!({"anyOf": [{"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)?$"}, {"type": "integer", "minimum": 0}]})
    }
}

/// Bytes, or `none`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionalSize(pub Option<u64>);

impl Decode for OptionalSize {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "none" => Ok(OptionalSize(None)),
            _ => size(text).map(|Size(bytes)| OptionalSize(Some(bytes))),
        })
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "none"}, Size::schema()]})
    }
}

/// A whole number, or `none`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OptionalCount(pub Option<u64>);

impl Decode for OptionalCount {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "none" => Ok(OptionalCount(None)),
            _ => match text.parse::<u64>() {
                Ok(count) if count > 0 => Ok(OptionalCount(Some(count))),
                _ => Err("must be `none` or a whole number of at least 1".to_owned()),
            },
        })
    }

    fn schema() -> Value {
        json!({"anyOf": [{"const": "none"}, {"type": "integer", "minimum": 1}]})
    }
}

/// An address to listen on: IP and port, or `unix:/path`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenAddress(pub Address);

fn listen_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Address::Ip(address));
    }
    Err(match text.strip_prefix(':') {
        Some(port) if port.parse::<u16>().is_ok() => {
            format!("must be IP:PORT; for all addresses write 0.0.0.0:{port} or \"[::]:{port}\"")
        }
        _ if bare_ipv6(text).is_some() => {
            format!("quote an IPv6 address: \"{}\"", bare_ipv6(text).unwrap_or_default())
        }
        None if text.parse::<u16>().is_ok() => format!("must be IP:PORT; write 0.0.0.0:{text}"),
        _ if large_port(text).is_some() => {
            format!("the port {} is not from 0 to 65535", large_port(text).unwrap_or_default())
        }
        Some(_) | None => {
            "must be IP:PORT or unix:/path (a host name may have several addresses)".to_owned()
        }
    })
}

/// The port of an address whose port is above 65535.
fn large_port(text: &str) -> Option<&str> {
    let (host, port) = text.rsplit_once(':')?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_host = format!("{host}:0").parse::<SocketAddr>().is_ok();
    (is_number && is_host && port.parse::<u16>().is_err()).then_some(port)
}

/// The corrected form of an address such as `::1:80`, whose last part is the port.
fn bare_ipv6(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let valid = host.parse::<std::net::Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok();
    valid.then(|| format!("[{host}]:{port}"))
}

fn unix_path(path: &str) -> Result<Address, String> {
    match path {
        "" => Err("unix: needs a path".to_owned()),
        // sun_path holds 108 bytes, one of them the final NUL.
        _ if path.len() > 107 => Err("a unix socket's path has at most 107 bytes".to_owned()),
        _ => Ok(Address::Unix(path.into())),
    }
}

impl Decode for ListenAddress {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| listen_address(text).map(ListenAddress))
    }

    fn schema() -> Value {
        json!({"type": "string"})
    }
}

/// An address to listen on, or `off`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressOrOff(pub Option<Address>);

impl Decode for AddressOrOff {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| match text {
            "off" => Ok(AddressOrOff(None)),
            _ => listen_address(text).map(|address| AddressOrOff(Some(address))),
        })
    }

    fn schema() -> Value {
        json!({"type": "string"})
    }
}

/// The address of an endpoint: IP and port, host name and port, or `unix:/path`.
pub fn target(text: &str) -> Result<Target, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(Target::Address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("an endpoint cannot have port 0".to_owned()),
            _ => Ok(Target::Address(Address::Ip(address))),
        };
    }
    let (host, port) = host_and_port(text)?;
    Ok(Target::Name(host, port))
}

/// `host:port`, both present.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    const WRONG: &str = "must be ADDRESS:PORT, such as 10.0.0.11:8080 or app.example.com:443";
    let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
    let port: u16 =
        port.parse().ok().filter(|port| *port > 0).ok_or("must have a port from 1 to 65535")?;
    if !is_host_name(host) {
        return Err(WRONG.to_owned());
    }
    Ok((host.to_owned(), port))
}

/// Whether `text` is a valid host name (RFC 1123, with `_` for SRV).
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    let numeric = bare.chars().all(|c| c.is_ascii_digit() || c == '.');
    bare.len() <= 253 && bare.split('.').all(label) && !numeric
}

/// A network in CIDR form; a bare address is a network of one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(pub ipnet::IpNet);

fn not_a_network(text: &str) -> String {
    let parts = text.split_once('/');
    let address = parts.and_then(|(address, _)| address.parse::<std::net::IpAddr>().ok());
    match address {
        Some(std::net::IpAddr::V4(_)) => "the prefix length must be from 0 to 32".to_owned(),
        Some(std::net::IpAddr::V6(_)) => "the prefix length must be from 0 to 128".to_owned(),
        None => "must be a network such as 10.0.0.0/8".to_owned(),
    }
}

impl Decode for Network {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| {
            let single = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
            match text.parse::<ipnet::IpNet>().ok().or_else(single) {
                Some(network) if network.trunc() != network => Err(format!(
                    "is an address within a network: write {} for the network, or {} for the address",
                    network.trunc(),
                    network.addr()
                )),
                Some(network) => Ok(Network(network)),
                None => Err(not_a_network(text)),
            }
        })
    }

    fn schema() -> Value {
        json!({"type": "string"})
    }
}

/// A range of status codes: `200`, `200-399`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatusRange(pub std::ops::RangeInclusive<u16>);

impl Decode for StatusRange {
    fn decode(node: &Node, path: &str, problems: &mut Problems) -> Option<Self> {
        scalar(node, path, problems, |text| {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let code =
                |text: &str| text.parse::<u16>().ok().filter(|code| (100..600).contains(code));
            match (code(low), code(high)) {
                (Some(low), Some(high)) if low <= high => Ok(StatusRange(low..=high)),
                _ => Err("must be a status such as 200 or a range such as 200-399".to_owned()),
            }
        })
    }

    fn schema() -> Value {
        json!({"type": ["string", "integer"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "ms", "-1s", "1 s", "1w", "1e9s", "..s", "1ss", "99999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("16KiB"), Ok(Size(16_384)));
        for bad in ["", "KiB", "1kb", "-1", "1.5MiB", "99999999999999999999"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert!(matches!(target("10.0.0.1:80"), Ok(Target::Address(_))));
        assert!(matches!(target("[::1]:80"), Ok(Target::Address(_))));
        assert!(matches!(target("app.example.com:443"), Ok(Target::Name(..))));
        for bad in
            ["10.0.0.1", "10.0.0.1:0", "app:0", "a b:80", "::1:80", "10.0.0:80", ":80", "a..b:1"]
        {
            assert!(target(bad).is_err(), "{bad}");
        }
        for bad in [":80", "80", "localhost:80", "10.0.0.1", "unix:"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }
}
