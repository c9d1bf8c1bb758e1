//! `tributary projection status`: how far each read model is in each feed, once or again and again.

use std::{collections::HashMap, io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use crate::{
    admin::{ProjectionView, SourceView},
    cli::{Output, Watching},
    client::Client,
    output,
};

const HEADINGS: [&str; 9] = ["NAME", "SOURCE", "POSITION", "HEAD", "LAG", "WAITING", "SEEN", "PARKED", "STATE"];

pub async fn run(client: &Client, name: Option<String>, watching: &Watching, output: Output) -> Result<ExitCode> {
    let projections = look(client, name.as_deref()).await?;
    if !watching.watch {
        match output {
            Output::Json => output::json(&projections),
            Output::Human => {
                output::table(&HEADINGS, rows(&projections, Utc::now()));
                hindrances(&projections).for_each(output::line);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown =
        Shown { output, is_terminal: std::io::stdout().is_terminal(), lines: HashMap::new(), hindrances: Vec::new() };
    let mut seen = Ok(projections);
    let mut looks = 0;
    loop {
        shown.show(&seen, Utc::now());
        looks += 1;
        if watching.times.is_some_and(|times| looks >= times) {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(Duration::from_secs(watching.every_s)).await;
        // it was there a moment ago, and may be again
        seen = look(client, name.as_deref()).await;
    }
}

async fn look(client: &Client, name: Option<&str>) -> Result<Vec<ProjectionView>> {
    let mut projections: Vec<ProjectionView> = client.get("/admin/projections").await?;
    if let Some(name) = name {
        projections.retain(|projection| projection.name == name);
        if projections.is_empty() {
            bail!("there is no projection {name}; `tributary projection ls` lists them");
        }
    }
    Ok(projections)
}

fn rows(projections: &[ProjectionView], now: DateTime<Utc>) -> Vec<Vec<String>> {
    let sources = projections.iter().flat_map(|one| one.sources.iter().map(move |source| (one, source)));
    sources.map(|(projection, source)| row(&projection.name, source, now)).collect()
}

fn row(name: &str, source: &SourceView, now: DateTime<Utc>) -> Vec<String> {
    let seen = source.observed_at.map(|at| (now - at).to_std().unwrap_or_default());
    vec![
        name.to_owned(),
        source.source.clone(),
        source.position.to_string(),
        source.head_position.to_string(),
        source.lag_events.to_string(),
        time(Duration::from_millis(u64::try_from(source.lag_ms).unwrap_or(0))),
        seen.map_or_else(|| "never".to_owned(), |seen| format!("{} ago", time(seen))),
        source.parked.to_string(),
        source.state.clone(),
    ]
}

/// A line of each generation that does not get done.
fn hindrances(projections: &[ProjectionView]) -> impl Iterator<Item = String> {
    projections.iter().filter_map(|one| {
        let why = one.hindrance.as_ref()?;
        Some(format!("{}: the next generation was hindered by: {why}", one.name))
    })
}

/// In the two largest units: `0.4s`, `59s`, `3m 5s`, `2h 0m`, `4d 3h`.
fn time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0 if time.subsec_millis() >= 50 => format!("{:.1}s", time.as_secs_f64()),
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

/// A watch: on a terminal a table that is drawn over the last one; elsewhere lines that can be piped, of what is new.
struct Shown {
    output: Output,
    is_terminal: bool,
    /// What was last said of a source, by read model and source.
    lines: HashMap<(String, String), String>,
    hindrances: Vec<String>,
}

impl Shown {
    fn show(&mut self, seen: &Result<Vec<ProjectionView>>, now: DateTime<Utc>) {
        let at = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        match (self.output, seen) {
            (Output::Json, Ok(projections)) => {
                output::line(json!({ "at": now, "projections": projections }).to_string())
            }
            (Output::Json, Err(error)) => output::line(json!({ "at": now, "error": error.to_string() }).to_string()),
            (Output::Human, Ok(projections)) if self.is_terminal => {
                let table = output::table_lines(&HEADINGS, rows(projections, now));
                output::screen([at, String::new()].into_iter().chain(table).chain(hindrances(projections)));
            }
            (Output::Human, Err(error)) if self.is_terminal => output::screen([at, String::new(), error.to_string()]),
            (Output::Human, Ok(projections)) => {
                self.news(projections).iter().for_each(|line| output::line(format!("{at}  {line}")));
            }
            (Output::Human, Err(error)) => output::line(format!("{at}  {error}")),
        }
    }

    /// A line of each source of which something else is to be said than last time, and of what does not get done. When it
    /// was seen is no news.
    fn news(&mut self, projections: &[ProjectionView]) -> Vec<String> {
        let mut news = Vec::new();
        for (projection, source) in projections.iter().flat_map(|one| one.sources.iter().map(move |of| (one, of))) {
            let SourceView { position, head_position, lag_events, parked, state, .. } = source;
            let waiting = time(Duration::from_millis(u64::try_from(source.lag_ms).unwrap_or(0)));
            let line = format!(
                "{} <- {}  {position} of {head_position}, {lag_events} behind, waiting {waiting}, {parked} parked, {state}",
                projection.name, source.source,
            );
            let key = (projection.name.clone(), source.source.clone());
            if self.lines.get(&key) != Some(&line) {
                self.lines.insert(key, line.clone());
                news.push(line);
            }
        }
        let hindrances: Vec<String> = hindrances(projections).collect();
        news.extend(hindrances.iter().filter(|line| !self.hindrances.contains(line)).cloned());
        self.hindrances = hindrances;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_units() {
        let told = [0.0, 0.04, 0.4, 1.9, 59.0, 185.0, 7_200.0, 356_400.0].map(Duration::from_secs_f64).map(time);
        assert_eq!(told, ["0s", "0s", "0.4s", "1s", "59s", "3m 5s", "2h 0m", "4d 3h"]);
    }

    #[test]
    fn a_watch_that_is_piped_says_what_is_new() {
        let source = |position| SourceView {
            source: "orders".to_owned(),
            position,
            head_position: 9,
            lag_events: 9 - position,
            lag_ms: 0,
            observed_at: Some(Utc::now()),
            parked: 0,
            state: "running".to_owned(),
        };
        let seen = |position| {
            vec![ProjectionView {
                name: "order_details".to_owned(),
                version: 1,
                live_generation: 1,
                building_generation: None,
                hindrance: None,
                state: "live".to_owned(),
                rows: None,
                sources: vec![source(position)],
            }]
        };
        let mut shown =
            Shown { output: Output::Human, is_terminal: false, lines: HashMap::new(), hindrances: Vec::new() };
        let behind = "order_details <- orders  8 of 9, 1 behind, waiting 0s, 0 parked, running";
        assert_eq!(shown.news(&seen(8)), [behind]);
        assert_eq!(shown.news(&seen(8)), [""; 0]);
        assert_eq!(shown.news(&seen(9)).len(), 1);
        let mut hindered = seen(9);
        hindered[0].hindrance = Some("no space left".to_owned());
        let why = "order_details: the next generation was hindered by: no space left";
        assert_eq!(shown.news(&hindered), [why]);
        assert_eq!(shown.news(&hindered), [""; 0]);
        assert_eq!((shown.news(&seen(9)).len(), shown.news(&hindered).len()), (0, 1), "it is news again");
    }
}
