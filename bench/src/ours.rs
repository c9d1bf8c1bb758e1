//! The project's side: the command bus over a log, driven as the HTTP edge drives it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use event_store::{
    bus::{BusOptions, CommandBus, CommandError, CommandRequest, Domain, Refusal},
    log::{EventLog, Fingerprint, LogIdentity},
    writer::{Writer, WriterOptions},
};
use events::{
    Published,
    envelope::{Metadata, Name},
};
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::workload::{
    Account, AccountEvent, Deposit, Measured, Never, PREPARED_EVENTS, Plan, measure, prepared_stream,
};

/// Streams that are prepared at once.
const PREPARE_STREAMS_AT_ONCE: usize = 512;

const ROUTE: &str = "POST /accounts/{id}/deposits";

impl Published for AccountEvent {
    const PUBLISHED: &'static [(&'static str, &'static str)] = &[("Deposited", "1")];

    fn read(_: &str, _: &str, payload: &str) -> serde_json::Result<Self> {
        serde_json::from_str(payload)
    }
}

impl Domain for Account {
    fn creates(command: &Deposit) -> bool {
        command.opens
    }

    fn refusal(error: &Never) -> Refusal {
        match *error {}
    }
}

/// A bus, its writer and its log. Cheap to clone.
#[derive(Clone)]
pub struct Ours {
    bus: CommandBus<Account>,
    writer: Writer,
    identity: Arc<LogIdentity>,
    scope: Name,
}

impl Ours {
    /// As services keep them.
    pub const SNAPSHOT_EVERY_EVENTS: u64 = 200;

    /// `hot_aggregates_max` = how many aggregates the bus keeps in memory.
    pub fn start(log: Arc<dyn EventLog>, hot_aggregates_max: usize) -> Self {
        Self::start_with(log, hot_aggregates_max, Some(Self::SNAPSHOT_EVERY_EVENTS))
    }

    pub fn start_with(log: Arc<dyn EventLog>, hot_aggregates_max: usize, snapshot_every_events: Option<u64>) -> Self {
        let identity = Arc::new(log.identity().clone());
        let writer = Writer::start(log, WriterOptions::default());
        // more commands than any measurement has tasks: admission is not what is measured
        let admission_wait = Duration::from_secs(10);
        let options = BusOptions { hot_aggregates_max, admission_wait, snapshot_every_events, ..BusOptions::default() };
        let bus = CommandBus::start(writer.clone(), (), options);
        Self { bus, writer, identity, scope: "accounts:bench:deposits".into() }
    }

    /// Sends the first commands to `plan`'s streams.
    pub async fn prepare(&self, plan: Plan) -> anyhow::Result<()> {
        stream::iter(plan.first..plan.first + plan.prepared)
            .map(Ok::<_, CommandError>)
            .try_for_each_concurrent(PREPARE_STREAMS_AT_ONCE, |n| async move {
                let id: Name = prepared_stream(n).into();
                for nth in 0..PREPARED_EVENTS {
                    self.execute(Arc::clone(&id), Deposit::sample(100, nth == 0)).await?;
                }
                Ok(())
            })
            .await
            .context("prepare streams through the bus")
    }

    /// Sends so many commands to one stream.
    pub async fn fill(&self, id: &str, commands: u64) -> anyhow::Result<()> {
        stream::iter(0..commands)
            .map(Ok::<_, CommandError>)
            .try_for_each_concurrent(PREPARE_STREAMS_AT_ONCE, |nth| async move {
                self.execute(id.into(), Deposit::sample(100, nth == 0)).await
            })
            .await
            .context("fill a stream through the bus")
    }

    /// The aggregate's state, checked against the log.
    pub async fn load(&self, id: &str) -> anyhow::Result<Account> {
        let loaded = self.bus.load(id).await.context("load an aggregate")?;
        Ok(loaded.context("the stream is empty")?.state)
    }

    pub async fn measure(&self, plan: Plan) -> anyhow::Result<Measured> {
        let ours = self.clone();
        let measured = measure("tributary", 0, plan, move |stream, command| {
            let ours = ours.clone();
            async move { ours.execute(stream.into(), command).await }
        });
        measured.await.context("execute a command")
    }

    /// Everything that an edge does for a command: a key, a fingerprint of route and body, metadata.
    async fn execute(&self, aggregate_id: Name, command: Deposit) -> Result<(), CommandError> {
        let key = Uuid::now_v7().to_string();
        let body = serde_json::to_vec(&command).expect("a deposit serializes");
        let metadata =
            Metadata { correlation_id: Some(key.clone()), actor: Some("bench".to_owned()), ..Metadata::default() };
        let request = CommandRequest {
            aggregate_id,
            command,
            scope: Arc::clone(&self.scope),
            key: key.into(),
            fingerprint: Fingerprint::of(&self.identity, ROUTE, &body),
            expected_version: None,
            metadata,
        };
        self.bus.execute(request).await.map(drop)
    }

    pub async fn shutdown(self) {
        self.bus.shutdown().await;
        self.writer.shutdown().await;
    }
}
