//! `tributary command send`: a command over the public HTTP API, with everything that a careful client sends.

use std::{io::Read, process::ExitCode};

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cli::{CommandArgs, CommandVerb, Output},
    client::Client,
    output,
};

/// The largest body that is read from a file or standard input; services take less.
const BODY_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub async fn run(args: CommandArgs, output: Output) -> Result<ExitCode> {
    let CommandVerb::Send { address, body, key, if_match, after, target } = args.verb;
    if !address.starts_with('/') {
        bail!("{address} is no address of a command: it starts with a slash, such as /users or /orders/<id>/cancel");
    }
    let body: Value = serde_json::from_str(&read(&body)?).context("the body is no JSON")?;
    let key = key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let client = Client::new(&target)?;
    let mut request = client.http().post(client.url(&address)).header("idempotency-key", &key).json(&body);
    if let Some(version) = if_match {
        request = request.header("if-match", format!("\"{version}\""));
    }
    if let Some(token) = after {
        request = request.header("consistency-token", token);
    }
    let again = || format!("send it again with --key {key}: it takes effect once");
    let answer = request.send().await.with_context(|| format!("no answer from {}; {}", target.url, again()))?;
    let status = answer.status();
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (token, version) = (header("consistency-token"), header("etag"));
    let text = answer.text().await.with_context(|| format!("the answer broke off; {}", again()))?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    match output {
        Output::Json => output::json(&json!({
            "status": status.as_u16(), "key": key, "version": version, "consistency_token": token, "body": body,
        })),
        Output::Human => {
            output::line(format!("{status}"));
            output::line(format!("Idempotency-Key    {key}"));
            if let Some(version) = version {
                output::line(format!("ETag               {version}"));
            }
            if let Some(token) = token {
                output::line(format!("Consistency-Token  {token}"));
            }
            output::line(serde_json::to_string_pretty(&body).context("print the answer")?);
        }
    }
    // the service does not know, or could not take it now: neither done nor refused
    if status.is_server_error() || matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS) {
        bail!("not acknowledged; {}", again());
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A text as it is, of a file (`@file`) or of standard input (`-`).
fn read(body: &str) -> Result<String> {
    let mut text = String::new();
    match body.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("open {path}"))?;
            file.take(BODY_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("read {path}"))?;
        }
        None if body == "-" => {
            std::io::stdin().take(BODY_BYTES_MAX).read_to_string(&mut text).context("read standard input")?;
        }
        None => body.clone_into(&mut text),
    }
    Ok(text)
}
