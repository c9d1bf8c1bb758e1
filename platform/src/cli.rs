//! The command line: noun, verb. Flags go before environment variables, those before a file, that before defaults.

mod projection;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

pub use self::projection::{
    BuildArgs, MeantArgs, NamedArgs, ParkedArgs, ParkedVerb, ProjectionArgs, ProjectionVerb, WaitArgs, Watching,
};
use crate::{
    config::{
        UpArgs,
        apart::{GatewayArgs, GraphqlArgs, ProjectArgs, ServeArgs},
        databases::Databases,
        urls::{EveryDatabase, Named},
    },
    import,
};

/// CQRS and event sourcing for the database-per-service pattern: an order platform that runs with one command, and
/// the engine under it.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, propagate_version = true)]
// settings::parse adds `up --demo` where no command is named
#[command(subcommand_required = false, arg_required_else_help = false)]
#[command(after_help = "Without a command, `tributary` runs `tributary up --demo`.\n\
                        Exit codes: 0 done; 1 failed; 2 wrong usage, or done in part; 3 a verification found differences.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// File of settings: a JSON object of flags by their names, such as {"listen": "127.0.0.1:8080"}. What a flag or a
    /// variable says goes before it
    #[arg(long, global = true, env = "TRIBUTARY_CONFIG", value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,

    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Human)]
    pub output: Output,

    /// What is logged to stderr, as a tracing filter
    #[arg(long, global = true, env = "TRIBUTARY_LOG", default_value = "warn,platform=info")]
    pub log: String,

    #[arg(long, global = true, env = "TRIBUTARY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all roles in one process: services, projector, GraphQL
    Up(Box<UpArgs>),
    /// Run one or more command services, each on its own database
    Serve(Box<ServeArgs>),
    /// Run the projector: read models from the services' feeds, into the query database
    Project(Box<ProjectArgs>),
    /// Run GraphQL over the query database
    Graphql(Box<GraphqlArgs>),
    /// Run the one public port before roles that run apart
    Gateway(Box<GatewayArgs>),
    /// Make the PostgreSQL databases what this release needs: roles, tables, and who may do what
    Migrate(MigrateArgs),
    /// Enter deterministic demo data into a running platform
    Demo(DemoArgs),
    /// Enter the data of another system into a running platform
    Import(import::Args),
    /// Look at the read models and rebuild them by replay
    Projection(ProjectionArgs),
    /// Give a command to a service
    #[command(name = "command")]
    Give(CommandArgs),
    /// Look at the events of one aggregate, or follow those of a service
    Stream(StreamArgs),
    /// Look at writes that span services, and decide about what is stuck
    Saga(SagaArgs),
    /// Show the settings that `up` or a role would run with, and where each is said
    Config(Box<ConfigArgs>),
    /// Find out what is wrong, with a running platform or with a data directory
    Doctor(DoctorArgs),
    /// Check that the events of every log are those that were written; exit code 3 when one is not
    VerifyChain(VerifyChainArgs),
    /// Write logs or the read models into files, each with a digest; from the running platform, or from its databases when
    /// nothing runs
    Export(ExportArgs),
    /// Make logs or read models of such files, while nothing runs
    Restore(RestoreArgs),
    /// Make a log, in place, of what a service has written by other means and goes on writing
    Adopt(AdoptArgs),
}

/// Where the platform runs that a command talks to.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Base URL of the running platform
    #[arg(long, env = "TRIBUTARY_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,

    /// Token to show, where the platform asks for one
    #[arg(long, env = "TRIBUTARY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

#[derive(Args)]
#[command(
    after_help = "Run it as often as you like: it does what is missing, and a run that was killed is completed by the next \
                        one. Of each database <prefix>_<name> the role <prefix>_<name>_owner owns everything and nobody logs \
                        in with it; processes log in with <prefix>_<service>_a or _b, <prefix>_projector_a or _b and \
                        <prefix>_graphql_a or _b, two each so that passwords can be changed without a pause.\n\
                        Exit codes: 0 done, or nothing to do; 1 failed; 2 wrong usage; 3 with --check, something is to be \
                        done.\n\
                        Examples:\n  \
                        tributary migrate --admin-url-file /run/secrets/admin-url --secrets-dir /run/secrets\n  \
                        tributary migrate orders query --admin-url postgres://postgres@db.internal/postgres --check"
)]
pub struct MigrateArgs {
    /// The services whose databases are meant, and `query` for the read models; all of them without any
    #[arg(value_parser = PossibleValuesParser::new(EveryDatabase::names()))]
    pub databases: Vec<String>,

    /// Who may make roles and databases, and the database to connect to first: postgres://postgres:password@host/postgres.
    /// Whoever owns what is there already may do the rest
    #[arg(long, env = "TRIBUTARY_ADMIN_URL", hide_env_values = true, value_name = "URL")]
    pub admin_url: Option<String>,

    /// A file with that URL, which goes before it
    #[arg(long, env = "TRIBUTARY_ADMIN_URL_FILE", value_name = "FILE")]
    pub admin_url_file: Option<std::path::PathBuf>,

    /// Passwords that roles are to have, one in a file named as the role; a role without a file keeps what it has. Also that
    /// of the administrator, if there is a file for it
    #[arg(long, env = "TRIBUTARY_SECRETS_DIR", value_name = "FOLDER")]
    pub secrets_dir: Option<std::path::PathBuf>,

    /// What the names of all databases and roles begin with
    #[arg(long, env = "TRIBUTARY_PREFIX", default_value = "tributary")]
    pub prefix: String,

    /// Processes of a role that may run at once, those that take over from others among them: bounds the connections of
    /// its logins. Replicas need more
    #[arg(long, env = "TRIBUTARY_PROCESSES", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub processes: u32,

    /// Tell what would be done, and do nothing
    #[arg(long)]
    pub check: bool,
}

impl std::fmt::Debug for MigrateArgs {
    /// The URL carries a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrateArgs").field("databases", &self.databases).finish_non_exhaustive()
    }
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(subcommand)]
    pub verb: DemoVerb,
}

#[derive(Debug, Subcommand)]
pub enum DemoVerb {
    /// Users, products, stock and orders, the same every time; entering them twice adds nothing
    Seed {
        #[command(flatten)]
        target: Target,
    },
    /// Live load: orders placed at a steady rate, paid, sent and delivered; exit code 2 when one did not get on
    Traffic {
        /// Orders a second
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// How long new orders are placed, such as 60s, 5m or 1h
        #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
        lasts: std::time::Duration,
        #[command(flatten)]
        target: Target,
    },
}

/// `60s`, `5m`, `1h`, or seconds.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let (number, seconds) =
        units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds))).unwrap_or((text, 1));
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    let duration = duration.filter(|seconds| (1..=24 * 3_600).contains(seconds));
    duration.map(std::time::Duration::from_secs).ok_or_else(|| "1s to 24h, such as 60s, 5m or 1h".to_owned())
}

#[derive(Debug, Args)]
pub struct StreamArgs {
    #[command(subcommand)]
    pub verb: StreamVerb,
}

#[derive(Debug, Subcommand)]
pub enum StreamVerb {
    /// Print the events of one aggregate, in order
    Show {
        /// Whose stream it is: a service, such as users or orders
        #[arg(long)]
        service: String,
        /// The aggregate's id
        id: String,
        /// Events behind this version only
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// The most events to print
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        #[command(flatten)]
        target: Target,
    },
    /// Print the events of a service as they are committed, until interrupted
    Tail {
        /// users, catalog, inventory, orders, payments, shipping, notifications or checkout
        #[arg(long)]
        service: String,
        /// Start behind this position; without it, with what is committed from now on
        #[arg(long)]
        after: Option<u64>,
        /// End after so many events
        #[arg(long)]
        limit: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub struct CommandArgs {
    #[command(subcommand)]
    pub verb: CommandVerb,
}

#[derive(Debug, Subcommand)]
pub enum CommandVerb {
    /// Send a command to the address that takes it, and print the answer; /docs lists all of them
    #[command(after_help = "Examples:\n  \
        tributary command send /users '{\"name\": \"Ada\", \"email\": \"ada@example.com\"}'\n  \
        tributary command send /orders @order.json --key order-7\n  \
        tributary command send /products/0198c0de-0000-7000-8000-000000000011/discontinue --if-match 3")]
    Send {
        /// Where to, such as /users or /orders/<id>/cancel
        address: String,
        /// The body as JSON; @file reads it from a file, - from standard input
        #[arg(default_value = "{}")]
        body: String,
        /// Idempotency key: the same one again has no further effect. One is made, and printed, without it
        #[arg(long)]
        key: Option<String>,
        /// Only if this is still the aggregate's version
        #[arg(long)]
        if_match: Option<u64>,
        /// Consistency token that the service waits for before it decides
        #[arg(long)]
        after: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub struct SagaArgs {
    #[command(subcommand)]
    pub verb: SagaVerb,
}

#[derive(Debug, Subcommand)]
pub enum SagaVerb {
    /// List sagas: what changed last, or what is stuck the longest
    Ls {
        /// Only those in this phase, such as AWAITING_CAPTURE
        #[arg(long)]
        phase: Option<String>,
        /// Only those with a step that somebody should look at
        #[arg(long)]
        stuck: bool,
        /// Only those that wait for an event of another service longer than there is reason to
        #[arg(long)]
        overdue: bool,
        /// The most to list
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        target: Target,
    },
    /// Tell the story of one: what it learned, what it asked for and why, and what it waits for
    Show {
        /// Its id, or that of what it is about: an order's
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Begin the one of something that happened before there was a saga for it: an order that is still pending
    Start {
        /// Of what it is about: an order's id
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Ask for a step again, now
    Retry(DecisionArgs),
    /// Take a step for done: it was done by hand
    Force(DecisionArgs),
    /// Give a step up: it is not done, and will not be
    Skip(DecisionArgs),
}

#[derive(Debug, Args)]
pub struct DecisionArgs {
    /// The saga's id, or that of what it is about: an order's
    pub id: String,
    /// A step that it waits for, as `saga show` names it
    pub step: String,
    /// The reason. It is kept with the decision and your name, so it names no person
    #[arg(long)]
    pub why: String,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub kept: Kept,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Every setting with its value and its origin: flag, environment, file or default. Takes the flags of `up`, or a role
    /// that runs apart and its flags
    Show(ShowArgs),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ShowArgs {
    #[command(flatten)]
    pub up: UpArgs,

    #[command(subcommand)]
    pub role: Option<RoleShown>,
}

/// Whose settings are shown instead of those of `up`.
#[derive(Debug, Subcommand)]
pub enum RoleShown {
    /// The settings of `tributary serve`
    Serve(Box<ServeArgs>),
    /// The settings of `tributary project`
    Project(Box<ProjectArgs>),
    /// The settings of `tributary graphql`
    Graphql(Box<GraphqlArgs>),
    /// The settings of `tributary gateway`
    Gateway(Box<GatewayArgs>),
}

/// Where the databases are, if nothing runs.
#[derive(Debug, Clone, Args)]
pub struct Kept {
    /// Where the files lie, if nothing runs and no database is named
    #[arg(long, env = "TRIBUTARY_DATA_DIR", default_value = "data")]
    pub data_dir: std::path::PathBuf,

    #[command(flatten)]
    pub databases: Databases<EveryDatabase>,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.databases.is_empty() {
            true => write!(f, "the data directory {}", self.data_dir.display()),
            false => f.write_str("the databases that are named"),
        }
    }
}

/// The services there are: any other is refused with their names.
fn services() -> PossibleValuesParser {
    write_side::REGISTER.iter().map(|entry| entry.name).collect::<Vec<_>>().into()
}

#[derive(Debug, Args)]
pub struct VerifyChainArgs {
    /// Whose logs; without one, all
    #[arg(value_name = "SERVICE", value_parser = services())]
    pub services: Vec<String>,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub kept: Kept,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Whose logs, and `query` for the read models; without any, all logs
    #[arg(value_name = "SERVICE", value_parser = PossibleValuesParser::new(EveryDatabase::names()))]
    pub services: Vec<String>,
    /// A directory, for SERVICE.ndjson and SERVICE.keys.ndjson of each log, and query.ndjson; or a file, named .ndjson, for
    /// one of them. The keys lie beside it: whoever has both reads what is personal. Read models have no keys: whoever has
    /// query.ndjson reads it
    #[arg(long, value_name = "DIR|FILE")]
    pub to: std::path::PathBuf,
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub kept: Kept,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// What `tributary export` has written: a directory, or one file
    #[arg(value_name = "DIR|FILE")]
    pub from: std::path::PathBuf,
    /// Whose logs, of a directory, and `query` for the read models; without any, all logs that are in it
    #[arg(value_name = "SERVICE", value_parser = PossibleValuesParser::new(EveryDatabase::names()))]
    pub services: Vec<String>,
    /// Give up the events of a log that is there; have read models of the file take the place of those that are live, once
    /// they are as new
    #[arg(long)]
    pub replace: bool,
    /// Only check the files; exit code 3 when one is not as it was written
    #[arg(long, conflicts_with = "replace")]
    pub check: bool,
    #[command(flatten)]
    pub kept: Kept,
}

#[derive(Debug, Args)]
pub struct AdoptArgs {
    #[command(subcommand)]
    pub verb: AdoptVerb,
}

#[derive(Debug, Subcommand)]
pub enum AdoptVerb {
    /// The table `events` of postgres-es 0.5: number what is there, while those who write wait, and what is inserted from
    /// then on as it comes. The service needs no change. Done twice is done once
    PostgresEs {
        /// postgres://user:password@host:port/database, as the owner of the table. Whoever lists processes reads it
        #[arg(value_name = "URL", required_unless_present = "url_file")]
        url: Option<String>,
        /// A file with that URL
        #[arg(long, value_name = "FILE", conflicts_with = "url")]
        url_file: Option<std::path::PathBuf>,
        /// What the log is to be called, for good: the source of its feed, 1 to 64 of A-Z, a-z, 0-9 and -
        #[arg(long)]
        service: String,
        /// Only look whether it can be done
        #[arg(long)]
        dry_run: bool,
    },
}
