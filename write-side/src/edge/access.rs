//! Who may: what stands before an operation, declared with it and checked before anything of the request is read.
//!
//! Two questions. Is the operation's scope the principal's? And, of a customer: is it theirs? The second is asked here
//! only as far as the operation says that customers have any business there; whose thing it is, is the handler's to check
//! ([`own`], [`super::Edge::check_owner`]), as it alone knows.

use std::borrow::Cow;

use axum::{
    extract::{FromRequestParts, Request},
    http::{Extensions, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use events::{ids::CustomerId, principal::Principal};

use super::problem::Problem;

/// What of an operation is open to customers. Staff and programs need its scope only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Customers {
    /// Nothing.
    None,
    /// What is theirs: the handler checks.
    Own,
    /// Everything: it is nobody's in particular.
    All,
}

/// What stands before one operation.
#[derive(Debug, Clone)]
pub struct Gate {
    pub scope: Cow<'static, str>,
    pub customers: Customers,
    /// A command that nobody should give without having seen what it changes: `If-Match` must be there.
    pub needs_version: bool,
}

impl Gate {
    /// The layer before the operation.
    pub async fn around(self, request: Request, next: Next) -> Result<Response, Problem> {
        self.check(&principal(request.extensions()))?;
        if self.needs_version && !request.headers().contains_key(header::IF_MATCH) {
            return Err(version_required());
        }
        Ok(next.run(request).await)
    }

    fn check(&self, principal: &Principal) -> Result<(), Problem> {
        if !principal.may(&self.scope) {
            return Err(scope_missing(&self.scope));
        }
        if principal.customer().is_some() && self.customers == Customers::None {
            return Err(not_for_customers());
        }
        Ok(())
    }
}

/// The principal that whoever authenticates has put there. Without authentication there is nobody who does, and nothing
/// listens off loopback.
pub fn principal(extensions: &Extensions) -> Principal {
    extensions.get::<Principal>().cloned().unwrap_or_else(Principal::anonymous)
}

/// A handler's argument: who asks.
#[derive(Debug, Clone)]
pub struct By(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(principal(&parts.extensions)))
    }
}

/// Refuses a request in which a customer names another one. It says the same whether that one exists or not.
pub fn own(principal: &Principal, customer: CustomerId) -> Result<(), Problem> {
    if principal.acts_for(customer) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "not_yours", "a customer acts for themselves only"))
}

pub fn not_for_customers() -> Problem {
    let detail = "customers have no access here, whatever their scopes";
    Problem::new(StatusCode::FORBIDDEN, "not_for_customers", detail)
}

pub fn scope_missing(scope: &str) -> Problem {
    let detail = format!("this needs a token with the scope {scope}");
    Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail).with("scope", scope)
}

fn version_required() -> Problem {
    let detail = "this needs If-Match with the ETag that you have read, or * for whichever version";
    Problem::new(StatusCode::PRECONDITION_REQUIRED, "version_required", detail)
}
