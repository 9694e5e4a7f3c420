//! The settings of a route's requests at one of its destinations: the settings of the service, overridden by
//! those of the route.
//!
//! Both are known when the plan is built, so they are merged at that time: a request reads [`Terms`] without any
//! lookup.

use super::compression::Compression;
use super::edits::ByListener;
use super::plan::{Affinity, ClassIndex, EndpointPolicy, HashKey, Service};
use std::sync::Arc;
use std::time::Duration;

/// One of the destinations of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The class of the destination.
    pub class: ClassIndex,
    /// The settings of its requests.
    pub terms: Terms,
}

/// The merged settings for the requests of a route at one of its destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// To the response head, for one attempt.
    pub timeout: Duration,
    /// To the end of the response, over all attempts.
    pub total_timeout: Option<Duration>,
    /// Retries of one request, at most.
    pub retries_max: u32,
    /// The priority when every cluster is overloaded: 0 to 9; the lowest is shed first.
    pub priority: u8,
    /// The hash key, if the service chooses endpoints by a hash.
    pub hash_key: Option<HashKey>,
    /// Whether a client stays at the endpoint that served it first.
    pub affinity: Option<Affinity>,
    /// How long to wait for a response before a hedge is sent to another endpoint.
    pub hedge: Option<Duration>,
    /// Compression of responses; never for sensitive data.
    pub compression: Option<Arc<Compression>>,
    /// Edits of the request's head.
    pub request_edits: ByListener,
    /// Edits of the response's head.
    pub response_edits: ByListener,
}

/// The settings of a route that override those of its services; `None` keeps the service's value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// To the response head.
    pub timeout: Option<Duration>,
    /// To the end of the response; `Some(None)` removes the service's limit.
    pub total_timeout: Option<Option<Duration>>,
    /// To the response head of one attempt; `Some(None)` removes the service's limit.
    pub per_try_timeout: Option<Option<Duration>>,
    /// Retries of one request.
    pub retries: Option<u32>,
    /// The priority, 0 to 9.
    pub priority: Option<u8>,
    /// The key of the `hash` policy.
    pub hash_key: Option<HashKey>,
    /// Whether a client stays at the endpoint that served it first.
    pub affinity: Option<Affinity>,
    /// How long to wait before a hedge is sent; `Some(None)` turns the service's hedge off.
    pub hedge: Option<Option<Duration>>,
    /// Compression of responses; `Some(None)` turns the service's off.
    pub compression: Option<Option<Arc<Compression>>>,
}

impl Terms {
    /// The settings of `service`, with the overrides of a route; without edits of heads, which depend on listeners.
    #[must_use]
    pub fn resolve(service: &Service, overrides: &Overrides) -> Terms {
        let per_try = overrides.per_try_timeout.unwrap_or(service.per_try_timeout);
        let hash_key = overrides.hash_key.as_ref().unwrap_or(&service.hash_key);
        let hashes = service.endpoint_policy == EndpointPolicy::Hash;
        Terms {
            timeout: overrides
                .timeout
                .unwrap_or(service.timeout)
                .min(per_try.unwrap_or(Duration::MAX)),
            total_timeout: overrides.total_timeout.unwrap_or(service.total_timeout),
            retries_max: overrides.retries.unwrap_or(service.retry.retries),
            priority: overrides.priority.unwrap_or(service.priority),
            hash_key: hashes.then(|| hash_key.clone()),
            affinity: overrides.affinity.as_ref().or(service.affinity.as_ref()).cloned(),
            hedge: overrides.hedge.unwrap_or(service.hedge),
            compression: overrides.compression.as_ref().unwrap_or(&service.compression).clone(),
            request_edits: ByListener::default(),
            response_edits: ByListener::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compression::Algorithm;
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn service() -> Service {
        Service {
            total_timeout: Some(seconds(60)),
            hedge: Some(seconds(1)),
            ..Service::named("shop", Vec::new())
        }
    }

    fn compression(min_size: u64) -> Compression {
        Compression { algorithms: vec![Algorithm::Gzip], types: Vec::new(), min_size }
    }

    #[test]
    fn a_route_compresses_as_its_service_does_or_in_its_own_way() {
        let with = |min_size| Some(Arc::new(compression(min_size)));
        let service = Service { compression: with(1), ..service() };
        let own = Overrides { compression: Some(with(2)), ..Overrides::default() };

        assert_eq!(Terms::resolve(&service, &Overrides::default()).compression, with(1));
        assert_eq!(Terms::resolve(&service, &own).compression, with(2));
    }

    #[test]
    fn a_route_inherits_the_settings_of_its_service() {
        let terms = Terms::resolve(&service(), &Overrides::default());

        assert_eq!((terms.timeout, terms.total_timeout), (seconds(15), Some(seconds(60))));
        assert_eq!((terms.retries_max, terms.priority), (1, 5));
        assert_eq!(terms.hedge, Some(seconds(1)));
        assert_eq!(terms.hash_key, None, "its endpoints are not chosen by a hash");
    }

    #[test]
    fn a_route_overrides_settings_and_may_remove_a_bound() {
        let key = HashKey::Header("x-user".to_owned());
        let overrides = Overrides {
            timeout: Some(seconds(9)),
            total_timeout: Some(None),
            per_try_timeout: Some(Some(seconds(2))),
            retries: Some(3),
            priority: Some(7),
            hash_key: Some(key.clone()),
            affinity: None,
            hedge: Some(None),
            compression: Some(None),
        };
        let hashing = Service {
            endpoint_policy: EndpointPolicy::Hash,
            compression: Some(Arc::new(compression(1024))),
            ..service()
        };

        let terms = Terms::resolve(&hashing, &overrides);

        assert_eq!((terms.timeout, terms.total_timeout), (seconds(2), None));
        assert_eq!((terms.retries_max, terms.priority, terms.hedge), (3, 7, None));
        assert_eq!(terms.compression, None);
        assert_eq!(terms.hash_key, Some(key));
    }
}
