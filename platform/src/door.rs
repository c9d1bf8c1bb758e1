//! The door of the platform: who asks, and how often. Behind it every request has its [`Principal`].

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use events::{asker::Asker, principal::Principal};
use graphql::options::Admitted;
use write_side::edge::Problem;

use crate::{
    auth::{self, Authenticator},
    limits::Limits,
    roles::ready::HEALTH,
};

/// What is asked at the door. Both may be off: then nothing listens off loopback.
#[derive(Clone, Default)]
pub struct Door {
    pub authenticator: Option<Arc<Authenticator>>,
    pub limits: Option<Arc<Limits>>,
    /// Whose pages may open what stays open, beside our own.
    pub allowed_origins: Vec<String>,
}

/// The layer.
pub async fn around(State(door): State<Door>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let address = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let asked = match &door.authenticator {
        Some(authenticator) => auth::check(authenticator, &head).await,
        None => Ok(Admitted { principal: Principal::anonymous(), until: None }),
    };
    // who is refused has asked too: guessing tokens counts by address
    let asker = match &asked {
        Ok(admitted) => Asker::of(&admitted.principal, address),
        Err(_) => Asker::at(address),
    };
    // an orchestrator must not take us for dead because its neighbour asks too often
    let limits = door.limits.as_deref().filter(|_| !HEALTH.contains(&head.uri.path()));
    let left = match limits.map(|limits| (limits, limits.take(asker, Instant::now()))) {
        None => None,
        Some((limits, Ok(left))) => Some((limits, left)),
        Some((limits, Err(wait))) => return limits.refusal(wait).into_response(),
    };
    let mut response = match asked {
        Ok(admitted) => {
            head.extensions.insert(admitted.principal.clone());
            // for what stays open: until when
            head.extensions.insert(admitted);
            next.run(Request::from_parts(head, body)).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some((limits, left)) = left {
        limits.describe(left, response.headers_mut());
        // a problem is rendered once more, further out
        if let Some(problem) = response.extensions_mut().get_mut::<Problem>() {
            limits.describe(left, &mut problem.more.headers);
        }
    }
    response
}
