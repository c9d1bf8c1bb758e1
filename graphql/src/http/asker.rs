//! Who asks, until when, and from where.

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use axum::{
    extract::ConnectInfo,
    http::{
        Extensions, HeaderMap, HeaderName,
        header::{HOST, ORIGIN},
    },
};
use events::principal::Principal;

use crate::live::options::{Admitted, LiveOptions};

/// Who asks for an operation.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) principal: Principal,
    /// When what they have shown ends.
    pub(super) until: Option<SystemTime>,
    /// The cursor that an event stream's client comes back with by itself.
    pub(super) resume_after: Option<String>,
    address: Option<IpAddr>,
}

impl Asker {
    /// Whoever stands in front of the router has said who it is. Where nobody has, and nobody is asked to, it is anybody.
    pub(super) fn of(options: &LiveOptions, extensions: &Extensions) -> Self {
        let admitted = extensions.get::<Admitted>();
        let principal = admitted.map(|admitted| &admitted.principal).or_else(|| extensions.get::<Principal>());
        let principal = principal.cloned().unwrap_or_else(|| match options.authenticate {
            None => Principal::anonymous(),
            Some(_) => Principal::nobody(),
        });
        let address = extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        Self { principal, until: admitted.and_then(|admitted| admitted.until), resume_after: None, address }
    }

    /// The same connection, once it is known who is at its other end.
    pub(super) fn admitted(&self, Admitted { principal, until }: Admitted) -> Self {
        Self { principal, until, resume_after: None, address: self.address }
    }

    /// Against whose share of what runs at once it counts.
    pub(super) fn counted(&self) -> events::asker::Asker {
        events::asker::Asker::of(&self.principal, self.address)
    }
}

/// Says of a request how the page that makes it and the address it goes to are related. Only browsers send it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a page of this origin may open what stays open. A page can be opened by accident, and its scripts then act from
/// its visitor's machine. Browsers say where a page comes from, or, of requests whose answers it cannot read, that it is
/// another site's; programs say neither.
pub(super) fn origin_is_allowed(options: &LiveOptions, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return headers.get(SEC_FETCH_SITE).is_none_or(|site| site != "cross-site");
    };
    let Ok(origin) = origin.to_str() else { return false };
    let is_own = origin.split_once("://").is_some_and(|(_, authority)| {
        headers.get(HOST).is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()))
    });
    is_own || options.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origin: Option<&str>, host: &str, expected: bool) {
        let options =
            LiveOptions { allowed_origins: vec!["https://shop.example.com".to_owned()], ..LiveOptions::default() };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        assert_eq!(origin_is_allowed(&options, &headers), expected, "{origin:?} at {host}");
    }

    #[test]
    fn pages_of_this_address_and_of_allowed_origins_may_and_no_others() {
        check(None, "127.0.0.1:8080", true);
        check(Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true);
        check(Some("https://shop.example.com"), "api.example.com", true);
        check(Some("http://127.0.0.1:8081"), "127.0.0.1:8080", false);
        check(Some("http://shop.example.com"), "api.example.com", false);
        check(Some("https://shop.example.com.evil.example"), "api.example.com", false);
        check(Some("null"), "127.0.0.1:8080", false);
    }

    #[test]
    fn another_sites_page_is_known_also_where_it_has_no_origin() {
        for (site, expected) in [("cross-site", false), ("same-origin", true), ("none", true)] {
            let headers = HeaderMap::from_iter([(SEC_FETCH_SITE, site.parse().unwrap())]);
            assert_eq!(origin_is_allowed(&LiveOptions::default(), &headers), expected, "{site}");
        }
    }
}
