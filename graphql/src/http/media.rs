//! Which media type the client takes, and whether what it sends is JSON in UTF-8.

use axum::http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE},
};

/// The most ranges of an Accept header that are looked at; the rest is as if it were not there.
const ACCEPT_RANGES_MAX: usize = 32;

/// The media types of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/graphql-response+json`: the status says what happened.
    GraphqlResponse,
    /// `application/json`: a well-formed request is answered 200, whatever is wrong with its document.
    Json,
}

impl Media {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }
}

/// The media type of the answer; `None` when the client takes neither.
///
/// No Accept header means `application/json`, as the specification asks of servers until clients have moved.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Media> {
    if headers.get_all(ACCEPT).iter().all(|value| value.as_bytes().trim_ascii().is_empty()) {
        return Some(Media::Json);
    }
    let ranges = ranges(headers);
    let new = preference(&ranges, "application", "graphql-response+json");
    let old = preference(&ranges, "application", "json");
    match (new, old) {
        (None, None) => None,
        (Some(_), None) => Some(Media::GraphqlResponse),
        (None, Some(_)) => Some(Media::Json),
        // A client that names the newer type gets it unless it prefers the older; `*/*` gets the older.
        (Some(new), Some(old)) if new.weight != old.weight => {
            Some(if new.weight > old.weight { Media::GraphqlResponse } else { Media::Json })
        }
        (Some(new), Some(_)) if new.precision == EXACT => Some(Media::GraphqlResponse),
        (Some(_), Some(_)) => Some(Media::Json),
    }
}

/// Whether the client takes an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    No,
    /// For what can only be told as a stream; it takes JSON too.
    Also,
    /// It is what it likes best, or all that it takes.
    Rather,
}

/// What the client thinks of `text/event-stream`. It must name it: `*/*` is said by those who do not know it.
pub(super) fn wants_events(headers: &HeaderMap) -> Events {
    let ranges = ranges(headers);
    let Some(events) = preference(&ranges, "text", "event-stream").filter(|events| events.precision == EXACT) else {
        return Events::No;
    };
    let is_rather = [("application", "graphql-response+json"), ("application", "json")]
        .into_iter()
        .filter_map(|(kind, subtype)| preference(&ranges, kind, subtype))
        .all(|other| other.precision < EXACT || other.weight < events.weight);
    if is_rather { Events::Rather } else { Events::Also }
}

/// Whether the client is a browser that wants a page: it names `text/html`, and prefers it.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let ranges = ranges(headers);
    let Some(html) = preference(&ranges, "text", "html").filter(|html| html.precision == EXACT) else { return false };
    [("application", "graphql-response+json"), ("application", "json")]
        .into_iter()
        .filter_map(|(kind, subtype)| preference(&ranges, kind, subtype))
        .all(|other| other.precision < EXACT || other.weight < html.weight)
}

/// Whether the body is declared as JSON in UTF-8, the only form that is taken.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    is_json && parts.all(charset_fits)
}

/// True for every parameter that is not a charset, and for the charset UTF-8.
fn charset_fits(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    }
}

/// How well a range names a type: `type/subtype` beats `type/*` beats `*/*`.
type Precision = u8;
const EXACT: Precision = 2;

struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// The weight `q` in thousandths.
    weight: u16,
}

struct Preference {
    precision: Precision,
    weight: u16,
}

fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).filter(|range| !range.trim().is_empty());
    ranges.take(ACCEPT_RANGES_MAX).filter_map(range).collect()
}

/// One range; `None` if it asks for a charset that we do not write.
fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let mut weight = 1_000;
    for parameter in parts {
        match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => weight = thousandths(value.trim()),
            _ if !charset_fits(parameter) => return None,
            _ => {}
        }
    }
    Some(Range { kind, subtype, weight })
}

/// `0.85` is 850; what is no weight counts as 0, so that a typing error never means "I like it best".
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("1", true) => 1_000,
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// What the client thinks of a type: the most precise range that fits it decides; `None` when it refuses the type.
fn preference(ranges: &[Range], kind: &str, subtype: &str) -> Option<Preference> {
    let fitting = ranges.iter().filter_map(|range| {
        let kind_fits = range.kind.eq_ignore_ascii_case(kind);
        let precision = match range.subtype {
            "*" if range.kind == "*" => 0,
            "*" if kind_fits => 1,
            named if kind_fits && named.eq_ignore_ascii_case(subtype) => EXACT,
            _ => return None,
        };
        Some(Preference { precision, weight: range.weight })
    });
    fitting.max_by_key(|preference| (preference.precision, preference.weight)).filter(|best| best.weight > 0)
}
