//! Reactors: what they have yet to do, and what became of what they have tried.

use write_side::reactor::duty::Duty;

use super::Family;
use crate::admin::ServicesAdmin;

/// The most duties of one reactor that a look counts.
const DUTIES_COUNTED_MAX: usize = 10_000;

pub async fn seen(admin: &ServicesAdmin) -> [Family; 2] {
    [duties(admin).await, attempts(admin)]
}

const DUTY_STATES: [&str; 3] = ["waiting", "failing", "timer"];

fn state_of(duty: &Duty) -> &'static str {
    match (duty.attempts, duty.timer) {
        (0, false) => "waiting",
        (0, true) => "timer",
        (_, _) => "failing",
    }
}

/// What reactors have yet to do.
async fn duties(admin: &ServicesAdmin) -> Family {
    let mut duties = Family::gauge(
        "tributary_reactor_duties",
        "What events oblige a reactor to do and is not done: waiting for its turn, failing and tried again, or a timer whose \
         time has not come. The first 10,000 are counted.",
    );
    for (service, reactor) in &admin.reactors {
        match reactor.open(DUTIES_COUNTED_MAX).await {
            Ok(open) => {
                for state in DUTY_STATES {
                    let count = open.iter().filter(|duty| state_of(duty) == state).count();
                    duties.push_whole(&[("reactor", *service), ("state", state)], count as u64);
                }
            }
            Err(error) => tracing::warn!(reactor = service, %error, "its duties cannot be counted"),
        }
    }
    duties
}

/// What was tried.
fn attempts(admin: &ServicesAdmin) -> Family {
    let mut attempts = Family::counter(
        "tributary_reactor_attempts_total",
        "Attempts at what events oblige a reactor to do, by how they ended: done, failed and to be tried again, hindered \
         before they began, or put off to their time.",
    );
    for (service, reactor) in &admin.reactors {
        for (outcome, count) in reactor.attempts().now() {
            attempts.push_whole(&[("reactor", *service), ("outcome", outcome)], count);
        }
    }
    attempts
}
