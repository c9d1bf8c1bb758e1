//! Payments and the gateway: each intent is acted on once under its key, and its result is recorded once.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use chrono::{DateTime, TimeDelta};
use event_store::{
    bus::{BusOptions, CommandBus, CommandRequest},
    clock::{Clock, ManualClock},
    log::{EventLog, Fingerprint},
    memory::MemoryLog,
    writer::{Writer, WriterOptions},
};
use events::{
    envelope::Metadata,
    ids::{OrderId, PaymentId, RefundId},
    money::{Currency, Money},
    payments::{AuthorizationRequested, DeclineReason},
};
use serde_json::{Value, json};
use testkit::follower_kit::soon;
use tower::ServiceExt;
use uuid::Uuid;
use write_side::{
    Given,
    payments::{
        self,
        gateway::{Gateway, GatewayError, Hold, SimulatedGateway, Verdict},
        payment::{KnownPayment, Payment, PaymentCommand, PaymentStatus},
        settling::Settling,
    },
    reactor::{Reactor, ReactorOptions, duty::Duties},
};

use super::support::{Home, TrappedDuties, Traps, feeds, idle, options, told, until};

const ID: PaymentId = PaymentId(Uuid::from_u128(1));
const ORDER: OrderId = OrderId(Uuid::from_u128(2));

fn usd(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::USD)
}

/// A gateway that keeps a book: what moved, by key.
#[derive(Default)]
struct Till {
    moved: Mutex<BTreeSet<(&'static str, Uuid)>>,
    calls: AtomicUsize,
    /// Calls that are refused, by name.
    refuses: Mutex<Option<&'static str>>,
    traps: Arc<Traps>,
}

impl Till {
    async fn call(&self, what: &'static str, key: Uuid) -> Result<(), GatewayError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if *self.refuses.lock().unwrap() == Some(what) {
            return Err(GatewayError::Refused("not today, and not by 4242 4242 4242 4242".to_owned()));
        }
        self.traps.pass("before the act").await;
        self.moved.lock().unwrap().insert((what, key));
        self.traps.pass("after the act").await;
        Ok(())
    }

    fn times(&self, what: &str) -> usize {
        self.moved.lock().unwrap().iter().filter(|(moved, _)| *moved == what).count()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Gateway for Till {
    async fn authorize(&self, key: Uuid, hold: &Hold) -> Result<Verdict, GatewayError> {
        self.call("authorize", key).await?;
        let expires_at = hold.requested_at + TimeDelta::days(7);
        Ok(Verdict::Approved { reference: format!("till-{key}"), expires_at })
    }

    async fn capture(&self, key: Uuid, hold: Uuid, _amount: Money) -> Result<(), GatewayError> {
        assert!(self.moved.lock().unwrap().contains(&("authorize", hold)), "what is not held cannot be taken");
        self.call("capture", key).await
    }

    async fn void(&self, key: Uuid, _hold: Uuid) -> Result<(), GatewayError> {
        self.call("void", key).await
    }

    async fn refund(&self, key: Uuid, _hold: Uuid, _amount: Money) -> Result<(), GatewayError> {
        self.call("refund", key).await
    }
}

/// The payments' log and bus, which outlive reactors.
struct World {
    log: Arc<MemoryLog>,
    bus: CommandBus<Payment>,
    duties: Arc<dyn Duties>,
    traps: Arc<Traps>,
    _home: Home,
}

impl World {
    async fn new(home: Home) -> Self {
        let log = MemoryLog::new("payments");
        let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
        let bus = CommandBus::start(writer, (), BusOptions::default());
        Self { log, bus, duties: home.duties().await, traps: Arc::default(), _home: home }
    }

    async fn reactor(&self, gateway: &Arc<impl Gateway>, options: ReactorOptions) -> Reactor {
        self.reactor_on(&self.duties, gateway, options).await
    }

    async fn reactor_on(&self, on: &Arc<dyn Duties>, gateway: &Arc<impl Gateway>, options: ReactorOptions) -> Reactor {
        let settling = Settling { bus: self.bus.clone(), gateway: Arc::clone(gateway) as _ };
        let duties = Arc::new(TrappedDuties { duties: Arc::clone(on), traps: Arc::clone(&self.traps) });
        let epoch = self.log.identity().epoch;
        Reactor::start(Arc::new(settling), duties, ("payments", epoch), feeds(&[&self.log]), options).await.unwrap()
    }

    async fn ask(&self, command: PaymentCommand) {
        let key = Uuid::now_v7().to_string();
        let request = CommandRequest {
            aggregate_id: ID.to_string().into(),
            command,
            scope: "test".into(),
            fingerprint: Fingerprint::of(self.log.identity(), "test", key.as_bytes()),
            key: key.into(),
            expected_version: None,
            metadata: Metadata { correlation_id: Some("conversation".into()), ..Metadata::default() },
        };
        assert!(self.bus.execute(request).await.unwrap().changed);
    }

    async fn payment(&self) -> Option<KnownPayment> {
        match self.bus.load(&ID.to_string()).await.unwrap()?.state {
            Payment::Known(payment) => Some(*payment),
            Payment::Absent | Payment::Barred(_) => None,
        }
    }

    async fn reaches(&self, what: &str, is_there: impl Fn(&KnownPayment) -> bool) {
        until(what, || async { self.payment().await.is_some_and(|payment| is_there(&payment)) }).await;
    }

    async fn events(&self, event_type: &str) -> usize {
        told(&self.log).await.iter().filter(|event| &*event.event_type == event_type).count()
    }
}

fn authorize(method: &str) -> PaymentCommand {
    PaymentCommand::Authorize(AuthorizationRequested {
        payment_id: ID,
        order_id: ORDER,
        amount: usd(100),
        payment_method: method.parse().unwrap(),
        requested_at: DateTime::UNIX_EPOCH + TimeDelta::days(365 * 90),
    })
}

fn refund(n: u128) -> PaymentCommand {
    PaymentCommand::Refund { refund_id: RefundId(Uuid::from_u128(n)), amount: usd(40), reason: "broken".into() }
}

const CAPTURE: PaymentCommand = PaymentCommand::Capture { amount: None };
const VOID: PaymentCommand = PaymentCommand::Void { payment_id: ID, order_id: None };

/// (what the gateway is asked, the event that says it was done)
const INTENTS: [(&str, &str); 4] = [
    ("authorize", "PaymentAuthorized"),
    ("capture", "PaymentCaptured"),
    ("void", "PaymentVoided"),
    ("refund", "PaymentRefunded"),
];

async fn bring_to(world: &World, intent: &str) -> PaymentCommand {
    if intent == "authorize" {
        return authorize("pm_approve");
    }
    world.ask(authorize("pm_approve")).await;
    world.reaches("authorized", |payment| payment.status == PaymentStatus::Authorized).await;
    if intent == "refund" {
        world.ask(CAPTURE).await;
        world.reaches("captured", |payment| payment.status == PaymentStatus::Captured).await;
    }
    idle(&world.duties).await;
    match intent {
        "capture" => CAPTURE,
        "void" => VOID,
        _ => refund(1),
    }
}

/// Dies at each step of each intent. The successor goes on, and one that starts over does nothing.
async fn whatever_crashes_the_gateway_is_asked_once_by_key(home: Home) {
    for (intent, result) in INTENTS {
        for step in ["note payments", "before the act", "after the act", "done payments"] {
            let what = format!("{intent}: {step}");
            let world = World::new(home.anew().await).await;
            let till = Arc::new(Till { traps: Arc::clone(&world.traps), ..Till::default() });
            let reactor = world.reactor(&till, options()).await;
            let command = bring_to(&world, intent).await;
            let calls_before = till.calls();
            world.traps.arm(step);
            world.ask(command).await;
            world.traps.sprung(&what).await;
            reactor.abort().await;

            let reactor = world.reactor(&till, options()).await;
            until(&what, || async { world.events(result).await == 1 }).await;
            idle(&world.duties).await;
            reactor.shutdown().await;
            assert_eq!((till.times(intent), world.events(result).await), (1, 1), "{what}");
            let asked_twice = ["before the act", "after the act"].contains(&step);
            assert_eq!(till.calls() - calls_before, if asked_twice { 2 } else { 1 }, "{what}");

            // as after a restored checkpoint: it knows nothing and reads everything
            let (calls, events) = (till.calls(), told(&world.log).await.len());
            let elsewhere = home.anew().await;
            let forgetful = elsewhere.duties().await;
            let reactor = world.reactor_on(&forgetful, &till, options()).await;
            soon("all is read", reactor.follower().caught_up()).await.unwrap();
            idle(&forgetful).await;
            reactor.shutdown().await;
            assert_eq!((till.calls(), told(&world.log).await.len()), (calls, events), "{what}");
        }
    }
}

#[tokio::test]
async fn in_sqlite_whatever_crashes_the_gateway_is_asked_once_by_key() {
    whatever_crashes_the_gateway_is_asked_once_by_key(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_whatever_crashes_the_gateway_is_asked_once_by_key() {
    whatever_crashes_the_gateway_is_asked_once_by_key(Home::postgres().await).await;
}

#[tokio::test]
async fn a_gateway_that_never_answers_declines_and_what_it_may_hold_is_given_back() {
    let world = World::new(Home::sqlite()).await;
    let silent = Arc::new(SimulatedGateway::new(Duration::from_millis(1)));
    let reactor = world.reactor(&silent, options()).await;
    world.ask(authorize("pm_timeout")).await;
    world
        .reaches("declined and given back", |payment| {
            payment.declined_because == Some(DeclineReason::GatewayTimeout) && !payment.voiding
        })
        .await;
    assert_eq!((world.events("PaymentDeclined").await, world.events("PaymentVoided").await), (1, 1));
    reactor.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let world = World::new(Home::sqlite()).await;
    let gateway = Arc::new(SimulatedGateway::new(Duration::from_millis(1)));
    let reactor = world.reactor(&gateway, options()).await;
    world.ask(authorize("pm_timeout_then_approve")).await;
    world.reaches("authorized", |payment| payment.status == PaymentStatus::Authorized).await;
    let authorized = told(&world.log).await.pop().unwrap();
    let metadata = authorized.metadata().unwrap();
    let requested = &told(&world.log).await[0];
    assert_eq!(metadata.causation_id, Some(requested.event_id.to_string()));
    assert_eq!(metadata.correlation_id.as_deref(), Some("conversation"));
    reactor.shutdown().await;
}

#[tokio::test]
async fn what_the_gateway_refuses_is_recorded_and_may_be_asked_for_again() {
    let world = World::new(Home::sqlite()).await;
    let till = Arc::new(Till::default());
    let reactor = world.reactor(&till, options()).await;
    let command = bring_to(&world, "capture").await;
    *till.refuses.lock().unwrap() = Some("capture");
    world.ask(command.clone()).await;
    until("refused", || async { world.events("CaptureFailed").await == 1 }).await;
    *till.refuses.lock().unwrap() = Some("refund");
    world.ask(command).await;
    world.reaches("captured", |payment| payment.status == PaymentStatus::Captured).await;
    world.ask(refund(1)).await;
    until("refused", || async { world.events("RefundFailed").await == 1 }).await;
    let payment = world.payment().await.unwrap();
    assert_eq!((payment.captured_minor, payment.refunded_minor, payment.refundable_minor()), (100, 0, 100));
    let published = told(&world.log).await;
    assert!(published.iter().all(|event| !event.payload.contains("4242")), "a gateway's words hold no card number");
    reactor.shutdown().await;
}

/// The first capture is refused, recorded, and not yet off the list when everything stops. By then another amount is asked for.
#[tokio::test]
async fn an_intent_that_failed_does_not_take_the_next_ones_amount() {
    let world = World::new(Home::sqlite()).await;
    let till = Arc::new(Till { traps: Arc::clone(&world.traps), ..Till::default() });
    let reactor = world.reactor(&till, options()).await;
    let all = bring_to(&world, "capture").await;
    *till.refuses.lock().unwrap() = Some("capture");
    world.traps.arm("done payments");
    world.ask(all).await;
    world.traps.sprung("refused").await;
    reactor.abort().await;
    assert_eq!(world.events("CaptureFailed").await, 1);

    *till.refuses.lock().unwrap() = None;
    world.ask(PaymentCommand::Capture { amount: Some(usd(40)) }).await;
    let reactor = world.reactor(&till, options()).await;
    world.reaches("captured", |payment| payment.captured_minor == 40).await;
    idle(&world.duties).await;
    reactor.shutdown().await;
    assert_eq!(till.times("capture"), 1, "under one key");
}

#[tokio::test]
async fn an_authorization_that_the_gateway_refuses_is_declined() {
    let world = World::new(Home::sqlite()).await;
    let till = Arc::new(Till { refuses: Mutex::new(Some("authorize")), ..Till::default() });
    let reactor = world.reactor(&till, options()).await;
    world.ask(authorize("pm_approve")).await;
    world.reaches("declined", |payment| payment.declined_because == Some(DeclineReason::Declined)).await;
    idle(&world.duties).await;
    assert_eq!(till.calls(), 1);
    reactor.shutdown().await;
}

#[tokio::test]
async fn an_authorization_expires_at_its_time_and_over_a_restart() {
    let world = World::new(Home::sqlite()).await;
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + TimeDelta::days(365 * 90)));
    let by_hand = ReactorOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..options() };
    let till = Arc::new(Till::default());
    let reactor = world.reactor(&till, by_hand.clone()).await;
    bring_to(&world, "capture").await;
    clock.advance(Duration::from_secs(6 * 24 * 3_600));
    reactor.shutdown().await;
    let reactor = world.reactor(&till, by_hand).await;
    assert_eq!(world.payment().await.unwrap().status, PaymentStatus::Authorized);
    clock.advance(Duration::from_secs(24 * 3_600));
    world.reaches("expired", |payment| payment.status == PaymentStatus::Expired).await;
    let payment = world.payment().await.unwrap();
    assert_eq!((payment.authorized_minor, payment.expired_minor, payment.held_minor()), (100, 100, 0));
    reactor.shutdown().await;
}

async fn send(service: &write_side::Service, request: Request<Body>) -> (u16, Value) {
    let response = service.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn post(service: &write_side::Service, path: &str, body: Value) -> (u16, Value) {
    // a refund asks for a version; any will do here
    let request = Request::post(path).header("content-type", "application/json").header("if-match", "*");
    send(service, request.body(Body::from(body.to_string())).unwrap()).await
}

async fn shown(service: &write_side::Service, path: &str) -> Value {
    send(service, Request::get(path).body(Body::empty()).unwrap()).await.1
}

#[tokio::test]
async fn over_http_a_payment_is_authorized_captured_and_refunded() {
    let service = payments::start(Given::new(MemoryLog::new("payments") as Arc<dyn EventLog>)).await.unwrap();
    let money = |amount_minor: i64| json!({ "amount_minor": amount_minor, "currency": "USD" });
    let (status, asked) = post(&service, "/payments", json!({ "order_id": ORDER, "amount": money(100) })).await;
    assert_eq!(status, 201, "{asked}");
    let path = format!("/payments/{}", asked["id"].as_str().unwrap());
    let reaches = |field: &'static str, value: Value| {
        let (service, path) = (&service, path.clone());
        async move { until(field, || async { shown(service, &path).await[field] == value }).await }
    };
    reaches("status", json!("AUTHORIZED")).await;
    let (status, _) = post(&service, &format!("{path}/capture"), json!({ "amount": money(60) })).await;
    assert_eq!(status, 200);
    reaches("captured", money(60)).await;
    reaches("voided", money(40)).await;
    let (status, refused) =
        post(&service, &format!("{path}/refund"), json!({ "amount": money(61), "reason": "r" })).await;
    assert_eq!((status, &refused["code"], &refused["left_minor"]), (422, &json!("refund_too_large"), &json!(60)));
    let (status, _) = post(&service, &format!("{path}/refund"), json!({ "amount": money(20), "reason": "r" })).await;
    assert_eq!(status, 200);
    reaches("refunded", money(20)).await;
    let (status, refused) = post(&service, &format!("{path}/void"), json!({})).await;
    assert_eq!((status, &refused["code"]), (422, &json!("payment_already_captured")));
    service.shutdown().await;
}

#[tokio::test]
async fn a_card_number_gets_no_further_than_the_edge() {
    let log = MemoryLog::new("payments");
    let service = payments::start(Given::new(Arc::clone(&log) as Arc<dyn EventLog>)).await.unwrap();
    let amount = json!({ "amount_minor": 100, "currency": "USD" });
    for method in ["4242424242424242", "pm_4242424242424242", "pm_4242_4242_4242_4242"] {
        let (status, refused) =
            post(&service, "/payments", json!({ "order_id": ORDER, "amount": amount, "method": method })).await;
        assert_eq!((status, &refused["errors"][0]["pointer"]), (422, &json!("/method")));
        assert!(!refused.to_string().contains("4242"), "{refused}");
    }
    let reason = json!({ "amount": amount, "reason": "to 4242 4242 4242 4242" });
    let (status, refused) = post(&service, &format!("/payments/{ID}/refund"), reason).await;
    assert!(status == 422 && !refused.to_string().contains("4242"), "{refused}");
    assert!(told(&log).await.is_empty());
    service.shutdown().await;
}

#[tokio::test]
async fn a_void_that_comes_first_bars_the_payment() {
    let log = MemoryLog::new("payments");
    let service = payments::start(Given::new(Arc::clone(&log) as Arc<dyn EventLog>)).await.unwrap();
    let (status, _) = post(&service, &format!("/payments/{ID}/void"), json!({ "order_id": ORDER })).await;
    assert_eq!(status, 200);
    let late = json!({ "id": ID, "order_id": ORDER, "amount": { "amount_minor": 100, "currency": "USD" } });
    let (status, refused) = post(&service, "/payments", late).await;
    assert_eq!((status, &refused["code"]), (422, &json!("payment_barred")));
    assert_eq!(shown(&service, &format!("/payments/{ID}")).await["status"], "BARRED");
    let (status, refused) = post(&service, &format!("/payments/{}/void", Uuid::from_u128(9)), json!({})).await;
    assert_eq!((status, &refused["code"]), (404, &json!("payment_not_found")));
    service.shutdown().await;
}
