//! `tributary projection` and `tributary parked`.

use clap::{Args, Subcommand};

use super::Target;

#[derive(Debug, Args)]
pub struct ProjectionArgs {
    #[command(subcommand)]
    pub verb: ProjectionVerb,
}

#[derive(Debug, Subcommand)]
pub enum ProjectionVerb {
    /// List the projections and their live generations
    Ls {
        #[command(flatten)]
        target: Target,
    },
    /// Show how far each projection has read each feed
    Status {
        /// One projection; all without it
        name: Option<String>,
        #[command(flatten)]
        watching: Watching,
        #[command(flatten)]
        target: Target,
    },
    /// Tell why a row is as it is: the events that were folded into it, and the commands that they came from
    Why {
        name: String,
        /// The row's key; of a roll-up that of a group, its columns joined by commas, or the first of them
        key: String,
        #[command(flatten)]
        target: Target,
    },
    /// Fold a projection from the first event and compare the rows with the live ones, which are not touched
    Verify(BuildArgs),
    /// Say which rows a rebuild by this program would change, and change nothing
    Diff(BuildArgs),
    /// Build the next generation from the first event beside the live one, compare, then swap
    Rebuild {
        /// Only what has this key, in place: a row with its links and entries
        #[arg(long, conflicts_with_all = ["throttle", "no_wait"])]
        key: Option<String>,
        #[command(flatten)]
        build: BuildArgs,
    },
    /// Go back to a generation that was live before, once it is as new as the live one
    Rollback {
        name: String,
        /// Which one; without it, the last one before the live one
        #[arg(long)]
        to: Option<i64>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Stop a rebuild where it is, over restarts, until it is resumed
    Pause(NamedArgs),
    /// Let a paused rebuild go on
    Resume(NamedArgs),
    /// End a rebuild and remove what it has built
    Cancel(NamedArgs),
    /// Bound how many events a second a rebuild folds
    Throttle {
        name: String,
        /// Without it, there is no bound any more
        events_per_s: Option<std::num::NonZeroU64>,
        #[command(flatten)]
        target: Target,
    },
    /// Look at events that cannot be folded, try them again, or decide to leave them out
    Parked(ParkedArgs),
    /// List the generations of a projection, and how its rebuilds ended
    Generations(NamedArgs),
    /// Show what the comparison of a rebuild found, by table, row and field
    Report {
        name: String,
        /// Of the rebuild into this generation; without it, of the last one
        #[arg(long)]
        generation: Option<i64>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub struct ParkedArgs {
    #[command(subcommand)]
    pub verb: ParkedVerb,
}

#[derive(Debug, Subcommand)]
pub enum ParkedVerb {
    /// List what waits, those that fail in the same way together
    Ls {
        #[command(flatten)]
        meant: MeantArgs,
        /// What was decided to be left out, instead
        #[arg(long)]
        dropped: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show why a stream waits, and the events that wait with it
    Show {
        /// As it is listed, or the aggregate's id
        stream: String,
        /// In this read model only
        #[arg(long)]
        projection: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Fold what waits, in order, as far as this release can; exit code 2 when something waits still
    Retry {
        #[command(flatten)]
        meant: MeantArgs,
        /// Only tell what would become of it
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Leave an event out, now and in every rebuild, and fold what waits behind it
    Drop {
        /// The event's id, as `parked show` has it
        event: uuid::Uuid,
        /// The reason. It is kept with the decision and your name, so it names no person
        #[arg(long)]
        why: String,
        /// Out of this read model only; without it out of each that is parked at the event
        #[arg(long)]
        projection: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

/// Which parked streams are meant: all that fit what is given.
#[derive(Debug, Args)]
pub struct MeantArgs {
    /// Only this stream, as it is listed, or by the aggregate's id
    #[arg(long)]
    pub stream: Option<String>,
    /// Only in this read model
    #[arg(long)]
    pub projection: Option<String>,
    /// Only what fails in this way, as `parked ls` has it
    #[arg(long)]
    pub fingerprint: Option<String>,
}

#[derive(Debug, Args)]
pub struct NamedArgs {
    pub name: String,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    pub name: String,
    /// At most so many events a second
    #[arg(long)]
    pub throttle: Option<std::num::NonZeroU64>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Follow the progress to the end, which is what happens without a flag
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Return at once; `tributary projection generations` shows how it goes
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Whether to look once or again and again.
#[derive(Debug, Args)]
pub struct Watching {
    /// Look again and again, until interrupted: a table that is redrawn on a terminal, lines of what is new elsewhere
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(long = "every", value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600), requires = "watch")]
    pub every_s: u64,
    /// End after so many looks
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), requires = "watch")]
    pub times: Option<u64>,
}
