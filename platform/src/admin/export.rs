//! A log on its way into a backup: the lines of one, the keys last. Who may ask may read everything anyway.

use axum::{
    body::{Body, Bytes},
    extract::{Path, State, rejection::PathRejection},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use event_store::backup::{BackupError, Contents, lines::LineWriter};
use futures::stream;
use write_side::edge::Problem;

use super::{ServicesAdmin, bad_address};

pub async fn export(
    State(admin): State<ServicesAdmin>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(service) = path.map_err(|error| bad_address(&error.body_text()))?;
    let (log, _) = admin.log(&service)?;
    let (contents, writer) = (log.contents(), LineWriter::new(&service, Vec::new()));
    let body = stream::try_unfold(Some((contents, writer)), async |under_way| {
        let Some(under_way) = under_way else { return Ok(None) };
        next(under_way).await.inspect_err(|error| tracing::error!(%error, "a log is not exported to its end"))
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

type UnderWay = (Contents, LineWriter<Vec<u8>>);

/// The next lines, and what is left; the last lines once nothing is.
async fn next((mut contents, mut writer): UnderWay) -> Result<Option<(Bytes, Option<UnderWay>)>, BackupError> {
    let Some(chunk) = contents.recv().await else {
        // a log that stopped telling half-way has no last lines
        let (lines, _) = writer.finish()?;
        return Ok(Some((lines.into(), None)));
    };
    for item in chunk? {
        writer.item(&item)?;
    }
    let lines = std::mem::take(writer.out());
    Ok(Some((lines.into(), Some((contents, writer)))))
}
