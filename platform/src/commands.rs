//! Commands that ask a running platform.

pub mod command;
pub mod doctor;
mod parked;
pub mod projection;
pub mod saga;
pub mod stream;
