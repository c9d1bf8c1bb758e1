//! The routes of a service with what they are: one list, so that nothing is served undescribed, nor described unserved.

use axum::{
    Router,
    handler::Handler,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    middleware::from_fn,
    response::IntoResponse,
    routing::{MethodRouter, get, post},
};

use super::{Operation, document, operation::Kind};

/// Routes that share the state `S`, each with its description.
pub struct Routes<S = ()> {
    service: String,
    router: Router<S>,
    about: &'static str,
    operations: Vec<Operation>,
}

/// What one service offers.
#[derive(Debug, Clone)]
pub struct Api {
    pub service: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    pub operations: Vec<Operation>,
}

impl Api {
    /// Whether anything can be changed through it.
    pub fn takes_commands(&self) -> bool {
        self.operations.iter().any(|operation| operation.kind == Kind::Command)
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// The routes of `service`; `about` is one sentence on what it is for.
    pub fn of(service: &str, about: &'static str) -> Self {
        Self { service: service.to_owned(), router: Router::new(), about, operations: Vec::new() }
    }

    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(path, get(handler), operation.at("get", path))
    }

    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, operation: Operation) -> Self {
        self.route(path, post(handler), operation.at("post", path))
    }

    fn route(mut self, path: &str, method: MethodRouter<S>, operation: Operation) -> Self {
        let gate = operation.gate(&self.service);
        let gate = from_fn(move |request, next| gate.clone().around(request, next));
        self.router = self.router.route(path, method.route_layer(gate));
        self.operations.push(operation);
        self
    }

    pub fn with_state(self, state: S) -> Routes {
        let Self { service, router, about, operations } = self;
        Routes { service, router: router.with_state(state), about, operations }
    }
}

impl Routes {
    /// Adds the routes of `other`; what this one is about stays.
    pub fn merge(mut self, other: Routes) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// The routes, their description served among them at `/{service}/openapi.json`.
    pub fn serve(self, service: &'static str) -> (Router, Api) {
        let api = Api { service, about: self.about, operations: self.operations };
        let text = document::of(std::slice::from_ref(&api)).to_string();
        let router = self.router.route(&format!("/{service}/openapi.json"), get(async move || json(text)));
        (router, api)
    }
}

/// A document that is fetched anew whenever the binary is another.
pub fn json(text: String) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], text)
}
