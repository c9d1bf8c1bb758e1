//! Answers of some length are compressed for who takes that.
//!
//! The length of a compressed answer tells of what it says only whoever can have somebody else ask: a browser sends no
//! credentials here by itself, so no page can.

use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer,
        predicate::{And, NotForContentType, Predicate, SizeAbove},
    },
};

/// Shorter answers fit into one packet anyway.
const BYTES_MIN: u64 = 1_024;

/// Of both gzip and Brotli: what is made for one answer is sent once, so most of what there is to save, fast.
const QUALITY: i32 = 4;

/// An event stream is sent event by event, and a compressor would hold them back.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, NotForContentType>> {
    let level = CompressionLevel::Precise(QUALITY);
    let when = SizeAbove::new(BYTES_MIN).and(NotForContentType::SSE);
    CompressionLayer::new().gzip(true).br(true).quality(level).compress_when(when)
}
