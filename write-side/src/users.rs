//! The users service: who may order. Its HTTP surface; [`user`] decides.

pub mod user;

use std::sync::Arc;

use axum::{extract::State, response::Response};
use event_store::feed::Feed;
use events::{ids::UserId, personal::Personal, principal::Principal, users::Address};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    edge::{
        By, Customers, Edge, Incoming, PathId, Problem, Routes, access,
        command::Asked,
        fields::{self, Fields, email, id, key, text},
        openapi::{command, schema, view},
        request::ReadToken,
    },
    service::{Given, Service, StartError},
    users::user::{User, UserCommand},
};

const NAME_CHARS_MAX: usize = 200;

/// The user that the examples are about.
pub const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000001";

type Users = State<Edge<User>>;
type Answer = Result<Response, Problem>;

/// Its place under HTTP.
pub const RESOURCE: &str = "users";

/// Starts the service on its log.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let given = given.sealed();
    // its own feed tells who was erased
    let feed = Arc::clone(&given.log) as Arc<dyn Feed>;
    Ok(Service::start::<User, _>(events::users::SOURCE, given, RESOURCE, None, routes)?.erasing(feed))
}

/// The routes under `/users`.
fn routes(edge: Edge<User>) -> Routes {
    const CHANGE: &[&str] = &["user_not_found", "user_erased"];
    let ana = json!({ "id": EXAMPLE, "name": "Ana Trujillo", "email": "ana@example.com" });
    let home = json!({ "street": "Avda. de la Constitución 2222", "city": "México D.F.", "country": "Mexico" });
    let change = |id, summary| {
        command(id, summary).on(&[EXAMPLE]).after(&["register_user"]).refuses(CHANGE).customers(Customers::Own)
    };
    Routes::of(events::users::SOURCE, "Who may order: names, e-mail and postal addresses.")
        .post(
            "/users",
            register,
            command("register_user", "Register a user")
                .takes(Register::read, ana)
                .creates()
                .customers(Customers::Own)
                .refuses(&["user_exists", "user_erased", "email_taken"]),
        )
        .get(
            "/users/{id}",
            show,
            view("show_user", "Show a user", shown())
                .on(&[EXAMPLE])
                .after(&["register_user"])
                .customers(Customers::Own)
                .refuses(&["user_not_found"]),
        )
        .post(
            "/users/{id}/rename",
            rename,
            change("rename_user", "Give a user another name").takes(new_name, json!({ "name": "Ana T. Emparedados" })),
        )
        .post(
            "/users/{id}/email",
            change_email,
            change("change_user_email", "Give a user another e-mail address")
                .takes(new_email, json!({ "email": "ana.trujillo@example.com" }))
                .refuses(&["email_taken"]),
        )
        .post(
            "/users/{id}/address",
            change_address,
            change("change_user_address", "Give a user another postal address").takes(fields::address, home),
        )
        .post("/users/{id}/erase", erase, change("erase_user", "Erase everything that is known of a user"))
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
    // a customer is the user they register, and no other
    let own_id = incoming.principal.customer();
    let user_id = body.id.or(own_id).unwrap_or_else(|| incoming.made_id(users.service()).into());
    access::own(&incoming.principal, user_id)?;
    let command = UserCommand::Register {
        user_id,
        name: body.name.clone(),
        email: body.email.clone(),
        address: body.address.clone(),
        external_ref: body.external_ref.clone(),
    };
    users.run(&incoming, Asked { id: user_id.0, body: &body, command, creates: true, occurred_at: None }).await
}

/// A customer is one user. The others are not there for them, whether they exist or not.
fn check_self(users: &Edge<User>, who: &Principal, id: Uuid) -> Result<(), Problem> {
    if who.acts_for(id.into()) { Ok(()) } else { Err(users.not_found()) }
}

fn new_name(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("name", text(NAME_CHARS_MAX))
}

async fn rename(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_self(&users, &incoming.principal, id)?;
    let name = incoming.fields(new_name)?;
    users.change(&incoming, id, &json!({ "name": name }), UserCommand::Rename { name }).await
}

fn new_email(fields: &mut Fields<'_>) -> Option<String> {
    fields.required("email", email)
}

async fn change_email(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_self(&users, &incoming.principal, id)?;
    let email = incoming.fields(new_email)?;
    users.change(&incoming, id, &json!({ "email": email }), UserCommand::ChangeEmail { email }).await
}

async fn change_address(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_self(&users, &incoming.principal, id)?;
    let address = incoming.fields(fields::address)?;
    users.change(&incoming, id, &address.clone(), UserCommand::ChangeAddress { address }).await
}

async fn erase(State(users): Users, PathId(id): PathId, incoming: Incoming) -> Answer {
    check_self(&users, &incoming.principal, id)?;
    incoming.no_fields()?;
    users.change(&incoming, id, &json!({}), UserCommand::Erase).await
}

async fn show(State(users): Users, PathId(id): PathId, By(who): By, ReadToken(token): ReadToken) -> Answer {
    check_self(&users, &who, id)?;
    users.show(id, &token, seen).await
}

/// A user as the world sees one.
fn seen(user: &User) -> Option<Value> {
    match user {
        User::Absent => None,
        User::Active(profile) => Some(json!({
            "id": profile.id(),
            "name": profile.name.value(),
            "email": profile.email.value(),
            "address": profile.address.as_ref().and_then(Personal::value),
            "external_ref": profile.registered.external_ref.as_ref().and_then(Personal::value),
            "erased": false,
        })),
        User::Erased(user_id) => Some(json!({ "id": user_id, "erased": true })),
    }
}

/// What [`seen`] makes.
fn shown() -> Value {
    let active = schema::object([
        ("id", schema::uuid()),
        ("name", schema::string()),
        ("email", schema::string()),
        ("address", schema::nullable(schema::describe(fields::address))),
        ("external_ref", schema::nullable(schema::string())),
        ("erased", schema::constant(false)),
    ]);
    let erased = schema::object([("id", schema::uuid()), ("erased", schema::constant(true))]);
    schema::either([active, erased])
}
