//! JSON bodies: declared as JSON, no larger and no slower than allowed, and errors that name the field.

use std::error::Error as _;

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::{ApiError, AppState, Limits};

/// A request body read as JSON.
///
/// The declared content type matters for more than order: without it a page of another origin could send the
/// request with a person's browser, unasked.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let declared = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = declared.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::MediaType);
        }
        parse(&read(request, &state.limits).await?).map(JsonBody)
    }
}

async fn read(request: Request, limits: &Limits) -> Result<Bytes, ApiError> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|l| l > limits.body) {
        return Err(ApiError::TooLarge(limits.body));
    }
    let body = to_bytes(request.into_body(), limits.body);
    match tokio::time::timeout(limits.body_time, body).await {
        Err(_) => Err(ApiError::SlowBody(limits.body_time.as_secs())),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if e.source().is_some_and(|why| why.is::<LengthLimitError>()) => {
            Err(ApiError::TooLarge(limits.body))
        }
        Ok(Err(e)) => Err(ApiError::Invalid(format!("the body broke off: {e}"))),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    // Again, and this time with the path to what is wrong, which costs as much as the reading.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        if path == "." {
            ApiError::Invalid(format!("the body: {inner}"))
        } else {
            ApiError::Invalid(format!("`{path}`: {inner}"))
        }
    })?;
    json.end().map_err(|e| ApiError::Invalid(format!("the body goes on after its JSON value: {e}")))?;
    Ok(value)
}

/// An instant given as RFC 3339 text in field `field`, in milliseconds.
///
/// # Errors
/// [`ApiError::Invalid`] naming the field when the text is no instant.
pub fn instant(field: &str, text: &str) -> Result<ingest::Millis, ApiError> {
    text.parse::<jiff::Timestamp>().map(|t| t.as_millisecond()).map_err(|_| {
        ApiError::Invalid(format!("`{field}`: `{text}` is no instant; write it like 2026-03-01T09:30:00Z"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ask {
        #[allow(dead_code)]
        users: Vec<String>,
    }

    #[test]
    fn errors_name_the_field() {
        let said = |body: &str| parse::<Ask>(body.as_bytes()).unwrap_err().to_string();
        assert!(said(r#"{"users":["a",5]}"#).contains("`users[1]`"));
        assert!(said(r#"{"users":[],"usr":1}"#).contains("`usr`"));
        assert!(said(r#"{"users":[]} x"#).contains("goes on"));
        assert!(parse::<Ask>(b"{\"users\":[\"\xff\"]}").is_err());
        assert!(parse::<Ask>(br#"{"users":[]}"#).is_ok());
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(instant("at", "1970-01-01T00:00:01.5Z"), Ok(1500));
        assert_eq!(instant("at", "1970-01-01T01:00:00+01:00"), Ok(0));
        for wrong in ["yesterday", "1970-01-01", "1970-01-01T00:00:00", ""] {
            assert!(instant("at", wrong).unwrap_err().to_string().contains("`at`"), "{wrong}");
        }
    }
}
