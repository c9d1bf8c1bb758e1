//! GraphQL over the query database, and the playground.

use std::{sync::Arc, time::Instant};

use axum::{Router, routing::get};
use graphql::{
    Closing, GraphqlOptions, LiveOptions,
    options::{Allowance, Authenticate, Authentication, NotAdmitted},
};
use read_side::ReadSide;
use write_side::edge::Problem;

use super::{Role, projector::readable_alone, ready::answer};
use crate::{
    admin::{Admin, Surroundings},
    door::Door,
    limits::Limits,
};

/// The endpoint of this process.
pub struct Asking {
    read: ReadSide,
    options: GraphqlOptions,
    /// Of sockets and event streams.
    live: Closing,
}

impl Asking {
    pub fn new(read: ReadSide, options: GraphqlOptions) -> Self {
        Self { read, options, live: Closing::default() }
    }

    /// `/graphql` and what is below it.
    pub fn router(&self, door: &Door) -> Router {
        let authenticate = door.authenticator.clone().map(|known| Authentication(known as Arc<dyn Authenticate>));
        let (allowed_origins, closing) = (door.allowed_origins.clone(), self.live.clone());
        let allowance = door.limits.clone().map(allowance);
        let live = LiveOptions { authenticate, allowance, allowed_origins, closing, ..LiveOptions::default() };
        let options = GraphqlOptions { live, ..self.options.clone() };
        graphql::router(self.read.apart("tributary graphql"), options)
    }
}

/// What is asked over a socket counts as requests do.
fn allowance(limits: Arc<Limits>) -> Allowance {
    Allowance(Arc::new(move |asker| match limits.take(asker, Instant::now()) {
        Ok(_) => Ok(()),
        Err(wait) => {
            let Problem { code, detail, .. } = limits.refusal(wait);
            Err(NotAdmitted { code: code.into_owned(), detail })
        }
    }))
}

#[async_trait::async_trait]
impl Role for Asking {
    fn routes(&self, door: &Door) -> Router {
        let read = self.read.clone();
        let readyz = get(async move || answer(readable_alone(&read).await));
        // the database is looked at by who writes it
        let admin = Admin { surroundings: Surroundings::of(None, door), ..Admin::default() };
        self.router(door).merge(super::operated(admin)).route("/readyz", readyz)
    }

    fn close(&self) {
        self.live.close();
    }

    async fn shutdown(&self) {
        self.live.ended().await;
    }
}
