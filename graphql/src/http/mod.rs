//! GraphQL over HTTP, to the letter of its specification: what is refused with which status and media type.
//!
//! Reading order: [`media`] (Accept and Content-Type), [`params`] (what a request says), [`edge`] (the two methods),
//! [`complete`] (what the library leaves out), [`answer`] (how errors and data become a response).
//!
//! A page of another site cannot have a visitor's browser send a POST here unasked: only `application/json` is taken,
//! which browsers send across sites after a CORS preflight alone, and GET runs queries only.

mod answer;
mod complete;
mod edge;
mod media;
mod params;
#[cfg(test)]
mod tests;

pub(crate) use edge::router;
