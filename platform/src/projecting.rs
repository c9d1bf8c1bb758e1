//! How the read models are kept: what `tributary up` can be told of its projector.

use std::time::Duration;

use clap::{Args, ValueEnum};
use projections::{ChangedVersions, ProjectorOptions};
use read_side::Wake;

const MIB: usize = 1_024 * 1_024;

#[derive(Debug, Clone, Args)]
pub struct ProjectingArgs {
    /// Generations of each read model that are kept to go back to; each takes as much room as the live one
    #[arg(long, env = "TRIBUTARY_GENERATIONS_KEPT", default_value_t = 1)]
    pub generations_kept: usize,

    /// MiB that a rebuild may hold in memory while it loads events; more saves writing rows twice, less takes longer
    #[arg(long, env = "TRIBUTARY_REBUILD_MEMORY", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub rebuild_memory: u32,

    /// What a start does about read models that another VERSION has made
    #[arg(long, env = "TRIBUTARY_CHANGED_VERSIONS", value_enum, default_value_t = Changed::Rebuild)]
    pub changed_versions: Changed,

    /// Seconds for which a read model stays with a process that is silent, before another one takes it over
    #[arg(long, env = "TRIBUTARY_LEASE_SECONDS", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=300))]
    pub lease_seconds: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Changed {
    /// Build the next generation beside the live one, report what differs, and swap
    Rebuild,
    /// Wait for `projection rebuild`; `projection diff` says what it would change
    Wait,
}

impl ProjectingArgs {
    /// `wake`: of the readers of this process.
    pub fn options(&self, wake: Wake) -> ProjectorOptions {
        ProjectorOptions {
            wake,
            generations_kept: self.generations_kept,
            rebuild_memory_bytes: usize::try_from(self.rebuild_memory)
                .map_or(usize::MAX, |mib| mib.saturating_mul(MIB)),
            lease: Duration::from_secs(self.lease_seconds.into()),
            changed_versions: match self.changed_versions {
                Changed::Rebuild => ChangedVersions::Rebuild,
                Changed::Wait => ChangedVersions::Wait,
            },
            ..ProjectorOptions::default()
        }
    }
}
