//! A notification: one message to one user about one order.
//!
//! Why: that somebody was told is a fact of its own, which must survive whatever repeats its cause. Invariants:
//! - it is asked for once, and sent or failed once: what came first stays;
//! - it holds ids; the address is looked up when it is sent, and never stored.

use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal};
use events::{
    ids::NotificationId,
    notifications::{
        FailureReason, NOTIFICATION, NotificationEvent, NotificationFailed, NotificationRequested, NotificationSent,
    },
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a notification can be asked, by the service's own reactor alone.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationCommand {
    Request(NotificationRequested),
    MarkSent,
    Fail { reason: FailureReason },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotificationError {
    #[error("there is no such notification")]
    NotFound,
    #[error("notification {0} is there already, about something else")]
    Exists(NotificationId),
}

/// Where a notification stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Notification {
    #[default]
    Absent,
    Known {
        requested: NotificationRequested,
        status: NotificationStatus,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationStatus {
    Requested,
    Sent,
    Failed(FailureReason),
}

impl Notification {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: NotificationCommand) -> Result<Vec<NotificationEvent>, NotificationError> {
        let (known, status) = match (self, &command) {
            (Self::Absent, NotificationCommand::Request(requested)) => return Ok(vec![requested.clone().into()]),
            (Self::Absent, _) => return Err(NotificationError::NotFound),
            (Self::Known { requested, status }, _) => (requested, status),
        };
        let NotificationRequested { notification_id, order_id, user_id, .. } = *known;
        match (command, status) {
            (NotificationCommand::Request(requested), _) if requested == *known => Ok(vec![]),
            (NotificationCommand::Request(_), _) => Err(NotificationError::Exists(notification_id)),
            (NotificationCommand::MarkSent, NotificationStatus::Requested) => {
                Ok(vec![NotificationSent { notification_id, order_id, user_id }.into()])
            }
            (NotificationCommand::Fail { reason }, NotificationStatus::Requested) => {
                Ok(vec![NotificationFailed { notification_id, order_id, user_id, reason }.into()])
            }
            (
                NotificationCommand::MarkSent | NotificationCommand::Fail { .. },
                NotificationStatus::Sent | NotificationStatus::Failed(_),
            ) => Ok(vec![]),
        }
    }
}

impl Aggregate for Notification {
    const TYPE: &'static str = NOTIFICATION;
    type Command = NotificationCommand;
    type Event = NotificationEvent;
    type Error = NotificationError;
    type Services = ();

    async fn handle(
        &mut self,
        command: NotificationCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), NotificationError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: NotificationEvent) {
        match (event, self) {
            (NotificationEvent::NotificationRequested(requested), state) => {
                *state = Self::Known { requested, status: NotificationStatus::Requested };
            }
            (NotificationEvent::NotificationSent(_), Self::Known { status, .. }) => *status = NotificationStatus::Sent,
            (NotificationEvent::NotificationFailed(failed), Self::Known { status, .. }) => {
                *status = NotificationStatus::Failed(failed.reason);
            }
            (NotificationEvent::NotificationSent(_) | NotificationEvent::NotificationFailed(_), Self::Absent) => {}
        }
    }
}

impl Domain for Notification {
    fn creates(command: &NotificationCommand) -> bool {
        matches!(command, NotificationCommand::Request(_))
    }

    fn refusal(error: &NotificationError) -> Refusal {
        let detail = error.to_string();
        match error {
            NotificationError::NotFound => Refusal::new("notification_not_found", detail),
            NotificationError::Exists(notification_id) => {
                Refusal::new("notification_exists", detail).with("notification_id", notification_id.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{
        ids::{OrderId, UserId},
        notifications::{Channel, NotificationKind},
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ID: NotificationId = NotificationId(Uuid::from_u128(1));
    const ORDER: OrderId = OrderId(Uuid::from_u128(2));
    const ANA: UserId = UserId(Uuid::from_u128(3));

    fn request(kind: NotificationKind) -> NotificationRequested {
        let (channel, reason) = (Channel::Email, None);
        NotificationRequested { notification_id: ID, order_id: ORDER, user_id: ANA, kind, channel, reason }
    }

    fn requested() -> NotificationEvent {
        request(NotificationKind::OrderReceived).into()
    }

    fn sent() -> NotificationEvent {
        NotificationSent { notification_id: ID, order_id: ORDER, user_id: ANA }.into()
    }

    fn failed(reason: FailureReason) -> NotificationEvent {
        NotificationFailed { notification_id: ID, order_id: ORDER, user_id: ANA, reason }.into()
    }

    fn ask(kind: NotificationKind) -> NotificationCommand {
        NotificationCommand::Request(request(kind))
    }

    fn fail(reason: FailureReason) -> NotificationCommand {
        NotificationCommand::Fail { reason }
    }

    fn folded(events: &[NotificationEvent]) -> Notification {
        let mut notification = Notification::default();
        events.iter().cloned().for_each(|event| notification.apply(event));
        notification
    }

    /// given these events, when this is asked, then this follows
    fn check(
        given: &[NotificationEvent],
        when: NotificationCommand,
        then: Result<Vec<NotificationEvent>, NotificationError>,
    ) {
        assert_eq!(folded(given).decide(when), then);
    }

    #[test]
    fn a_notification_is_asked_for_once() {
        check(&[], ask(NotificationKind::OrderReceived), Ok(vec![requested()]));
        check(&[requested()], ask(NotificationKind::OrderReceived), Ok(vec![]));
        check(&[requested(), sent()], ask(NotificationKind::OrderReceived), Ok(vec![]));
        check(&[requested()], ask(NotificationKind::OrderCancelled), Err(NotificationError::Exists(ID)));
    }

    #[test]
    fn it_is_sent_or_failed_once_and_what_came_first_stays() {
        let refused = failed(FailureReason::Refused);
        check(&[requested()], NotificationCommand::MarkSent, Ok(vec![sent()]));
        check(&[requested(), sent()], NotificationCommand::MarkSent, Ok(vec![]));
        check(&[requested(), sent()], fail(FailureReason::Refused), Ok(vec![]));
        check(&[requested()], fail(FailureReason::Refused), Ok(vec![refused.clone()]));
        check(&[requested(), refused.clone()], fail(FailureReason::Undeliverable), Ok(vec![]));
        check(&[requested(), refused], NotificationCommand::MarkSent, Ok(vec![]));
        check(&[], NotificationCommand::MarkSent, Err(NotificationError::NotFound));
        check(&[], fail(FailureReason::Refused), Err(NotificationError::NotFound));
    }

    fn any_command() -> impl Strategy<Value = NotificationCommand> {
        prop_oneof![
            Just(ask(NotificationKind::OrderReceived)),
            Just(ask(NotificationKind::OrderReturned)),
            Just(NotificationCommand::MarkSent),
            Just(fail(FailureReason::Refused)),
            Just(fail(FailureReason::UserErased)),
        ]
    }

    proptest! {
        #[test]
        fn the_right_events_are_written_when_due(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut notification = Notification::default();
            for command in history {
                notification.decide(command).into_iter().flatten().for_each(|event| notification.apply(event));
            }
            let before = notification.clone();
            let events = notification.decide(command.clone()).unwrap_or_default();
            events.iter().cloned().for_each(|event| notification.apply(event));
            let is_open = matches!(before, Notification::Known { status: NotificationStatus::Requested, .. });
            match command {
                NotificationCommand::Request(_) => prop_assert_eq!(events.len() == 1, before == Notification::Absent),
                NotificationCommand::MarkSent => {
                    prop_assert_eq!(events, if is_open { vec![sent()] } else { vec![] });
                }
                NotificationCommand::Fail { reason } => {
                    prop_assert_eq!(events, if is_open { vec![failed(reason)] } else { vec![] });
                }
            }
        }

        #[test]
        fn the_same_command_twice_writes_nothing_new(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut notification = Notification::default();
            for command in history {
                notification.decide(command).into_iter().flatten().for_each(|event| notification.apply(event));
            }
            let first = notification.decide(command.clone());
            first.iter().flatten().cloned().for_each(|event| notification.apply(event));
            match first {
                Ok(_) => prop_assert_eq!(notification.decide(command), Ok(vec![])),
                Err(refused) => prop_assert_eq!(notification.decide(command), Err(refused)),
            }
        }
    }
}
