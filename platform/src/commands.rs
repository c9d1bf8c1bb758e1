//! Commands that ask a running platform, and those that also look into its databases when nothing runs.

pub mod adopt;
pub mod command;
pub mod config;
pub mod doctor;
pub mod export;
mod logs;
mod parked;
pub mod projection;
mod query_copy;
pub mod restore;
pub mod saga;
pub mod stream;
pub mod verify_chain;
