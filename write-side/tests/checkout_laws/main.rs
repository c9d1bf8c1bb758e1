//! The laws of the checkout, tried on the services' own decisions without anything around them: whatever comes in whatever
//! order, twice, late or never, an order ends whole or undone.

mod histories;
mod participants;
mod world;

use events::{checkout::CheckoutStep, ids::ProductId, saga::Decision};
use proptest::prelude::*;
use uuid::Uuid;

use self::world::{Moment, World};

/// Two lines, and how many pieces of each there are.
fn shop(stock: [u32; 2]) -> World {
    World::new(&[(product(1), 2, 1_800, 0, stock[0]), (product(2), 3, 999, 1_250, stock[1])])
}

fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

/// What happens next, by chance.
fn moments() -> impl Strategy<Value = Moment> {
    prop_oneof![
        8 => any::<prop::sample::Index>().prop_map(Moment::Send),
        8 => any::<prop::sample::Index>().prop_map(Moment::Record),
        1 => any::<prop::sample::Index>().prop_map(Moment::Refuse),
        8 => (0..4_usize).prop_map(Moment::Tell),
        5 => any::<bool>().prop_map(Moment::Gateway),
        1 => Just(Moment::CustomerCancels),
        1 => (0..2_usize, 1..3_u32).prop_map(|(line, quantity)| Moment::CustomerReturns { line, quantity }),
        3 => Just(Moment::Dispatch),
        2 => Just(Moment::Deliver),
        1 => Just(Moment::Lose),
        1 => Just(Moment::StaffCancelsShipment),
        1 => (1..4_000_i64).prop_map(Moment::StaffRefunds),
        1 => Just(Moment::ReservationsExpire),
        1 => Just(Moment::AuthorizationExpires),
        1 => Just(Moment::Deadline),
    ]
}

proptest! {
    #[test]
    fn an_order_ends_whole_or_undone_whatever_happens(
        stock in [prop_oneof![4 => Just(5_u32), 1 => Just(1)], prop_oneof![4 => Just(5_u32), 1 => Just(2)]],
        moments in prop::collection::vec(moments(), 0..150),
    ) {
        let mut world = shop(stock);
        for moment in &moments {
            world.live(moment);
        }
        world.come_to_rest();
        world.check_laws();
        // whatever was sent and never came arrives after all
        world.let_the_late_arrive();
        world.come_to_rest();
        world.check_laws();
    }
}

/// How many things happen when all goes well.
fn length() -> usize {
    let mut world = shop([5, 5]);
    (0..).take_while(|_| world.go_on()).count()
}

/// What may come in between.
const THINGS: [Moment; 9] = [
    Moment::CustomerCancels,
    Moment::CustomerReturns { line: 1, quantity: 2 },
    Moment::Lose,
    Moment::StaffCancelsShipment,
    Moment::StaffRefunds(700),
    Moment::ReservationsExpire,
    Moment::AuthorizationExpires,
    Moment::Deadline,
    Moment::Gateway(false),
];

/// After so many things that went well.
fn after(steps: usize) -> World {
    let mut world = shop([5, 5]);
    for _ in 0..steps {
        world.go_on();
    }
    world
}

#[test]
fn an_order_that_goes_well_is_delivered_and_paid() {
    let mut world = shop([5, 5]);
    world.come_to_rest();
    world.check_laws();
    assert_eq!(world.captured_minor(), 2 * 1_800 + 2_622);
}

#[test]
fn whatever_happens_at_any_moment_the_laws_hold() {
    for (thing, when) in THINGS.iter().flat_map(|thing| (0..=length()).map(move |when| (thing, when))) {
        let mut world = after(when);
        world.note(format!("{thing:?} after {when} steps"));
        world.live(thing);
        world.come_to_rest();
        world.check_laws();
    }
}

#[test]
fn whatever_happens_upon_something_else_the_laws_hold() {
    let length = length();
    let pairs = THINGS.iter().flat_map(|first| THINGS.iter().map(move |second| (first, second)));
    for ((first, second), when) in pairs.flat_map(|pair| (0..=length).map(move |when| (pair, when))) {
        let mut world = after(when);
        world.note(format!("{first:?} after {when} steps, and soon after it {second:?}"));
        world.live(first);
        for _ in 0..when % 4 {
            world.go_on();
        }
        world.live(second);
        world.come_to_rest();
        world.check_laws();
    }
}

#[test]
fn every_step_that_is_refused_undoes_the_order_before_the_pivot_and_is_asked_for_again_after_it() {
    for step in after(length()).asked() {
        let mut world = shop([5, 5]);
        world.note(format!("{step} is refused"));
        world.refuse_once(step);
        world.come_to_rest();
        world.check_laws();
        let before_the_pivot = matches!(
            step,
            CheckoutStep::Reserve(_) | CheckoutStep::Authorize | CheckoutStep::Secure(_) | CheckoutStep::Confirm
        );
        assert_eq!(world.is_compensated(), before_the_pivot, "{step}");
    }
}

#[test]
fn every_step_that_times_out_and_lands_late_does_no_harm() {
    let landings = [false, true];
    for (step, lands) in after(length()).asked().into_iter().flat_map(|step| landings.map(|lands| (step, lands))) {
        let mut world = shop([5, 5]);
        world.note(format!("{step} is not answered, and lands {}", if lands { "at once" } else { "late" }));
        world.hold_back(step, lands);
        world.come_to_rest();
        world.live(&Moment::Deadline);
        world.come_to_rest();
        world.release_what_was_held_back();
        world.come_to_rest();
        world.check_laws();
    }
}

#[test]
fn an_operators_word_about_a_step_that_was_done_and_whose_answer_was_lost_is_as_good_as_the_answer() {
    let afterwards = [None, Some(Moment::CustomerReturns { line: 1, quantity: 2 }), Some(Moment::CustomerCancels)];
    for decision in [Decision::Retry, Decision::Force] {
        for (step, then) in after(length()).asked().into_iter().flat_map(|step| afterwards.clone().map(|it| (step, it)))
        {
            let mut world = shop([5, 5]);
            world.note(format!("{step} is done, and its answer is lost"));
            world.hold_back(step, true);
            world.come_to_rest();
            world.decide(step, decision);
            world.hold_nothing_back();
            world.come_to_rest();
            if let Some(moment) = &then {
                world.live(moment);
                world.come_to_rest();
            }
            world.check_laws();
        }
    }
}

#[test]
fn whatever_an_operator_ends_by_hand_it_ends_or_can_be_brought_to_an_end() {
    let begun = [None, Some(Moment::CustomerCancels), Some(Moment::Deadline), Some(Moment::StaffCancelsShipment)];
    for (thing, when) in begun.iter().flat_map(|thing| (0..=length()).map(move |when| (thing, when))) {
        let at_that_moment = || {
            let mut world = after(when);
            if let Some(moment) = thing {
                world.live(moment);
                world.go_on();
            }
            world
        };
        for step in at_that_moment().waits_for() {
            for (decision, lands) in [Decision::Force, Decision::Skip].map(|it| [(it, false), (it, true)]).concat() {
                let mut world = at_that_moment();
                world.note(format!("{thing:?} after {when} steps; {step} has been done: {lands}"));
                if lands {
                    world.do_unanswered(step);
                }
                world.decide(step, decision);
                // what is refused for good is asked for again and again, until it is skipped as well
                let can_end = |world: &mut World| {
                    (0..20).any(|_| {
                        (0..300).take_while(|_| world.go_on()).for_each(drop);
                        world.waits_for().into_iter().for_each(|open| world.decide(open, Decision::Skip));
                        world.has_ended()
                    })
                };
                // who said that a parcel is planned, and planned none, can still have the order called off
                let ends = can_end(&mut world) || {
                    world.live(&Moment::CustomerCancels);
                    can_end(&mut world)
                };
                assert!(ends, "nobody can end it\n{world}");
                assert!(decision == Decision::Force || !world.has_sent_what_it_kept(), "{world}");
            }
        }
    }
}

#[test]
fn a_confirmation_that_landed_although_it_was_skipped_is_taken_back() {
    let confirming = |when: &usize| after(*when).waits_for().contains(&CheckoutStep::Confirm);
    let when = (0..length()).find(confirming).expect("it is asked for");
    let mut world = after(when);
    world.do_unanswered(CheckoutStep::Confirm);
    world.decide(CheckoutStep::Confirm, Decision::Skip);
    world.come_to_rest();
    world.check_laws();
    assert!(world.is_compensated() && world.asked().contains(&CheckoutStep::Stop), "{world}");
}

#[test]
fn a_checkout_whose_log_was_restored_from_before_it_does_nothing_anew() {
    let lives = [None, Some(Moment::CustomerReturns { line: 1, quantity: 2 }), Some(Moment::CustomerCancels)];
    for life in &lives {
        let mut world = shop([5, 5]);
        world.come_to_rest();
        if let Some(moment) = life {
            world.live(moment);
            world.come_to_rest();
        }
        let before = (world.captured_minor(), world.happenings());
        world.forget_the_checkout();
        // what was shipped is not released, and is asked for again and again
        (0..300).take_while(|_| world.go_on()).for_each(drop);
        assert_eq!((world.captured_minor(), world.happenings()), before, "{life:?}\n{world}");
        // a part that came back and was paid back is known for its own, whenever it is heard of; an order that came back as a
        // whole is taken for one that was cancelled, and somebody has to look
        if !matches!(life, Some(Moment::CustomerCancels)) {
            world.check_laws();
        }
    }
}

#[test]
fn an_answer_that_comes_twice_changes_nothing_the_second_time() {
    for when in 0..length() {
        let mut world = after(when);
        world.repeat_all_answers();
        world.come_to_rest();
        world.check_laws();
        assert!(!world.is_compensated());
    }
}
