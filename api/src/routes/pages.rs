//! The tip page and its files.

use axum::{extract::Path, http::HeaderMap, response::Response};

use crate::assets;

/// The tip page.
#[utoipa::path(
    get, path = "/", tag = "pages", security(()),
    responses((status = 200, description = "The tip page", content_type = "text/html"))
)]
pub(super) async fn index(headers: HeaderMap) -> Response {
    assets::serve("index.html", &headers)
}

/// A file of the pages.
#[utoipa::path(
    get, path = "/assets/{name}", tag = "pages", security(()),
    params(("name" = String, Path, description = "File name", example = "app.js")),
    responses(
        (status = 200, description = "The file"),
        (status = 304, description = "The caller has it already"),
        (status = 404, description = "There is no such file", body = ingest::http::ProblemBody),
    )
)]
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    assets::serve(&name, &headers)
}
