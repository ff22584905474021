//! The files of the pages, kept in the binary. No build step: what stands in `static/` is what is served.
//!
//! Another part with a page of its own makes its [`Asset`]s the same way and answers with
//! [`Asset::respond`]; `style.css` holds the colours, type and buttons that pages share.

use std::sync::OnceLock;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::ApiError;

/// One file.
#[derive(Debug)]
pub struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    etag: OnceLock<HeaderValue>,
}

impl Asset {
    /// A file by its name, with its content type and bytes (`include_bytes!`).
    pub const fn new(name: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        Asset { name, content_type, bytes, etag: OnceLock::new() }
    }

    /// Answers with the file, or with 304 when the caller's `If-None-Match` names it.
    ///
    /// Browsers keep the file but ask each time: names carry no version, so a new binary shows at once.
    pub fn respond(&self, request: &HeaderMap) -> Response {
        let etag = self.etag.get_or_init(|| {
            let text = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(self.bytes));
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
        });
        let known = request.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|asked| {
            asked.split(',').any(|t| t.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes())
        });
        let mut answer = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.content_type)], Bytes::from_static(self.bytes)).into_response()
        };
        let headers = answer.headers_mut();
        headers.insert(header::ETAG, etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if self.name == "sw.js" {
            // The worker stands under /assets but keeps the page at /.
            headers.insert(HeaderName::from_static("service-worker-allowed"), HeaderValue::from_static("/"));
        }
        answer
    }
}

macro_rules! assets {
    ($($name:literal => $content_type:literal),* $(,)?) => {
        [$(Asset::new($name, $content_type, include_bytes!(concat!("../static/", $name)))),*]
    };
}

static ASSETS: [Asset; 11] = assets! {
    "index.html" => "text/html; charset=utf-8",
    "style.css" => "text/css; charset=utf-8",
    "tip.css" => "text/css; charset=utf-8",
    "app.js" => "text/javascript; charset=utf-8",
    "calls.js" => "text/javascript; charset=utf-8",
    "swipe.js" => "text/javascript; charset=utf-8",
    "sw.js" => "text/javascript; charset=utf-8",
    "manifest.webmanifest" => "application/manifest+json",
    "icon.svg" => "image/svg+xml",
    "icon-192.png" => "image/png",
    "icon-512.png" => "image/png",
};

/// Answers with the file called `name`, or with 404.
pub fn serve(name: &str, request: &HeaderMap) -> Response {
    match ASSETS.iter().find(|a| a.name == name) {
        Some(asset) => asset.respond(request),
        None => ApiError::NotFound(format!("there is no file `{name}`")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_file_is_not_sent_again() {
        let first = serve("app.js", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].clone();

        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, etag.clone());
        assert_eq!(serve("app.js", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(serve("style.css", &headers).status(), StatusCode::OK);
        let listed = format!("\"x\", W/{}", etag.to_str().unwrap());
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&listed).unwrap());
        assert_eq!(serve("app.js", &headers).status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn no_name_leaves_the_list() {
        for name in ["", "../Cargo.toml", "nothing.js", "APP.JS"] {
            assert_eq!(serve(name, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn the_worker_keeps_only_files_that_exist() {
        let worker = include_str!("../static/sw.js");
        let kept: Vec<&str> = worker.split('\'').filter_map(|s| s.strip_prefix("/assets/")).collect();
        assert!(kept.len() >= 5, "{kept:?}");
        for name in kept {
            assert!(ASSETS.iter().any(|a| a.name == name), "{name}");
        }
    }
}
