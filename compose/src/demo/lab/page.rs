//! The page at `/lab`, and the figures it draws from at `/lab/data`; `docs/guides/lab.md` describes both.

use std::sync::Arc;

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use scorer::policy::Snapshot;
use serde::Serialize;

use super::{
    Figures, Lab,
    curve::Point,
    judge::{Propensities, Worth},
    spread,
};
use crate::demo::page::{HEADERS, file};

const PAGE: &str = include_str!("../../../static/lab.html");
const STYLE: &str = include_str!("../../../static/lab.css");
const SCRIPT: &str = include_str!("../../../static/lab.js");
const CHARTS: &str = include_str!("../../../static/lab-charts.js");
const UPLOT: &str = include_str!("../../../../dashboards/vendor/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../../../dashboards/vendor/uplot/uPlot.min.css");

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The routes of the page.
pub fn router(lab: Arc<Lab>) -> Router {
    Router::new()
        .route("/lab", get(async || file("text/html; charset=utf-8", PAGE)))
        .route("/lab/lab.css", get(async || file(CSS, STYLE)))
        .route("/lab/lab.js", get(async || file(JS, SCRIPT)))
        .route("/lab/charts.js", get(async || file(JS, CHARTS)))
        .route("/lab/uplot.js", get(async || file(JS, UPLOT)))
        .route("/lab/uplot.css", get(async || file(CSS, UPLOT_STYLE)))
        .route("/lab/data", get(data))
        .with_state(lab)
}

async fn data(State(lab): State<Arc<Lab>>) -> impl IntoResponse {
    let named = |snapshot: Arc<dyn Snapshot>| Named { name: snapshot.name(), version: snapshot.version() };
    let policies = Policies { incumbent: named(lab.incumbent()), shadow: lab.shadow().map(named) };
    (HEADERS, Json(lab.with(|figures| Data::of(figures, policies))))
}

/// The body of `/lab/data`. All rewards are exact expected values.
#[derive(Serialize)]
struct Data {
    /// Decisions of the policy in charge so far.
    tips: u64,
    policies: Policies,
    curve: Sums,
    propensities: Histogram,
    categories: Vec<Category>,
}

#[derive(Serialize)]
struct Policies {
    incumbent: Named,
    shadow: Option<Named>,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    /// Rewards learned.
    version: u64,
}

/// Columns, one entry a point: sums of rewards over the first `tips` decisions.
#[derive(Serialize)]
struct Sums {
    tips: Vec<u64>,
    best: Vec<f64>,
    incumbent: Vec<f64>,
    shadow: Option<Vec<Option<f64>>>,
    uniform: Vec<f64>,
}

/// Shares of the latest decisions by the propensity of the tip drawn.
#[derive(Serialize)]
struct Histogram {
    /// Decisions counted.
    of: usize,
    /// Upper end of each bin.
    ends: [f64; spread::ENDS.len()],
    incumbent: [f64; spread::ENDS.len()],
    shadow: Option<[f64; spread::ENDS.len()]>,
    uniform: [f64; spread::ENDS.len()],
}

/// One entry a point of the curve; `null` where nothing is known.
#[derive(Serialize)]
struct Category {
    name: String,
    /// The policy's score.
    incumbent: Vec<Option<f64>>,
    /// The shadow's.
    shadow: Option<Vec<Option<f64>>>,
    /// True mean reward.
    truth: Vec<Option<f64>>,
}

impl Data {
    fn of(figures: &Figures, policies: Policies) -> Data {
        let Figures { curve, spread, learned } = figures;
        let points = curve.points();
        let shadowed = policies.shadow.is_some();
        let sums = |of: fn(&Worth) -> f64| points.iter().map(|p| rounded(of(&p.sums))).collect();
        let shares = |of: fn(&Propensities) -> Option<f64>| spread.shares(of).map(rounded);
        let categories = learned.names().enumerate().map(|(i, name)| Category {
            name: name.to_owned(),
            incumbent: column(points, |p| p.beliefs[i].incumbent),
            shadow: shadowed.then(|| column(points, |p| p.beliefs[i].shadow)),
            truth: column(points, |p| p.beliefs[i].truth),
        });
        Data {
            tips: curve.tips(),
            policies,
            curve: Sums {
                tips: points.iter().map(|p| p.tips).collect(),
                best: sums(|w| w.best),
                incumbent: sums(|w| w.incumbent),
                shadow: shadowed.then(|| column(points, |p| p.sums.shadow)),
                uniform: sums(|w| w.uniform),
            },
            propensities: Histogram {
                of: spread.len(),
                ends: spread::ENDS,
                incumbent: shares(|p| Some(p.incumbent)),
                shadow: shadowed.then(|| shares(|p| p.shadow)),
                uniform: shares(|p| Some(p.uniform)),
            },
            categories: categories.collect(),
        }
    }
}

fn column(points: &[Point], of: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
    points.iter().map(|p| of(p).map(rounded)).collect()
}

/// Four digits are more than a chart shows, and keep the answer small.
fn rounded(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
