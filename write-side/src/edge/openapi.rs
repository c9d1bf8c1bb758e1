//! What a service says of itself: an OpenAPI 3.1 document that cannot drift from what the service does.
//!
//! A service's routes and their description are one list ([`Routes`]): a route comes with its [`Operation`], and
//! the operation has the body's fields from the function that reads them ([`super::fields::describe`]). What all commands
//! have in common (headers, problems, the answer) is written down once, in [`operation`] and [`document`]. Tests send
//! every example, and compare the documented codes with those in the sources.
//!
//! Reading order: [`routes`] (the list), [`operation`] (one entry), [`schema`] (words for answers), [`document`] (JSON).

pub mod document;
pub mod operation;
pub mod routes;
pub mod schema;

pub use operation::{Operation, command, view};
pub use routes::{Api, Routes};
