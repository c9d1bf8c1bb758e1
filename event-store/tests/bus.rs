//! The command bus on the in-memory log: one effect and one answer per key, whatever arrives at once.

use std::{sync::Arc, time::Duration};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use event_store::{
    bus::{BusOptions, CommandBus, CommandError, CommandRequest, Domain, Executed, Refusal, Report},
    log::{Claim, ClaimAction, Decision, EventLog, Fingerprint},
    memory::{Fault, MemoryLog},
    writer::{Writer, WriterOptions},
};
use events::{
    Published,
    envelope::{Metadata, StreamId},
};
use serde::{Deserialize, Serialize};
use testkit::log_contract::harness::{append, commit_one};

/// An account: opened once under a unique name, never overdrawn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    name: Option<String>,
    balance: u64,
}

#[derive(Debug, Clone)]
enum AccountCommand {
    Open(&'static str),
    Deposit(u64),
    Withdraw(u64),
    Rename(&'static str),
    Panic,
    Wait,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum AccountEvent {
    Opened { name: String },
    Deposited { amount: u64 },
    Withdrawn { amount: u64 },
    Renamed { name: String },
}

impl DomainEvent for AccountEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Opened { .. } => "Opened",
            Self::Deposited { .. } => "Deposited",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::Renamed { .. } => "Renamed",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Published for AccountEvent {
    const PUBLISHED: &'static [(&'static str, &'static str)] =
        &[("Opened", "1"), ("Deposited", "1"), ("Withdrawn", "1"), ("Renamed", "1")];

    fn read(_: &str, _: &str, payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }
}

#[derive(Debug, PartialEq)]
enum AccountError {
    Unknown,
    Overdrawn(u64),
}

impl std::fmt::Display for AccountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such account"),
            Self::Overdrawn(balance) => write!(f, "the balance is {balance}"),
        }
    }
}

impl std::error::Error for AccountError {}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Error = AccountError;
    type Services = ();

    async fn handle(&mut self, command: AccountCommand, (): &(), sink: &EventSink<Self>) -> Result<(), AccountError> {
        let event = match command {
            AccountCommand::Open(_) if self.name.is_some() => return Ok(()),
            AccountCommand::Open(name) => AccountEvent::Opened { name: name.to_owned() },
            _ if self.name.is_none() => return Err(AccountError::Unknown),
            AccountCommand::Rename(name) => AccountEvent::Renamed { name: name.to_owned() },
            AccountCommand::Deposit(amount) => AccountEvent::Deposited { amount },
            AccountCommand::Withdraw(amount) if amount > self.balance => {
                return Err(AccountError::Overdrawn(self.balance));
            }
            AccountCommand::Withdraw(amount) => AccountEvent::Withdrawn { amount },
            AccountCommand::Panic => panic!("a mistake in a domain"),
            AccountCommand::Wait => {
                tokio::task::yield_now().await;
                AccountEvent::Deposited { amount: 1 }
            }
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::Opened { name } | AccountEvent::Renamed { name } => self.name = Some(name),
            AccountEvent::Deposited { amount } => self.balance += amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
        }
    }
}

/// A name on which the domain panics only after it has decided.
const UNCLAIMABLE: &str = "unclaimable";

impl Domain for Account {
    fn claims(&self, event: &AccountEvent) -> Vec<Claim> {
        let claim = |action, name: &str| Claim { action, name: "name".into(), value: name.into() };
        let released = self.name.iter().map(|name| claim(ClaimAction::Release, name));
        match event {
            AccountEvent::Opened { name } if name == UNCLAIMABLE => panic!("a mistake in a domain's claims"),
            AccountEvent::Opened { name } => vec![claim(ClaimAction::Take, name)],
            AccountEvent::Renamed { name } => released.chain([claim(ClaimAction::Take, name)]).collect(),
            AccountEvent::Deposited { .. } | AccountEvent::Withdrawn { .. } => Vec::new(),
        }
    }

    fn creates(command: &AccountCommand) -> bool {
        matches!(command, AccountCommand::Open(_))
    }

    fn report(&self, command: &AccountCommand) -> Option<Report> {
        match command {
            AccountCommand::Withdraw(_) => {
                Some(Box::new(FromIterator::from_iter([("balance".to_owned(), self.balance.into())])))
            }
            _ => None,
        }
    }

    fn refusal(error: &AccountError) -> Refusal {
        match error {
            AccountError::Unknown => Refusal::new("account_not_found", error.to_string()),
            AccountError::Overdrawn(balance) => Refusal::new("overdrawn", error.to_string()).with("balance", *balance),
        }
    }
}

fn request(id: &str, key: &str, command: AccountCommand) -> CommandRequest<AccountCommand> {
    let mut fingerprint = [0; 32];
    for (n, byte) in format!("{command:?}").bytes().enumerate() {
        fingerprint[n % 32] ^= byte;
    }
    CommandRequest {
        aggregate_id: id.into(),
        command,
        scope: "accounts|anonymous|test".into(),
        key: key.into(),
        fingerprint: Fingerprint(fingerprint),
        expected_version: None,
        metadata: Metadata::default(),
    }
}

struct Bank {
    log: Arc<dyn EventLog>,
    bus: CommandBus<Account>,
}

impl Bank {
    fn open() -> Self {
        Self::on(MemoryLog::new("accounts"))
    }

    fn on(log: Arc<dyn EventLog>) -> Self {
        let writer = Writer::start(Arc::clone(&log), WriterOptions::default());
        Self { log, bus: CommandBus::start(writer, (), BusOptions::default()) }
    }

    async fn run(&self, id: &str, key: &str, command: AccountCommand) -> Result<Executed, CommandError> {
        self.bus.execute(request(id, key, command)).await
    }

    async fn event_count(&self, id: &str) -> usize {
        self.log.read_stream(&StreamId::new("account", id), 0, 10_000).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_command_is_stored_and_answers_with_version_and_position() {
    let bank = Bank::open();
    let opened = bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    assert_eq!((opened.changed, opened.version, opened.position, opened.replayed), (true, 1, 1, false));
    let paid = bank.run("a", "2", AccountCommand::Deposit(5)).await.unwrap();
    assert_eq!((paid.version, paid.position), (2, 2));
    let loaded = bank.bus.load("a").await.unwrap().unwrap();
    assert_eq!((loaded.state.balance, loaded.version, loaded.event_id), (5, 2, paid.event_id));
    assert!(bank.bus.load("nobody").await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_domain_says_of_a_command_is_told_again_to_the_same_key() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    bank.run("a", "2", AccountCommand::Deposit(5)).await.unwrap();
    let first = bank.run("a", "3", AccountCommand::Withdraw(2)).await.unwrap();
    assert_eq!(first.report.as_ref().unwrap()["balance"], 3);
    bank.run("a", "4", AccountCommand::Withdraw(2)).await.unwrap();
    let again = bank.run("a", "3", AccountCommand::Withdraw(2)).await.unwrap();
    assert_eq!((again.replayed, again.report), (true, first.report));
    let opened = bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    assert_eq!(opened.report, None);
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_one_effect() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let first = bank.run("a", "2", AccountCommand::Deposit(5)).await.unwrap();
    bank.run("a", "3", AccountCommand::Deposit(7)).await.unwrap();
    let again = bank.run("a", "2", AccountCommand::Deposit(5)).await.unwrap();
    assert_eq!(again, Executed { replayed: true, ..first });
    assert_eq!(bank.event_count("a").await, 3);
}

#[tokio::test]
async fn a_refusal_is_remembered_even_when_it_would_no_longer_be_one() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let refused = bank.run("a", "2", AccountCommand::Withdraw(3)).await;
    assert!(matches!(&refused, Err(CommandError::Refused(refusal, _)) if refusal.code == "overdrawn"), "{refused:?}");
    bank.run("a", "3", AccountCommand::Deposit(9)).await.unwrap();
    let again = bank.run("a", "2", AccountCommand::Withdraw(3)).await;
    let Err(CommandError::Refused(refusal, done)) = again else { panic!("{again:?}") };
    assert_eq!(refusal.data["balance"], 0);
    assert!(done.replayed);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    assert!(matches!(bank.run("a", "1", AccountCommand::Deposit(1)).await, Err(CommandError::KeyReused)));
    let (one, other) =
        tokio::join!(bank.run("a", "2", AccountCommand::Deposit(1)), bank.run("a", "2", AccountCommand::Deposit(2)));
    assert!(one.is_ok());
    assert!(matches!(other, Err(CommandError::KeyReused)));
}

#[tokio::test]
async fn a_concurrent_twin_waits_for_the_answer() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let twins = (0..16).map(|_| bank.run("a", "2", AccountCommand::Deposit(5)));
    let answers = futures::future::join_all(twins).await;
    let fresh = answers.iter().filter(|answer| !answer.as_ref().unwrap().replayed).count();
    assert_eq!(fresh, 1);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().version == 2));
    assert_eq!(bank.event_count("a").await, 2);
}

#[tokio::test]
async fn those_who_wait_for_a_twin_count_against_the_bound() {
    let log = MemoryLog::new("accounts");
    let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
    let options = BusOptions { commands_max: 4, admission_wait: Duration::from_millis(20), ..BusOptions::default() };
    let bus = CommandBus::<Account>::start(writer, (), options);
    let held = log.hold_commits().await;
    let twins = (0..12).map(|_| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.execute(request("a", "1", AccountCommand::Open("ada"))).await })
    });
    let twins: Vec<_> = twins.collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(held);
    let answers = futures::future::join_all(twins).await;
    let overloaded = answers.iter().filter(|answer| matches!(answer, Ok(Err(CommandError::Overloaded { limit: 4 }))));
    assert_eq!(overloaded.count(), 8);
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count(), 4);
}

#[tokio::test]
async fn a_twin_of_a_refusal_gets_it_as_a_replay() {
    let bank = Bank::open();
    let (first, twin) =
        tokio::join!(bank.run("a", "1", AccountCommand::Deposit(1)), bank.run("a", "1", AccountCommand::Deposit(1)));
    let (Err(CommandError::Refused(_, first)), Err(CommandError::Refused(_, twin))) = (first, twin) else { panic!() };
    assert_eq!((first.replayed, twin.replayed), (false, true));
}

#[tokio::test]
async fn an_outcome_that_may_be_there_stays_unknown_whatever_the_log_says_next() {
    let log = MemoryLog::new("accounts");
    log.fail_next(Fault::UnknownCommitted);
    log.fail_next(Fault::Refused);
    let bank = Bank::on(Arc::clone(&log) as Arc<dyn EventLog>);
    let unknown = bank.run("a", "1", AccountCommand::Open("ada")).await;
    assert!(matches!(&unknown, Err(CommandError::OutcomeUnknown { key }) if **key == *"1"), "{unknown:?}");
    let settled = bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    assert_eq!((settled.version, settled.replayed), (1, true));
}

#[tokio::test]
async fn what_is_submitted_while_the_writer_stops_is_answered() {
    let log = MemoryLog::new("accounts");
    let options = WriterOptions { batch_items_max: 1, ..WriterOptions::default() };
    let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, options);
    let bus = CommandBus::<Account>::start(writer.clone(), (), BusOptions::default());
    let held = log.hold_commits().await;
    let open = |id: &'static str| {
        let bus = bus.clone();
        tokio::spawn(async move { bus.execute(request(id, id, AccountCommand::Open(id))).await })
    };
    let first = open("a");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stopping = tokio::spawn(async move { writer.shutdown().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = open("b");
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(held);
    stopping.await.unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    bus.shutdown().await;
}

#[tokio::test]
async fn a_log_that_panics_leaves_nobody_waiting() {
    let log = MemoryLog::new("accounts");
    let bank = Bank::on(Arc::clone(&log) as Arc<dyn EventLog>);
    for _ in 0..6 {
        log.fail_next(Fault::Panic);
    }
    let unknown = bank.run("a", "1", AccountCommand::Open("ada")).await;
    assert!(matches!(unknown, Err(CommandError::OutcomeUnknown { .. })), "{unknown:?}");
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    bank.bus.shutdown().await;
}

#[tokio::test]
async fn a_taken_name_is_a_stored_refusal() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let refused = bank.run("b", "2", AccountCommand::Open("ada")).await;
    assert!(matches!(&refused, Err(CommandError::Refused(refusal, _)) if refusal.code == "name_taken"), "{refused:?}");
    bank.run("a", "3", AccountCommand::Rename("grace")).await.unwrap();
    let again = bank.run("b", "2", AccountCommand::Open("ada")).await;
    assert!(matches!(again, Err(CommandError::Refused(_, Executed { replayed: true, .. }))));
    bank.run("b", "4", AccountCommand::Open("ada")).await.unwrap();
}

#[tokio::test]
async fn an_expected_version_is_held_against_the_stream_and_a_retry_still_gets_its_answer() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let with_version = |key, version| CommandRequest {
        expected_version: Some(version),
        ..request("a", key, AccountCommand::Deposit(1))
    };
    let done = bank.bus.execute(with_version("2", 1)).await.unwrap();
    assert_eq!(done.version, 2);
    let late = bank.bus.execute(with_version("3", 1)).await;
    assert!(matches!(late, Err(CommandError::VersionMismatch { expected: 1, actual: 2 })), "{late:?}");
    let retried = bank.bus.execute(with_version("2", 1)).await.unwrap();
    assert_eq!((retried.version, retried.replayed), (2, true));
}

#[tokio::test]
async fn two_buses_on_one_log_decide_again_and_lose_nothing() {
    let log: Arc<dyn EventLog> = MemoryLog::new("accounts");
    let (one, two) = (Bank::on(Arc::clone(&log)), Bank::on(log));
    one.run("a", "open", AccountCommand::Open("ada")).await.unwrap();
    let commands = (0..200).map(|n| {
        let bank = if n % 2 == 0 { &one } else { &two };
        async move { bank.run("a", &format!("k{n}"), AccountCommand::Deposit(1)).await }
    });
    for answer in futures::future::join_all(commands).await {
        answer.unwrap();
    }
    for bank in [&one, &two] {
        let loaded = bank.bus.load("a").await.unwrap().unwrap();
        assert_eq!((loaded.state.balance, loaded.version), (200, 201));
    }
}

#[tokio::test]
async fn a_stale_cache_never_refuses_wrongly() {
    let log: Arc<dyn EventLog> = MemoryLog::new("accounts");
    let (one, two) = (Bank::on(Arc::clone(&log)), Bank::on(log));
    one.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    two.run("a", "2", AccountCommand::Deposit(9)).await.unwrap();
    // `one` still holds a balance of 0 in memory
    one.run("a", "3", AccountCommand::Withdraw(4)).await.unwrap();
    assert_eq!(two.bus.load("a").await.unwrap().unwrap().state.balance, 5);
    // and `two` still holds version 2
    let request = CommandRequest { expected_version: Some(3), ..request("a", "4", AccountCommand::Deposit(1)) };
    assert_eq!(two.bus.execute(request).await.unwrap().version, 4);
}

#[tokio::test]
async fn a_panic_in_a_domain_is_that_commands_failure_alone() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    assert!(matches!(bank.run("a", "2", AccountCommand::Panic).await, Err(CommandError::Internal(_))));
    bank.run("a", "3", AccountCommand::Deposit(1)).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_domains_claims_is_that_commands_failure_alone() {
    let bank = Bank::open();
    let refused = bank.run("a", "1", AccountCommand::Open(UNCLAIMABLE)).await;
    assert!(matches!(refused, Err(CommandError::Internal(_))), "{refused:?}");
    bank.run("a", "2", AccountCommand::Open("ada")).await.unwrap();
}

#[tokio::test]
async fn a_panic_in_a_fold_fails_the_commands_on_that_stream_and_keeps_nothing_waiting() {
    let bank = Bank::open();
    let mut overdrawn = append(&StreamId::new("account", "a"), 0);
    let Decision::Append(events) = &mut overdrawn.decision else { unreachable!() };
    events[0].payload = r#"{"Withdrawn":{"amount":9}}"#.to_owned();
    commit_one(&*bank.log, overdrawn).await;
    for key in ["1", "1", "2"] {
        let failed = bank.run("a", key, AccountCommand::Deposit(1)).await;
        assert!(matches!(failed, Err(CommandError::Internal(_))), "{failed:?}");
    }
    bank.run("b", "3", AccountCommand::Open("ada")).await.unwrap();
    bank.bus.shutdown().await;
}

#[tokio::test]
async fn a_panic_of_a_domain_that_awaits_leaves_its_key_free() {
    let writer = Writer::start(MemoryLog::new("accounts"), WriterOptions::default());
    let options = BusOptions { handle_does_io: true, ..BusOptions::default() };
    let bus = CommandBus::<Account>::start(writer, (), options);
    bus.execute(request("a", "1", AccountCommand::Open("ada"))).await.unwrap();
    for _ in 0..2 {
        let failed = bus.execute(request("a", "2", AccountCommand::Panic)).await;
        assert!(matches!(failed, Err(CommandError::Internal(_))), "{failed:?}");
    }
    bus.shutdown().await;
}

#[tokio::test]
async fn a_domain_that_awaits_runs_once_and_alone_when_it_says_so() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let refused = bank.run("a", "2", AccountCommand::Wait).await;
    assert!(
        matches!(&refused, Err(CommandError::Internal(reason)) if reason.contains("handle_does_io")),
        "{refused:?}"
    );
    let writer = Writer::start(Arc::clone(&bank.log), WriterOptions::default());
    let options = BusOptions { handle_does_io: true, ..BusOptions::default() };
    let bus = CommandBus::<Account>::start(writer, (), options);
    let done = bus.execute(request("a", "3", AccountCommand::Wait)).await.unwrap();
    assert_eq!(done.version, 2);
    let again = bus.execute(request("a", "3", AccountCommand::Wait)).await.unwrap();
    assert!(again.replayed);
    let taken = bus.execute(request("b", "4", AccountCommand::Open("ada"))).await;
    assert!(matches!(&taken, Err(CommandError::Refused(refusal, _)) if refusal.code == "name_taken"), "{taken:?}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_limit_named_and_harms_no_neighbour() {
    let bank = Bank::open();
    let long: &'static str = Box::leak("x".repeat(400).into_boxed_str());
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    let (refused, fine) =
        tokio::join!(bank.run("a", "2", AccountCommand::Rename(long)), bank.run("a", "3", AccountCommand::Deposit(1)));
    let Err(CommandError::Limit(limit)) = refused else { panic!("{refused:?}") };
    assert_eq!(limit.to_string(), "claim value has 400 characters; the limit is 320");
    assert_eq!(fine.unwrap().version, 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_its_command() {
    let bank = Bank::open();
    bank.run("a", "1", AccountCommand::Open("ada")).await.unwrap();
    for n in 0..200 {
        let key = format!("k{n}");
        let command = bank.run("a", &key, AccountCommand::Deposit(1));
        // polled once, so that it is in the mailbox, then dropped
        assert!(futures::FutureExt::now_or_never(command).is_none());
    }
    bank.bus.shutdown().await;
    assert_eq!(bank.event_count("a").await, 201);
}

#[tokio::test]
async fn many_commands_on_many_accounts_are_each_there_once() {
    let bank = Bank::open();
    for id in 0..10 {
        let name: &'static str = Box::leak(format!("name-{id}").into_boxed_str());
        bank.run(&format!("a{id}"), &format!("open{id}"), AccountCommand::Open(name)).await.unwrap();
    }
    let commands = (0..1_000).map(|n| {
        let (id, key) = (format!("a{}", n % 10), format!("k{n}"));
        let bank = &bank;
        async move { bank.run(&id, &key, AccountCommand::Deposit(1)).await }
    });
    let answers = futures::future::join_all(commands).await;
    let mut positions: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().position).collect();
    positions.sort_unstable();
    assert_eq!(positions, (11..=1_010).collect::<Vec<_>>());
}

#[tokio::test]
async fn commits_that_fail_in_every_way_under_two_buses_lose_and_double_nothing() {
    const COMMANDS: u64 = 600;
    const ACCOUNTS: u64 = 3;
    const FAULTS: [Fault; 4] = [Fault::UnknownCommitted, Fault::Unavailable, Fault::UnknownLost, Fault::Refused];
    let log = MemoryLog::new("accounts");
    let options = WriterOptions { sends_max: 2, resend_wait: Duration::from_millis(1), ..WriterOptions::default() };
    let banks = [(); 2].map(|()| {
        let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, options.clone());
        Bank { log: log.clone(), bus: CommandBus::start(writer, (), BusOptions::default()) }
    });
    for id in 0..ACCOUNTS {
        let name: &'static str = Box::leak(format!("name-{id}").into_boxed_str());
        banks[0].run(&format!("a{id}"), &format!("open{id}"), AccountCommand::Open(name)).await.unwrap();
    }
    let commands = (0..COMMANDS).map(|n| {
        let (banks, log) = (&banks, &log);
        async move {
            let (id, key) = (format!("a{}", n % ACCOUNTS), format!("k{n}"));
            for attempt in 0.. {
                tokio::time::sleep(Duration::from_millis(n * 7 % 50)).await;
                if n % 3 == 0 && attempt < 4 {
                    log.fail_next(FAULTS[usize::try_from(n / 3 + attempt).unwrap() % FAULTS.len()]);
                }
                // a retry may reach the other replica
                let bank = &banks[usize::try_from(n / ACCOUNTS + attempt).unwrap() % banks.len()];
                match bank.run(&id, &key, AccountCommand::Deposit(1)).await {
                    Ok(done) => return (id, done.version, done.event_id),
                    Err(CommandError::Overloaded { .. } | CommandError::VersionMismatch { .. }) => unreachable!(),
                    Err(_) => assert!(attempt < 100),
                }
            }
            unreachable!()
        }
    });
    let answers = futures::future::join_all(commands).await;
    for id in 0..ACCOUNTS {
        let id = format!("a{id}");
        let events = log.read_stream(&StreamId::new("account", &*id), 0, 10_000).await.unwrap();
        assert_eq!(events.len() as u64, 1 + COMMANDS / ACCOUNTS);
        let mut there: Vec<_> = events[1..].iter().map(|event| (event.sequence, Some(event.event_id))).collect();
        let mut answered: Vec<_> =
            answers.iter().filter(|answer| answer.0 == id).map(|answer| (answer.1, answer.2)).collect();
        there.sort_unstable();
        answered.sort_unstable();
        assert_eq!(answered, there, "every answer names its own event");
        for bank in &banks {
            assert_eq!(bank.bus.load(&id).await.unwrap().unwrap().state.balance, COMMANDS / ACCOUNTS);
        }
    }
}
