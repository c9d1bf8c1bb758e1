//! The query database on its way into a copy. Who may ask may read everything anyway.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures::stream;

use super::ProjectorAdmin;

pub async fn export(State(admin): State<ProjectorAdmin>) -> Response {
    let body = stream::unfold(admin.projector.export(), async |mut contents| {
        let chunk = contents.recv().await?;
        let chunk = chunk
            .map(Bytes::from)
            .inspect_err(|error| tracing::error!(%error, "the query database is not exported to its end"));
        Some((chunk, contents))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}
