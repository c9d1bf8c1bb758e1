//! The command line with a file under it: flags go before environment variables, those before the file (`--config`), that
//! before defaults.
//!
//! A setting is a flag that has an environment variable, of whatever command. The file is a JSON object of settings by the
//! names of their flags; what it says becomes flags of the command that has them, unless they are given already. So there is
//! one list of settings, one way to read their values, and one place that refuses a wrong one. A variable that is set and
//! empty, as a file for an environment may leave it, is one that is not set.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    path::Path,
};

use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, parser::ValueSource};
use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::cli::Cli;

/// What was asked for, and where it was said.
pub struct Asked {
    pub cli: Cli,
    matches: ArgMatches,
    of_file: BTreeSet<String>,
}

/// A setting of a command, and who says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its flag, without the dashes, which is also its name in the file.
    pub name: String,
    pub variable: String,
    /// `None` = not set.
    pub value: Option<String>,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

impl Origin {
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// Why a file of settings cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("--config {file}: {error}")]
    Read { file: String, error: std::io::Error },
    #[error("--config {file}: it is to be one JSON object, such as {{\"listen\": \"127.0.0.1:8080\"}}: {error}")]
    Json { file: String, error: serde_json::Error },
    #[error("--config {file}: there is no setting {name}; `tributary config show` lists them")]
    Unknown { file: String, name: String },
    #[error("--config {file}: {name} is to be a text, a number, true, false or a list of them")]
    Value { file: String, name: String },
}

/// Reads the command line of this process; ends it as clap does if that is wrong, or only asks for help.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked, FileError> {
    let arguments = with_command(arguments);
    let (arguments, of_file) = with_file(arguments)?;
    let matches = command_line().get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok(Asked { cli, matches, of_file })
}

/// As it is read here: an empty variable is nobody's.
fn command_line() -> Command {
    without_empty_variables(Cli::command())
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let without = |argument: Arg| match argument.get_env() {
        Some(name) if is_empty(name) => argument.env(None::<&'static str>),
        _ => argument,
    };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

/// Without a command, `tributary` is the demo.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if let Ok(matches) = command_line().try_get_matches_from(&arguments)
        && matches.subcommand().is_none()
    {
        arguments.extend(["up".into(), "--demo".into()]);
    }
    arguments
}

fn with_file(mut arguments: Vec<OsString>) -> Result<(Vec<OsString>, BTreeSet<String>), FileError> {
    let mut of_file = BTreeSet::new();
    // a file may say what is required, so what is missing without it is no error yet
    let Ok(matches) = command_line().ignore_errors(true).try_get_matches_from(&arguments) else {
        return Ok((arguments, of_file));
    };
    let Some(file) = matches.get_one::<std::path::PathBuf>("config") else { return Ok((arguments, of_file)) };
    let mut root = Cli::command();
    root.build();
    let (command, matches) = innermost(&root, &matches);
    let said = read(file)?;
    let unknown = |name: &String| FileError::Unknown { file: file.display().to_string(), name: name.clone() };
    let mut flags = Vec::new();
    for (name, value) in &said {
        if !is_setting(&root, name) {
            return Err(unknown(name));
        }
        let Some(setting) = settings_of(command).find(|argument| argument.get_long() == Some(name.as_str())) else {
            continue;
        };
        let wrong = || FileError::Value { file: file.display().to_string(), name: name.clone() };
        if is_said(matches, setting.get_id().as_str()) {
            continue;
        }
        flags.extend(flag(setting, name, value).ok_or_else(wrong)?);
        of_file.insert(name.clone());
    }
    // flags end at --
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    arguments.splice(end..end, flags.into_iter().map(OsString::from));
    Ok((arguments, of_file))
}

/// Whether a flag or a variable says it.
fn is_said(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn read(file: &Path) -> Result<Map<String, Value>, FileError> {
    let name = || file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| FileError::Read { file: name(), error })?;
    serde_json::from_str(&text).map_err(|error| FileError::Json { file: name(), error })
}

/// The flag that says the same; none for a switch that is off, and an error if it cannot be said.
fn flag(setting: &Arg, name: &str, value: &Value) -> Option<Option<String>> {
    if !setting.get_action().takes_values() {
        return value.as_bool().map(|is_on| is_on.then(|| format!("--{name}")));
    }
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_so) => Some(is_so.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let value = match value {
        Value::Array(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(","),
        one => scalar(one)?,
    };
    Some(Some(format!("--{name}={value}")))
}

/// The command that was named, and what was said to it.
fn innermost<'a>(command: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    match matches.subcommand().and_then(|(name, matches)| Some((command.find_subcommand(name)?, matches))) {
        Some((command, matches)) => innermost(command, matches),
        None => (command, matches),
    }
}

/// Where the file is says no file.
fn settings_of(command: &Command) -> impl Iterator<Item = &Arg> {
    let is_setting = |argument: &&Arg| argument.get_env().is_some() && argument.get_id() != "config";
    command.get_arguments().filter(is_setting)
}

fn is_setting(command: &Command, name: &str) -> bool {
    settings_of(command).any(|argument| argument.get_long() == Some(name))
        || command.get_subcommands().any(|command| is_setting(command, name))
}

impl Asked {
    /// Every setting of the command that was named, in the order of its help, without secrets.
    pub fn settings(&self) -> Vec<Setting> {
        let mut root = Cli::command();
        root.build();
        let (command, matches) = innermost(&root, &self.matches);
        settings_of(command).map(|argument| self.setting(argument, matches)).collect()
    }

    fn setting(&self, argument: &Arg, matches: &ArgMatches) -> Setting {
        let id = argument.get_id().as_str();
        let name = argument.get_long().unwrap_or(id).to_owned();
        let origin = match matches.value_source(id) {
            Some(ValueSource::CommandLine) if self.of_file.contains(&name) => Origin::File,
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => Origin::Environment,
            _ => Origin::Default,
        };
        let raw = matches
            .get_raw(id)
            .map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(","));
        let value = raw.filter(|value| !value.is_empty());
        let value = value.map(|value| if argument.is_hide_env_values_set() { redacted(&value) } else { value });
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Setting { name, variable, value, origin }
    }
}

/// Of a URL all but its user and password and what is asked of it; of any other secret nothing.
fn redacted(secret: &str) -> String {
    const HIDDEN: &str = "***";
    let Some((scheme, rest)) = secret.split_once("://") else { return HIDDEN.to_owned() };
    let place = rest.split('?').next().unwrap_or_default();
    match place.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://{HIDDEN}@{place}"),
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        file
    }

    fn shown(arguments: &[&str], text: &str) -> Result<Vec<Setting>, String> {
        let file = file(text);
        let config = format!("--config={}", file.path().display());
        let all = ["tributary", "config", "show", &config].into_iter().chain(arguments.iter().copied());
        let asked = parse(all.map(OsString::from).collect()).map_err(|error| error.to_string())?;
        Ok(asked.settings())
    }

    fn named(settings: &[Setting], name: &str) -> (Option<String>, Origin) {
        let found = settings.iter().find(|setting| setting.name == name).expect(name);
        (found.value.clone(), found.origin)
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_a_default() {
        let said = r#"{"listen": "127.0.0.1:9", "keep-keys-days": 7, "demo": true, "token": "of another command",
            "graphql-allowed-origins": ["https://a.example", "https://b.example"]}"#;
        let settings = shown(&["--keep-keys-days", "8"], said).expect("understood");
        assert_eq!(named(&settings, "listen"), (Some("127.0.0.1:9".to_owned()), Origin::File));
        assert_eq!(named(&settings, "keep-keys-days"), (Some("8".to_owned()), Origin::Flag));
        assert_eq!(named(&settings, "demo"), (Some("true".to_owned()), Origin::File));
        assert_eq!(named(&settings, "data-dir"), (Some("data".to_owned()), Origin::Default));
        let origins = named(&settings, "graphql-allowed-origins").0.expect("a list");
        assert_eq!(origins, "https://a.example,https://b.example");
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for (text, says) in [
            (r#"{"lisen": "127.0.0.1:9"}"#, "no setting lisen"),
            // what deletes is said each time
            (r#"{"reset": true}"#, "no setting reset"),
            (r#"{"listen": {"port": 1}}"#, "listen is to be a text"),
            ("listen = 1", "one JSON object"),
        ] {
            let error = shown(&[], text).expect_err("refused");
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = r#"{"users-database-url": "postgres://ana:secret@db.example:5432/users?password=secret"}"#;
        let settings = shown(&[], text).expect("understood");
        let url = named(&settings, "users-database-url").0.expect("a URL");
        assert_eq!(url, "postgres://***@db.example:5432/users");
        assert_eq!(redacted("a-token"), "***");
    }
}
