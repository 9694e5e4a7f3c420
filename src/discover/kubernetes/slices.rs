//! EndpointSlices of one Service, and the endpoints in them: plain data, no I/O.
//!
//! The types have only the fields that are used, and read hostile JSON with bounds: the memory of an answer is at most a
//! small multiple of its bytes.

use crate::decision::assess::Found;
use crate::decision::plan::{Address, ServicePort, is_link_local};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

/// The label with the name of a slice's Service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The greatest number of slices of a Service.
const SLICES_MAX: usize = 1_000;
/// The greatest number of endpoints in a slice, as in the API.
const ENDPOINTS_MAX: usize = 1_000;
/// The greatest number of addresses of an endpoint and of ports of a slice, as in the API.
const ENTRIES_MAX: usize = 100;
/// The greatest number of ready endpoints of a Service.
const READY_MAX: usize = 10_000;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) kind: String,
    pub(super) metadata: PageMeta,
    #[serde(deserialize_with = "at_most::<_, _, SLICES_MAX>")]
    pub(super) items: Vec<Slice>,
}

/// The version of a list, and the token of its next page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) r#continue: Option<String>,
}

/// An EndpointSlice (`discovery.k8s.io/v1`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    pub(super) metadata: SliceMeta,
    #[serde(default)]
    address_type: String,
    #[serde(default, deserialize_with = "at_most::<_, _, ENDPOINTS_MAX>")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "at_most::<_, _, ENTRIES_MAX>")]
    ports: Vec<SlicePort>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceMeta {
    name: String,
    namespace: String,
    pub(super) resource_version: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(deserialize_with = "at_most::<_, _, ENTRIES_MAX>")]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Option<Conditions>,
    #[serde(default)]
    target_ref: Option<TargetRef>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Conditions {
    #[serde(default)]
    ready: Option<bool>,
    #[serde(default)]
    terminating: Option<bool>,
}

impl Conditions {
    /// Whether new exchanges may be sent. An unknown `ready` means ready, as the API says. A terminating endpoint is
    /// not ready; a Service with `publishNotReadyAddresses` calls it ready all the same, and it drains nevertheless.
    fn may_receive(self) -> bool {
        self.ready != Some(false) && self.terminating != Some(true)
    }
}

#[derive(Clone, Debug, Deserialize)]
struct TargetRef {
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct SlicePort {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

/// Reads a list with at most `MAX` entries; `null` is the empty list.
fn at_most<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    struct Entries<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: DeserializeOwned, const MAX: usize> Visitor<'de> for Entries<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(out, "a list of at most {MAX}")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if all.len() == MAX {
                    return Err(A::Error::custom(format_args!("a list of more than {MAX}")));
                }
                all.push(entry);
            }
            Ok(all)
        }
    }

    from.deserialize_any(Entries::<T, MAX>(PhantomData))
}

/// The Service whose slices are read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) namespace: String,
    pub(super) service: String,
    /// The port; by default the only one.
    pub(super) port: Option<ServicePort>,
    /// Whether loopback addresses may be endpoints.
    pub(super) allow_loopback: bool,
    /// Whether link-local and metadata addresses may be endpoints.
    pub(super) allow_link_local: bool,
}

impl Wanted {
    fn has(&self, slice: &Slice) -> bool {
        slice.metadata.namespace == self.namespace
            && slice.metadata.labels.get(SERVICE_LABEL) == Some(&self.service)
    }

    /// The port's number in a slice.
    fn number(&self, slice: &Slice) -> Option<u16> {
        match &self.port {
            Some(ServicePort::Number(number)) => Some(*number),
            Some(ServicePort::Name(name)) => {
                let named = |port: &&SlicePort| port.name.as_ref() == Some(name);
                slice.ports.iter().find(named)?.port
            }
            None => {
                let numbers: BTreeSet<u16> =
                    slice.ports.iter().filter_map(|port| port.port).collect();
                if numbers.len() == 1 { numbers.first().copied() } else { None }
            }
        }
    }

    /// Whether an address may be an endpoint. The API server rejects all others, so they are forged: 127.0.0.1, for
    /// instance, would be the proxy's own host.
    fn allows(&self, ip: IpAddr) -> bool {
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        let is_elsewhere = (self.allow_loopback || !ip.is_loopback())
            && (self.allow_link_local || !is_link_local(ip));
        is_elsewhere && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
    }
}

/// An endpoint that may receive exchanges.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ready {
    /// The pod's UID, if the endpoint is a pod.
    uid: String,
    address: SocketAddr,
}

/// What is wrong about slices that can be used otherwise.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Remarks {
    /// Addresses that cannot be endpoints.
    pub(super) addresses: Vec<String>,
    /// Slices with endpoints, and without the port.
    pub(super) without_port: usize,
    /// Slices of another Service.
    pub(super) foreign: usize,
}

/// The slices of a Service: the ready endpoints of each, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices(BTreeMap<String, Vec<Ready>>);

impl Slices {
    /// Adds or replaces a slice.
    ///
    /// # Errors
    /// When there are too many slices or endpoints.
    pub(super) fn put(
        &mut self,
        slice: Slice,
        wanted: &Wanted,
        remarks: &mut Remarks,
    ) -> Result<(), String> {
        if !wanted.has(&slice) {
            remarks.foreign += 1;
            return Ok(());
        }
        let ready = ready(&slice, wanted, remarks);
        self.0.insert(slice.metadata.name, ready);
        if self.0.len() > SLICES_MAX {
            return Err(format!("the Service has more than {SLICES_MAX} EndpointSlices"));
        }
        if self.0.values().map(Vec::len).sum::<usize>() > READY_MAX {
            return Err(format!("the Service has more than {READY_MAX} ready endpoints"));
        }
        Ok(())
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, slice: &Slice) {
        self.0.remove(&slice.metadata.name);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The endpoints, sorted. A pod is one endpoint, in however many slices and families it occurs; of its addresses
    /// IPv4 is preferred.
    pub(super) fn endpoints(&self) -> Vec<Found> {
        let mut pods: BTreeMap<&str, SocketAddr> = BTreeMap::new();
        let mut addresses = BTreeSet::new();
        for ready in self.0.values().flatten() {
            if ready.uid.is_empty() {
                addresses.insert(ready.address);
                continue;
            }
            let preferred = pods.entry(&ready.uid).or_insert(ready.address);
            // An IPv4 address is less than an IPv6 address.
            *preferred = ready.address.min(*preferred);
        }
        addresses.extend(pods.into_values());
        addresses.into_iter().map(|ip| Found { address: Address::Ip(ip), weight: 1 }).collect()
    }
}

fn ready(slice: &Slice, wanted: &Wanted, remarks: &mut Remarks) -> Vec<Ready> {
    let may_receive = |endpoint: &&Endpoint| endpoint.conditions.unwrap_or_default().may_receive();
    let mut usable = slice.endpoints.iter().filter(may_receive).peekable();
    if usable.peek().is_none() {
        return Vec::new();
    }
    let Some(port) = wanted.number(slice) else {
        remarks.without_port += 1;
        return Vec::new();
    };
    let mut found = Vec::new();
    for endpoint in usable {
        // All addresses of an endpoint lead to the same pod; the first is sufficient.
        let Some(text) = endpoint.addresses.first() else { continue };
        let ip = text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        match ip.filter(|ip| slice.address_type != "FQDN" && wanted.allows(*ip)) {
            Some(ip) => {
                let uid = endpoint.target_ref.as_ref().map_or("", |target| &target.uid);
                found.push(Ready { uid: uid.to_owned(), address: SocketAddr::new(ip, port) });
            }
            None => remarks.addresses.push(text.clone()),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn wanted(port: Option<ServicePort>) -> Wanted {
        let (namespace, service) = ("shop".to_owned(), "web".to_owned());
        Wanted { namespace, service, port, allow_loopback: false, allow_link_local: false }
    }

    fn named(name: &str) -> Option<ServicePort> {
        Some(ServicePort::Name(name.to_owned()))
    }

    fn slice(name: &str, endpoints: Value) -> Value {
        json!({
            "metadata": {
                "name": name, "namespace": "shop", "resourceVersion": "1",
                "labels": { "kubernetes.io/service-name": "web" },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080 }],
            "endpoints": endpoints,
        })
    }

    fn put(slices: &mut Slices, slice: Value, wanted: &Wanted) -> Remarks {
        let mut remarks = Remarks::default();
        slices.put(serde_json::from_value(slice).unwrap(), wanted, &mut remarks).unwrap();
        remarks
    }

    fn found(slices: &Slices) -> Vec<String> {
        slices.endpoints().iter().map(|found| found.address.to_string()).collect()
    }

    #[test]
    fn only_ready_endpoints_are_used_and_terminating_ones_drain() {
        let endpoint = |last: u8, conditions: Value| json!({ "addresses": [format!("10.0.0.{last}")], "conditions": conditions });
        let mut slices = Slices::default();
        let all = json!([
            endpoint(1, json!({ "ready": true, "serving": true, "terminating": false })),
            endpoint(2, json!({ "ready": false, "serving": true, "terminating": true })),
            endpoint(3, json!({ "ready": false, "serving": false, "terminating": false })),
            endpoint(4, json!({})),
            endpoint(5, json!(null)),
            endpoint(6, json!({ "ready": true, "serving": true, "terminating": true })),
        ]);

        put(&mut slices, slice("web-a", all), &wanted(named("http")));

        assert_eq!(found(&slices), ["10.0.0.1:8080", "10.0.0.4:8080", "10.0.0.5:8080"]);
    }

    #[test]
    fn a_pod_in_two_families_and_slices_is_one_endpoint() {
        let pod = |uid: &str, address: &str| json!({ "addresses": [address], "targetRef": { "kind": "Pod", "uid": uid } });
        let manual = json!({ "addresses": ["10.0.0.9"] });
        let mut slices = Slices::default();
        let mut six = slice("web-6", json!([pod("a", "fd00::1"), pod("b", "fd00::2")]));
        six["addressType"] = json!("IPv6");

        put(&mut slices, six, &wanted(None));
        put(&mut slices, slice("web-4", json!([pod("a", "10.0.0.1"), manual])), &wanted(None));
        put(&mut slices, slice("web-5", json!([pod("a", "10.0.0.1"), manual])), &wanted(None));

        assert_eq!(found(&slices), ["10.0.0.1:8080", "10.0.0.9:8080", "[fd00::2]:8080"]);
    }

    #[test]
    fn a_slice_is_replaced_and_removed_as_a_whole() {
        let (mut slices, wanted) = (Slices::default(), wanted(None));
        let first = slice("web-a", json!([{ "addresses": ["10.0.0.1"] }]));
        put(&mut slices, first.clone(), &wanted);
        put(&mut slices, slice("web-b", json!([{ "addresses": ["10.0.0.2"] }])), &wanted);

        put(&mut slices, slice("web-b", json!(null)), &wanted);
        assert_eq!(found(&slices), ["10.0.0.1:8080"]);
        slices.remove(&serde_json::from_value(first).unwrap());
        assert!(found(&slices).is_empty() && !slices.is_empty());
    }

    #[test]
    fn a_port_is_a_name_a_number_or_the_only_one() {
        let two = json!([
            { "name": "http", "port": 8080 }, { "name": "admin", "port": 9000 }, { "name": "all", "port": null },
        ]);
        let one = json!([{ "name": "dns", "port": 53 }, { "name": "dns-tcp", "port": 53 }]);
        for (ports, port, expected) in [
            (&two, named("admin"), Some(9000)),
            (&two, Some(ServicePort::Number(7000)), Some(7000)),
            (&two, None, None),
            (&two, named("all"), None),
            (&two, named("other"), None),
            (&one, None, Some(53)),
            (&json!([]), None, None),
            (&json!(null), Some(ServicePort::Number(7000)), Some(7000)),
        ] {
            let mut slices = Slices::default();
            let mut slice = slice("web-a", json!([{ "addresses": ["10.0.0.1"] }]));
            slice["ports"] = ports.clone();

            let remarks = put(&mut slices, slice, &wanted(port.clone()));

            let wanted: Vec<_> = expected.iter().map(|port| format!("10.0.0.1:{port}")).collect();
            assert_eq!(found(&slices), wanted, "{ports} {port:?}");
            assert_eq!(remarks.without_port, usize::from(expected.is_none()), "{ports} {port:?}");
        }
    }

    #[test]
    fn addresses_that_the_api_server_would_reject_are_not_endpoints() {
        let addresses = [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "a.example",
            "169.254.169.254",
            "fe80::1",
            "10.0.0.300",
            "",
            "10.0.0.1",
        ];
        let endpoints = addresses.map(|address| json!({ "addresses": [address] }));
        let mut slices = Slices::default();

        let remarks = put(&mut slices, slice("web-a", json!(endpoints)), &wanted(None));

        assert_eq!(found(&slices), ["10.0.0.1:8080"]);
        assert_eq!(remarks.addresses.len(), 12);
    }

    #[test]
    fn slices_of_another_service_or_namespace_are_not_used() {
        for key in ["name", "namespace"] {
            let mut slices = Slices::default();
            let mut other = slice("web-a", json!([{ "addresses": ["10.0.0.1"] }]));
            match key {
                "name" => other["metadata"]["labels"]["kubernetes.io/service-name"] = json!("db"),
                _ => other["metadata"]["namespace"] = json!("kube-system"),
            }

            let remarks = put(&mut slices, other, &wanted(None));

            assert!(slices.is_empty() && remarks.foreign == 1, "{key}");
        }
    }

    #[test]
    fn mutated_slices_are_read_or_refused_and_give_only_permitted_endpoints() {
        const LETTERS: &[u8] = b"0123456789\"{}[]:,.-null";
        let pod = json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": true }, "targetRef": { "uid": "a" } });
        let text = slice("web-a", json!([pod, { "addresses": ["fd00::1"] }])).to_string();
        let mut accepted = 0;
        for seed in 0..5_000 {
            let mut dice = crate::decision::units::Dice::seeded(seed);
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                match dice.below(3) {
                    0 => bytes[at] = dice.bits() as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, LETTERS[dice.below(LETTERS.len())]),
                }
            }
            let Ok(slice) = serde_json::from_slice::<Slice>(&bytes) else { continue };
            accepted += 1;
            let (mut slices, wanted) = (Slices::default(), wanted(None));
            slices.put(slice, &wanted, &mut Remarks::default()).unwrap();
            for found in slices.endpoints() {
                let Address::Ip(address) = found.address else { panic!("seed {seed}") };
                assert!(wanted.allows(address.ip()), "seed {seed}: {address}");
            }
        }
        assert!(accepted > 500, "{accepted}");
    }

    #[test]
    fn lists_beyond_the_bounds_are_errors() {
        let endpoints = |count: usize| vec![json!({ "addresses": ["10.0.0.1"] }); count];
        let read = |value: Value| serde_json::from_value::<Slice>(value).map_err(|e| e.to_string());
        assert!(read(slice("web-a", json!(endpoints(1_000)))).is_ok());
        let error = read(slice("web-a", json!(endpoints(1_001)))).unwrap_err();
        assert_eq!(error, "a list of more than 1000");
        assert!(read(slice("web-a", json!([{ "addresses": vec!["10.0.0.1"; 101] }]))).is_err());
        assert!(read(json!({ "metadata": {} })).is_err());
        let page = serde_json::from_value::<Page>(
            json!({ "kind": "EndpointSliceList", "metadata": { "resourceVersion": "1" } }),
        );
        assert!(page.is_err(), "no list is not the empty list");

        let (mut slices, wanted) = (Slices::default(), wanted(None));
        let mut error = None;
        for number in 0..=10 {
            let slice = slice(&format!("web-{number}"), json!(endpoints(1_000)));
            let slice = serde_json::from_value(slice).unwrap();
            error = slices.put(slice, &wanted, &mut Remarks::default()).err();
        }
        assert_eq!(error.unwrap(), "the Service has more than 10000 ready endpoints");
    }
}
