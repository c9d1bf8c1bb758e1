//! The bus on a stream that an earlier release began: decisions rest on every event, whatever version it was written as.

use std::{fmt, sync::Arc};

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use event_store::{
    bus::{BusOptions, CommandBus, CommandError, CommandRequest, Domain, Executed, Refusal},
    log::{Decision, EventLog, Fingerprint, NewEvent},
    memory::MemoryLog,
    writer::{Writer, WriterOptions},
};
use events::{
    Published, Upcaster,
    envelope::{Metadata, StreamId},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::log_contract::harness::{append, commit_one};

/// A jar of coins. Its first release counted whole ones, the second counts in hundredths.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Jar {
    hundredths: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Put {
    hundredths: u64,
}

impl DomainEvent for Put {
    fn event_type(&self) -> String {
        "Put".to_owned()
    }

    fn event_version(&self) -> String {
        "2".to_owned()
    }
}

impl Published for Put {
    const PUBLISHED: &'static [(&'static str, &'static str)] = &[("Put", "2")];
    const UPCASTERS: &'static [Upcaster] =
        &[Upcaster { event_type: "Put", from: "1", to: "2", upcast: coins_to_hundredths }];

    fn read(_: &str, _: &str, payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }
}

fn coins_to_hundredths(put: Value) -> Result<Value, String> {
    let coins = put["coins"].as_u64().ok_or("there is no number of coins")?;
    Ok(serde_json::json!({ "hundredths": coins * 100 }))
}

/// There are so many hundredths in the jar, and not so many as asked for.
#[derive(Debug)]
struct Full(u64);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hundredths are in the jar", self.0)
    }
}

impl std::error::Error for Full {}

impl Aggregate for Jar {
    const TYPE: &'static str = "jar";
    type Command = u64;
    type Event = Put;
    type Error = Full;
    type Services = ();

    async fn handle(&mut self, hundredths: u64, (): &(), sink: &EventSink<Self>) -> Result<(), Full> {
        const HUNDREDTHS_MAX: u64 = 1_000;
        if self.hundredths + hundredths > HUNDREDTHS_MAX {
            return Err(Full(self.hundredths));
        }
        sink.write(Put { hundredths }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Put) {
        self.hundredths += event.hundredths;
    }
}

impl Domain for Jar {
    fn refusal(error: &Full) -> Refusal {
        Refusal::new("jar_full", error.to_string())
    }
}

/// given a jar whose first event was written as this, when so many hundredths are put into it, then this is answered
async fn check(version: &str, payload: &str, hundredths: u64) -> (Result<Executed, CommandError>, usize) {
    let log = MemoryLog::new("jars");
    let stream = StreamId::new("jar", "j");
    let mut item = append(&stream, 0);
    if let Decision::Append(events) = &mut item.decision {
        let old = NewEvent { event_type: "Put".into(), event_version: version.into(), ..events[0].clone() };
        *events = vec![NewEvent { payload: payload.to_owned(), ..old }];
    }
    commit_one(&*log, item).await;
    let writer = Writer::start(Arc::clone(&log) as Arc<dyn EventLog>, WriterOptions::default());
    let bus = CommandBus::<Jar>::start(writer, (), BusOptions::default());
    let answer = bus
        .execute(CommandRequest {
            aggregate_id: "j".into(),
            command: hundredths,
            scope: "jars:put".into(),
            key: "key".into(),
            fingerprint: Fingerprint([0; 32]),
            expected_version: None,
            metadata: Metadata::default(),
        })
        .await;
    (answer, log.read_stream(&stream, 0, 100).await.unwrap().len())
}

#[tokio::test]
async fn a_decision_rests_on_events_of_an_earlier_version() {
    let (answer, events) = check("1", r#"{"coins":7}"#, 300).await;
    assert_eq!((answer.unwrap().version, events), (2, 2));
    let (answer, events) = check("1", r#"{"coins":7}"#, 301).await;
    let Err(CommandError::Refused(refusal, _)) = answer else { panic!("{answer:?}") };
    assert_eq!((refusal.detail.as_str(), events), ("700 hundredths are in the jar", 1));
}

#[tokio::test]
async fn nothing_is_decided_on_an_event_of_an_unknown_version() {
    let (answer, events) = check("3", r#"{"hundredths":7}"#, 1).await;
    let Err(CommandError::Internal(reason)) = answer else { panic!("{answer:?}") };
    assert!(reason.contains("unknown event type Put version 3"), "{reason}");
    assert_eq!(events, 1);
}

#[tokio::test]
async fn nothing_is_decided_on_a_payload_that_its_version_cannot_have_had() {
    let (answer, events) = check("1", r#"{"hundredths":7}"#, 1).await;
    let Err(CommandError::Internal(reason)) = answer else { panic!("{answer:?}") };
    assert!(
        reason.ends_with("payload of Put version 1 does not fit its type: there is no number of coins"),
        "{reason}"
    );
    assert_eq!(events, 1);
}
