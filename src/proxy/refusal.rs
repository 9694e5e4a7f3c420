//! Why an exchange was not served, and what is told to whom.

/// Why an exchange was not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The bytes are not HTTP as we read it.
    BadRequest,
    /// No route matches host and path.
    NoRoute,
    /// A route matches, but not for this method.
    MethodNotAllowed,
    /// The client was too slow with its request.
    RequestTimeout,
    /// The body is longer than the limit.
    BodyTooLarge,
    /// The target is longer than the limit.
    UriTooLong,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// The head is longer than the limit, or has too many fields.
    HeadersTooLarge,
    /// A transfer coding we do not know.
    NotImplemented,
    /// The cluster accepted no connection.
    UpstreamConnect,
    /// The cluster's connection died before a response.
    UpstreamReset,
    /// The cluster's answer is not HTTP as we read it.
    UpstreamMalformed,
    /// No cluster may serve it.
    NoPermittedCluster,
    /// All clusters that may serve it are down.
    NoHealthyCluster,
    /// All that may serve it are full.
    Overloaded,
    /// The proxy is going away.
    Draining,
    /// No response head in time.
    UpstreamTimeout,
    /// It has been through this site already.
    Loop,
    /// Only priced clusters are left, and the money is spent.
    Budget,
    /// The connection is for a host of another certificate.
    Misdirected,
    /// Nobody has proved who is asking.
    Unauthorized,
    /// Not from there.
    Forbidden,
    /// It came too soon.
    RateLimited,
}

impl Refusal {
    /// All of them, in the order of their counters.
    pub const ALL: [Refusal; 23] = [
        Refusal::BadRequest,
        Refusal::NoRoute,
        Refusal::MethodNotAllowed,
        Refusal::RequestTimeout,
        Refusal::BodyTooLarge,
        Refusal::UriTooLong,
        Refusal::ExpectationFailed,
        Refusal::HeadersTooLarge,
        Refusal::NotImplemented,
        Refusal::UpstreamConnect,
        Refusal::UpstreamReset,
        Refusal::UpstreamMalformed,
        Refusal::NoPermittedCluster,
        Refusal::NoHealthyCluster,
        Refusal::Overloaded,
        Refusal::Draining,
        Refusal::UpstreamTimeout,
        Refusal::Loop,
        Refusal::Budget,
        Refusal::Misdirected,
        Refusal::Unauthorized,
        Refusal::Forbidden,
        Refusal::RateLimited,
    ];

    /// The status told to the client, and the word for it in headers, metrics and logs.
    #[must_use]
    pub fn tell(self) -> (u16, &'static str) {
        match self {
            Refusal::BadRequest => (400, "bad_request"),
            Refusal::NoRoute => (404, "no_route"),
            Refusal::MethodNotAllowed => (405, "method_not_allowed"),
            Refusal::RequestTimeout => (408, "request_timeout"),
            Refusal::BodyTooLarge => (413, "body_too_large"),
            Refusal::UriTooLong => (414, "uri_too_long"),
            Refusal::ExpectationFailed => (417, "expectation_failed"),
            Refusal::HeadersTooLarge => (431, "headers_too_large"),
            Refusal::NotImplemented => (501, "not_implemented"),
            Refusal::UpstreamConnect => (502, "upstream_connect"),
            Refusal::UpstreamReset => (502, "upstream_reset"),
            Refusal::UpstreamMalformed => (502, "upstream_malformed"),
            Refusal::NoPermittedCluster => (503, "no_permitted_cluster"),
            Refusal::NoHealthyCluster => (503, "no_healthy_cluster"),
            Refusal::Overloaded => (503, "overloaded"),
            Refusal::Draining => (503, "draining"),
            Refusal::UpstreamTimeout => (504, "upstream_timeout"),
            Refusal::Loop => (508, "loop"),
            Refusal::Budget => (503, "budget"),
            Refusal::Misdirected => (421, "misdirected"),
            Refusal::Unauthorized => (401, "unauthorized"),
            Refusal::Forbidden => (403, "forbidden"),
            Refusal::RateLimited => (429, "rate_limited"),
        }
    }

    /// The status a gRPC client is told.
    #[must_use]
    pub fn grpc_status(self) -> u8 {
        match self {
            Refusal::Overloaded | Refusal::RateLimited => 8,
            Refusal::Unauthorized => 16,
            Refusal::Forbidden => 7,
            Refusal::UpstreamTimeout | Refusal::RequestTimeout => 4,
            Refusal::BadRequest
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong
            | Refusal::HeadersTooLarge
            | Refusal::ExpectationFailed => 3,
            Refusal::NoRoute | Refusal::MethodNotAllowed | Refusal::NotImplemented => 12,
            Refusal::UpstreamConnect
            | Refusal::UpstreamReset
            | Refusal::UpstreamMalformed
            | Refusal::NoPermittedCluster
            | Refusal::NoHealthyCluster
            | Refusal::Draining
            | Refusal::Loop
            | Refusal::Misdirected
            | Refusal::Budget => 14,
        }
    }

    /// The word alone.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.tell().1
    }

    /// Its place among the counters.
    #[must_use]
    pub fn index(self) -> usize {
        Refusal::ALL.iter().position(|known| *known == self).unwrap_or(0)
    }

    /// Whether the client's connection can go on: only if its request was read to the end.
    #[must_use]
    pub fn keeps_connection(self) -> bool {
        match self {
            Refusal::NoRoute
            | Refusal::MethodNotAllowed
            | Refusal::UpstreamConnect
            | Refusal::UpstreamReset
            | Refusal::UpstreamMalformed
            | Refusal::NoPermittedCluster
            | Refusal::NoHealthyCluster
            | Refusal::Overloaded
            | Refusal::UpstreamTimeout
            | Refusal::Loop
            | Refusal::Unauthorized
            | Refusal::Forbidden
            | Refusal::RateLimited
            | Refusal::Budget => true,
            Refusal::BadRequest
            | Refusal::RequestTimeout
            | Refusal::BodyTooLarge
            | Refusal::UriTooLong
            | Refusal::ExpectationFailed
            | Refusal::HeadersTooLarge
            | Refusal::NotImplemented
            | Refusal::Misdirected
            | Refusal::Draining => false,
        }
    }
}

impl From<crate::http::Violation> for Refusal {
    fn from(violation: crate::http::Violation) -> Refusal {
        use crate::http::Violation;
        match violation {
            Violation::Malformed(_) => Refusal::BadRequest,
            Violation::TargetTooLong => Refusal::UriTooLong,
            Violation::HeadTooLarge => Refusal::HeadersTooLarge,
            Violation::UnknownCoding => Refusal::NotImplemented,
            Violation::Expectation => Refusal::ExpectationFailed,
            Violation::Method => Refusal::MethodNotAllowed,
        }
    }
}

impl From<&crate::policy::Refused> for Refusal {
    fn from(why: &crate::policy::Refused) -> Refusal {
        use crate::policy::Refused;
        match why {
            Refused::Forbidden => Refusal::Forbidden,
            Refused::Rate(_) => Refusal::RateLimited,
            Refused::Unauthorized(_) => Refusal::Unauthorized,
            Refused::Full => Refusal::Overloaded,
            Refused::Unavailable => Refusal::UpstreamConnect,
            Refused::Told(told) if told.status == 401 || told.status < 400 => Refusal::Unauthorized,
            Refused::Told(_) => Refusal::Forbidden,
        }
    }
}

/// The reason phrase of a status we send ourselves.
#[must_use]
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        _ => "Response",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_counter_and_word() {
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), index, "{refusal:?}");
            let (status, word) = refusal.tell();
            assert!((400..600).contains(&status) && phrase(status) != "Response");
            assert_eq!(Refusal::ALL.iter().filter(|other| other.label() == word).count(), 1);
        }
    }
}
