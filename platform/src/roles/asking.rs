//! GraphQL over the query database, and the playground.

use std::{sync::Arc, time::Instant};

use axum::Router;
use graphql::{
    Closing, GraphqlOptions, LiveOptions,
    options::{Allowance, Authenticate, Authentication, NotAdmitted},
};
use read_side::ReadSide;
use write_side::edge::Problem;

use super::{
    Role,
    projector::{readable_alone, statuses},
};
use crate::{
    admin::{self, Admin, Check, Surroundings},
    door::Door,
    limits::Limits,
    metrics::{self, Family},
};

/// The endpoint of this process.
pub struct Asking {
    read: ReadSide,
    /// The same over connections of its own, for whoever asks.
    asked: ReadSide,
    options: GraphqlOptions,
    /// Of sockets and event streams.
    live: Closing,
    /// Of what is asked over sockets, where requests have none.
    limits: Option<Arc<Limits>>,
}

impl Asking {
    pub fn new(read: ReadSide, options: GraphqlOptions) -> Self {
        let asked = read.apart("tributary graphql");
        Self { read, asked, options, live: Closing::default(), limits: None }
    }

    /// Behind a gateway. It counts requests and sockets; of what is asked over these it knows nothing, so that has `limits`
    /// here. All of them come from its own address, which is nobody's.
    pub fn behind_gateway(mut self, limits: Option<Limits>) -> Self {
        self.options.live.limits.counts_by_address = false;
        Self { limits: limits.map(Arc::new), ..self }
    }

    /// `/graphql` and what is below it.
    pub fn router(&self, door: &Door) -> Router {
        let authenticate = door.authenticator.clone().map(|known| Authentication(known as Arc<dyn Authenticate>));
        let (allowed_origins, closing) = (door.allowed_origins.clone(), self.live.clone());
        let allowance = door.limits.clone().or_else(|| self.limits.clone()).map(allowance);
        let limits = self.options.live.limits.clone();
        let live = LiveOptions { authenticate, allowance, allowed_origins, closing, limits };
        let options = GraphqlOptions { live, ..self.options.clone() };
        graphql::router(self.asked.clone(), options)
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
        // the database is looked at by who writes it
        let admin = Admin { surroundings: Surroundings::of(None, door), ..Admin::default() };
        self.router(door).merge(admin::router(admin))
    }

    async fn check(&self) -> Vec<Check> {
        readable_alone(&self.read).await
    }

    /// Whoever writes the query database makes it, and may be later than whoever reads it.
    async fn awaits(&self) -> Option<String> {
        statuses(&self.read).await.err().map(|why| format!("query database: {why}"))
    }

    async fn measured(&self) -> Vec<Family> {
        metrics::of_graphql(&self.options.figures, self.asked.figures())
    }

    fn close(&self) {
        self.live.close();
    }

    async fn shutdown(&self) {
        self.live.ended().await;
    }
}
