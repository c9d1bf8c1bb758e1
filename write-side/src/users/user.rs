//! A user: someone who may order.
//!
//! Why: names, e-mail and postal address of a person have one owner, and everybody else holds ids. Invariants:
//! - one e-mail address belongs to one user at a time (a claim of the log, in its normal form);
//! - a user is registered once; the same registration again changes nothing, another one under that id is refused;
//! - after the erasure nothing of the person is left in the state, nothing can be changed, and the address is free;
//! - what tells of the person is [`Personal`]: the log has it as ciphertext, and the erasure takes the key with it.

use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::{
    bus::{Domain, Refusal},
    log::{Claim, ClaimAction},
};
use events::{
    ids::UserId,
    personal::Personal,
    users::{Address, AddressChanged, EmailChanged, USER, UserErased, UserEvent, UserRegistered, UserRenamed},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The claim under which e-mail addresses are unique.
pub const EMAIL_CLAIM: &str = "email";

/// What a user can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCommand {
    /// `email` in normal form (see [`normal_email`]), as in `ChangeEmail`.
    Register {
        user_id: UserId,
        name: String,
        email: String,
        address: Option<Address>,
        external_ref: Option<String>,
    },
    Rename {
        name: String,
    },
    ChangeEmail {
        email: String,
    },
    ChangeAddress {
        address: Address,
    },
    Erase,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UserError {
    #[error("there is no such user")]
    NotFound,
    #[error("user {0} is registered already, with other data")]
    Exists(UserId),
    #[error("user {0} has been erased")]
    Erased(UserId),
}

/// Where a user stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum User {
    #[default]
    Absent,
    Active(Box<Profile>),
    Erased(UserId),
}

/// What is known of an active user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// As it was at first: tells a repeated registration from another one, whatever has changed since.
    pub registered: UserRegistered,
    pub name: Personal<String>,
    pub email: Personal<String>,
    pub address: Option<Personal<Address>>,
}

/// The form in which an e-mail address is unique: no white space around it, lower case.
pub fn normal_email(text: &str) -> String {
    text.trim().to_lowercase()
}

impl User {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        let profile = match (self, &command) {
            (Self::Absent, UserCommand::Register { .. }) => None,
            (Self::Absent, _) => return Err(UserError::NotFound),
            (Self::Erased(_), UserCommand::Erase) => return Ok(vec![]),
            (Self::Erased(user_id), _) => return Err(UserError::Erased(*user_id)),
            (Self::Active(profile), _) => Some(profile),
        };
        match (command, profile) {
            (UserCommand::Register { user_id, name, email, address, external_ref }, known) => {
                let registered = UserRegistered {
                    user_id,
                    name: Personal::of(user_id, name),
                    email: Personal::of(user_id, email),
                    address: address.map(|address| Personal::of(user_id, address)),
                    external_ref: external_ref.map(|external_ref| Personal::of(user_id, external_ref)),
                };
                match known {
                    None => Ok(vec![registered.into()]),
                    Some(profile) if profile.registered == registered => Ok(vec![]),
                    Some(_) => Err(UserError::Exists(user_id)),
                }
            }
            (UserCommand::Rename { name }, Some(user)) if !user.name.is(&name) => {
                Ok(vec![UserRenamed { user_id: user.id(), name: user.own(name) }.into()])
            }
            (UserCommand::ChangeEmail { email }, Some(user)) if !user.email.is(&email) => {
                Ok(vec![EmailChanged { user_id: user.id(), email: user.own(email) }.into()])
            }
            (UserCommand::ChangeAddress { address }, Some(user))
                if !user.address.as_ref().is_some_and(|known| known.is(&address)) =>
            {
                Ok(vec![AddressChanged { user_id: user.id(), address: user.own(address) }.into()])
            }
            (UserCommand::Erase, Some(user)) => Ok(vec![UserErased { user_id: user.id() }.into()]),
            (
                UserCommand::Rename { .. }
                | UserCommand::ChangeEmail { .. }
                | UserCommand::ChangeAddress { .. }
                | UserCommand::Erase,
                _,
            ) => Ok(vec![]),
        }
    }

    fn profile_mut(&mut self) -> Option<&mut Profile> {
        match self {
            Self::Active(profile) => Some(profile),
            Self::Absent | Self::Erased(_) => None,
        }
    }
}

impl Profile {
    pub fn id(&self) -> UserId {
        self.registered.user_id
    }

    fn own<T>(&self, value: T) -> Personal<T> {
        Personal::of(self.id(), value)
    }
}

impl Aggregate for User {
    const TYPE: &'static str = USER;
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = UserError;
    type Services = ();

    async fn handle(&mut self, command: UserCommand, (): &(), sink: &EventSink<Self>) -> Result<(), UserError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::UserRegistered(registered) => {
                let UserRegistered { name, email, address, .. } = registered.clone();
                *self = Self::Active(Box::new(Profile { registered, name, email, address }));
            }
            UserEvent::UserRenamed(renamed) => {
                if let Some(user) = self.profile_mut() {
                    user.name = renamed.name;
                }
            }
            UserEvent::EmailChanged(changed) => {
                if let Some(user) = self.profile_mut() {
                    user.email = changed.email;
                }
            }
            UserEvent::AddressChanged(changed) => {
                if let Some(user) = self.profile_mut() {
                    user.address = Some(changed.address);
                }
            }
            UserEvent::UserErased(erased) => *self = Self::Erased(erased.user_id),
        }
    }
}

impl Domain for User {
    const VERSION: u32 = 2;

    fn claims(&self, event: &UserEvent) -> Vec<Claim> {
        // the log keeps a keyed hash of it
        let claim = |action, email: &Personal<String>| {
            let value = normal_email(email.value()?).as_str().into();
            Some(Claim { action, name: EMAIL_CLAIM.into(), value })
        };
        let held = match self {
            Self::Active(profile) => claim(ClaimAction::Release, &profile.email),
            Self::Absent | Self::Erased(_) => None,
        };
        match event {
            UserEvent::UserRegistered(registered) => claim(ClaimAction::Take, &registered.email).into_iter().collect(),
            UserEvent::EmailChanged(changed) => {
                held.into_iter().chain(claim(ClaimAction::Take, &changed.email)).collect()
            }
            UserEvent::UserErased(_) => held.into_iter().collect(),
            UserEvent::UserRenamed(_) | UserEvent::AddressChanged(_) => vec![],
        }
    }

    fn creates(command: &UserCommand) -> bool {
        matches!(command, UserCommand::Register { .. })
    }

    fn refusal(error: &UserError) -> Refusal {
        let detail = error.to_string();
        match error {
            UserError::NotFound => Refusal::new("user_not_found", detail),
            UserError::Exists(user_id) => Refusal::new("user_exists", detail).with("user_id", user_id.to_string()),
            UserError::Erased(user_id) => Refusal::new("user_erased", detail).with("user_id", user_id.to_string()),
        }
    }

    fn taken(_claim: &Claim) -> Refusal {
        // without the address: a refusal is stored, and holds no personal data
        Refusal::new("email_taken", "another user has this e-mail address")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ID: UserId = UserId(Uuid::from_u128(1));

    fn registered() -> UserEvent {
        let (name, email) = (Personal::of(ID, "Ana".into()), Personal::of(ID, "ana@x.org".into()));
        UserRegistered { user_id: ID, name, email, address: None, external_ref: None }.into()
    }

    fn register(name: &str) -> UserCommand {
        UserCommand::Register {
            user_id: ID,
            name: name.into(),
            email: "ana@x.org".into(),
            address: None,
            external_ref: None,
        }
    }

    fn rename(name: &str) -> UserCommand {
        UserCommand::Rename { name: name.into() }
    }

    fn folded(events: &[UserEvent]) -> User {
        let mut user = User::default();
        events.iter().cloned().for_each(|event| user.apply(event));
        user
    }

    /// given these events, when this is asked, then this follows
    fn check(given: &[UserEvent], when: UserCommand, then: Result<Vec<UserEvent>, UserError>) {
        assert_eq!(folded(given).decide(when), then);
    }

    fn renamed(name: &str) -> UserEvent {
        UserRenamed { user_id: ID, name: Personal::of(ID, name.into()) }.into()
    }

    fn erased() -> UserEvent {
        UserErased { user_id: ID }.into()
    }

    #[test]
    fn a_new_user_is_registered() {
        check(&[], register("Ana"), Ok(vec![registered()]));
    }

    #[test]
    fn the_same_registration_again_changes_nothing_even_after_a_rename() {
        check(&[registered()], register("Ana"), Ok(vec![]));
        check(&[registered(), renamed("Eva")], register("Ana"), Ok(vec![]));
    }

    #[test]
    fn another_registration_under_the_same_id_is_refused() {
        check(&[registered()], register("Eva"), Err(UserError::Exists(ID)));
    }

    #[test]
    fn a_rename_to_the_same_name_changes_nothing() {
        check(&[registered()], rename("Eva"), Ok(vec![renamed("Eva")]));
        check(&[registered()], rename("Ana"), Ok(vec![]));
    }

    fn address(city: &str) -> Address {
        Address {
            street: "Rua do Paço, 67".into(),
            city: city.into(),
            region: None,
            postal_code: None,
            country: "Brazil".into(),
        }
    }

    #[test]
    fn an_address_is_changed_once() {
        let address = address("Rio");
        let changed: UserEvent = AddressChanged { user_id: ID, address: Personal::of(ID, address.clone()) }.into();
        let change = UserCommand::ChangeAddress { address };
        check(&[registered()], change.clone(), Ok(vec![changed.clone()]));
        check(&[registered(), changed], change, Ok(vec![]));
    }

    #[test]
    fn nobody_else_can_be_changed() {
        check(&[], rename("Eva"), Err(UserError::NotFound));
        check(&[], UserCommand::Erase, Err(UserError::NotFound));
    }

    #[test]
    fn after_the_erasure_everything_is_refused_and_nothing_is_left() {
        let given = [registered(), erased()];
        check(&given[..1], UserCommand::Erase, Ok(vec![erased()]));
        check(&given, UserCommand::Erase, Ok(vec![]));
        check(&given, rename("Eva"), Err(UserError::Erased(ID)));
        check(&given, register("Ana"), Err(UserError::Erased(ID)));
        let state = serde_json::to_string(&folded(&given)).unwrap();
        assert!(!state.contains("Ana") && !state.contains("ana@x.org"), "{state}");
    }

    #[test]
    fn an_email_address_is_claimed_moved_and_given_back() {
        let claim = |action, email: &str| Claim { action, name: "email".into(), value: email.into() };
        let changed: UserEvent = EmailChanged { user_id: ID, email: Personal::of(ID, "eva@x.org".into()) }.into();
        assert_eq!(folded(&[]).claims(&registered()), [claim(ClaimAction::Take, "ana@x.org")]);
        assert_eq!(
            folded(&[registered()]).claims(&changed),
            [claim(ClaimAction::Release, "ana@x.org"), claim(ClaimAction::Take, "eva@x.org")]
        );
        assert_eq!(folded(&[registered(), changed]).claims(&erased()), [claim(ClaimAction::Release, "eva@x.org")]);
    }

    fn any_command() -> impl Strategy<Value = UserCommand> {
        let name = || prop_oneof![Just("Ana".to_owned()), Just("Eva".to_owned())];
        prop_oneof![
            name().prop_map(|name| register(&name)),
            name().prop_map(|name| UserCommand::Rename { name }),
            name().prop_map(|name| UserCommand::ChangeEmail { email: normal_email(&format!("{name}@x.org ")) }),
            name().prop_map(|city| UserCommand::ChangeAddress { address: address(&city) }),
            Just(UserCommand::Erase),
        ]
    }

    proptest! {
        #[test]
        fn the_right_events_are_written_when_due(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut user = User::default();
            for command in history {
                user.decide(command).into_iter().flatten().for_each(|event| user.apply(event));
            }
            let before = user.clone();
            let decision = user.decide(command.clone());
            decision.iter().flatten().cloned().for_each(|event| user.apply(event));
            // something is written when something changes, and nothing else is
            prop_assert_eq!(decision.iter().flatten().count(), usize::from(user != before));
            match (&before, &command, &decision) {
                (User::Absent, UserCommand::Register { .. }, Ok(_)) => prop_assert!(user.profile_mut().is_some()),
                (User::Active(_), UserCommand::Register { .. }, Ok(_)) => prop_assert_eq!(&user, &before),
                (_, UserCommand::Rename { name }, Ok(_)) => prop_assert!(user.profile_mut().unwrap().name.is(name)),
                (_, UserCommand::ChangeEmail { email }, Ok(_)) => prop_assert!(user.profile_mut().unwrap().email.is(email)),
                (_, UserCommand::ChangeAddress { address }, Ok(_)) => {
                    prop_assert!(user.profile_mut().unwrap().address.as_ref().is_some_and(|now| now.is(address)));
                }
                (_, UserCommand::Erase, Ok(_)) => prop_assert_eq!(&user, &User::Erased(ID)),
                (User::Active(_), UserCommand::Register { .. }, Err(UserError::Exists(_))) => {}
                (User::Erased(_), _, Err(UserError::Erased(_))) | (User::Absent, _, Err(UserError::NotFound)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn the_same_command_twice_writes_nothing_new(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut user = User::default();
            for command in history {
                user.decide(command).into_iter().flatten().for_each(|event| user.apply(event));
            }
            let first = user.decide(command.clone());
            first.iter().flatten().cloned().for_each(|event| user.apply(event));
            match first {
                Ok(_) => prop_assert_eq!(user.decide(command), Ok(vec![])),
                Err(refused) => prop_assert_eq!(user.decide(command), Err(refused)),
            }
        }
    }
}
