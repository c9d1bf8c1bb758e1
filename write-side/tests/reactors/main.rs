//! Reactors: what is to be done about an event is done once, whatever crashes, on both databases.

mod gateway;
mod kernel;
mod mail;
mod smtp;
mod support;
mod upgrade;
