//! A request as the conditions of routes see it.

use super::variables::scheme;
use crate::decision::matching::RequestFacts;
use crate::http::request::RequestHead;
use crate::l7::connection_info::ConnectionInfo;
use std::net::IpAddr;

/// A request head, and the connection that it came by.
pub(super) struct Asked<'a> {
    pub(super) info: &'a ConnectionInfo,
    pub(super) head: &'a RequestHead,
}

impl RequestFacts for Asked<'_> {
    fn has_field(&self, name: &str, test: &dyn Fn(&[u8]) -> bool) -> bool {
        self.head.has_value(name, test)
    }

    fn query(&self) -> &str {
        self.head.target().query()
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.info.client(self.head))
    }

    fn is_https(&self) -> bool {
        scheme(self.info, self.head) == "https"
    }
}
