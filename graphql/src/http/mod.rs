//! GraphQL over HTTP, to the letter of its specification: what is refused with which status and media type.
//!
//! Reading order: [`media`] (Accept and Content-Type), [`params`] (what a request says), [`edge`] (the two methods),
//! [`complete`] (what the library leaves out), [`answer`] (how errors and data become a response), [`compress`]. For what stays:
//! [`asker`] (who asks, until when), [`seats`] (how many may stay), [`operation`] (an operation as a stream of answers),
//! [`sse`] (as events), [`while_read`] (for as long as they are read), [`messages`] and [`ws`] (over a socket).
//!
//! A page of another site cannot have a visitor's browser send a POST here unasked: only `application/json` is taken,
//! which browsers send across sites after a CORS preflight alone, and GET runs queries only. Sockets and event streams,
//! which no preflight protects, are opened to pages of this address and of those that are allowed ([`asker::origin_is_allowed`]).

mod answer;
mod asker;
pub(crate) mod complete;
mod compress;
mod edge;
mod media;
mod messages;
pub(crate) mod operation;
pub(crate) mod params;
mod seats;
mod sse;
#[cfg(test)]
mod tests;
mod while_read;
mod ws;

pub(crate) use edge::router;
pub use ws::opens_socket;
