//! `tributary config show`: what `tributary up` would run with, and who says so.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cli::{ConfigArgs, ConfigVerb, Output},
    output,
    settings::Setting,
};

/// Shows the settings, and fails as `up` would if they do not go together.
pub fn run(args: ConfigArgs, settings: &[Setting], output: Output) -> Result<ExitCode> {
    let ConfigVerb::Show(up) = args.verb;
    match output {
        Output::Json => output::json(&settings),
        Output::Human => {
            let rows = settings.iter().map(|setting| {
                let value = setting.value.clone().unwrap_or_else(|| "-".to_owned());
                vec![setting.name.clone(), value, setting.origin.word().to_owned(), setting.variable.clone()]
            });
            output::table(&["SETTING", "VALUE", "ORIGIN", "VARIABLE"], rows);
        }
    }
    up.storage()?;
    Ok(ExitCode::SUCCESS)
}
