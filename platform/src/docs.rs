//! `/openapi.json`, the documents of all services in one, and `/docs`, the page that shows it: Swagger UI from the binary.
//!
//! As with the playground, the page's policy (CSP) lets the browser load nothing from elsewhere. Where the files are from:
//! `assets/VENDORED.md`.

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderMap, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use write_side::edge::{
    self, Api,
    openapi::{document, routes::json},
};

const PAGE: &str = include_str!("../assets/docs.html");

/// Swagger UI sets inline styles; scripts come from files alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page: its name in the address, type and bytes.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

static ASSETS: [Asset; 3] = [
    Asset {
        name: "docs.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/docs.js"),
    },
    Asset {
        name: "swagger-ui-bundle.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/vendored/swagger-ui-bundle.js"),
    },
    Asset {
        name: "swagger-ui.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/vendored/swagger-ui.css"),
    },
];

/// The document of `apis` and its page.
pub fn router(apis: &[Api]) -> Router {
    let document = document::of(apis).to_string();
    page().route("/openapi.json", get(async move || json(document)))
}

/// The page alone, which shows what `/openapi.json` says.
pub fn page() -> Router {
    Router::new().route("/docs", get(shown)).route("/docs/assets/{name}", get(asset))
}

async fn shown() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, PAGE).into_response()
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return edge::not_found().await.into_response();
    };
    // the address stays when the binary changes, so the browser asks; the answer is then a short 304
    let etag = format!("\"{}-{:x}\"", env!("CARGO_PKG_VERSION"), asset.bytes.len());
    let caching = [
        (CACHE_CONTROL, HeaderValue::from_static("public, no-cache")),
        (ETAG, HeaderValue::from_str(&etag).expect("digits and dots in quotes are a header value")),
    ];
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|tag| tag.trim() == etag) {
        return (axum::http::StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (caching, kind, asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn vendored_files_have_the_listed_hashes() {
        let listed = include_str!("../assets/sha256.txt");
        for asset in ASSETS.iter().filter(|asset| asset.name.starts_with("swagger")) {
            let hash: String = Sha256::digest(asset.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(listed.contains(&format!("{hash}  {}\n", asset.name)), "{}", asset.name);
        }
    }

    #[test]
    fn the_page_loads_its_own_files_and_nothing_from_elsewhere() {
        let named: Vec<&str> =
            PAGE.split("docs/assets/").skip(1).map(|rest| rest.split('"').next().expect("a first part")).collect();
        assert_eq!(named.len(), ASSETS.len());
        assert!(named.iter().all(|name| ASSETS.iter().any(|asset| asset.name == *name)), "{named:?}");
        let script = std::str::from_utf8(ASSETS[0].bytes).expect("text");
        for outside in ["http://", "https://", "src=\"//", "href=\"//", "<script>", "<style", " onload="] {
            assert!(!PAGE.contains(outside) && !script.contains(outside), "{outside}");
        }
        let style = std::str::from_utf8(ASSETS[2].bytes).expect("text");
        assert!(style.split("url(").skip(1).all(|url| url.trim_start_matches(['"', '\'']).starts_with("data:")));
        assert!(!style.contains("@import") && POLICY.contains("script-src 'self';"));
    }
}
