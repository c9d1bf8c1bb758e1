//! Commands that ask a running platform.

pub mod doctor;
pub mod projection;
pub mod stream;
