//! The saga engine, shown with a saga of its own that has nothing to do with orders: a trip.

mod agency;
mod engine;
mod index;
mod late;
mod laws;
mod operators;
mod pinning;
#[path = "../reactors/support.rs"]
#[allow(dead_code)]
mod support;
mod takeover;
mod time;
mod timers;
mod trip;
mod world;
