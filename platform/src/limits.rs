//! How often somebody may ask: a bucket of tokens per principal, or per address for who has none.
//!
//! The bucket is kept as one moment, when it will be full again (GCRA): a request moves it on by one interval, and is
//! refused when that lies further ahead than the bucket is deep. Answers carry `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10).

use std::{
    num::NonZeroUsize,
    sync::Mutex,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use clap::Args;
use events::asker::Asker;
use lru::LruCache;
use write_side::edge::Problem;

/// Buckets kept at once. The one that was not used for longest is forgotten first, which fills it up.
const BUCKETS_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// With authentication and without a flag.
const PER_SECOND_DEFAULT: u32 = 100;

/// A bucket is this many seconds deep when nothing else is said.
const BURST_SECONDS: u32 = 4;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// How often one principal or address may ask.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LimitArgs {
    /// Requests a second of one principal, or of one address without a token; 0 = no limit. Without this flag: 100 with
    /// authentication, no limit without
    #[arg(long, env = "TRIBUTARY_RATE_LIMIT_PER_SECOND")]
    pub rate_limit_per_second: Option<u32>,
    /// Requests that may come at once before that counts; without this flag, those of 4 seconds
    #[arg(long, env = "TRIBUTARY_RATE_LIMIT_BURST")]
    pub rate_limit_burst: Option<u32>,
}

impl LimitArgs {
    /// `None`: no limit.
    pub fn limits(self, with_authentication: bool) -> Option<Limits> {
        let default = if with_authentication { PER_SECOND_DEFAULT } else { 0 };
        let per_second = self.rate_limit_per_second.unwrap_or(default);
        let burst = self.rate_limit_burst.unwrap_or(per_second.saturating_mul(BURST_SECONDS));
        (per_second > 0).then(|| Limits::new(per_second, burst.max(1)))
    }
}

pub struct Limits {
    /// One request's worth of time.
    interval: Duration,
    burst: u32,
    /// When each bucket will be full again.
    full_at: Mutex<LruCache<Asker, Instant>>,
}

/// What is left after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub requests: u32,
    /// Until the bucket is full again.
    pub full_in: Duration,
}

impl Limits {
    fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second, burst, full_at: Mutex::new(LruCache::new(BUCKETS_MAX)) }
    }

    /// Takes one request out of the bucket. `Err`: how long until there is one again.
    pub fn take(&self, asker: Asker, now: Instant) -> Result<Left, Duration> {
        let depth = self.interval * self.burst;
        let mut buckets = self.full_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let full_at = buckets.get(&asker).copied().unwrap_or(now).max(now) + self.interval;
        let full_in = full_at - now;
        if full_in > depth {
            return Err(full_in - depth);
        }
        buckets.put(asker, full_at);
        let requests = (depth - full_in).as_nanos() / self.interval.as_nanos().max(1);
        Ok(Left { requests: u32::try_from(requests).unwrap_or(u32::MAX), full_in })
    }

    /// What every answer says of the limit.
    pub fn describe(&self, left: Left, headers: &mut HeaderMap) {
        let window = seconds_up(self.interval * self.burst);
        let policy = format!("\"default\";q={};w={window}", self.burst);
        let state = format!("\"default\";r={};t={}", left.requests, seconds_up(left.full_in));
        for (name, text) in [(POLICY, policy), (STATE, state)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }

    /// Too often.
    pub fn refusal(&self, wait: Duration) -> Problem {
        let detail = format!("more than {} requests at once; slow down", self.burst);
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        self.describe(Left { requests: 0, full_in: self.interval * self.burst + wait }, &mut problem.more.headers);
        problem.retry_after(seconds_up(wait))
    }
}

fn seconds_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let limits = Limits::new(10, 3);
        let (now, ana) = (Instant::now(), Asker::Principal("ana".into()));
        let left: Vec<_> = (0..3).map(|_| limits.take(ana.clone(), now).map(|left| left.requests)).collect();
        assert_eq!(left, [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(limits.take(ana.clone(), now), Err(Duration::from_millis(100)));
        assert_eq!(limits.take(Asker::Principal("eva".into()), now).map(|left| left.requests), Ok(2));
        let later = now + Duration::from_millis(100);
        assert_eq!(limits.take(ana.clone(), later).map(|left| left.requests), Ok(0));
        let much_later = now + Duration::from_secs(60);
        assert_eq!(limits.take(ana, much_later).map(|left| left.requests), Ok(2), "a bucket is never deeper");
    }

    #[test]
    fn an_answer_says_what_is_left_and_a_refusal_when_to_come_again() {
        let limits = Limits::new(10, 40);
        let mut headers = HeaderMap::new();
        limits.describe(Left { requests: 39, full_in: Duration::from_millis(100) }, &mut headers);
        assert_eq!(
            (&headers[POLICY], &headers[STATE]),
            (&HeaderValue::from_static("\"default\";q=40;w=4"), &HeaderValue::from_static("\"default\";r=39;t=1"))
        );
        let refusal = limits.refusal(Duration::from_millis(1_100));
        assert_eq!(refusal.more.headers[axum::http::header::RETRY_AFTER], "2");
        assert_eq!(refusal.more.headers[STATE], "\"default\";r=0;t=6");
    }

    #[test]
    fn there_is_no_limit_on_loopback_unless_one_is_asked_for() {
        let args = |per_second, burst| LimitArgs { rate_limit_per_second: per_second, rate_limit_burst: burst };
        assert!(args(None, None).limits(false).is_none());
        assert!(args(Some(0), None).limits(true).is_none());
        assert_eq!(args(None, None).limits(true).map(|limits| limits.burst), Some(400));
        assert_eq!(args(Some(5), Some(0)).limits(false).map(|limits| limits.burst), Some(1));
    }
}
