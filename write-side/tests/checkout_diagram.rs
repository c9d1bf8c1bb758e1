//! `docs/checkout.md` shows where a checkout can go, drawn from the definition: every way that an order of one line can
//! take is walked, and what is found is compared with what is written there.
//!
//! `TRIBUTARY_REFRESH=1 cargo test -p write-side --test checkout_diagram` writes it anew.

use std::{env, fs, path::Path};

use events::{
    checkout::{CheckoutFact, CheckoutIds, CheckoutLine, CheckoutStep, PlacedOrder},
    ids::{OrderId, ProductId, UserId},
    money::Currency,
    orders::ReturnedLine,
    payments::DeclineReason,
    saga::{EffectId, Input, Reply, Timer},
};
use serde_json::json;
use uuid::Uuid;
use write_side::{
    checkout::{
        definition::{Checkout, Phase},
        money::{MoneyStatus, Wish},
        state::{Parcel, Stage},
        stock::Hold,
    },
    saga::{
        Instance,
        explore::{Explored, explore},
        instance::Status,
    },
};

/// Far more than there are.
const STATES_MAX: usize = 200_000;

const BEGIN: &str = "<!-- diagram: begin, made by write-side/tests/checkout_diagram.rs -->\n";
const END: &str = "<!-- diagram: end -->";

type CheckoutInput = Input<CheckoutStep, CheckoutFact>;

fn explored() -> Explored {
    let (order_id, customer_id) = (OrderId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
    let line = CheckoutLine { product_id: ProductId(Uuid::nil()), quantity: 2, unit_minor: 500, discount_bp: 0 };
    let (currency, lines) = (Currency::EUR, vec![line]);
    let placed = PlacedOrder { order_id, customer_id, currency, lines, payment_method: None };
    let ids = CheckoutIds { order_id, customer_id: Some(customer_id) };
    explore::<Checkout>(&ids, &CheckoutFact::OrderPlaced(placed), inputs, label, STATES_MAX).expect("they are fewer")
}

/// What may happen next, as the other services are.
fn inputs(instance: &Instance<Checkout>) -> Vec<CheckoutInput> {
    let answers = instance.open().flat_map(|(step, asked)| answers(instance, step, asked.effect));
    let facts = facts(instance).into_iter().map(|fact| Input::Observed { fact });
    // behind the pivot it changes nothing
    let counts = !matches!(instance.state.stage, Stage::Compensating(_) | Stage::CarryingOut);
    let deadline = instance.deadline.filter(|_| counts);
    let deadline = deadline.map(|effect| Input::TimerFired { effect, timer: Timer::Deadline });
    answers.chain(facts).chain(deadline).collect()
}

fn answers(instance: &Instance<Checkout>, step: CheckoutStep, effect: EffectId) -> Vec<CheckoutInput> {
    let accepted = |report| Reply::Accepted { report };
    let refused = || Reply::Refused { code: "refused".to_owned(), detail: String::new() };
    let reservation = |status: &str| accepted(Some(json!({ "status": status })));
    let is_cancelled = instance.state.life.cancelled;
    let replies = match step {
        CheckoutStep::Reserve(_) => vec![reservation("RESERVED"), reservation("REJECTED"), refused()],
        CheckoutStep::Authorize => vec![accepted(Some(json!("id"))), refused()],
        CheckoutStep::Secure(_) => vec![accepted(None), refused()],
        CheckoutStep::Confirm if is_cancelled => vec![refused()],
        CheckoutStep::Confirm => vec![accepted(None), refused()],
        CheckoutStep::Capture | CheckoutStep::Void | CheckoutStep::Refund(_) => vec![accepted(Some(json!("id")))],
        // refused once the parcel has left
        CheckoutStep::Stop if instance.state.parcel != Parcel::Scheduled => vec![refused()],
        CheckoutStep::Schedule
        | CheckoutStep::Ship(_)
        | CheckoutStep::MarkShipped
        | CheckoutStep::MarkDelivered
        | CheckoutStep::Release(_)
        | CheckoutStep::Reject
        | CheckoutStep::Stop
        | CheckoutStep::Return => vec![accepted(None)],
    };
    replies.into_iter().map(|reply| Input::Replied { effect, step, reply }).collect()
}

/// Facts that there can be after what the checkout has asked for and was answered. That a fact may come before the answer
/// is left to the laws: it leads to the same places.
fn facts(instance: &Instance<Checkout>) -> Vec<CheckoutFact> {
    let state = &instance.state;
    let was_asked = |step| instance.steps.get(&step).is_some_and(|asked| asked.status != Status::Open);
    let (life, money) = (&state.life, &state.money);
    let mut facts = Vec::new();
    let mut may = |is_so: bool, fact: CheckoutFact| facts.extend(is_so.then_some(fact));

    let is_asked = was_asked(CheckoutStep::Authorize) && money.status == MoneyStatus::Asked;
    may(is_asked, CheckoutFact::PaymentAuthorized);
    may(is_asked, CheckoutFact::PaymentDeclined { reason: DeclineReason::Declined });
    may(was_asked(CheckoutStep::Void) && !money.is_gone(), CheckoutFact::PaymentVoided);
    let is_held = money.status == MoneyStatus::Authorized;
    may(is_held && money.wish != Wish::Void, CheckoutFact::PaymentExpired);
    if let (true, Wish::Capture { amount_minor }) = (was_asked(CheckoutStep::Capture) && is_held, money.wish) {
        may(true, CheckoutFact::PaymentCaptured { amount_minor });
        may(true, CheckoutFact::CaptureFailed);
    }
    if money.refunding && was_asked(CheckoutStep::Refund(money.refunds - 1)) {
        let (refund_id, amount_minor) = (money.refund_id(state.saga_id), money.owed_minor(state.price_minor()));
        may(true, CheckoutFact::PaymentRefunded { refund_id, amount_minor });
    }

    let is_on_the_way = !matches!(state.stage, Stage::Compensating(_) | Stage::CarryingOut);
    let is_promised = state.stock.holds() == [Hold::Reserved] && is_on_the_way;
    may(is_promised, CheckoutFact::ReservationExpired { line: 0 });

    let is_confirmed = match state.stage {
        Stage::CarryingOut => true,
        Stage::Confirming => !life.cancelled,
        Stage::Reserving | Stage::Authorizing | Stage::Securing | Stage::Compensating(_) => false,
    };
    may(state.stage != Stage::CarryingOut && !life.cancelled, CheckoutFact::OrderCancelled { rejected: false });
    let back = |quantity| vec![ReturnedLine { product_id: ProductId(Uuid::nil()), quantity }];
    let left = 2 - life.returned.values().sum::<u32>();
    may(is_confirmed && !life.came_back, CheckoutFact::OrderReturned { lines: back(left), complete: true });
    let may_part = life.marked_shipped && left == 2 && !life.came_back;
    may(may_part, CheckoutFact::OrderReturned { lines: back(1), complete: false });

    let is_here = state.parcel == Parcel::Scheduled;
    may(is_here, CheckoutFact::ShipmentDispatched);
    may(is_here, CheckoutFact::ShipmentCancelled);
    may(state.parcel == Parcel::Dispatched, CheckoutFact::ShipmentDelivered);
    may(state.parcel == Parcel::Dispatched, CheckoutFact::ShipmentLost);
    facts
}

fn label(input: &CheckoutInput) -> String {
    match input {
        Input::Observed { fact } => {
            let fact = serde_json::to_value(fact).expect("a fact serializes");
            fact["type"].as_str().expect("a fact has a type").to_owned()
        }
        Input::Replied { step, reply: Reply::Accepted { report: Some(report) }, .. }
            if report["status"].is_string() =>
        {
            format!("{} {}", step.word(), report["status"].as_str().unwrap_or_default())
        }
        Input::Replied { step, reply: Reply::Accepted { .. }, .. } => format!("{} accepted", step.word()),
        Input::Replied { step, reply: Reply::Refused { .. }, .. } => format!("{} refused", step.word()),
        Input::TimerFired { .. } => "deadline".to_owned(),
    }
}

#[test]
fn the_diagram_shows_where_a_checkout_can_go_and_it_always_goes_on() {
    let explored = explored();
    assert_eq!(explored.dead_ends.iter().copied().collect::<Vec<_>>(), Vec::<&str>::new(), "nobody hears of it again");
    let mut shown: Vec<&str> = explored.edges.iter().flat_map(|edge| [edge.from, edge.to]).collect();
    shown.sort_unstable();
    shown.dedup();
    let mut phases = Phase::ALL.map(Phase::as_str);
    phases.sort_unstable();
    assert_eq!(shown, phases, "each phase can be reached");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checkout.md");
    let text = fs::read_to_string(&file).expect("docs/checkout.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the diagram");
    let (written, after) = rest.split_once(END).expect("the mark behind the diagram");
    let drawn = format!("\n```mermaid\n{}```\n\n", explored.mermaid());
    if env::var_os("TRIBUTARY_REFRESH").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{drawn}{END}{after}")).expect("docs/checkout.md can be written");
        return;
    }
    assert_eq!(
        written, drawn,
        "docs/checkout.md shows another saga: run this test with TRIBUTARY_REFRESH=1 and commit it"
    );
}
