//! The demo page and the figures behind it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::State,
    http::header::{self, HeaderName},
    response::IntoResponse,
    routing::get,
};
use ingest::Clock;
use serde_json::json;

use super::stats::{Shown, Stats};

const PAGE: &str = include_str!("../../static/demo.html");
const STYLE: &str = include_str!("../../static/demo.css");
const SCRIPT: &str = include_str!("../../static/demo.js");

/// The page takes everything from this server and runs nothing inline.
pub(super) const HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
];

/// What the simulated people make of a tip.
#[derive(Debug, Clone, Default)]
pub struct AboutTip {
    /// Its category.
    pub category: String,
    /// What it asks for, 0 to 1.
    pub effort: f64,
}

/// What the driver tells and the page shows.
pub struct Board {
    /// What each tip is about, by id.
    pub tips: HashMap<String, AboutTip>,
    /// What the two curves are, in words.
    pub what: String,
    /// Everybody, for the list.
    pub people: Vec<String>,
    /// The clock of the simulation.
    pub clock: Clock,
    stats: Mutex<Stats>,
}

impl Board {
    /// An empty board.
    pub fn new(
        tips: HashMap<String, AboutTip>,
        what: String,
        people: Vec<String>,
        clock: Clock,
        stats: Stats,
    ) -> Board {
        Board { tips, what, people, clock, stats: Mutex::new(stats) }
    }

    /// Counts a tip.
    pub fn add(&self, seconds: f64, shown: Shown, taken: bool) {
        self.with(|stats| stats.add(seconds, shown, taken));
    }

    /// Counts an occasion on which silence was better.
    pub fn silent(&self, seconds: f64) {
        self.with(|stats| stats.silent(seconds));
    }

    /// Moves the time on.
    pub fn advance(&self, seconds: f64) {
        self.with(|stats| stats.advance(seconds));
    }

    /// Looks at the figures.
    pub fn with<T>(&self, look: impl FnOnce(&mut Stats) -> T) -> T {
        look(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The routes of the page.
pub fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/demo", get(async || file("text/html; charset=utf-8", PAGE)))
        .route("/demo/demo.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/demo/demo.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/demo/state", get(state))
        .with_state(board)
}

/// A file of a page.
pub(super) fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], HEADERS, text)
}

async fn state(State(board): State<Arc<Board>>) -> impl IntoResponse {
    let figures = board.with(|stats| stats.figures());
    let body = json!({
        "now": (board.clock)(),
        "what": board.what,
        "people": board.people,
        "figures": figures,
    });
    (HEADERS, Json(body))
}
