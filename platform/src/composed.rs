//! API composition: one order, put together live from the services' own answers.
//!
//! The other way to a question that spans services, beside the read model. Nothing is stored and nothing lags, but every
//! part costs a call at the moment of asking, and a service that is slow or away leaves a hole. So each call has a time
//! limit, and what did not come is named instead of guessed. The services are asked over their HTTP API with the caller's
//! own rights, never by another way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{AUTHORIZATION, ETAG},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use events::{
    consistency::{TOKEN_HEADER, WAIT_HEADER},
    principal::Principal,
};
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tower::ServiceExt;
use write_side::edge::{
    Customers, PathId, Problem, Routes, access,
    openapi::{schema, view},
    trace::Conversation,
};

/// The longest that one service is waited for.
const CALL_WAIT_MAX: Duration = Duration::from_secs(1);

/// Calls under way at once for one composed answer.
const CALLS_AT_ONCE: usize = 8;

/// Products whose services are asked; an order may have 2,000 lines, and each product costs two calls.
const PRODUCTS_MAX: usize = 50;

/// The largest answer of a service that is taken in: an order of 2,000 lines is well below.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The services' own routes.
#[derive(Clone)]
struct Composer {
    services: Router,
}

/// What one service answers for.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Order,
    Customer,
    Product,
    Stock,
}

/// Why a part is not there.
#[derive(Debug, Serialize)]
struct Missing {
    /// What it would have been.
    part: Part,
    /// Where it was asked for.
    address: String,
    /// The service's own code, or `timed_out`, `not_asked`.
    code: String,
    detail: String,
}

/// `GET /composed/orders/{id}` over the given services.
pub fn routes(services: Router) -> Routes {
    let operation = view("compose_order", "Compose an order live from its services", shown())
        .on(&[write_side::orders::EXAMPLE])
        .after(&["place_order"])
        .scope("orders:read")
        .customers(Customers::Own)
        .refuses(&["order_not_found"])
        .fails(504, &["timed_out"]);
    Routes::of("composed", "One order, put together live from the services' own answers.")
        .get("/composed/orders/{id}", order, operation)
        .with_state(Composer { services })
}

async fn order(State(composer): State<Composer>, PathId(id): PathId, request: Request) -> Result<Response, Response> {
    let caller = Arc::new(request.into_parts().0);
    // without the order there is nothing to compose, so its service's refusal is the answer
    let (headers, order) = match composer.ask(Part::Order, format!("/orders/{id}"), &caller).await {
        Ok(order) => order,
        Err(Failed::Refused(response, _)) => return Err(*response),
        Err(Failed::Missing(missing)) if missing.code == "timed_out" => {
            let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", missing.detail);
            return Err(problem.retry_after(1).into_response());
        }
        Err(Failed::Missing(missing)) => return Err(Problem::unavailable(missing.detail).into_response()),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let products: BTreeSet<String> =
        order["lines"].as_array().into_iter().flatten().map(|line| text(&line["product_id"])).collect();
    let mut asked = vec![(Part::Customer, format!("/users/{}", text(&order["customer_id"])))];
    for product in products.iter().take(PRODUCTS_MAX) {
        asked.push((Part::Product, format!("/products/{product}")));
        // how much lies in store is no customer's business
        if access::principal(&caller.extensions).customer().is_none() {
            asked.push((Part::Stock, format!("/stock/{product}")));
        }
    }
    let calls = asked.into_iter().map(|(part, address)| {
        let (composer, caller) = (composer.clone(), Arc::clone(&caller));
        async move { (part, composer.ask(part, address, &caller).await) }
    });
    let answers: Vec<_> = stream::iter(calls).buffered(CALLS_AT_ONCE).collect().await;

    let (mut customer, mut shown_products, mut stock, mut missing) = (Value::Null, Vec::new(), Vec::new(), Vec::new());
    for (part, answer) in answers {
        match (part, answer) {
            (Part::Customer, Ok((_, answer))) => customer = answer,
            (Part::Product, Ok((_, answer))) => shown_products.push(answer),
            (Part::Order | Part::Stock, Ok((_, answer))) => stock.push(answer),
            (_, Err(Failed::Missing(why) | Failed::Refused(_, why))) => missing.push(why),
        }
    }
    missing.extend(products.iter().skip(PRODUCTS_MAX).map(|product| Missing {
        part: Part::Product,
        address: format!("/products/{product}"),
        code: "not_asked".to_owned(),
        detail: format!("an answer asks for {PRODUCTS_MAX} products at most"),
    }));
    let complete = missing.is_empty();
    let whole = json!({
        "order": order, "customer": customer, "products": shown_products, "stock": stock,
        "complete": complete, "missing": missing,
    });
    let mut answer = axum::Json(whole).into_response();
    // version and place in the log are those of the order
    for name in [ETAG, HeaderName::from_static(TOKEN_HEADER)] {
        if let Some(value) = headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    Ok(answer)
}

/// An answer that cannot be used.
enum Failed {
    /// The service's own refusal.
    Refused(Box<Response>, Missing),
    Missing(Missing),
}

impl Composer {
    /// One service's answer to the caller, within its time.
    async fn ask(&self, part: Part, address: String, caller: &Parts) -> Result<(HeaderMap, Value), Failed> {
        let missing =
            |code: &str, detail: String| Missing { part, address: address.clone(), code: code.to_owned(), detail };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = address.parse().expect("a path and a UUID are an address");
        // on the caller's behalf, and as part of the same conversation
        for name in [AUTHORIZATION, HeaderName::from_static(TOKEN_HEADER), HeaderName::from_static(WAIT_HEADER)] {
            if let Some(value) = caller.headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        if let Some(principal) = caller.extensions.get::<Principal>() {
            request.extensions_mut().insert(principal.clone());
        }
        if let Some(conversation) = caller.extensions.get::<Conversation>() {
            request.extensions_mut().insert(conversation.clone());
        }
        let answered = tokio::time::timeout(CALL_WAIT_MAX, self.services.clone().oneshot(request)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let detail = format!("the service did not answer within {} ms", CALL_WAIT_MAX.as_millis());
                return Err(Failed::Missing(missing("timed_out", detail)));
            }
        };
        let (head, body) = response.into_parts();
        let body = to_bytes(body, ANSWER_BYTES_MAX).await;
        let unreadable = || Failed::Missing(missing("unavailable", "the service's answer cannot be read".to_owned()));
        let body = body.map_err(|_| unreadable())?;
        let said = serde_json::from_slice::<Value>(&body);
        if head.status != StatusCode::OK {
            let said = said.unwrap_or_default();
            let code = said["code"].as_str().unwrap_or("unavailable");
            let detail = said["detail"].as_str().map(str::to_owned);
            let detail = detail.unwrap_or_else(|| format!("the service answered {}", head.status));
            let why = missing(code, detail);
            return Err(Failed::Refused(Box::new(Response::from_parts(head, Body::from(body))), why));
        }
        Ok((head.headers, said.map_err(|_| unreadable())?))
    }
}

fn shown() -> Value {
    let any = || json!({ "type": "object" });
    let missing = schema::object([
        ("part", schema::string()),
        ("address", schema::string()),
        ("code", schema::string()),
        ("detail", schema::string()),
    ]);
    schema::object([
        ("order", any()),
        ("customer", schema::nullable(any())),
        ("products", schema::list(any())),
        ("stock", schema::list(any())),
        ("complete", schema::boolean()),
        ("missing", schema::list(missing)),
    ])
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use uuid::Uuid;

    use super::*;

    const ORDER: &str = "33333333-3333-4333-8333-333333333333";
    const PRODUCT: &str = "22222222-2222-4222-8222-222222222222";

    /// Services that answer as they should.
    fn services() -> Router {
        let order = || async {
            axum::Json(
                json!({ "id": ORDER, "customer_id": Uuid::nil(), "lines": [{ "product_id": PRODUCT }, { "product_id": PRODUCT }] }),
            )
        };
        Router::new()
            .route("/orders/{id}", get(order))
            .route("/products/{id}", get(async || axum::Json(json!({ "sku": "MAP-1" }))))
    }

    async fn composed(services: Router) -> (StatusCode, Value) {
        let (router, _) = routes(services).serve("composed");
        let request = Request::get(format!("/composed/orders/{ORDER}")).body(Body::empty()).expect("a request");
        let response = match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.expect("a body");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    fn codes(answer: &Value) -> Vec<(&str, &str)> {
        let text = |value: &'static str, one: &'_ Value| one[value].as_str().map(str::to_owned);
        let missing = answer["missing"].as_array().expect("a list");
        assert!(missing.iter().all(|one| text("detail", one).is_some_and(|detail| !detail.is_empty())));
        missing
            .iter()
            .map(|one| (one["part"].as_str().expect("a part"), one["code"].as_str().expect("a code")))
            .collect()
    }

    #[tokio::test]
    async fn each_product_is_asked_for_once_and_everything_stands_in_the_answer() {
        let whole = services()
            .route("/users/{id}", get(async || axum::Json(json!({ "name": "Ada" }))))
            .route("/stock/{id}", get(async || axum::Json(json!({ "available": 3 }))));
        let (status, answer) = composed(whole).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&answer["complete"], &answer["missing"]), (&json!(true), &json!([])));
        assert_eq!(answer["customer"]["name"], "Ada");
        assert_eq!(
            (&answer["products"], &answer["stock"]),
            (&json!([{ "sku": "MAP-1" }]), &json!([{ "available": 3 }]))
        );
    }

    #[tokio::test]
    async fn every_service_is_asked_with_the_callers_own_rights() {
        let who = async |access::By(who): access::By| axum::Json(json!({ "asked_by": &**who.name() }));
        let (router, _) =
            routes(services().route("/users/{id}", get(who)).route("/stock/{id}", get(who))).serve("composed");
        let desk = Principal::try_new("desk-7", None, ["orders:read".to_owned()]).expect("a name");
        let mut request = Request::get(format!("/composed/orders/{ORDER}")).body(Body::empty()).expect("a request");
        request.extensions_mut().insert(desk);
        let body = router.oneshot(request).await.map(Response::into_body).expect("an answer");
        let answer = to_bytes(body, ANSWER_BYTES_MAX).await.expect("a body");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(
            (&answer["customer"]["asked_by"], &answer["stock"][0]["asked_by"]),
            (&json!("desk-7"), &json!("desk-7"))
        );
    }

    #[tokio::test]
    async fn a_service_that_is_slow_and_one_that_refuses_leave_holes_that_are_named() {
        let slow = async || {
            tokio::time::sleep(2 * CALL_WAIT_MAX).await;
            axum::Json(json!({}))
        };
        let away = async || Problem::unavailable("its log is away");
        let (status, answer) =
            composed(services().route("/users/{id}", get(slow)).route("/stock/{id}", get(away))).await;
        assert_eq!((status, &answer["complete"]), (StatusCode::OK, &json!(false)));
        assert_eq!((&answer["customer"], &answer["stock"]), (&Value::Null, &json!([])));
        assert_eq!(codes(&answer), [("customer", "timed_out"), ("stock", "unavailable")]);
    }

    #[tokio::test]
    async fn without_the_order_the_answer_is_its_services_refusal() {
        let unknown = async || Problem::new(StatusCode::NOT_FOUND, "order_not_found", "there is no such order");
        let (status, answer) = composed(Router::new().route("/orders/{id}", get(unknown))).await;
        assert_eq!((status, &answer["code"]), (StatusCode::NOT_FOUND, &json!("order_not_found")));
        let silent = async || std::future::pending::<StatusCode>().await;
        let (status, answer) = composed(Router::new().route("/orders/{id}", get(silent))).await;
        assert_eq!((status, &answer["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("timed_out")));
    }

    #[tokio::test]
    async fn an_order_of_more_products_than_are_asked_for_says_which_are_left_out() {
        let lines: Vec<Value> =
            (0..=PRODUCTS_MAX).map(|n| json!({ "product_id": Uuid::from_u128(n as u128) })).collect();
        let order = json!({ "id": ORDER, "customer_id": Uuid::nil(), "lines": lines });
        let ok = async || axum::Json(json!({}));
        let services = Router::new()
            .route("/orders/{id}", get(async move || axum::Json(order)))
            .route("/users/{id}", get(ok))
            .route("/products/{id}", get(ok))
            .route("/stock/{id}", get(ok));
        let (_, answer) = composed(services).await;
        assert_eq!(answer["products"].as_array().map(Vec::len), Some(PRODUCTS_MAX));
        assert_eq!(codes(&answer), [("product", "not_asked")]);
    }
}
