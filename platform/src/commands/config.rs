//! `tributary config show`: what `tributary up` or a role by itself would run with, and who says so.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cli::{ConfigArgs, ConfigVerb, Output, RoleShown, ShowArgs},
    config::{ConfigError, check_address},
    output,
    settings::Setting,
};

/// Shows the settings, and fails as the process would that ran with them if they do not go together.
pub fn run(args: ConfigArgs, settings: &[Setting], output: Output) -> Result<ExitCode> {
    let ConfigVerb::Show(shown) = args.verb;
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
    check(shown)?;
    Ok(ExitCode::SUCCESS)
}

fn check(shown: ShowArgs) -> Result<(), ConfigError> {
    match shown.role {
        None => shown.up.storage().map(drop),
        Some(RoleShown::Serve(serve)) => {
            check_address(serve.listen, &serve.auth)?;
            serve.storage()?;
            serve.elsewhere().map(drop)
        }
        Some(RoleShown::Project(project)) => {
            check_address(project.listen, &project.auth)?;
            project.database.storage()?;
            project.elsewhere().map(drop)
        }
        Some(RoleShown::Graphql(graphql)) => {
            check_address(graphql.listen, &graphql.auth)?;
            graphql.database.storage().map(drop)
        }
        Some(RoleShown::Gateway(gateway)) => {
            check_address(gateway.listen, &gateway.auth)?;
            gateway.upstreams().map(drop)
        }
    }
}
