//! The `Consistency-Token`: which point of which logs a reader must have reached.
//!
//! Text form: one `source:epoch:position:anchor` per log, joined by commas, for example
//! `orders:9f1c2ab34d5e:1042:77aa01bc23de`. Epoch and anchor are the last twelve hex digits (the random part) of the
//! log's epoch and of the event at that position; position 0 has the anchor `-`. The token is opaque to clients.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use thiserror::Error;
use uuid::Uuid;

/// The header that carries a token, in requests and answers.
pub const TOKEN_HEADER: &str = "consistency-token";

/// The header that says how long a reader may wait for a token: see [`parse_wait`].
pub const WAIT_HEADER: &str = "consistency-wait";

/// How long a reader waits for its token when it does not say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(2);

/// The longest that a reader may ask to wait: a longer wait would outlive the proxies between us.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The most logs that one token may name.
pub const TOKEN_SOURCES_MAX: usize = 32;

/// The longest name of a log, in characters.
pub const SOURCE_CHARS_MAX: usize = 64;

/// Whether a log may be called so: a token names it, between colons and commas.
pub fn may_be_source(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=SOURCE_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// A point of one log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    pub epoch: ShortId,
    pub position: u64,
    /// The event at `position`; `None` at position 0.
    pub anchor: Option<ShortId>,
}

/// The last twelve hex digits of a UUID: enough to tell two logs or two events at one place apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortId([u8; 6]);

impl ShortId {
    pub fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl From<Uuid> for ShortId {
    fn from(id: Uuid) -> Self {
        let mut short = [0; 6];
        short.copy_from_slice(&id.as_bytes()[10..]);
        Self(short)
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ShortId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenError);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| TokenError)?;
        let mut short = [0; 6];
        short.copy_from_slice(&number.to_be_bytes()[2..]);
        Ok(Self(short))
    }
}

/// Points of several logs, by source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConsistencyToken {
    points: BTreeMap<String, Point>,
}

impl ConsistencyToken {
    /// The token of one point of one log.
    pub fn of(source: &str, epoch: Uuid, position: u64, anchor: Option<Uuid>) -> Self {
        let mut token = Self::default();
        token.add(source, Point { epoch: epoch.into(), position, anchor: anchor.map(ShortId::from) });
        token
    }

    /// Adds a point; of two points of one log the later one stays.
    pub fn add(&mut self, source: &str, point: Point) {
        match self.points.get(source) {
            Some(held) if held.position >= point.position && held.epoch == point.epoch => {}
            _ => {
                self.points.insert(source.to_owned(), point);
            }
        }
    }

    /// Adds every point of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (source, point) in &other.points {
            self.add(source, point.clone());
        }
    }

    pub fn point(&self, source: &str) -> Option<&Point> {
        self.points.get(source)
    }

    pub fn points(&self) -> impl Iterator<Item = (&str, &Point)> {
        self.points.iter().map(|(source, point)| (source.as_str(), point))
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

impl fmt::Display for ConsistencyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (source, point)) in self.points.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            write!(f, "{source}:{}:{}:", point.epoch, point.position)?;
            match point.anchor {
                Some(anchor) => write!(f, "{anchor}")?,
                None => f.write_str("-")?,
            }
        }
        Ok(())
    }
}

impl FromStr for ConsistencyToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut token = Self::default();
        for (n, part) in text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate() {
            if n == TOKEN_SOURCES_MAX {
                return Err(TokenError);
            }
            let mut fields = part.split(':');
            let (Some(source), Some(epoch), Some(position), Some(anchor), None) =
                (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(TokenError);
            };
            if !may_be_source(source) {
                return Err(TokenError);
            }
            let position: u64 = position.parse().map_err(|_| TokenError)?;
            let anchor = if anchor == "-" { None } else { Some(anchor.parse()?) };
            if position > i64::MAX as u64 || (position == 0) != anchor.is_none() {
                return Err(TokenError);
            }
            token.add(source, Point { epoch: epoch.parse()?, position, anchor });
        }
        Ok(token)
    }
}

/// What `Consistency-Wait` says: milliseconds (`1500`, `1500ms`) or seconds (`2s`), at most [`WAIT_MAX`].
pub fn parse_wait(text: &str) -> Result<Duration, WaitError> {
    let text = text.trim();
    let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1_000),
        (None, None) => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WaitError);
    }
    let wait_ms = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or(WaitError)?;
    Some(Duration::from_millis(wait_ms)).filter(|wait| *wait <= WAIT_MAX).ok_or(WaitError)
}

/// Token and wait of one request, from the values of its headers. Both edges read them here, so that both take the same:
/// `Consistency-Token` is a list and may stand several times; `Consistency-Wait` stands at most once, and empty is as good
/// as absent. `None` for a value: it is not text.
pub fn from_headers<'h>(
    tokens: impl Iterator<Item = Option<&'h str>>,
    mut waits: impl Iterator<Item = Option<&'h str>>,
) -> Result<(ConsistencyToken, Duration), HeaderError> {
    let mut token = ConsistencyToken::default();
    for text in tokens {
        token.merge(&text.ok_or(TokenError)?.parse()?);
    }
    let wait = match (waits.next(), waits.next()) {
        (None, _) => WAIT_DEFAULT,
        (Some(Some(text)), None) if text.trim().is_empty() => WAIT_DEFAULT,
        (Some(Some(text)), None) => parse_wait(text)?,
        (Some(_), _) => return Err(WaitError.into()),
    };
    Ok((token, wait))
}

/// Which of the two headers is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("{TOKEN_HEADER}: {0}")]
    Token(#[from] TokenError),
    #[error("{WAIT_HEADER}: {0}")]
    Wait(#[from] WaitError),
}

/// The text is not a time that a reader may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a wait is milliseconds (1500 or 1500ms) or seconds (2s), and at most 30s")]
pub struct WaitError;

/// The text is not a token that we gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a consistency token: pass on, unchanged, what an earlier answer carried in Consistency-Token")]
pub struct TokenError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_survives_its_text(points in proptest::collection::btree_map("[a-z]{1,8}", (any::<u128>(), 0_u64..1 << 60, any::<u128>()), 0..4)) {
            let mut token = ConsistencyToken::default();
            for (source, (epoch, position, anchor)) in &points {
                let anchor = (*position > 0).then(|| Uuid::from_u128(*anchor));
                token.merge(&ConsistencyToken::of(source, Uuid::from_u128(*epoch), *position, anchor));
            }
            prop_assert_eq!(token.to_string().parse::<ConsistencyToken>(), Ok(token));
        }

        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,80}") {
            let _ = text.parse::<ConsistencyToken>();
        }
    }

    #[test]
    fn of_two_points_of_one_log_the_later_stays() {
        let epoch = Uuid::from_u128(1);
        let mut token = ConsistencyToken::of("orders", epoch, 9, Some(Uuid::from_u128(9)));
        token.merge(&ConsistencyToken::of("orders", epoch, 4, Some(Uuid::from_u128(4))));
        assert_eq!(token.point("orders").map(|point| point.position), Some(9));
    }

    #[test]
    fn a_wait_is_milliseconds_or_seconds_up_to_the_bound() {
        for (text, wait_ms) in [("1500", 1_500), ("1500ms", 1_500), (" 2s ", 2_000), ("0", 0), ("30s", 30_000)] {
            assert_eq!(parse_wait(text), Ok(Duration::from_millis(wait_ms)), "{text}");
        }
        for wrong in ["", "s", "ms", "-1", "+1", "1.5s", "2m", "31s", "30001", "99999999999999999999s"] {
            assert_eq!(parse_wait(wrong), Err(WaitError), "{wrong}");
        }
    }

    #[test]
    fn the_headers_of_a_request_are_read_alike_everywhere() {
        let one = ConsistencyToken::of("orders", Uuid::from_u128(1), 9, Some(Uuid::from_u128(9))).to_string();
        let two = ConsistencyToken::of("users", Uuid::from_u128(2), 4, Some(Uuid::from_u128(4))).to_string();
        let read = |tokens: &[Option<&str>], waits: &[Option<&str>]| {
            let read = from_headers(tokens.iter().copied(), waits.iter().copied());
            read.map(|(token, wait)| (token.points().count(), wait.as_millis()))
        };
        assert_eq!(read(&[], &[]), Ok((0, 2_000)));
        assert_eq!(read(&[Some(&one), Some(&two)], &[Some("1500")]), Ok((2, 1_500)));
        assert_eq!(read(&[Some("")], &[Some(" ")]), Ok((0, 2_000)));
        assert_eq!(read(&[None], &[]), Err(TokenError.into()));
        for wrong in [&[None][..], &[Some("soon")], &[Some("1s"), Some("2s")]] {
            assert_eq!(read(&[], wrong), Err(WaitError.into()));
        }
    }

    #[test]
    fn texts_that_are_no_tokens_are_refused() {
        for wrong in
            ["orders", "orders:1:2:3", "orders:000000000001:0:000000000001", "orders:000000000001:5:-", "a:b:c:d:e"]
        {
            assert_eq!(wrong.parse::<ConsistencyToken>(), Err(TokenError), "{wrong}");
        }
        assert_eq!("".parse::<ConsistencyToken>(), Ok(ConsistencyToken::default()));
    }
}
