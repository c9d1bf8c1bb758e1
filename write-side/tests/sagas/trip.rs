//! A trip: a hotel and a flight are booked, then it is paid, then the ticket is sent. What cannot be had in whole is
//! cancelled in whole.
//!
//! Version 1 books one after the other; version 2 both at once, and it also insures the traveller. `Trip<V>` is the
//! program as it was when version V was the newest.

use std::time::Duration;

use event_store::follower::{Backoff, Reject};
use events::{Published, envelope::RecordedEvent, published, saga_events};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use write_side::{
    reactor::decode,
    saga::{Definition, End, Kind, News, Outcome, Pace, Request},
};

/// Whose feed tells of wishes.
pub const WISHES: &str = "wishes";

pub const DEADLINE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TripIds {
    pub trip_id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TripStep {
    BookHotel,
    BookFlight,
    Pay,
    SendTicket,
    Insure,
    CancelFlight,
    CancelHotel,
}

pub const STEPS: [TripStep; 7] = [
    TripStep::BookHotel,
    TripStep::BookFlight,
    TripStep::Pay,
    TripStep::SendTicket,
    TripStep::Insure,
    TripStep::CancelFlight,
    TripStep::CancelHotel,
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TripFact {
    Wished,
    CalledOff,
    /// The ticket came back, for the nth time.
    Bounced {
        times: u32,
    },
    /// The traveller came for the ticket: it need not be sent, unless it has been.
    Collected,
}

saga_events! {
    /// Everything that can be known to have happened to a trip.
    pub enum TripEvent of <TripIds, TripStep, TripFact> {
        "TripStarted" "1" => TripStarted,
        "TripAdvanced" "1" => TripAdvanced,
        "TripStuck" "1" => TripStuck,
        "TripDecided" "1" => TripDecided,
        "TripCompleted" "1" => TripCompleted,
        "TripCompensated" "1" => TripCompensated,
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub trip_id: Uuid,
    pub fact: TripFact,
}

published! {
    /// What travellers tell.
    pub enum WishEvent {
        "Told" "1" => Told,
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TripState {
    trip_id: Uuid,
    hotel: Answer,
    flight: Answer,
    pub paid: Answer,
    pub receipt: Option<u64>,
    sent: bool,
    collected: bool,
    pub bounces: u32,
    insured: bool,
    /// Why it is given up.
    pub giving_up: Option<String>,
    flight_cancelled: bool,
    hotel_cancelled: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    #[default]
    None,
    Yes,
    No,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Trip<const V: u32>;

impl TripState {
    fn both_booked(&self) -> bool {
        (self.hotel, self.flight) == (Answer::Yes, Answer::Yes)
    }

    /// Too late to turn back, as long as nobody refuses the payment.
    fn is_past_the_pivot(&self) -> bool {
        self.both_booked() && self.giving_up.is_none()
    }

    fn flight_was_asked_for(&self, version: u32) -> bool {
        version >= 2 || self.hotel == Answer::Yes
    }

    fn give_up(&mut self, reason: &str) {
        self.giving_up.get_or_insert_with(|| reason.to_owned());
    }

    fn is_done(&self, version: u32) -> bool {
        self.paid == Answer::Yes && (self.sent || self.collected) && (self.insured || version < 2)
    }
}

impl<const V: u32> Definition for Trip<V> {
    const NAME: &'static str = "trip";
    const VERSION: u32 = V;
    const DEADLINE: Duration = DEADLINE;
    const PACE: Pace = Pace {
        backoff: Backoff { first: Duration::from_millis(4), max: Duration::from_millis(40) },
        refusals_max: 3,
        attempts_max: 3,
    };

    type Ids = TripIds;
    type Step = TripStep;
    type Fact = TripFact;
    type State = TripState;
    type Event = TripEvent;

    fn told(source: &str, event: &RecordedEvent) -> Result<Option<(TripIds, TripFact)>, Reject> {
        assert_eq!((source, WishEvent::PUBLISHED.len()), (WISHES, 1));
        let WishEvent::Told(Told { trip_id, fact }) = decode(event)?;
        Ok(Some((TripIds { trip_id }, fact)))
    }

    fn key(ids: &TripIds) -> String {
        ids.trip_id.to_string()
    }

    fn begin(_version: u32, ids: &TripIds, fact: &TripFact) -> Option<TripState> {
        match fact {
            TripFact::Wished => Some(TripState { trip_id: ids.trip_id, ..TripState::default() }),
            TripFact::CalledOff | TripFact::Bounced { .. } | TripFact::Collected => None,
        }
    }

    fn learn(version: u32, state: &mut TripState, news: News<'_, Self>) {
        assert!((1..=2).contains(&version));
        match news {
            News::Fact(TripFact::Wished) => {}
            News::Fact(TripFact::Collected) => state.collected = state.paid == Answer::Yes,
            News::Fact(TripFact::CalledOff) if state.is_past_the_pivot() => {}
            News::Fact(TripFact::CalledOff) => state.give_up("called off"),
            News::Fact(TripFact::Bounced { times }) => {
                state.sent = state.sent && *times <= state.bounces;
                state.bounces = state.bounces.max(*times);
            }
            News::Deadline if state.is_past_the_pivot() => {}
            News::Deadline => state.give_up("too late"),
            News::Ended { step, end } => {
                let answer = if matches!(end, End::Accepted { .. }) { Answer::Yes } else { Answer::No };
                match step {
                    TripStep::BookHotel => state.hotel = answer,
                    TripStep::BookFlight => state.flight = answer,
                    TripStep::Pay => {
                        state.paid = answer;
                        if let End::Accepted { report: Some(receipt) } = end {
                            state.receipt = receipt.as_u64();
                        }
                    }
                    TripStep::SendTicket => state.sent = true,
                    TripStep::Insure => state.insured = true,
                    TripStep::CancelFlight => state.flight_cancelled = true,
                    TripStep::CancelHotel => state.hotel_cancelled = true,
                }
                if answer == Answer::No && matches!(step, TripStep::BookHotel | TripStep::BookFlight | TripStep::Pay) {
                    state.give_up(&format!("{step:?} refused"));
                }
            }
        }
    }

    fn failed(_version: u32, state: &TripState, fact: &TripFact) -> Option<(TripStep, String)> {
        match fact {
            TripFact::Bounced { times } if *times > state.bounces && state.paid == Answer::Yes => {
                Some((TripStep::SendTicket, "bounced".to_owned()))
            }
            TripFact::Bounced { .. } | TripFact::Wished | TripFact::CalledOff | TripFact::Collected => None,
        }
    }

    fn due(version: u32, state: &TripState) -> Vec<TripStep> {
        if state.giving_up.is_some() {
            // in reverse
            let flight = state.flight_was_asked_for(version);
            let mut due = if flight { vec![TripStep::CancelFlight] } else { Vec::new() };
            if !flight || state.flight_cancelled {
                due.push(TripStep::CancelHotel);
            }
            return due;
        }
        let mut due = vec![TripStep::BookHotel];
        if state.flight_was_asked_for(version) {
            due.push(TripStep::BookFlight);
        }
        if state.both_booked() {
            due.push(TripStep::Pay);
        }
        if state.paid == Answer::Yes {
            if !state.collected {
                due.push(TripStep::SendTicket);
            }
            if version >= 2 {
                due.push(TripStep::Insure);
            }
        }
        due
    }

    fn request(_version: u32, state: &TripState, step: TripStep) -> Request {
        let id = state.trip_id;
        let (service, what) = match step {
            TripStep::BookHotel => ("hotels", "book"),
            TripStep::CancelHotel => ("hotels", "cancel"),
            TripStep::BookFlight => ("flights", "book"),
            TripStep::CancelFlight => ("flights", "cancel"),
            TripStep::Pay => ("bank", "pay"),
            TripStep::SendTicket => ("post", "send"),
            TripStep::Insure => ("insurers", "insure"),
        };
        let request = Request::post(service, format!("/{service}/{id}/{what}"), json!({ "bounces": state.bounces }));
        if step == TripStep::Pay { request.keep("receipt") } else { request }
    }

    fn kind(step: TripStep) -> Kind<TripStep> {
        match step {
            TripStep::BookHotel => Kind::Compensable { undo: TripStep::CancelHotel },
            TripStep::BookFlight => Kind::Compensable { undo: TripStep::CancelFlight },
            TripStep::Pay => Kind::Pivot,
            TripStep::SendTicket | TripStep::Insure | TripStep::CancelHotel | TripStep::CancelFlight => Kind::Retriable,
        }
    }

    fn phase(version: u32, state: &TripState) -> &'static str {
        match state {
            _ if state.hotel_cancelled => "Cancelled",
            TripState { giving_up: Some(_), .. } => "Cancelling",
            _ if state.is_done(version) => "Travelling",
            TripState { paid: Answer::Yes, .. } => "AwaitingTicket",
            _ if state.both_booked() => "AwaitingPayment",
            _ => "AwaitingBookings",
        }
    }

    fn outcome(version: u32, state: &TripState) -> Option<Outcome> {
        match &state.giving_up {
            Some(reason) if state.hotel_cancelled => Some(Outcome::Compensated { reason: reason.clone() }),
            Some(_) => None,
            None => state.is_done(version).then_some(Outcome::Completed),
        }
    }
}
