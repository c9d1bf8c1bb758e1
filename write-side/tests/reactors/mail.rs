//! Notifications: one message for each thing worth telling, whatever crashes, and none for what is history.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use event_store::{
    bus::{BusOptions, CommandBus},
    log::EventLog,
    memory::MemoryLog,
    writer::{Writer, WriterOptions},
};
use events::{
    ids::{OrderId, UserId},
    notifications::FailureReason,
    orders::{
        ORDER, OrderCancelled, OrderConfirmed, OrderDelivered, OrderEvent, OrderImported, OrderPlaced, OrderReturned,
        OrderShipped, OrderStatus,
    },
    personal::Personal,
    users::{USER, UserErased, UserEvent, UserRegistered},
};
use testkit::follower_kit::soon;
use tokio::net::TcpListener;
use uuid::Uuid;
use write_side::{
    Given, Service,
    notifications::{
        mail::{Mail, MailError, Mailer, Sender},
        mailbox::MailFolder,
        mailing::{Mailing, SEND_ATTEMPTS_MAX, notification_id},
        notification::{Notification, NotificationStatus},
    },
    peer::Peer,
    reactor::{Reactor, duty::Duties},
    users,
};

use super::support::{Home, TrappedDuties, Traps, feeds, idle, options, tell, told, until};

pub const ANA: UserId = UserId(Uuid::from_u128(1));
pub const EMAIL: &str = "ana.canary@example.com";
const NOBODY: UserId = UserId(Uuid::from_u128(9));

pub fn order(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(100 + n))
}

pub fn sender() -> Sender {
    "Tributary <orders@shop.example>".parse().unwrap()
}

/// A folder of mail with traps before and after a message is in it.
struct TrappedMail {
    folder: MailFolder,
    sends: AtomicUsize,
    traps: Arc<Traps>,
}

#[async_trait]
impl Mailer for TrappedMail {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        self.sends.fetch_add(1, Ordering::SeqCst);
        self.traps.pass("before the act").await;
        self.folder.send(mail).await?;
        self.traps.pass("after the act").await;
        Ok(())
    }
}

/// The logs of orders, users and notifications, which outlive reactors.
pub struct World {
    pub orders: Arc<MemoryLog>,
    pub log: Arc<MemoryLog>,
    pub bus: CommandBus<Notification>,
    pub users: Service,
    pub people: Arc<MemoryLog>,
    pub duties: Arc<dyn Duties>,
    traps: Arc<Traps>,
    mail: PathBuf,
    home: Home,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new(home: Home) -> Self {
        let (orders, log, people) =
            (MemoryLog::new("orders"), MemoryLog::new("notifications"), MemoryLog::new("users"));
        let personal = |text: &str| Personal::of(ANA, text.to_owned());
        let (name, email) = (personal("Ana"), personal(EMAIL));
        let ana = UserRegistered { user_id: ANA, name, email, address: None, external_ref: None };
        tell(&people, USER, ANA.0, &UserEvent::from(ana)).await;
        let users = users::start(Given::new(Arc::clone(&people) as Arc<dyn EventLog>)).await.unwrap();
        let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
        let bus = CommandBus::start(writer, (), BusOptions::default());
        let folder = tempfile::tempdir().unwrap();
        let mail = folder.path().join("mail");
        let duties = home.duties().await;
        Self { orders, log, bus, users, people, duties, traps: Arc::default(), mail, home, _folder: folder }
    }

    fn folder(&self) -> Arc<TrappedMail> {
        let folder = MailFolder::open(&self.mail).unwrap();
        Arc::new(TrappedMail { folder, sends: AtomicUsize::new(0), traps: Arc::clone(&self.traps) })
    }

    pub async fn reactor(&self, mailer: Arc<dyn Mailer>) -> Reactor {
        self.reactor_on(&self.duties, Peer::here(self.users.router.clone()), mailer).await
    }

    async fn reactor_on(&self, on: &Arc<dyn Duties>, users: Peer, mailer: Arc<dyn Mailer>) -> Reactor {
        let mailing = Mailing { bus: self.bus.clone(), users, mailer, sender: sender() };
        let duties = Arc::new(TrappedDuties { duties: Arc::clone(on), traps: Arc::clone(&self.traps) });
        let (epoch, feeds) = (self.log.identity().epoch, feeds(&[&self.orders, &self.log]));
        Reactor::start(Arc::new(mailing), duties, ("notifications", epoch), feeds, options()).await.unwrap()
    }

    pub async fn place(&self, n: u128, customer_id: UserId) {
        let placed = OrderPlaced {
            order_id: order(n),
            customer_id,
            lines: vec![],
            placed_at: DateTime::UNIX_EPOCH,
            payment_method: None,
            external_ref: None,
        };
        tell(&self.orders, ORDER, order(n).0, &OrderEvent::from(placed)).await;
    }

    async fn cancel(&self, n: u128) {
        let (order_id, reason) = (order(n), "changed my mind".into());
        let cancelled = OrderCancelled { order_id, customer_id: ANA, reason, rejected: false };
        tell(&self.orders, ORDER, order(n).0, &OrderEvent::from(cancelled)).await;
    }

    async fn reject(&self, n: u128) {
        let (order_id, reason) = (order(n), "the payment was declined".into());
        let rejected = OrderCancelled { order_id, customer_id: ANA, reason, rejected: true };
        tell(&self.orders, ORDER, order(n).0, &OrderEvent::from(rejected)).await;
    }

    async fn give_back(&self, n: u128) {
        let (order_id, lines, complete, reason) = (order(n), vec![], true, None);
        let returned = OrderReturned { order_id, customer_id: ANA, lines, complete, reason };
        tell(&self.orders, ORDER, order(n).0, &OrderEvent::from(returned)).await;
    }

    /// Confirms, ships and delivers.
    async fn carry_out(&self, n: u128) {
        let (order_id, customer_id, day) = (order(n), ANA, DateTime::UNIX_EPOCH);
        for event in [
            OrderConfirmed { order_id, customer_id }.into(),
            OrderShipped { order_id, customer_id, shipped_at: day }.into(),
            OrderDelivered { order_id, customer_id, delivered_at: day }.into(),
        ] {
            tell::<OrderEvent>(&self.orders, ORDER, order_id.0, &event).await;
        }
    }

    async fn import(&self, n: u128) {
        let imported = OrderImported {
            order_id: order(n),
            customer_id: ANA,
            lines: vec![],
            status: OrderStatus::Shipped,
            placed_at: DateTime::UNIX_EPOCH,
            shipped_at: None,
            external_ref: "10248".into(),
        };
        tell(&self.orders, ORDER, order(n).0, &OrderEvent::from(imported)).await;
    }

    /// What became of what was said about the event at `sequence` of an order.
    pub async fn status(&self, n: u128, sequence: u64) -> Option<NotificationStatus> {
        let id = notification_id(order(n), sequence).to_string();
        match self.bus.load(&id).await.unwrap()?.state {
            Notification::Known { status, .. } => Some(status),
            Notification::Absent => None,
        }
    }

    pub async fn reaches(&self, n: u128, sequence: u64, status: NotificationStatus) {
        until(&format!("{status:?}"), || async { self.status(n, sequence).await == Some(status) }).await;
    }

    /// What was written about the event at `sequence` of an order, as one line.
    fn message(&self, n: u128, sequence: u64) -> String {
        let name = format!("{}.eml", notification_id(order(n), sequence));
        let (_, message) = self.messages().into_iter().find(|(file, _)| *file == name).unwrap();
        message.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn messages(&self) -> Vec<(String, String)> {
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        };
        let mut messages: Vec<_> = std::fs::read_dir(&self.mail).unwrap().map(read).collect();
        messages.sort();
        messages
    }

    async fn settled(&self, reactor: &Reactor) {
        soon("all is read", reactor.follower().caught_up()).await.unwrap();
        idle(&self.duties).await;
        // what was done about orders has made notifications, which are read next
        soon("all is read", reactor.follower().caught_up()).await.unwrap();
        idle(&self.duties).await;
    }
}

/// Dies at each step of both halves. The successor goes on, and one that starts over sends nothing.
async fn whatever_crashes_a_message_is_sent_once(home: Home) {
    for (step, sends_expected) in [
        ("note orders", 1),
        ("done orders", 1),
        ("note notifications", 1),
        ("before the act", 2),
        ("after the act", 2),
        ("done notifications", 1),
    ] {
        let world = World::new(home.anew().await).await;
        let mailer = world.folder();
        let reactor = world.reactor(Arc::clone(&mailer) as _).await;
        world.traps.arm(step);
        world.place(1, ANA).await;
        world.traps.sprung(step).await;
        reactor.abort().await;

        let reactor = world.reactor(Arc::clone(&mailer) as _).await;
        world.reaches(1, 1, NotificationStatus::Sent).await;
        world.settled(&reactor).await;
        reactor.shutdown().await;
        let messages = world.messages();
        assert_eq!(messages.len(), 1, "{step}: {messages:?}");
        assert_eq!(messages[0].0, format!("{}.eml", notification_id(order(1), 1)));
        assert_eq!(mailer.sends.load(Ordering::SeqCst), sends_expected, "{step}");
        let events = told(&world.log).await;
        let types: Vec<&str> = events.iter().map(|event| &*event.event_type).collect();
        assert_eq!(types, ["NotificationRequested", "NotificationSent"], "{step}");
        assert!(!events.iter().any(|event| event.payload.contains("canary")), "the address is not kept");

        // as after a restored checkpoint: it knows nothing and reads everything, orders too
        let elsewhere = home.anew().await;
        let forgetful = elsewhere.duties().await;
        forgetful.begin("orders", world.orders.identity().epoch).await.unwrap();
        let reactor =
            world.reactor_on(&forgetful, Peer::here(world.users.router.clone()), Arc::clone(&mailer) as _).await;
        soon("all is read", reactor.follower().caught_up()).await.unwrap();
        idle(&forgetful).await;
        reactor.shutdown().await;
        assert_eq!(mailer.sends.load(Ordering::SeqCst), sends_expected, "{step}");
        assert_eq!(told(&world.log).await.len(), 2, "{step}");
    }
}

#[tokio::test]
async fn in_sqlite_whatever_crashes_a_message_is_sent_once() {
    whatever_crashes_a_message_is_sent_once(Home::sqlite()).await;
}

#[tokio::test]
async fn in_postgres_whatever_crashes_a_message_is_sent_once() {
    whatever_crashes_a_message_is_sent_once(Home::postgres().await).await;
}

#[tokio::test]
async fn each_milestone_of_an_order_is_told_and_an_import_is_not() {
    let world = World::new(Home::sqlite()).await;
    world.place(7, ANA).await;
    let mailer = world.folder();
    let reactor = world.reactor(Arc::clone(&mailer) as _).await;
    world.place(1, ANA).await;
    world.cancel(1).await;
    world.place(2, ANA).await;
    world.carry_out(2).await;
    world.give_back(2).await;
    world.import(3).await;
    world.give_back(3).await;
    // placed before there was anybody to tell of it, as far as this service knows
    world.cancel(7).await;
    for (n, sequence) in [(1, 1), (1, 2), (2, 1), (2, 3), (2, 4), (2, 5)] {
        world.reaches(n, sequence, NotificationStatus::Sent).await;
    }
    world.settled(&reactor).await;
    assert_eq!((world.messages().len(), mailer.sends.load(Ordering::SeqCst)), (6, 6));
    // that it is confirmed is no news to the customer
    for (n, sequence) in [(2, 2), (3, 1), (3, 2), (7, 1), (7, 2)] {
        assert_eq!(world.status(n, sequence).await, None);
    }
    let message = world.message(1, 2);
    assert!(message.contains("Subject: Your order is cancelled") && message.contains(EMAIL), "{message}");
    assert!(message.contains(&order(1).to_string()), "{message}");
    assert!(!message.contains("changed my mind"), "what a customer wrote stays with their order: {message}");
    assert!(world.message(2, 5).contains("Subject: We have taken your order back"), "{:?}", world.messages());
    reactor.shutdown().await;
}

#[tokio::test]
async fn who_cannot_be_served_is_told_why() {
    let world = World::new(Home::sqlite()).await;
    let reactor = world.reactor(world.folder()).await;
    world.place(1, ANA).await;
    world.reject(1).await;
    world.reaches(1, 2, NotificationStatus::Sent).await;
    let message = world.message(1, 2);
    assert!(message.contains("Subject: We cannot carry out your order"), "{message}");
    assert!(message.contains("We cannot carry it out: the payment was declined. Nothing will be sent"), "{message}");
    reactor.shutdown().await;
}

#[tokio::test]
async fn who_was_erased_or_never_known_is_not_written_to() {
    let world = World::new(Home::sqlite()).await;
    let mailer = world.folder();
    let reactor = world.reactor(Arc::clone(&mailer) as _).await;
    tell(&world.people, USER, ANA.0, &UserEvent::from(UserErased { user_id: ANA })).await;
    world.place(1, ANA).await;
    world.place(2, NOBODY).await;
    world.reaches(1, 1, NotificationStatus::Failed(FailureReason::UserErased)).await;
    world.reaches(2, 1, NotificationStatus::Failed(FailureReason::UserUnknown)).await;
    assert_eq!(mailer.sends.load(Ordering::SeqCst), 0);
    reactor.shutdown().await;
}

/// Takes no message, now or ever.
struct Closed(AtomicUsize);

#[async_trait]
impl Mailer for Closed {
    async fn send(&self, _mail: &Mail) -> Result<(), MailError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(MailError::Unavailable("closed".to_owned()))
    }
}

#[tokio::test]
async fn a_message_that_nobody_takes_is_given_up_after_the_bound() {
    let world = World::new(Home::sqlite()).await;
    let closed = Arc::new(Closed(AtomicUsize::new(0)));
    let reactor = world.reactor(Arc::clone(&closed) as _).await;
    world.place(1, ANA).await;
    world.reaches(1, 1, NotificationStatus::Failed(FailureReason::Undeliverable)).await;
    assert_eq!(closed.0.load(Ordering::SeqCst), SEND_ATTEMPTS_MAX as usize);
    reactor.shutdown().await;
}

#[tokio::test]
async fn the_users_service_is_asked_over_the_network_and_waited_for() {
    let world = World::new(Home::sqlite()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mailer = world.folder();
    let users = Peer::there(&format!("http://{address}/"), None).unwrap();
    let reactor = world.reactor_on(&world.duties, users, Arc::clone(&mailer) as _).await;
    world.place(1, ANA).await;
    let asked_in_vain =
        || async { world.duties.open(9).await.unwrap().iter().any(|duty| duty.reason.is_some() && duty.attempts == 0) };
    until("it was asked in vain", asked_in_vain).await;
    assert_eq!(mailer.sends.load(Ordering::SeqCst), 0);
    let listener = TcpListener::bind(address).await.unwrap();
    let router = world.users.router.clone();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    world.reaches(1, 1, NotificationStatus::Sent).await;
    reactor.shutdown().await;
    server.abort();
}

#[tokio::test]
async fn the_service_runs_its_reactor_and_shows_what_it_did() {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use tower::ServiceExt;
    use write_side::notifications::{self, Post};

    let world = World::new(Home::sqlite()).await;
    let post = Post { mailer: world.folder(), sender: sender() };
    let given = Given {
        feeds: feeds(&[&world.orders]),
        duties: world.home.replica(),
        peers: [("users", Peer::here(world.users.router.clone()))].into(),
        post: Some(post),
        ..Given::new(MemoryLog::new("notifications") as Arc<dyn EventLog>)
    };
    let service = notifications::start(given).await.unwrap();
    world.place(1, ANA).await;
    let path = format!("/notifications/{}", notification_id(order(1), 1));
    let shown = || async {
        let request = Request::get(&path).body(Body::empty()).unwrap();
        let body = service.router.clone().oneshot(request).await.unwrap().into_body();
        serde_json::from_slice::<serde_json::Value>(&to_bytes(body, usize::MAX).await.unwrap()).unwrap()
    };
    until("it was sent", || async { shown().await["status"] == "SENT" }).await;
    let notification = shown().await;
    assert_eq!((&notification["kind"], &notification["channel"]), (&"ORDER_RECEIVED".into(), &"EMAIL".into()));
    assert!(!notification.to_string().contains("canary"));
    tokio::time::timeout(Duration::from_secs(10), service.shutdown()).await.unwrap();
}
