//! GraphiQL, from the binary: no network but this server is needed.
//!
//! Scripts and styles come from files of our own only, and the page's policy (CSP) lets the browser load nothing else.
//! Where the files are from: `assets/VENDORED.md`.

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};

const PAGE: &str = include_str!("../assets/playground.html");

/// The hashes of the vendored files, in the form that `sha256sum --check` reads.
const HASHES: &str = include_str!("../assets/sha256.txt");

/// What the page may load and do. GraphiQL's editor sets inline styles; scripts come from files alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A file of the page: its name in the address, type and bytes.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($directory:literal, $name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../assets/", $directory, $name)),
        }
    };
}

static ASSETS: [Asset; 8] = [
    asset!("", "playground.js", SCRIPT),
    asset!("", "playground.css", STYLE),
    asset!("vendored/", "react.production.min.js", SCRIPT),
    asset!("vendored/", "react-dom.production.min.js", SCRIPT),
    asset!("vendored/", "graphiql.min.js", SCRIPT),
    asset!("vendored/", "graphiql.min.css", STYLE),
    asset!("vendored/", "graphiql-plugin-explorer.umd.js", SCRIPT),
    asset!("vendored/", "graphiql-plugin-explorer.css", STYLE),
];

/// The page's files, under the endpoint's address.
pub(crate) fn router() -> Router {
    Router::new().route("/graphql/assets/{name}", get(asset))
}

/// The page itself.
pub(crate) fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (VARY, HeaderValue::from_static("accept")),
    ];
    (headers, PAGE).into_response()
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = etag(asset);
    let caching = [
        // the address stays when a version changes, so the browser asks; the answer is then a short 304
        (CACHE_CONTROL, HeaderValue::from_static("public, no-cache")),
        (ETAG, HeaderValue::from_str(&etag).expect("an ETag of ours is hexadecimal digits in quotes")),
    ];
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|value| value.split(',')).any(|tag| matches!(tag.trim(), "*") || tag.trim() == etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (caching, kind, asset.bytes).into_response()
}

/// The vendored files' hash from the list; our own files change with the program's version, and while it is being
/// written with their length.
fn etag(asset: &Asset) -> String {
    match listed_hash(asset.name) {
        Some(hash) => format!("\"{}\"", &hash[..16]),
        None => format!("\"{}-{:x}\"", env!("CARGO_PKG_VERSION"), checksum(asset.bytes)),
    }
}

/// FNV-1a: not a secret, only another number for another file.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn listed_hash(name: &str) -> Option<&'static str> {
    HASHES.lines().filter_map(|line| line.split_once("  ")).find(|(_, listed)| *listed == name).map(|(hash, _)| hash)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn vendored_files_have_the_listed_hashes() {
        assert_eq!(HASHES.lines().count(), 6, "every listed file is served");
        for asset in ASSETS.iter().filter(|asset| !asset.name.starts_with("playground.")) {
            let hash: String = Sha256::digest(asset.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(listed_hash(asset.name), Some(hash.as_str()), "{}", asset.name);
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let ours = [PAGE.as_bytes(), ASSETS[0].bytes, ASSETS[1].bytes];
        for text in ours.map(|bytes| std::str::from_utf8(bytes).unwrap()) {
            for outside in ["http://", "https://", "src=\"//", "href=\"//", "@import", "url("] {
                assert!(!text.contains(outside), "{outside} in a file of the page");
            }
        }
        for style in ASSETS.iter().filter(|asset| asset.content_type == STYLE) {
            let text = std::str::from_utf8(style.bytes).unwrap();
            let outside =
                text.split("url(").skip(1).find(|url| !url.trim_start_matches(['"', '\'']).starts_with("data:"));
            assert_eq!(outside.map(|url| &url[..40]), None, "{} loads a file", style.name);
            assert!(!text.contains("@import"), "{} imports a file", style.name);
        }
    }

    #[test]
    fn the_page_names_only_files_that_are_served() {
        let named = PAGE.split("graphql/assets/").skip(1).map(|rest| rest.split('"').next().unwrap());
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), ASSETS.len());
        for name in named {
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
        }
    }

    #[test]
    fn the_policy_allows_no_inline_script_and_no_other_host() {
        assert!(POLICY.contains("script-src 'self';"));
        assert!(!PAGE.contains("<script>") && !PAGE.contains(" onload=") && !PAGE.contains("<style"));
    }
}
