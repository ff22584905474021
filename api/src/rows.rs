//! Feature values as they go out: JSON, or an Arrow IPC stream for callers that accept it.

use arrow::ipc::writer::StreamWriter;
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use features::{FeatureTable, Value};

use crate::ApiError;

const JSON: &str = "application/json";
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One object.
    Json,
    /// A stream of one batch.
    Arrow,
}

impl Form {
    /// The form the caller likes best; JSON where it does not say, or likes both the same.
    ///
    /// # Errors
    /// [`ApiError::NotAcceptable`] when it takes neither.
    pub fn accepted(headers: &HeaderMap) -> Result<Form, ApiError> {
        let mut lines = headers.get_all(header::ACCEPT).iter().peekable();
        if lines.peek().is_none() {
            return Ok(Form::Json);
        }
        let ranges: Vec<&str> = lines.filter_map(|l| l.to_str().ok()).flat_map(|l| l.split(',')).collect();
        let (json, arrow) = (liking(JSON, &ranges), liking(ARROW, &ranges));
        if json.0 <= 0.0 && arrow.0 <= 0.0 {
            return Err(ApiError::NotAcceptable);
        }
        // Named is liked better than let through by a `*`.
        Ok(if arrow > json { Form::Arrow } else { Form::Json })
    }

    /// The answer; `late` tells what is served because the deadline passed.
    ///
    /// # Errors
    /// [`ApiError::Internal`] for values that are not of their feature's type.
    pub fn answer(self, table: &FeatureTable, late: Option<&'static str>) -> Result<Response, ApiError> {
        let (bytes, kind) = match self {
            Form::Json => (json(table, late)?, JSON),
            Form::Arrow => (arrow(table, late)?, ARROW),
        };
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response())
    }
}

/// Quality by RFC 9110 of the range that says most about `kind`, and how much it says.
fn liking(kind: &str, ranges: &[&str]) -> (f32, u8) {
    let mut best = (0.0, 0);
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let says = match name {
            "*/*" => 1,
            "application/*" => 2,
            _ if name.eq_ignore_ascii_case(kind) => 3,
            _ => continue,
        };
        let quality = parts
            .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
            .map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        if says > best.1 {
            best = (quality, says);
        }
    }
    best
}

/// A feature's name, its value, its age and the marks around them, roughly; saves growing the buffer.
const BYTES_A_VALUE: usize = 96;

/// Written by hand from names rendered beforehand: building maps costs more than reading the values.
fn json(table: &FeatureTable, late: Option<&'static str>) -> Result<Vec<u8>, ApiError> {
    let mut to = Vec::with_capacity(table.values.len() * BYTES_A_VALUE + table.entities.len() * 64 + 64);
    let as_of = text(&Value::Time(table.as_of))?;
    to.extend_from_slice(b"{\"rows\":[");
    for (i, (entity, values, ages)) in table.rows().enumerate() {
        to.extend_from_slice(if i == 0 { b"{\"entity\":" } else { b",{\"entity\":" });
        put(&mut to, &entity)?;
        to.extend_from_slice(b",\"values\":{");
        named(&mut to, &table.columns.keys, values)?;
        to.extend_from_slice(b"},\"age_ms\":{");
        named(&mut to, &table.columns.keys, ages)?;
        to.extend_from_slice(b"},\"as_of\":");
        to.extend_from_slice(&as_of);
        if table.stale.get(i) == Some(&true) {
            to.extend_from_slice(b",\"stale\":true");
        }
        to.push(b'}');
    }
    to.push(b']');
    if let Some(late) = late {
        to.extend_from_slice(b",\"late\":");
        put(&mut to, &late)?;
    }
    to.push(b'}');
    Ok(to)
}

fn named<T: serde::Serialize>(to: &mut Vec<u8>, keys: &[String], cells: &[T]) -> Result<(), ApiError> {
    for (i, (key, cell)) in keys.iter().zip(cells).enumerate() {
        if i > 0 {
            to.push(b',');
        }
        to.extend_from_slice(key.as_bytes());
        put(to, cell)?;
    }
    Ok(())
}

fn put(to: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<(), ApiError> {
    serde_json::to_writer(to, value).map_err(|e| ApiError::Internal(format!("writing the rows: {e}")))
}

fn text(value: &impl serde::Serialize) -> Result<Vec<u8>, ApiError> {
    let mut to = Vec::new();
    put(&mut to, value).map(|()| to)
}

fn arrow(table: &FeatureTable, late: Option<&'static str>) -> Result<Vec<u8>, ApiError> {
    let failed = |e: arrow::error::ArrowError| ApiError::Internal(format!("writing the rows as Arrow: {e}"));
    let mut batch = table.to_arrow().map_err(ApiError::from)?;
    if let Some(late) = late {
        let mut schema = batch.schema().as_ref().clone();
        schema.metadata.insert("kairos.late".to_owned(), late.to_owned());
        batch = batch.with_schema(schema.into()).map_err(failed)?;
    }
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &[&'static str]) -> Result<Form, ApiError> {
        let mut headers = HeaderMap::new();
        for a in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(a));
        }
        Form::accepted(&headers)
    }

    #[test]
    fn the_form_is_the_one_the_caller_likes_best() {
        for (accept, form) in [
            (&[][..], Some(Form::Json)),
            (&["*/*"], Some(Form::Json)),
            (&["application/json"], Some(Form::Json)),
            (&["application/*;q=0.5, text/html"], Some(Form::Json)),
            (&[ARROW], Some(Form::Arrow)),
            (&["Application/vnd.Apache.arrow.stream"], Some(Form::Arrow)),
            (&[ARROW, "*/*"], Some(Form::Arrow)),
            (&["application/json, application/vnd.apache.arrow.stream"], Some(Form::Json)),
            (&["application/json; q=0.5, application/vnd.apache.arrow.stream"], Some(Form::Arrow)),
            (&["application/json;q=0, */*"], Some(Form::Arrow)),
            (&["text/html"], None),
            (&["application/json;q=0"], None),
            (&[""], None),
        ] {
            assert_eq!(accepted(accept).ok(), form, "{accept:?}");
        }
    }
}
