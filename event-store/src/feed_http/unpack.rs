//! A page that was compressed on the way.

use std::io::{self, Write};

use flate2::write::GzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// So many bytes are unpacked at once: they become a thousand times as many at most.
const PIECE_BYTES: usize = 4 * 1024;

/// Unpacks a body as it comes; a plain one stays as it is.
pub struct Unpacker {
    gzip: Option<Box<GzDecoder<Vec<u8>>>>,
}

impl Unpacker {
    /// As the answer says. Errors: it is packed in a way that nobody has asked for.
    pub fn of(headers: &HeaderMap) -> Result<Self, String> {
        match headers.get(CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
            None => Ok(Self { gzip: None }),
            Some(b"gzip") => Ok(Self { gzip: Some(Box::new(GzDecoder::new(Vec::new()))) }),
            Some(_) => Err("the answer is compressed in another way than gzip".to_owned()),
        }
    }

    /// What was packed into these bytes, piece by piece, until one is enough.
    pub fn take<T>(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let Some(decoder) = &mut self.gzip else { return Ok(each(bytes)) };
        for piece in bytes.chunks(PIECE_BYTES) {
            decoder.write_all(piece)?;
            decoder.flush()?;
            let unpacked = std::mem::take(decoder.get_mut());
            if let Some(enough) = each(&unpacked) {
                return Ok(Some(enough));
            }
        }
        Ok(None)
    }

    /// Whether the end is where it belongs.
    pub fn is_whole(&mut self) -> bool {
        self.gzip.as_mut().is_none_or(|decoder| decoder.try_finish().is_ok())
    }
}
