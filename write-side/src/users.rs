//! The users service: who may order. Its HTTP surface; [`user`] decides.

pub mod user;

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use events::{ids::UserId, users::Address};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    edge::{
        Edge, Incoming, PathId, Problem,
        command::Asked,
        fields::{self, Fields, email, id, key, text},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
    users::user::{User, UserCommand},
};

const NAME_CHARS_MAX: usize = 200;

type Users = State<Edge<User>>;
type Answer = Result<Response, Problem>;

/// Starts the service on its log.
pub async fn start(given: Given) -> Result<Service, StartError> {
    Service::start::<User>(events::users::SOURCE, given, "users", None, routes)
}

/// The routes under `/users`.
fn routes(edge: Edge<User>) -> Router {
    Router::new()
        .route("/users", post(register))
        .route("/users/{id}", get(show))
        .route("/users/{id}/rename", post(rename))
        .route("/users/{id}/email", post(change_email))
        .route("/users/{id}/address", post(change_address))
        .route("/users/{id}/erase", post(erase))
        .with_state(edge)
}

#[derive(Serialize)]
struct Register {
    id: Option<UserId>,
    name: String,
    email: String,
    address: Option<Address>,
    external_ref: Option<String>,
}

impl Register {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let id = fields.optional("id", id);
        let name = fields.required("name", text(NAME_CHARS_MAX));
        let email = fields.required("email", email);
        let address = fields.optional_object("address", fields::address);
        let external_ref = fields.optional("external_ref", key(fields::EXTERNAL_REF_CHARS_MAX));
        Some(Self { id: id?, name: name?, email: email?, address: address?, external_ref: external_ref? })
    }
}

async fn register(State(users): Users, incoming: Incoming) -> Answer {
    let body = incoming.fields(Register::read)?;
    let user_id = body.id.unwrap_or_else(|| incoming.made_id(users.service()).into());
    let command = UserCommand::Register {
        user_id,
        name: body.name.clone(),
        email: body.email.clone(),
        address: body.address.clone(),
        external_ref: body.external_ref.clone(),
    };
    users.run(&incoming, Asked { id: user_id.0, body: &body, command, creates: true, occurred_at: None }).await
}

async fn rename(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    let name = incoming.fields(|fields| fields.required("name", text(NAME_CHARS_MAX)))?;
    users.change(&incoming, id, &json!({ "name": name }), UserCommand::Rename { name }).await
}

async fn change_email(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    let email = incoming.fields(|fields| fields.required("email", email))?;
    users.change(&incoming, id, &json!({ "email": email }), UserCommand::ChangeEmail { email }).await
}

async fn change_address(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    let address = incoming.fields(fields::address)?;
    users.change(&incoming, id, &address.clone(), UserCommand::ChangeAddress { address }).await
}

async fn erase(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    incoming.no_fields()?;
    users.change(&incoming, id, &json!({}), UserCommand::Erase).await
}

async fn show(State(users): Users, PathId(id): PathId, ReadToken(token): ReadToken) -> Answer {
    users.show(id, &token, view).await
}

/// A user as the world sees one.
fn view(user: &User) -> Option<Value> {
    match user {
        User::Absent => None,
        User::Active(profile) => Some(json!({
            "id": profile.id(),
            "name": profile.name,
            "email": profile.email,
            "address": profile.address,
            "external_ref": profile.registered.external_ref,
            "erased": false,
        })),
        User::Erased(user_id) => Some(json!({ "id": user_id, "erased": true })),
    }
}
