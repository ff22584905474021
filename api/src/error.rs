//! Every error of the surface and the status it answers with.
//!
//! Handlers return `Result<_, ApiError>`; errors of other crates become one here and nowhere else. The answer
//! is `{"error": {"code", "message"}}` ([`Problem`], shared with the ingestion routes). What a caller must not
//! see, the inside of a 500, goes to the log, once, where the request is observed.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use features::FeatureError;
use ingest::http::Problem;

/// What can go wrong with a request, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong: mend it before sending it again.
    #[error("{0}")]
    Invalid(String),
    /// What was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The path exists, this method on it does not.
    #[error("this path does not take this method; `/openapi.json` lists those it takes")]
    Method,
    /// The body did not come in time; the number is the seconds allowed.
    #[error("the body did not arrive within {0} s; send it faster or in smaller pieces")]
    SlowBody(u64),
    /// The body is larger than allowed; the number is the bytes allowed.
    #[error("the body is larger than {0} bytes; send it in smaller pieces")]
    TooLarge(usize),
    /// The body is not declared as JSON.
    #[error("send the header `content-type: application/json`")]
    MediaType,
    /// None of the content types that the caller accepts can be given.
    #[error(
        "`accept` names neither application/json nor application/vnd.apache.arrow.stream; accept one of them"
    )]
    NotAcceptable,
    /// A part is not ready or not reachable: the same request may succeed in a moment.
    #[error("{0}")]
    Unavailable(String),
    /// The answer was not there in the time allowed.
    #[error("{0}")]
    Late(String),
    /// A fault of ours. The text is for the log; the caller is told only that it happened.
    #[error("{0}")]
    Internal(String),
}

/// Seconds after which a caller may ask an unavailable part again.
const TRY_AGAIN_S: u64 = 1;

/// The text of a fault, left in the answer's extensions for whoever logs the request.
#[derive(Debug, Clone)]
pub(crate) struct Fault(pub String);

impl ApiError {
    /// The answer it gives.
    pub fn problem(&self) -> Problem {
        let (status, code) = match self {
            ApiError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            ApiError::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            ApiError::SlowBody(_) => (StatusCode::REQUEST_TIMEOUT, "slow_body"),
            ApiError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ApiError::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            ApiError::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "not_acceptable"),
            ApiError::Late(_) => (StatusCode::GATEWAY_TIMEOUT, "late"),
            ApiError::Unavailable(message) => {
                return Problem::unavailable("unavailable", message, TRY_AGAIN_S);
            }
            ApiError::Internal(_) => return Problem::internal(),
        };
        Problem::new(status, code, self.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut answer = self.problem().into_response();
        if answer.status().is_server_error() {
            answer.extensions_mut().insert(Fault(self.to_string()));
        }
        answer
    }
}

impl From<FeatureError> for ApiError {
    fn from(e: FeatureError) -> Self {
        match e {
            FeatureError::Request(message) => ApiError::Invalid(message),
            FeatureError::NotYet(..) => ApiError::Late(e.to_string()),
            FeatureError::Unavailable(message)
            | FeatureError::Gone(message)
            | FeatureError::Lost(message)
            | FeatureError::Fenced(message) => ApiError::Unavailable(message),
            FeatureError::Definition { .. } | FeatureError::Damaged(_) | FeatureError::Compute { .. } => {
                ApiError::Internal(e.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_told_what_can_be_mended_and_no_more() {
        let told = |e: FeatureError| {
            let problem = ApiError::from(e).problem();
            (problem.status().as_u16(), problem.message().contains("tiles.db"))
        };
        assert_eq!(told(FeatureError::Request("no feature in tiles.db".into())), (400, true));
        assert_eq!(told(FeatureError::Unavailable("tiles.db is locked".into())), (503, true));
        assert_eq!(told(FeatureError::NotYet("0:1".into(), 5)), (504, false));
        assert_eq!(told(FeatureError::Damaged("tiles.db ends early".into())), (500, false));
        let answer = ApiError::Internal("tiles.db".into()).into_response();
        assert_eq!(answer.extensions().get::<Fault>().map(|f| f.0.as_str()), Some("tiles.db"));
    }
}
