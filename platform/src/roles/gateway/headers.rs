//! Which headers go on, and which are between two neighbours only (RFC 9110, section 7.6.1).

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const BETWEEN_NEIGHBOURS: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes away what is between two neighbours, and what `Connection` says is. `Host` never is: without it a request would be
/// one to the address that we know of a server.
pub fn strip(headers: &mut HeaderMap) {
    let named = listed(headers, &CONNECTION).filter_map(|name| name.parse().ok());
    let named: Vec<HeaderName> = named.filter(|name| *name != HOST).collect();
    for name in BETWEEN_NEIGHBOURS.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Makes a request's headers those of a request whose body is there in whole.
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    // said anew of the body as it goes on
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
}

/// The words of a header that is a list, in lower case.
fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'h {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|word| word.trim().to_ascii_lowercase())
}

/// Whether a socket is asked for.
pub fn asks_for_socket(headers: &HeaderMap) -> bool {
    listed(headers, &CONNECTION).any(|word| word == "upgrade")
        && listed(headers, &UPGRADE).any(|word| word == "websocket")
}

/// Says that a message becomes a socket.
pub fn upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Notes in `Via` that a request came by here as `name`. `false`: it has been here before.
pub fn note(headers: &mut HeaderMap, name: &str) -> bool {
    if listed(headers, &VIA).any(|hop| hop.split(' ').nth(1) == Some(name)) {
        return false;
    }
    if let Ok(hop) = HeaderValue::from_str(&format!("1.1 {name}")) {
        headers.append(VIA, hop);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_is_between_neighbours_goes_no_further() {
        let mut request = headers(&[
            ("connection", "keep-alive, X-Secret, Host"),
            ("host", "shop.example"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("te", "trailers"),
            ("authorization", "Bearer x"),
            ("idempotency-key", "k"),
        ]);
        strip_request(&mut request);
        let mut left: Vec<_> = request.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "host", "idempotency-key"]);
    }

    #[test]
    fn a_socket_is_asked_for_with_both_headers() {
        assert!(asks_for_socket(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!asks_for_socket(&headers(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!asks_for_socket(&headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn who_has_been_here_is_known() {
        let mut request = headers(&[("via", "1.1 tributary-7")]);
        assert!(note(&mut request, "tributary-8"));
        assert!(!note(&mut request, "tributary-8") && !note(&mut request, "tributary-7"));
    }
}
